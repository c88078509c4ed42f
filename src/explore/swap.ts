// The swap test: two adjacent steps of different actors that announced nothing in common must commute. Random runs are
// repeated with such pairs swapped; digest, findings and the way the run ended must not change. What does change them
// is shared state that a step did not announce: a JavaScript variable, a store looked at without a step.
import type { Process } from '../engine/process.ts';
import type { Sim } from '../engine/sim.ts';
import { mayConflict } from '../engine/step.ts';
import { JoinGate } from '../engine/wait.ts';
import { Draws } from './draws.ts';
import { type RunLimits, Runner, type ScheduledStep } from './runner.ts';
import { canStep, enabledProcesses, type Scheduler } from './schedulers/scheduler.ts';
import { type SetUp, setUpWorld } from './set-up.ts';

export interface SwapOptions extends RunLimits {
  /** Random runs to try; each is repeated once as it was and once with swaps. Default 100. */
  readonly runs?: number;
  readonly seed?: string;
}

/**
 * `not-repeatable`: the same schedule gave another result. `order`: swapping the two steps did. `enabling`: `second`
 * could only step after `first`, though they announced nothing in common.
 */
export type SwapFailureKind = 'not-repeatable' | 'order' | 'enabling';

export interface SwapFailure {
  readonly kind: SwapFailureKind;
  readonly run: number;
  /** The pair in the order of the random run; for `not-repeatable` the first step that went differently. */
  readonly first: ScheduledStep;
  readonly second: ScheduledStep | null;
  /** One sentence for people. */
  readonly message: string;
}

export interface SwapResult {
  readonly runs: number;
  /** Pairs swapped in all. */
  readonly swaps: number;
  readonly failure: SwapFailure | null;
}

interface Outcome {
  readonly digest: string;
  readonly findings: string;
  readonly end: string;
  /** Digest after every step. */
  readonly digests: readonly string[];
  /** What stopped the run from following its schedule. */
  readonly divergence: string | null;
}

/**
 * Test a program, or a world that is set up and has not run yet; the world must keep its journal and its digest. Objects
 * that its cells hold need an `identity`, save for lists and plain ones. Where a set-up chooses, the world that the seed
 * gives is tested.
 */
export function swapTest(world: Sim | SetUp, options: SwapOptions = {}): SwapResult {
  const { seed: worldSeed = '0' } = options;
  const sim = typeof world === 'function' ? setUpWorld(world, { seed: worldSeed, digested: true }, null).sim : world;
  if (!sim.digested) throw new Error('the swap test compares digests: the sim must keep one');
  const runs = options.runs ?? 100;
  const seed = options.seed ?? '0';
  const runner = new Runner(sim, { ...options, gatesChecked: false });
  let swaps = 0;
  for (let run = 0; run < runs; run++) {
    const walk = new PairingWalk(seed, run);
    const original = play(runner, walk, walk);
    if (walk.enabling !== null) return { runs: run + 1, swaps, failure: { ...walk.enabling, run } };
    const schedule = runner.schedule();
    const initial = runner.initialChoices;
    const again = play(runner, new Follow(schedule, initial), walk);
    const broken = notRepeatable(original, again, schedule, run);
    if (broken !== null) return { runs: run + 1, swaps, failure: broken };
    swaps += walk.pairs.length;
    if (sameOutcome(original, play(runner, new Follow(swapped(schedule, walk.pairs), initial), walk))) continue;
    return { runs: run + 1, swaps, failure: culprit(runner, walk, schedule, initial, original) };
  }
  return { runs, swaps, failure: null };
}

/** One execution; `watch` says after each step what the digest is. */
function play(runner: Runner, scheduler: PairingWalk | Follow, walk: PairingWalk): Outcome {
  scheduler.digests.length = 0;
  runner.execute(scheduler, walk.run);
  return {
    digest: runner.sim.stateDigest,
    // Whether a state comes back within a round depends on where steps of others that commute fall.
    findings: runner.findings
      .filter(({ kind }) => kind !== 'livelock')
      .map((finding) => finding.identity)
      .sort()
      .join('\n'),
    end: runner.end,
    digests: [...scheduler.digests],
    divergence: scheduler.divergence,
  };
}

function sameOutcome(a: Outcome, b: Outcome): boolean {
  return a.digest === b.digest && a.findings === b.findings && a.end === b.end && b.divergence === null;
}

function notRepeatable(a: Outcome, b: Outcome, schedule: readonly ScheduledStep[], run: number): SwapFailure | null {
  if (sameOutcome(a, b)) return null;
  let at = a.digests.findIndex((digest, i) => digest !== b.digests[i]);
  if (at < 0) at = Math.min(b.digests.length, schedule.length) - 1;
  const first = schedule[Math.max(at, 0)]!;
  const why = b.divergence ?? (a.digest !== b.digest ? 'the state differs' : 'its findings differ');
  return {
    kind: 'not-repeatable',
    run,
    first,
    second: null,
    message: `the same schedule run twice differs from ${first.actor} at ${first.label} on: ${why}; some state outlives a rewind`,
  };
}

/** Which of the swapped pairs changes the outcome by itself. */
function culprit(
  runner: Runner,
  walk: PairingWalk,
  schedule: readonly ScheduledStep[],
  initial: readonly number[],
  original: Outcome,
): SwapFailure {
  const { run } = walk;
  for (const at of walk.pairs) {
    const outcome = play(runner, new Follow(swapped(schedule, [at]), initial), walk);
    if (!sameOutcome(original, outcome)) return orderFailure(schedule, at, original, outcome, run);
  }
  const outcome = play(runner, new Follow(swapped(schedule, walk.pairs), initial), walk);
  return orderFailure(schedule, walk.pairs[0]!, original, outcome, run);
}

function orderFailure(
  schedule: readonly ScheduledStep[],
  at: number,
  a: Outcome,
  b: Outcome,
  run: number,
): SwapFailure {
  const first = schedule[at]!;
  const second = schedule[at + 1]!;
  const what =
    b.divergence ??
    (a.digests[at + 1] !== b.digests[at + 1]
      ? 'the state right after them differs'
      : a.digest !== b.digest
        ? 'the state at the end differs'
        : a.findings !== b.findings
          ? 'the findings differ'
          : `the run ended in ${b.end} instead of ${a.end}`);
  return {
    kind: 'order',
    run,
    first,
    second,
    message:
      `${first.actor} at ${first.label} and ${second.actor} at ${second.label} announced nothing in common, ` +
      `but do not commute: ${what}; they share state that one of them does not announce`,
  };
}

/** The schedule with the pairs (at, at + 1) swapped. */
function swapped(schedule: readonly ScheduledStep[], pairs: readonly number[]): ScheduledStep[] {
  const result = [...schedule];
  for (const at of pairs) {
    result[at] = schedule[at + 1]!;
    result[at + 1] = schedule[at]!;
  }
  return result;
}

/** A random walk that notes disjoint adjacent pairs to swap. */
class PairingWalk implements Scheduler {
  readonly run: number;
  readonly pairs: number[] = [];
  readonly digests: string[] = [];
  readonly divergence = null;
  enabling: Omit<SwapFailure, 'run'> | null = null;
  private readonly draws = new Draws();
  private readonly seed: string;
  private enabled: Process[] = [];
  private before: Process[] = [];
  private step = 0;
  private last: Process | null = null;
  private lastLabel = '';

  constructor(seed: string, run: number) {
    this.seed = seed;
    this.run = run;
  }

  newExecution(): boolean {
    this.draws.restart(this.seed, this.run);
    return true;
  }

  nextActor(sim: Sim): Process | null {
    [this.enabled, this.before] = [this.before, this.enabled];
    enabledProcesses(sim, this.enabled);
    if (this.enabled.length === 0 || this.enabling !== null) return null;
    const next = this.enabled[this.draws.below(this.enabled.length)]!;
    if (this.last !== null && next !== this.last) this.consider(this.last, next);
    this.step++;
    this.last = next;
    this.lastLabel = next.announced.step.label;
    return next;
  }

  /** `last` acted at step - 1, `next` is about to act at `step`: may they be swapped? */
  private consider(last: Process, next: Process): void {
    if (next.parent === last && next.stepCount === 0) return;
    if (mayConflict(last.acted, next.announced)) return;
    const { gate } = next.announced;
    if (!this.before.includes(next)) {
      if (gate instanceof JoinGate) return;
      const first = { actor: last.name, label: this.lastLabel, choices: [] };
      const second = { actor: next.name, label: next.announced.step.label, choices: [] };
      this.enabling = {
        kind: 'enabling',
        first,
        second,
        message:
          `${second.actor} at ${second.label} waited for ${gate?.name}, and ${first.actor} at ${first.label} let it ` +
          `through, but they announced nothing in common`,
      };
      return;
    }
    const at = this.step - 1;
    if (this.pairs.length > 0 && this.pairs[this.pairs.length - 1]! >= at - 1) return;
    if (this.draws.below(4) > 0) this.pairs.push(at);
  }

  choose(_process: Process | null, alternatives: number): number {
    return this.draws.below(alternatives);
  }

  acted(_process: Process, sim: Sim): void {
    this.digests.push(sim.stateDigest);
  }
}

/** Follows a schedule actor by actor, and says where it cannot. */
class Follow implements Scheduler {
  readonly digests: string[] = [];
  divergence: string | null = null;
  private readonly schedule: readonly ScheduledStep[];
  private readonly initial: readonly number[];
  private at = 0;
  private choice = 0;

  constructor(schedule: readonly ScheduledStep[], initial: readonly number[]) {
    this.schedule = schedule;
    this.initial = initial;
  }

  newExecution(): boolean {
    return true;
  }

  nextActor(sim: Sim): Process | null {
    const step = this.schedule[this.at];
    if (step === undefined || this.divergence !== null) return null;
    const process = sim.processes.find((other) => other.name === step.actor);
    if (process === undefined || !canStep(process)) {
      this.divergence = `${step.actor} cannot step at ${step.label}`;
      return null;
    }
    if (process.announced.step.label !== step.label) {
      this.divergence = `${step.actor} is at ${process.announced.step.label} instead of ${step.label}`;
      return null;
    }
    this.at++;
    this.choice = 0;
    return process;
  }

  choose(process: Process | null, alternatives: number, label: string): number {
    const choices = this.at === 0 ? this.initial : this.schedule[this.at - 1]!.choices;
    const value = choices[this.choice++] ?? 0;
    if (value >= alternatives) this.divergence = `${process?.name} has ${alternatives} alternatives at ${label}`;
    return Math.min(value, alternatives - 1);
  }

  acted(_process: Process, sim: Sim): void {
    this.digests.push(sim.stateDigest);
  }
}
