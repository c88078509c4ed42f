// References of page-table entries to swap slots (mm/swapfile.c): duplicating at fork, dropping at zap. The last drop
// frees the slot, and with it the folio in the swap cache if its lock can be had at once.
import type { Announced, Step } from '../../engine/step.ts';
import type { CoreMm } from '../core.ts';
import { PG_DIRTY, PG_LOCKED, PG_SWAPCACHE, PG_WRITEBACK } from '../page-flags.ts';
import { putNow, willPut } from '../refcount.ts';

/** swap_duplicate: one more PTE refers to the slot; in a step that announced updating `swap.map` of it. */
export function swapDuplicateNow(core: CoreMm, slot: number): void {
  core.swap.map.set(slot, core.swap.map.get(slot) + 1);
}

/** Announce dropping a PTE's reference to `slot`, and all that freeing the slot may touch. */
export function willFreeSwap(core: CoreMm, slot: number, at: Step): Announced {
  const { swap, folios } = core;
  const cached = swap.cache.peek(slot) - 1;
  if (cached >= 0) {
    willPut(core, cached, at);
    const first = folios.swapEntry.peek(cached) - 1;
    if (first >= 0) swap.map.willUpdateRange(first, first + folios.pagesOf(cached) - 1, at);
  }
  swap.allocator.willUpdate(at);
  return swap.map.willUpdate(slot, at);
}

/** free_swap_and_cache, in a step announced by `willFreeSwap`. */
export function freeSwapNow(core: CoreMm, slot: number): void {
  const { swap, folios } = core;
  const left = swap.map.get(slot) - 1;
  swap.map.set(slot, left);
  // A swap-in that bypasses the cache has the slot reserved: it frees it.
  if (left > 0) return;
  const head = swap.cache.get(slot) - 1;
  if (head < 0) {
    swap.content.set(slot, 0);
    swap.giveBack(slot);
    return;
  }
  // __try_to_reclaim_swap: trylock; a folio that is locked or under writeback is left for reclaim.
  if ((folios.flags.get(head) & (PG_LOCKED | PG_WRITEBACK)) === 0) dropFromSwapCacheNow(core, head);
}

/** delete_from_swap_cache, when no entry names any slot of the folio. It is dirty again: its copy is gone. */
function dropFromSwapCacheNow(core: CoreMm, head: number): void {
  const { swap, folios } = core;
  const pages = folios.pagesOf(head);
  const first = folios.swapEntry.get(head) - 1;
  for (let slot = first; slot < first + pages; slot++) if (swap.map.get(slot) > 0) return;
  for (let slot = first; slot < first + pages; slot++) {
    swap.cache.set(slot, 0);
    swap.content.set(slot, 0);
    swap.giveBack(slot);
  }
  folios.swapEntry.set(head, 0);
  folios.change(head, PG_DIRTY, PG_SWAPCACHE);
  putNow(core, head, pages, 'delete_from_swap_cache');
}
