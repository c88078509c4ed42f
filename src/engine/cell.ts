// Cells: single shared values. A Tally is a cell whose additions commute (vmstat counters, zone counters).
import { hashText } from './hash.ts';
import type { Named } from './names.ts';
import type { Sim, Undoable } from './sim.ts';
import { ADD, type Announced, PERHAPS, READ, type Step, UPDATE, WRITE } from './step.ts';

/** One shared value: a primitive, an object with an `identity`, or an immutable array of those. */
export class Cell<T> implements Named, Undoable {
  readonly sim: Sim;
  readonly name: string;
  readonly id: number;
  private readonly hash: number;
  private current: T;

  /** `guardedBy`: this cell is part of that object: announced by announcing it (fields that one lock protects). */
  constructor(sim: Sim, name: string, initial: T, guardedBy?: { readonly id: number }) {
    this.sim = sim;
    this.name = name;
    this.current = initial;
    this.hash = hashText(name);
    this.id = guardedBy === undefined ? sim.allotIds(1, this) : guardedBy.id;
  }

  nameOf(): string {
    return this.name;
  }

  get value(): T {
    if (this.sim.watching) this.sim.noteRead(this.id);
    return this.current;
  }

  set value(value: T) {
    const sim = this.sim;
    if (sim.watching) {
      sim.noteWrite(this.id);
      if (sim.stores !== null && typeof value === 'object') sim.stores(this, value);
    }
    if (sim.journaled) sim.journal(this, 0, this.current);
    if (sim.digested) sim.digestWrite(this.hash, 0, this.current, value);
    this.current = value;
  }

  /** Look without a step: checkers, reports, and predicates of gates that announce this cell. */
  peek(): T {
    return this.current;
  }

  undo(_row: number, old: unknown): void {
    this.current = old as T;
  }

  now(): unknown {
    return this.current;
  }

  willRead(step: Step): Announced {
    return this.sim.announce(this.id, this.id, READ, step);
  }

  willWrite(step: Step): Announced {
    return this.sim.announce(this.id, this.id, WRITE, step);
  }

  willUpdate(step: Step): Announced {
    return this.sim.announce(this.id, this.id, UPDATE, step);
  }

  willPerhaps(step: Step): Announced {
    return this.sim.announce(this.id, this.id, PERHAPS, step);
  }
}

/** A counter that many add to and few read. */
export class Tally implements Named, Undoable {
  readonly sim: Sim;
  readonly name: string;
  readonly id: number;
  private readonly hash: number;
  private total: number;

  constructor(sim: Sim, name: string, initial = 0) {
    this.sim = sim;
    this.name = name;
    this.total = initial;
    this.hash = hashText(name);
    this.id = sim.allotIds(1, this);
  }

  nameOf(): string {
    return this.name;
  }

  add(amount: number): void {
    const sim = this.sim;
    if (sim.watching) sim.noteAdd(this.id);
    if (sim.journaled) sim.journal(this, 0, this.total);
    if (sim.digested) sim.digestWrite(this.hash, 0, this.total, this.total + amount);
    this.total += amount;
  }

  get value(): number {
    if (this.sim.watching) this.sim.noteRead(this.id);
    return this.total;
  }

  peek(): number {
    return this.total;
  }

  undo(_row: number, old: unknown): void {
    this.total = old as number;
  }

  now(): unknown {
    return this.total;
  }

  willAdd(step: Step): Announced {
    return this.sim.announce(this.id, this.id, ADD, step);
  }

  willRead(step: Step): Announced {
    return this.sim.announce(this.id, this.id, READ, step);
  }
}
