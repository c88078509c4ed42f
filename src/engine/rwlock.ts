// Spinning reader-writer locks (rwlock_t, mmu_lock): one step to take, no queue, no fairness: readers join readers even
// while a writer waits.
import { Cell } from './cell.ts';
import type { Gate } from './gate.ts';
import type { Process } from './process.ts';
import type { Sim } from './sim.ts';
import { type Announced, type Step, step, UPDATE } from './step.ts';

const READ_LOCK = step('read_lock', 'lock');
const WRITE_LOCK = step('write_lock', 'lock');
const UNLOCK = step('rwlock_unlock', 'lock');

export class RwLock {
  readonly name: string;
  readonly id: number;
  private readonly sim: Sim;
  private readonly writer: Cell<Process | null>;
  private readonly readers: Cell<readonly Process[]>;
  private readonly forRead: Gate;
  private readonly forWrite: Gate;
  private readonly release: Gate;

  constructor(sim: Sim, name: string) {
    this.sim = sim;
    this.name = name;
    this.writer = new Cell<Process | null>(sim, name, null);
    this.readers = new Cell<readonly Process[]>(sim, `readers of ${name}`, [], this.writer);
    this.id = this.writer.id;
    const holders = (): readonly Process[] => {
      const writer = this.writer.peek();
      return writer === null ? this.readers.peek() : [writer];
    };
    this.forRead = {
      name,
      ready: () => this.writer.peek() === null,
      take: (process) => {
        this.readers.value = [...this.readers.value, process];
      },
      waitsFor: holders,
    };
    this.forWrite = {
      name,
      ready: () => this.writer.peek() === null && this.readers.peek().length === 0,
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

  private announce(gate: Gate, at: Step): Announced {
    this.sim.announcing(at).gate = gate;
    return this.sim.announce(this.id, this.id, UPDATE, at);
  }

  /** read_lock: resumes when held. May be announced with the first accesses under it. */
  read(at: Step = READ_LOCK): Announced {
    return this.announce(this.forRead, at);
  }

  /** write_lock */
  write(at: Step = WRITE_LOCK): Announced {
    return this.announce(this.forWrite, at);
  }

  /** read_unlock or write_unlock, whichever is held: released in the act. */
  unlock(at: Step = UNLOCK): Announced {
    return this.announce(this.release, at);
  }

  /** Announce a release merged in a step of the caller's. */
  willChange(at: Step): Announced {
    return this.sim.announce(this.id, this.id, UPDATE, at);
  }

  /** Release inside a step that announced `willChange`. */
  releaseNow(process: Process = this.sim.current!): void {
    if (this.writer.peek() === process) {
      this.writer.value = null;
      return;
    }
    const at = this.readers.peek().indexOf(process);
    if (at < 0) throw new Error(`${process.name} releases ${this.name} without holding it`);
    this.readers.value = this.readers.value.filter((_, i) => i !== at);
  }

  /** Held by `process` in either mode? */
  heldBy(process: Process): boolean {
    return this.writer.peek() === process || this.readers.peek().includes(process);
  }
}
