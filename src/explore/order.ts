// In which order an exhaustive search runs what it may run in any order. Only speed depends on it: steps that nobody else
// can race with come first, then steps that only read, so that the search branches deep in the trace and has little to
// look at again; last steps that waited, because whoever waits should have come to its gate before it is shut. In an
// execution that does not end everybody gets a turn: somebody may be waited for by reading again and again.
import type { Process } from '../engine/process.ts';
import { READ } from '../engine/step.ts';
import { SEVERAL } from './action.ts';
import type { Identity } from './identity.ts';
import type { TraceEvent } from './trace.ts';

const PRIVATE = 0;
const READS = 1;
const WRITES = 2;
const WAITS = 3;
export const NOT_RANKED = 4;

/** Steps after which whoever has stepped least goes first. */
const LONG = 1000;

/** By object: nobody has touched it, only the actor of this number has, or several have. */
const NOBODY = -1;
const SHARED = -2;

export class Order {
  /** Slot at which to start looking, and the rank at which to stop. */
  cursor = 0;
  goodEnough = PRIVATE;
  private readonly identity: Identity;
  private readonly owners: number[] = [];
  // By slot; NOT_RANKED: not known in this execution.
  private readonly ranks: number[] = [];

  private steps = 0;

  constructor(identity: Identity) {
    this.identity = identity;
  }

  /** Who touched what, by object. */
  save(): readonly number[] {
    return Array.from(this.owners, (owner) => owner ?? NOBODY);
  }

  restoreOwners(owners: readonly number[]): void {
    owners.forEach((owner, key) => {
      this.owners[key] = owner;
    });
  }

  /** The world was rewound: what was announced is no longer. */
  restart(): void {
    const { ranks } = this;
    for (let i = 0; i < ranks.length; i++) ranks[i] = NOT_RANKED;
    this.goodEnough = PRIVATE;
    this.cursor = 0;
    this.steps = 0;
  }

  /** `process` goes next: look on from there, and take the next one that ranks no worse. */
  picked(process: Process, rank: number): void {
    this.goodEnough = this.steps > LONG ? Number.NEGATIVE_INFINITY : rank;
    this.cursor = process.slot;
  }

  /** `process` has acted `event` and announced its next step. */
  acted(event: TraceEvent, process: Process): void {
    this.ranks[process.slot] = NOT_RANKED;
    this.steps++;
    const { key } = event;
    if (key === SEVERAL) return;
    const owner = this.owners[key] ?? NOBODY;
    if (owner === NOBODY) this.owners[key] = event.actor;
    else if (owner !== event.actor) this.owners[key] = SHARED;
  }

  /** Smaller goes first. */
  rankOf(process: Process): number {
    if (this.steps > LONG) return -1 / (1 + process.stepCount);
    let rank = this.ranks[process.slot] ?? NOT_RANKED;
    if (rank === NOT_RANKED) {
      rank = this.rank(process);
      this.ranks[process.slot] = rank;
    }
    return rank;
  }

  private rank(process: Process): number {
    const { gate, count, kind, lo, hi } = process.announced;
    if (gate !== null && gate.promise !== 'always') return WAITS;
    if (count === 0) return PRIVATE;
    if (count === 1 && lo[0] === hi[0]) {
      const owner = this.owners[this.identity.dense(this.identity.lasting(lo[0]!))] ?? NOBODY;
      if (owner === NOBODY || owner === this.identity.numberOf(process)) return PRIVATE;
    }
    for (let i = 0; i < count; i++) if (kind[i] !== READ) return WRITES;
    return READS;
  }
}
