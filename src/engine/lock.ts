// Spinlocks and mutexes: one owner, the others disabled until it is free. `yield lock.lock(STEP)` resumes when held.
// Lock and unlock are read-modify-writes of the lock object.
import { Cell } from './cell.ts';
import type { Gate } from './gate.ts';
import type { Process } from './process.ts';
import type { Sim } from './sim.ts';
import { type Announced, type Step, step, UPDATE } from './step.ts';

const LOCK = step('lock', 'lock');
const UNLOCK = step('unlock', 'lock');

/** A lock with one owner. Fairness is the scheduler's: any waiter may win. */
export class Mutex implements Gate {
  readonly name: string;
  readonly id: number;
  readonly promise = 'lock';
  readonly lockId: number;
  private readonly sim: Sim;
  private readonly holder: Cell<Process | null>;

  constructor(sim: Sim, name: string) {
    this.sim = sim;
    this.name = name;
    this.holder = new Cell<Process | null>(sim, name, null);
    this.id = this.holder.id;
    this.lockId = this.id;
  }

  /** Who holds it now. */
  get owner(): Process | null {
    return this.holder.peek();
  }

  lock(at: Step = LOCK): Announced {
    this.sim.gated(at, this);
    return this.sim.announce(this.id, this.id, UPDATE, at);
  }

  /** After resuming, `heldBy(process)` tells whether it was got. */
  trylock(at: Step = LOCK): Announced {
    this.sim.gated(at, this.trial);
    return this.sim.announce(this.id, this.id, UPDATE, at);
  }

  /** Announce the release; it happens in the act, before the process's own code of that step. */
  unlock(at: Step = UNLOCK): Announced {
    this.sim.gated(at, this.release);
    return this.sim.announce(this.id, this.id, UPDATE, at);
  }

  /** Release inside the current step, which announced this lock (an unlock merged with the last write under it). */
  releaseNow(): void {
    this.release.take(this.sim.current!);
  }

  /** Announce this lock as part of the next step without locking it yet (with `releaseNow` or `takeNow`). */
  willChange(at: Step): Announced {
    return this.sim.announce(this.id, this.id, UPDATE, at);
  }

  heldBy(process: Process | null): boolean {
    return this.holder.peek() === process && process !== null;
  }

  ready(): boolean {
    return this.holder.peek() === null;
  }

  taken(): number {
    return this.id;
  }

  take(process: Process): void {
    if (this.holder.value !== null) throw new Error(`${this.name} taken while held by ${this.holder.peek()?.name}`);
    this.holder.value = process;
  }

  waitsFor(): readonly Process[] {
    const owner = this.holder.peek();
    return owner === null ? [] : [owner];
  }

  private readonly trial: Gate = {
    name: 'trylock',
    promise: 'always',
    taken: () => this.id,
    ready: () => true,
    take: (process) => {
      if (this.holder.value === null) this.holder.value = process;
    },
    waitsFor: () => [],
  };

  private readonly release: Gate = {
    name: 'unlock',
    promise: 'always',
    ready: () => true,
    take: (process) => {
      if (this.holder.value !== process) {
        throw new Error(`${process.name} unlocks ${this.name}, held by ${this.holder.peek()?.name ?? 'nobody'}`);
      }
      this.holder.value = null;
    },
    waitsFor: () => [],
  };
}

/** A spinlock waits like a mutex: on one simulated CPU per actor nobody can tell spinning from sleeping. */
export class SpinLock extends Mutex {}
