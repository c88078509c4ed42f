// Collapsing 512 small anonymous pages into a huge page (mm/khugepaged.c collapse_huge_page): the page table is detached
// first, under notifiers, flush and an IPI to GUP-fast; then each page must be free of other references, else the table
// is put back. khugepaged is played by whoever calls `khugepagedScanMm`; it does not run by itself.
import { call, type Steps } from '../../engine/process.ts';
import { step } from '../../engine/step.ts';
import { PMD_ORDER, PMD_PAGES } from '../../hw/machine.ts';
import { allocFolio } from '../alloc/page-alloc.ts';
import type { CoreMm } from '../core.ts';
import type { Errno } from '../errno.ts';
import { handleMmFault } from '../fault/fault.ts';
import { maybeMkwrite } from '../fault/fault-context.ts';
import { thpAllowed } from '../fault/fault-huge.ts';
import { tryLockNow, unlockNow, willTryLock, willUnlock } from '../folio-lock.ts';
import type { Vma } from '../mapping/vma.ts';
import type { Mm } from '../mm.ts';
import { PG_ANON, PG_MLOCKED, PG_SWAPBACKED, PG_SWAPCACHE, PG_UPTODATE } from '../page-flags.ts';
import {
  PMD_LEAF,
  PMD_TABLE,
  PTE_PRESENT,
  PTE_SWAP,
  PTE_UFFD_WP,
  PTE_YOUNG,
  type Pte,
  pteNone,
  ptePresent,
} from '../pte.ts';
import { folioAddLru, folioPutbackLru, isolateNow, lruAddDrain, lruAddDrainAll } from '../reclaim/lru.ts';
import { folioPut, putNow, willPut } from '../refcount.ts';
import { folioFreeSwap } from '../swap/swap-cache.ts';
import { flushTlbRange, tlbRemoveTableSyncOne } from '../tlb.ts';
import { collapseFile } from './collapse-file.ts';
import {
  type CollapseLimits,
  collapseErrno,
  GOES_ON,
  isRefcountSuitable,
  KHUGEPAGED_LIMITS,
  normalPfn,
  type ScanResult,
  scanPmd,
} from './collapse-scan.ts';
import { deferSplitNow, willDeferSplit } from './deferred-split.ts';

const UNLOCK_READ = step('collapse_huge_page:mmap_read_unlock', 'lock');
const REVALIDATE = step('hugepage_vma_revalidate', 'op');
const SWAPIN = step('__collapse_huge_page_swapin', 'op');
const ANON_LOCK = step('collapse_huge_page:anon_vma_lock_write', 'lock');
const ANON_UNLOCK = step('collapse_huge_page:anon_vma_unlock_write', 'lock');
const DETACH = step('pmdp_collapse_flush', 'pte-op');
const RESTORE = step('collapse_huge_page:pmd_populate', 'pte-op');
const ISOLATE = step('__collapse_huge_page_isolate', 'op');
const RELEASE = step('release_pte_folio', 'lock');
const COPY = step('__collapse_huge_page_copy', 'copy-page');
const CLEAR = step('__collapse_huge_page_copy_succeeded', 'pte-op');
const INSTALL = step('collapse_huge_page:set_pmd_at', 'pte-op');

type Failure = Exclude<ScanResult, 'SUCCEED'>;

/** Does the caller still hold mmap_lock? A collapse drops it. */
export interface Turn {
  locked: boolean;
}

/**
 * madvise_collapse of [from, to): mmap_lock is held for read on entry and on return, and dropped in between. EINVAL:
 * nothing to collapse, or pages that cannot be; EAGAIN: somebody holds a page; ENOMEM: no huge page.
 */
export function* madviseCollapse(core: CoreMm, mm: Mm, vma: Vma, from: number, to: number): Steps<'ok' | Errno> {
  const first = Math.ceil(from / PMD_PAGES);
  const end = Math.floor(to / PMD_PAGES);
  if (!collapsible(vma)) return 'EINVAL';
  yield* call(lruAddDrainAll(core));
  const turn: Turn = { locked: true };
  let area: Vma | undefined = vma;
  let last: Failure = 'FAIL';
  let huge = 0;
  for (let row = first; row < end; row++) {
    if (!turn.locked) {
      yield* call(mm.mmapLock.read());
      turn.locked = true;
      const valid: Vma | Failure = yield* call(revalidate(core, mm, row, null));
      if (typeof valid === 'string') {
        last = valid;
        break;
      }
      area = valid;
    }
    const result: ScanResult = yield* call(collapseRow(core, mm, area, row, null, turn));
    if (result === 'SUCCEED' || result === 'PMD_MAPPED') huge++;
    else {
      last = result;
      if (!GOES_ON.includes(result)) break;
    }
  }
  if (!turn.locked) yield* call(mm.mmapLock.read());
  return huge === end - first ? 'ok' : collapseErrno(last);
}

/**
 * khugepaged_scan_mm_slot: one pass over an address space; returns how many huge pages it made. The areas that allow
 * huge pages, in khugepaged's limits.
 */
export function* khugepagedScanMm(core: CoreMm, mm: Mm): Steps<number> {
  let made = 0;
  let at = 0;
  for (;;) {
    yield* call(mm.mmapLock.read());
    yield mm.vmas.willRead(REVALIDATE);
    const areas = mm.vmas.entries().map(([, vma]) => vma);
    const row = nextRow(core, areas, at);
    if (row === undefined) {
      yield mm.mmapLock.up();
      return made;
    }
    const turn: Turn = { locked: true };
    const vma = mm.vmaAt(row * PMD_PAGES)!;
    if ((yield* call(collapseRow(core, mm, vma, row, KHUGEPAGED_LIMITS, turn))) === 'SUCCEED') made++;
    if (turn.locked) yield mm.mmapLock.up();
    at = row + 1;
  }
}

/** The next 2 MiB unit from `at` on that khugepaged may collapse. */
function nextRow(core: CoreMm, areas: readonly Vma[], at: number): number | undefined {
  for (const vma of areas) {
    const row = Math.max(at, Math.ceil(vma.start / PMD_PAGES));
    if ((row + 1) * PMD_PAGES <= vma.end && collapsible(vma) && thpAllowed(core, vma, row * PMD_PAGES)) return row;
  }
  return undefined;
}

/** thp_vma_allowable_order without sysfs: anonymous and shmem memory. Other files need CONFIG_READ_ONLY_THP_FOR_FS. */
function collapsible(vma: Vma): boolean {
  const { file, hugepage, pfnMapping } = vma.fields;
  return hugepage !== 'never' && pfnMapping === null && (file === null || file.kind === 'shmem');
}

/** One 2 MiB unit; mmap_lock is held for read. */
function* collapseRow(
  core: CoreMm,
  mm: Mm,
  vma: Vma,
  row: number,
  limits: CollapseLimits | null,
  turn: Turn,
): Steps<ScanResult> {
  const { file } = vma.fields;
  if (file !== null) {
    const index = vma.indexOf(row * PMD_PAGES);
    yield mm.mmapLock.up(UNLOCK_READ);
    turn.locked = false;
    return yield* call(collapseFile(core, mm, row, file, index, limits));
  }
  const scanned = yield* call(scanPmd(core, mm, vma, row, limits));
  if (typeof scanned === 'string') return scanned;
  turn.locked = false;
  return yield* call(collapseHugePage(core, mm, row, scanned.unmapped, limits));
}

/** hugepage_vma_revalidate: after mmap_lock was dropped. */
function* revalidate(core: CoreMm, mm: Mm, row: number, limits: CollapseLimits | null): Steps<Vma | Failure> {
  yield mm.vmas.willRead(REVALIDATE);
  const vma = mm.vmaAt(row * PMD_PAGES);
  if (vma === undefined) return 'VMA_NULL';
  if ((row + 1) * PMD_PAGES > vma.end) return 'ADDRESS_RANGE';
  if (!collapsible(vma) || (limits !== null && !thpAllowed(core, vma, row * PMD_PAGES))) return 'VMA_CHECK';
  return vma;
}

/** collapse_huge_page: mmap_lock is held for read on entry and by nobody on return. */
function* collapseHugePage(
  core: CoreMm,
  mm: Mm,
  row: number,
  unmapped: number,
  limits: CollapseLimits | null,
): Steps<ScanResult> {
  yield mm.mmapLock.up(UNLOCK_READ);
  const huge = yield* call(allocFolio(core, { order: PMD_ORDER, movable: true, zero: false }));
  if (huge === undefined) return 'ALLOC_HUGE_PAGE_FAIL';
  const result = yield* call(prepareAndCollapse(core, mm, row, huge, unmapped, limits));
  if (result !== 'SUCCEED') yield* call(folioPut(core, huge, 1, 'collapse_huge_page'));
  return result;
}

function* prepareAndCollapse(
  core: CoreMm,
  mm: Mm,
  row: number,
  huge: number,
  unmapped: number,
  limits: CollapseLimits | null,
): Steps<ScanResult> {
  if (unmapped > 0) {
    yield* call(mm.mmapLock.read());
    const before = yield* call(revalidate(core, mm, row, limits));
    const swapped = typeof before === 'string' ? before : yield* call(swapin(core, mm, before, row));
    if (swapped !== 'retry') yield mm.mmapLock.up();
    if (swapped !== null) return swapped === 'retry' ? 'PAGE_LOCK' : swapped;
  }
  // Nobody may fault or pin through the slow path from here on; the fast path is met by the detached PMD.
  yield* call(mm.mmapLock.write());
  const vma = yield* call(revalidate(core, mm, row, limits));
  const result = typeof vma === 'string' ? vma : yield* call(collapseLocked(core, mm, vma, row, huge));
  yield mm.mmapLock.up();
  return result;
}

/** __collapse_huge_page_swapin. Null: everything is in; `retry`: mmap_lock was dropped. */
function* swapin(core: CoreMm, mm: Mm, vma: Vma, row: number): Steps<Failure | 'retry' | null> {
  const { pageTable } = mm;
  const first = row * PMD_PAGES;
  for (let vpn = first; vpn < first + PMD_PAGES; vpn++) {
    yield pageTable.willReadPte(vpn, SWAPIN);
    if ((pageTable.pte(vpn).bits & PTE_SWAP) === 0) continue;
    const flags = {
      write: false,
      unshare: false,
      remote: false,
      allowRetry: true,
      killable: false,
      memallocPin: false,
    };
    const result = yield* call(handleMmFault(core, mm, vma, vpn, flags));
    if (result === 'retry' || result === 'completed') return 'retry';
    if (result !== 'ok') return 'FAIL';
  }
  yield* call(lruAddDrain(core));
  return null;
}

/** From the detached table on; mmap_lock is held for write. */
function* collapseLocked(core: CoreMm, mm: Mm, vma: Vma, row: number, huge: number): Steps<ScanResult> {
  const { pageTable } = mm;
  const start = row * PMD_PAGES;
  const anonVma = vma.fields.anonVma;
  // mmap_lock is held for write.
  const table = pageTable.peekPmd(row);
  if ((table.bits & PMD_TABLE) === 0) return (table.bits & PMD_LEAF) !== 0 ? 'PMD_MAPPED' : 'PMD_NULL';
  if (anonVma === null) return 'PAGE_ANON';
  yield* call(anonVma.lock.write(ANON_LOCK));
  const range = { mm, start, end: start + PMD_PAGES, event: 'CLEAR', blockable: true } as const;
  yield* call(mm.notifiers.start(range));
  pageTable.willUpdatePmd(row, DETACH);
  yield pageTable.ptl.lock(row, DETACH);
  pageTable.clearPmd(row);
  yield* call(flushTlbRange(core, mm, start, start + PMD_PAGES));
  yield pageTable.ptl.unlock(row);
  yield* call(mm.notifiers.end(range));
  if (core.kernel.has('thp.collapse.ipi-sync')) yield* call(tlbRemoveTableSyncOne(core));

  const isolated: number[] = [];
  const failed = yield* call(isolateAll(core, mm, vma, row, isolated));
  if (failed !== null) {
    for (const head of isolated) yield* call(releaseFolio(core, head));
    pageTable.willUpdatePmd(row, RESTORE);
    yield pageTable.ptl.pass(row, RESTORE);
    pageTable.setPmd(row, table.pfn, table.bits, table.generation);
    yield anonVma.lock.up(ANON_UNLOCK);
    return failed;
  }
  // All pages are locked and isolated: reverse mapping cannot get at them.
  yield anonVma.lock.up(ANON_UNLOCK);
  yield* call(copyAll(core, mm, row, huge));
  yield* call(install(core, mm, vma, row, huge));
  return 'SUCCEED';
}

/** __collapse_huge_page_isolate, on the detached table: nobody else can reach it. */
function* isolateAll(core: CoreMm, mm: Mm, vma: Vma, row: number, isolated: number[]): Steps<Failure | null> {
  const first = row * PMD_PAGES;
  for (let vpn = first; vpn < first + PMD_PAGES; vpn++) {
    const pte = mm.pageTable.peekPte(vpn);
    if (pteNone(pte.bits) || (ptePresent(pte.bits) && pte.pfn === core.zeroPfn)) {
      if (vma.fields.uffd !== null) return 'EXCEED_NONE_PTE';
      continue;
    }
    const failed = yield* call(isolatePage(core, pte, isolated));
    if (failed !== null) return failed;
  }
  return null;
}

function* isolatePage(core: CoreMm, pte: Pte, isolated: number[]): Steps<Failure | null> {
  const { folios } = core;
  if (!ptePresent(pte.bits)) return 'PTE_NON_PRESENT';
  if ((pte.bits & PTE_UFFD_WP) !== 0) return 'PTE_UFFD_WP';
  const pfn = normalPfn(core, pte);
  if (pfn === undefined) return 'PAGE_NULL';
  const head = folios.headOf(pfn);
  if (isolated.includes(head) && folios.isLarge(head)) return null;
  folios.willCompareRefs(head, ISOLATE);
  core.lru.willAdd(ISOLATE);
  yield willTryLock(core, head, ISOLATE);
  if (!tryLockNow(core, head)) return 'PAGE_LOCK';
  const failed = !isRefcountSuitable(core, head) ? 'PAGE_COUNT' : isolateNow(core, head) ? null : 'DEL_PAGE_LRU';
  if (failed !== null) unlockNow(core, head);
  else isolated.push(head);
  return failed;
}

/** release_pte_folio: unlock and put back. */
function* releaseFolio(core: CoreMm, head: number): Steps<void> {
  yield willUnlock(core, head, RELEASE);
  unlockNow(core, head);
  yield* call(folioPutbackLru(core, head));
}

/** __collapse_huge_page_copy: all contents first, then the old pages lose their mappings and go. */
function* copyAll(core: CoreMm, mm: Mm, row: number, huge: number): Steps<void> {
  const { frames } = core;
  const first = row * PMD_PAGES;
  const per = core.params.stepPages;
  for (let i = 0; i < PMD_PAGES; i += per) {
    const last = Math.min(i + per, PMD_PAGES) - 1;
    for (let at = i; at <= last; at++) {
      const { bits, pfn } = mm.pageTable.peekPte(first + at);
      if (ptePresent(bits)) frames.content.willRead(pfn, COPY);
    }
    yield core.sim.times(last - i + 1, frames.content.willUpdateRange(huge + i, huge + last, COPY));
    for (let at = i; at <= last; at++) {
      const { bits, pfn } = mm.pageTable.peekPte(first + at);
      frames.content.set(huge + at, ptePresent(bits) ? frames.content.get(pfn) : 0);
    }
  }
  const released = new Set<number>();
  for (let vpn = first; vpn < first + PMD_PAGES; vpn++) {
    const pte = mm.pageTable.peekPte(vpn);
    if (pteNone(pte.bits)) continue;
    const pfn = pte.pfn === core.zeroPfn ? undefined : pte.pfn;
    yield* call(dropOld(core, mm, vpn, pfn, released));
  }
}

function* dropOld(core: CoreMm, mm: Mm, vpn: number, pfn: number | undefined, released: Set<number>): Steps<void> {
  const { folios } = core;
  const head = pfn === undefined ? undefined : folios.headOf(pfn);
  if (head !== undefined && !released.has(head)) {
    if (folios.has(head, PG_SWAPCACHE)) yield* call(folioFreeSwap(core, head));
    yield* call(releaseFolio(core, head));
    if (folios.isLarge(head)) released.add(head);
  }
  if (head !== undefined) {
    folios.willMap(head, pfn!, CLEAR);
    willDeferSplit(core, head, CLEAR);
    willPut(core, head, CLEAR);
  }
  yield mm.pageTable.willUpdatePte(vpn, CLEAR);
  mm.pageTable.clearPte(vpn);
  if (head === undefined) return;
  folios.removePteMapping(head, pfn!);
  deferSplitNow(core, head, pfn!);
  putNow(core, head, 1, '__collapse_huge_page_copy');
}

/** The huge page becomes visible: exclusive, mapped by its PMD, on the LRU. */
function* install(core: CoreMm, mm: Mm, vma: Vma, row: number, huge: number): Steps<void> {
  const { folios } = core;
  const { pageTable } = mm;
  yield* call(folioAddLru(core, huge));
  folios.flags.willUpdate(huge, INSTALL);
  folios.mapping.willUpdate(huge, INSTALL);
  folios.anonExclusive.willUpdate(huge, INSTALL);
  folios.willMap(huge, huge, INSTALL);
  core.vmstat.willAdd('thp_collapse_alloc', INSTALL);
  pageTable.willUpdatePmd(row, INSTALL);
  yield pageTable.ptl.pass(row, INSTALL);
  folios.change(huge, PG_UPTODATE | PG_SWAPBACKED | PG_ANON | (vma.fields.locked ? PG_MLOCKED : 0));
  folios.mapping.set(huge, vma.fields.anonVma!.id);
  folios.index.set(huge, vma.indexOf(row * PMD_PAGES));
  folios.anonExclusive.set(huge, core.kernel.has('cow.anon-exclusive') ? 1 : 0);
  folios.addPmdMapping(huge, 1);
  const bits = PMD_LEAF | PTE_PRESENT | PTE_YOUNG | maybeMkwrite(vma);
  pageTable.setPmd(row, huge, bits, core.frames.peekGeneration(huge));
  core.vmstat.add('thp_collapse_alloc', 1);
}
