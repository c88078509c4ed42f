// Waits and holds of scripts: reaching a label, a named step or an end, and stopping an operation before a label until
// others have come somewhere. They make a race take one certain order without touching the model.
import { Cell } from '../../engine/cell.ts';
import type { Gate } from '../../engine/gate.ts';
import type { Process } from '../../engine/process.ts';
import type { Sim } from '../../engine/sim.ts';
import { type Access, type Announced, READ, type Step, UPDATE } from '../../engine/step.ts';
import { until } from '../../engine/wait.ts';
import type { Hold, WaitTarget } from '../file/step.ts';

/** How often something was reached; and how to tell whether that is enough. */
interface Reached {
  readonly cell: Cell<number>;
  readonly times: number;
}

export class Milestones {
  private readonly sim: Sim;
  private readonly cells = new Map<string, Cell<number>>();
  /** Labels that somebody waits for, by actor. */
  private readonly watched = new Map<string, Set<string>>();
  private readonly holds = new Map<Process, ActiveHold[]>();
  private readonly aliases = new Map<Process, string>();
  /** In words: holds of operations that ended without coming to the label. A reader should know: nothing was held. */
  readonly missed: string[] = [];

  constructor(sim: Sim) {
    this.sim = sim;
    sim.announced = (process, access) => this.announced(process, access);
    sim.onRewind(() => {
      this.holds.clear();
      this.aliases.clear();
      this.missed.length = 0;
    });
  }

  /** Declare, before the world starts, that `target` will be waited for. */
  watch(target: WaitTarget): void {
    if (target.label !== undefined) {
      const labels = this.watched.get(target.actor.name) ?? new Set();
      this.watched.set(target.actor.name, labels.add(target.label));
    }
    this.reached(target);
  }

  private cell(name: string): Cell<number> {
    let cell = this.cells.get(name);
    if (cell === undefined) {
      if (this.sim.current !== null) throw new Error(`${name} was not declared while the world was built`);
      cell = new Cell(this.sim, name, 0);
      this.cells.set(name, cell);
    }
    return cell;
  }

  private reached(target: WaitTarget): Reached {
    const { actor, label, step } = target;
    const what = label !== undefined ? `${actor.name} acted ${label}` : `${actor.name} ended ${step ?? 'its script'}`;
    return { cell: this.cell(what), times: target.time ?? 1 };
  }

  /** Wait until every target has been reached, or the waiting process is `killed`. */
  wait(targets: readonly WaitTarget[], at: Step, killed: Cell<boolean> | null): Announced {
    const reached = targets.map((target) => this.reached(target));
    const name = reached.map(({ cell }) => cell.name).join(' and ');
    const cells = reached.map(({ cell }) => cell);
    const ready = () => reached.every(({ cell, times }) => cell.peek() >= times);
    if (killed === null) return until(this.sim, cells, ready, at, { name });
    return until(this.sim, [...cells, killed], () => killed.peek() || ready(), at, { name });
  }

  /** Announce that `actor` ended a named step, or (without a name) its script; undefined when nobody waits for it. */
  willReach(actor: string, step: string | undefined, at: Step): Announced | undefined {
    return this.cells.get(`${actor} ended ${step ?? 'its script'}`)?.willUpdate(at);
  }

  /** In the step announced by `willReach`. */
  reach(actor: string, step: string | undefined): void {
    const cell = this.cells.get(`${actor} ended ${step ?? 'its script'}`);
    if (cell !== undefined) cell.value = cell.value + 1;
  }

  /** The actor's name in the scenario of a process that has another one (a forked child). */
  alias(process: Process, actor: string): void {
    this.aliases.set(process, actor);
  }

  /** The holds of the operation that `process` performs now. */
  hold(process: Process, holds: readonly Hold[]): void {
    for (const { hold, seen } of this.holds.get(process) ?? []) {
      if (seen >= (hold.time ?? 1)) continue;
      const times = (hold.time ?? 1) > 1 ? ` ${hold.time} times` : '';
      this.missed.push(`${process.name} was to be held at ${hold.at}, and did not come there${times}`);
    }
    if (holds.length === 0) this.holds.delete(process);
    else
      this.holds.set(
        process,
        holds.map((hold) => ({ hold, seen: 0 })),
      );
  }

  private announced(process: Process, access: Access): void {
    const { label } = access.step;
    const held = this.holds.get(process)?.find((active) => {
      if (active.hold.at !== label) return false;
      active.seen++;
      return active.seen === (active.hold.time ?? 1);
    });
    const actor = this.aliases.get(process) ?? process.name;
    const watched = this.watched.get(actor)?.has(label) === true;
    if (held === undefined && !watched) return;
    const reached = held === undefined ? [] : held.hold.until.map((target) => this.reached(target));
    const milestone = watched ? this.cell(`${actor} acted ${label}`) : undefined;
    for (const { cell } of reached) access.add(cell.id, cell.id, READ);
    if (milestone !== undefined) access.add(milestone.id, milestone.id, UPDATE);
    access.gate = new StagedGate(access.gate, reached, milestone);
  }
}

interface ActiveHold {
  readonly hold: Hold;
  /** How often the operation has come to the label. Only its own actor looks. */
  seen: number;
}

/** The gate of a step that is held, or that others wait for, around the gate it has by itself. */
class StagedGate implements Gate {
  readonly name: string;
  private readonly inner: Gate | null;
  private readonly reached: readonly Reached[];
  private readonly milestone: Cell<number> | undefined;

  constructor(inner: Gate | null, reached: readonly Reached[], milestone: Cell<number> | undefined) {
    this.inner = inner;
    this.reached = reached;
    this.milestone = milestone;
    const missing = reached.map(({ cell }) => cell.name).join(' and ');
    this.name = reached.length === 0 ? (inner?.name ?? 'milestone') : missing;
  }

  ready(process: Process): boolean {
    if (!this.reached.every(({ cell, times }) => cell.peek() >= times)) return false;
    return this.inner === null || this.inner.ready(process);
  }

  take(process: Process): void {
    this.inner?.take(process);
    if (this.milestone !== undefined) this.milestone.value = this.milestone.value + 1;
  }

  waitsFor(process: Process): readonly Process[] {
    return this.inner?.waitsFor(process) ?? [];
  }
}
