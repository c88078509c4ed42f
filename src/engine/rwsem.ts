// Fair reader-writer semaphores (kernel/locking/rwsem.c, without optimistic spinning): two steps, queue and own. A
// waiting writer stops later readers. Killable variants give up when the process has a fatal signal. Readers that meet no
// writer commute with each other.
import { Cell } from './cell.ts';
import type { Gate } from './gate.ts';
import { mix } from './hash.ts';
import { call, type Process, type Steps } from './process.ts';
import { Readers } from './readers.ts';
import type { Sim } from './sim.ts';
import { ADD, type Announced, READ, type Step, step, UPDATE } from './step.ts';

const DOWN = step('down_rwsem', 'lock');
const OWN = step('rwsem_acquired', 'none');
const UP = step('up_rwsem', 'lock');

/** One holder or waiter. Immutable, so that the journal can keep old queues. */
class Ticket {
  readonly process: Process;
  readonly write: boolean;
  readonly held: boolean;
  readonly identity: number;

  constructor(process: Process, write: boolean, held: boolean) {
    this.process = process;
    this.write = write;
    this.held = held;
    this.identity = mix(process.identity, (write ? 2 : 0) + (held ? 1 : 0));
  }
}

/** Where a killable wait learns of a fatal signal. */
export interface KillSignal {
  readonly id: number;
  peek(): boolean;
}

export class RwSem {
  readonly name: string;
  readonly id: number;
  readonly turn: Gate;
  private readonly sim: Sim;
  /** Who waits, in order, and the writer that owns it, first. */
  private readonly queue: Cell<readonly Ticket[]>;
  /** Who owns it for reading: outside the queue, so that readers who meet nobody there commute. */
  private readonly readers: Readers;

  constructor(sim: Sim, name: string) {
    this.sim = sim;
    this.name = name;
    this.queue = new Cell<readonly Ticket[]>(sim, name, []);
    this.readers = new Readers(sim, `readers of ${name}`);
    this.id = this.queue.id;
    this.turn = this.waitGate();
  }

  /** down_read */
  *read(at: Step = DOWN): Steps<void> {
    yield* call(this.down(false, at, null));
  }

  /** down_write */
  *write(at: Step = DOWN): Steps<void> {
    yield* call(this.down(true, at, null));
  }

  /** down_read_killable / down_write_killable: false when a fatal signal came first (-EINTR). */
  *killable(write: boolean, signal: KillSignal, at: Step = DOWN): Steps<boolean> {
    return yield* call(this.down(write, at, signal));
  }

  private *down(write: boolean, at: Step, signal: KillSignal | null): Steps<boolean> {
    yield this.willTake(write, at);
    const process = this.sim.current!;
    if (this.free(write)) {
      this.own(process, write, this.queue.peek());
      return true;
    }
    this.queue.value = [...this.queue.value, new Ticket(process, write, false)];
    const access = this.sim.gated(OWN, signal === null ? this.turn : new KillableTurn(this.turn, signal));
    if (signal !== null) access.add(signal.id, signal.id, READ);
    yield this.willTake(write, OWN);
    const held = this.holds(process);
    if (!held) this.abandon(process);
    return held;
  }

  private willTake(write: boolean, at: Step): Announced {
    this.sim.announce(this.readers.id, this.readers.id, write ? READ : ADD, at);
    return this.sim.announce(this.id, this.id, UPDATE, at);
  }

  /** May a newcomer own it at once? Nobody waits, and nobody is in its way. */
  private free(write: boolean): boolean {
    return this.queue.value.length === 0 && !(write && this.readers.total > 0);
  }

  /** `process` owns it from now on; `others` are in the queue. */
  private own(process: Process, write: boolean, others: readonly Ticket[]): void {
    if (write) this.queue.value = [new Ticket(process, true, true), ...others];
    else this.readers.change(process, 1);
  }

  /** down_read_trylock / down_write_trylock, in one step that announced `willChange`. */
  tryNow(write: boolean): boolean {
    if (write) this.readers.look();
    if (!this.free(write)) return false;
    this.own(this.sim.current!, write, []);
    return true;
  }

  /** Announce a trylock, or a downgrade. */
  willChange(at: Step): Announced {
    this.sim.announce(this.readers.id, this.readers.id, UPDATE, at);
    return this.sim.announce(this.id, this.id, UPDATE, at);
  }

  /** up_read / up_write: released in the act. */
  up(at: Step = UP): Announced {
    this.sim.gated(at, this.release);
    if (this.readers.has(this.sim.current!)) return this.sim.announce(this.readers.id, this.readers.id, ADD, at);
    return this.sim.announce(this.id, this.id, UPDATE, at);
  }

  /** downgrade_write, in a step that announced `willChange`. */
  downgradeNow(): void {
    const process = this.sim.current!;
    this.queue.value = this.queue.value.filter((t) => !t.held);
    this.readers.change(process, 1);
  }

  /** Does `process` hold it (in either mode)? */
  holds(process: Process): boolean {
    return this.readers.has(process) || this.queue.peek().some((t) => t.process === process && t.held);
  }

  /** Is it held for write by anybody? */
  get writeHeld(): boolean {
    return this.queue.peek().some((t) => t.held && t.write);
  }

  private position(process: Process): number {
    return this.queue.peek().findIndex((t) => t.process === process && !t.held);
  }

  private waitGate(): Gate {
    return {
      name: this.name,
      promise: 'lasting',
      ready: (process) => {
        const at = this.position(process);
        const ticket = this.queue.peek()[at];
        if (ticket === undefined) return false;
        if (ticket.write) return at === 0 && this.readers.total === 0;
        // Readers join readers when no writer is before them.
        return !this.queue.peek().some((before, i) => i < at && before.write);
      },
      take: (process) => {
        const at = this.position(process);
        const { write } = this.queue.value[at]!;
        const others = this.queue.value.filter((_, i) => i !== at);
        if (!write) this.queue.value = others;
        this.own(process, write, others);
      },
      waitsFor: (process) => {
        const queue = this.queue.peek();
        const at = this.position(process);
        // A reader is held up by writers only, be they owners or waiting before it.
        const write = queue[at]?.write ?? false;
        const before = queue
          .slice(0, at)
          .filter((t) => write || t.write)
          .map((t) => t.process);
        return write ? [...this.readers.holders(), ...before] : before;
      },
    };
  }

  /** Leave the queue without owning: a killed waiter. */
  private abandon(process: Process): void {
    const at = this.position(process);
    this.queue.value = this.queue.value.filter((_, i) => i !== at);
  }

  private readonly release: Gate = {
    name: 'up',
    promise: 'always',
    ready: () => true,
    take: (process) => {
      if (this.readers.has(process)) {
        this.readers.change(process, -1);
        return;
      }
      const at = this.queue.value.findIndex((t) => t.process === process && t.held);
      if (at < 0) throw new Error(`${process.name} releases ${this.name} without holding it`);
      this.queue.value = this.queue.value.filter((_, i) => i !== at);
    },
    waitsFor: () => [],
  };
}

/** Lasting too: neither a fatal signal nor the first place of a fair queue goes away. */
class KillableTurn implements Gate {
  readonly promise = 'lasting';
  readonly name: string;
  private readonly turn: Gate;
  private readonly signal: KillSignal;

  constructor(turn: Gate, signal: KillSignal) {
    this.turn = turn;
    this.name = `${turn.name} (killable)`;
    this.signal = signal;
  }

  ready(process: Process): boolean {
    return this.signal.peek() || this.turn.ready(process);
  }

  take(process: Process): void {
    if (this.turn.ready(process)) this.turn.take(process);
  }

  waitsFor(process: Process): readonly Process[] {
    return this.turn.waitsFor(process);
  }
}
