// Per-CPU batches of folios that are to move between LRU lists (mm/swap.c): activation, and MADV_FREE's move to the file
// list. A waiting folio keeps PG_lru and has a reference more; the move happens when the batch is full or drained. Moves
// of deactivation (MADV_COLD, deactivate_file_folio) and rotation are immediate or left out.
import type { Cell } from '../../engine/cell.ts';
import type { Process } from '../../engine/process.ts';
import type { Step } from '../../engine/step.ts';
import type { CoreMm } from '../core.ts';
import { PG_ACTIVE, PG_LRU, PG_REFERENCED, PG_SWAPBACKED, PG_SWAPCACHE, PG_UNEVICTABLE } from '../page-flags.ts';
import { getNow, putNow, willGet, willPut } from '../refcount.ts';

/** PAGEVEC_SIZE */
export function batchSize(core: CoreMm): number {
  return core.kernel.way('lru.batch-size') === 'thirty-one' ? 31 : 15;
}

/** Where the ages that an actor gives begin: after all that its parent had given when it forked. */
const agesAfter = new WeakMap<Process, number>();

/** Position on an LRU list, numbered by who put the folio there. What a child adds is younger than what its parent had. */
export function nextAge(core: CoreMm): number {
  const { current } = core.sim;
  return current === null ? 0 : (agesAfter.get(current) ?? 0) + current.nextNumber();
}

/** A child was forked when its parent's numbers stood at `number`. */
export function inheritAges(parent: Process, number: number, child: Process): void {
  agesAfter.set(child, (agesAfter.get(parent) ?? 0) + number);
}

/** lru_lazyfree: swapbacked, neither in the swap cache nor unevictable. */
export function lazyfreeable(flags: number): boolean {
  return (flags & PG_SWAPBACKED) !== 0 && (flags & (PG_SWAPCACHE | PG_UNEVICTABLE)) === 0;
}

/** lru_activate */
function activatable(flags: number): boolean {
  return (flags & (PG_ACTIVE | PG_UNEVICTABLE)) === 0;
}

/** What the drain of a batch does to the flags of a folio; undefined: nothing any more. */
type Move = (flags: number) => number | undefined;

const MOVES = {
  // Until the drain it is an ordinary page; then it is discardable, on the inactive file list.
  lruLazyfree: (flags) => (lazyfreeable(flags) ? flags & ~(PG_ACTIVE | PG_REFERENCED | PG_SWAPBACKED) : undefined),
  lruActivate: (flags) => (activatable(flags) ? flags | PG_ACTIVE : undefined),
} satisfies Record<string, Move>;
export type MoveBatch = keyof typeof MOVES;
/** In the order in which lru_add_drain_cpu empties them. */
export const MOVE_BATCHES = Object.keys(MOVES) as readonly MoveBatch[];

/**
 * Announce putting up to `count` folios from `head` on in this CPU's batch; if that may fill it, all that emptying it
 * touches.
 */
export function willBatch(core: CoreMm, batch: MoveBatch, head: number, count: number, at: Step): void {
  const cell = core.local[batch];
  if (cell.peek().length + count < batchSize(core) && !core.folios.isLarge(head)) {
    if (count === 1) willGet(core, head, at);
    else core.folios.refcount.willUpdateRange(head, head + count - 1, at);
  } else {
    for (const waiting of cell.peek()) willPut(core, waiting, at);
    if (count > 1 && core.folios.refcount.bulk) {
      core.folios.refcount.willUpdateRange(head, head + count - 1, at);
      core.folios.lruAge.willUpdateRange(head, head + count - 1, at);
    } else for (let i = 0; i < count; i++) willPut(core, head + i, at);
  }
  cell.willUpdate(at);
}

/** folio_batch_add_and_move of a folio on a list: a full batch, or a large folio, empties the batch at once. */
export function batchNow(core: CoreMm, batch: MoveBatch, head: number): void {
  const cell = core.local[batch];
  getNow(core, head, 1);
  cell.value = [...cell.value, head];
  if (cell.value.length < batchSize(core) && !core.folios.isLarge(head)) return;
  moveNow(core, batch, cell, cell.value);
}

/**
 * `batchNow` for each of the small folios first..last, which are on a list and have the same flags, where runs are
 * written without telling anybody: whole batches go where they go at once. `clear`: flags that each loses afterwards.
 */
export function batchRunNow(core: CoreMm, batch: MoveBatch, first: number, last: number, clear: number): void {
  const { folios } = core;
  const size = batchSize(core);
  const one = (head: number): void => {
    batchNow(core, batch, head);
    folios.flags.set(head, folios.flags.get(head) & ~clear);
  };
  let pfn = first;
  while (pfn <= last && core.local[batch].peek().length > 0) one(pfn++);
  const whole = Math.floor((last - pfn + 1) / size) * size;
  const flags = whole === 0 ? 0 : folios.flags.get(pfn);
  const moved = MOVES[batch](flags);
  if (whole > 0 && moved !== undefined) {
    const age = nextAge(core);
    for (let i = 1; i < whole; i++) nextAge(core);
    folios.lruAge.fillRising(pfn, pfn + whole - 1, age);
    folios.flags.fill(pfn, pfn + whole - 1, moved & ~clear);
    pfn += whole;
  }
  while (pfn <= last) one(pfn++);
}

/** folio_batch_move_lru of those of `heads` that still wait in the batch: they move, and lose the batch's reference. */
export function moveNow(core: CoreMm, batch: MoveBatch, cell: Cell<readonly number[]>, heads: readonly number[]): void {
  const { folios } = core;
  const waiting = cell.value;
  const moving = waiting === heads ? waiting : waiting.filter((head) => heads.includes(head));
  cell.value = waiting === heads ? [] : waiting.filter((head) => !heads.includes(head));
  for (const head of moving) {
    const flags = folios.flags.get(head);
    // Isolated meanwhile: it stays with whoever has it.
    const moved = (flags & PG_LRU) === 0 ? undefined : MOVES[batch](flags);
    if (moved !== undefined) {
      folios.flags.set(head, moved);
      folios.lruAge.set(head, nextAge(core));
    }
    putNow(core, head, 1, `${batch} drain`);
  }
}
