import { describe, expect, it } from 'vitest';
import { call } from '../../../src/engine/process.ts';
import { step } from '../../../src/engine/step.ts';
import { runTimed } from '../../../src/engine/timed.ts';
import { cpuAccess } from '../../../src/mm/fault/access.ts';
import { directRead, directWrite, submitDirectRead } from '../../../src/mm/file/direct-io.ts';
import { pread, readPage, writePage } from '../../../src/mm/file/file-io.ts';
import { freezeFilesystem, remountReadOnly, thawFilesystem } from '../../../src/mm/file/freeze.ts';
import { munmap } from '../../../src/mm/mapping/mmap.ts';
import { fsync } from '../../../src/mm/writeback/msync.ts';
import {
  BASE,
  cachedFrame,
  dmaWrite,
  type FileBench,
  fileBench,
  flagsOf,
  frameOf,
  pinByHand,
  touch,
} from '../../support/file-bench.ts';
import { placeAnonVma } from '../../support/memory.ts';
import { tokenOf } from '../../support/tokens.ts';
import { actor, run } from '../../support/world.ts';

const PAUSE = step('test:pause', 'none');
const BUFFER = 0x9000;
const C = tokenOf('C');
const D = tokenOf('D');
const F = tokenOf('F');

/** A private anonymous buffer of `pages` pages beside the mapped file. */
function withBuffer(b: FileBench, pages = 4): FileBench {
  placeAnonVma(b.core, b.mm, BUFFER, pages, { hugepage: 'never' });
  return b;
}

/** Pins taken and not dropped yet. */
function pinsHeld(b: FileBench): number {
  return b.core.vmstat.peek('nr_foll_pin_acquired') - b.core.vmstat.peek('nr_foll_pin_released');
}

describe('write(2) of a file', () => {
  // pins/ro_pin_then_file_write/ext4_shared_rw and ext4_private_rw of 6.1: the pinned page is the page cache's.
  it.each(['v6.1.192', 'v6.12.117'])('writes the very page that is pinned and mapped, on %s', (kernel) => {
    const b = fileBench({ kernel });
    touch(b, 0, null);
    const pfn = frameOf(b);
    run(b, b.task, function* () {
      yield* call(pinByHand(b, pfn));
      yield* call(writePage(b.core, b.file, 0, F));
    });
    expect(b.core.frames.content.peek(pfn)).toBe(F);
    expect(touch(b, 0, null)).toBe(F);
    expect(frameOf(b)).toBe(pfn);
    expect(flagsOf(b, pfn)).toEqual(expect.arrayContaining(['UPTODATE', 'DIRTY', 'PRIVATE']));
  });

  it('grows the file, and its data is on disk after fsync', () => {
    const b = fileBench({ pages: 1 });
    expect(run(b, b.task, () => writePage(b.core, b.file, 2, F))).toBe('ok');
    expect(b.file.sizePages.peek()).toBe(3);
    expect(run(b, b.task, () => readPage(b.core, b.file, 2))).toEqual({ token: F });
    run(b, b.task, () => fsync(b.core, b.file));
    expect(b.file.disk.peek(2)).toBe(F);
  });

  it('is EPERM on a sealed memfd, EROFS on a read-only filesystem, EINVAL on hugetlb', () => {
    const write = (b: FileBench) => run(b, b.task, () => writePage(b.core, b.file, 0, F));
    expect(write(fileBench({ file: { kind: 'shmem', seals: ['write'] } }))).toBe('EPERM');
    const readOnly = fileBench();
    readOnly.superBlock.readOnly.value = true;
    expect(write(readOnly)).toBe('EROFS');
    expect(cachedFrame(readOnly)).toBe(-1);
    expect(write(fileBench({ file: { kind: 'hugetlb', hugeOrder: 9 } }))).toBe('EINVAL');
  });

  it('reads a hole of a memfd as zero without giving it a page', () => {
    const b = fileBench({ file: { kind: 'shmem' } });
    expect(run(b, b.task, () => readPage(b.core, b.file, 1))).toEqual({ token: 0 });
    expect(cachedFrame(b, 1)).toBe(-1);
    run(b, b.task, () => writePage(b.core, b.file, 1, F));
    expect(touch(b, 1, null)).toBe(F);
  });

  it('copies into the buffer of pread, which may fault', () => {
    const b = withBuffer(fileBench());
    run(b, b.task, () => writePage(b.core, b.file, 0, F));
    expect(run(b, b.task, () => pread(b.core, b.file, 0, BUFFER))).toEqual({ token: F });
    expect(run(b, b.task, () => cpuAccess(b.core, BUFFER, null))).toEqual({ token: F });
    expect(run(b, b.task, () => pread(b.core, b.file, 0, BUFFER + 100))).toEqual({ errno: 'EFAULT' });
  });
});

describe('a frozen filesystem', () => {
  // pins/remount_ro_then_dma/ext4_shared_rw_touched of 6.1.192.
  it('does not keep a device with a pin from changing its page cache', () => {
    const b = fileBench({ kernel: 'v6.1.192' });
    touch(b, 0, C);
    const pfn = frameOf(b);
    const seen = run(b, b.task, function* () {
      yield* call(pinByHand(b, pfn));
      const result = yield* call(freezeFilesystem(b.core, b.superBlock));
      yield* call(dmaWrite(b, pfn, D));
      return [result, yield* call(cpuAccess(b.core, BASE, null))];
    });
    expect(seen).toEqual(['ok', { token: D }]);
    // Freezing wrote out what was dirty then.
    expect(b.file.disk.peek(0)).toBe(C);
  });

  it.each([
    ['write(2)', (b: FileBench) => call(writePage(b.core, b.file, 0, F))],
    ['a write fault', (b: FileBench) => call(cpuAccess(b.core, BASE, { token: F }))],
  ])('holds up %s until it is thawed', (_what, write) => {
    const b = fileBench();
    const order: string[] = [];
    expect(run(b, b.task, () => freezeFilesystem(b.core, b.superBlock))).toBe('ok');
    expect(run(b, b.task, () => freezeFilesystem(b.core, b.superBlock))).toBe('EBUSY');
    actor(b, b.task, 'writer', function* () {
      yield* write(b);
      order.push('written');
    });
    actor(b, b.task, 'thawer', function* () {
      yield b.sim.sleep(10_000_000, PAUSE);
      order.push('thaws');
      yield* call(thawFilesystem(b.superBlock));
    });
    expect(runTimed(b.sim).end).toBe('done');
    expect(order).toEqual(['thaws', 'written']);
    expect(run(b, b.task, () => thawFilesystem(b.superBlock))).toBe('EINVAL');
  });

  it('waits for a writer that is under way before it writes out', () => {
    const b = fileBench();
    actor(b, b.task, 'writer', function* () {
      yield* call(b.superBlock.startWrite('write'));
      yield b.sim.sleep(10_000_000, PAUSE);
      yield b.superBlock.endWrite('write');
      b.superBlock.endWriteNow('write');
    });
    let frozenAt = 0;
    actor(b, b.task, 'freezer', function* () {
      yield b.sim.sleep(1_000, PAUSE);
      yield* call(freezeFilesystem(b.core, b.superBlock));
      frozenAt = b.sim.nowNs;
    });
    expect(runTimed(b.sim).end).toBe('done');
    expect(frozenAt).toBeGreaterThanOrEqual(10_000_000);
  });

  it('is not remounted read-only under a writable mapping, but under a pin whose mapping is gone', () => {
    const b = fileBench();
    touch(b, 0, C);
    const pfn = frameOf(b);
    const seen = run(b, b.task, function* () {
      yield* call(pinByHand(b, pfn));
      const mapped = yield* call(remountReadOnly(b.core, b.superBlock));
      yield* call(munmap(b.core, BASE, 4));
      const unmapped = yield* call(remountReadOnly(b.core, b.superBlock));
      yield* call(dmaWrite(b, pfn, D));
      return [mapped, unmapped, yield* call(readPage(b.core, b.file, 0))];
    });
    expect(seen).toEqual(['EBUSY', 'ok', { token: D }]);
    expect(b.file.disk.peek(0)).toBe(C);
  });
});

describe.each([
  ['v6.1.192', 0],
  ['v6.12.117', 1],
])('direct IO on %s', (kernel, pins) => {
  it(`holds the buffer by ${pins === 1 ? 'pins' : 'plain references'} until the device is done`, () => {
    const b = withBuffer(fileBench({ kernel }));
    b.file.disk.set(0, F);
    const seen = run(b, b.task, function* () {
      yield* call(cpuAccess(b.core, BUFFER, { token: C }));
      const request = yield* call(submitDirectRead(b.core, b.file, 0, BUFFER, 1));
      if (typeof request === 'string') return request;
      const during = pinsHeld(b);
      yield request.wait();
      return [during, request.result.value, yield* call(cpuAccess(b.core, BUFFER, null)), pinsHeld(b)];
    });
    expect(seen).toEqual([pins, 'ok', { token: F }, 0]);
    // Mapping and LRU batch.
    expect(b.core.folios.refcount.peek(b.mm.pageTable.peekFrame(BUFFER))).toBe(2);
  });

  it('writes the disk, and throws the old page out of the cache even when it is mapped and pinned', () => {
    const b = withBuffer(fileBench({ kernel }));
    touch(b, 0, C);
    const pfn = frameOf(b);
    const result = run(b, b.task, function* () {
      yield* call(pinByHand(b, pfn));
      yield* call(cpuAccess(b.core, BUFFER, { token: F }));
      return yield* call(directWrite(b.core, b.file, 0, BUFFER, 1));
    });
    expect(result).toBe('ok');
    expect(b.file.disk.peek(0)).toBe(F);
    // R54: CPU and file have the new data, the holder of the pin keeps the old page.
    expect(touch(b, 0, null)).toBe(F);
    expect(frameOf(b)).not.toBe(pfn);
    expect(b.core.frames.content.peek(pfn)).toBe(C);
  });

  it('reads what is dirty in the page cache, because that is written first', () => {
    const b = withBuffer(fileBench({ kernel }));
    touch(b, 0, C);
    expect(run(b, b.task, () => directRead(b.core, b.file, 0, BUFFER, 1))).toBe('ok');
    expect(run(b, b.task, () => cpuAccess(b.core, BUFFER, null))).toEqual({ token: C });
    expect(b.file.disk.peek(0)).toBe(C);
  });

  it('grows the file, and is EFAULT without a buffer', () => {
    const b = withBuffer(fileBench({ kernel, pages: 1 }));
    expect(run(b, b.task, () => directWrite(b.core, b.file, 0, BUFFER + 50, 1))).toBe('EFAULT');
    run(b, b.task, () => cpuAccess(b.core, BUFFER, { token: F }));
    expect(run(b, b.task, () => directWrite(b.core, b.file, 2, BUFFER, 1))).toBe('ok');
    expect(b.file.sizePages.peek()).toBe(3);
  });

  it('reads nothing at the end of the file', () => {
    const b = withBuffer(fileBench({ kernel, pages: 1 }));
    expect(run(b, b.task, () => directRead(b.core, b.file, 1, BUFFER, 1))).toBe('ok');
    expect(run(b, b.task, () => readPage(b.core, b.file, 1))).toEqual({ token: null });
    expect(pinsHeld(b)).toBe(0);
  });

  // pins/dma_write_then_writeback/tmpfs_shared_rw: -22 against what the page cache holds.
  it(`of tmpfs ${pins === 1 ? 'goes through the page cache' : 'is EINVAL'}`, () => {
    const b = withBuffer(fileBench({ kernel, file: { kind: 'shmem' } }));
    touch(b, 0, C);
    const result = run(b, b.task, () => directRead(b.core, b.file, 0, BUFFER, 1));
    expect(result).toBe(pins === 1 ? 'ok' : 'EINVAL');
    if (pins === 1) expect(run(b, b.task, () => cpuAccess(b.core, BUFFER, null))).toEqual({ token: C });
  });
});
