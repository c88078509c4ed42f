// Spinning reader-writer locks (rwlock_t, mmu_lock): one step to take, no queue, no fairness: readers join readers even
// while a writer waits. Readers only add to their number and look whether there is a writer, so that they commute.
import { Cell } from './cell.ts';
import type { Gate } from './gate.ts';
import type { Process } from './process.ts';
import { Readers } from './readers.ts';
import type { Sim } from './sim.ts';
import { ADD, type Announced, READ, type Step, step, UPDATE } from './step.ts';

const READ_LOCK = step('read_lock', 'lock');
const WRITE_LOCK = step('write_lock', 'lock');
const UNLOCK = step('rwlock_unlock', 'lock');

export class RwLock {
  readonly name: string;
  readonly id: number;
  private readonly sim: Sim;
  private readonly writer: Cell<Process | null>;
  private readonly readers: Readers;
  /** It was initialised while in use, at least once. */
  private readonly wasReset: Cell<boolean>;
  private readonly forRead: Gate;
  private readonly forWrite: Gate;
  private readonly release: Gate;

  constructor(sim: Sim, name: string) {
    this.sim = sim;
    this.name = name;
    this.writer = new Cell<Process | null>(sim, name, null);
    this.readers = new Readers(sim, `readers of ${name}`);
    this.wasReset = new Cell(sim, `${name} was reset`, false, this.writer);
    this.id = this.writer.id;
    const holders = (): readonly Process[] => {
      const writer = this.writer.peek();
      return writer === null ? this.readers.holders() : [writer];
    };
    this.forRead = {
      name,
      ready: () => this.writer.peek() === null,
      take: (process) => this.readers.change(process, 1),
      waitsFor: holders,
    };
    this.forWrite = {
      name,
      ready: () => this.writer.peek() === null && this.readers.total === 0,
      take: (process) => {
        this.writer.value = process;
      },
      waitsFor: holders,
    };
    this.release = {
      name,
      promise: 'always',
      ready: () => true,
      take: (process) => this.releaseNow(process),
      waitsFor: () => [],
    };
  }

  /** read_lock: resumes when held. May be announced with the first accesses under it. */
  read(at: Step = READ_LOCK): Announced {
    this.sim.gated(at, this.forRead);
    this.sim.announce(this.readers.id, this.readers.id, ADD, at);
    return this.sim.announce(this.id, this.id, READ, at);
  }

  /** write_lock */
  write(at: Step = WRITE_LOCK): Announced {
    this.sim.gated(at, this.forWrite);
    this.sim.announce(this.readers.id, this.readers.id, READ, at);
    return this.sim.announce(this.id, this.id, UPDATE, at);
  }

  /** read_unlock or write_unlock, whichever is held: released in the act. */
  unlock(at: Step = UNLOCK): Announced {
    this.sim.gated(at, this.release);
    return this.willChange(at);
  }

  /** Announce a release merged in a step of the caller's, who holds the lock. */
  willChange(at: Step): Announced {
    if (this.writer.peek() === this.sim.current) return this.sim.announce(this.id, this.id, UPDATE, at);
    return this.sim.announce(this.readers.id, this.readers.id, ADD, at);
  }

  /** Release inside the step that took it, or one that announced `willChange`. */
  releaseNow(process: Process = this.sim.current!): void {
    if (this.writer.peek() === process) {
      this.writer.value = null;
      return;
    }
    // Whoever lost it to a reset unlocks what it does not hold.
    if (!this.readers.has(process) && this.wasReset.peek()) return;
    if (!this.readers.has(process)) throw new Error(`${process.name} releases ${this.name} without holding it`);
    this.readers.change(process, -1);
  }

  /** Announce `resetNow`. */
  willReset(at: Step): Announced {
    this.sim.announce(this.readers.id, this.readers.id, UPDATE, at);
    return this.sim.announce(this.id, this.id, UPDATE, at);
  }

  /** rwlock_init of a lock that may be in use: it is free, whoever holds it. */
  resetNow(): void {
    this.writer.value = null;
    this.wasReset.value = true;
    this.readers.clear();
  }

  /** Held by `process` in either mode? */
  heldBy(process: Process): boolean {
    return this.writer.peek() === process || this.readers.has(process);
  }
}
