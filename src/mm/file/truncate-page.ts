// Taking one page out of a page cache for good (mm/truncate.c truncate_inode_folio, mm/shmem.c shmem_free_swap,
// fs/hugetlbfs/inode.c remove_inode_single_folio). References are never asked: a pinned page becomes an orphan, with
// mapping NULL, that the last put frees.
import { call, type Steps } from '../../engine/process.ts';
import { step } from '../../engine/step.ts';
import type { CoreMm } from '../core.ts';
import { lockFolio, unlockNow, waitWriteback, willUnlock } from '../folio-lock.ts';
import { lockFaultMutex, unlockFaultMutex } from '../hugetlb/hugetlb-mutex.ts';
import { hugetlbUnreservePages } from '../hugetlb/hugetlb-reserve.ts';
import { CONTENT_DROPPED } from '../ledger.ts';
import { PG_DIRTY, PG_PRIVATE, PG_UPTODATE } from '../page-flags.ts';
import { putNow, willPut } from '../refcount.ts';
import { freeSwapNow, willFreeSwap } from '../swap/swap-slots.ts';
import { unmapMappingFolio } from '../zap/unmap-mapping.ts';
import type { Inode } from './inode.ts';
import { leftFile, willLeaveFile } from './leave-file.ts';
import { filemapGetEntry } from './page-cache.ts';

const MUTEX = step('remove_inode_hugepages:fault-mutex', 'lock');
const MUTEX_UNLOCK = step('remove_inode_hugepages:fault-mutex-unlock', 'lock');
const LOCK = step('truncate_inode_pages_range:folio_lock', 'lock');
const WRITEBACK = step('truncate_inode_pages_range:folio_wait_writeback', 'none');
const MAPPED = step('truncate_cleanup_folio:folio_mapped', 'op');
const REMOVE = step('filemap_remove_folio', 'op');
const PUT = step('truncate_inode_pages_range:put', 'refcount');
const SWAP = step('shmem_free_swap', 'op');

/**
 * Remove what is at `index`; returns the first index after it. `hole`: of a hugetlb page the place in the reservations
 * goes with it; truncation gives back all of them at its end.
 */
export function* truncateEntry(core: CoreMm, inode: Inode, index: number, hole: boolean): Steps<number> {
  if (inode.kind !== 'hugetlb') return yield* call(removeEntry(core, inode, index, false));
  // A fault on the same huge page must not bring it back in between.
  yield lockFaultMutex(core, inode, index, MUTEX);
  const next = yield* call(removeEntry(core, inode, index, hole));
  yield unlockFaultMutex(core, inode, index, MUTEX_UNLOCK);
  return next;
}

function* removeEntry(core: CoreMm, inode: Inode, index: number, unreserve: boolean): Steps<number> {
  for (;;) {
    const entry = yield* call(filemapGetEntry(core, inode, index));
    if (entry === 0) return index + 1;
    if (entry < 0) {
      if (yield* call(freeSwapEntry(core, inode, index, -entry - 1))) return index + 1;
    } else {
      const first = core.folios.index.peek(entry);
      const pages = core.folios.pagesOf(entry);
      if (yield* call(truncateFolio(core, inode, entry, unreserve))) return first + pages;
    }
  }
}

/** shmem_free_swap: false when the page came back from swap meanwhile. */
function* freeSwapEntry(core: CoreMm, inode: Inode, index: number, slot: number): Steps<boolean> {
  willFreeSwap(core, slot, SWAP);
  yield inode.pages.willUpdate(index, SWAP);
  if (inode.pages.get(index) !== -(slot + 1)) return false;
  inode.pages.set(index, 0);
  freeSwapNow(core, slot);
  return true;
}

/** truncate_inode_folio of a page that we hold one reference of. False: it is not this file's page any more. */
function* truncateFolio(core: CoreMm, inode: Inode, head: number, unreserve: boolean): Steps<boolean> {
  const { folios } = core;
  const beforeLock = core.kernel.has('hugetlb.punch-hole-locks-folio') || inode.kind !== 'hugetlb';
  if (!beforeLock) yield* call(unmapIfMapped(core, inode, head));
  folios.mapping.willRead(head, LOCK);
  yield lockFolio(core, head, LOCK);
  if (folios.mapping.get(head) !== inode.id) {
    yield* call(unlockAndPut(core, head));
    return false;
  }
  yield waitWriteback(core, head, WRITEBACK);
  if (beforeLock) yield* call(unmapIfMapped(core, inode, head));
  const at = core.folios.index.peek(head) / 2 ** inode.hugeOrder;
  yield* call(removeFromCache(core, inode, head));
  if (unreserve) yield* call(hugetlbUnreservePages(core, inode, at, at + 1, 1));
  yield* call(unlockAndPut(core, head));
  return true;
}

function* unmapIfMapped(core: CoreMm, inode: Inode, head: number): Steps<void> {
  yield core.folios.mapcount.willRead(head, MAPPED);
  if (core.folios.mapcountOf(head) > 0) yield* call(unmapMappingFolio(core, inode, head));
}

/**
 * folio_invalidate, folio_cancel_dirty, filemap_remove_folio: the filesystem's hold, the dirty flag, the slot of the page
 * cache and the mapping go together, with the references of the cache.
 */
function* removeFromCache(core: CoreMm, inode: Inode, head: number): Steps<void> {
  const { folios } = core;
  const pages = folios.pagesOf(head);
  const index = folios.index.peek(head);
  willPut(core, head, REMOVE);
  willLeaveFile(core, head, REMOVE);
  yield inode.pages.willUpdateRange(index, index + pages - 1, REMOVE);
  // Told while the page still says which file it is of.
  if (core.sim.hears(CONTENT_DROPPED)) core.sim.emit(CONTENT_DROPPED, { pfn: head, pages, why: 'truncate' });
  const flags = folios.flags.get(head);
  folios.change(head, 0, PG_DIRTY | PG_PRIVATE | (inode.kind === 'hugetlb' ? PG_UPTODATE : 0));
  folios.mapping.set(head, 0);
  leftFile(core, head);
  inode.pages.fill(index, index + pages - 1, 0);
  putNow(core, head, pages + ((flags & PG_PRIVATE) !== 0 ? 1 : 0), 'filemap_remove_folio');
}

function* unlockAndPut(core: CoreMm, head: number): Steps<void> {
  willPut(core, head, PUT);
  yield willUnlock(core, head, PUT);
  unlockNow(core, head);
  putNow(core, head, 1, 'truncate_inode_pages_range');
}
