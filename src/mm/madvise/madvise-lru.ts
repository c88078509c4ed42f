// MADV_COLD and MADV_PAGEOUT (mm/madvise.c madvise_cold_or_pageout_pte_range): only folios mapped nowhere else; a large
// folio covered in part is split first. A pinned page is isolated like any other; reclaim then keeps it.
import { call, type Steps } from '../../engine/process.ts';
import { step } from '../../engine/step.ts';
import { PMD_PAGES } from '../../hw/machine.ts';
import type { CoreMm } from '../core.ts';
import type { Errno } from '../errno.ts';
import type { Vma } from '../mapping/vma.ts';
import type { Mm } from '../mm.ts';
import { PG_ACTIVE, PG_ANON, PG_LRU, PG_REFERENCED, PG_UNEVICTABLE } from '../page-flags.ts';
import { pmdOf } from '../page-table.ts';
import { PMD_LEAF, PMD_TABLE, PTE_YOUNG, type Pte, ptePresent } from '../pte.ts';
import { isolateNow, lruAddDrain } from '../reclaim/lru.ts';
import { type MmuGather, tlbFinish, tlbFlushBatchedPending, tlbGather } from '../tlb.ts';
import { normalHead } from '../zap/zap-entry.ts';
import { hugeHead } from '../zap/zap-huge.ts';
import { reclaimIsolated } from './madvise-hooks.ts';
import { splitLocked, wholeFolio } from './madvise-split.ts';

const WALK = step('madvise_cold_or_pageout:walk', 'none');
const LOCK = step('madvise_cold_or_pageout_pte_range:lock', 'lock');
const LOOK = step('madvise_cold_or_pageout_pte_range', 'pte-op');
const UNLOCK = step('madvise_cold_or_pageout_pte_range:unlock', 'lock');

interface Cold {
  readonly core: CoreMm;
  readonly mm: Mm;
  readonly vma: Vma;
  readonly gather: MmuGather;
  readonly pageout: boolean;
  /** Pages of the file stay: the caller may not write it. */
  readonly anonOnly: boolean;
  /** Isolated so far under the current table. */
  isolated: number[];
}

/**
 * can_do_file_pageout: of a file that the caller may not write, paging out would tell who else uses it. CAP_FOWNER and
 * CAP_DAC_OVERRIDE are not modelled: root has them, nobody else does.
 */
function mayPageOut(core: CoreMm, vma: Vma): boolean {
  const { uid } = core.current.user;
  const owner = vma.fields.file?.ownerUid ?? uid;
  return vma.anonymous || uid === owner || uid === 0;
}

/** EINVAL: locked, hugetlb or raw frames (can_madv_lru_vma). mmap_lock is held for read. */
export function* madviseCold(
  core: CoreMm,
  mm: Mm,
  vma: Vma,
  from: number,
  to: number,
  pageout: boolean,
): Steps<'ok' | Errno> {
  if (vma.fields.locked || vma.fields.pfnMapping !== null || vma.hugetlb) return 'EINVAL';
  const anonOnly = pageout && !mayPageOut(core, vma);
  if (anonOnly && !(vma.cow && core.kernel.has('reclaim.pageout-of-private-copies'))) return 'ok';
  yield* call(lruAddDrain(core));
  const gather = yield* call(tlbGather(core, mm));
  const cold: Cold = { core, mm, vma, gather, pageout, anonOnly, isolated: [] };
  const first = pmdOf(from);
  yield mm.pageTable.willReadPmds(first, pmdOf(to - 1), WALK);
  for (const row of mm.pageTable.populatedRows(first, pmdOf(to - 1))) {
    yield* call(coldRow(cold, row, Math.max(from, row * PMD_PAGES), Math.min(to, (row + 1) * PMD_PAGES)));
    const { isolated } = cold;
    cold.isolated = [];
    yield* call(reclaimIsolated(core, isolated));
  }
  yield* call(tlbFinish(core, gather));
  return 'ok';
}

function* coldRow(cold: Cold, row: number, from: number, to: number): Steps<void> {
  const { core, mm } = cold;
  const leaf = mm.pageTable.peekPmd(row);
  if ((leaf.bits & PMD_LEAF) !== 0) {
    const head = hugeHead(cold, leaf);
    if (head === undefined || !concerns(cold, head)) return;
    if (to - from === PMD_PAGES) {
      yield* call(coldHuge(cold, row, head));
      return;
    }
    // Mapped by others, or not to be split: left alone.
    if (core.folios.peekMapcount(head) > 1 || !(yield* call(splitLocked(core, mm, head)))) return;
  }
  yield* call(coldPtes(cold, row, from, to));
}

/** Not: a page of the file where only private copies are paged out. */
function concerns({ core, anonOnly }: Cold, head: number): boolean {
  return !anonOnly || core.folios.has(head, PG_ANON);
}

function* coldHuge(cold: Cold, row: number, head: number): Steps<void> {
  const { core, mm } = cold;
  const { pageTable } = mm;
  willTake(cold, head);
  core.folios.mapcount.willRead(head, LOOK);
  pageTable.willUpdatePmd(row, LOOK);
  yield pageTable.ptl.pass(row, LOOK);
  const pmd = pageTable.pmd(row);
  if ((pmd.bits & PMD_LEAF) === 0 || hugeHead(cold, pmd) !== head || core.folios.mapcountOf(head) > 1) return;
  if (clearsYoung(cold) && (pmd.bits & PTE_YOUNG) !== 0) {
    pageTable.setPmd(row, pmd.pfn, pmd.bits & ~PTE_YOUNG, pmd.generation);
    cold.gather.note(row * PMD_PAGES, (row + 1) * PMD_PAGES);
  }
  takeNow(cold, head);
}

function* coldPtes(cold: Cold, row: number, from: number, to: number): Steps<void> {
  const { core, mm } = cold;
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
    if (head === undefined || !concerns(cold, head)) {
      vpn++;
      continue;
    }
    const pages = wholeFolio(core, mm, vpn, to, head);
    if (pages === null) {
      // Covered in part. The lock is dropped for the split; whatever came of it, this entry is looked at again or passed.
      const shared = core.folios.peekMapcount(head) > core.folios.pagesOf(head);
      if (shared) vpn++;
      else {
        yield pageTable.ptl.unlock(row, UNLOCK);
        if (!(yield* call(splitLocked(core, mm, head)))) vpn++;
        yield pageTable.ptl.lock(row, LOCK);
        if (core.kernel.has('tlb.deferred-flush-recheck-after-relock')) yield* call(tlbFlushBatchedPending(core, mm));
      }
      continue;
    }
    yield* call(coldEntry(cold, vpn, pages, head));
    vpn += pages;
  }
  yield pageTable.ptl.unlock(row, UNLOCK);
}

/** One folio, mapped by `pages` entries from `vpn` on. */
function* coldEntry(cold: Cold, vpn: number, pages: number, head: number): Steps<void> {
  const { core, mm, gather } = cold;
  const { folios } = core;
  const { pageTable } = mm;
  willTake(cold, head);
  folios.mapcount.willRead(head, LOOK);
  yield core.sim.times(pages, pageTable.willUpdatePtes(vpn, vpn + pages - 1, LOOK));
  const first: Pte = pageTable.pte(vpn);
  if (normalHead(core, first) !== head) return;
  if ((folios.flags.get(head) & PG_LRU) === 0 || folios.mapcountOf(head) !== folios.pagesOf(head)) return;
  if (clearsYoung(cold)) {
    for (let at = vpn; at < vpn + pages; at++) {
      const pte = pageTable.pte(at);
      if ((pte.bits & PTE_YOUNG) === 0) continue;
      pageTable.setPte(at, pte.pfn, pte.bits & ~PTE_YOUNG, pte.generation);
      gather.note(at, at + 1);
    }
  }
  takeNow(cold, head);
}

/** Until 6.9 MADV_PAGEOUT, too, makes the entries old, so that reclaim does not keep the page for them. */
function clearsYoung({ core, pageout }: Cold): boolean {
  return !pageout || !core.kernel.has('reclaim.pageout-ignores-references');
}

function willTake({ core, pageout }: Cold, head: number): void {
  core.folios.flags.willUpdate(head, LOOK);
  if (!pageout) return;
  core.folios.refcount.willUpdate(head, LOOK);
  core.lru.willAdd(LOOK);
}

/** Isolate for reclaim, or move to the inactive list. */
function takeNow(cold: Cold, head: number): void {
  const { core } = cold;
  const { folios } = core;
  folios.change(head, 0, PG_REFERENCED);
  if (!cold.pageout) {
    // folio_deactivate
    if ((folios.flags.get(head) & PG_UNEVICTABLE) === 0) folios.change(head, 0, PG_ACTIVE);
    return;
  }
  if ((folios.flags.get(head) & PG_UNEVICTABLE) === 0 && isolateNow(core, head)) cold.isolated.push(head);
}
