import { describe, expect, it } from 'vitest';
import { call } from '../../../src/engine/process.ts';
import { cpuAccess } from '../../../src/mm/fault/access.ts';
import { readPage, writePage } from '../../../src/mm/file/file-io.ts';
import { munmap } from '../../../src/mm/mapping/mmap.ts';
import { dropCaches, fadviseDontneed, invalidateInodePages2 } from '../../../src/mm/reclaim/drop-caches.ts';
import { fsync, msync, syncAll } from '../../../src/mm/writeback/msync.ts';
import {
  BASE,
  cachedFrame,
  dmaWrite,
  fileBench,
  flagsOf,
  frameOf,
  pinByHand,
  touch,
  unpin,
} from '../../support/file-bench.ts';
import { tokenOf } from '../../support/tokens.ts';
import { run } from '../../support/world.ts';

const C = tokenOf('C');
const D = tokenOf('D');

describe('drop_caches', () => {
  it('drops clean pages and keeps dirty ones', () => {
    const b = fileBench();
    const dropped = run(b, b.task, function* () {
      yield* call(writePage(b.core, b.file, 0, C));
      yield* call(writePage(b.core, b.file, 1, C));
      yield* call(fsync(b.core, b.file));
      yield* call(writePage(b.core, b.file, 1, D));
      return yield* call(dropCaches(b.core));
    });
    expect(dropped).toBe(1);
    expect(cachedFrame(b, 0)).toBe(-1);
    expect(flagsOf(b, cachedFrame(b, 1))).toContain('DIRTY');
    expect(run(b, b.task, () => readPage(b.core, b.file, 0))).toEqual({ token: C });
  });

  it('keeps a mapped page, and drops what readahead brought with it', () => {
    const b = fileBench();
    touch(b, 0, C);
    run(b, b.task, () => syncAll(b.core));
    expect(run(b, b.task, () => dropCaches(b.core))).toBe(3);
    expect(frameOf(b)).toBe(cachedFrame(b));
  });

  it.each([
    ['v6.1.192', 0],
    ['v6.12.117', 1],
  ])('of %s drops a page that waits in an LRU batch of another CPU: %d', (kernel, dropped) => {
    const b = fileBench({ kernel });
    run(b, b.task, () => writePage(b.core, b.file, 0, C));
    run(b, b.task, () => fsync(b.core, b.file));
    expect(run(b, b.task, () => dropCaches(b.core))).toBe(dropped);
  });

  // pins/drop_caches/ext4_shared_rw_touched and ext4_shared_ro.
  it.each(['v6.1.192', 'v6.12.117'])('keeps a pinned page after sync, with its buffers, on %s', (kernel) => {
    const b = fileBench({ kernel });
    touch(b, 0, C);
    const pfn = frameOf(b);
    run(b, b.task, function* () {
      yield* call(pinByHand(b, pfn));
      yield* call(syncAll(b.core));
      yield* call(dropCaches(b.core));
    });
    expect(frameOf(b)).toBe(pfn);
    expect(flagsOf(b, pfn)).toContain('PRIVATE');
    expect(flagsOf(b, pfn)).not.toContain('DIRTY');
    expect(b.core.folios.peekMapcount(pfn)).toBe(1);
    run(b, b.task, () => dmaWrite(b, pfn, D));
    expect(run(b, b.task, () => readPage(b.core, b.file, 0))).toEqual({ token: D });
  });

  // pins/dma_write_munmap_dropcaches/ext4_shared_rw_touched of 6.1.192.
  it('does not lose what a device wrote to a pinned page that nobody maps any more', () => {
    const b = fileBench({ kernel: 'v6.1.192' });
    touch(b, 0, C);
    const pfn = frameOf(b);
    const read = run(b, b.task, function* () {
      yield* call(pinByHand(b, pfn));
      yield* call(msync(b.core, BASE, 1, { sync: true }));
      yield* call(dmaWrite(b, pfn, D));
      yield* call(munmap(b.core, BASE, 4));
      yield* call(syncAll(b.core));
      yield* call(dropCaches(b.core));
      const pinned = yield* call(readPage(b.core, b.file, 0));
      yield* call(unpin(b, pfn, true));
      yield* call(syncAll(b.core));
      yield* call(dropCaches(b.core));
      return [pinned, yield* call(readPage(b.core, b.file, 0))];
    });
    expect(read).toEqual([{ token: D }, { token: D }]);
    expect(b.file.disk.peek(0)).toBe(D);
  });

  it('loses it when the holder unpins without marking the page dirty', () => {
    const b = fileBench({ kernel: 'v6.1.192' });
    touch(b, 0, C);
    const pfn = frameOf(b);
    const read = run(b, b.task, function* () {
      yield* call(pinByHand(b, pfn));
      yield* call(msync(b.core, BASE, 1, { sync: true }));
      yield* call(munmap(b.core, BASE, 4));
      yield* call(dmaWrite(b, pfn, D));
      yield* call(unpin(b, pfn, false));
      yield* call(syncAll(b.core));
      // The LRU batch would keep the page: fadvise drains it.
      yield* call(fadviseDontneed(b.core, b.file, 0, 4));
      return yield* call(readPage(b.core, b.file, 0));
    });
    expect(read).toEqual({ token: C });
  });
});

describe('invalidate_inode_pages2_range', () => {
  it('takes a clean page out from under its mappings and its pin, which becomes an orphan', () => {
    const b = fileBench();
    touch(b, 0, C);
    const pfn = frameOf(b);
    const result = run(b, b.task, function* () {
      yield* call(pinByHand(b, pfn));
      yield* call(msync(b.core, BASE, 1, { sync: true }));
      return yield* call(invalidateInodePages2(b.core, b.file, 0, 4));
    });
    expect(result).toBe('ok');
    expect(frameOf(b)).toBe(0);
    expect(cachedFrame(b)).toBe(-1);
    expect(b.core.folios.mapping.peek(pfn)).toBe(0);
    // Neither mapped nor cached: the pin and the LRU batch are what is left.
    expect(b.core.folios.refcount.peek(pfn)).toBe(1024 + 1);
    expect(run(b, b.task, () => cpuAccess(b.core, BASE, null))).toEqual({ token: C });
    expect(frameOf(b)).not.toBe(pfn);
  });

  it('answers EBUSY for a dirty page and leaves it in the cache, unmapped', () => {
    const b = fileBench();
    touch(b, 0, C);
    const pfn = frameOf(b);
    expect(run(b, b.task, () => invalidateInodePages2(b.core, b.file, 0, 4))).toBe('EBUSY');
    expect(frameOf(b)).toBe(0);
    expect(cachedFrame(b)).toBe(pfn);
    expect(touch(b, 0, null)).toBe(C);
  });
});
