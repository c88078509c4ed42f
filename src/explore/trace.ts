// The execution at hand as a partial order: its steps, who happened before whom (vector clocks), and which pairs race.
// Rows are kept when the search backtracks; only what lies below the branching point is computed again.
import type { Process } from '../engine/process.ts';
import { type Access, UPDATE } from '../engine/step.ts';
import { JoinGate } from '../engine/wait.ts';
import { Action, COMMUTE, relation } from './action.ts';
import type { Identity } from './identity.ts';

/** A step that has acted. */
export class TraceEvent extends Action {
  /** The how-manieth step of its actor, from 1. */
  number = 0;
  /** Index of the actor's step before this one; -1 for its first. */
  previous = -1;
  /** Id of the lock that it took; -1 for none. */
  took = -1;
  /** The step as it was announced, outcomes of updates open; the event itself when there are none. */
  announced: Action = this;
  private readonly open = new Action();

  /** Set `announced` from the acted step. */
  keepAnnouncement(acted: Access, identity: Identity): void {
    this.announced = this;
    for (let i = 0; i < acted.count; i++) {
      if (acted.kind[i] !== UPDATE) continue;
      this.open.actor = this.actor;
      this.open.setAccesses(acted, identity, false);
      this.announced = this.open;
      return;
    }
  }
}

const INITIAL_ACTORS = 16;
const INITIAL_EVENTS = 256;

export class Trace {
  length = 0;
  readonly events: TraceEvent[] = [];
  private readonly identity: Identity;
  private width = INITIAL_ACTORS;
  private capacity = INITIAL_EVENTS;
  // Row d, column a: how many steps of actor a happened before step d, itself included.
  private clocks = new Int32Array(INITIAL_ACTORS * INITIAL_EVENTS);
  // By actor: index of its last step (-1: none yet), and of the step that started it (-1: there from the start).
  private readonly lastOf: number[] = [];
  private readonly startOf: number[] = [];
  /** Indices of the steps that race with the step added last: no other step lies between them. Latest first. */
  readonly racing: number[] = [];

  constructor(identity: Identity) {
    this.identity = identity;
  }

  /** Index of the last step of `actor`; -1 when it has not stepped. */
  lastStepOf(actor: number): number {
    return this.lastOf[actor] ?? -1;
  }

  /** The step that `actor`'s next step follows: its last one, or the one that started it. -1: none. */
  arrivalOf(actor: number): number {
    const last = this.lastStepOf(actor);
    return last >= 0 ? last : (this.startOf[actor] ?? -1);
  }

  /** As `arrivalOf`, for the step at index `at`: what its actor did right before it came to it. */
  arrivalOfStep(at: number): number {
    const { previous, actor } = this.events[at]!;
    return previous >= 0 ? previous : (this.startOf[actor] ?? -1);
  }

  /** Did step `a` happen before step `b` (or is it the same)? */
  before(a: number, b: number): boolean {
    const event = this.events[a]!;
    return this.clocks[b * this.width + event.actor]! >= event.number;
  }

  /** Keep the first `length` steps. */
  truncate(length: number): void {
    for (let d = this.length - 1; d >= length; d--) {
      const { actor, previous } = this.events[d]!;
      this.lastOf[actor] = previous;
    }
    this.length = length;
  }

  /** `actor` was started by step `at`. */
  started(actor: number, at: number): void {
    this.startOf[actor] = at;
    this.lastOf[actor] = -1;
  }

  /** Add the step that `process` has just acted, and find what it races with. */
  add(actor: number, process: Process, choices: readonly number[], alternatives: readonly number[]): TraceEvent {
    const at = this.length;
    let event = this.events[at];
    if (event === undefined) {
      event = new TraceEvent();
      this.events[at] = event;
    }
    event.actor = actor;
    event.choices = choices;
    event.alternatives = alternatives;
    event.previous = this.lastStepOf(actor);
    event.number = event.previous < 0 ? 1 : this.events[event.previous]!.number + 1;
    const { acted } = process;
    event.setAccesses(acted, this.identity, true);
    const gate = acted.gate;
    event.keepAnnouncement(acted, this.identity);
    const took = gate?.taken === undefined ? -1 : gate.taken(process);
    event.took = took < 0 ? -1 : this.identity.lasting(took);
    this.clock(at, event, process);
    this.lastOf[actor] = at;
    this.length++;
    return event;
  }

  private clock(at: number, event: TraceEvent, process: Process): void {
    if (this.identity.actors > this.width || at >= this.capacity) this.grow(at);
    const { width, clocks, events, racing } = this;
    const row = at * width;
    const base = this.arrivalOf(event.actor);
    if (base >= 0) clocks.copyWithin(row, base * width, base * width + width);
    else clocks.fill(0, row, row + width);
    clocks[row + event.actor] = event.number;
    const gate = process.acted.gate;
    if (gate !== null && gate instanceof JoinGate) {
      const end = this.arrivalOf(this.identity.numberOf(gate.target));
      if (end >= 0) this.merge(row, end * width);
    }
    racing.length = 0;
    if (event.count === 0) return;
    for (let i = at - 1; i >= 0; i--) {
      const earlier = events[i]!;
      if (clocks[row + earlier.actor]! >= earlier.number) continue;
      if (relation(event, earlier) === COMMUTE) continue;
      racing.push(i);
      this.merge(row, i * width);
    }
  }

  private merge(row: number, other: number): void {
    const { clocks } = this;
    const { actors } = this.identity;
    for (let a = 0; a < actors; a++) {
      const value = clocks[other + a]!;
      if (value > clocks[row + a]!) clocks[row + a] = value;
    }
  }

  private grow(at: number): void {
    const width = Math.max(this.width, 2 ** Math.ceil(Math.log2(this.identity.actors)));
    const capacity = at >= this.capacity ? this.capacity * 2 : this.capacity;
    const clocks = new Int32Array(width * capacity);
    for (let d = 0; d < at; d++) {
      for (let a = 0; a < this.width; a++) clocks[d * width + a] = this.clocks[d * this.width + a]!;
    }
    this.width = width;
    this.capacity = capacity;
    this.clocks = clocks;
  }
}
