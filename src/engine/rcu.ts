// RCU-like read sections: a grace period first records the readers it has to wait for, then waits for exactly those.
// One instance serves RCU, one each SRCU domain. Sections nest; the outermost one counts.
import { Cell, Tally } from './cell.ts';
import { call, type Process, type Steps } from './process.ts';
import type { Sim } from './sim.ts';
import { type Announced, step } from './step.ts';
import { until } from './wait.ts';

const READ_LOCK = step('srcu_read_lock', 'none');
const READ_UNLOCK = step('srcu_read_unlock', 'none');
const SYNCHRONIZE = step('synchronize_srcu:snapshot', 'op');
const GRACE = step('synchronize_srcu:grace-period', 'grace-period');

// A reader's cell holds the number of its outermost sections left so far times NESTING, plus the depth it is in now.
const NESTING = 256;

export class Rcu {
  readonly name: string;
  private readonly sim: Sim;
  private readonly sections = new Map<Process, Cell<number>>();
  // Every entry and exit adds to it, the snapshot reads it: readers commute with each other, not with a snapshot.
  private readonly readers: Tally;

  constructor(sim: Sim, name: string) {
    this.sim = sim;
    this.name = name;
    this.readers = new Tally(sim, `${name} readers`);
    // Cells made during an execution carry ids of that execution: the next one gives them to others.
    sim.onRewind(() => this.sections.clear());
  }

  private cellOf(process: Process): Cell<number> {
    let cell = this.sections.get(process);
    if (cell === undefined) {
      cell = new Cell(this.sim, `${this.name} section of ${process.name}`, 0);
      this.sections.set(process, cell);
    }
    return cell;
  }

  readLock(): Announced {
    this.readers.willAdd(READ_LOCK);
    return this.cellOf(this.sim.current!).willUpdate(READ_LOCK);
  }

  /** In the step announced by `readLock`. */
  enter(): void {
    const cell = this.cellOf(this.sim.current!);
    cell.value = cell.value + 1;
  }

  readUnlock(): Announced {
    this.readers.willAdd(READ_UNLOCK);
    return this.cellOf(this.sim.current!).willUpdate(READ_UNLOCK);
  }

  /** In the step announced by `readUnlock`. */
  leave(): void {
    const cell = this.cellOf(this.sim.current!);
    const depth = cell.value % NESTING;
    if (depth === 0)
      throw new Error(`${this.sim.current!.name} leaves a section of ${this.name} that it never entered`);
    cell.value = depth === 1 ? cell.value - 1 + NESTING : cell.value - 1;
  }

  /** synchronize_rcu / synchronize_srcu. */
  *synchronize(): Steps<void> {
    yield this.readers.willRead(SYNCHRONIZE);
    const waited: { readonly cell: Cell<number>; readonly left: number }[] = [];
    for (const cell of this.sections.values()) {
      const at = cell.peek();
      if (at % NESTING > 0) waited.push({ cell, left: Math.floor(at / NESTING) });
    }
    yield until(
      this.sim,
      waited.map(({ cell }) => cell),
      () => waited.every(({ cell, left }) => Math.floor(cell.peek() / NESTING) !== left),
      GRACE,
      { name: `grace period of ${this.name}`, lasting: true },
    );
  }

  /** As one expression: enter, run, leave. */
  *section<R>(body: Steps<R>): Steps<R> {
    yield this.readLock();
    this.enter();
    const result = yield* call(body);
    yield this.readUnlock();
    this.leave();
    return result;
  }
}
