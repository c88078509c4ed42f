// What khugepaged finds in a range before it collapses it (mm/khugepaged.c hpage_collapse_scan_pmd), the results it
// knows, and which errno MADV_COLLAPSE makes of them.
import { call, type Steps } from '../../engine/process.ts';
import { step } from '../../engine/step.ts';
import { PMD_PAGES } from '../../hw/machine.ts';
import type { CoreMm } from '../core.ts';
import type { Errno } from '../errno.ts';
import type { Vma } from '../mapping/vma.ts';
import type { Mm } from '../mm.ts';
import { PG_ANON, PG_LOCKED, PG_LRU, PG_PRIVATE, PG_SWAPCACHE } from '../page-flags.ts';
import {
  PMD_LEAF,
  PMD_TABLE,
  PTE_SPECIAL,
  PTE_SWAP,
  PTE_UFFD_WP,
  PTE_WRITE,
  PTE_YOUNG,
  type Pte,
  pteNone,
  ptePresent,
} from '../pte.ts';

const LOCK = step('hpage_collapse_scan_pmd:lock', 'lock');
const LOOK = step('hpage_collapse_scan_pmd:look', 'op');
const UNLOCK = step('hpage_collapse_scan_pmd:unlock', 'lock');

/** enum scan_result, the ones that can happen here. */
export type ScanResult =
  | 'SUCCEED'
  | 'FAIL'
  | 'PMD_NULL'
  | 'PMD_MAPPED'
  | 'PTE_NON_PRESENT'
  | 'PTE_UFFD_WP'
  | 'PAGE_RO'
  | 'LACK_REFERENCED_PAGE'
  | 'PAGE_NULL'
  | 'PAGE_COUNT'
  | 'PAGE_LRU'
  | 'PAGE_LOCK'
  | 'PAGE_ANON'
  | 'ANY_PROCESS'
  | 'VMA_NULL'
  | 'VMA_CHECK'
  | 'ADDRESS_RANGE'
  | 'DEL_PAGE_LRU'
  | 'ALLOC_HUGE_PAGE_FAIL'
  | 'TRUNCATED'
  | 'EXCEED_NONE_PTE'
  | 'EXCEED_SWAP_PTE'
  | 'EXCEED_SHARED_PTE'
  | 'PAGE_DIRTY_OR_WRITEBACK'
  | 'PTE_MAPPED_HUGEPAGE';

/** madvise_collapse_errno */
export function collapseErrno(result: ScanResult): Errno {
  switch (result) {
    case 'ALLOC_HUGE_PAGE_FAIL':
      return 'ENOMEM';
    case 'EXCEED_NONE_PTE':
      return 'EBUSY';
    case 'PAGE_COUNT':
    case 'PAGE_LOCK':
    case 'PAGE_LRU':
    case 'DEL_PAGE_LRU':
    case 'PAGE_DIRTY_OR_WRITEBACK':
      return 'EAGAIN';
    default:
      return 'EINVAL';
  }
}

/** Results after which MADV_COLLAPSE goes on with the next huge page of its range. */
export const GOES_ON: readonly ScanResult[] = [
  'PMD_NULL',
  'PTE_NON_PRESENT',
  'PTE_UFFD_WP',
  'PAGE_RO',
  'LACK_REFERENCED_PAGE',
  'PAGE_NULL',
  'PAGE_COUNT',
  'PAGE_LOCK',
  'PAGE_LRU',
  'DEL_PAGE_LRU',
];

/** khugepaged's limits (max_ptes_none, _swap, _shared); MADV_COLLAPSE ignores them. */
export interface CollapseLimits {
  readonly none: number;
  readonly swap: number;
  readonly shared: number;
}
export const KHUGEPAGED_LIMITS: CollapseLimits = { none: PMD_PAGES - 1, swap: PMD_PAGES >> 3, shared: PMD_PAGES >> 1 };

export type Scanned = { readonly unmapped: number; readonly referenced: number } | Exclude<ScanResult, 'SUCCEED'>;

/** is_refcount_suitable: mappings and caches explain every reference. In a step that announced `willCompareRefs`. */
export function isRefcountSuitable(core: CoreMm, head: number): boolean {
  const { folios } = core;
  const flags = folios.flags.get(head);
  let expected = folios.mapcountOf(head);
  if ((flags & PG_ANON) === 0 || (flags & PG_SWAPCACHE) !== 0) expected += folios.pagesOf(head);
  if ((flags & PG_PRIVATE) !== 0) expected += 1;
  return folios.refcount.get(head) === expected;
}

/** vm_normal_page of an anonymous area. */
export function normalPfn(core: CoreMm, pte: Pte): number | undefined {
  return (pte.bits & PTE_SPECIAL) !== 0 || !core.machine.hasStructPage(pte.pfn) ? undefined : pte.pfn;
}

/**
 * hpage_collapse_scan_pmd, up to its verdict; mmap_lock is held for read. `limits` null: MADV_COLLAPSE. Nothing is
 * changed, and no notifier hears of it.
 */
export function* scanPmd(core: CoreMm, mm: Mm, vma: Vma, row: number, limits: CollapseLimits | null): Steps<Scanned> {
  const { pageTable } = mm;
  const first = row * PMD_PAGES;
  pageTable.willReadPmd(row, LOCK);
  pageTable.willReadPtes(first, first + PMD_PAGES - 1, LOCK);
  yield pageTable.ptl.lock(row, LOCK);
  const pmd = pageTable.pmd(row);
  if ((pmd.bits & PMD_TABLE) === 0) {
    pageTable.ptl.releaseNow(row);
    if ((pmd.bits & PMD_LEAF) === 0) return 'PMD_NULL';
    return ptePresent(pmd.bits) ? 'PMD_MAPPED' : 'PMD_NULL';
  }
  const found = { none: 0, unmapped: 0, shared: 0, referenced: 0, writable: false };
  let failed: Exclude<ScanResult, 'SUCCEED'> | null = null;
  for (let vpn = first; vpn < first + PMD_PAGES && failed === null; vpn++) {
    failed = yield* call(scanPte(core, mm, vma, vpn, limits, found));
  }
  yield pageTable.ptl.unlock(row, UNLOCK);
  if (failed !== null) return failed;
  if (!found.writable) return 'PAGE_RO';
  if (limits !== null && (found.referenced === 0 || (found.unmapped > 0 && found.referenced < PMD_PAGES / 2))) {
    return 'LACK_REFERENCED_PAGE';
  }
  return { unmapped: found.unmapped, referenced: found.referenced };
}

interface Counts {
  none: number;
  unmapped: number;
  shared: number;
  referenced: number;
  writable: boolean;
}

/** One entry. The page-table lock is held. */
function* scanPte(
  core: CoreMm,
  { pageTable }: Mm,
  vma: Vma,
  vpn: number,
  limits: CollapseLimits | null,
  found: Counts,
): Steps<Exclude<ScanResult, 'SUCCEED'> | null> {
  const { folios } = core;
  const pte = pageTable.peekPte(vpn);
  if (pteNone(pte.bits) || (ptePresent(pte.bits) && pte.pfn === core.zeroPfn)) {
    if (vma.fields.uffd !== null || ++found.none > (limits?.none ?? PMD_PAGES)) return 'EXCEED_NONE_PTE';
    return null;
  }
  if (!ptePresent(pte.bits)) {
    if ((pte.bits & PTE_SWAP) === 0) return 'PTE_NON_PRESENT';
    if (++found.unmapped > (limits?.swap ?? PMD_PAGES)) return 'EXCEED_SWAP_PTE';
    return (pte.bits & PTE_UFFD_WP) !== 0 ? 'PTE_UFFD_WP' : null;
  }
  if ((pte.bits & PTE_UFFD_WP) !== 0) return 'PTE_UFFD_WP';
  if ((pte.bits & PTE_WRITE) !== 0) found.writable = true;
  const pfn = normalPfn(core, pte);
  if (pfn === undefined) return 'PAGE_NULL';
  const head = folios.headOf(pfn);
  // The entry as well: hundreds of them may look at one large folio.
  pageTable.willReadPte(vpn, LOOK);
  yield folios.willCompareRefs(head, LOOK);
  const flags = folios.flags.get(head);
  if ((flags & PG_ANON) === 0) return 'PAGE_ANON';
  const mappings = folios.isLarge(head)
    ? folios.mapcount.peek(pfn) + folios.entireMapcount.get(head)
    : folios.mapcountOf(head);
  if (mappings > 1 && ++found.shared > (limits?.shared ?? PMD_PAGES)) return 'EXCEED_SHARED_PTE';
  if ((flags & PG_LRU) === 0) return 'PAGE_LRU';
  if ((flags & PG_LOCKED) !== 0) return 'PAGE_LOCK';
  if (!isRefcountSuitable(core, head)) return 'PAGE_COUNT';
  if ((pte.bits & PTE_YOUNG) !== 0) found.referenced++;
  return null;
}
