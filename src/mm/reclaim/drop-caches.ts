// Dropping clean pages of the page cache: drop_caches and fadvise (mm/truncate.c invalidate_mapping_pages), which keep
// whatever has a reference, and invalidate_inode_pages2_range (direct IO writes), which does not ask for references.
// Moving kept pages to the inactive list (deactivate_file_folio) is left out.
import { call, type Steps } from '../../engine/process.ts';
import { step } from '../../engine/step.ts';
import type { CoreMm } from '../core.ts';
import type { Inode } from '../file/inode.ts';
import { leftFile, willLeaveFile } from '../file/leave-file.ts';
import { filemapGetFolio } from '../file/page-cache.ts';
import { lockFolio, tryLockNow, unlockNow, waitWriteback, willTryLock } from '../folio-lock.ts';
import { PG_DIRTY, PG_WRITEBACK } from '../page-flags.ts';
import { putNow, tryGetNow, willGet, willPut } from '../refcount.ts';
import { cachedIndices, writeCachePages } from '../writeback/writeback.ts';
import { unmapMappingFolio, unmapMappingRange } from '../zap/unmap-mapping.ts';
import { folioBatchRelease, lruAddDrain, lruAddDrainAll } from './lru.ts';
import { filemapReleaseFolio, mappingEvictFolio } from './remove-mapping.ts';

const WALK = step('invalidate_mapping_pages:walk', 'none');
const FIND_LOCK = step('find_lock_entries', 'op');
const UNLOCK = step('invalidate_mapping_pages:unlock', 'op');
const LOCK2 = step('invalidate_inode_pages2_range:folio_lock', 'lock');
const WAIT2 = step('invalidate_inode_pages2_range:folio_wait_writeback', 'none');
const MAPPED = step('invalidate_inode_pages2_range:folio_mapped', 'op');
const REMOVE2 = step('invalidate_complete_folio2', 'op');
const UNLOCK2 = step('invalidate_inode_pages2_range:unlock', 'op');

/** What invalidate_mapping_pages came to. */
export interface Invalidated {
  /** Pages that left the page cache. */
  readonly pages: number;
  /** Pages that were found clean and kept: mapped, pinned, or in a per-CPU batch (nr_failed). */
  readonly kept: number;
}

/** invalidate_mapping_pages over [from, to): drop what is clean, unlocked, unmapped and unreferenced. Never waits. */
export function* invalidateMappingPages(core: CoreMm, inode: Inode, from: number, to: number): Steps<Invalidated> {
  let pages = 0;
  let kept = 0;
  if (from >= to) return { pages, kept };
  // Each entry is looked at again.
  yield inode.pages.willReadRange(from, to - 1, WALK);
  for (const index of cachedIndices(inode, from, to)) {
    const head = yield* call(findLock(core, inode, index));
    if (head === undefined) continue;
    const gone = (yield* call(mappingEvictFolio(core, inode, head))) === 'evicted';
    yield* call(unlockAndPut(core, head, UNLOCK));
    if (gone) pages++;
    else kept++;
  }
  if (pages + kept > 0) yield* call(folioBatchRelease(core));
  return { pages, kept };
}

/** find_lock_entries, one at a time: locked and with a reference; undefined when it is busy. */
function* findLock(core: CoreMm, inode: Inode, index: number): Steps<number | undefined> {
  const { folios } = core;
  for (;;) {
    // The look tells what to announce; the act looks again.
    const expected = inode.pages.peek(index);
    const head = expected - 1;
    if (expected > 0) {
      willGet(core, head, FIND_LOCK);
      willTryLock(core, head, FIND_LOCK);
      folios.mapping.willRead(head, FIND_LOCK);
    }
    yield inode.pages.willRead(index, FIND_LOCK);
    if (inode.pages.get(index) !== expected) continue;
    if (expected <= 0 || (folios.flags.get(head) & PG_WRITEBACK) !== 0) return undefined;
    if (folios.mapping.get(head) !== inode.id || folios.refcount.get(head) === 0) return undefined;
    if (!tryLockNow(core, head)) return undefined;
    tryGetNow(core, head, 1);
    return head;
  }
}

function* unlockAndPut(core: CoreMm, head: number, at: typeof UNLOCK): Steps<void> {
  yield willPut(core, head, at);
  unlockNow(core, head);
  putNow(core, head, 1, at.label);
}

/** echo 1 > /proc/sys/vm/drop_caches (bit 0: the page cache). Dirty pages stay: `sync` first. Returns pages dropped. */
export function* dropCaches(core: CoreMm): Steps<number> {
  if (core.kernel.has('drop-caches.drains-lru')) yield* call(lruAddDrainAll(core));
  let dropped = 0;
  for (const inode of core.allInodes()) {
    if (inode.kind !== 'file' && inode.kind !== 'shmem') continue;
    dropped += (yield* call(invalidateMappingPages(core, inode, 0, 2 ** 32))).pages;
  }
  return dropped;
}

/**
 * posix_fadvise(POSIX_FADV_DONTNEED) over pages [from, to): start writing, drop what is clean, once more after a drain.
 * generic_fadvise ignores it where nothing is written back (noop_backing_dev_info: tmpfs, shmem, hugetlbfs) and for DAX.
 */
export function* fadviseDontneed(core: CoreMm, inode: Inode, from: number, to: number): Steps<void> {
  if (inode.kind !== 'file') return;
  yield* call(writeCachePages(core, inode, { sync: 'none', from, to }));
  yield* call(lruAddDrain(core));
  const { kept } = yield* call(invalidateMappingPages(core, inode, from, to));
  if (kept === 0) return;
  yield* call(lruAddDrainAll(core));
  yield* call(invalidateMappingPages(core, inode, from, to));
}

/**
 * invalidate_inode_pages2_range over [from, to): unmap and drop, even what is pinned: that becomes an orphan. EBUSY: a
 * page was dirty or kept its buffers; it stays, unmapped.
 */
export function* invalidateInodePages2(core: CoreMm, inode: Inode, from: number, to: number): Steps<'ok' | 'EBUSY'> {
  let result: 'ok' | 'EBUSY' = 'ok';
  let unmapped = false;
  for (const index of cachedIndices(inode, from, to)) {
    const head = yield* call(filemapGetFolio(core, inode, index));
    if (head === undefined) continue;
    if (!unmapped && (yield* call(isMapped(core, head)))) {
      yield* call(unmapMappingRange(core, inode, index, to, false));
      unmapped = true;
    }
    if (!(yield* call(invalidateFolio2(core, inode, head)))) result = 'EBUSY';
    yield* call(unlockAndPut(core, head, UNLOCK2));
  }
  return result;
}

function* isMapped(core: CoreMm, head: number): Steps<boolean> {
  yield core.folios.mapcount.willRead(head, MAPPED);
  return core.folios.mapcountOf(head) > 0;
}

/** One folio, left locked. False: it stays in the page cache. */
function* invalidateFolio2(core: CoreMm, inode: Inode, head: number): Steps<boolean> {
  const { folios } = core;
  folios.mapping.willRead(head, LOCK2);
  yield lockFolio(core, head, LOCK2);
  if (folios.mapping.get(head) !== inode.id) return true;
  yield waitWriteback(core, head, WAIT2);
  if (yield* call(isMapped(core, head))) yield* call(unmapMappingFolio(core, inode, head));
  if (!(yield* call(filemapReleaseFolio(core, head)))) return false;
  return yield* call(removeClean(core, inode, head));
}

/** invalidate_complete_folio2: the dirty test is under the lock of the page cache, references are not looked at. */
function* removeClean(core: CoreMm, inode: Inode, head: number): Steps<boolean> {
  const { folios } = core;
  const index = folios.index.peek(head);
  const pages = folios.pagesOf(head);
  willPut(core, head, REMOVE2);
  willLeaveFile(core, head, REMOVE2);
  yield inode.pages.willUpdateRange(index, index + pages - 1, REMOVE2);
  if ((folios.flags.get(head) & PG_DIRTY) !== 0) return false;
  inode.pages.fill(index, index + pages - 1, 0);
  folios.mapping.set(head, 0);
  leftFile(core, head);
  putNow(core, head, pages, 'invalidate_complete_folio2');
  return true;
}
