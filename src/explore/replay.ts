// Replay: follows a schedule token segment by segment. Where the world no longer fits it says so once, and goes on with
// the rest as far as it applies; what is left open runs in slot order without preemption.
import type { Process } from '../engine/process.ts';
import type { Sim } from '../engine/sim.ts';
import type { ScheduledStep } from './runner.ts';
import { canStep, NotRepeatable, type Scheduler } from './scheduler.ts';
import type { ScheduleToken, Segment } from './token.ts';

export class Replay implements Scheduler {
  /** Where the schedule first did not fit, in one sentence; null while it fits. */
  divergence: string | null = null;
  private readonly token: ScheduleToken;
  private segment = 0;
  private seen = 0;
  private choice = 0;
  private current: Process | null = null;
  private started = false;

  constructor(token: ScheduleToken) {
    this.token = token;
  }

  newExecution(run: number): boolean {
    if (run > 0) return false;
    this.divergence = null;
    this.segment = 0;
    this.seen = 0;
    this.choice = 0;
    this.current = null;
    this.started = false;
    return true;
  }

  nextActor(sim: Sim): Process | null {
    if (!this.started) this.choice = 0;
    this.started = true;
    for (;;) {
      const segment = this.token.segments[this.segment];
      if (segment === undefined) return this.unguided(sim);
      const process = sim.processes.find((other) => other.name === segment.actor);
      if (process === undefined) this.diverge(`there is no actor ${segment.actor}`);
      else if (!this.over(process, segment)) {
        this.current = process;
        return process;
      }
      this.segment++;
      this.seen = 0;
      this.choice = 0;
    }
  }

  /** Is this segment over? Counts occurrences of its label: asked once before each step. */
  private over(process: Process, segment: Segment): boolean {
    if (!canStep(process)) {
      if (segment.until !== null) this.diverge(`${segment.actor} cannot go on to ${segment.until}`);
      else if (process !== this.current) this.diverge(`${segment.actor} cannot step where it should`);
      return true;
    }
    if (process.announced.step.label !== segment.until) return false;
    return ++this.seen >= segment.occurrence;
  }

  private unguided(sim: Sim): Process | null {
    if (this.current === null || !canStep(this.current)) this.current = sim.processes.find(canStep) ?? null;
    return this.current;
  }

  choose(process: Process | null, alternatives: number, label: string): number {
    const choices = this.started ? this.token.segments[this.segment]?.choices : this.token.initialChoices;
    const value = choices?.[this.choice++] ?? 0;
    if (value < alternatives) return value;
    this.diverge(`${process?.name} has only ${alternatives} alternatives at ${label}, not ${value + 1}`);
    return alternatives - 1;
  }

  private diverge(how: string): void {
    this.divergence ??= how;
  }
}

/** Follows recorded steps one by one, and notes at each where the actor that stepped before could have gone on. */
export class Retrace implements Scheduler {
  /** By step: the label at which the actor of the step before was preempted. */
  private readonly preempted: (string | null)[] = [];
  private readonly schedule: readonly ScheduledStep[];
  private readonly initialChoices: readonly number[];
  private at = 0;
  private choice = 0;
  private last: Process | null = null;

  constructor(schedule: readonly ScheduledStep[], initialChoices: readonly number[]) {
    this.schedule = schedule;
    this.initialChoices = initialChoices;
  }

  newExecution(): boolean {
    this.preempted.length = 0;
    this.at = 0;
    this.choice = 0;
    this.last = null;
    return true;
  }

  nextActor(sim: Sim): Process | null {
    const step = this.schedule[this.at];
    if (step === undefined) return null;
    const process = sim.processes.find((other) => other.name === step.actor);
    if (process === undefined || !canStep(process)) {
      throw new NotRepeatable(`${step.actor} cannot step at ${step.label} again`);
    }
    const preempted = this.last !== null && process !== this.last && canStep(this.last);
    this.preempted.push(preempted ? this.last!.announced.step.label : null);
    this.last = process;
    this.at++;
    this.choice = 0;
    return process;
  }

  choose(): number {
    const choices = this.at === 0 ? this.initialChoices : this.schedule[this.at - 1]!.choices;
    return choices[this.choice++] ?? 0;
  }

  /** The schedule, which has just been followed to its end, as a token. */
  token(): ScheduleToken {
    const segments: Segment[] = [];
    for (let from = 0; from < this.schedule.length; ) {
      const { actor } = this.schedule[from]!;
      let to = from;
      const choices: number[] = [];
      while (to < this.schedule.length && this.schedule[to]!.actor === actor)
        choices.push(...this.schedule[to++]!.choices);
      const until = this.preempted[to] ?? null;
      const acted = this.schedule.slice(from, to).filter((step) => step.label === until).length;
      segments.push({ actor, until, occurrence: acted + 1, choices });
      from = to;
    }
    return { initialChoices: this.initialChoices, segments };
  }
}
