// Fair reader-writer semaphores (kernel/locking/rwsem.c, without optimistic spinning): two steps, queue and own. A
// waiting writer stops later readers. Killable variants give up when the process has a fatal signal.
import { Cell } from './cell.ts';
import type { Gate } from './gate.ts';
import { mix } from './hash.ts';
import { call, type Process, type Steps } from './process.ts';
import type { Sim } from './sim.ts';
import { type Announced, READ, type Step, step, UPDATE } from './step.ts';

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
  private readonly queue: Cell<readonly Ticket[]>;

  constructor(sim: Sim, name: string) {
    this.sim = sim;
    this.name = name;
    this.queue = new Cell<readonly Ticket[]>(sim, name, []);
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
    yield this.sim.announce(this.id, this.id, UPDATE, at);
    const process = this.sim.current!;
    const immediate = this.admits(this.queue.peek().length, write);
    this.queue.value = [...this.queue.value, new Ticket(process, write, immediate)];
    if (immediate) return true;
    const access = this.sim.announcing(OWN);
    access.gate = signal === null ? this.turn : new KillableTurn(this.turn, signal);
    if (signal !== null) access.add(signal.id, signal.id, READ);
    yield this.sim.announce(this.id, this.id, UPDATE, OWN);
    const held = this.holds(process);
    if (!held) this.abandon(process);
    return held;
  }

  /** down_read_trylock / down_write_trylock, in one step that announced `willChange`. */
  tryNow(write: boolean): boolean {
    const process = this.sim.current!;
    if (!this.admits(this.queue.value.length, write)) return false;
    this.queue.value = [...this.queue.value, new Ticket(process, write, true)];
    return true;
  }

  willChange(at: Step): Announced {
    return this.sim.announce(this.id, this.id, UPDATE, at);
  }

  /** up_read / up_write: released in the act. */
  up(at: Step = UP): Announced {
    const access = this.sim.announcing(at);
    access.gate = this.release;
    return this.sim.announce(this.id, this.id, UPDATE, at);
  }

  /** downgrade_write, in a step that announced `willChange`. */
  downgradeNow(): void {
    const process = this.sim.current!;
    this.queue.value = this.queue.value.map((t) =>
      t.process === process && t.held ? new Ticket(process, false, true) : t,
    );
  }

  /** Does `process` hold it (in either mode)? */
  holds(process: Process): boolean {
    return this.queue.peek().some((t) => t.process === process && t.held);
  }

  /** Is it held for write by anybody? */
  get writeHeld(): boolean {
    return this.queue.peek().some((t) => t.held && t.write);
  }

  /** May a request at queue position `position` own it? Readers join readers when nobody waits in between. */
  private admits(position: number, write: boolean): boolean {
    const queue = this.queue.peek();
    for (let i = 0; i < position; i++) {
      const ticket = queue[i]!;
      if (write || ticket.write || !ticket.held) return false;
    }
    return true;
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
        for (let i = 0; i < at; i++) {
          const before = this.queue.peek()[i]!;
          if (ticket.write || before.write) return false;
        }
        return true;
      },
      take: (process) => {
        const at = this.position(process);
        this.queue.value = this.queue.value.map((t, i) => (i === at ? new Ticket(process, t.write, true) : t));
      },
      waitsFor: (process) => {
        const queue = this.queue.peek();
        const at = this.position(process);
        // A reader is held up by writers only, be they owners or waiting before it.
        const write = queue[at]?.write ?? false;
        return queue
          .slice(0, at)
          .filter((t) => write || t.write)
          .map((t) => t.process);
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
