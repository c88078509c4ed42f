// RCU-like read sections: a grace period first records the readers it has to wait for, then waits for exactly those.
// One instance serves RCU, one each SRCU domain.
import { Cell } from './cell.ts';
import { call, type Process, type Steps } from './process.ts';
import type { Sim } from './sim.ts';
import { type Announced, step } from './step.ts';
import { until } from './wait.ts';

const READ_LOCK = step('srcu_read_lock', 'none');
const READ_UNLOCK = step('srcu_read_unlock', 'none');
const SYNCHRONIZE = step('synchronize_srcu:snapshot', 'op');
const GRACE = step('synchronize_srcu:grace-period', 'grace-period');

export class Rcu {
  readonly name: string;
  private readonly sim: Sim;
  // Per actor: the number of sections entered so far times two, plus one while inside.
  private readonly sections = new Map<Process, Cell<number>>();

  constructor(sim: Sim, name: string) {
    this.sim = sim;
    this.name = name;
    // Cells made during an execution carry ids of that execution; a domain made during one dies with it.
    if (sim.current === null) sim.onRewind(() => this.sections.clear());
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
    const cell = this.cellOf(this.sim.current!);
    return cell.willUpdate(READ_LOCK);
  }

  /** In the step announced by `readLock`. */
  enter(): void {
    const cell = this.cellOf(this.sim.current!);
    cell.value = cell.value + 1;
  }

  readUnlock(): Announced {
    return this.cellOf(this.sim.current!).willUpdate(READ_UNLOCK);
  }

  /** In the step announced by `readUnlock`. */
  leave(): void {
    const cell = this.cellOf(this.sim.current!);
    cell.value = cell.value + 1;
  }

  /** synchronize_rcu / synchronize_srcu. */
  *synchronize(): Steps<void> {
    const cells = [...this.sections.values()];
    for (const cell of cells) cell.willRead(SYNCHRONIZE);
    yield this.sim.local(SYNCHRONIZE);
    const waited = cells.map((cell) => [cell, cell.peek()] as const).filter(([, at]) => at % 2 === 1);
    yield until(
      this.sim,
      waited.map(([cell]) => cell),
      () => waited.every(([cell, at]) => cell.peek() !== at),
      GRACE,
      { name: `grace period of ${this.name}` },
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
