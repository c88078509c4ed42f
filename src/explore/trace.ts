// The execution at hand as a partial order: its steps, who happened before whom (vector clocks), and which pairs race.
// Rows are kept when the search backtracks; only what lies below the branching point is computed again.
import type { Process } from '../engine/process.ts';
import { type Access, PERHAPS, UPDATE } from '../engine/step.ts';
import { JoinGate } from '../engine/wait.ts';
import { Action, COMMUTE, DID_NOT_WRITE, relation, WROTE } from './action.ts';
import type { Identity } from './identity.ts';

/** A step that has acted. */
export class TraceEvent extends Action {
  /** Index of the actor's step before this one; -1 for its first. */
  previous = -1;
  /** Largest index of a step that happened before; -1: none did. */
  past = -1;
  /** Id of the lock that it took; -1 for none. */
  took = -1;
  /** Length of the journal after it. */
  journalEnd = 0;
  /** By access: dense number of its object, and index of the last step before this one that touched it. */
  readonly keys: number[] = [];
  readonly touchedBefore: number[] = [];
  /** The step as it was announced, outcomes of updates open; the event itself when there are none. */
  announced: Action = this;
  private readonly open = new Action();

  /** Which access is to the object of this dense number; it must be among them. */
  placeOf(key: number): number {
    let at = 0;
    while (this.keys[at] !== key) at++;
    return at;
  }

  /** Set `announced` from the acted step. */
  keepAnnouncement(acted: Access, identity: Identity): void {
    this.announced = this;
    for (let i = 0; i < acted.count; i++) {
      if (acted.kind[i] !== UPDATE && acted.kind[i] !== PERHAPS) continue;
      this.open.actor = this.actor;
      this.open.number = this.number;
      this.open.setAccesses(acted, identity, false);
      this.announced = this.open;
      return;
    }
  }
}

const INITIAL_ACTORS = 16;
const INITIAL_EVENTS = 256;
const INITIAL_OBJECTS = 2048;

export class Trace {
  length = 0;
  readonly events: TraceEvent[] = [];
  /** Indices of the steps that race with the step added last: no other step lies between them. Latest first. */
  readonly racing: number[] = [];
  raceCount = 0;
  private readonly identity: Identity;
  private width = INITIAL_ACTORS;
  private capacity = INITIAL_EVENTS;
  // Row d, column a: how many steps of actor a happened before step d, itself included.
  private clocks = new Int32Array(INITIAL_ACTORS * INITIAL_EVENTS);
  // By actor: index of its last step (-1: none yet), and of the step that started it (-1: there from the start).
  private readonly lastOf: number[] = [];
  private readonly startOf: number[] = [];
  private readonly met: number[] = [];
  // By object: index of the last step that touched only it.
  private lastTouch = new Int32Array(INITIAL_OBJECTS).fill(-1);
  // Steps that touch ranges of objects.
  private rangedCount = 0;

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

  /** Indices after `first` of the steps that do not depend on step `first`, ascending; returns how many. */
  independentOf(first: number, into: number[]): number {
    const { clocks, width, length } = this;
    const { actor, number } = this.events[first]!;
    let count = 0;
    for (let i = first + 1, at = i * width + actor; i < length; i++, at += width) {
      if (clocks[at]! < number) into[count++] = i;
    }
    return count;
  }

  /** By actor: raise to the number of steps that happened before step `at`, itself included. */
  raise(at: number, counts: number[]): void {
    const row = at * this.width;
    for (let a = 0; a < this.identity.actors; a++) {
      const value = this.clocks[row + a]!;
      if (value > (counts[a] ?? 0)) counts[a] = value;
    }
  }

  /** Length of the journal before the first step. */
  journalStart = 0;

  /** Length of the journal before step `at`. */
  journalFrom(at: number): number {
    return at === 0 ? this.journalStart : this.events[at - 1]!.journalEnd;
  }

  /** Keep the first `length` steps. */
  truncate(length: number): void {
    for (let d = this.length - 1; d >= length; d--) {
      const event = this.events[d]!;
      this.lastOf[event.actor] = event.previous;
      if (event.ranged) this.rangedCount--;
      else for (let i = event.count - 1; i >= 0; i--) this.lastTouch[event.keys[i]!] = event.touchedBefore[i]!;
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
    event.keepAnnouncement(acted, this.identity);
    event.journalEnd = process.sim.journalSize;
    const gate = acted.gate;
    const took = gate?.taken === undefined ? -1 : gate.taken();
    event.took = -1;
    if (took >= 0) {
      // A trylock of what its actor holds already took nothing.
      const lock = this.identity.lasting(took);
      if (event.writes(lock)) event.took = lock;
    }
    this.clock(at, event, process);
    this.lastOf[actor] = at;
    this.length++;
    return event;
  }

  private clock(at: number, event: TraceEvent, process: Process): void {
    if (this.identity.actors > this.width || at >= this.capacity) this.grow(at);
    const { width, clocks } = this;
    const row = at * width;
    const base = this.arrivalOf(event.actor);
    // Short rows: a loop is faster than copyWithin and fill.
    if (base >= 0) for (let a = 0, from = base * width; a < width; a++) clocks[row + a] = clocks[from + a]!;
    else for (let a = 0; a < width; a++) clocks[row + a] = 0;
    clocks[row + event.actor] = event.number;
    event.past = base;
    const gate = process.acted.gate;
    if (gate !== null && gate instanceof JoinGate) {
      const end = this.arrivalOf(this.identity.numberOf(gate.target));
      if (end >= 0) this.follow(event, row, end);
    }
    this.raceCount = 0;
    if (event.count === 0) return;
    const ranged = this.rangedCount > 0 || event.ranged;
    if (event.ranged) this.rangedCount++;
    else this.touch(at, event);
    if (ranged) this.scan(at, event, row);
    else if (event.count === 1) this.walk(event, 0, row);
    else this.walkAll(event, row);
  }

  /** Note the objects of a step that touches no ranges. */
  private touch(at: number, event: TraceEvent): void {
    for (let i = 0; i < event.count; i++) {
      const key = event.key >= 0 ? event.key : this.identity.dense(event.lo[i]!);
      if (key >= this.lastTouch.length) this.growObjects(key);
      const last = this.lastTouch[key]!;
      event.keys[i] = key;
      event.touchedBefore[i] = last === at ? event.touchedBefore[event.placeOf(key)]! : last;
      this.lastTouch[key] = at;
    }
  }

  /** Races over one object. Nothing from before a write of it can race. */
  private walk(event: TraceEvent, access: number, row: number): void {
    const { events, clocks } = this;
    const key = event.keys[access]!;
    for (let i = event.touchedBefore[access]!; i >= 0; ) {
      const earlier = events[i]!;
      if (clocks[row + earlier.actor]! < earlier.number && relation(event, earlier) !== COMMUTE) {
        this.racing[this.raceCount++] = i;
        this.follow(event, row, i);
      }
      const at = earlier.key >= 0 ? 0 : earlier.placeOf(key);
      const kind = earlier.kind[at];
      if (kind === WROTE) return;
      // Whoever only reads, and has only read before, follows what that followed.
      if (kind === DID_NOT_WRITE && earlier.actor === event.actor && event.kind[access] === kind) return;
      i = earlier.touchedBefore[at]!;
    }
  }

  /** Races over several objects: their steps, latest first. */
  private walkAll(event: TraceEvent, row: number): void {
    const { events, clocks, met } = this;
    let count = 0;
    for (let access = 0; access < event.count; access++) {
      const key = event.keys[access]!;
      for (let i = event.touchedBefore[access]!; i >= 0; ) {
        let at = count++;
        for (; at > 0 && met[at - 1]! < i; at--) met[at] = met[at - 1]!;
        met[at] = i;
        const earlier = events[i]!;
        const there = earlier.key >= 0 ? 0 : earlier.placeOf(key);
        if (earlier.kind[there] === WROTE) break;
        i = earlier.touchedBefore[there]!;
      }
    }
    for (let m = 0; m < count; m++) {
      const earlier = events[met[m]!]!;
      if (clocks[row + earlier.actor]! >= earlier.number || relation(event, earlier) === COMMUTE) continue;
      this.racing[this.raceCount++] = met[m]!;
      this.follow(event, row, met[m]!);
    }
  }

  /** Races with any step. */
  private scan(at: number, event: TraceEvent, row: number): void {
    const { events, clocks } = this;
    for (let i = at - 1; i >= 0; i--) {
      const earlier = events[i]!;
      if (clocks[row + earlier.actor]! >= earlier.number) continue;
      if (relation(event, earlier) === COMMUTE) continue;
      this.racing[this.raceCount++] = i;
      this.follow(event, row, i);
    }
  }

  /** Step `other` happened before `event`. */
  private follow(event: TraceEvent, row: number, other: number): void {
    if (other > event.past) event.past = other;
    const { clocks } = this;
    const from = other * this.width;
    const { actors } = this.identity;
    for (let a = 0; a < actors; a++) {
      const value = clocks[from + a]!;
      if (value > clocks[row + a]!) clocks[row + a] = value;
    }
  }

  private growObjects(key: number): void {
    const grown = new Int32Array(2 ** Math.ceil(Math.log2(key + 1))).fill(-1);
    grown.set(this.lastTouch);
    this.lastTouch = grown;
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

/** All subsets of `steps` (ascending) that hold, with each step, those of `steps` that happened before it. */
export function downwardClosed(trace: Trace, steps: readonly number[]): number[][] {
  let sets: number[][] = [[]];
  for (const step of steps) {
    const needed = steps.filter((other) => other < step && trace.before(other, step));
    const grown: number[][] = [];
    for (const set of sets) if (needed.every((other) => set.includes(other))) grown.push([...set, step]);
    sets = [...sets, ...grown];
  }
  return sets;
}
