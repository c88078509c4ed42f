import { describe, expect, it } from 'vitest';
import { LatencyModel } from '../../../src/engine/latency.ts';
import { call, type Steps } from '../../../src/engine/process.ts';
import { cpuAccess } from '../../../src/mm/fault/access.ts';
import { directRead } from '../../../src/mm/file/direct-io.ts';
import { readPage, writePage } from '../../../src/mm/file/file-io.ts';
import type { NotifierOps, NotifierRange } from '../../../src/mm/notifier.ts';
import { PTE_WRITE } from '../../../src/mm/pte.ts';
import { dropCaches } from '../../../src/mm/reclaim/drop-caches.ts';
import { fsync, msync, syncFileRange } from '../../../src/mm/writeback/msync.ts';
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
  unpin,
} from '../../support/file-bench.ts';
import { placeAnonVma, placeVma } from '../../support/memory.ts';
import { tokenOf, tokenText } from '../../support/tokens.ts';
import { makeTask, run } from '../../support/world.ts';

const C = tokenOf('C');
const D = tokenOf('D');

const sync = (b: FileBench, from = 0, pages = 4) =>
  run(b, b.task, () => msync(b.core, BASE + from, pages, { sync: true }));

describe('msync', () => {
  it('is ENOMEM over a hole, and yet writes what lies behind it', () => {
    const b = fileBench({ pages: 4 });
    b.mm.vmas.delete(BASE);
    b.mm.vmas.set(BASE + 2, b.vma.slice(BASE + 2, BASE + 4));
    touch(b, 2, C);
    expect(sync(b)).toBe('ENOMEM');
    expect(b.file.disk.peek(2)).toBe(C);
    expect(sync(b, 2, 2)).toBe('ok');
    expect(sync(b, 2, 3)).toBe('ENOMEM');
  });

  it('writes only the range that it is given', () => {
    const b = fileBench();
    touch(b, 0, C);
    touch(b, 2, C);
    expect(sync(b, 2, 1)).toBe('ok');
    expect([b.file.disk.peek(0), b.file.disk.peek(2)]).toEqual([0, C]);
  });

  it('writes nothing with MS_ASYNC, and nothing of a private mapping', () => {
    const b = fileBench();
    touch(b, 0, C);
    expect(run(b, b.task, () => msync(b.core, BASE, 4, { sync: false }))).toBe('ok');
    expect(b.file.disk.peek(0)).toBe(0);
    const own = fileBench({ vma: { shared: false } });
    touch(own, 0, C);
    expect(sync(own)).toBe('ok');
    expect(own.file.disk.peek(0)).toBe(0);
  });

  it('with MS_INVALIDATE is EBUSY on an mlocked area', () => {
    const b = fileBench({ vma: { locked: true } });
    expect(run(b, b.task, () => msync(b.core, BASE, 4, { sync: true, invalidate: true }))).toBe('EBUSY');
    expect(sync(b)).toBe('ok');
  });

  it('cleans the mappings of every process', () => {
    const b = fileBench();
    const other = makeTask(b, 'other');
    const mm = other.mm.peek()!;
    placeVma(mm, BASE, 4, { file: b.file, shared: true, pgoff: 0, hugepage: 'never' });
    b.file.mms.value = [b.mm, mm];
    const second = { ...b, task: other, mm };
    touch(second, 0, C);
    touch(b, 0, D);
    sync(b);
    for (const space of [b.mm, mm]) expect(space.pageTable.peekPte(BASE).bits & PTE_WRITE).toBe(0);
    expect(b.file.disk.peek(0)).toBe(D);
  });

  it('tells secondary MMUs of each page it makes clean, with the event of a protected page', () => {
    const b = fileBench();
    const told: NotifierRange[] = [];
    const ends: NotifierRange[] = [];
    const ops: NotifierOps = {
      name: 'secondary',
      *invalidateRangeStart(range) {
        told.push(range);
        return true;
      },
      *invalidateRangeEnd(range) {
        // Still mapped, but not writable: a window is no unmapping.
        expect(b.mm.pageTable.peekPte(range.start).bits & PTE_WRITE).toBe(0);
        ends.push(range);
      },
    };
    touch(b, 1, C);
    b.mm.notifiers.registerNow(ops);
    sync(b);
    expect(told.map(({ start, end, event }) => [start, end, event])).toEqual([[BASE + 1, BASE + 2, 'PROTECTION_PAGE']]);
    expect(ends).toEqual(told);
  });
});

describe('fsync', () => {
  it('says once that a block was refused', () => {
    const b = fileBench();
    b.file.writeError.value = 'EIO';
    expect(run(b, b.task, () => fsync(b.core, b.file))).toBe('EIO');
    expect(run(b, b.task, () => fsync(b.core, b.file))).toBe('ok');
  });

  it('writes nothing of a read-only filesystem, though an unpin has dirtied a page of it', () => {
    const b = fileBench();
    touch(b, 0, C);
    const pfn = frameOf(b);
    run(b, b.task, () => pinByHand(b, pfn));
    sync(b);
    b.superBlock.readOnly.value = true;
    run(b, b.task, function* () {
      yield* call(dmaWrite(b, pfn, D));
      yield* call(unpin(b, pfn, true));
      yield* call(fsync(b.core, b.file));
    });
    expect(flagsOf(b, pfn)).toContain('DIRTY');
    expect(b.file.disk.peek(0)).toBe(C);
  });
});

describe('sync_file_range', () => {
  it('starts writing without waiting, and waits when it is asked to', () => {
    // A disk that takes a while: whoever does not wait for it comes back first.
    const b = fileBench({ sim: { latencies: new LatencyModel({ 'disk-write': 1000 }) } });
    const seen = run(b, b.task, function* () {
      yield* call(writePage(b.core, b.file, 0, C));
      yield* call(syncFileRange(b.core, b.file, 0, 1, { write: true }));
      const started = flagsOf(b, cachedFrame(b)).includes('WRITEBACK');
      yield* call(syncFileRange(b.core, b.file, 0, 1, { waitAfter: true }));
      return [started, flagsOf(b, cachedFrame(b)).includes('WRITEBACK'), b.file.disk.peek(0)];
    });
    expect(seen).toEqual([true, false, C]);
  });
});

const BUFFER = 0x9000;

/** pins/dma_write_then_writeback: the sequence of the program, and what it looks at, in its order. */
function dmaWriteThenWriteback(kernel: string, kind: 'file' | 'shmem') {
  const b = fileBench({ kernel, file: { kind }, pages: 1 });
  placeAnonVma(b.core, b.mm, BUFFER, 1, { hugepage: 'never' });
  touch(b, 0, C);
  const pfn = frameOf(b);
  const dirty = () => flagsOf(b, pfn).includes('DIRTY');
  /** odirect_byte of the program: what O_DIRECT reads, or its errno. */
  function* odirect(): Steps<string> {
    const result = yield* call(directRead(b.core, b.file, 0, BUFFER, 1));
    if (result !== 'ok') return result;
    const read = yield* call(cpuAccess(b.core, BUFFER, null));
    return 'token' in read ? tokenText(read.token) : read.signal;
  }
  return run(b, b.task, function* () {
    yield* call(pinByHand(b, pfn));
    const seen: Record<string, unknown> = {};
    seen.msync_cpu_data = yield* call(msync(b.core, BASE, 1, { sync: true }));
    seen.page_dirty_after_msync = dirty();
    seen.disk_after_cpu_msync = yield* call(odirect());
    yield* call(dmaWrite(b, pfn, D));
    const byCpu = yield* call(cpuAccess(b.core, BASE, null));
    seen.cpu_sees_dma_write = 'token' in byCpu && byCpu.token === D;
    seen.page_dirty_after_dma = dirty();
    seen.msync_after_dma = yield* call(msync(b.core, BASE, 1, { sync: true }));
    seen.fsync_after_dma = yield* call(fsync(b.core, b.file));
    seen.disk_after_dma_msync_fsync = yield* call(odirect());
    const read = yield* call(readPage(b.core, b.file, 0));
    seen.page_cache_has_dma_data = 'token' in read && read.token === D;
    yield* call(dropCaches(b.core));
    seen.pinned_page_survives_drop_caches = frameOf(b) === pfn;
    yield* call(unpin(b, pfn, true));
    seen.page_dirty_after_unmap = dirty();
    yield* call(fsync(b.core, b.file));
    seen.disk_after_unmap_fsync = yield* call(odirect());
    return seen;
  });
}

describe('pins/dma_write_then_writeback as recorded', () => {
  // 67 is 'C', 68 is 'D', -22 is EINVAL. On 6.12 the pin of the ext4 file itself is refused (EFAULT).
  it.each([
    ['ext4_shared_rw_touched', 'file', 'v6.1.192', false, ['C', 'C', 'D']],
    ['tmpfs_shared_rw', 'shmem', 'v6.1.192', true, ['EINVAL', 'EINVAL', 'EINVAL']],
    ['tmpfs_shared_rw', 'shmem', 'v6.12.117', true, ['C', 'D', 'D']],
  ] as const)('%s (%s) on %s', (_type, kind, kernel, staysDirty, disk) => {
    expect(dmaWriteThenWriteback(kernel, kind)).toEqual({
      msync_cpu_data: 'ok',
      page_dirty_after_msync: staysDirty,
      disk_after_cpu_msync: disk[0],
      cpu_sees_dma_write: true,
      page_dirty_after_dma: staysDirty,
      msync_after_dma: 'ok',
      fsync_after_dma: 'ok',
      disk_after_dma_msync_fsync: disk[1],
      page_cache_has_dma_data: true,
      pinned_page_survives_drop_caches: true,
      page_dirty_after_unmap: true,
      disk_after_unmap_fsync: disk[2],
    });
  });
});
