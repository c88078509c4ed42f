// The bulk lane of zap: whole runs of present, small pages by column operations. Taken only where nobody journals,
// digests or watches, and where one step may cover the whole run; ends in the same state as entry by entry.
import type { Column } from '../../engine/column.ts';
import { CONTENT_DROPPED } from '../ledger.ts';
import { PG_ANON, PG_DIRTY } from '../page-flags.ts';
import { PTE_DIRTY, PTE_PRESENT, PTE_SPECIAL, PTE_YOUNG } from '../pte.ts';
import { markAccessedRun } from '../reclaim/mark-accessed.ts';
import { markDirtyNow } from '../writeback/mark-dirty.ts';
import { delaysRmap, type Zap, zapEntryNow } from './zap-entry.ts';

/** May [vpn, vpn + pages) be one act without naming each object? */
export function bulkZap(zap: Zap, pages: number): boolean {
  const { core, vma, details } = zap;
  return (
    core.folios.refcount.bulk &&
    core.params.stepPages >= pages &&
    pages > 1 &&
    !core.machine.arch.noGather &&
    !vma.fields.locked &&
    details.singleFolio === undefined &&
    (details.evenCows || vma.fields.shared)
  );
}

/** Entries of [from, to) that are not none: what the step costs. */
export function populatedPtes(bits: Column, from: number, to: number): number {
  let populated = 0;
  for (let vpn = from; vpn < to; ) {
    const end = bits.endOfRun(vpn, to - 1);
    if (bits.peek(vpn) !== 0) populated += end - vpn + 1;
    vpn = end + 1;
  }
  return populated;
}

/** The act of zapping [from, to); returns `to`. */
export function zapRunNow(zap: Zap, from: number, to: number): number {
  const { mm, gather } = zap;
  const { bits, pfn } = mm.pageTable.bulk;
  let lowest = to;
  let highest = from;
  for (let vpn = from; vpn < to; ) {
    const first = bits.peek(vpn);
    if (first === 0) {
      vpn = bits.endOfRun(vpn, to - 1) + 1;
      continue;
    }
    if (!simple(zap, first, pfn.peek(vpn))) {
      zapEntryNow(zap, vpn, mm.pageTable.pte(vpn));
      vpn++;
      continue;
    }
    const next = zapAlike(zap, vpn, to, first);
    lowest = Math.min(lowest, vpn);
    highest = next;
    vpn = next;
  }
  if (lowest < highest) gather.note(lowest, highest);
  return to;
}

/** A present PTE of a small folio mapped once. */
function simple(zap: Zap, bits: number, pfn: number): boolean {
  const { core } = zap;
  const { folios } = core;
  if ((bits & PTE_PRESENT) === 0 || (bits & PTE_SPECIAL) !== 0 || !core.machine.hasStructPage(pfn)) return false;
  return folios.headOf(pfn) === pfn && folios.order.peek(pfn) === 0 && folios.mapcount.peek(pfn) === 1;
}

/** As far as the entries are alike, the frames follow each other, and the folios are alike. Returns where that ends. */
function zapAlike(zap: Zap, vpn: number, to: number, entry: number): number {
  const { core, mm, gather } = zap;
  const { bits, pfn, generation } = mm.pageTable.bulk;
  const { folios } = core;
  const head = pfn.peek(vpn);
  const limit = head + (pfn.endOfRise(vpn, bits.endOfRun(vpn, to - 1)) - vpn);
  let end = folios.order.endOfRun(head, limit);
  end = folios.mapcount.endOfRun(head, end);
  end = folios.refcount.endOfRun(head, end);
  end = folios.flags.endOfRun(head, end);
  const pages = end - head + 1;
  const last = vpn + pages - 1;
  bits.fill(vpn, last, 0);
  pfn.fill(vpn, last, 0);
  generation.fill(vpn, last, 0);
  const anon = (folios.flags.peek(head) & PG_ANON) !== 0;
  if (!anon) touchFile(zap, head, end, entry);
  if (!anon && (entry & PTE_DIRTY) !== 0 && delaysRmap(core)) zap.delayed.push({ head, pfn: head, pages });
  else folios.mapcount.addRange(head, end, -1);
  if (anon && core.sim.hears(CONTENT_DROPPED)) core.sim.emit(CONTENT_DROPPED, { pfn: head, pages, why: 'zap' });
  gather.addRun(head, pages);
  return last + 1;
}

/** folio_mark_accessed and folio_mark_dirty of a run. */
function touchFile(zap: Zap, head: number, end: number, entry: number): void {
  const { core } = zap;
  const { flags } = core.folios;
  if ((entry & PTE_YOUNG) !== 0) markAccessedRun(core, head, end);
  if ((entry & PTE_DIRTY) === 0) return;
  zap.forceFlush = true;
  markDirtyNow(core, head);
  for (let pfn = head; pfn <= end; ) {
    const next = flags.endOfRun(pfn, end) + 1;
    flags.fill(pfn, next - 1, flags.peek(pfn) | PG_DIRTY);
    pfn = next;
  }
}
