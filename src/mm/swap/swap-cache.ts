// Swap slots and the swap cache (mm/swapfile.c, mm/swap_state.c): who keeps a slot, and when a folio leaves the cache. A
// slot is held by the entries that name it (`map`) and by the cache; it is free when neither is left.
import { call, type Steps } from '../../engine/process.ts';
import { type Announced, type Step, step } from '../../engine/step.ts';
import { until } from '../../engine/wait.ts';
import { allocFolio } from '../alloc/page-alloc.ts';
import type { CoreMm } from '../core.ts';
import { unlockNow, willUnlock } from '../folio-lock.ts';
import { PG_DIRTY, PG_LOCKED, PG_SWAPBACKED, PG_SWAPCACHE, PG_UPTODATE, PG_WRITEBACK } from '../page-flags.ts';
import { folioAddLru } from '../reclaim/lru.ts';
import { folioPut, getNow, putNow, tryGetNow, willGet, willPut } from '../refcount.ts';

const LOOKUP = step('swap_cache_get_folio', 'op');
const GET = step('swap_cache_get_folio:folio_try_get', 'refcount');
const FREE_SWAP = step('folio_free_swap', 'op');
const RESERVED_WAIT = step('swapcache_prepare:wait', 'none');
const INSERT = step('add_to_swap_cache', 'op');
const READ = step('swap_read_folio', 'swap-in');
const READ_DONE = step('end_swap_bio_read', 'none');

/**
 * SWAP_HAS_CACHE without a folio: a bit of the slot's count, set while a swap-in that bypasses the cache reads the slot,
 * so that it is neither freed nor read a second time (13ddaf26be32).
 */
export const SLOT_RESERVED = 2 ** 20;

/** __swap_count: entries that name the slot. In a step that announced the slot. */
export function swapCount(core: CoreMm, slot: number): number {
  return core.swap.map.get(slot) % SLOT_RESERVED;
}

/** Announce dropping an entry's hold of a slot. */
export function willSwapFree(core: CoreMm, slot: number, at: Step): Announced {
  core.swap.allocator.willUpdate(at);
  return core.swap.map.willUpdate(slot, at);
}

/** swap_free: one entry fewer names the slot. In a step announced by `willSwapFree`. */
export function swapFreeNow(core: CoreMm, slot: number): void {
  const { swap } = core;
  const left = swap.map.get(slot) - 1;
  if (left < 0) throw new Error(`swap slot ${slot} freed more often than used`);
  swap.map.set(slot, left);
  if (left > 0 || swap.cache.get(slot) !== 0) return;
  swap.content.set(slot, 0);
  swap.giveBack(slot);
}

/** swap_cache_get_folio: the folio with a reference, or undefined. */
export function* swapCacheGet(core: CoreMm, slot: number): Steps<number | undefined> {
  const { swap } = core;
  for (;;) {
    yield swap.cache.willRead(slot, LOOKUP);
    const found = swap.cache.get(slot);
    if (found === 0) return undefined;
    // folio_try_get, then a second look: the page may have left the cache between the look and the reference.
    const head = found - 1;
    swap.cache.willRead(slot, GET);
    yield willGet(core, head, GET);
    // Frozen: reclaim or migration is about to replace the entry.
    if (!tryGetNow(core, head, 1)) continue;
    if (swap.cache.get(slot) === found) return head;
    yield willPut(core, head, GET);
    putNow(core, head, 1, 'swap_cache_get_folio');
  }
}

/** folio_free_swap: the folio leaves the swap cache, with its slots, when no entry names them. It is locked. */
export function* folioFreeSwap(core: CoreMm, head: number): Steps<boolean> {
  const { folios, swap } = core;
  // Held under the folio lock.
  const entry = folios.swapEntry.peek(head);
  if (entry === 0) return false;
  const first = entry - 1;
  const pages = folios.pagesOf(head);
  folios.flags.willUpdate(head, FREE_SWAP);
  folios.mapping.willUpdate(head, FREE_SWAP);
  folios.refcount.willUpdate(head, FREE_SWAP);
  swap.allocator.willUpdate(FREE_SWAP);
  yield swap.map.willUpdateRange(first, first + pages - 1, FREE_SWAP);
  const flags = folios.flags.get(head);
  if ((flags & PG_SWAPCACHE) === 0 || (flags & PG_WRITEBACK) !== 0) return false;
  for (let slot = first; slot < first + pages; slot++) if (swap.map.get(slot) > 0) return false;
  for (let slot = first; slot < first + pages; slot++) {
    swap.cache.set(slot, 0);
    swap.content.set(slot, 0);
    swap.giveBack(slot);
  }
  folios.swapEntry.set(head, 0);
  // The copy on the swap device is given up: the page must be written again before it may be dropped.
  folios.change(head, PG_DIRTY, PG_SWAPCACHE);
  folios.refcount.set(head, folios.refcount.get(head) - pages);
  return true;
}

/**
 * read_swap_cache_async: the folio of the slot from the cache, or read into a new one; with a reference, perhaps still
 * locked by who reads it. `unused`: nobody names the slot any more. One slot: swap readahead is not modelled.
 */
export function* readSwapCache(core: CoreMm, slot: number, movable: boolean): Steps<number | 'oom' | 'unused'> {
  for (;;) {
    const found = yield* call(swapCacheGet(core, slot));
    if (found !== undefined) return found;
    const head = yield* call(allocFolio(core, { order: 0, movable, zero: false }));
    if (head === undefined) return 'oom';
    const inserted = yield* call(insert(core, slot, head));
    if (inserted === 'ok') {
      yield* call(folioAddLru(core, head));
      yield* call(readIn(core, slot, head));
      return head;
    }
    yield* call(folioPut(core, head, 1, 'read_swap_cache_async'));
    if (inserted === 'unused') return 'unused';
    if (inserted === 'reserved') yield waitReserved(core, slot);
  }
}

/** schedule_timeout_uninterruptible(1) in a loop: until the swap-in that bypasses the cache is done. */
export function waitReserved(core: CoreMm, slot: number): Announced {
  const { sim, swap } = core;
  const done = () => swap.map.peek(slot) < SLOT_RESERVED;
  return until(sim, [{ id: swap.map.base + slot }], done, RESERVED_WAIT, { name: `read of swap slot ${slot}` });
}

/** swapcache_prepare and add_to_swap_cache: the new folio, locked, stands for the slot. */
function* insert(core: CoreMm, slot: number, head: number): Steps<'ok' | 'exists' | 'unused' | 'reserved'> {
  const { folios, swap } = core;
  folios.flags.willUpdate(head, INSERT);
  folios.mapping.willUpdate(head, INSERT);
  willGet(core, head, INSERT);
  yield swap.map.willUpdate(slot, INSERT);
  if (swap.map.get(slot) >= SLOT_RESERVED) return 'reserved';
  if (swap.cache.get(slot) !== 0) return 'exists';
  if (swap.map.get(slot) === 0) return 'unused';
  swap.cache.set(slot, head + 1);
  folios.swapEntry.set(head, slot + 1);
  folios.change(head, PG_LOCKED | PG_SWAPBACKED | PG_SWAPCACHE);
  getNow(core, head, 1);
  return 'ok';
}

/** swap_read_folio: fill the locked folio from the slot and unlock it. */
function* readIn(core: CoreMm, slot: number, head: number): Steps<void> {
  yield* call(readSlot(core, slot, head));
  yield willUnlock(core, head, READ_DONE);
  core.folios.change(head, PG_UPTODATE);
  unlockNow(core, head);
}

/** The transfer alone. */
export function* readSlot(core: CoreMm, slot: number, head: number): Steps<void> {
  const { frames, swap, vmstat } = core;
  vmstat.willAdd('pswpin', READ);
  swap.content.willRead(slot, READ);
  yield frames.content.willWrite(head, READ);
  frames.content.set(head, swap.content.get(slot));
  vmstat.add('pswpin', 1);
}
