// One try of a changed schedule. Where the changed schedule no longer fits, the world goes on as it can; what really
// happened is noted as a schedule of its own. The n-th choice of an actor stays the n-th choice of that actor, wherever
// its steps have moved to.
import type { Process } from '../engine/process.ts';
import type { Sim } from '../engine/sim.ts';
import { Replay, tokenFrom } from './replay.ts';
import type { Runner, ScheduledStep } from './runner.ts';
import { canStep, type Scheduler } from './scheduler.ts';
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

export class Attempt implements Scheduler {
  private readonly replay: Replay;
  private readonly choices: ReadonlyMap<string, readonly number[]> | null;
  private readonly chosen = new Map<string, number>();
  private readonly preempted: (string | null)[] = [];
  private last: Process | null = null;
  private begun = false;

  /** `choices`: by actor; without, those that stand in the token's segments. */
  constructor(token: ScheduleToken, choices: ReadonlyMap<string, readonly number[]> | null = null) {
    this.replay = new Replay(token);
    this.choices = choices;
  }

  newExecution(): boolean {
    this.chosen.clear();
    this.preempted.length = 0;
    this.last = null;
    this.begun = false;
    return this.replay.newExecution(0);
  }

  nextActor(sim: Sim): Process | null {
    this.begun = true;
    const process = this.replay.nextActor(sim);
    if (process === null) return null;
    const { last } = this;
    this.preempted.push(last !== null && process !== last && canStep(last) ? last.announced.step.label : null);
    this.last = process;
    return process;
  }

  choose(process: Process | null, alternatives: number, label: string): number {
    if (this.choices === null || !this.begun || process === null)
      return this.replay.choose(process, alternatives, label);
    const nth = this.chosen.get(process.name) ?? 0;
    this.chosen.set(process.name, nth + 1);
    return Math.min(this.choices.get(process.name)?.[nth] ?? 0, alternatives - 1);
  }

  /** The execution that has just ended, as it was run. */
  ran(runner: Runner): RunSchedule {
    const steps = runner.schedule();
    return { steps, token: tokenFrom(steps, this.preempted, runner.initialChoices) };
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
