// Page tables that stand in the way of a huge page of the page cache (mm/khugepaged.c collapse_pte_mapped_thp,
// collapse_and_free_pmd): a table that maps its pages one by one, or nothing, goes; then the huge page is mapped by a PMD.
import { call, type Steps } from '../../engine/process.ts';
import { step } from '../../engine/step.ts';
import { PMD_ORDER, PMD_PAGES } from '../../hw/machine.ts';
import type { CoreMm } from '../core.ts';
import type { Inode } from '../file/inode.ts';
import { lockFolio, unlockNow, willUnlock } from '../folio-lock.ts';
import type { Vma } from '../mapping/vma.ts';
import { UFFD_WP } from '../mapping/vma.ts';
import type { Mm } from '../mm.ts';
import { PMD_LEAF, PMD_TABLE, PTE_DIRTY, PTE_PRESENT, PTE_WRITE, PTE_YOUNG, pteNone, ptePresent } from '../pte.ts';
import { folioPut, getNow, tryGetNow, willGet } from '../refcount.ts';
import { flushTlbRange, tlbRemoveTableSyncOne } from '../tlb.ts';
import type { ScanResult } from './collapse-scan.ts';

const RETRACT = step('collapse_and_free_pmd:pmdp_collapse_flush', 'pte-op');
const SET_PMD = step('set_huge_pmd', 'pte-op');
const FIND = step('collapse_pte_mapped_thp:find-vma', 'op');
const GET = step('collapse_pte_mapped_thp:find_lock_page', 'refcount');
const LOCK = step('collapse_pte_mapped_thp:lock_page', 'lock');
const UNLOCK = step('collapse_pte_mapped_thp:unlock_page', 'lock');
const MMAP = step('collapse_pte_mapped_thp:mmap_write_lock', 'lock');
const RMAP = step('collapse_pte_mapped_thp:i_mmap_lock_write', 'lock');
const CHECK = step('collapse_pte_mapped_thp:check', 'pte-op');
const UNMAP = step('collapse_pte_mapped_thp:page_remove_rmap', 'pte-op');

/**
 * collapse_and_free_pmd, retract_page_tables: the table of 2 MiB from `vpn` on is detached. Its entries are not told of
 * one by one: without `thp.collapse.file-notifier` no secondary MMU hears that they are gone.
 */
export function* retract(core: CoreMm, mm: Mm, vpn: number): Steps<void> {
  const { pageTable } = mm;
  const row = vpn / PMD_PAGES;
  const range = { mm, start: vpn, end: vpn + PMD_PAGES, event: 'CLEAR', blockable: true } as const;
  const notifies = core.kernel.has('thp.collapse.file-notifier');
  if (notifies) yield* call(mm.notifiers.start(range));
  pageTable.willUpdatePtes(vpn, vpn + PMD_PAGES - 1, RETRACT);
  pageTable.willUpdatePmd(row, RETRACT);
  yield pageTable.ptl.lock(row, RETRACT);
  const pmd = pageTable.pmd(row);
  if ((pmd.bits & PMD_TABLE) !== 0) {
    // The table's number stays behind: the next one here is another, and empty.
    pageTable.setPmd(row, pmd.pfn, 0, 0);
    for (let at = vpn; at < vpn + PMD_PAGES; at++) if (!pteNone(pageTable.pte(at).bits)) pageTable.clearPte(at);
    yield* call(flushTlbRange(core, mm, vpn, vpn + PMD_PAGES));
  }
  yield pageTable.ptl.unlock(row);
  if (notifies) yield* call(mm.notifiers.end(range));
}

/**
 * collapse_pte_mapped_thp of 6.1: `mm` maps pages of a huge page of the file by single entries; the table goes, and with
 * `install` a PMD takes its place. mmap_lock is taken for write; khugepaged only tries for it.
 */
export function* collapsePteMapped(
  core: CoreMm,
  mm: Mm,
  row: number,
  inode: Inode,
  install: boolean,
): Steps<ScanResult> {
  if (install) yield* call(mm.mmapLock.write());
  else {
    yield mm.mmapLock.willChange(MMAP);
    if (!mm.mmapLock.tryNow(true)) return 'PTE_MAPPED_HUGEPAGE';
  }
  const result = yield* call(collapseLocked(core, mm, row, inode, install));
  yield mm.mmapLock.up();
  return result;
}

function* collapseLocked(core: CoreMm, mm: Mm, row: number, inode: Inode, install: boolean): Steps<ScanResult> {
  const start = row * PMD_PAGES;
  yield mm.vmas.willRead(FIND);
  const vma = mm.vmaAt(start);
  if (vma === undefined || vma.fields.file !== inode || start + PMD_PAGES > vma.end) return 'VMA_CHECK';
  if (vma.userfaults(UFFD_WP)) return 'PTE_UFFD_WP';
  const index = vma.indexOf(start);
  const huge = yield* call(findLock(core, inode, index));
  if (huge === null) return 'PAGE_NULL';
  yield* call(inode.iMmapLock.write(RMAP));
  const removed = yield* call(removeRmaps(core, mm, row, huge));
  if (removed) {
    yield* call(retract(core, mm, start));
    if (core.kernel.has('thp.collapse.ipi-sync')) yield* call(tlbRemoveTableSyncOne(core));
  }
  yield inode.iMmapLock.up();
  let result: ScanResult = removed ? 'SUCCEED' : 'FAIL';
  if (removed && install) result = yield* call(setHugePmd(core, mm, vma, row, inode));
  yield willUnlock(core, huge, UNLOCK);
  unlockNow(core, huge);
  yield* call(folioPut(core, huge, 1, 'collapse_pte_mapped_thp'));
  return result;
}

/** find_lock_page: the huge page at `index`, locked and with a reference. */
function* findLock(core: CoreMm, inode: Inode, index: number): Steps<number | null> {
  for (;;) {
    const entry = inode.pages.peek(index);
    if (entry > 0) willGet(core, entry - 1, GET);
    yield inode.pages.willRead(index, GET);
    if (inode.pages.get(index) !== entry) continue;
    const huge = entry - 1;
    if (entry <= 0 || core.folios.orderOf(huge) !== PMD_ORDER || !tryGetNow(core, huge, 1)) return null;
    yield lockFolio(core, huge, LOCK);
    return huge;
  }
}

/** Steps 1 to 3: every entry is of the huge page, or nothing is done; then its mappings and references go. */
function* removeRmaps(core: CoreMm, mm: Mm, row: number, huge: number): Steps<boolean> {
  const { pageTable } = mm;
  const { folios } = core;
  const start = row * PMD_PAGES;
  pageTable.willReadPmd(row, CHECK);
  pageTable.willReadPtes(start, start + PMD_PAGES - 1, CHECK);
  yield pageTable.ptl.lock(row, CHECK);
  const mapped: number[] = [];
  let fits = (pageTable.pmd(row).bits & PMD_TABLE) !== 0;
  for (let i = 0; i < PMD_PAGES && fits; i++) {
    const { bits, pfn } = pageTable.pte(start + i);
    if (pteNone(bits)) continue;
    fits = ptePresent(bits) && pfn === huge + i;
    mapped.push(pfn);
  }
  folios.mapcount.willUpdateRange(huge, huge + PMD_PAGES - 1, UNMAP);
  willGet(core, huge, UNMAP);
  yield pageTable.ptl.willChange(row, UNMAP);
  if (fits) {
    for (const pfn of mapped) folios.removePteMapping(huge, pfn);
    // The page cache holds the folio: this is never the last reference.
    getNow(core, huge, -mapped.length);
  }
  pageTable.ptl.releaseNow(row);
  return fits;
}

/** After a collapse MADV_COLLAPSE maps the huge page, unless somebody was faster; nobody holds mmap_lock. */
export function* mapHere(core: CoreMm, mm: Mm, row: number, inode: Inode, index: number): Steps<ScanResult> {
  const start = row * PMD_PAGES;
  yield* call(mm.mmapLock.read());
  yield mm.vmas.willRead(FIND);
  const vma = mm.vmaAt(start);
  const fits =
    vma !== undefined && vma.fields.file === inode && vma.indexOf(start) === index && start + PMD_PAGES <= vma.end;
  const result: ScanResult = fits ? yield* call(setHugePmd(core, mm, vma, row, inode)) : 'VMA_CHECK';
  yield mm.mmapLock.up();
  return result;
}

/** set_huge_pmd; mmap_lock is held. */
function* setHugePmd(core: CoreMm, mm: Mm, vma: Vma, row: number, inode: Inode): Steps<ScanResult> {
  const { folios } = core;
  const { pageTable } = mm;
  const index = vma.indexOf(row * PMD_PAGES);
  for (;;) {
    // The look tells which page to announce; the act looks again.
    const entry = inode.pages.peek(index);
    const huge = entry - 1;
    if (entry > 0) {
      willGet(core, huge, SET_PMD);
      folios.willMap(huge, huge, SET_PMD);
      folios.flags.willRead(huge, SET_PMD);
    }
    inode.pages.willRead(index, SET_PMD);
    pageTable.willUpdatePmd(row, SET_PMD);
    yield pageTable.ptl.pass(row, SET_PMD);
    const pmd = pageTable.pmd(row);
    if ((pmd.bits & PMD_LEAF) !== 0) return 'PMD_MAPPED';
    if ((pmd.bits & PMD_TABLE) !== 0) return 'PAGE_NULL';
    if (inode.pages.get(index) !== entry) continue;
    if (entry <= 0 || folios.orderOf(huge) !== PMD_ORDER) return 'VMA_CHECK';
    getNow(core, huge, 1);
    folios.addPmdMapping(huge, 1);
    const write = vma.fields.write && vma.fields.shared ? PTE_WRITE | PTE_DIRTY : 0;
    pageTable.setPmd(row, huge, PMD_LEAF | PTE_PRESENT | PTE_YOUNG | write, core.frames.peekGeneration(huge));
    return 'SUCCEED';
  }
}
