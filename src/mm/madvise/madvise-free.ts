// MADV_FREE (mm/madvise.c madvise_free_single_vma): anonymous pages become lazyfree: clean, old, and droppable by reclaim
// without IO unless written again. No pin is asked; a pinned page just cannot be dropped.
import { call, type Steps } from '../../engine/process.ts';
import { step } from '../../engine/step.ts';
import { PMD_PAGES } from '../../hw/machine.ts';
import type { CoreMm } from '../core.ts';
import type { Errno } from '../errno.ts';
import { tryLockNow, unlockNow, willTryLock, willUnlock } from '../folio-lock.ts';
import type { Vma } from '../mapping/vma.ts';
import type { Mm } from '../mm.ts';
import { PG_DIRTY, PG_SWAPCACHE } from '../page-flags.ts';
import { pmdOf } from '../page-table.ts';
import { PMD_LEAF, PMD_TABLE, PTE_DIRTY, PTE_HWPOISON, PTE_SWAP, PTE_YOUNG, ptePresent } from '../pte.ts';
import { folioMarkLazyfree, lruAddDrain } from '../reclaim/lru.ts';
import { folioFreeSwap } from '../swap/swap-cache.ts';
import { freeSwapNow, willFreeSwap } from '../swap/swap-slots.ts';
import { splitHugePmd } from '../thp/huge-pmd.ts';
import { type MmuGather, tlbFinish, tlbFlushBatchedPending, tlbGather } from '../tlb.ts';
import { notifierRange } from '../zap/zap.ts';
import { normalHead } from '../zap/zap-entry.ts';
import { hugeHead } from '../zap/zap-huge.ts';
import { splitLocked, wholeFolio } from './madvise-split.ts';
import { dontneedEnd } from './madvise-zap.ts';

const WALK = step('madvise_free:walk', 'none');
const LOCK = step('madvise_free_pte_range:lock', 'lock');
const DROP = step('madvise_free_pte_range:free-swap', 'pte-op');
const TRYLOCK = step('madvise_free_pte_range:folio_trylock', 'lock');
const CLEAN = step('madvise_free_pte_range:folio_clear_dirty', 'op');
const OLD = step('madvise_free_pte_range:clear-young-dirty', 'pte-op');
const LAZY = step('folio_mark_lazyfree', 'op');
const UNLOCK = step('madvise_free_pte_range:unlock', 'lock');

interface Free {
  readonly core: CoreMm;
  readonly mm: Mm;
  readonly vma: Vma;
  readonly gather: MmuGather;
}

/** EINVAL: not anonymous, locked, hugetlb or raw frames. mmap_lock is held for read. */
export function* madviseFree(core: CoreMm, mm: Mm, vma: Vma, from: number, to: number): Steps<'ok' | Errno> {
  if (!vma.anonymous || vma.fields.shared || dontneedEnd(core, vma, from, to, false) === null) return 'EINVAL';
  const range = notifierRange(core, mm, vma, from, to, 'CLEAR');
  yield* call(lruAddDrain(core));
  const gather = yield* call(tlbGather(core, mm));
  yield* call(mm.notifiers.start(range));
  yield mm.pageTable.willReadPmds(pmdOf(from), pmdOf(to - 1), WALK);
  for (const row of mm.pageTable.populatedRows(pmdOf(from), pmdOf(to - 1))) {
    const free: Free = { core, mm, vma, gather };
    yield* call(freeRow(free, row, Math.max(from, row * PMD_PAGES), Math.min(to, (row + 1) * PMD_PAGES)));
  }
  yield* call(mm.notifiers.end(range));
  yield* call(tlbFinish(core, gather));
  return 'ok';
}

function* freeRow(free: Free, row: number, from: number, to: number): Steps<void> {
  const { core, mm, vma } = free;
  const leaf = mm.pageTable.peekPmd(row);
  if ((leaf.bits & PMD_LEAF) !== 0) {
    const head = hugeHead(free, leaf);
    if (head === undefined || core.folios.peekMapcount(head) !== 1) return;
    if (to - from === PMD_PAGES) {
      yield* call(freeHuge(free, row, head));
      return;
    }
    // The folio is split if that is possible; the PMD in any case when its pages are to be treated apart.
    if (!(yield* call(splitLocked(core, mm, head)))) return;
    if ((mm.pageTable.peekPmd(row).bits & PMD_LEAF) !== 0) yield* call(splitHugePmd(core, mm, vma, row));
  }
  yield* call(freePtes(free, row, from, to));
}

/** madvise_free_huge_pmd */
function* freeHuge(free: Free, row: number, head: number): Steps<void> {
  const { core, mm, gather } = free;
  const { pageTable } = mm;
  if (!(yield* call(cleanFolio(core, head)))) return;
  pageTable.willUpdatePmd(row, OLD);
  yield pageTable.ptl.lock(row, OLD);
  const pmd = pageTable.pmd(row);
  if ((pmd.bits & PMD_LEAF) !== 0 && hugeHead(free, pmd) === head) {
    if ((pmd.bits & (PTE_YOUNG | PTE_DIRTY)) !== 0) {
      pageTable.setPmd(row, pmd.pfn, pmd.bits & ~(PTE_YOUNG | PTE_DIRTY), pmd.generation);
      gather.note(row * PMD_PAGES, (row + 1) * PMD_PAGES);
    }
    yield* call(folioMarkLazyfree(core, head, LAZY));
  }
  yield pageTable.ptl.unlock(row, UNLOCK);
}

function* freePtes(free: Free, row: number, from: number, to: number): Steps<void> {
  const { core, mm } = free;
  const { pageTable } = mm;
  pageTable.willReadPmd(row, LOCK);
  yield pageTable.ptl.lock(row, LOCK);
  if ((pageTable.pmd(row).bits & PMD_TABLE) === 0) {
    pageTable.ptl.releaseNow(row);
    return;
  }
  yield* call(tlbFlushBatchedPending(core, mm));
  for (let vpn = from; vpn < to; ) {
    const pte = pageTable.peekPte(vpn);
    const head = ptePresent(pte.bits) ? normalHead(core, pte) : undefined;
    if (head === undefined) {
      if ((pte.bits & (PTE_SWAP | PTE_HWPOISON)) !== 0) yield* call(dropAbsent(free, vpn));
      vpn++;
      continue;
    }
    const pages = wholeFolio(core, mm, vpn, to, head);
    if (pages === null) {
      yield pageTable.ptl.unlock(row, UNLOCK);
      if (!(yield* call(splitLocked(core, mm, head)))) vpn++;
      yield pageTable.ptl.lock(row, LOCK);
      if (core.kernel.has('tlb.deferred-flush-recheck-after-relock')) yield* call(tlbFlushBatchedPending(core, mm));
      continue;
    }
    yield* call(freeEntry(free, vpn, pages, head));
    vpn += pages;
  }
  yield pageTable.ptl.unlock(row, UNLOCK);
}

/** A swapped page needs not be read back to be dropped; a poisoned one becomes a hole. */
function* dropAbsent({ core, mm }: Free, vpn: number): Steps<void> {
  const { pageTable } = mm;
  const seen = pageTable.peekPte(vpn);
  if ((seen.bits & PTE_SWAP) !== 0) willFreeSwap(core, seen.pfn, DROP);
  yield pageTable.willUpdatePte(vpn, DROP);
  const pte = pageTable.pte(vpn);
  if (pte.bits !== seen.bits || pte.pfn !== seen.pfn) return;
  if ((pte.bits & PTE_SWAP) !== 0) freeSwapNow(core, pte.pfn);
  pageTable.clearPte(vpn);
}

function* freeEntry({ core, mm, gather }: Free, vpn: number, pages: number, head: number): Steps<void> {
  const { pageTable } = mm;
  if (!(yield* call(cleanFolio(core, head)))) return;
  yield core.sim.times(pages, pageTable.willUpdatePtes(vpn, vpn + pages - 1, OLD));
  for (let at = vpn; at < vpn + pages; at++) {
    const pte = pageTable.pte(at);
    if (!ptePresent(pte.bits) || (pte.bits & (PTE_YOUNG | PTE_DIRTY)) === 0) continue;
    pageTable.setPte(at, pte.pfn, pte.bits & ~(PTE_YOUNG | PTE_DIRTY), pte.generation);
    gather.note(at, at + 1);
  }
  yield* call(folioMarkLazyfree(core, head, LAZY));
}

/** Out of the swap cache and clean. False: locked, shared, or its slot is still in use: left as it is. */
function* cleanFolio(core: CoreMm, head: number): Steps<boolean> {
  const { folios } = core;
  folios.mapcount.willRead(head, TRYLOCK);
  yield willTryLock(core, head, TRYLOCK);
  const flags = folios.flags.get(head);
  if ((flags & (PG_SWAPCACHE | PG_DIRTY)) === 0) return true;
  if (!tryLockNow(core, head)) return false;
  const mappings = folios.mapcountOf(head);
  const alone = mappings === 1 || mappings === folios.pagesOf(head);
  const free = alone && ((flags & PG_SWAPCACHE) === 0 || (yield* call(folioFreeSwap(core, head))));
  yield willUnlock(core, head, CLEAN);
  if (free) folios.change(head, 0, PG_DIRTY);
  unlockNow(core, head);
  return free;
}
