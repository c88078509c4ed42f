// Splitting a large folio into its pages (mm/huge_memory.c split_huge_page_to_list_to_order): every mapping becomes
// migration entries (file memory is unmapped), the count is frozen, the pages become folios. Any reference that mappings
// and cache do not explain, a pin above all, makes it fail. Only splits to order 0 are modelled.
import { call, type Steps } from '../../engine/process.ts';
import { type Announced, type Step, step } from '../../engine/step.ts';
import { PMD_PAGES } from '../../hw/machine.ts';
import type { CoreMm } from '../core.ts';
import { lockFolio, tryLockNow, unlockNow, willTryLock, willUnlock } from '../folio-lock.ts';
import { remapSplitPages, tryToMigrate } from '../migrate/migration-entry.ts';
import {
  PG_ACTIVE,
  PG_ANON,
  PG_DIRTY,
  PG_HWPOISON,
  PG_ISOLATED,
  PG_LOCKED,
  PG_LRU,
  PG_MLOCKED,
  PG_PARTIALLY_MAPPED,
  PG_PRIVATE,
  PG_REFERENCED,
  PG_SWAPBACKED,
  PG_SWAPCACHE,
  PG_UNEVICTABLE,
  PG_UPTODATE,
  PG_WORKINGSET,
  PG_WRITEBACK,
} from '../page-flags.ts';
import { freezeNow, putNow, tryGetNow, willGet, willPut } from '../refcount.ts';
import { type RmapPlace, rmapLock } from '../rmap/rmap.ts';
import { walkPlaces } from '../rmap/rmap-walk.ts';
import { tryToUnmap } from '../rmap/unmap.ts';
import { tryToUnmapFlush } from '../tlb.ts';

const CHECK = step('split_huge_page_to_list:checks', 'op');
const RELEASE = step('split_huge_page_to_list:filemap_release_folio', 'op');
const RMAP_LOCK = step('split_huge_page_to_list:rmap-lock', 'lock');
const RMAP_UNLOCK = step('split_huge_page_to_list:rmap-unlock', 'lock');
const CAN_SPLIT = step('can_split_folio', 'refcount');
const SPLIT = step('__split_huge_page', 'op');
const UNLOCK = step('__split_huge_page:unlock-tail', 'refcount');
const FAILED = step('split_huge_page_to_list:THP_SPLIT_PAGE_FAILED', 'none');
const TRYLOCK = step('try_split_folio:trylock', 'lock');
const LOCK = step('try_split_folio:lock', 'lock');
const PUT = step('deferred_split_scan:put', 'refcount');
const SCAN = step('deferred_split_scan:try_get', 'refcount');

/** What __split_huge_page_tail copies from the head. */
const COPIED =
  PG_REFERENCED |
  PG_SWAPBACKED |
  PG_SWAPCACHE |
  PG_MLOCKED |
  PG_UPTODATE |
  PG_ACTIVE |
  PG_WORKINGSET |
  PG_UNEVICTABLE |
  PG_DIRTY |
  PG_ANON |
  PG_LOCKED;

export type SplitResult = 'ok' | 'EAGAIN' | 'EBUSY';

export interface SplitOptions {
  /** The page that keeps the caller's reference and lock; default: the head. */
  readonly keep?: number;
  /** The folio is isolated, and its pages shall be, each with a reference (a list was given). */
  readonly isolated?: boolean;
}

/**
 * split_huge_page_to_list: the folio is locked, and the caller has a reference. EBUSY: huge zero page, writeback,
 * truncated. EAGAIN: somebody else holds a reference.
 */
export function* splitFolio(core: CoreMm, head: number, options: SplitOptions = {}): Steps<SplitResult> {
  const { folios } = core;
  yield folios.flags.willRead(head, CHECK);
  const flags = folios.flags.get(head);
  if (head === core.hugeZeroPfn || (flags & PG_WRITEBACK) !== 0) return 'EBUSY';
  const anon = (flags & PG_ANON) !== 0;
  // Locked: truncation cannot take it out of its file meanwhile.
  if (!anon && folios.mapping.peek(head) === 0) return yield* call(failed(core, 'EBUSY'));
  if ((flags & PG_PRIVATE) !== 0) {
    folios.refcount.willUpdate(head, RELEASE);
    yield folios.flags.willUpdate(head, RELEASE);
    folios.change(head, 0, PG_PRIVATE);
    folios.refcount.set(head, folios.refcount.get(head) - 1);
  }
  const lock = rmapLock(core, head);
  if (lock === null) return yield* call(failed(core, 'EBUSY'));
  yield* call(anon ? lock.write(RMAP_LOCK) : lock.read(RMAP_LOCK));
  const result = yield* call(splitUnderLock(core, head, anon, options));
  yield lock.up(RMAP_UNLOCK);
  if (result !== 'ok') return yield* call(failed(core, result));
  yield* call(unlockParts(core, head, options));
  return result;
}

function* failed(core: CoreMm, result: SplitResult): Steps<SplitResult> {
  yield core.vmstat.willAdd('thp_split_page_failed', FAILED);
  core.vmstat.add('thp_split_page_failed', 1);
  return result;
}

function* splitUnderLock(core: CoreMm, head: number, anon: boolean, options: SplitOptions): Steps<SplitResult> {
  const { folios } = core;
  const pages = folios.pagesOf(head);
  yield folios.willCompareRefs(head, CAN_SPLIT);
  const cached = !anon || (folios.flags.get(head) & PG_SWAPCACHE) !== 0;
  if (folios.mapcountOf(head) !== folios.refcount.get(head) - (cached ? pages : 0) - 1) return 'EAGAIN';

  const places = yield* call(walkPlaces(core, head));
  const unmap = { rmapLocked: true, splitHugePmd: true, batchFlush: true, ignoreMlock: true } as const;
  yield* call(anon ? tryToMigrate(core, head, unmap) : tryToUnmap(core, head, unmap));
  yield* call(tryToUnmapFlush(core));

  yield willSplit(core, head, pages, SPLIT);
  const ok = splitNow(core, head, pages, cached, options);
  if (anon) yield* call(remap(core, head, places, ok));
  return ok ? 'ok' : 'EAGAIN';
}

/** remap_page: the mappings come back, to the pages or (after a failure) to the folio, which stays mapped by PTEs. */
function* remap(core: CoreMm, head: number, places: readonly RmapPlace[], split: boolean): Steps<void> {
  const zeropage = split && core.kernel.has('thp.split.zero-filled-to-zeropage');
  yield* call(remapSplitPages(core, head, places, split, zeropage));
}

function willSplit(core: CoreMm, head: number, pages: number, at: Step): Announced {
  const { folios, swap } = core;
  const last = head + pages - 1;
  const inode = core.rmapInode(head);
  // Locked: place and slot stand.
  const index = folios.index.peek(head);
  if (inode !== undefined) {
    inode.pages.willUpdateRange(index, index + pages - 1, at);
    inode.sizePages.willRead(at);
  }
  const entry = folios.swapEntry.peek(head);
  if (entry !== 0) swap.map.willUpdateRange(entry - 1, entry - 1 + pages - 1, at);
  folios.order.willUpdate(head, at);
  folios.flags.willUpdateRange(head, last, at);
  folios.mapping.willUpdateRange(head, last, at);
  folios.mapcount.willUpdateRange(head, last, at);
  folios.anonExclusive.willUpdateRange(head, last, at);
  core.vmstat.willAdd('thp_split_page', at);
  core.lru.willAdd(at);
  return folios.refcount.willUpdateRange(head, last, at);
}

/** Freeze at exactly the expected count, then __split_huge_page. False: a reference too many; nothing has changed. */
function splitNow(core: CoreMm, head: number, pages: number, cached: boolean, options: SplitOptions): boolean {
  const { folios, swap } = core;
  if (!freezeNow(core, head, 1 + (cached ? pages : 0))) return false;
  const inode = core.rmapInode(head);
  const flags = folios.flags.get(head);
  const index = folios.index.peek(head);
  const mapping = folios.mapping.get(head);
  const entry = folios.swapEntry.peek(head);
  const age = folios.lruAge.peek(head);
  // Pages beyond the end of the file leave it.
  const end = inode === undefined ? Number.POSITIVE_INFINITY : inode.sizePages.value;
  const onList = options.isolated === true ? PG_ISOLATED : (flags & PG_LRU) !== 0 ? PG_LRU : 0;
  folios.order.set(head, 0);
  folios.largeMapcount.set(head, 0);
  folios.pincount.set(head, 0);
  for (let i = 0; i < pages; i++) {
    const page = head + i;
    const beyond = index + i >= end;
    const own = i === 0 ? flags & ~PG_PARTIALLY_MAPPED : (flags & COPIED) | onList;
    folios.flags.set(page, own & ~(i === 0 ? 0 : PG_HWPOISON));
    folios.lruAge.set(page, age);
    folios.mapping.set(page, beyond ? 0 : mapping);
    folios.index.set(page, index + i);
    folios.swapEntry.set(page, entry === 0 ? 0 : entry + i);
    folios.refcount.set(page, 1 + (cached && !beyond ? 1 : 0));
    if (inode !== undefined) inode.pages.set(index + i, beyond ? 0 : page + 1);
    if (entry !== 0) swap.cache.set(entry - 1 + i, page + 1);
  }
  if (onList === PG_LRU) core.lru.add(pages - 1);
  core.vmstat.add('thp_split_page', 1);
  return true;
}

/** The other pages are unlocked; unless they stay isolated, the reference that the split gave them goes. */
function* unlockParts(core: CoreMm, head: number, options: SplitOptions): Steps<void> {
  const keep = options.keep ?? head;
  const per = core.params.stepPages;
  const others = Array.from({ length: PMD_PAGES }, (_, i) => head + i).filter((page) => page !== keep);
  for (let i = 0; i < others.length; i += per) {
    const some = others.slice(i, i + per);
    for (const page of some) {
      if (options.isolated === true) willUnlock(core, page, UNLOCK);
      else willPut(core, page, UNLOCK);
    }
    yield core.sim.local(UNLOCK, some.length);
    for (const page of some) {
      unlockNow(core, page);
      if (options.isolated !== true) putNow(core, page, 1, '__split_huge_page');
    }
  }
}

/** try_split_folio of migration: the folio is isolated. Its pages, each isolated, or null. */
export function* splitIsolated(core: CoreMm, head: number, mayWait: boolean): Steps<number[] | null> {
  const pages = core.folios.pagesOf(head);
  if (mayWait) yield lockFolio(core, head, LOCK);
  else {
    yield willTryLock(core, head, TRYLOCK);
    if (!tryLockNow(core, head)) return null;
  }
  const result = yield* call(splitFolio(core, head, { isolated: true }));
  yield willUnlock(core, head, LOCK);
  unlockNow(core, head);
  return result === 'ok' ? Array.from({ length: pages }, (_, i) => head + i) : null;
}

/** deferred_split_scan of one folio: partially unmapped THPs give memory back only when they are split. */
export function* deferredSplit(core: CoreMm, head: number): Steps<boolean> {
  yield willGet(core, head, SCAN);
  if (!tryGetNow(core, head, 1)) return false;
  yield willTryLock(core, head, TRYLOCK);
  const locked = (core.folios.flags.get(head) & PG_PARTIALLY_MAPPED) !== 0 && tryLockNow(core, head);
  const result = locked ? yield* call(splitFolio(core, head)) : 'EAGAIN';
  if (locked) {
    yield willUnlock(core, head, LOCK);
    unlockNow(core, head);
  }
  yield willPut(core, head, PUT);
  putNow(core, head, 1, 'deferred_split_scan');
  return result === 'ok';
}
