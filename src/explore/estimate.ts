// How many inequivalent interleavings a program has, before they have all been run.
//
// A random walk that picks among k enabled actors at each step comes along schedule s with probability p(s) = prod 1/k.
// Of its trace t, a linearization drawn by picking among the m steps of t that may come next is s with probability
// q(s) = prod 1/m. Over all s of t, q sums to 1; so the mean of q(s)/p(s) = prod k/m over walks is the number of traces.
// That is Knuth's estimator ("Estimating the efficiency of backtrack programs", 1975) on a tree whose leaves are shared
// out among the linearizations of a trace: actors that never meet cost it no variance, and no walk is ever blocked.
//
// What a search has run already is known, so walks only count when they show a trace that it has not: the estimate is
// the executions so far plus the mean over the rest, and becomes exact as the search ends.
import type { Process } from '../engine/process.ts';
import type { Sim } from '../engine/sim.ts';
import { type Action, NO_CHOICES, sameChoices } from './action.ts';
import { Draws } from './draws.ts';
import { Identity } from './identity.ts';
import type { Runner } from './runner.ts';
import { enabledProcesses, type Scheduler } from './schedulers/scheduler.ts';
import { Trace } from './trace.ts';
import { type Candidate, WalkPolicy } from './walk-policy.ts';

/**
 * A number of interleavings, and how far off it may be: two standard errors (0: exact; null: nobody knows). Traces that
 * random walks hardly ever come along make it too small at first.
 */
export interface Estimate {
  readonly total: number;
  readonly error: number | null;
}

/**
 * How far an exhaustive search has come. It has run exactly the traces that hold the first `at` steps of its path and
 * then could go on with a step of `left(at)`, for some `at`; and all with smaller initial choices.
 */
export interface Explored {
  readonly initial: readonly number[];
  readonly path: readonly Action[];
  left(at: number): readonly Action[];
  nameOf(actor: number): string;
  /** A number that the rest cannot be smaller than. */
  readonly leastRest: number;
}

const WALKS = 4000;
/** So many walks only teach the policy; up to so many, one that teaches it something new makes those before void. */
const LESSONS = 40;
const NEWS = 100;
/** Walks that must agree to be believed. */
const SURE = 50;
/** Steps of all walks, and numbers kept of them: what an estimate may cost in time and in memory. */
const STEPS = 100_000;
/** Steps after which a walk is cut off. */
const LONG = 5000;
const KEPT = 4_000_000;

/** One walk: its steps in order, who happened before whom, and how many traces it stands for. */
interface Walk {
  readonly weight: number;
  readonly initial: readonly number[];
  /** By actor of the estimator: indices of its steps. */
  readonly steps: readonly (readonly number[])[];
  /** By step: its choices, and by actor how many steps happened before it, itself included. */
  readonly choices: readonly (readonly number[])[];
  readonly before: readonly (readonly number[])[];
}

export class Estimator {
  private readonly runner: Runner;
  private readonly walker: Walker;
  private readonly walks: Walk[] = [];
  private readonly limit: number;
  private drawn = 0;
  private steps = 0;
  private kept = 0;

  /** Makes at most `limit` walks from `seed`; fewer when they are long. */
  constructor(runner: Runner, seed: string, limit = WALKS) {
    this.runner = runner;
    this.limit = limit;
    // The actors there at the start are those of every walk; the last execution may have left others.
    runner.sim.rewind();
    this.walker = new Walker(runner.sim, seed, Math.min(runner.maxSteps, LONG));
  }

  /** See to it that `count` walks have been made in all, as far as the budget goes. Between executions only. */
  drawTo(count: number): void {
    const { runner } = this;
    const { observer } = runner.sim;
    const most = Math.min(count, this.limit);
    runner.sim.observer = null;
    try {
      while (this.drawn < most && this.steps < STEPS && this.kept < KEPT) this.drawOne();
    } finally {
      runner.sim.observer = observer;
    }
  }

  private drawOne(): void {
    const { walker, runner, walks } = this;
    const { policy, trace } = walker;
    runner.retrace(walker);
    this.drawn++;
    this.steps += trace.length;
    const learning = this.drawn <= LESSONS;
    walker.learn(learning);
    if (learning) {
      policy.changed = false;
      return;
    }
    if (policy.changed && this.drawn < NEWS) {
      // The draws so far took steps to be quiet that are not, or groups to be apart that meet: they miss traces.
      policy.changed = false;
      walks.length = 0;
      this.kept = 0;
      return;
    }
    const walk = walker.walk();
    walks.push(walk);
    this.kept += walk.before.length * walk.steps.length;
  }

  /** The whole, when `executions` have been run and what they covered is `explored`. Null without walks. */
  total(executions: number, explored: Explored): Estimate | null {
    const { walks } = this;
    if (walks.length === 0) return null;
    const actors = explored.path.map(({ actor }) => this.numberOf(actor, explored));
    const left = explored.path.map((_, at) => this.leftOf(at, explored));
    left.push(this.leftOf(explored.path.length, explored));
    const all = new Sample(walks.length);
    const run = new Sample(walks.length);
    const rest = new Sample(walks.length);
    for (const walk of walks) {
      all.add(walk.weight);
      (wasRun(walk, explored, actors, left) ? run : rest).add(walk.weight);
    }
    const least = executions + explored.leastRest;
    if (all.exact) return { total: Math.max(all.mean, least), error: 0 };
    // Where the walks tell clearly less (or more) of what has been run than there was, they do so of the rest: traces
    // that walks rarely come along are many.
    const spread = Math.sqrt(all.variance);
    const off = executions - run.mean;
    const clearly = Math.sign(off) * Math.max(0, Math.abs(off) - 2 * Math.sqrt(run.variance));
    const scale = clearly === 0 ? 1 : (run.mean + clearly + spread) / (run.mean + spread);
    const remaining = rest.mean * scale;
    // One more walk of a kind not met yet would weigh something between the heaviest and a usual one.
    const unseen = Math.sqrt(all.largest * Math.max(rest.largest, all.mean)) / walks.length;
    const error = 2 * Math.hypot(scale * Math.sqrt(rest.variance), remaining - rest.mean, unseen);
    return { total: Math.max(executions + remaining, least), error };
  }

  private numberOf(actor: number, explored: Explored): number {
    return this.walker.identity.numberNamed(explored.nameOf(actor));
  }

  private leftOf(at: number, explored: Explored): readonly Left[] {
    return explored.left(at).map((step) => ({ actor: this.numberOf(step.actor, explored), step }));
  }
}

/** The mean over all walks of the weights of some. */
class Sample {
  largest = 0;
  private readonly count: number;
  private sum = 0;
  private squares = 0;
  private smallest = Number.POSITIVE_INFINITY;

  constructor(count: number) {
    this.count = count;
  }

  add(weight: number): void {
    this.sum += weight;
    this.squares += weight * weight;
    this.largest = Math.max(this.largest, weight);
    this.smallest = Math.min(this.smallest, weight);
  }

  /** All walks stand for the same number: that is how many there are. */
  get exact(): boolean {
    return this.count >= SURE && this.largest === this.smallest;
  }

  get mean(): number {
    return this.sum / this.count;
  }

  /** Of the mean. */
  get variance(): number {
    if (this.count < 2) return this.mean ** 2;
    return Math.max(0, this.squares / this.count - this.mean ** 2) / (this.count - 1);
  }
}

/** A step whose traces have all been run, and its actor's number here. */
interface Left {
  readonly actor: number;
  readonly step: Action;
}

function wasRun(
  walk: Walk,
  { initial, path }: Explored,
  actors: readonly number[],
  left: readonly (readonly Left[])[],
): boolean {
  for (let i = 0; i < walk.initial.length; i++) {
    const difference = walk.initial[i]! - (initial[i] ?? 0);
    if (difference !== 0) return difference < 0;
  }
  const done = new Array<number>(walk.steps.length).fill(0);
  for (let at = 0; at <= path.length; at++) {
    for (const { actor, step } of left[at]!) if (comesNext(walk, actor, step, done)) return true;
    if (at === path.length || !comesNext(walk, actors[at]!, path[at]!, done)) return false;
    done[actors[at]!]!++;
  }
  return false;
}

/** After `done` steps of each actor, is `step` among those that may come next in the walk's trace? */
function comesNext(walk: Walk, actor: number, step: Action, done: readonly number[]): boolean {
  const index = walk.steps[actor]?.[done[actor]!];
  if (index === undefined || step.number !== done[actor]! + 1) return false;
  if (!sameChoices(walk.choices[index]!, step.choices)) return false;
  const before = walk.before[index]!;
  for (let a = 0; a < before.length; a++) if (a !== actor && before[a]! > done[a]!) return false;
  return true;
}

/** The random walk, and what the weight of one needs. */
class Walker implements Scheduler {
  readonly identity: Identity;
  readonly trace: Trace;
  readonly policy = new WalkPolicy();
  private readonly seed: string;
  private readonly maxSteps: number;
  private readonly draws = new Draws();
  private walks = 0;
  private readonly enabled: Process[] = [];
  private readonly candidates: Candidate[] = [];
  // Probability of the walk's draws so far, inverted.
  private ways = 1;
  private initial: readonly number[] = NO_CHOICES;
  private started = false;
  private choices: number[] = [];
  private alternatives: number[] = [];
  // By actor: who started it; itself when nobody did.
  private readonly starters: number[] = [];

  constructor(sim: Sim, seed: string, maxSteps: number) {
    this.identity = new Identity(sim);
    this.trace = new Trace(this.identity);
    this.seed = seed;
    this.maxSteps = maxSteps;
    for (let actor = 0; actor < this.identity.actors; actor++) this.starters[actor] = actor;
  }

  newExecution(): boolean {
    this.draws.restart(this.seed, this.walks++, ESTIMATE);
    this.identity.restart();
    this.trace.truncate(0);
    this.identity.sim.allotted = this.identity.allotted;
    this.identity.sim.record(true);
    this.ways = 1;
    this.started = false;
    this.choices = [];
    this.alternatives = [];
    return true;
  }

  nextActor(sim: Sim): Process | null {
    if (!this.started) {
      this.started = true;
      this.initial = this.choices;
    }
    this.choices = [];
    this.alternatives = [];
    const enabled = enabledProcesses(sim, this.enabled);
    const count = enabled.length;
    if (count === 0 || this.trace.length >= this.maxSteps) return null;
    for (let i = 0; i < count; i++) {
      const { announced, stepCount } = enabled[i]!;
      const candidate = this.candidateAt(i, this.identity.numberOf(enabled[i]!), stepCount);
      candidate.quiet = true;
      for (let a = 0; a < announced.count && candidate.quiet; a++) {
        const lo = this.identity.lasting(announced.lo[a]!);
        candidate.quiet = this.policy.isQuiet(lo, lo + announced.hi[a]! - announced.lo[a]!);
      }
    }
    const chosen = this.policy.pick(this.candidates, count, this.draws.fraction());
    this.ways /= this.policy.share(this.candidates, count, chosen);
    return this.identity.processes[chosen.actor]!;
  }

  private candidateAt(i: number, actor: number, done: number): Candidate {
    let candidate = this.candidates[i];
    if (candidate === undefined) {
      candidate = { actor, done, quiet: false };
      this.candidates[i] = candidate;
    }
    candidate.actor = actor;
    candidate.done = done;
    return candidate;
  }

  choose(_process: Process | null, alternatives: number): number {
    const value = this.draws.below(alternatives);
    this.choices.push(value);
    this.alternatives.push(alternatives);
    this.ways *= alternatives;
    return value;
  }

  acted(process: Process): void {
    const { identity, trace } = this;
    while (identity.news) {
      const child = identity.meetNext();
      this.starters[child] = identity.numberOf(process);
      trace.started(child, trace.length);
    }
    trace.add(identity.numberOf(process), process, this.choices, this.alternatives);
  }

  /** The walk that has just ended is one to learn from: how long actors go on, and who meets whom. */
  learn(lengths: boolean): void {
    this.policy.learnConflicts(this.trace, this.starters);
    if (lengths) this.policy.learnLengths(this.trace);
  }

  /** The walk that has just ended. */
  walk(): Walk {
    const { trace, identity } = this;
    const steps: number[][] = Array.from({ length: identity.actors }, () => []);
    const choices: (readonly number[])[] = [];
    const before: number[][] = [];
    for (let at = 0; at < trace.length; at++) {
      const event = trace.events[at]!;
      steps[event.actor]!.push(at);
      choices.push(event.choices);
      const counts = new Array<number>(identity.actors).fill(0);
      trace.raise(at, counts);
      before.push(counts);
    }
    return { weight: this.ways * this.shareOfTrace(steps), initial: this.initial, steps, choices, before };
  }

  /** With which probability would the same rule, drawing from the steps of the trace, have drawn this order of them? */
  private shareOfTrace(steps: readonly (readonly number[])[]): number {
    const { trace, policy, candidates } = this;
    const done = new Array<number>(steps.length).fill(0);
    const quiet = Array.from({ length: trace.length }, (_, at) => policy.isQuietStep(trace.events[at]!));
    let product = 1;
    for (let at = 0; at < trace.length; at++) {
      let count = 0;
      let chosen = 0;
      for (let actor = 0; actor < steps.length; actor++) {
        const next = steps[actor]![done[actor]!];
        // A step may come next once the last one that happened before it has been taken.
        if (next === undefined || trace.events[next]!.past >= at) continue;
        if (next === at) chosen = count;
        this.candidateAt(count++, actor, done[actor]!).quiet = quiet[next]!;
      }
      product *= policy.share(candidates, count, candidates[chosen]!);
      done[candidates[chosen]!.actor]!++;
    }
    return product;
  }
}

/** Keeps the walks' random numbers apart from those of samplers. */
const ESTIMATE = 0x657374;
