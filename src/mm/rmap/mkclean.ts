// folio_mkclean (mm/rmap.c): make every shared mapping of a locked file folio read-only and clean, so that the next write
// by a CPU faults. Pins are not looked at. File folios are of one page here; shmem and hugetlb have no writeback.
import { call, type Steps } from '../../engine/process.ts';
import { step } from '../../engine/step.ts';
import type { CoreMm } from '../core.ts';
import { pmdOf } from '../page-table.ts';
import { PMD_TABLE, PTE_DIRTY, PTE_WRITE, ptePresent } from '../pte.ts';
import { flushTlbRange } from '../tlb.ts';
import { notifierRange } from '../zap/zap.ts';
import type { RmapPlace } from './rmap.ts';
import { rmapWalk } from './rmap-walk.ts';

const MAPPED = step('folio_mkclean:folio_mapped', 'op');
const CLEAR = step('page_vma_mkclean_one:ptep_clear_flush', 'pte-op');
const SET = step('page_vma_mkclean_one:set_pte_at', 'pte-op');

interface Count {
  cleaned: number;
}

/** folio_mkclean of a locked folio: how many entries were writable or dirty. */
export function* folioMkclean(core: CoreMm, head: number): Steps<number> {
  yield core.folios.mapcount.willRead(head, MAPPED);
  if (core.folios.mapcountOf(head) === 0) return 0;
  const count: Count = { cleaned: 0 };
  yield* call(rmapWalk(core, head, mkcleanOne, count));
  return count.cleaned;
}

/** page_mkclean_one: the window covers the whole part of the folio that the VMA may map (mmu-notifier.md C7). */
function* mkcleanOne(core: CoreMm, head: number, place: RmapPlace, count: Count): Steps<boolean> {
  const { mm, vma, vpn, pages, offset } = place;
  // invalid_mkclean_vma: the copies of private mappings are anonymous, and their file pages are read-only anyway.
  if (!vma.fields.shared) return true;
  const range = notifierRange(core, mm, vma, vpn, vpn + pages, 'PROTECTION_PAGE');
  yield* call(mm.notifiers.start(range));
  for (let i = 0; i < pages; i++) {
    if (yield* call(mkcleanPte(core, place, vpn + i, head + offset + i))) count.cleaned++;
  }
  yield* call(mm.notifiers.end(range));
  return true;
}

/** One entry: cleared and flushed, then put back read-only and clean. Between the two GUP-fast sees nothing. */
function* mkcleanPte(core: CoreMm, { mm }: RmapPlace, vpn: number, page: number): Steps<boolean> {
  const { pageTable } = mm;
  const row = pmdOf(vpn);
  pageTable.willReadPmd(row, CLEAR);
  pageTable.willUpdatePte(vpn, CLEAR);
  yield pageTable.ptl.lock(row, CLEAR);
  const table = (pageTable.pmd(row).bits & PMD_TABLE) !== 0;
  const pte = pageTable.pte(vpn);
  if (!table || !ptePresent(pte.bits) || pte.pfn !== page || (pte.bits & (PTE_DIRTY | PTE_WRITE)) === 0) {
    pageTable.ptl.releaseNow(row);
    return false;
  }
  pageTable.clearPte(vpn);
  yield* call(flushTlbRange(core, mm, vpn, vpn + 1));
  pageTable.willUpdatePte(vpn, SET);
  yield pageTable.ptl.willChange(row, SET);
  pageTable.setPte(vpn, pte.pfn, pte.bits & ~(PTE_DIRTY | PTE_WRITE), pte.generation);
  pageTable.ptl.releaseNow(row);
  return true;
}
