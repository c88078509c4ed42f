// LRU lists and their per-CPU batches (mm/swap.c). A folio waiting in a batch has a reference more and PG_lru clear:
// it cannot be isolated, and exact reference counts fail. Order within a list is by age, numbered by who put it there.
import { call, type Steps } from '../../engine/process.ts';
import { type Step, step } from '../../engine/step.ts';
import type { PerCpu } from '../alloc/per-cpu.ts';
import type { CoreMm } from '../core.ts';
import {
  PG_ACTIVE,
  PG_IN_LRU_BATCH,
  PG_ISOLATED,
  PG_LRU,
  PG_LRU_YOUNG,
  PG_MLOCKED,
  PG_REFERENCED,
  PG_SWAPBACKED,
  PG_SWAPCACHE,
  PG_UNEVICTABLE,
} from '../page-flags.ts';
import { getNow, putNow, tryGetNow, willPut, willPutRun } from '../refcount.ts';
import { batchNow, batchSize, lazyfreeable, MOVE_BATCHES, moveNow, nextAge, willBatch } from './lru-move.ts';

export { batchSize } from './lru-move.ts';

const ADD = step('folio_add_lru', 'op');
const DRAIN = step('lru_add_drain_cpu', 'op');
const NEEDS_DRAIN = step('cpu_needs_drain', 'none');
const ISOLATE = step('folio_isolate_lru', 'op');
const PUTBACK = step('folio_putback_lru', 'op');
const MOVE = step('move_folios_to_lru', 'op');

/**
 * folio_add_lru: the batch takes a reference; a full batch, or a large folio, drains it. `inFault`: for a page fault
 * (lru_gen_in_fault), which the multi-gen LRU takes for use.
 */
export function* folioAddLru(core: CoreMm, head: number, inFault = false): Steps<void> {
  const { folios, local } = core;
  const batch = local.lruAdd;
  folios.refcount.willUpdate(head, ADD);
  folios.flags.willUpdate(head, ADD);
  yield batch.willUpdate(ADD);
  getNow(core, head, 1);
  const active = inFault && !folios.has(head, PG_MLOCKED | PG_UNEVICTABLE) ? activeInFault(core) : 0;
  folios.change(head, PG_IN_LRU_BATCH | active, PG_ISOLATED);
  batch.value = [...batch.value, head];
  if (folios.isLarge(head) || batch.value.length >= batchSize(core)) yield* call(drainAdded(core, local, batch.value));
}

/** The flag that folio_add_lru sets in a page fault, or 0. */
export function activeInFault(core: CoreMm): number {
  return core.kernel.has('reclaim.multigen-lru') ? PG_ACTIVE : 0;
}

/** lru_add_drain: this CPU's batches. */
export function* lruAddDrain(core: CoreMm): Steps<void> {
  yield* call(drainCpu(core, core.local));
}

/** lru_add_drain_all: every CPU's, one after the other (a work item on each CPU in the kernel). */
export function* lruAddDrainAll(core: CoreMm): Steps<void> {
  for (const perCpu of core.perCpu) yield* call(drainCpu(core, perCpu));
}

/** lru_add_drain_cpu: the batched folios go to their lists, and the batches drop their references. */
function* drainCpu(core: CoreMm, perCpu: PerCpu): Steps<void> {
  // cpu_needs_drain, and what the drain itself finds: that a batch is empty is as much a reading as what is in it.
  for (const batch of MOVE_BATCHES) perCpu[batch].willRead(NEEDS_DRAIN);
  yield perCpu.lruAdd.willRead(NEEDS_DRAIN);
  const waiting = perCpu.lruAdd.value;
  const moves = MOVE_BATCHES.map((batch) => ({ batch, cell: perCpu[batch], heads: perCpu[batch].value }));
  if (waiting.length === 0 && moves.every(({ heads }) => heads.length === 0)) return;
  willAdd(core, waiting);
  for (const { cell, heads } of moves) {
    for (const head of heads) willPut(core, head, DRAIN);
    cell.willUpdate(DRAIN);
  }
  yield perCpu.lruAdd.willUpdate(DRAIN);
  addNow(core, perCpu, waiting);
  for (const { batch, cell, heads } of moves) moveNow(core, batch, cell, heads);
}

/** folio_batch_move_lru of the batch of new folios alone, when one of `waiting` filled it. */
function* drainAdded(core: CoreMm, perCpu: PerCpu, waiting: readonly number[]): Steps<void> {
  willAdd(core, waiting);
  yield perCpu.lruAdd.willUpdate(DRAIN);
  addNow(core, perCpu, waiting);
}

/** Announce, for DRAIN, that the folios in `waiting` go to their lists. */
function willAdd(core: CoreMm, waiting: readonly number[]): void {
  forSmallRuns(core, waiting, (first, last) => {
    if (first === last) willPut(core, first, DRAIN);
    else willPutRun(core, first, last, DRAIN);
  });
  core.lru.willAdd(DRAIN);
}

/** lru_add_fn of those of `waiting` that are still in the batch. */
function addNow(core: CoreMm, perCpu: PerCpu, waiting: readonly number[]): void {
  // Another CPU may have drained it, or its owner added to it, since: only what was announced moves now.
  const now = perCpu.lruAdd.value;
  const same = now === waiting;
  const moved = same ? now : now.filter((head) => waiting.includes(head));
  perCpu.lruAdd.value = same ? [] : now.filter((head) => !waiting.includes(head));
  forSmallRuns(core, moved, (first, last) => {
    if (first < last && moveRun(core, first, last)) return;
    for (let head = first; head <= last; head++) {
      putOnList(core, head, PG_IN_LRU_BATCH);
      putNow(core, head, 1, 'lru_add_drain');
    }
  });
  core.lru.add(moved.length);
}

/** The stretches of `heads` in which one small folio follows the other. */
function forSmallRuns(core: CoreMm, heads: readonly number[], act: (first: number, last: number) => void): void {
  const { folios } = core;
  for (let at = 0; at < heads.length; ) {
    const first = heads[at]!;
    let last = first;
    at++;
    if (!folios.isLarge(first)) {
      while (at < heads.length && heads[at] === last + 1 && !folios.isLarge(last + 1)) {
        last++;
        at++;
      }
    }
    act(first, last);
  }
}

/** A run that is alike, and that somebody else holds too, moves as one. False: it has to go one by one. */
function moveRun(core: CoreMm, first: number, last: number): boolean {
  const { flags, refcount, lruAge } = core.folios;
  if (!refcount.bulk || flags.endOfRun(first, last) !== last) return false;
  if (refcount.firstOutside(first, last, 2, Number.POSITIVE_INFINITY) <= last) return false;
  const age = nextAge(core);
  for (let head = first + 1; head <= last; head++) nextAge(core);
  flags.fill(first, last, onList(core, flags.peek(first), PG_IN_LRU_BATCH));
  lruAge.fillRising(first, last, age);
  refcount.addRange(first, last, -1);
  return true;
}

/**
 * Flags of a folio once it is on its list. lru_gen_add_folio: the generation says what active and referenced said.
 */
export function onList(core: CoreMm, flags: number, clear: number): number {
  const unevictable = (flags & PG_MLOCKED) !== 0;
  if (core.kernel.has('reclaim.multigen-lru') && !unevictable) {
    const active = (flags & PG_ACTIVE) !== 0;
    const young = active || (flags & (PG_SWAPBACKED | PG_SWAPCACHE)) === PG_SWAPBACKED;
    const gone = clear | PG_LRU_YOUNG | (active ? PG_ACTIVE | PG_REFERENCED : 0);
    return (flags & ~gone) | PG_LRU | (young ? PG_LRU_YOUNG : 0);
  }
  return (flags & ~clear & ~(unevictable ? PG_ACTIVE : 0)) | PG_LRU | (unevictable ? PG_UNEVICTABLE : 0);
}

/** lruvec_add_folio; in a step that announced the folio's flags and the lists. */
export function putOnList(core: CoreMm, head: number, clear: number): void {
  const { folios } = core;
  folios.flags.set(head, onList(core, folios.flags.get(head), clear));
  folios.lruAge.set(head, nextAge(core));
}

/** folio_mark_lazyfree: queue for the move; the batch takes a reference. */
export function* folioMarkLazyfree(core: CoreMm, head: number, at: Step): Steps<void> {
  const { folios, local } = core;
  willBatch(core, 'lruLazyfree', head, 1, at);
  yield folios.flags.willUpdate(head, at);
  const flags = folios.flags.get(head);
  if ((flags & PG_LRU) === 0 || !lazyfreeable(flags) || local.lruLazyfree.value.includes(head)) return;
  batchNow(core, 'lruLazyfree', head);
}

/**
 * folio_batch_release drains this CPU's batches before it drops what it held, so that pages which writeback, truncation or
 * invalidation looked at do not linger there (once for each batch variable: percpu_pvec_drained).
 */
export function* folioBatchRelease(core: CoreMm): Steps<void> {
  yield* call(lruAddDrain(core));
}

/** folio_isolate_lru: test-and-clear PG_lru wins the isolation, with a reference. */
export function* folioIsolateLru(core: CoreMm, head: number): Steps<boolean> {
  const { folios } = core;
  folios.refcount.willUpdate(head, ISOLATE);
  core.lru.willAdd(ISOLATE);
  yield folios.flags.willUpdate(head, ISOLATE);
  return isolateNow(core, head);
}

/** The act of folio_isolate_lru, to merge in a scan's step. */
export function isolateNow(core: CoreMm, head: number): boolean {
  const { folios } = core;
  const flags = folios.flags.get(head);
  if ((flags & PG_LRU) === 0 || !tryGetNow(core, head, 1)) return false;
  // lru_gen_del_folio: the flag speaks for the generation while the folio is on no list.
  const young = (flags & PG_LRU_YOUNG) !== 0 ? PG_ACTIVE : 0;
  folios.change(head, PG_ISOLATED | young, PG_LRU | PG_LRU_YOUNG);
  core.lru.add(-1);
  return true;
}

/**
 * folio_putback_lru: an isolated folio goes back as a new one would, through this CPU's batch; until that is drained it
 * has neither PG_lru nor a place, and one reference more.
 */
export function* folioPutbackLru(core: CoreMm, head: number): Steps<void> {
  yield* call(folioAddLru(core, head));
  yield willPut(core, head, PUTBACK);
  putNow(core, head, 1, 'folio_putback_lru');
}

/** move_folios_to_lru: reclaim puts what it keeps straight on a list, and drops the isolation's reference. */
export function* moveFolioToLru(core: CoreMm, head: number, clear = 0): Steps<void> {
  willPut(core, head, MOVE);
  yield core.lru.willAdd(MOVE);
  putOnList(core, head, PG_ISOLATED | clear);
  core.lru.add(1);
  putNow(core, head, 1, 'move_folios_to_lru');
}
