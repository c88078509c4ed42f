// Ordered tables: the kernel's red-black and interval trees (VMAs, vfio_dma, memslots), over js-sdsl's OrderedMap.
// One table is one object: its users hold a lock around it.
import { OrderedMap } from 'js-sdsl';
import { hashText } from './hash.ts';
import type { Named } from './names.ts';
import type { Sim, Undoable } from './sim.ts';
import { type Announced, PERHAPS, READ, type Step, UPDATE } from './step.ts';

const ABSENT = Symbol('absent');

/** A map from numbers to values kept in key order. */
export class OrderedTable<V> implements Named, Undoable {
  readonly sim: Sim;
  readonly name: string;
  readonly id: number;
  private readonly hash: number;
  private readonly map = new OrderedMap<number, V>();

  constructor(sim: Sim, name: string) {
    this.sim = sim;
    this.name = name;
    this.hash = hashText(name);
    this.id = sim.allotIds(1, this);
  }

  nameOf(): string {
    return this.name;
  }

  private noteRead(): void {
    if (this.sim.watching) this.sim.noteRead(this.id);
  }

  get size(): number {
    this.noteRead();
    return this.map.size();
  }

  get(key: number): V | undefined {
    this.noteRead();
    return this.map.getElementByKey(key);
  }

  /** The entry with the largest key ≤ `key`. */
  floor(key: number): readonly [number, V] | undefined {
    this.noteRead();
    const at = this.map.reverseLowerBound(key);
    return at.isAccessible() ? [at.pointer[0], at.pointer[1]] : undefined;
  }

  /** The entry with the smallest key ≥ `key`. */
  ceiling(key: number): readonly [number, V] | undefined {
    this.noteRead();
    const at = this.map.lowerBound(key);
    return at.isAccessible() ? [at.pointer[0], at.pointer[1]] : undefined;
  }

  /** Entries with keys in [from, below), ascending. A copy: the table may change while it is walked. */
  range(from: number, below: number): readonly (readonly [number, V])[] {
    this.noteRead();
    const found: (readonly [number, V])[] = [];
    for (const at = this.map.lowerBound(from); at.isAccessible() && at.pointer[0] < below; at.next()) {
      found.push([at.pointer[0], at.pointer[1]]);
    }
    return found;
  }

  /** All entries, ascending. */
  entries(): readonly (readonly [number, V])[] {
    return this.range(Number.NEGATIVE_INFINITY, Number.POSITIVE_INFINITY);
  }

  set(key: number, value: V): void {
    this.change(key, value);
  }

  delete(key: number): void {
    this.change(key, ABSENT);
  }

  private change(key: number, value: V | typeof ABSENT): void {
    const sim = this.sim;
    if (sim.watching) sim.noteWrite(this.id);
    const old = this.map.getElementByKey(key) ?? ABSENT;
    if (sim.journaled) sim.journal(this, key, old);
    if (sim.digested) {
      sim.digestWrite(this.hash, key, old === ABSENT ? undefined : old, value === ABSENT ? undefined : value);
    }
    this.undo(key, value);
  }

  undo(key: number, old: unknown): void {
    if (old === ABSENT) this.map.eraseElementByKey(key);
    else this.map.setElement(key, old as V);
  }

  now(key: number): unknown {
    return this.map.getElementByKey(key) ?? ABSENT;
  }

  willRead(step: Step): Announced {
    return this.sim.announce(this.id, this.id, READ, step);
  }

  willUpdate(step: Step): Announced {
    return this.sim.announce(this.id, this.id, UPDATE, step);
  }

  willPerhaps(step: Step): Announced {
    return this.sim.announce(this.id, this.id, PERHAPS, step);
  }
}
