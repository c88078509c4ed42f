// MMU notifiers (mm/mmu_notifier.c): the subscriptions of one mm, hlist and interval kinds, and the windows around PTE
// changes. A window is several steps: interval callbacks first, then hlist callbacks, at start and at end.
import { Cell } from '../engine/cell.ts';
import { eventType } from '../engine/event.ts';
import { hashText, mix } from '../engine/hash.ts';
import { call, type Steps } from '../engine/process.ts';
import { Rcu } from '../engine/rcu.ts';
import type { Sim } from '../engine/sim.ts';
import { step } from '../engine/step.ts';
import { until } from '../engine/wait.ts';
import type { Mm } from './mm.ts';

const REGISTER = step('__mmu_notifier_register');
const UNLINK = step('mmu_notifier_unregister:unlink');
const LIST = step('mn_hlist_invalidate_range_start:walk');
const INV_START = step('mn_itree_inv_start_range');
const INV_END = step('mn_itree_inv_end');
const READ_BEGIN = step('mmu_interval_read_begin');
const READ_WAIT = step('mmu_interval_read_begin:wait');
const SET_SEQ = step('mmu_interval_set_seq');
const INSERT = step('__mmu_interval_notifier_insert');
const REMOVE = step('mmu_interval_notifier_remove');

export type NotifierEvent =
  | 'UNMAP'
  | 'CLEAR'
  | 'PROTECTION_VMA'
  | 'PROTECTION_PAGE'
  | 'SOFT_DIRTY'
  | 'RELEASE'
  | 'MIGRATE'
  | 'EXCLUSIVE';

/** One invalidation window: pages [start, end). */
export interface NotifierRange {
  readonly mm: Mm;
  readonly start: number;
  readonly end: number;
  readonly event: NotifierEvent;
  readonly blockable: boolean;
}

/** A whole-mm notifier (KVM, SVA). A callback may be absent. */
export interface NotifierOps {
  readonly name: string;
  /** False: cannot proceed now (-EAGAIN), only when the range is not blockable. */
  invalidateRangeStart?(range: NotifierRange): Steps<boolean>;
  invalidateRangeEnd?(range: NotifierRange): Steps<void>;
  /** The address space goes away: drop every secondary mapping. */
  release?(mm: Mm): Steps<void>;
  /** Runs under the page-table lock with the CPU's TLB flush; must not block. */
  archInvalidateSecondaryTlbs?(mm: Mm, start: number, end: number): Steps<void>;
  /** clear_flush_young: was it accessed through the secondary MMU? */
  clearFlushYoung?(mm: Mm, start: number, end: number): Steps<boolean>;
}

/** What readers of an interval wait for. */
const INTERVALS_END = 'the end of the invalidations under way';

/** An interval notifier (HMM users). Immutable placement; `seq` is its own sequence number. */
export class IntervalNotifier {
  readonly name: string;
  readonly start: number;
  readonly end: number;
  readonly identity: number;
  readonly seq: Cell<number>;
  /** Stop using the range; false: cannot now (non-blockable only). */
  readonly invalidate: (range: NotifierRange, seq: number) => Steps<boolean>;

  constructor(
    sim: Sim,
    placement: { readonly name: string; readonly start: number; readonly end: number },
    invalidate: (range: NotifierRange, seq: number) => Steps<boolean>,
  ) {
    this.name = placement.name;
    this.start = placement.start;
    this.end = placement.end;
    this.identity = mix(hashText(placement.name), placement.start | 0);
    this.seq = new Cell(sim, `seq of interval notifier ${placement.name}`, 1);
    this.invalidate = invalidate;
  }

  /** mmu_interval_set_seq, called from the callback under the driver's lock. */
  *setSeq(seq: number): Steps<void> {
    yield this.seq.willWrite(SET_SEQ);
    this.seq.value = seq;
  }
}

class Subscriber {
  readonly ops: NotifierOps;
  readonly identity: number;

  constructor(ops: NotifierOps) {
    this.ops = ops;
    this.identity = hashText(ops.name);
  }
}

/** Interval tree state: one object, under the subscriptions lock. */
interface TreeState {
  readonly seq: number;
  readonly active: number;
  readonly intervals: readonly IntervalNotifier[];
  readonly deferredInserts: readonly IntervalNotifier[];
  readonly deferredRemovals: readonly IntervalNotifier[];
  readonly identity: number;
}

function tree(state: Omit<TreeState, 'identity'>): TreeState {
  let identity = mix(state.seq, state.active);
  for (const list of [state.intervals, state.deferredInserts, state.deferredRemovals]) {
    identity = mix(identity, list.length);
    for (const interval of list) identity = mix(identity, interval.identity);
  }
  return { ...state, identity };
}

export interface WindowOpened {
  readonly range: NotifierRange;
}
/** After start() of a window returned in every consumer. */
export const WINDOW_OPENED = eventType<WindowOpened>('notifier-window-opened');
/** Before end() is delivered. */
export const WINDOW_CLOSED = eventType<WindowOpened>('notifier-window-closed');

export class NotifierList {
  readonly sim: Sim;
  readonly mm: Mm;
  private readonly subscribers: Cell<readonly Subscriber[]>;
  /** mm->notifier_subscriptions exists: since the first notifier of any kind, and for as long as the mm. */
  private readonly known: Cell<boolean>;
  /** has_itree: since the first interval notifier, for as long. */
  private readonly hasTree: Cell<boolean>;
  private readonly tree: Cell<TreeState>;
  /** The kernel has one SRCU domain for all mms; here one per mm, which only misses false waits. */
  private readonly srcu: Rcu;

  private readonly pairsEnds: boolean;

  constructor(sim: Sim, mm: Mm, pairsEnds: boolean) {
    this.sim = sim;
    this.mm = mm;
    this.pairsEnds = pairsEnds;
    this.subscribers = new Cell<readonly Subscriber[]>(sim, `mmu notifiers of ${mm.name}`, []);
    this.known = new Cell(sim, `notifier_subscriptions of ${mm.name}`, false, this.subscribers);
    this.hasTree = new Cell(sim, `has_itree of ${mm.name}`, false, this.subscribers);
    this.tree = new Cell<TreeState>(
      sim,
      `interval notifiers of ${mm.name}`,
      tree({ seq: 2, active: 0, intervals: [], deferredInserts: [], deferredRemovals: [] }),
    );
    this.srcu = new Rcu(sim, `mmu notifier SRCU of ${mm.name}`);
  }

  /** __mmu_notifier_register under all locks (registerNotifier); null: interval notifiers follow. At set-up it needs no step. */
  *register(ops: NotifierOps | null): Steps<void> {
    yield this.subscribers.willUpdate(REGISTER);
    if (ops !== null) this.registerNow(ops);
    else {
      this.known.value = true;
      this.hasTree.value = true;
    }
  }

  /** Register while the world is being built. */
  registerNow(ops: NotifierOps): void {
    this.subscribers.value = [new Subscriber(ops), ...this.subscribers.value];
    this.known.value = true;
  }

  /** mmu_notifier_unregister: release, unlink, wait for running callbacks. */
  *unregister(ops: NotifierOps): Steps<void> {
    yield this.srcu.readLock();
    this.srcu.enter();
    const linked = this.subscribers.peek().some((s) => s.ops === ops);
    if (linked && ops.release !== undefined) yield* call(ops.release(this.mm));
    yield this.srcu.readUnlock();
    this.srcu.leave();
    yield this.subscribers.willUpdate(UNLINK);
    this.subscribers.value = this.subscribers.value.filter((s) => s.ops !== ops);
    yield* call(this.srcu.synchronize());
  }

  /**
   * mm_has_notifiers, the other way round: never anybody to tell. A window costs no step then. That a notifier has gone
   * again must not count: a window that is not announced would not be seen to race with its end.
   */
  get empty(): boolean {
    return !this.known.peek();
  }

  /** May an interval notifier join without locks? */
  get hasIntervals(): boolean {
    return this.hasTree.peek();
  }

  get hasSubscribers(): boolean {
    return this.subscribers.peek().length > 0;
  }

  /** mmu_notifier_invalidate_range_start. False (only if not blockable): the caller must not touch the range. */
  *start(range: NotifierRange): Steps<boolean> {
    if (this.empty) return true;
    const itreeOk = yield* call(this.startIntervals(range));
    if (!itreeOk) return false;
    if (this.hasSubscribers) {
      yield this.srcu.readLock();
      this.srcu.enter();
      yield this.subscribers.willRead(LIST);
      const told = this.subscribers.value;
      let failed = false;
      const failedOps: NotifierOps[] = [];
      for (const { ops } of told) {
        if (ops.invalidateRangeStart === undefined) continue;
        if (!(yield* call(ops.invalidateRangeStart(range)))) {
          failed = true;
          failedOps.push(ops);
        }
      }
      // c2655835fd8c: every notifier whose start succeeded gets its end.
      if (failed && this.pairsEnds) {
        for (const { ops } of told) {
          if (ops.invalidateRangeEnd !== undefined && !failedOps.includes(ops))
            yield* call(ops.invalidateRangeEnd(range));
        }
      }
      yield this.srcu.readUnlock();
      this.srcu.leave();
      if (failed) return false;
    }
    if (this.sim.hears(WINDOW_OPENED)) this.sim.emit(WINDOW_OPENED, { range });
    return true;
  }

  /** mmu_notifier_invalidate_range_end. */
  *end(range: NotifierRange): Steps<void> {
    if (this.empty) return;
    if (this.sim.hears(WINDOW_CLOSED)) this.sim.emit(WINDOW_CLOSED, { range });
    yield* call(this.endIntervals());
    if (!this.hasSubscribers) return;
    yield this.srcu.readLock();
    this.srcu.enter();
    yield this.subscribers.willRead(LIST);
    for (const { ops } of this.subscribers.value) {
      if (ops.invalidateRangeEnd !== undefined) yield* call(ops.invalidateRangeEnd(range));
    }
    yield this.srcu.readUnlock();
    this.srcu.leave();
  }

  /** mmu_notifier_release (exit_mmap): before any page of the mm is zapped. */
  *release(): Steps<void> {
    if (this.empty) return;
    const range: NotifierRange = { mm: this.mm, start: 0, end: 2 ** 36, event: 'RELEASE', blockable: true };
    yield* call(this.startIntervals(range));
    yield* call(this.endIntervals());
    if (!this.hasSubscribers) return;
    yield this.srcu.readLock();
    this.srcu.enter();
    for (const { ops } of this.subscribers.peek()) {
      if (ops.release !== undefined) yield* call(ops.release(this.mm));
    }
    yield this.subscribers.willUpdate(UNLINK);
    this.subscribers.value = [];
    yield this.srcu.readUnlock();
    this.srcu.leave();
    yield* call(this.srcu.synchronize());
  }

  /** mmu_notifier_arch_invalidate_secondary_tlbs: follows CPU TLB flushes (since 6.6; before, called at window end). */
  *invalidateSecondaryTlbs(start: number, end: number): Steps<void> {
    for (const { ops } of this.subscribers.peek()) {
      if (ops.archInvalidateSecondaryTlbs !== undefined) {
        yield* call(ops.archInvalidateSecondaryTlbs(this.mm, start, end));
      }
    }
  }

  /** mmu_notifier_clear_flush_young over [start, end). */
  *clearFlushYoung(start: number, end: number): Steps<boolean> {
    let young = false;
    for (const { ops } of this.subscribers.peek()) {
      if (ops.clearFlushYoung !== undefined) young = (yield* call(ops.clearFlushYoung(this.mm, start, end))) || young;
    }
    return young;
  }

  private *startIntervals(range: NotifierRange): Steps<boolean> {
    if (!this.hasTree.peek()) return true;
    yield this.tree.willUpdate(INV_START);
    const state = this.tree.value;
    const overlapping = state.intervals.filter((i) => i.start < range.end && range.start < i.end);
    const seq = overlapping.length > 0 ? state.seq | 1 : state.seq;
    this.tree.value = tree({ ...state, active: state.active + 1, seq });
    for (const interval of overlapping) {
      const ok = yield* call(interval.invalidate(range, seq));
      if (!ok && !range.blockable) {
        yield* call(this.endIntervals());
        return false;
      }
    }
    return true;
  }

  private *endIntervals(): Steps<void> {
    if (!this.hasTree.peek()) return;
    yield this.tree.willUpdate(INV_END);
    const state = this.tree.value;
    if (state.active === 0) return;
    const active = state.active - 1;
    if (active > 0 || (state.seq & 1) === 0) {
      this.tree.value = tree({ ...state, active });
      return;
    }
    // The last window closes: seq turns even and the deferred list is applied, all under the lock.
    const intervals = [...state.intervals, ...state.deferredInserts].filter((i) => !state.deferredRemovals.includes(i));
    this.tree.value = tree({ seq: state.seq + 1, active, intervals, deferredInserts: [], deferredRemovals: [] });
  }

  /** __mmu_interval_notifier_insert */
  *insert(interval: IntervalNotifier): Steps<void> {
    interval.seq.willWrite(INSERT);
    yield this.tree.willUpdate(INSERT);
    const state = this.tree.value;
    if ((state.seq & 1) === 1) {
      interval.seq.value = state.seq;
      this.tree.value = tree({ ...state, deferredInserts: [...state.deferredInserts, interval] });
    } else if (state.active > 0) {
      interval.seq.value = state.seq | 1;
      this.tree.value = tree({ ...state, seq: state.seq | 1, intervals: [...state.intervals, interval] });
    } else {
      interval.seq.value = state.seq - 1;
      this.tree.value = tree({ ...state, intervals: [...state.intervals, interval] });
    }
  }

  /** mmu_interval_notifier_remove: no callback runs after it returns. */
  *remove(interval: IntervalNotifier): Steps<void> {
    yield this.tree.willUpdate(REMOVE);
    const state = this.tree.value;
    if ((state.seq & 1) === 0) {
      this.tree.value = tree({ ...state, intervals: state.intervals.filter((i) => i !== interval) });
      return;
    }
    if (state.deferredInserts.includes(interval)) {
      this.tree.value = tree({ ...state, deferredInserts: state.deferredInserts.filter((i) => i !== interval) });
      return;
    }
    this.tree.value = tree({ ...state, deferredRemovals: [...state.deferredRemovals, interval] });
    const seq = state.seq;
    yield until(this.sim, [this.tree], () => this.tree.peek().seq !== seq, READ_WAIT, { name: INTERVALS_END });
  }

  /** mmu_interval_read_begin: the sequence to check later; waits out a running invalidation of this interval. */
  *readBegin(interval: IntervalNotifier): Steps<number> {
    interval.seq.willRead(READ_BEGIN);
    yield this.tree.willRead(READ_BEGIN);
    const seq = interval.seq.value;
    if (this.tree.value.seq === seq) {
      yield until(this.sim, [this.tree], () => this.tree.peek().seq !== seq, READ_WAIT, { name: INTERVALS_END });
    }
    return seq;
  }
}
