// Taking and dropping references of folios (mm/gup.c try_get_folio, mm/swap.c __folio_put). The last put frees: the
// generation advances, and the frames go back to the running CPU's free list.

import type { Cell } from '../engine/cell.ts';
import { call, type Steps } from '../engine/process.ts';
import { type Announced, type Step, step } from '../engine/step.ts';
import { PMD_PAGES } from '../hw/machine.ts';
import { giveBack } from './alloc/free-runs.ts';
import type { CoreMm } from './core.ts';
import {
  PG_DIRTY,
  PG_HUGETLB,
  PG_HUGETLB_TEMPORARY,
  PG_HWPOISON,
  PG_REFERENCED,
  PG_RESERVED,
  PG_RESTORE_RESERVE,
  PG_UPTODATE,
} from './page-flags.ts';

const PUT = step('folio_put', 'refcount');

/** Flags that a page keeps in the hugetlb pool. */
const POOLED = PG_UPTODATE | PG_REFERENCED | PG_DIRTY | PG_HWPOISON;

/** Announce a get (or a try_get) of `head`. */
export function willGet(core: CoreMm, head: number, at: Step): Announced {
  return core.folios.refcount.willUpdate(head, at);
}

/** folio_ref_add, in a step announced by `willGet`. The caller knows that the folio is alive. */
export function getNow(core: CoreMm, head: number, references: number): void {
  const { refcount } = core.folios;
  refcount.set(head, refcount.get(head) + references);
}

/** folio_try_get / try_get_folio: false when the folio is free or frozen. */
export function tryGetNow(core: CoreMm, head: number, references: number): boolean {
  const { refcount } = core.folios;
  const now = refcount.get(head);
  if (now <= 0) return false;
  refcount.set(head, now + references);
  return true;
}

/** Announce a put of `head` and all that freeing it would touch. */
export function willPut(core: CoreMm, head: number, at: Step): Announced {
  const { folios, frames } = core;
  const order = folios.orderOf(head);
  folios.flags.willPerhaps(head, at);
  folios.mapping.willUpdate(head, at);
  folios.order.willUpdate(head, at);
  if (order === 0) folios.anonExclusive.willPerhaps(head, at);
  else folios.anonExclusive.willPerhapsRange(head, head + 2 ** order - 1, at);
  frames.willRelease(head, order, at);
  const pool = poolOf(core, folios.flags.peek(head), order);
  if (pool !== undefined) pool.willPerhaps(at);
  else {
    core.local.freePages.willPerhaps(at);
    core.local.freeBlocks.willPerhaps(at);
    if (core.local.freePages.peek().length > PCP_HIGH / 2 || core.local.freeBlocks.peek().length > PCP_HIGH / 2) {
      for (const zone of core.zones) {
        zone.freePages.willAdd(at);
        zone.freeRuns.willPerhaps(at);
      }
    }
  }
  return folios.refcount.willUpdate(head, at);
}

/** The pool that a folio of these flags goes back to. */
function poolOf(core: CoreMm, flags: number, order: number): Cell<readonly number[]> | undefined {
  return (flags & (PG_HUGETLB | PG_HUGETLB_TEMPORARY)) === PG_HUGETLB ? core.hugePool.get(order) : undefined;
}

/** As `willPut`, for each of the small folios first..last. */
export function willPutRun(core: CoreMm, first: number, last: number, at: Step): Announced {
  const { folios, frames, local } = core;
  folios.flags.willUpdateRange(first, last, at);
  folios.mapping.willUpdateRange(first, last, at);
  folios.order.willUpdateRange(first, last, at);
  folios.anonExclusive.willUpdateRange(first, last, at);
  frames.willReleaseRange(first, last - first + 1, at);
  local.freePages.willUpdate(at);
  local.freeBlocks.willUpdate(at);
  if (local.freePages.peek().length + last - first > PCP_HIGH / 2 || local.freeBlocks.peek().length > PCP_HIGH / 2) {
    for (const zone of core.zones) {
      zone.freePages.willAdd(at);
      zone.freeRuns.willUpdate(at);
    }
  }
  return folios.refcount.willUpdateRange(first, last, at);
}

/** Drop references, in a step announced by `willPut`. True when the folio was freed. */
export function putNow(core: CoreMm, head: number, references: number, why: string): boolean {
  const { refcount } = core.folios;
  const left = refcount.get(head) - references;
  refcount.set(head, left);
  if (left !== 0) return false;
  freeFolio(core, head, why);
  return true;
}

/** folio_put as a step of its own. */
export function* folioPut(core: CoreMm, head: number, references: number, why: string): Steps<boolean> {
  yield willPut(core, head, PUT);
  return putNow(core, head, references, why);
}

/** folio_get as a step of its own. */
export function* folioGet(core: CoreMm, head: number, references: number, at: Step): Steps<void> {
  yield willGet(core, head, at);
  getNow(core, head, references);
}

/** folio_ref_freeze(expected -> 0): false when any other reference exists. In a step announced by `willGet`. */
export function freezeNow(core: CoreMm, head: number, expected: number): boolean {
  const { refcount } = core.folios;
  if (refcount.get(head) !== expected) return false;
  refcount.set(head, 0);
  return true;
}

/** folio_ref_unfreeze */
export function unfreezeNow(core: CoreMm, head: number, references: number): void {
  core.folios.refcount.set(head, references);
}

/**
 * __folio_put with refcount already 0 (also after a successful freeze), in a step announced by `willPut`. hugetlb pages
 * return to their pool, others to the CPU's list.
 */
export function freeFolio(core: CoreMm, head: number, why: string): void {
  const { folios, frames } = core;
  const order = folios.orderOf(head);
  const flags = folios.flags.get(head);
  if ((flags & PG_RESERVED) !== 0) throw new Error(`reserved page ${head} freed by ${why}`);
  const pool = poolOf(core, flags, order);
  // free_huge_folio clears no flags: whoever gets the page next finds what its last user left.
  folios.flags.set(head, pool === undefined ? 0 : flags & POOLED);
  folios.lruAge.set(head, 0);
  folios.mapping.set(head, 0);
  folios.index.set(head, 0);
  folios.swapEntry.set(head, 0);
  if (order === 0) folios.anonExclusive.set(head, 0);
  else folios.anonExclusive.fill(head, head + 2 ** order - 1, 0);
  frames.release(head, order, why);
  if (pool !== undefined) {
    pool.value = [...pool.value, head];
    const reserved = core.hugeReserved.get(order)!;
    if ((flags & PG_RESTORE_RESERVE) !== 0) reserved.value += 1;
    return;
  }
  const list = order === 0 ? core.local.freePages : core.local.freeBlocks;
  if (order > 0) folios.order.set(head, 0);
  list.value = [...list.value, head];
  if (list.value.length >= PCP_HIGH) spill(core, list);
}

/** free_pcppages_bulk: the older half of a long list goes back to the zones. */
function spill(core: CoreMm, list: Cell<readonly number[]>): void {
  const { sim } = core;
  const half = list.value.slice(0, PCP_HIGH / 2);
  list.value = list.value.slice(PCP_HIGH / 2);
  // Announced by willPut when the list was long enough to spill.
  sim.unwatched(() => {
    for (const pfn of half) giveBack(core, pfn, list === core.local.freePages ? 1 : PMD_PAGES);
  });
}

/** How long a CPU's free list may grow before half of it goes back to its zone (pcp->high). */
const PCP_HIGH = 256;

/**
 * Free a run of small, unmapped folios that hold exactly `1` reference each: the bulk form of folio_put for runs that
 * nobody else can reach. They go back to their zone.
 */
export function* freeRun(core: CoreMm, first: number, pages: number, why: string): Steps<void> {
  const { folios, frames } = core;
  const last = first + pages - 1;
  const zone = core.zones[core.machine.zoneOf(first)!.index]!;
  folios.refcount.willUpdateRange(first, last, PUT);
  folios.flags.willUpdateRange(first, last, PUT);
  folios.mapping.willUpdateRange(first, last, PUT);
  folios.anonExclusive.willUpdateRange(first, last, PUT);
  frames.willReleaseRange(first, pages, PUT);
  zone.freePages.willAdd(PUT);
  yield core.sim.times(pages, zone.freeRuns.willUpdate(PUT));
  folios.refcount.fill(first, last, 0);
  folios.flags.fill(first, last, 0);
  folios.lruAge.fill(first, last, 0);
  folios.mapping.fill(first, last, 0);
  folios.index.fill(first, last, 0);
  folios.swapEntry.fill(first, last, 0);
  folios.anonExclusive.fill(first, last, 0);
  frames.releaseRun(first, pages, why);
  giveBack(core, first, pages);
}

/**
 * Drop one reference of each of a run of small folios: the bulk form of folio_put. Parts whose folios hold no other
 * reference are freed as one; the others, pinned or in a page cache, only count down.
 */
export function* putRun(core: CoreMm, first: number, pages: number, why: string): Steps<void> {
  const { refcount } = core.folios;
  const last = first + pages - 1;
  for (let from = first; from <= last; ) {
    const to = refcount.endOfRun(from, last);
    if (refcount.peek(from) === 1) yield* call(freeRun(core, from, to - from + 1, why));
    else {
      yield core.sim.times(to - from + 1, refcount.willUpdateRange(from, to, PUT));
      refcount.addRange(from, to, -1);
    }
    from = to + 1;
  }
}
