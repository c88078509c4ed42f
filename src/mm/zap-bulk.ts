// The bulk lane of zap: whole runs of present, small pages by column operations. Taken only where nobody journals,
// digests or watches, and where one step may cover the whole run; ends in the same state as entry by entry.
import { CONTENT_DROPPED } from './ledger.ts';
import { PG_ANON } from './page-flags.ts';
import { PTE_DIRTY, PTE_PRESENT, PTE_SPECIAL } from './pte.ts';
import { type Zap, zapEntryNow } from './zap-entry.ts';

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
    details.evenCows
  );
}

/** The act of zapping [from, to); returns `to`. */
export function zapRunNow(zap: Zap, from: number, to: number): number {
  const { core, mm, gather } = zap;
  const { bits, pfn } = mm.pageTable.bulk;
  const { folios } = core;
  let lowest = to;
  let highest = from;
  for (let vpn = from; vpn < to; ) {
    const first = bits.peek(vpn);
    if (first === 0) {
      vpn = bits.endOfRun(vpn, to - 1) + 1;
      continue;
    }
    const head = pfn.peek(vpn);
    if (!simple(zap, first, head)) {
      zapEntryNow(zap, vpn, mm.pageTable.pte(vpn));
      vpn++;
      continue;
    }
    // As far as the entries are alike, the frames follow each other, and the folios are alike.
    let last = Math.min(pfn.endOfRise(vpn, bits.endOfRun(vpn, to - 1)), to - 1);
    const limit = head + (last - vpn);
    let end = folios.order.endOfRun(head, limit);
    end = folios.mapcount.endOfRun(head, end);
    end = folios.refcount.endOfRun(head, end);
    end = folios.flags.endOfRun(head, end);
    last = vpn + (end - head);
    mm.pageTable.bulk.bits.fill(vpn, last, 0);
    pfn.fill(vpn, last, 0);
    mm.pageTable.bulk.generation.fill(vpn, last, 0);
    folios.mapcount.addRange(head, end, -1);
    if (core.sim.hears(CONTENT_DROPPED) && (folios.flags.peek(head) & PG_ANON) !== 0) {
      core.sim.emit(CONTENT_DROPPED, { pfn: head, pages: end - head + 1, why: 'zap' });
    }
    gather.addRun(head, end - head + 1);
    lowest = Math.min(lowest, vpn);
    highest = last + 1;
    vpn = last + 1;
  }
  if (lowest < highest) gather.note(lowest, highest);
  return to;
}

/** A present PTE of a small folio mapped once, with nothing to tell anybody: no dirty file page. */
function simple(zap: Zap, bits: number, pfn: number): boolean {
  const { core } = zap;
  const { folios } = core;
  if ((bits & PTE_PRESENT) === 0 || (bits & PTE_SPECIAL) !== 0 || !core.machine.hasStructPage(pfn)) return false;
  if (folios.headOf(pfn) !== pfn || folios.order.peek(pfn) !== 0 || folios.mapcount.peek(pfn) !== 1) return false;
  return (folios.flags.peek(pfn) & PG_ANON) !== 0 || (bits & PTE_DIRTY) === 0;
}
