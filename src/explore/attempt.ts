// Tries of changed schedules. Where the changed schedule no longer fits, the world goes on as it can; what really
// happened is noted as a schedule of its own. The n-th choice of an actor stays the n-th choice of that actor, wherever
// its steps have moved to.
import type { Process } from '../engine/process.ts';
import type { Sim } from '../engine/sim.ts';
import type { Runner, ScheduledStep } from './runner.ts';
import { Replay, tokenFrom } from './schedulers/replay.ts';
import { canStep, type Scheduler } from './schedulers/scheduler.ts';
import type { ScheduleToken } from './token.ts';

/** A schedule as it was run: its steps, and the token that says where actors were preempted. */
export interface RunSchedule {
  readonly steps: readonly ScheduledStep[];
  readonly token: ScheduleToken;
}

/** How often an actor was stopped that could have gone on. */
export function preemptionsOf({ segments }: ScheduleToken): number {
  return segments.filter(({ until }) => until !== null).length;
}

/** Another scheduler, and a note of where it stopped whom. */
export class Noting implements Scheduler {
  private readonly inner: Scheduler;
  private readonly preempted: (string | null)[] = [];
  private last: Process | null = null;

  constructor(inner: Scheduler) {
    this.inner = inner;
  }

  newExecution(run: number): boolean {
    this.preempted.length = 0;
    this.last = null;
    return this.inner.newExecution(run);
  }

  nextActor(sim: Sim): Process | null {
    const process = this.inner.nextActor(sim);
    if (process === null) return null;
    const { last } = this;
    this.preempted.push(last !== null && process !== last && canStep(last) ? last.announced.step.label : null);
    this.last = process;
    return process;
  }

  choose(process: Process | null, alternatives: number, label: string): number {
    return this.inner.choose(process, alternatives, label);
  }

  acted(process: Process, sim: Sim): void {
    this.inner.acted?.(process, sim);
  }

  executionEnded(sim: Sim): void {
    this.inner.executionEnded?.(sim);
  }

  /** The execution that has just ended, as it was run. */
  ran(runner: Runner): RunSchedule {
    const steps = runner.schedule();
    return { steps, token: tokenFrom(steps, this.preempted, runner.initialChoices) };
  }
}

/** Follows a token; the n-th choice of an actor stays its n-th. */
export class Attempt implements Scheduler {
  private readonly replay: Replay;
  private readonly choices: ReadonlyMap<string, readonly number[]> | null;
  private readonly chosen = new Map<string, number>();
  private begun = false;

  /** `choices`: by actor; without, those that stand in the token's segments. */
  constructor(token: ScheduleToken, choices: ReadonlyMap<string, readonly number[]> | null = null) {
    this.replay = new Replay(token);
    this.choices = choices;
  }

  newExecution(): boolean {
    this.chosen.clear();
    this.begun = false;
    return this.replay.newExecution(0);
  }

  nextActor(sim: Sim): Process | null {
    this.begun = true;
    return this.replay.nextActor(sim);
  }

  choose(process: Process | null, alternatives: number, label: string): number {
    if (this.choices === null || !this.begun || process === null)
      return this.replay.choose(process, alternatives, label);
    const nth = this.chosen.get(process.name) ?? 0;
    this.chosen.set(process.name, nth + 1);
    return Math.min(this.choices.get(process.name)?.[nth] ?? 0, alternatives - 1);
  }
}

/** Choices by actor, in the order in which it makes them. */
export function choicesByActor(steps: readonly ScheduledStep[]): Map<string, number[]> {
  const choices = new Map<string, number[]>();
  for (const { actor, choices: made } of steps) {
    if (made.length === 0) continue;
    const before = choices.get(actor);
    if (before === undefined) choices.set(actor, [...made]);
    else before.push(...made);
  }
  return choices;
}
