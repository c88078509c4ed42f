// Names for actors and objects that hold across executions. Slots and ids of what an execution makes on the way depend
// on the interleaving; "third child of p", "second object allotted by p" do not.
import type { Process } from '../engine/process.ts';
import type { Sim } from '../engine/sim.ts';

// Above every id the engine allots, below 2^53.
const MADE_FROM = 2 ** 50;
const PER_ACTOR = 65536;
// Ids below this are small numbers as they are.
const SMALL = 1024;
// Ids below this are looked up by pages.
const PAGED = 2 ** 24;
const PAGE_BITS = 8;
const PAGE_MASK = 2 ** PAGE_BITS - 1;
// Where the engine takes the ids of sparse stores from.
const SPARSE_FROM = 2 ** 40;

/** A run of ids allotted in this execution, and what they stand for in all. */
interface Allotment {
  readonly base: number;
  readonly count: number;
  readonly lasting: number;
}

/** Names and numbers given so far. */
export interface SavedIdentity {
  readonly names: readonly string[];
  /** What actors allotted: key, lasting id. */
  readonly bases: readonly (readonly [number, number])[];
  readonly nextLasting: number;
  /** Lasting ids, by dense number. */
  readonly dense: readonly number[];
}

export class Identity {
  /** Actors known so far, in any execution; their numbers are dense. */
  actors = 0;
  /** By number: the process in this execution; undefined before it is started. */
  readonly processes: (Process | undefined)[] = [];
  readonly sim: Sim;
  private readonly initial: number;
  private readonly byName = new Map<string, number>();
  private readonly names: string[] = [];
  private readonly bySlot: number[] = [];
  private seen = 0;
  private readonly bases = new Map<number, number>();
  private readonly allotments: Allotment[] = [];
  private readonly allottedBy: number[] = [];
  private nextLasting = MADE_FROM;
  /** The ids that have a dense number, in the order in which they got it. */
  private readonly denseIds: number[] = [];
  // Dense numbers by id: a page of them at a time, where ids lie close together; else in a map.
  private readonly densePages: (Int32Array | undefined)[] = [];
  private readonly denseOf = new Map<number, number>();
  // Ids below these were there before the execution.
  private denseFrom = Number.POSITIVE_INFINITY;
  private sparseFrom = Number.POSITIVE_INFINITY;

  /** `sim` is set up; its processes get their slots as numbers. */
  constructor(sim: Sim) {
    this.sim = sim;
    this.initial = sim.processes.length;
    for (const process of sim.processes) this.meet(process);
  }

  /** The world is about to be rewound: forget what the last execution made, keep what it was called. */
  restart(): void {
    this.seen = this.initial;
    if (this.processes.length > this.initial) this.processes.length = this.initial;
    if (this.allotments.length > 0) {
      this.allotments.length = 0;
      this.allottedBy.length = 0;
      this.denseFrom = Number.POSITIVE_INFINITY;
      this.sparseFrom = Number.POSITIVE_INFINITY;
    }
  }

  private meet(process: Process): void {
    const number = this.numberNamed(process.name);
    this.bySlot[process.slot] = number;
    this.processes[number] = process;
    this.seen = process.slot + 1;
  }

  /** Have actors been started that were not looked at yet? */
  get news(): boolean {
    return this.seen < this.sim.processes.length;
  }

  /** The next actor not looked at yet. */
  meetNext(): number {
    const slot = this.seen;
    this.meet(this.sim.processes[slot]!);
    return this.bySlot[slot]!;
  }

  numberOf(process: Process): number {
    if (process.slot < this.initial) return process.slot;
    while (this.seen <= process.slot) this.meetNext();
    return this.bySlot[process.slot]!;
  }

  /** For `sim.allotted`. */
  readonly allotted = (base: number, count: number): void => {
    const { current } = this.sim;
    if (current === null) return;
    const actor = this.allotter(current);
    const nth = this.allottedBy[actor] ?? 0;
    this.allottedBy[actor] = nth + 1;
    const key = actor * PER_ACTOR + nth;
    let lasting = this.bases.get(key);
    if (lasting === undefined) {
      lasting = this.nextLasting;
      this.nextLasting += count;
      this.bases.set(key, lasting);
    }
    this.allotments.push({ base, count, lasting });
    if (base >= SPARSE_FROM) this.sparseFrom = Math.min(this.sparseFrom, base);
    else this.denseFrom = Math.min(this.denseFrom, base);
  };

  /** An actor may allot before anybody could look at it: while it runs to its first announcement. */
  private allotter(process: Process): number {
    return process.slot < this.initial ? process.slot : this.numberNamed(process.name);
  }

  /** The number of the actor of this name, which need not have been started. */
  numberNamed(name: string): number {
    let number = this.byName.get(name);
    if (number === undefined) {
      number = this.actors++;
      this.byName.set(name, number);
      this.names[number] = name;
    }
    return number;
  }

  nameOf(actor: number): string {
    return this.names[actor]!;
  }

  /** A small number for a lasting id. */
  dense(id: number): number {
    if (id < SMALL) return id;
    if (id >= PAGED) return this.denseOf.get(id) ?? this.numberNext(id);
    const page = this.densePages[id >>> PAGE_BITS];
    const number = page === undefined ? 0 : page[id & PAGE_MASK]!;
    return number > 0 ? number : this.numberNext(id);
  }

  private numberNext(id: number): number {
    const number = SMALL + this.denseIds.push(id) - 1;
    if (id >= PAGED) this.denseOf.set(id, number);
    else {
      const page = id >>> PAGE_BITS;
      this.densePages[page] ??= new Int32Array(PAGE_MASK + 1);
      this.densePages[page][id & PAGE_MASK] = number;
    }
    return number;
  }

  /** The id that stands for object `id` in all executions. */
  lasting(id: number): number {
    if (id < this.denseFrom && (id < SPARSE_FROM || id < this.sparseFrom)) return id;
    const { allotments } = this;
    for (let i = allotments.length - 1; i >= 0; i--) {
      const { base, count, lasting } = allotments[i]!;
      if (id >= base && id < base + count) return lasting + (id - base);
    }
    return id;
  }

  save(): SavedIdentity {
    const { names, bases, nextLasting, denseIds } = this;
    return { names: [...names], bases: [...bases], nextLasting, dense: [...denseIds] };
  }

  /** Before the first execution: give again what was given in another process. */
  restore({ names, bases, nextLasting, dense }: SavedIdentity): void {
    for (const name of names) this.numberNamed(name);
    for (const [key, lasting] of bases) this.bases.set(key, lasting);
    this.nextLasting = nextLasting;
    for (const id of dense) this.dense(id);
  }
}
