// Which orders the execution at hand leaves to be tried: pairs of steps that race, waits that another order would have
// let through earlier, and choices not taken. Each becomes a sequence to run from the node before the first step of the
// pair, as in Abdulla, Aronis, Jonsson, Sagonas: "Source sets", JACM 64(4), 2017, extended to steps that wait.
//
// Why waits need more than races between steps that acted: say p shuts a gate at which r waits. When r acts at last it
// follows whoever opened the gate again, and races with that one only. So each step that shut a gate for a waiting r is
// reversed with r where r could have acted without it, in every way to order the other steps that matter to the gate.
// A lock is shut by whoever took it last, a gate that promises to last by nobody.
import type { Process } from '../engine/process.ts';
import type { Sim } from '../engine/sim.ts';
import { JoinGate } from '../engine/wait.ts';
import { Action, type Actions, COMMUTE, NO_CHOICES, relation, SEVERAL } from './action.ts';
import { ALL, Asked, nameOfBefore } from './asked.ts';
import type { Identity } from './identity.ts';
import { Coverage, Sequence } from './sequence.ts';
import { downwardClosed, type Trace, type TraceEvent } from './trace.ts';

/** Could the last step act in the new order? */
export const SURE = 0;
export const TO_BE_TRIED = 1;
export const IMPOSSIBLE = 2;

/** Run from before step `first`: every later step that does not depend on it, then `last`. */
export class Reversal {
  first = 0;
  state = SURE;
  last: Action;
  /** The step after which the actor of `last` came to it. */
  arrival = -1;
  /** Of the steps that conflict with `last`, only these may come before it; null: all may. */
  kept: readonly number[] | null = null;
  /** Why nothing more had to be run for it when it was last looked at. */
  readonly coverage = new Coverage();

  constructor(last: Action) {
    this.last = last;
  }
}

const NONE: readonly number[] = [];
const NEVER = -2;

export class Reversals {
  private readonly sim: Sim;
  private readonly identity: Identity;
  private readonly trace: Trace;
  private readonly actions: Actions;
  // By index of the step that completed the pair.
  private readonly lists: Reversal[][] = [];
  private readonly counts: number[] = [];
  // By index of step: for each actor 0 unknown, 1 shut, 2 open before that step. Kept only where gates need it.
  private readonly gates: (number[] | undefined)[] = [];
  private gatesMatter = false;
  private readonly waiting = new Action();
  private readonly spans: number[] = [];
  // By actor: what it announced after which step of the trace.
  private readonly announcedAfter: number[] = [];
  private readonly announcedStep: Action[] = [];
  private readonly asked = new Asked();
  private readonly asking = new Reversal(this.waiting);
  private readonly before: Sequence;

  constructor(sim: Sim, identity: Identity, trace: Trace, actions: Actions) {
    this.sim = sim;
    this.identity = identity;
    this.trace = trace;
    this.actions = actions;
    this.before = new Sequence(trace, actions);
  }

  count(at: number): number {
    return this.counts[at] ?? 0;
  }

  get(at: number, i: number): Reversal {
    return this.lists[at]![i]!;
  }

  /** `process` has announced a step: from the first gate that matters on, gates are noted. */
  consider(process: Process): void {
    if (process.announced.gate !== null && process.state === 'live' && mayWait(process)) this.gatesMatter = true;
  }

  /** Note which gates are open before step `at`. */
  noteGates(at: number): void {
    if (!this.gatesMatter) return;
    const { processes } = this.sim;
    let row = this.gates[at];
    if (row === undefined) {
      row = [];
      this.gates[at] = row;
    }
    for (let actor = 0; actor < row.length; actor++) row[actor] = 0;
    for (const process of processes) {
      const known = process.state === 'live' && process.announced.gate !== null;
      row[this.identity.numberOf(process)] = known ? (process.enabled ? 2 : 1) : 0;
    }
  }

  private openBefore(at: number, actor: number): number {
    return this.gates[at]?.[actor] ?? 0;
  }

  /** Step `at` passed a gate: was it open without step `first`, with which it races? 0 unknown, 1 shut, 2 open. */
  private openWithout(first: number, at: number, event: TraceEvent, arrival: number): number {
    if (arrival >= first) return 0;
    // Where nothing else that matters to the gate comes between, it is as it was seen before `first`.
    if (event.key === SEVERAL && this.conflicting(first, at - 1, event.announced, arrival).length > 0) return 0;
    return this.openBefore(first, event.actor);
  }

  /** Step `at` was added to the trace by `process`: collect what it leaves to be tried. */
  collect(at: number, process: Process): void {
    this.counts[at] = 0;
    const event = this.trace.events[at]!;
    this.collectRaces(at, event, process);
    this.consider(process);
    this.noteGates(at + 1);
    if (this.gatesMatter) this.collectWaits(at, event, process);
  }

  private collectRaces(at: number, event: TraceEvent, process: Process): void {
    const { trace, identity } = this;
    const gate = process.acted.gate;
    const promise = gate === null ? 'always' : gate.promise;
    const lock = promise === 'lock' ? identity.lasting(gate!.lockId!) : -1;
    const arrival = trace.arrivalOfStep(at);
    for (let i = 0; i < trace.raceCount; i++) {
      const first = trace.racing[i]!;
      let state = SURE;
      const other = trace.events[first]!;
      if (promise === 'lock') {
        // Whoever wrote the lock last before it was taken freed it.
        if (other.writes(lock)) continue;
      } else if (promise !== 'always' && other.mayWriteTo(event.announced)) {
        const open = this.openWithout(first, at, event, arrival);
        if (open === 1) continue;
        if (open === 0) state = TO_BE_TRIED;
      }
      // What an event only read makes no difference to this one: it would choose and do just the same before it.
      const last = other.mayWriteTo(event.announced) ? this.unchosen(event.announced) : event;
      this.add(at, first, last, arrival, state, null);
    }
    if (lock >= 0) this.collectLockWait(at, at, lock, this.unchosen(event.announced), arrival);
  }

  /** The same step before its choices are made. */
  private unchosen(step: Action): Action {
    if (step.choices.length === 0) return step;
    this.waiting.copy(step);
    this.waiting.choices = NO_CHOICES;
    return this.actions.share(this.waiting);
  }

  /** `last` waits for `lock`: the step before `below` that took it last could have come later. */
  private collectLockWait(at: number, below: number, lock: number, last: Action, arrival: number): void {
    const { trace } = this;
    for (let i = below - 1; i >= 0; i--) {
      const event = trace.events[i]!;
      if (event.took !== lock) continue;
      if (event.actor === last.actor || (arrival >= 0 && trace.before(i, arrival))) return;
      this.add(at, i, last, arrival, SURE, null);
      return;
    }
  }

  /** Waits at gates that may open and shut: for those waiting now, and for those that arrived with step `at`. */
  private collectWaits(at: number, event: TraceEvent, process: Process): void {
    for (const other of this.sim.processes) {
      if (other.state !== 'live' || !mayShut(other)) continue;
      const actor = this.identity.numberOf(other);
      const arrival = this.trace.arrivalOf(actor);
      const last = this.nextStepOf(actor, other);
      if (arrival === at) this.collectArrival(at, last, other);
      else if (other !== process) this.collectShut(at, event, last, arrival, other);
    }
  }

  /** What `process` has announced, outcome and choices open. */
  private nextStepOf(actor: number, process: Process): Action {
    const { waiting, trace } = this;
    const arrival = trace.arrivalOf(actor);
    // Until the process acts or the search goes back, it waits with the same step.
    if (this.announcedAfter[actor] === arrival) return this.announcedStep[actor]!;
    const before = trace.lastStepOf(actor);
    waiting.actor = actor;
    waiting.number = before < 0 ? 1 : trace.events[before]!.number + 1;
    waiting.choices = NO_CHOICES;
    waiting.alternatives = NO_CHOICES;
    waiting.setAccesses(process.announced, this.identity, false);
    const step = this.actions.share(waiting);
    this.announcedAfter[actor] = arrival;
    this.announcedStep[actor] = step;
    return step;
  }

  /** The trace was cut back to `length` steps: what was announced after later ones is forgotten. */
  cutBack(length: number): void {
    for (let a = 0; a < this.announcedAfter.length; a++) {
      if (this.announcedAfter[a]! >= length) this.announcedAfter[a] = NEVER;
    }
    this.asked.cutBack(length);
  }

  /** Step `at` may have shut the gate at which `last` was waiting, or it may be one more to be ordered with others. */
  private collectShut(at: number, event: TraceEvent, last: Action, arrival: number, waiter: Process): void {
    if (relation(event, last) === COMMUTE) return;
    const { trace } = this;
    if (event.mayWriteTo(last)) this.collectIfShut(at, at, last, arrival, NONE, waiter);
    if (last.key !== SEVERAL) return;
    for (let first = at - 1; first >= 0; first--) {
      if (trace.before(first, at) || !this.mayShutFor(first, last, arrival)) continue;
      const between = this.conflicting(first, at - 1, last, arrival);
      for (const kept of downwardClosed(trace, [...between, at])) {
        if (kept.includes(at)) this.collectIfShut(at, first, last, arrival, kept, waiter);
      }
    }
  }

  /** `last` was announced by step `at`: any step that did not happen before may have shut the gate already. */
  private collectArrival(at: number, last: Action, waiter: Process): void {
    for (let first = at - 1; first >= 0; first--) {
      if (!this.mayShutFor(first, last, at)) continue;
      if (last.key !== SEVERAL) this.collectIfShut(at, first, last, at, NONE, waiter);
      else {
        for (const kept of downwardClosed(this.trace, this.conflicting(first, at, last, at))) {
          this.collectIfShut(at, first, last, at, kept, waiter);
        }
      }
    }
  }

  /** Did step `first` shut the waiter's gate, had only the `kept` ones of the steps that matter to it come besides? */
  private collectIfShut(
    at: number,
    first: number,
    last: Action,
    arrival: number,
    kept: readonly number[],
    waiter: Process,
  ): void {
    if (
      this.openWith(first, false, last, arrival, kept, waiter) &&
      !this.openWith(first, true, last, arrival, kept, waiter)
    ) {
      this.add(at, first, last, arrival, SURE, kept);
    }
  }

  /** Would the waiter's gate be open after the steps before `first`, `first` itself if `itself`, and those kept? */
  private openWith(
    first: number,
    itself: boolean,
    last: Action,
    arrival: number,
    kept: readonly number[],
    waiter: Process,
  ): boolean {
    const { trace, spans } = this;
    spans.length = 0;
    const from = itself ? trace.events[first]!.journalEnd : trace.journalFrom(first);
    // Steps that led the waiter here may have written what its gate looks at.
    for (let i = first + 1; i < trace.length; i++) {
      const matters = kept.includes(i) || (arrival >= 0 && last.key === SEVERAL && trace.before(i, arrival));
      if (matters) spans.push(trace.journalFrom(i), trace.events[i]!.journalEnd);
    }
    return this.sim.lookBack(from, spans, () => waiter.enabled);
  }

  private mayShutFor(first: number, last: Action, arrival: number): boolean {
    const event = this.trace.events[first]!;
    if (event.actor === last.actor || !event.mayWriteTo(last)) return false;
    return arrival < 0 || !this.trace.before(first, arrival);
  }

  /** Steps after `first` up to `end` that conflict with `last`, independent of `first` and of the arrival. */
  private conflicting(first: number, end: number, last: Action, arrival: number): number[] {
    const { trace } = this;
    const found: number[] = [];
    for (let i = first + 1; i <= end; i++) {
      if (trace.before(first, i) || (arrival >= 0 && trace.before(i, arrival))) continue;
      if (relation(trace.events[i]!, last) !== COMMUTE) found.push(i);
    }
    return found;
  }

  private add(
    at: number,
    first: number,
    last: Action,
    arrival: number,
    state: number,
    kept: readonly number[] | null,
  ): void {
    let list = this.lists[at];
    if (list === undefined) {
      list = [];
      this.lists[at] = list;
    }
    const i = this.counts[at] ?? 0;
    let reversal = list[i];
    if (reversal === undefined) {
      reversal = new Reversal(last);
      list[i] = reversal;
    }
    reversal.first = first;
    reversal.state = state;
    reversal.arrival = arrival;
    reversal.kept = kept;
    reversal.coverage.known = false;
    reversal.last = last;
    this.counts[at] = i + 1;
  }

  /**
   * The execution is over: waits for locks that never ended, and choices not taken, depend on how it went on. They are
   * listed under the index after the last step.
   */
  collectEnd(): void {
    const { trace, identity } = this;
    const end = trace.length;
    this.counts[end] = 0;
    for (const process of this.sim.processes) {
      const { gate } = process.announced;
      if (process.state !== 'live' || gate === null || gate.promise !== 'lock') continue;
      const actor = identity.numberOf(process);
      const last = this.nextStepOf(actor, process);
      this.collectLockWait(end, end, identity.lasting(gate.lockId!), last, trace.arrivalOf(actor));
    }
    for (let at = 0; at < end; at++) if (trace.events[at]!.alternatives.length > 0) this.collectChoices(end, at);
  }

  /** Every choice of step `at` could have gone another way, before or after steps that only this way commutes with. */
  private collectChoices(end: number, at: number): void {
    const event = this.trace.events[at]!;
    const arrival = this.trace.arrivalOfStep(at);
    const cuts = downwardClosed(this.trace, this.conflicting(at, end - 1, event.announced, arrival));
    for (const kept of cuts) {
      const before = this.nameOfBefore(at, event, arrival, kept);
      for (let i = 0; i < event.alternatives.length; i++) {
        const taken = event.choices[i]!;
        const soFar = event.choices.slice(0, i);
        const asked = this.asked.ask(at, `${before}${event.actor}:${soFar.join()}`, taken);
        if (asked === ALL) continue;
        const [from, to] = asked === null ? [0, event.alternatives[i]!] : [asked, asked + 1];
        for (let other = from; other < to; other++) {
          if (other === taken) continue;
          this.waiting.copy(event.announced);
          this.waiting.choices = [...soFar, other];
          this.waiting.alternatives = NO_CHOICES;
          const last = this.actions.share(this.waiting);
          this.add(end, at, last, arrival, kept.length > 0 ? TO_BE_TRIED : SURE, kept);
        }
      }
    }
  }

  /** What comes before step `at` when it is run with `kept`. */
  private nameOfBefore(at: number, event: TraceEvent, arrival: number, kept: readonly number[]): string {
    const { asking } = this;
    asking.first = at;
    asking.last = event.announced;
    asking.arrival = arrival;
    asking.kept = kept;
    this.sequence(asking, this.before);
    return nameOfBefore(this.before);
  }

  /** The steps that a reversal asks for, in order. */
  sequence(reversal: Reversal, into: Sequence): void {
    const { trace } = this;
    const { first, last, arrival, kept } = reversal;
    if (kept === null) {
      into.buildAll(first, arrival, last);
      return;
    }
    const left: number[] = [];
    into.build(first, arrival, last, (index, step) => {
      if (left.some((out) => trace.before(out, index))) return true;
      const free =
        kept.includes(index) || relation(step, last) === COMMUTE || (arrival >= 0 && trace.before(index, arrival));
      if (step.actor === last.actor ? index <= arrival : free) return false;
      left.push(index);
      return true;
    });
  }
}

/** Gates of which the search has to know whether they were open: neither locks, nor joins, nor always open. */
function mayWait(process: Process): boolean {
  const { gate } = process.announced;
  return gate !== null && gate.promise !== 'always' && gate.promise !== 'lock' && !(gate instanceof JoinGate);
}

/** Gates without a promise. */
function mayShut(process: Process): boolean {
  const { gate } = process.announced;
  return gate !== null && gate.promise === undefined;
}
