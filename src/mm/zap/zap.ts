// Zapping address ranges (mm/memory.c zap_page_range_single, unmap_vmas, free_pgtables). The order is the point:
// notifier start, clear the entries, notifier end, flush, free. A zap never looks at pins: a pinned page only loses its
// mapping.
import { call, type Steps } from '../../engine/process.ts';
import { step } from '../../engine/step.ts';
import { PMD_PAGES } from '../../hw/machine.ts';
import type { CoreMm } from '../core.ts';
import type { Vma } from '../mapping/vma.ts';
import type { Mm } from '../mm.ts';
import type { NotifierEvent, NotifierRange } from '../notifier.ts';
import { pmdOf } from '../page-table.ts';
import { PMD_LEAF, PMD_TABLE, PTE_NONE, PTE_SWAP, type Pte, ptePresent } from '../pte.ts';
import { lruAddDrain } from '../reclaim/lru.ts';
import { splitHugePmd } from '../thp/huge-pmd.ts';
import {
  deferredFlushPossible,
  type MmuGather,
  releasePages,
  tlbFinish,
  tlbFlushBatchedPending,
  tlbFlushMmu,
  tlbFlushTlbOnly,
  tlbGather,
} from '../tlb.ts';
import { bulkZap, populatedPtes, zapRunNow } from './zap-bulk.ts';
import {
  deferSplitsNow,
  removeRmapNow,
  willZapEntry,
  ZAP_ALL,
  type Zap,
  type ZapDetails,
  zapEntryNow,
} from './zap-entry.ts';
import { zapHugeRow } from './zap-huge.ts';

const WALK = step('zap_pmd_range:walk', 'none');
const LOCK = step('zap_pte_range:lock', 'lock');
const ZAP = step('zap_pte_range:clear', 'pte-op');
const RMAPS = step('tlb_flush_rmaps', 'pte-op');
const UNLOCK = step('zap_pte_range:unlock', 'lock');
const FREE_TABLES = step('free_pgtables', 'pte-op');

/** Pages that a gather holds before it is flushed early: 8 on the stack and 19 batches of 510 (mm/mmu_gather.c). */
const GATHER_PAGES_MAX = 8 + 19 * 510;

/** unmap_page_range: zap the entries of `vma` in [from, to). The caller has gather and notifier window. */
export function* zapPageRange(
  core: CoreMm,
  gather: MmuGather,
  vma: Vma,
  mm: Mm,
  from: number,
  to: number,
  details: ZapDetails = ZAP_ALL,
): Steps<void> {
  const zap: Zap = { core, mm, vma, gather, details, delayed: [], forceFlush: false, unmapped: new Map() };
  const first = pmdOf(from);
  const last = pmdOf(to - 1);
  let rows = [first];
  if (last > first) {
    // Levels above the PMD table are one step: a table that a fault adds later is a fault after the zap.
    yield mm.pageTable.willReadPmds(first, last, WALK);
    rows = mm.pageTable.populatedRows(first, last);
  }
  for (const row of rows) {
    // The rows of a 1 GiB page went with its first.
    if (rows.length > 1 && mm.pageTable.peekPmd(row).bits === 0) continue;
    const low = Math.max(from, row * PMD_PAGES);
    const high = Math.min(to, (row + 1) * PMD_PAGES);
    yield* call(zapRow(zap, row, low, high));
    if (gather.held > GATHER_PAGES_MAX) yield* call(tlbFlushMmu(core, gather));
  }
}

/** zap_pmd_range, one entry: a table, or a huge page mapped whole. */
function* zapRow(zap: Zap, row: number, from: number, to: number): Steps<void> {
  const { core, mm, vma } = zap;
  for (;;) {
    while ((mm.pageTable.peekPmd(row).bits & PMD_LEAF) !== 0) {
      if (to - from < PMD_PAGES && !vma.hugetlb) yield* call(splitHugePmd(core, mm, vma, row));
      else if (yield* call(zapHugeRow(zap, row))) return;
    }
    if ((yield* call(zapPteRange(zap, row, from, to))) !== 'huge') return;
  }
}

/**
 * zap_pte_range. The page-table lock is kept over the whole run where somebody could tell: dirty file pages stay
 * mapped for rmap until the flush, and deferred flushes of reclaim are looked for under the lock. Otherwise every
 * entry is a step of its own that finds the lock free and leaves it free. 'huge': there is a huge page by now.
 */
function* zapPteRange(zap: Zap, row: number, from: number, to: number): Steps<'done' | 'huge'> {
  const { core, mm } = zap;
  const { ptl } = mm.pageTable;
  // Without a table there is nothing to be done, unless a huge page has taken its place.
  const without = (): 'done' | 'huge' => ((mm.pageTable.pmd(row).bits & PMD_LEAF) === 0 ? 'done' : 'huge');
  const keep = zap.vma.fields.file !== null || deferredFlushPossible(core, mm);
  if (keep) {
    mm.pageTable.willReadPmd(row, LOCK);
    yield ptl.lock(row, LOCK);
    if ((mm.pageTable.pmd(row).bits & PMD_TABLE) === 0) {
      ptl.releaseNow(row);
      return without();
    }
    if (core.kernel.has('tlb.deferred-flush-pending-check')) yield* call(tlbFlushBatchedPending(core, mm));
  }
  for (let vpn = from; vpn < to; ) {
    const next = yield* call(zapSome(zap, row, vpn, to, keep));
    if (next === null) return without();
    vpn = next;
  }
  if (keep && ptl.heldBy(row, core.sim.current)) yield* call(finishLocked(zap, row));
  return 'done';
}

/** One step: up to `stepPages` populated entries from `vpn` on, with the empty ones between. Null: no table here. */
function* zapSome(zap: Zap, row: number, vpn: number, to: number, locked: boolean): Steps<number | null> {
  const { core, mm } = zap;
  const { pageTable } = mm;
  const bulk = bulkZap(zap, to - vpn);
  // Seen without a step: what differs in the act is left for the next round.
  const planned: (readonly [number, Pte])[] = [];
  let end = vpn;
  let populated = 0;
  if (bulk) {
    end = to;
    populated = populatedPtes(pageTable.bulk.bits, vpn, to);
  } else {
    for (; end < to && planned.length < core.params.stepPages; end++) {
      const pte = pageTable.peekPte(end);
      if (pte.bits === 0) continue;
      planned.push([end, pte]);
      willZapEntry(zap, pte, ZAP);
    }
    while (end < to && pageTable.peekPte(end).bits === 0) end++;
    populated = planned.length;
  }
  const last = end >= to;
  pageTable.willUpdatePtes(vpn, end - 1, ZAP);
  if (core.machine.arch.noGather) for (const cpu of mm.cpumask.peek()) cpu.tlb.willUpdate(ZAP);
  if (locked) {
    yield core.sim.times(populated, last ? pageTable.ptl.willChange(row, ZAP) : core.sim.local(ZAP));
  } else {
    pageTable.willReadPmd(row, ZAP);
    yield core.sim.times(populated, pageTable.ptl.pass(row, ZAP));
    if ((pageTable.pmd(row).bits & PMD_TABLE) === 0) return null;
  }
  const reached = bulk ? zapRunNow(zap, vpn, to) : zapPlannedNow(zap, planned, vpn, end);
  deferSplitsNow(zap);
  if (core.machine.arch.noGather) {
    // The entry is invalidated and flushed by one instruction; pages are put here, inside the window.
    for (const cpu of mm.cpumask.peek()) cpu.flush(mm.asid, vpn, reached);
  }
  if (locked && last && reached === end && !zap.forceFlush) pageTable.ptl.releaseNow(row);
  if (core.machine.arch.noGather) yield* call(releasePages(core, zap.gather.take().pages));
  return reached;
}

/** The act: entries as they were planned. Stops at the first that changed since. */
function zapPlannedNow(zap: Zap, planned: readonly (readonly [number, Pte])[], from: number, end: number): number {
  const { pageTable } = zap.mm;
  let at = 0;
  for (let vpn = from; vpn < end; vpn++) {
    const pte = pageTable.pte(vpn);
    if (pte.bits === 0) {
      if (planned[at]?.[0] === vpn) at++;
      continue;
    }
    const [expected, seen] = planned[at] ?? [end, PTE_NONE];
    if (expected !== vpn || !sameTarget(seen, pte)) return vpn;
    at++;
    zapEntryNow(zap, vpn, pte);
  }
  return end;
}

/** Do two entries lead to the same page or slot? What was announced holds for both then. */
function sameTarget(a: Pte, b: Pte): boolean {
  return a.pfn === b.pfn && ptePresent(a.bits) === ptePresent(b.bits) && (a.bits & PTE_SWAP) === (b.bits & PTE_SWAP);
}

/** Under the lock: flush, then remove the delayed mappings; unlock; free the batch (inside the notifier window). */
function* finishLocked(zap: Zap, row: number): Steps<void> {
  const { core, mm, gather } = zap;
  const { ptl } = mm.pageTable;
  const { delayed, forceFlush } = zap;
  zap.delayed = [];
  zap.forceFlush = false;
  if (forceFlush) yield* call(tlbFlushTlbOnly(core, gather));
  if (delayed.length > 0) {
    let pages = 0;
    for (const run of delayed) {
      core.folios.willMap(run.head, run.pfn, RMAPS);
      core.folios.flags.willUpdate(run.head, RMAPS);
      pages += run.pages;
    }
    yield core.sim.times(pages, ptl.willChange(row, RMAPS));
    for (const run of delayed) {
      if (run.pages === 1) removeRmapNow(zap, run.head, run.pfn);
      else core.folios.mapcount.addRange(run.pfn, run.pfn + run.pages - 1, -1);
    }
    ptl.releaseNow(row);
  } else {
    yield ptl.unlock(row, UNLOCK);
  }
  if (forceFlush) yield* call(tlbFlushMmu(core, gather));
}

/**
 * zap_page_range_single: one part of one VMA with its own gather and window (MADV_DONTNEED, truncation, drivers'
 * zap_vma_ptes). hugetlb ranges are widened to 1 GiB, because page tables may be shared.
 */
export function* zapVmaRange(
  core: CoreMm,
  mm: Mm,
  vma: Vma,
  from: number,
  to: number,
  event: NotifierEvent,
  details: ZapDetails = ZAP_ALL,
): Steps<void> {
  const range = notifierRange(core, mm, vma, from, to, event);
  yield* call(lruAddDrain(core));
  const gather = yield* call(tlbGather(core, mm));
  yield* call(mm.notifiers.start(range));
  yield* call(zapPageRange(core, gather, vma, mm, from, to, details));
  yield* call(mm.notifiers.end(range));
  yield* call(tlbFinish(core, gather));
}

/** The window of an operation on [from, to) of a VMA (adjust_range_if_pmd_sharing_possible). */
export function notifierRange(
  core: CoreMm,
  mm: Mm,
  vma: Vma,
  from: number,
  to: number,
  event: NotifierEvent,
): NotifierRange {
  const shares = vma.hugetlb && vma.fields.shared && core.kernel.has('hugetlb.pmd-sharing');
  const pud = PMD_PAGES * PMD_PAGES;
  const start = shares ? Math.max(vma.start, Math.floor(from / pud) * pud) : from;
  const end = shares ? Math.min(vma.end, Math.ceil(to / pud) * pud) : to;
  return { mm, start, end, event, blockable: true };
}

/** unmap_vmas: one window around all VMAs of [from, to). */
export function* unmapVmas(
  core: CoreMm,
  gather: MmuGather,
  mm: Mm,
  vmas: readonly Vma[],
  from: number,
  to: number,
): Steps<void> {
  const range: NotifierRange = { mm, start: from, end: to, event: 'UNMAP', blockable: true };
  yield* call(mm.notifiers.start(range));
  for (const vma of vmas) {
    const low = Math.max(from, vma.start);
    const high = Math.min(to, vma.end);
    if (low < high) yield* call(zapPageRange(core, gather, vma, mm, low, high));
  }
  yield* call(mm.notifiers.end(range));
}

/**
 * free_pgtables: the tables of [from, to) that no VMA of `mm` needs any more. They are detached here; the flush at the
 * end of the gather is what lockless walkers on x86 hold up before a table may be used again.
 */
export function* freePgtables(core: CoreMm, gather: MmuGather, mm: Mm, from: number, to: number): Steps<void> {
  const { pageTable } = mm;
  const first = pmdOf(from);
  const last = pmdOf(to - 1);
  const needed = (row: number) => mm.vmasIn(row * PMD_PAGES, (row + 1) * PMD_PAGES).length > 0;
  mm.vmas.willRead(FREE_TABLES);
  yield pageTable.willReadPmds(first, last, FREE_TABLES);
  const rows = pageTable
    .populatedRows(first, last)
    .filter((row) => (pageTable.pmd(row).bits & PMD_TABLE) !== 0 && !((row === first || row === last) && needed(row)));
  const per = core.params.stepPages;
  for (let i = 0; i < rows.length; i += per) {
    const batch = rows.slice(i, i + per);
    for (const row of batch.slice(1)) {
      pageTable.willUpdatePmd(row, FREE_TABLES);
      pageTable.ptl.willChange(row, FREE_TABLES);
    }
    pageTable.willUpdatePmd(batch[0]!, FREE_TABLES);
    yield core.sim.times(batch.length, pageTable.ptl.pass(batch[0]!, FREE_TABLES));
    for (const row of batch) {
      // The table's number stays behind: the next table here is another one, and a walker can tell.
      pageTable.setPmd(row, pageTable.pmd(row).pfn, 0, 0);
      gather.note(row * PMD_PAGES, (row + 1) * PMD_PAGES);
    }
  }
}
