// ftruncate and fallocate (mm/truncate.c, mm/shmem.c, fs/ext4/extents.c, fs/hugetlbfs/inode.c). Sizes and offsets in
// pages. i_size | unmap everywhere | page by page out of the cache | unmap again, for copies made meanwhile.
import { call, type Steps } from '../../engine/process.ts';
import { step } from '../../engine/step.ts';
import { until } from '../../engine/wait.ts';
import { giveBack } from '../alloc/free-runs.ts';
import type { CoreMm } from '../core.ts';
import type { Errno } from '../errno.ts';
import { hugetlbfsFallocate } from '../hugetlb/hugetlb-fallocate.ts';
import { hugetlbUnreservePages } from '../hugetlb/hugetlb-reserve.ts';
import { folioBatchRelease } from '../reclaim/lru.ts';
import { writeAndWaitRange } from '../writeback/writeback-hooks.ts';
import { unmapMappingRange } from '../zap/unmap-mapping.ts';
import { inodeDioWait } from './direct-io.ts';
import type { Inode } from './inode.ts';
import { shmemFallocate } from './shmem.ts';
import { bulkTruncatable, truncateRun } from './truncate-bulk.ts';
import { truncateEntry } from './truncate-page.ts';

const SIZE = step('i_size_write', 'op');
const FIND = step('find_lock_entries', 'none');
const CHECK = step('vfs_fallocate:checks', 'op');
const BLOCKS = step('ext4_ext_remove_space', 'op');
const SHIFT = step('ext4_ext_shift_extents', 'op');
const PARTIAL = step('hugetlbfs_zero_partial_page', 'clear-page');
const LAYOUT = step('dax_layout_busy_page', 'none');
const FREE_BLOCK = step('dax_delete_mapping_entry', 'op');
const PREALLOCATE = step('ext4_alloc_file_blocks', 'op');

/** One past every page that a file can have. */
const END = 2 ** 32;

/** ftruncate. EPERM: sealed against shrinking or growing; EINVAL: not a multiple of the huge page size, or a secret file sized twice; EINTR never. */
export function* truncate(core: CoreMm, inode: Inode, pages: number): Steps<'ok' | Errno> {
  // kvm_gmem_setattr
  if (inode.kind === 'guest_memfd') return 'EINVAL';
  if (inode.kind === 'hugetlb' && pages % 2 ** inode.hugeOrder !== 0) return 'EINVAL';
  yield* call(inode.rwsem.write());
  inode.seals.willRead(CHECK);
  yield inode.sizePages.willRead(CHECK);
  const old = inode.sizePages.value;
  let result: 'ok' | Errno = 'ok';
  if (inode.kind === 'secret' && old !== 0) result = 'EINVAL';
  else if ((pages < old && inode.sealed('shrink')) || (pages > old && inode.sealed('grow'))) result = 'EPERM';
  else yield* call(setSize(core, inode, old, pages));
  yield inode.rwsem.up();
  return result;
}

function* setSize(core: CoreMm, inode: Inode, old: number, pages: number): Steps<void> {
  // Disk filesystems and secretmem keep faults out; shmem and hugetlb look at i_size again after adding a page.
  const excludes = locksFaultsOut(inode);
  // ext4_setattr, ext4_fallocate: newcomers wait for i_rwsem.
  if (pages < old && onDisk(inode)) yield inodeDioWait(inode);
  if (pages < old && inode.kind === 'fsdax') yield* call(breakLayouts(core, inode, pages, END));
  if (excludes) yield* call(inode.invalidateLock.write());
  yield inode.sizePages.willWrite(SIZE);
  inode.sizePages.value = pages;
  if (pages < old) {
    yield* call(truncatePagecache(core, inode, pages));
    if (inode.dirtyTracking) yield* call(dropBlocks(inode, pages, old));
  }
  if (excludes) yield inode.invalidateLock.up();
}

function onDisk(inode: Inode): boolean {
  return inode.kind === 'file' || inode.kind === 'fsdax';
}

function locksFaultsOut(inode: Inode): boolean {
  return onDisk(inode) || inode.kind === 'secret';
}

/** truncate_pagecache, shmem_setattr: everything from `from` on, private copies too. */
function* truncatePagecache(core: CoreMm, inode: Inode, from: number): Steps<void> {
  yield* call(unmapMappingRange(core, inode, from, END, true));
  yield* call(truncateRange(core, inode, from, END));
  // Whoever faulted between the two may have made a private copy of a page that is beyond the end now.
  if (inode.kind !== 'hugetlb') yield* call(unmapMappingRange(core, inode, from, END, true));
}

/** truncate_inode_pages_range for files of other rooms; the caller keeps faults out. */
export function* truncateInodePages(core: CoreMm, inode: Inode, from: number, to: number): Steps<void> {
  yield* call(truncateRange(core, inode, from, Math.min(to, END)));
}

/** remove_inode_hugepages to the end of the file: what was promised beyond it is not promised any more. */
function* unreserveFrom(core: CoreMm, inode: Inode, from: number, freed: number): Steps<void> {
  const at = Math.ceil(from / 2 ** inode.hugeOrder);
  yield* call(hugetlbUnreservePages(core, inode, at, Number.POSITIVE_INFINITY, freed));
}

/** truncate_inode_pages_range, remove_inode_hugepages: the pages of [from, to), one after the other. */
function* truncateRange(core: CoreMm, inode: Inode, from: number, to: number): Steps<void> {
  if (inode.kind === 'fsdax') {
    yield* call(freeDaxBlocks(core, inode, from, to));
    return;
  }
  let found = false;
  let freed = 0;
  for (let index = from; index < to; ) {
    // Reclaim and memory errors take pages away, and where faults are not kept out they add some.
    yield inode.pages.willReadRange(index, to - 1, FIND);
    index = nextCached(inode, index, to);
    if (index >= to) break;
    found = true;
    const run = bulkTruncatable(core, inode, index, to);
    if (run > 1) {
      yield* call(truncateRun(core, inode, index, run));
      index += run;
    } else {
      const next = yield* call(truncateEntry(core, inode, index, to < END));
      if (next > index + 1) freed++;
      index = next;
    }
  }
  if (found) yield* call(folioBatchRelease(core));
  if (inode.kind === 'hugetlb' && to === END) yield* call(unreserveFrom(core, inode, from, freed));
}

/** The first index from `index` on that holds a page or a swap entry, or `to`. */
function nextCached(inode: Inode, index: number, to: number): number {
  if (index >= to || inode.pages.peek(index) !== 0) return Math.min(index, to);
  return inode.pages.endOfRun(index, to - 1) + 1;
}

/** A DAX page is a block: with it the frame goes back to the device, and whoever still maps it uses freed memory. */
function* freeDaxBlocks(core: CoreMm, inode: Inode, from: number, to: number): Steps<void> {
  for (let index = nextCached(inode, from, to); index < to; index = nextCached(inode, index + 1, to)) {
    const pfn = inode.pages.peek(index) - 1;
    const zone = core.zones[core.machine.zoneOf(pfn)!.index]!;
    zone.freePages.willAdd(FREE_BLOCK);
    zone.freeRuns.willUpdate(FREE_BLOCK);
    core.frames.willRelease(pfn, 0, FREE_BLOCK);
    core.folios.refcount.willWrite(pfn, FREE_BLOCK);
    yield inode.pages.willUpdate(index, FREE_BLOCK);
    if (inode.pages.get(index) !== pfn + 1) continue;
    inode.pages.set(index, 0);
    core.folios.refcount.set(pfn, 0);
    core.frames.release(pfn, 0, 'truncation of a DAX file');
    giveBack(core, pfn, 1);
  }
}

/** The blocks of [from, to) are given back, or (zero range) turned into unwritten ones: both read as zero. */
function* dropBlocks(inode: Inode, from: number, to: number, keepAllocated = false): Steps<void> {
  if (from >= to) return;
  inode.allocated.willUpdateRange(from, to - 1, BLOCKS);
  yield inode.disk.willUpdateRange(from, to - 1, BLOCKS);
  inode.disk.fill(from, to - 1, 0);
  inode.allocated.fill(from, to - 1, keepAllocated ? 1 : 0);
}

/** ext4_break_layouts: unmap, then wait until no DMA holds a page of the device (short pins only: long ones are refused). */
function* breakLayouts(core: CoreMm, inode: Inode, from: number, to: number): Steps<void> {
  yield* call(unmapMappingRange(core, inode, from, to, false));
  for (let index = nextCached(inode, from, to); index < to; index = nextCached(inode, index + 1, to)) {
    const pfn = inode.pages.peek(index) - 1;
    const count = { id: core.folios.refcount.base + pfn };
    yield until(core.sim, [count], () => core.folios.refcount.peek(pfn) <= 1, LAYOUT, {
      name: `the end of IO to pfn ${pfn} of ${inode.name}`,
    });
  }
}

export type FallocateMode = 'allocate' | 'punch-hole' | 'zero-range' | 'collapse-range';

/**
 * fallocate of pages [from, from + pages). EINVAL: nothing, or a collapse that reaches the end; EOPNOTSUPP: this kind of
 * file cannot; EPERM: sealed against writing, or against growing; ENOMEM: pages of shmem; ENOSPC: no huge page for it;
 * EINTR: killed.
 */
export function* fallocate(
  core: CoreMm,
  inode: Inode,
  mode: FallocateMode,
  from: number,
  pages: number,
): Steps<'ok' | Errno> {
  if (pages <= 0) return 'EINVAL';
  if (inode.kind === 'secret') return 'EOPNOTSUPP';
  if (!onDisk(inode) && (mode === 'zero-range' || mode === 'collapse-range')) return 'EOPNOTSUPP';
  yield* call(inode.rwsem.write());
  inode.sizePages.willRead(CHECK);
  yield inode.seals.willRead(CHECK);
  const size = inode.sizePages.value;
  let result: 'ok' | Errno = 'ok';
  if (mode === 'punch-hole' && inode.sealed('write', 'future_write')) result = 'EPERM';
  else if (mode === 'allocate' && from + pages > size && inode.sealed('grow')) result = 'EPERM';
  else if (mode === 'collapse-range' && from + pages >= size) result = 'EINVAL';
  else if (mode === 'allocate' && inode.kind === 'hugetlb') {
    result = yield* call(hugetlbfsFallocate(core, inode, from, from + pages));
  } else result = yield* call(doFallocate(core, inode, mode, from, from + pages, size));
  yield inode.rwsem.up();
  return result;
}

function* doFallocate(
  core: CoreMm,
  inode: Inode,
  mode: FallocateMode,
  from: number,
  to: number,
  size: number,
): Steps<'ok' | Errno> {
  if (mode === 'allocate') return yield* call(preallocate(core, inode, from, to, size));
  if (inode.kind === 'hugetlb') yield* call(hugetlbPunchHole(core, inode, from, to));
  else if (inode.kind === 'shmem') yield* call(punchPagecache(core, inode, from, to));
  else yield* call(diskFallocate(core, inode, mode, from, to, size));
  return 'ok';
}

/** ext4_punch_hole, ext4_zero_range, ext4_collapse_range: written out first, with faults kept out. */
function* diskFallocate(
  core: CoreMm,
  inode: Inode,
  mode: FallocateMode,
  from: number,
  to: number,
  size: number,
): Steps<void> {
  if (mode !== 'collapse-range') yield* call(writeAndWaitRange(core, inode, from, to));
  yield inodeDioWait(inode);
  yield* call(inode.invalidateLock.write());
  if (inode.kind === 'fsdax') yield* call(breakLayouts(core, inode, from, mode === 'collapse-range' ? END : to));
  if (mode === 'collapse-range') {
    yield* call(writeAndWaitRange(core, inode, from, END));
    yield* call(truncatePagecache(core, inode, from));
    yield* call(shiftLeft(inode, from, to, size));
  } else {
    yield* call(punchPagecache(core, inode, from, to));
    yield* call(dropBlocks(inode, from, to, mode === 'zero-range'));
  }
  yield inode.invalidateLock.up();
}

/** truncate_pagecache_range, shmem_fallocate: private copies stay mapped. */
function* punchPagecache(core: CoreMm, inode: Inode, from: number, to: number): Steps<void> {
  yield* call(unmapMappingRange(core, inode, from, to, false));
  yield* call(truncateRange(core, inode, from, to));
}

/** Blocks behind the hole move down, and the file shrinks. */
function* shiftLeft(inode: Inode, from: number, to: number, size: number): Steps<void> {
  const by = to - from;
  inode.sizePages.willWrite(SHIFT);
  inode.allocated.willUpdateRange(from, size - 1, SHIFT);
  yield inode.disk.willUpdateRange(from, size - 1, SHIFT);
  for (let index = from; index < size; index++) {
    const moved = index + by < size;
    inode.disk.set(index, moved ? inode.disk.get(index + by) : 0);
    inode.allocated.set(index, moved ? inode.allocated.get(index + by) : 0);
  }
  inode.sizePages.value = size - by;
}

/** hugetlbfs_punch_hole: whole huge pages go, with private copies; the edges are zeroed in place, under DMA's eyes. */
function* hugetlbPunchHole(core: CoreMm, inode: Inode, from: number, to: number): Steps<void> {
  const huge = 2 ** inode.hugeOrder;
  const first = Math.ceil(from / huge) * huge;
  const last = Math.floor(to / huge) * huge;
  yield* call(zeroPartial(core, inode, from, Math.min(first, to)));
  if (last > first) yield* call(unmapMappingRange(core, inode, first, last, true));
  if (last >= first) yield* call(zeroPartial(core, inode, Math.max(last, from), to));
  if (last > first) yield* call(truncateRange(core, inode, first, last));
}

function* zeroPartial(core: CoreMm, inode: Inode, from: number, to: number): Steps<void> {
  if (from >= to) return;
  const entry = inode.pages.peek(from);
  const head = entry - 1;
  const low = head + (from - core.folios.index.peek(Math.max(head, 0)));
  if (entry > 0) core.frames.content.willUpdateRange(low, low + to - from - 1, PARTIAL);
  yield inode.pages.willRead(from, PARTIAL);
  if (entry > 0 && inode.pages.get(from) === entry) core.frames.content.fill(low, low + to - from - 1, 0);
}

/** Preallocation: blocks, or pages of shmem, and a larger file. */
function* preallocate(core: CoreMm, inode: Inode, from: number, to: number, size: number): Steps<'ok' | Errno> {
  if (inode.kind === 'shmem') {
    const result = yield* call(shmemFallocate(core, inode, from, to));
    if (result !== 'ok') return result;
  }
  if (inode.dirtyTracking) inode.allocated.willUpdateRange(from, to - 1, PREALLOCATE);
  yield inode.sizePages.willWrite(PREALLOCATE);
  if (inode.dirtyTracking) inode.allocated.fill(from, to - 1, 1);
  inode.sizePages.value = Math.max(size, to);
  return 'ok';
}
