// Zapping a huge page mapped whole (mm/huge_memory.c zap_huge_pmd, mm/hugetlb.c __unmap_hugepage_range).
import { call, type Steps } from '../../engine/process.ts';
import { step } from '../../engine/step.ts';
import { PMD_PAGES } from '../../hw/machine.ts';
import type { CoreMm } from '../core.ts';
import { restoreZapped } from '../hugetlb/hugetlb-reserve.ts';
import { PG_ANON, PG_RESTORE_RESERVE } from '../page-flags.ts';
import { PMD_LEAF, PTE_DIRTY, PTE_MIGRATION, type Pte, ptePresent } from '../pte.ts';
import { releasePages } from '../tlb.ts';
import { markDirtyNow, willMarkDirty } from '../writeback/mark-dirty.ts';
import { munlockNow, reportDropped, type Zap } from './zap-entry.ts';

const ZAP_HUGE = step('zap_huge_pmd', 'pte-op');

/** The folio that a leaf maps, or undefined: huge zero page, migration entry, raw frames. */
export function hugeHead(zap: Pick<Zap, 'core'>, pmd: Pte): number | undefined {
  if (!ptePresent(pmd.bits) || pmd.pfn === zap.core.hugeZeroPfn) return undefined;
  if (!zap.core.machine.hasStructPage(pmd.pfn)) return undefined;
  return zap.core.folios.headOf(pmd.pfn);
}

/** PMD rows that one mapping of the folio fills: 512 for a 1 GiB page, whose first row stands for all of them. */
export function rowsOf(core: CoreMm, head: number | undefined): number {
  return head === undefined ? 1 : Math.max(1, core.folios.pagesOf(head) / PMD_PAGES);
}

/** Zap the leaf of `row`. False: it is no leaf (any more), or it changed. */
export function* zapHugeRow(zap: Zap, row: number): Steps<boolean> {
  const { core, mm, gather, vma } = zap;
  const { pageTable } = mm;
  const seen = pageTable.peekPmd(row);
  const head = hugeHead(zap, seen);
  const rows = rowsOf(core, head);
  if (head !== undefined) {
    core.folios.willMap(head, head, ZAP_HUGE);
    willMarkDirty(core, head, ZAP_HUGE);
    for (let i = 1; i < rows; i++) pageTable.willUpdatePmd(row + i, ZAP_HUGE);
  }
  if (core.machine.arch.noGather) for (const cpu of mm.cpumask.peek()) cpu.tlb.willUpdate(ZAP_HUGE);
  pageTable.willUpdatePmd(row, ZAP_HUGE);
  yield pageTable.ptl.pass(row, ZAP_HUGE);
  const pmd = pageTable.pmd(row);
  if ((pmd.bits & PMD_LEAF) === 0 || pmd.pfn !== seen.pfn || ptePresent(pmd.bits) !== ptePresent(seen.bits))
    return false;
  if (spares(zap, pmd, head)) return true;
  const vpn = row * PMD_PAGES;
  for (let i = 0; i < rows; i++) pageTable.setPmd(row + i, pmd.pfn, 0, 0);
  if ((pmd.bits & PTE_MIGRATION) !== 0) return true;
  gather.note(vpn, vpn + rows * PMD_PAGES);
  if (core.machine.arch.noGather) for (const cpu of mm.cpumask.peek()) cpu.flush(mm.asid, vpn, vpn + rows * PMD_PAGES);
  if (head === undefined) return true;
  if ((pmd.bits & PTE_DIRTY) !== 0 && (vma.hugetlb || (core.folios.flags.get(head) & PG_ANON) === 0)) {
    markDirtyNow(core, head);
  }
  core.folios.addPmdMapping(head, -1);
  if (vma.fields.locked) munlockNow(core, head);
  reportDropped(core, head, head, core.folios.pagesOf(head), core.folios.mapcountOf(head));
  const restores = restoresReservation(zap, head);
  if (restores) core.folios.change(head, PG_RESTORE_RESERVE);
  gather.addPage(head, 1);
  if (restores) yield* call(restoreZapped(vma, vpn));
  if (core.machine.arch.noGather) yield* call(releasePages(core, gather.take().pages));
  return true;
}

/** The last to map a page of a private hugetlb mapping is the one to which it was promised: it is promised again. */
function restoresReservation({ core, vma }: Zap, head: number): boolean {
  if (vma.fields.reservation === null || (core.folios.flags.get(head) & PG_ANON) === 0) return false;
  return core.folios.mapcountOf(head) === 0 && core.kernel.has('hugetlb.zap-restores-reservation');
}

function spares(zap: Zap, pmd: Pte, head: number | undefined): boolean {
  const { details, core } = zap;
  const folio = head ?? ((pmd.bits & PTE_MIGRATION) !== 0 ? core.folios.headOf(pmd.pfn) : undefined);
  if (details.singleFolio !== undefined && details.singleFolio !== folio) return true;
  return !details.evenCows && folio !== undefined && core.folios.isAnon(folio);
}
