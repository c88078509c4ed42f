// Ordered tables: the kernel's red-black and interval trees (VMAs, vfio_dma, memslots), over a tree of js-sdsl: its
// OrderedSet, as an iterator of its OrderedMap makes a Proxy for every look at an entry. One table is one object: its users
// hold a lock around it.
import { OrderedSet, type OrderedSetIterator } from 'js-sdsl';
import { hashText } from './hash.ts';
import type { Named } from './names.ts';
import type { Sim, Undoable } from './sim.ts';
import { type Announced, PERHAPS, READ, type Step, UPDATE } from './step.ts';

const ABSENT = Symbol('absent');

interface Entry<V> {
  key: number;
  value: V;
}

/** A map from numbers to values kept in key order. */
export class OrderedTable<V> implements Named, Undoable {
  readonly sim: Sim;
  readonly name: string;
  readonly id: number;
  private readonly hash: number;
  private readonly entriesByKey = new OrderedSet<Entry<V>>([], byKey);
  /** What is looked for. */
  private readonly probe: Entry<V> = { key: 0, value: undefined as V };

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
    return this.entriesByKey.size();
  }

  private at(key: number): Entry<V> {
    this.probe.key = key;
    return this.probe;
  }

  private find(key: number): Entry<V> | undefined {
    const found = this.entriesByKey.find(this.at(key));
    return found.isAccessible() ? found.pointer : undefined;
  }

  get(key: number): V | undefined {
    this.noteRead();
    return this.find(key)?.value;
  }

  /** The entry with the largest key ≤ `key`. */
  floor(key: number): readonly [number, V] | undefined {
    this.noteRead();
    return pair(this.entriesByKey.reverseLowerBound(this.at(key)));
  }

  /** The entry with the smallest key ≥ `key`. */
  ceiling(key: number): readonly [number, V] | undefined {
    this.noteRead();
    return pair(this.entriesByKey.lowerBound(this.at(key)));
  }

  /** Entries with keys in [from, below), ascending. A copy: the table may change while it is walked. */
  range(from: number, below: number): readonly (readonly [number, V])[] {
    this.noteRead();
    const found: (readonly [number, V])[] = [];
    for (const place = this.entriesByKey.lowerBound(this.at(from)); place.isAccessible(); place.next()) {
      const { key, value } = place.pointer;
      if (key >= below) break;
      found.push([key, value]);
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
    const old = this.now(key);
    if (sim.journaled) sim.journal(this, key, old);
    if (sim.digested) {
      sim.digestWrite(this.hash, key, old === ABSENT ? undefined : old, value === ABSENT ? undefined : value);
    }
    this.undo(key, value);
  }

  undo(key: number, old: unknown): void {
    if (old === ABSENT) {
      this.entriesByKey.eraseElementByKey(this.at(key));
      return;
    }
    const entry = this.find(key);
    if (entry === undefined) this.entriesByKey.insert({ key, value: old as V });
    else entry.value = old as V;
  }

  now(key: number): unknown {
    const entry = this.find(key);
    return entry === undefined ? ABSENT : entry.value;
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

function byKey(a: { readonly key: number }, b: { readonly key: number }): number {
  return a.key - b.key;
}

function pair<V>(place: OrderedSetIterator<Entry<V>>): readonly [number, V] | undefined {
  if (!place.isAccessible()) return undefined;
  const { key, value } = place.pointer;
  return [key, value];
}
