// memory_failure (mm/memory-failure.c): an uncorrectable error in a frame. Its mappings become hwpoison entries whether
// it is pinned or not, it leaves LRU and page cache, and who uses it gets SIGBUS. IOMMU mappings and other pins stay: the
// device goes on using the frame. Filters, unpoisoning and errors in free or kernel pages are not modelled.
import { eventType } from '../../engine/event.ts';
import { call, type Steps } from '../../engine/process.ts';
import { step } from '../../engine/step.ts';
import { PMD_PAGES } from '../../hw/machine.ts';
import type { CoreMm } from '../core.ts';
import type { Inode } from '../file/inode.ts';
import { leftFile, willLeaveFile } from '../file/leave-file.ts';
import { lockFolio, unlockNow, waitWriteback, willUnlock } from '../folio-lock.ts';
import { hugetlbUnreservePages } from '../hugetlb/hugetlb-reserve.ts';
import { CONTENT_DROPPED } from '../ledger.ts';
import type { Mm } from '../mm.ts';
import {
  PG_ACTIVE,
  PG_ANON,
  PG_DIRTY,
  PG_ERROR,
  PG_HUGETLB,
  PG_HWPOISON,
  PG_ISOLATED,
  PG_LRU,
  PG_MLOCKED,
  PG_SWAPCACHE,
  PG_UNEVICTABLE,
  PG_UPTODATE,
  PG_WRITEBACK,
} from '../page-flags.ts';
import { sendSigkill } from '../process/signal.ts';
import type { Task } from '../process/task.ts';
import { PTE_HWPOISON, ptePresent } from '../pte.ts';
import { folioIsolateLru, lruAddDrainAll } from '../reclaim/lru.ts';
import { filemapReleaseFolio } from '../reclaim/remove-mapping.ts';
import { folioPut, putNow, willPut } from '../refcount.ts';
import { folioMkclean } from '../rmap/mkclean.ts';
import { rmapLock } from '../rmap/rmap.ts';
import { walkPlaces } from '../rmap/rmap-walk.ts';
import { tryToUnmap } from '../rmap/unmap.ts';
import { splitFolio } from '../thp/split-folio.ts';

const POISON = step('memory_failure:TestSetPageHWPoison', 'op');
const MUTEX = step('memory_failure:mf_mutex', 'lock');
const MUTEX_UNLOCK = step('memory_failure:mf_mutex-unlock', 'lock');
const WALK = step('kill_accessing_process:walk', 'op');
const LOCK = step('memory_failure:folio_lock', 'lock');
const UNLOCK = step('memory_failure:folio_unlock', 'lock');
const WRITEBACK = step('memory_failure:folio_wait_writeback', 'disk-write');
const STATE = step('memory_failure:page-state', 'op');
const MAPPED = step('hwpoison_user_mappings:folio_mapped', 'op');
const RMAP = step('hwpoison_user_mappings:i_mmap_lock_write', 'lock');
const RMAP_END = step('hwpoison_user_mappings:i_mmap_unlock_write', 'lock');
const DELETE_LRU = step('delete_from_lru_cache', 'op');
const TRUNCATE = step('truncate_error_folio', 'op');
const DIRTY = step('me_pagecache_dirty', 'op');
const SWAP_DIRTY = step('me_swapcache_dirty', 'op');
const SWAP_CLEAN = step('me_swapcache_clean', 'op');
const KILL = step('kill_proc', 'op');
const EXTRA = step('has_extra_refcount', 'refcount');

export interface FailureFlags {
  /** MF_ACTION_REQUIRED: the running thread touched the page, or MADV_HWPOISON of newer kernels says so. */
  readonly actionRequired: boolean;
}

/** A task is told of a memory error. */
export interface MemoryErrorSignal {
  readonly task: Task;
  readonly pfn: number;
  /** First page at which the task has it mapped. */
  readonly vpn: number;
  readonly code: 'BUS_MCEERR_AR' | 'SIGKILL';
}
export const MEMORY_ERROR_SIGNAL = eventType<MemoryErrorSignal>('memory-error-signal');

export type FailureResult = 'ok' | 'EBUSY' | 'EHWPOISON';

/**
 * memory_failure of the frame `pfn`, of which the caller has a reference (MF_COUNT_INCREASED) that is not given back when
 * the page was dealt with. EBUSY: ignored or failed; EHWPOISON: poisoned already, or an unsplittable THP.
 */
export function* memoryFailure(core: CoreMm, pfn: number, flags: FailureFlags): Steps<FailureResult> {
  yield core.memoryFailureMutex.lock(MUTEX);
  const result = yield* call(failFrame(core, pfn, flags));
  yield core.memoryFailureMutex.unlock(MUTEX_UNLOCK);
  return result;
}

function* failFrame(core: CoreMm, pfn: number, flags: FailureFlags): Steps<FailureResult> {
  const { folios } = core;
  const head = folios.headOf(pfn);
  yield folios.flags.willUpdate(head, POISON);
  const kind = folios.flags.get(head);
  if ((kind & PG_HWPOISON) !== 0) return yield* call(failAgain(core, pfn, flags));
  folios.change(head, PG_HWPOISON);
  if ((kind & PG_HUGETLB) !== 0) return yield* call(failHugetlb(core, head, flags));
  if (folios.isLarge(head)) {
    const failed = yield* call(splitPoisoned(core, head, pfn, flags));
    if (failed !== null) return failed;
  }
  return yield* call(failPage(core, pfn, flags));
}

/** Poisoned already: who touches it once more is told (kill_accessing_process), and the caller's reference goes. */
function* failAgain(core: CoreMm, pfn: number, flags: FailureFlags): Steps<FailureResult> {
  let result: FailureResult = 'EHWPOISON';
  const mm = core.current.task.mm.peek();
  if (flags.actionRequired && mm !== null) {
    yield* call(mm.mmapLock.read());
    const vpn = yield* call(whereMapped(core, mm, pfn));
    if (vpn === undefined) result = 'ok';
    else yield* call(signal(core, pfn, vpn, 'BUS_MCEERR_AR'));
    yield mm.mmapLock.up();
  }
  yield* call(folioPut(core, core.folios.headOf(pfn), 1, 'memory_failure'));
  return result;
}

/** hwpoison_walk_ops: the first address whose entry maps the frame, or says that it is poisoned. */
function* whereMapped(core: CoreMm, mm: Mm, pfn: number): Steps<number | undefined> {
  const { pageTable } = mm;
  for (const vma of core.sim.unwatched(() => mm.vmas.entries().map(([, one]) => one))) {
    yield pageTable.willReadLeaves(vma.start, vma.pages, WALK);
    for (let at = vma.start; at < vma.end; at++) {
      const { pte, huge } = pageTable.peekLeaf(at);
      if (!ptePresent(pte.bits) && (pte.bits & PTE_HWPOISON) === 0) continue;
      if (pte.pfn + (huge ? at % PMD_PAGES : 0) === pfn) return at;
    }
  }
  return undefined;
}

/** try_to_split_thp_page. Null: `pfn` is a folio of its own now, and the poisoned one. */
function* splitPoisoned(core: CoreMm, head: number, pfn: number, flags: FailureFlags): Steps<FailureResult | null> {
  yield lockFolio(core, head, LOCK);
  const result = yield* call(splitFolio(core, head, { keep: pfn }));
  const locked = result === 'ok' ? pfn : head;
  core.folios.flags.willUpdate(head, UNLOCK);
  yield willUnlock(core, locked, UNLOCK);
  unlockNow(core, locked);
  if (result === 'ok') {
    core.folios.change(head, 0, PG_HWPOISON);
    core.folios.change(pfn, PG_HWPOISON);
    return null;
  }
  // Held by somebody: the page stays mapped, and (since 6.11) its users are told; before, the error was only logged.
  const tells = core.kernel.has('hwpoison.unsplit-thp-kills');
  if (tells) yield* call(killProcs(core, head, flags));
  yield* call(folioPut(core, head, 1, 'memory_failure'));
  return tells ? 'EHWPOISON' : 'EBUSY';
}

function* failPage(core: CoreMm, pfn: number, flags: FailureFlags): Steps<FailureResult> {
  const { folios } = core;
  // shake_folio
  if (!folios.has(pfn, PG_LRU)) yield* call(lruAddDrainAll(core));
  yield lockFolio(core, pfn, LOCK);
  const before = folios.flags.get(pfn);
  if ((before & (PG_LRU | PG_WRITEBACK)) !== 0) {
    if ((before & PG_WRITEBACK) !== 0) yield waitWriteback(core, pfn, WRITEBACK);
    if (!(yield* call(unmapUsers(core, pfn, flags)))) return yield* call(giveUp(core, pfn));
    // Locked: truncation has been here or has not.
    const truncated = folios.mapping.peek(pfn) === 0 && !folios.has(pfn, PG_SWAPCACHE | PG_ANON);
    if (truncated && folios.has(pfn, PG_LRU)) return yield* call(giveUp(core, pfn));
  }
  return yield* call(pageAction(core, pfn, before));
}

function* giveUp(core: CoreMm, pfn: number): Steps<FailureResult> {
  yield willUnlock(core, pfn, UNLOCK);
  unlockNow(core, pfn);
  return 'EBUSY';
}

/** hwpoison_user_mappings: collect who maps it, unmap, signal. False: it is still mapped. */
function* unmapUsers(core: CoreMm, head: number, flags: FailureFlags): Steps<boolean> {
  const { folios } = core;
  yield folios.mapcount.willRead(head, MAPPED);
  if (folios.mapcountOf(head) === 0) return true;
  const inode = core.rmapInode(head);
  let hwpoison = true;
  // A swap-cache page is found again through its slot; a clean page of a file is read again from the disk.
  if (folios.has(head, PG_SWAPCACHE)) hwpoison = false;
  else if (!folios.has(head, PG_DIRTY) && inode?.kind === 'file') {
    if ((yield* call(folioMkclean(core, head))) > 0) {
      yield folios.flags.willUpdate(head, STATE);
      folios.change(head, PG_DIRTY);
    } else hwpoison = false;
  }
  const told = flags.actionRequired ? yield* call(collectProcs(core, head)) : null;
  yield* call(tryToUnmap(core, head, { ignoreMlock: true, hwpoison }));
  yield folios.mapcount.willRead(head, MAPPED);
  const unmapped = folios.mapcountOf(head) === 0;
  // kill_procs: unless the page was clean, those that map it; SIGKILL where even unmapping failed.
  if (told !== null && (folios.has(head, PG_DIRTY) || flags.actionRequired || !unmapped)) {
    yield* call(signal(core, head, told, unmapped ? 'BUS_MCEERR_AR' : 'SIGKILL'));
  }
  return unmapped;
}

/** collect_procs, of the running thread: others are told only when they asked for early signals, which is not modelled. */
function* collectProcs(core: CoreMm, head: number): Steps<number | null> {
  const lock = rmapLock(core, head);
  if (lock === null) return null;
  yield* call(lock.read());
  const places = yield* call(walkPlaces(core, head));
  yield lock.up();
  const mm = core.current.task.mm.peek();
  return places.find((place) => place.mm === mm)?.vpn ?? null;
}

/** kill_proc of the running thread: it finds the signal on its way back to user mode. */
function* signal(core: CoreMm, pfn: number, vpn: number, code: MemoryErrorSignal['code']): Steps<void> {
  const { task } = core.current;
  if (code === 'SIGKILL') {
    yield* call(sendSigkill(core, task));
  } else {
    yield task.pendingSigbus.willWrite(KILL);
    task.pendingSigbus.value = true;
  }
  if (core.sim.hears(MEMORY_ERROR_SIGNAL)) core.sim.emit(MEMORY_ERROR_SIGNAL, { task, pfn, vpn, code });
}

/** kill_procs_now: without unmapping anything. */
function* killProcs(core: CoreMm, head: number, flags: FailureFlags): Steps<void> {
  const vpn = flags.actionRequired ? yield* call(collectProcs(core, head)) : null;
  if (vpn !== null) yield* call(signal(core, head, vpn, 'BUS_MCEERR_AR'));
}

/** identify_page_state, page_action; `before`: the flags of the page before anything was done to it. */
function* pageAction(core: CoreMm, pfn: number, before: number): Steps<FailureResult> {
  const { folios } = core;
  const flags = folios.flags.peek(pfn);
  // me_unknown: somebody has isolated it, and it stays as it is, mapped and in its file.
  if (((before | flags) & (PG_LRU | PG_SWAPCACHE | PG_MLOCKED | PG_UNEVICTABLE)) === 0)
    return yield* call(giveUp(core, pfn));
  if ((flags & PG_SWAPCACHE) !== 0) return yield* call(poisonSwapCache(core, pfn, (flags & PG_DIRTY) !== 0));
  if ((flags & PG_DIRTY) !== 0 && core.kernel.has('hwpoison.sets-page-error')) {
    yield folios.flags.willUpdate(pfn, DIRTY);
    folios.change(pfn, PG_ERROR);
  }
  yield* call(deleteFromLru(core, pfn));
  if ((flags & PG_ANON) !== 0) {
    // me_pagecache_clean: recovered, whoever else holds it.
    yield willUnlock(core, pfn, UNLOCK);
    unlockNow(core, pfn);
    return 'ok';
  }
  const inode = core.rmapInode(pfn);
  if (inode === undefined) return yield* call(giveUp(core, pfn));
  const stays = inode.kind === 'shmem' && core.kernel.has('hwpoison.shmem-stays-in-file');
  const removed = stays || (yield* call(truncateError(core, inode, pfn)));
  yield willUnlock(core, pfn, UNLOCK);
  unlockNow(core, pfn);
  const extra = yield* call(hasExtraRefs(core, pfn, stays ? 1 : 0));
  return removed && !extra ? 'ok' : 'EBUSY';
}

/** delete_from_lru_cache: isolated, and its reference dropped at once. */
function* deleteFromLru(core: CoreMm, pfn: number): Steps<boolean> {
  if (!(yield* call(folioIsolateLru(core, pfn)))) return false;
  yield willPut(core, pfn, DELETE_LRU);
  core.folios.change(pfn, 0, PG_ACTIVE | PG_UNEVICTABLE | PG_ISOLATED);
  putNow(core, pfn, 1, 'delete_from_lru_cache');
  return true;
}

/** me_swapcache_dirty, me_swapcache_clean */
function* poisonSwapCache(core: CoreMm, pfn: number, dirty: boolean): Steps<FailureResult> {
  const { folios, swap } = core;
  if (dirty) {
    yield folios.flags.willUpdate(pfn, SWAP_DIRTY);
    folios.change(pfn, 0, PG_DIRTY | PG_UPTODATE);
  } else {
    const slot = folios.swapEntry.peek(pfn) - 1;
    folios.mapping.willUpdate(pfn, SWAP_CLEAN);
    folios.refcount.willUpdate(pfn, SWAP_CLEAN);
    swap.map.willUpdate(slot, SWAP_CLEAN);
    yield folios.flags.willUpdate(pfn, SWAP_CLEAN);
    swap.cache.set(slot, 0);
    folios.swapEntry.set(pfn, 0);
    folios.change(pfn, 0, PG_SWAPCACHE);
    folios.refcount.set(pfn, folios.refcount.get(pfn) - 1);
  }
  const deleted = yield* call(deleteFromLru(core, pfn));
  yield willUnlock(core, pfn, UNLOCK);
  unlockNow(core, pfn);
  const extra = yield* call(hasExtraRefs(core, pfn, dirty && deleted ? 1 : 0));
  return deleted && !extra ? 'ok' : 'EBUSY';
}

/** truncate_error_folio: out of the page cache; a dirty page's writes are lost, and fsync says so. */
function* truncateError(core: CoreMm, inode: Inode, pfn: number): Steps<boolean> {
  const { folios } = core;
  // Locked.
  const index = folios.index.peek(pfn);
  inode.writeError.willUpdate(TRUNCATE);
  folios.flags.willUpdate(pfn, TRUNCATE);
  folios.mapping.willUpdate(pfn, TRUNCATE);
  willLeaveFile(core, pfn, TRUNCATE);
  folios.refcount.willUpdate(pfn, TRUNCATE);
  yield inode.pages.willUpdate(index, TRUNCATE);
  if ((folios.flags.get(pfn) & PG_DIRTY) !== 0) inode.writeError.value = 'EIO';
  folios.change(pfn, 0, PG_DIRTY);
  inode.pages.set(index, 0);
  folios.mapping.set(pfn, 0);
  leftFile(core, pfn);
  folios.refcount.set(pfn, folios.refcount.get(pfn) - 1);
  if (core.sim.hears(CONTENT_DROPPED)) core.sim.emit(CONTENT_DROPPED, { pfn, pages: 1, why: 'memory failure' });
  return yield* call(filemapReleaseFolio(core, pfn));
}

/** has_extra_refcount: does anybody hold it besides the caller and what stays of its cache? */
function* hasExtraRefs(core: CoreMm, head: number, staying: number): Steps<boolean> {
  yield core.folios.refcount.willRead(head, EXTRA);
  return core.folios.refcount.get(head) - 1 - staying > 0;
}

/** me_huge_page: unmapped like any other; a page of a file stays there, so that the next fault fails. */
function* failHugetlb(core: CoreMm, head: number, flags: FailureFlags): Steps<FailureResult> {
  const { folios } = core;
  yield lockFolio(core, head, LOCK);
  const file = !folios.has(head, PG_ANON);
  const lock = rmapLock(core, head);
  const told = flags.actionRequired ? yield* call(collectProcs(core, head)) : null;
  if (file && lock !== null) yield* call(lock.write(RMAP));
  yield* call(tryToUnmap(core, head, { ignoreMlock: true, hwpoison: true, rmapLocked: file && lock !== null }));
  if (file && lock !== null) yield lock.up(RMAP_END);
  if (told !== null) yield* call(signal(core, head, told, 'BUS_MCEERR_AR'));
  const inode = core.rmapInode(head);
  const stays = inode !== undefined && core.kernel.has('hwpoison.hugetlb-stays-in-file');
  if (inode !== undefined && !stays) {
    const pages = folios.pagesOf(head);
    const index = folios.index.peek(head);
    folios.mapping.willUpdate(head, TRUNCATE);
    folios.refcount.willUpdate(head, TRUNCATE);
    yield inode.pages.willUpdateRange(index, index + pages - 1, TRUNCATE);
    inode.pages.fill(index, index + pages - 1, 0);
    folios.mapping.set(head, 0);
    folios.refcount.set(head, folios.refcount.get(head) - pages);
    // hugetlbfs_error_remove_page
    yield* call(hugetlbUnreservePages(core, inode, index / pages, index / pages + 1, 1));
  }
  yield willUnlock(core, head, UNLOCK);
  unlockNow(core, head);
  const extra = yield* call(hasExtraRefs(core, head, stays ? folios.pagesOf(head) : 0));
  return extra ? 'EBUSY' : 'ok';
}
