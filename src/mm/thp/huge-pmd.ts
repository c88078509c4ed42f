// Splitting a PMD mapping into PTEs (mm/huge_memory.c __split_huge_pmd). It works with pins, because pins belong to the
// folio: the same frames stay mapped. Anonymous memory gets 512 PTEs, file memory is unmapped and faults again.
import { call, type Steps } from '../../engine/process.ts';
import { step } from '../../engine/step.ts';
import { PMD_PAGES } from '../../hw/machine.ts';
import type { CoreMm } from '../core.ts';
import type { Vma } from '../mapping/vma.ts';
import type { Mm } from '../mm.ts';
import { PG_DIRTY } from '../page-flags.ts';
import {
  PMD_INVALID,
  PMD_LEAF,
  PMD_TABLE,
  PTE_DIRTY,
  PTE_EXCLUSIVE,
  PTE_MIGRATION,
  PTE_PRESENT,
  PTE_PROTNONE,
  PTE_SOFT_DIRTY,
  PTE_SPECIAL,
  PTE_UFFD_WP,
  PTE_WRITE,
  PTE_YOUNG,
  type Pte,
} from '../pte.ts';
import { getNow, putNow, willPut } from '../refcount.ts';
import { flushTlbRange } from '../tlb.ts';

const SMALL = step('__split_huge_pmd:small', 'lock');
const INVALIDATE = step('__split_huge_pmd:invalidate', 'pte-op');
const CLEAR = step('__split_huge_pmd:clear-file', 'pte-op');
const POPULATE = step('__split_huge_pmd:populate', 'pte-op');
const UNLOCK = step('__split_huge_pmd:unlock', 'lock');
const PUT = step('__split_huge_pmd:put-file', 'refcount');

/** __split_huge_pmd with its notifier window. Nothing happens when the entry is no leaf. */
export function* splitHugePmd(core: CoreMm, mm: Mm, vma: Vma, row: number): Steps<void> {
  if ((mm.pageTable.peekPmd(row).bits & PMD_LEAF) === 0) return;
  const start = row * PMD_PAGES;
  const range = { mm, start, end: start + PMD_PAGES, event: 'CLEAR', blockable: true } as const;
  yield* call(mm.notifiers.start(range));
  yield* call(splitHugePmdLocked(core, mm, vma, row));
  yield* call(mm.notifiers.end(range));
}

/**
 * split_huge_pmd_address: the notifiers hear of it whether the entry is huge or not, as long as there is a table that could
 * hold it. mmap_lock is held for write.
 */
export function* splitHugePmdAddress(core: CoreMm, mm: Mm, vma: Vma, row: number): Steps<void> {
  const { pageTable } = mm;
  if (!pageTable.peekPmdTable(row)) return;
  const start = row * PMD_PAGES;
  const range = { mm, start, end: start + PMD_PAGES, event: 'CLEAR', blockable: true } as const;
  yield* call(mm.notifiers.start(range));
  if ((pageTable.peekPmd(row).bits & PMD_LEAF) !== 0) yield* call(splitHugePmdLocked(core, mm, vma, row));
  else {
    pageTable.willReadPmd(row, SMALL);
    yield pageTable.ptl.pass(row, SMALL);
  }
  yield* call(mm.notifiers.end(range));
}

/** split_huge_pmd_locked; takes and leaves the page-table lock. The notifier window is the caller's. */
export function* splitHugePmdLocked(core: CoreMm, mm: Mm, vma: Vma, row: number): Steps<void> {
  const { pageTable } = mm;
  const anonymous = vma.anonymous || core.folios.isAnon(core.folios.headOf(pageTable.peekPmd(row).pfn));
  if (!anonymous) {
    yield* call(dropFilePmd(core, mm, row));
    return;
  }
  pageTable.willUpdatePmd(row, INVALIDATE);
  yield pageTable.ptl.lock(row, INVALIDATE);
  const pmd = pageTable.pmd(row);
  if ((pmd.bits & PMD_LEAF) === 0) {
    pageTable.ptl.releaseNow(row);
    return;
  }
  const present = (pmd.bits & (PTE_PRESENT | PTE_PROTNONE)) !== 0;
  if (present) {
    pageTable.setPmd(row, pmd.pfn, (pmd.bits & ~PTE_PRESENT) | PMD_INVALID, pmd.generation);
    yield* call(flushTlbRange(core, mm, row * PMD_PAGES, (row + 1) * PMD_PAGES));
  }
  yield* call(populate(core, mm, row, pmd));
}

/** The table replaces the leaf: references, mapcounts and the exclusive flag go from the whole to the pages. */
function* populate(core: CoreMm, mm: Mm, row: number, pmd: Pte): Steps<void> {
  const { pageTable } = mm;
  const { folios } = core;
  const first = row * PMD_PAGES;
  const last = first + PMD_PAGES - 1;
  const head = pmd.pfn;
  const counted = (pmd.bits & PTE_MIGRATION) === 0 && head !== core.hugeZeroPfn;
  if (counted) {
    folios.refcount.willUpdate(head, POPULATE);
    folios.flags.willUpdate(head, POPULATE);
    folios.mapcount.willUpdateRange(head, head + PMD_PAGES - 1, POPULATE);
    folios.anonExclusive.willUpdateRange(head, head + PMD_PAGES - 1, POPULATE);
  }
  pageTable.willUpdatePtes(first, last, POPULATE);
  pageTable.willUpdatePmd(row, POPULATE);
  yield pageTable.ptl.willChange(row, POPULATE);
  if (head === core.hugeZeroPfn) {
    for (let vpn = first; vpn <= last; vpn++) {
      pageTable.setPte(vpn, core.zeroPfn, PTE_PRESENT | PTE_SPECIAL | (pmd.bits & PTE_UFFD_WP), 0);
    }
  } else {
    const kept = PTE_PRESENT | PTE_PROTNONE | PTE_WRITE | PTE_DIRTY | PTE_YOUNG | PTE_UFFD_WP | PTE_SOFT_DIRTY;
    // Read again: the CPU may have set accessed and dirty until the flush.
    const now = pageTable.pmd(row).bits;
    const bits = counted
      ? (pmd.bits & kept) | (now & (PTE_DIRTY | PTE_YOUNG))
      : pmd.bits & (PTE_MIGRATION | PTE_WRITE | PTE_EXCLUSIVE | PTE_UFFD_WP | PTE_SOFT_DIRTY | PTE_DIRTY | PTE_YOUNG);
    for (let i = 0; i < PMD_PAGES; i++) pageTable.setPte(first + i, head + i, bits, pmd.generation);
  }
  if (counted) {
    if ((pageTable.pte(first).bits & PTE_DIRTY) !== 0) folios.change(head, PG_DIRTY);
    folios.anonExclusive.fill(head, head + PMD_PAGES - 1, folios.anonExclusive.get(head));
    folios.addPmdMapping(head, -1);
    folios.mapcount.addRange(head, head + PMD_PAGES - 1, 1);
    folios.largeMapcount.set(head, folios.largeMapcount.get(head) + PMD_PAGES);
    getNow(core, head, PMD_PAGES - 1);
  }
  pageTable.setPmd(row, pageTable.pmd(row).pfn + 1, PMD_TABLE, 0);
  pageTable.ptl.releaseNow(row);
}

/** File and shmem memory: the mapping just goes; the next access faults the page in again. */
function* dropFilePmd(core: CoreMm, mm: Mm, row: number): Steps<void> {
  const { pageTable } = mm;
  const { folios } = core;
  const head = folios.headOf(pageTable.peekPmd(row).pfn);
  folios.willMap(head, head, CLEAR);
  folios.flags.willUpdate(head, CLEAR);
  pageTable.willUpdatePmd(row, CLEAR);
  yield pageTable.ptl.lock(row, CLEAR);
  const pmd = pageTable.pmd(row);
  if ((pmd.bits & PMD_LEAF) === 0) {
    pageTable.ptl.releaseNow(row);
    return;
  }
  pageTable.setPmd(row, pmd.pfn, 0, 0);
  const mapped = (pmd.bits & PTE_MIGRATION) === 0;
  // Raw frames (a BAR mapped by a leaf) have no counts: the entry goes, and faults put pages in its place.
  const counted = mapped && core.machine.hasStructPage(pmd.pfn);
  if (counted) {
    if ((pmd.bits & PTE_DIRTY) !== 0) folios.change(head, PG_DIRTY);
    folios.addPmdMapping(head, -1);
  }
  if (mapped) yield* call(flushTlbRange(core, mm, row * PMD_PAGES, (row + 1) * PMD_PAGES));
  yield pageTable.ptl.unlock(row, UNLOCK);
  if (!counted) return;
  yield willPut(core, head, PUT);
  putNow(core, head, 1, '__split_huge_pmd');
}
