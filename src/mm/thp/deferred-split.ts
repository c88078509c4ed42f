// The deferred split queue (mm/huge_memory.c deferred_split_folio): anonymous huge pages of which some pages are mapped no
// more wait there for pressure to split them. PG_partially_mapped stands for the place on the queue.
import type { Step } from '../../engine/step.ts';
import type { CoreMm } from '../core.ts';
import { PG_ANON, PG_PARTIALLY_MAPPED, PG_SWAPCACHE } from '../page-flags.ts';

/** Announce `deferSplitNow`, besides the mapcounts. */
export function willDeferSplit(core: CoreMm, head: number, at: Step): void {
  if (!core.folios.isLarge(head)) return;
  core.folios.flags.willUpdate(head, at);
  core.vmstat.willAdd('thp_deferred_split_page', at);
}

/**
 * folio_remove_rmap, the end: page `pfn` of the folio has lost a PTE mapping. Queue the folio when it was the page's last.
 * Not while it is in the swap cache: then reclaim is at work on it.
 */
export function deferSplitNow(core: CoreMm, head: number, pfn: number): void {
  const { folios, kernel, vmstat } = core;
  if (!folios.isLarge(head)) return;
  if (folios.mapcount.get(pfn) > 0 || folios.entireMapcount.get(head) > 0) return;
  if (folios.mapcountOf(head) === 0 && !kernel.has('thp.deferred-split.of-unmapped')) return;
  const flags = folios.flags.get(head);
  if ((flags & PG_ANON) === 0 || (flags & (PG_SWAPCACHE | PG_PARTIALLY_MAPPED)) !== 0) return;
  folios.change(head, PG_PARTIALLY_MAPPED);
  vmstat.add('thp_deferred_split_page', 1);
}
