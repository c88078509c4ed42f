// Replay: follows a schedule token segment by segment. Where the world no longer fits it says so once, and goes on with
// the rest as far as it applies; what is left open runs in slot order without preemption.
import type { Process } from '../../engine/process.ts';
import type { Sim } from '../../engine/sim.ts';
import type { ScheduledStep } from '../runner.ts';
import type { ScheduleToken, Segment } from '../token.ts';
import { canStep, mustStep, type Scheduler } from './scheduler.ts';

/** What an actor stood at when a schedule did not fit. */
export interface Offer {
  readonly actor: string;
  readonly label: string;
  /** What it waits for; absent: it could step. */
  readonly waitsFor?: string;
}

/** Where a schedule first did not fit. */
export interface Divergence {
  /** Steps acted before. */
  readonly steps: number;
  /** Which segment of the token, from 1. */
  readonly segment: number;
  readonly actor: string;
  /** The label up to which the schedule runs the actor; null: until it ends or waits. */
  readonly label: string | null;
  /** What did not fit, in one sentence. */
  readonly message: string;
  /** Every actor that has not ended, and where it stood. */
  readonly offers: readonly Offer[];
}

export class Replay implements Scheduler {
  /** Where the schedule first did not fit; null while it fits. */
  diverged: Divergence | null = null;
  private readonly token: ScheduleToken;
  private segment = 0;
  private seen = 0;
  private choice = 0;
  private steps = 0;
  private current: Process | null = null;
  private started = false;

  constructor(token: ScheduleToken) {
    this.token = token;
  }

  /** Where the schedule first did not fit, in one sentence; null while it fits. */
  get divergence(): string | null {
    return this.diverged?.message ?? null;
  }

  newExecution(run: number): boolean {
    if (run > 0) return false;
    this.diverged = null;
    this.segment = 0;
    this.seen = 0;
    this.choice = 0;
    this.steps = 0;
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
      if (process === undefined) this.diverge(sim, segment, `there is no actor ${segment.actor}`);
      else if (!this.over(sim, process, segment)) {
        this.current = process;
        this.steps++;
        return process;
      }
      this.segment++;
      this.seen = 0;
      this.choice = 0;
    }
  }

  /** Is this segment over? Counts occurrences of its label: asked once before each step. */
  private over(sim: Sim, process: Process, segment: Segment): boolean {
    if (!canStep(process)) {
      if (segment.until !== null) this.diverge(sim, segment, `${segment.actor} does not come to ${segment.until}`);
      else if (process !== this.current) this.diverge(sim, segment, `${segment.actor} cannot step where it should`);
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
    const segment = this.token.segments[this.segment];
    const choices = this.started ? segment?.choices : this.token.initialChoices;
    const value = choices?.[this.choice++] ?? 0;
    if (value < alternatives) return value;
    if (process !== null && segment !== undefined) {
      const message = `${process.name} has only ${alternatives} alternatives at ${label}, not ${value + 1}`;
      this.diverge(process.sim, segment, message);
    }
    return alternatives - 1;
  }

  private diverge(sim: Sim, { actor, until }: Segment, message: string): void {
    if (this.diverged !== null) return;
    const { steps, segment } = this;
    this.diverged = { steps, segment: segment + 1, actor, label: until, message, offers: offersOf(sim) };
  }
}

/** Where every actor that has not ended stands. */
function offersOf(sim: Sim): readonly Offer[] {
  const standing = sim.processes.filter(({ state, daemon, enabled }) => state === 'live' && (!daemon || enabled));
  return standing.map(({ name, announced, enabled }) => ({
    actor: name,
    label: announced.step.label,
    ...(enabled ? {} : { waitsFor: announced.gate?.name ?? 'something' }),
  }));
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
    const found = sim.processes.find((other) => other.name === step.actor);
    const process = found !== undefined && canStep(found) ? found : mustStep(found, step.actor, this.stepsBefore());
    const preempted = this.last !== null && process !== this.last && canStep(this.last);
    this.preempted.push(preempted ? this.last!.announced.step.label : null);
    this.last = process;
    this.at++;
    this.choice = 0;
    return process;
  }

  private stepsBefore(): string[] {
    return this.schedule.slice(0, this.at).map(({ actor, label }) => `${actor} at ${label}`);
  }

  choose(): number {
    const choices = this.at === 0 ? this.initialChoices : this.schedule[this.at - 1]!.choices;
    return choices[this.choice++] ?? 0;
  }

  /** The schedule, which has just been followed to its end, as a token. */
  token(): ScheduleToken {
    return tokenFrom(this.schedule, this.preempted, this.initialChoices);
  }
}

/** Steps as a token; `preempted` says by step at which label the actor of the step before could have gone on. */
export function tokenFrom(
  schedule: readonly ScheduledStep[],
  preempted: readonly (string | null)[],
  initialChoices: readonly number[],
): ScheduleToken {
  const segments: Segment[] = [];
  for (let from = 0; from < schedule.length; ) {
    const { actor } = schedule[from]!;
    let to = from;
    const choices: number[] = [];
    while (to < schedule.length && schedule[to]!.actor === actor) choices.push(...schedule[to++]!.choices);
    const until = preempted[to] ?? null;
    const acted = schedule.slice(from, to).filter((step) => step.label === until).length;
    segments.push({ actor, until, occurrence: acted + 1, choices });
    from = to;
  }
  return { initialChoices, segments };
}
