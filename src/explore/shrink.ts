// Makes a schedule small: as few preemptions as possible, then as few switches between actors, then choices that are 0,
// with the same finding at the end. Preemptions go in groups first (Zeller's ddmin), then one by one until none can go.
import type { Finding } from '../engine/finding.ts';
import { UndeclaredAccess } from '../engine/sim.ts';
import { Attempt, choicesByActor, Noting, preemptionsOf, type RunSchedule } from './attempt.ts';
import type { Program } from './program.ts';
import { type RunLimits, Runner, type ScheduledStep } from './runner.ts';
import { Bounded } from './schedulers/bounded.ts';
import { canStep, NotRepeatable, type Scheduler } from './schedulers/scheduler.ts';
import { checkCall, setUpWorld, withSetUp } from './set-up.ts';
import { parseToken, printToken, type ScheduleToken } from './token.ts';
import { goOnAtOnce, runOn, runOnAll, startLater } from './variants.ts';

/** Steps, or writes, that cost as much as one execution. */
const STEPS_PER_EXECUTION = 1000;
const WRITES_PER_EXECUTION = 20_000;

/** Executions that may still be spent. One counts once for every thousand steps begun, or for as many writes. */
export class Budget {
  readonly limit: number;
  spent = 0;

  constructor(limit: number) {
    this.limit = limit;
  }

  get exhausted(): boolean {
    return this.spent >= this.limit;
  }

  /** An execution of so many steps has been run, which wrote so often. */
  spend(steps: number, writes = 0): void {
    this.spent += Math.ceil(Math.max(1, steps / STEPS_PER_EXECUTION, writes / WRITES_PER_EXECUTION));
  }
}

/** Is what an execution found that for which the schedule is kept? */
export type Wanted = (findings: readonly Finding[]) => boolean;

/** Runs changed schedules of one world, and tells which still show what is wanted. */
export class Trials {
  readonly runner: Runner;
  readonly budget: Budget;
  private readonly wanted: Wanted;
  private last: RunSchedule | undefined;

  constructor(runner: Runner, wanted: Wanted, budget: Budget) {
    this.runner = runner;
    this.wanted = wanted;
    this.budget = budget;
  }

  /** Run `token`. The schedule that came of it; undefined when it does not show what is wanted, or cannot be run. */
  show(token: ScheduleToken, choices: ReadonlyMap<string, readonly number[]> | null): RunSchedule | undefined {
    if (this.budget.exhausted) return undefined;
    const ran = this.run(token, choices);
    return ran !== undefined && this.wanted(this.runner.findings) ? ran : undefined;
  }

  /** Could the last run have gone no other way? It went on until nobody could step, and none but one actor ever could. */
  get hasOneOrder(): boolean {
    const { last, runner } = this;
    if (last === undefined || last.token.initialChoices.length > 0 || runner.sim.processes.some(canStep)) return false;
    return last.steps.every(({ actor, choices }) => actor === last.steps[0]!.actor && choices.length === 0);
  }

  /** Run number `run` of a sampler; undefined when it does not show what is wanted. */
  sample(sampler: Scheduler, run: number): RunSchedule | undefined {
    const ran = this.execute(new Noting(sampler), run);
    return ran !== undefined && this.wanted(this.runner.findings) ? ran : undefined;
  }

  /** Run `token`, whatever it shows; undefined when the world cannot be run so. */
  run(token: ScheduleToken, choices: ReadonlyMap<string, readonly number[]> | null): RunSchedule | undefined {
    return this.execute(new Noting(new Attempt(token, choices)), 0);
  }

  /** One run of any scheduler, whatever it shows. */
  follow(scheduler: Scheduler): RunSchedule | undefined {
    return this.execute(new Noting(scheduler), 0);
  }

  private execute(noting: Noting, run: number): RunSchedule | undefined {
    const { runner, budget } = this;
    this.last = undefined;
    try {
      runner.execute(noting, run);
    } catch (error) {
      if (error instanceof UndeclaredAccess || error instanceof NotRepeatable) return undefined;
      throw error;
    } finally {
      budget.spend(runner.steps, runner.sim.journalSize);
    }
    this.last = noting.ran(runner);
    return this.last;
  }
}

/** Smaller is better, the first difference decides. */
function sizeOf({ steps, token }: RunSchedule): readonly number[] {
  const choices = [...token.initialChoices, ...steps.flatMap((step) => step.choices)];
  const nonZero = choices.filter((choice) => choice !== 0).length;
  const total = choices.reduce((sum, choice) => sum + choice, 0);
  return [preemptionsOf(token), token.segments.length, nonZero, total, steps.length];
}

/** Is `a` smaller than `b`? */
export function isSmaller(a: RunSchedule, b: RunSchedule): boolean {
  const [left, right] = [sizeOf(a), sizeOf(b)];
  const at = left.findIndex((value, index) => value !== right[index]);
  return at >= 0 && left[at]! < right[at]!;
}

/** The smallest schedule that could be found within the budget of `trials`, beginning with one that shows the finding. */
export function shrinkSchedule(trials: Trials, start: RunSchedule): RunSchedule {
  let best = start;
  const accept = (token: ScheduleToken | undefined, choices = choicesByActor(best.steps)): boolean => {
    if (token === undefined) return false;
    const shown = trials.show(token, choices);
    if (shown === undefined || !isSmaller(shown, best)) return false;
    best = shown;
    return true;
  };
  accept({ ...best.token, segments: [] });
  dropGroups(() => best, accept);
  while (!trials.budget.exhausted && (dropOne(best, accept) || zeroOne(best, accept)));
  return best;
}

/** Executions in which schedules with fewer preemptions are looked for, of those that a shrinking may spend. */
const PART_FOR_FEWER = 1 / 4;
/** For each of them, so many that are given up halfway, as they only repeat others, are free. */
const FREE = 8;

/**
 * Taking preemptions away one by one ends where none can go; another order of the actors may still need fewer. All
 * schedules with fewer are tried, fewest first, as far as a part of the budget goes; undefined when none shows the finding.
 */
export function withFewerPreemptions(trials: Trials, best: RunSchedule): RunSchedule | undefined {
  const { budget, runner } = trials;
  const { sim } = runner;
  const most = Math.ceil(budget.limit * PART_FOR_FEWER);
  const until = Math.min(budget.limit, budget.spent + most);
  let free = most * FREE;
  try {
    for (let bound = 0; bound < preemptionsOf(best.token); bound++) {
      const search = new Bounded(sim, bound);
      while (!search.finished) {
        if (budget.spent >= until) return undefined;
        const { spent } = budget;
        const shown = trials.sample(search, 0);
        if (search.redundant && free-- > 0) budget.spent = spent;
        if (shown !== undefined && !search.redundant && isSmaller(shown, best)) return shown;
      }
    }
    return undefined;
  } finally {
    sim.record(false);
    sim.allotted = null;
  }
}

type Accept = (token: ScheduleToken | undefined, choices?: Map<string, number[]>) => boolean;

/** Halves, then quarters, ... of the preemptions at once. */
function dropGroups(best: () => RunSchedule, accept: Accept): void {
  for (let size = Math.ceil(preemptionsOf(best().token) / 2); size > 1; size = Math.ceil(size / 2)) {
    for (let from = 0; from < preemptionsOf(best().token); ) {
      const stops = best().token.segments.flatMap(({ until }, index) => (until === null ? [] : [index]));
      const group = new Set(stops.slice(from, from + size));
      if (!accept(runOnAll(best(), group))) from += size;
    }
    if (size === 2) return;
  }
}

/** Take one switch away, preemptions before others, late ones first: what comes early is often what it takes. */
function dropOne(best: RunSchedule, accept: Accept): boolean {
  const { segments } = best.token;
  const order = [...segments.keys()].reverse();
  const stopped = order.filter((index) => segments[index]!.until !== null);
  for (const at of stopped)
    if (accept(goOnAtOnce(best, at)) || accept(startLater(best, at)) || accept(runOn(best, at))) return true;
  const ended = order.filter((index) => segments[index]!.until === null);
  for (const at of ended) if (accept(goOnAtOnce(best, at)) || accept(startLater(best, at))) return true;
  return false;
}

/** Let one choice be its first alternative, or the one before. */
function zeroOne(best: RunSchedule, accept: Accept): boolean {
  const choices = choicesByActor(best.steps);
  const { initialChoices } = best.token;
  for (const [index, value] of initialChoices.entries()) {
    for (const smaller of smallerThan(value)) {
      if (accept({ ...best.token, initialChoices: initialChoices.with(index, smaller) })) return true;
    }
  }
  for (const [actor, made] of choices) {
    for (const [index, value] of made.entries()) {
      for (const smaller of smallerThan(value)) {
        const changed = new Map(choices).set(actor, made.with(index, smaller));
        if (accept(best.token, changed)) return true;
      }
    }
  }
  return false;
}

function smallerThan(value: number): readonly number[] {
  return value > 1 ? [0, value - 1] : value === 1 ? [0] : [];
}

export interface ShrinkOptions extends RunLimits {
  /** Seed of the program's own streams, as given to the search. Default '0'. */
  readonly seed?: string | number;
  /** Executions to spend. Default 1,000. */
  readonly budget?: number;
  /** Which finding is to stay, by identity. Default: the first one that the token shows. */
  readonly identity?: string;
}

export interface Shrunk {
  readonly token: string;
  readonly schedule: readonly ScheduledStep[];
  readonly finding: Finding;
  /** Switches away from an actor that could have gone on. */
  readonly preemptions: number;
  readonly executions: number;
  /** No preemption can go without losing the finding; false: the budget ended before that was known. */
  readonly minimal: boolean;
}

const OPTIONS: Readonly<Record<keyof ShrinkOptions, true>> = {
  budget: true,
  identity: true,
  seed: true,
  maxSteps: true,
  gatesChecked: true,
  atEnd: true,
};

/**
 * Make a schedule of a program small. Throws Error when the token does not show the finding, and for options that nobody
 * knows.
 */
export function shrink(setup: (sim: Program) => void, token: string, options: ShrinkOptions = {}): Shrunk {
  checkCall('shrink', setup, options, OPTIONS);
  const { setUp = [], ...given } = parseToken(token);
  const { sim } = setUpWorld(setup, options.seed === undefined ? {} : { seed: options.seed }, setUp);
  const runner = new Runner(sim, options);
  const budget = new Budget(options.budget ?? 1000);
  let { identity } = options;
  const trials = new Trials(runner, (findings) => findings.some((one) => one.identity === identity), budget);
  const start = trials.run(given, null);
  identity ??= runner.findings[0]?.identity;
  if (start === undefined || !runner.findings.some((one) => one.identity === identity))
    throw new Error('the token does not show the finding that is to be shrunk');
  let small = shrinkSchedule(trials, start);
  const fewer = budget.exhausted ? undefined : withFewerPreemptions(trials, small);
  if (fewer !== undefined) small = shrinkSchedule(trials, fewer);
  const minimal = !budget.exhausted;
  const { spent } = budget;
  trials.run(small.token, null);
  const finding = runner.findings.find((one) => one.identity === identity)!;
  const preemptions = preemptionsOf(small.token);
  const shrunk = withSetUp(printToken(small.token), setUp);
  return { token: shrunk, schedule: small.steps, finding, preemptions, executions: spent, minimal };
}
