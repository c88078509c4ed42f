// Write and unshare faults on a page that is mapped read-only (mm/memory.c do_wp_page, wp_can_reuse_anon_folio,
// wp_page_copy). Reuse and copy rules differ by kernel: `cow.reuse-rule`. Shared mappings are in fault-file.ts.
import { call, type Steps } from '../../engine/process.ts';
import { type Announced, type Step, step } from '../../engine/step.ts';
import { PMD_PAGES } from '../../hw/machine.ts';
import { allocFolio } from '../alloc/page-alloc.ts';
import type { CoreMm } from '../core.ts';
import { lockFolio, tryLockNow, unlockNow, willTryLock, willUnlock } from '../folio-lock.ts';
import { PG_ANON, PG_KSM, PG_LRU, PG_SWAPCACHE } from '../page-flags.ts';
import { PMD_TABLE, PTE_DEVMAP, PTE_PRESENT, PTE_SOFT_DIRTY, PTE_SPECIAL, PTE_UFFD_WP, PTE_YOUNG } from '../pte.ts';
import { folioAddLru, lruAddDrain } from '../reclaim/lru.ts';
import { folioPut, getNow, willGet } from '../refcount.ts';
import { folioFreeSwap } from '../swap/swap-cache.ts';
import { deferSplitNow, willDeferSplit } from '../thp/deferred-split.ts';
import { flushTlbRange } from '../tlb.ts';
import { addNewAnonNow, anonVmaPrepare, userGfp, willAddNewAnon } from './anon-page.ts';
import { type Fault, type FaultResult, maybeMkwrite, putUnused } from './fault-context.ts';
import { wpPageShared } from './fault-file.ts';
import { wpPfnShared } from './fault-pfn.ts';
import { handleUserfault, userfaultfdWp } from './uffd.ts';

const LOCK = step('do_wp_page:lock', 'fault');
const DECIDE = step('do_wp_page', 'pte-op');
const UFFD_FLUSH = step('do_wp_page:mm_tlb_flush_pending', 'none');
const EARLY = step('wp_can_reuse_anon_folio:early-checks', 'op');
const TRYLOCK = step('wp_can_reuse_anon_folio:trylock', 'lock');
const FOLIO_LOCK = step('do_wp_page:lock_page', 'lock');
const RELOCK = step('do_wp_page:relock', 'lock');
const REF_TEST = step('wp_can_reuse_anon_folio:ref-test', 'refcount');
const REUSE = step('wp_page_reuse', 'pte-op');
const GET_OLD = step('do_wp_page:get-and-unlock', 'refcount');
const COPY = step('wp_page_copy:copy', 'copy-page');
const CLEAR = step('wp_page_copy:ptep_clear_flush', 'pte-op');
const SET = step('wp_page_copy:set-pte', 'pte-op');
const FREE_SWAP_CACHE = step('free_swap_cache', 'lock');

/** vm_normal_page: the frame whose folio is counted; undefined for the zero page, raw frames and fsdax. */
export function normalPage(fault: Fault): number | undefined {
  return (fault.orig.bits & (PTE_SPECIAL | PTE_DEVMAP)) !== 0 ? undefined : fault.orig.pfn;
}

type Decision = 'done' | 'uffd' | 'shared-pfn' | 'shared-page' | 'maybe-reuse' | 'copy';

/** A write or unshare fault whose entry is present and read-only. Takes and releases the page-table lock. */
export function* doWpPage(core: CoreMm, fault: Fault): Steps<FaultResult> {
  willDecide(core, fault, LOCK);
  yield fault.lock(LOCK);
  if (!fault.same) {
    fault.unlockNow();
    return 'ok';
  }
  return yield* call(wpPage(core, fault, decide(core, fault)));
}

/** do_wp_page with the page-table lock already held (the end of a swap-in). */
export function* doWpPageLocked(core: CoreMm, fault: Fault): Steps<FaultResult> {
  willDecide(core, fault, DECIDE);
  yield fault.willUnlock(DECIDE);
  return yield* call(wpPage(core, fault, decide(core, fault)));
}

function* wpPage(core: CoreMm, fault: Fault, decision: Decision): Steps<FaultResult> {
  switch (decision) {
    case 'done':
      return 'ok';
    case 'uffd':
      return yield* call(handleUserfault(core, fault, 'wp'));
    case 'shared-pfn':
      return yield* call(wpPfnShared(core, fault));
    case 'shared-page':
      return yield* call(wpPageShared(core, fault));
    case 'maybe-reuse': {
      const reuse = yield* call(canReuse(core, fault));
      if (reuse === 'gone') return 'ok';
      if (reuse) {
        yield fault.willUnlock(REUSE);
        reuseNow(core, fault);
        return 'ok';
      }
    }
  }
  if (userfaultfdWp(fault.vma) && !fault.flags.unshare) yield* call(flushPending(core, fault));
  return yield* call(copy(core, fault));
}

function willDecide(core: CoreMm, fault: Fault, at: Step): void {
  const page = normalPage(fault);
  if (page === undefined) return;
  const head = core.folios.headOf(page);
  // A large folio may be split before the lock is had: its page is then a folio of its own.
  if (head !== page) core.folios.flags.willRead(page, at);
  core.folios.flags.willRead(head, at);
  core.folios.anonExclusive.willRead(page, at);
}

/** What do_wp_page does with the entry, and the reuse itself where nothing else must be looked at. */
function decide(core: CoreMm, fault: Fault): Decision {
  const { folios, kernel } = core;
  const { vma, flags } = fault;
  const { unshare } = flags;
  if (!unshare && userfaultfdWp(vma) && (fault.orig.bits & PTE_UFFD_WP) !== 0) {
    fault.unlockNow();
    return 'uffd';
  }
  const page = normalPage(fault);
  if (vma.fields.shared) {
    if (page === undefined) return 'shared-pfn';
    // An anonymous page in a shared mapping: none but through FOLL_FORCE of old.
    return 'shared-page';
  }
  const anon = page !== undefined && (folios.flags.get(folios.headOf(page)) & PG_ANON) !== 0;
  if (unshare && !anon && !kernel.has('gup.longterm.ro-breaks-cow')) {
    // Before 84209e87c696 there was nothing to unshare but anonymous pages.
    fault.unlockNow();
    return 'done';
  }
  if (!anon) return 'copy';
  if (kernel.has('cow.anon-exclusive') && folios.anonExclusive.get(page) === 1) {
    reuseNow(core, fault);
    return 'done';
  }
  return 'maybe-reuse';
}

/** wp_page_reuse and pte_unmap_unlock. An unshare fault has its exclusive page now and leaves the entry read-only. */
function reuseNow(core: CoreMm, fault: Fault): void {
  const { pfn, bits } = fault.orig;
  if (!fault.flags.unshare) fault.set(core, pfn, bits | PTE_YOUNG | maybeMkwrite(fault.vma));
  fault.unlockNow();
}

/** Write protection by userfaultfd puts off its flush; a copy must not race with writers through old TLB entries. */
function* flushPending(core: CoreMm, fault: Fault): Steps<void> {
  yield fault.mm.tlbFlushPending.willRead(UFFD_FLUSH);
  if (fault.mm.tlbFlushPending.value > 0) yield* call(flushTlbRange(core, fault.mm, fault.vpn, fault.vpn + 1));
}

/**
 * May the page be kept? True: it is exclusive now. Under the page-table lock, which is dropped with `gone`: the entry
 * changed while the folio lock was waited for.
 */
function* canReuse(core: CoreMm, fault: Fault): Steps<boolean | 'gone'> {
  switch (core.kernel.way('cow.reuse-rule')) {
    case 'mapcount':
      return yield* call(canReuseMapcount(core, fault));
    case 'refcount-one':
      return yield* call(canReuseRefcountOne(core, fault));
    default:
      return yield* call(canReuseExclusive(core, fault));
  }
}

/** wp_can_reuse_anon_folio (since 5.19, 6c287605fd56). */
function* canReuseExclusive(core: CoreMm, fault: Fault): Steps<boolean> {
  const { folios } = core;
  const page = fault.orig.pfn;
  const head = folios.headOf(page);
  if (folios.isLarge(head)) {
    const rule = core.kernel.way('cow.large-folio-reuse');
    if (rule === 'never') return false;
    if (rule === 'one-mm') return yield* call(canReuseLarge(core, fault, head));
  }
  folios.flags.willRead(head, EARLY);
  yield folios.refcount.willRead(head, EARLY);
  const flags = folios.flags.get(head);
  if ((flags & PG_KSM) !== 0 || folios.refcount.get(head) > 3) return false;
  if ((flags & PG_LRU) === 0) yield* call(lruAddDrain(core));

  folios.refcount.willRead(head, TRYLOCK);
  yield willTryLock(core, head, TRYLOCK);
  const cached = (folios.flags.get(head) & PG_SWAPCACHE) !== 0;
  if (folios.refcount.get(head) > 1 + (cached ? 1 : 0)) return false;
  if (!tryLockNow(core, head)) return false;
  if (cached) yield* call(folioFreeSwap(core, head));

  folios.refcount.willRead(head, REF_TEST);
  folios.anonExclusive.willWrite(page, REF_TEST);
  yield willUnlock(core, head, REF_TEST);
  const sole = (folios.flags.get(head) & PG_KSM) === 0 && folios.refcount.get(head) === 1;
  if (sole) folios.anonExclusive.set(page, 1);
  unlockNow(core, head);
  return sole;
}

/** __wp_can_reuse_large_anon_folio (since 6.15): all references are mappings of this mm. */
function* canReuseLarge(core: CoreMm, fault: Fault, head: number): Steps<boolean> {
  const { folios } = core;
  const page = fault.orig.pfn;
  folios.refcount.willRead(head, REF_TEST);
  folios.mapcount.willRead(head, REF_TEST);
  folios.flags.willRead(head, REF_TEST);
  yield folios.anonExclusive.willUpdate(page, REF_TEST);
  if ((folios.flags.get(head) & PG_KSM) !== 0) return false;
  const mapped = folios.largeMapcount.get(head);
  if (folios.refcount.get(head) !== mapped || mappingsHere(fault, head, folios.pagesOf(head)) !== mapped) return false;
  folios.anonExclusive.set(page, 1);
  return true;
}

/** How many entries of this page table map the folio; the kernel keeps this count per mm (mm_id of the folio). */
function mappingsHere(fault: Fault, head: number, pages: number): number {
  const { pageTable } = fault.mm;
  const first = fault.vpn - (fault.orig.pfn - head);
  let found = 0;
  for (let i = 0; i < pages; i++) {
    if ((pageTable.peekPmd(Math.floor((first + i) / PMD_PAGES)).bits & PMD_TABLE) === 0) continue;
    const { pfn, bits } = pageTable.peekPte(first + i);
    if (pfn === head + i && (bits & PTE_PRESENT) !== 0) found++;
  }
  return found;
}

/** 5.9 to 5.18 (09854ba94c6a): nobody else may hold any reference, a pin or the swap cache included. */
function* canReuseRefcountOne(core: CoreMm, fault: Fault): Steps<boolean> {
  const { folios } = core;
  const head = folios.headOf(fault.orig.pfn);
  folios.refcount.willRead(head, TRYLOCK);
  yield willTryLock(core, head, TRYLOCK);
  if ((folios.flags.get(head) & PG_KSM) !== 0 || folios.refcount.get(head) !== 1) return false;
  if (!tryLockNow(core, head)) return false;
  folios.refcount.willRead(head, REF_TEST);
  folios.mapcount.willRead(head, REF_TEST);
  yield willUnlock(core, head, REF_TEST);
  const sole =
    (folios.flags.get(head) & PG_KSM) === 0 && folios.mapcountOf(head) === 1 && folios.refcount.get(head) === 1;
  unlockNow(core, head);
  return sole;
}

/** Before 5.9 (reuse_swap_page): mapped once, counting swap entries; references of others do not matter. */
function* canReuseMapcount(core: CoreMm, fault: Fault): Steps<boolean | 'gone'> {
  const { folios, swap } = core;
  const head = folios.headOf(fault.orig.pfn);
  if ((yield* call(lockUnderPtl(core, fault, head))) === 'changed') return 'gone';
  const entry = folios.swapEntry.peek(head); // held under the folio lock
  if (entry > 0) swap.map.willRead(entry - 1, REF_TEST);
  folios.mapcount.willRead(head, REF_TEST);
  yield willUnlock(core, head, REF_TEST);
  const swapped = entry > 0 ? swap.map.get(entry - 1) : 0;
  const sole = (folios.flags.get(head) & PG_KSM) === 0 && folios.mapcountOf(head) + swapped <= 1;
  unlockNow(core, head);
  return sole;
}

/** The folio lock, for which the page-table lock is dropped when it is not free at once. `changed`: neither is held. */
function* lockUnderPtl(core: CoreMm, fault: Fault, head: number): Steps<'locked' | 'changed'> {
  willGet(core, head, TRYLOCK);
  fault.willUnlock(TRYLOCK);
  yield willTryLock(core, head, TRYLOCK);
  if (tryLockNow(core, head)) return 'locked';
  getNow(core, head, 1);
  fault.unlockNow();
  yield lockFolio(core, head, FOLIO_LOCK);
  yield fault.lock(RELOCK);
  const { same } = fault;
  if (!same) {
    fault.unlockNow();
    yield willUnlock(core, head, RELOCK);
    unlockNow(core, head);
  }
  yield* call(folioPut(core, head, 1, 'do_wp_page'));
  return same ? 'locked' : 'changed';
}

/** The end of do_wp_page and wp_page_copy: hold the old page, drop the lock, copy, replace. */
function* copy(core: CoreMm, fault: Fault): Steps<FaultResult> {
  const { folios } = core;
  const page = normalPage(fault);
  const old = page === undefined ? undefined : folios.headOf(page);
  if (old !== undefined) willGet(core, old, GET_OLD);
  yield fault.willUnlock(GET_OLD);
  if (old !== undefined) getNow(core, old, 1);
  fault.unlockNow();
  return yield* call(wpPageCopy(core, fault, old));
}

/** wp_page_copy. `old`: the folio whose page is mapped, with a reference of ours; undefined when it is not counted. */
function* wpPageCopy(core: CoreMm, fault: Fault, old: number | undefined): Steps<FaultResult> {
  const { frames } = core;
  const { mm, vpn } = fault;
  fault.vma = yield* call(anonVmaPrepare(core, mm, fault.vma));
  const ofZeroPage = fault.orig.pfn === core.zeroPfn;
  const head = yield* call(allocFolio(core, userGfp(core, fault.flags.memallocPin, ofZeroPage, fault.vma)));
  if (head === undefined) {
    if (old !== undefined) yield* call(folioPut(core, old, 1, 'wp_page_copy:oom'));
    return 'oom';
  }
  if (!ofZeroPage) {
    frames.content.willRead(fault.orig.pfn, COPY);
    yield frames.content.willWrite(head, COPY);
    frames.copy(fault.orig.pfn, head, 1);
  }

  const range = { mm, start: vpn, end: vpn + 1, event: 'CLEAR', blockable: true } as const;
  yield* call(mm.notifiers.start(range));
  const result = yield* call(replace(core, fault, old, head));
  yield* call(mm.notifiers.end(range));

  if (result === 'changed') yield* call(putUnused(core, head));
  if (old !== undefined) yield* call(putOld(core, old, result));
  return 'ok';
}

/** What became of the old page's mapping; `cached`: it is gone, and the page is in the swap cache. */
type Replaced = 'changed' | 'replaced' | 'cached';

/** Under the page-table lock: clear and flush the old entry, then map the new page, unless the entry has changed. */
function* replace(core: CoreMm, fault: Fault, old: number | undefined, head: number): Steps<Replaced> {
  const { folios } = core;
  const { mm, vma, vpn } = fault;
  willAddNewAnon(core, head, CLEAR);
  yield fault.lock(CLEAR);
  if (!fault.same) {
    fault.unlockNow();
    return 'changed';
  }
  mm.pageTable.clearPte(vpn);
  addNewAnonNow(core, vma, vpn, head);
  yield* call(flushTlbRange(core, mm, vpn, vpn + 1));
  yield* call(folioAddLru(core, head, true));

  const page = fault.orig.pfn;
  if (old !== undefined) {
    willUnmap(core, old, page, SET);
    willDeferSplit(core, old, SET);
  }
  yield fault.willUnlock(SET);
  const kept = fault.flags.unshare ? fault.orig.bits & (PTE_SOFT_DIRTY | PTE_UFFD_WP) : maybeMkwrite(vma);
  fault.set(core, head, PTE_PRESENT | PTE_YOUNG | kept);
  let cached = false;
  // Only now: whoever sees the old page mapped once less may reuse it and write to it.
  if (old !== undefined) {
    cached = (folios.flags.get(old) & PG_SWAPCACHE) !== 0;
    folios.removePteMapping(old, page);
    deferSplitNow(core, old, page);
  }
  fault.unlockNow();
  return cached ? 'cached' : 'replaced';
}

function willUnmap(core: CoreMm, head: number, page: number, at: Step): Announced {
  core.folios.flags.willUpdate(head, at);
  return core.folios.willMap(head, page, at);
}

/** After the window: drop our reference, and the mapping's with it when the page was replaced. */
function* putOld(core: CoreMm, old: number, result: Replaced): Steps<void> {
  if (result !== 'cached') {
    yield* call(folioPut(core, old, result === 'replaced' ? 2 : 1, 'wp_page_copy'));
    return;
  }
  yield* call(folioPut(core, old, 1, 'wp_page_copy'));
  yield* call(freeSwapCache(core, old));
  yield* call(folioPut(core, old, 1, 'wp_page_copy'));
}

/** free_swap_cache: drop the swap copy of a page that nobody maps any more, if the lock is free. */
function* freeSwapCache(core: CoreMm, head: number): Steps<void> {
  const { folios } = core;
  folios.mapcount.willRead(head, FREE_SWAP_CACHE);
  yield willTryLock(core, head, FREE_SWAP_CACHE);
  if ((folios.flags.get(head) & PG_SWAPCACHE) === 0 || folios.mapcountOf(head) > 0) return;
  if (!tryLockNow(core, head)) return;
  yield* call(folioFreeSwap(core, head));
  yield willUnlock(core, head, FREE_SWAP_CACHE);
  unlockNow(core, head);
}
