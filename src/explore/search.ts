// One search of a world that is set up: execution after execution under a strategy, and at any moment what was found so
// far and what that proves. Whoever drives it decides when to stop.
import type { Finding } from '../engine/finding.ts';
import type { Sim } from '../engine/sim.ts';
import { type Estimate, Estimator } from './estimate.ts';
import { type RunLimits, Runner, type ScheduledStep } from './runner.ts';
import { fromPlain, type SavedBounded, type SavedDpor, toPlain } from './saved.ts';
import { Bounded } from './schedulers/bounded.ts';
import { Dpor } from './schedulers/dpor.ts';
import { TimedJitter } from './schedulers/jitter.ts';
import { Pct } from './schedulers/pct.ts';
import { PartialOrderSampling } from './schedulers/pos.ts';
import { RandomWalk } from './schedulers/random.ts';
import { Replay, Retrace } from './schedulers/replay.ts';
import type { Scheduler } from './schedulers/scheduler.ts';
import { parseToken, printToken } from './token.ts';

/**
 * `dpor`: every inequivalent interleaving. `bounded`: those with at most `bound` preemptions. `random`: uniform walk.
 * `pct`: random priorities with `depth` - 1 changes. `pos`: partial order sampling. `timed`: latencies with jitter.
 */
export type Strategy = 'dpor' | 'bounded' | 'random' | 'pct' | 'pos' | 'timed' | 'replay';

export interface ExploreOptions extends RunLimits {
  readonly strategy?: Strategy;
  /** Seed of samplers and of the program's own streams. Default '0'. */
  readonly seed?: string | number;
  /** Executions of a sampler. Default 1,000. */
  readonly runs?: number;
  /** Bug depth of PCT. Default 3. */
  readonly depth?: number;
  /** Steps of the longest run, for PCT; when absent, the first run tells. */
  readonly horizon?: number;
  /** Preemptions allowed to `bounded`. Default 2. */
  readonly bound?: number;
  /** How much `timed` stretches or shrinks latencies [percent]. Default 50. */
  readonly jitterPercent?: number;
  /** The schedule to replay. */
  readonly token?: string;
  /** Stop after this many executions, whatever the strategy. */
  readonly maxExecutions?: number;
  /** Stop at the first finding. */
  readonly stopAtFinding?: boolean;
  /** Throw when a step touches what it did not announce. Default true: no search is sound without. */
  readonly checked?: boolean;
}

const RUNS = 1000;
const DEPTH = 3;
const BOUND = 2;
const WALKS = 200;
const WALKS_PER_EXECUTION = 0.125;

/** One cause, with the shortest schedule that was met: fewest preemptions, then fewest steps, then the first. */
export interface FoundFinding {
  readonly kind: string;
  readonly message: string;
  /** The steps of the execution that shows it, in order. */
  readonly schedule: readonly ScheduledStep[];
  /** The schedule as one line, for `{ strategy: 'replay', token }`. */
  readonly token: string;
  /** Times that an actor was switched away from that could have gone on. */
  readonly preemptions: number;
  /** Number (from 0) of the execution that showed it first, and how many did. */
  readonly firstExecution: number;
  readonly executions: number;
  readonly finding: Finding;
}

export interface ExploreResult {
  readonly strategy: Strategy;
  readonly executions: number;
  /** Runs that only repeated others, or were given up because they would have. Always 0 for `dpor`. */
  readonly blocked: number;
  /** Every inequivalent interleaving was run to its end: the program is verified, within `limits` (then empty). */
  readonly complete: boolean;
  readonly findings: readonly FoundFinding[];
  /**
   * How many executions a complete search makes: exact when this one is; null when there is no telling. Found out when it
   * is first read, which takes a part of the time that the search took.
   */
  readonly estimate: Estimate | null;
  /** Steps acted in all executions. */
  readonly steps: number;
  /** What kept the search from being complete, in words: bounds of retry loops, step limits, divergence of a replay. */
  readonly limits: readonly string[];
}

/** A search between two executions, as JSON can hold it: another process can go on with it. */
export interface SavedSearch {
  readonly strategy: Strategy;
  /** Nothing more is to be run, whatever is left. */
  readonly over: boolean;
  readonly executions: number;
  readonly blocked: number;
  readonly steps: number;
  readonly limits: readonly (readonly [string, number])[];
  readonly findings: readonly SavedFinding[];
  readonly dpor?: SavedDpor;
  readonly bounded?: SavedBounded;
  /** Of PCT: steps of run 0. */
  readonly horizon?: number;
}

/** A finding without its schedule, which the token gives. */
interface SavedFinding extends Omit<FoundFinding, 'finding' | 'schedule'> {
  readonly finding: unknown;
  readonly schedule: readonly (readonly [string, string, readonly number[]])[];
}

/** A search under way. */
export class Search {
  readonly strategy: Strategy;
  readonly runner: Runner;
  readonly scheduler: Scheduler;
  /** Executions that counted, and those that only repeated others. */
  executions = 0;
  blocked = 0;
  private readonly options: ExploreOptions;
  private readonly found = new Map<string, { finding: FoundFinding; executions: number }>();
  private estimator: Estimator | null = null;
  private over = false;

  /** `sim` is set up: its present state is where every execution starts. */
  constructor(sim: Sim, options: ExploreOptions = {}) {
    checkOptions(options);
    this.options = options;
    this.strategy = options.strategy ?? 'dpor';
    this.runner = new Runner(sim, options);
    this.scheduler = makeScheduler(this.strategy, sim, options);
  }

  /** Run one more execution. False when there is none, or none is wanted. */
  next(): boolean {
    const { runner, scheduler, options } = this;
    if (this.over || this.executions >= (options.maxExecutions ?? Number.POSITIVE_INFINITY)) return false;
    if (!runner.execute(scheduler, this.executions + this.blocked)) {
      this.over = true;
      return false;
    }
    if (scheduler.redundant === true) {
      this.blocked++;
      return true;
    }
    this.executions++;
    if (runner.findings.length > 0) {
      this.note(runner.findings, this.executions - 1);
      this.over = options.stopAtFinding ?? false;
    }
    if (runner.unfair) {
      this.over = true;
      runner.limitsReached.set('the search ended there: such interleavings have no end', 1);
    }
    if (runner.livelocked && scheduler.finished !== undefined) {
      this.over = true;
      runner.limitsReached.set('the search ended at a livelock: its interleavings have no end', 1);
    }
    return true;
  }

  /** All that the rest of the search depends on, and what it has found. Between executions only. */
  save(): SavedSearch {
    const { scheduler, runner } = this;
    return {
      strategy: this.strategy,
      over: this.over && scheduler.finished !== true,
      executions: this.executions,
      blocked: this.blocked,
      steps: runner.totalSteps,
      limits: [...runner.limitsReached],
      findings: this.findings.map((found) => ({
        ...found,
        finding: toPlain(found.finding),
        schedule: found.schedule.map(({ actor, label, choices }) => [actor, label, choices]),
      })),
      ...(scheduler instanceof Dpor ? { dpor: scheduler.save() } : {}),
      ...(scheduler instanceof Bounded ? { bounded: scheduler.save() } : {}),
      ...(scheduler instanceof Pct ? { horizon: scheduler.horizon } : {}),
    };
  }

  /**
   * Before the first execution: go on with a search of the same program under the same options. It then makes the
   * executions that the other would have made. Throws NotRepeatable when the program has changed and that shows at once.
   */
  restore(saved: SavedSearch): void {
    const { scheduler, runner } = this;
    if (saved.strategy !== this.strategy)
      throw new Error(`a ${saved.strategy} search cannot go on as ${this.strategy}`);
    this.executions = saved.executions;
    this.blocked = saved.blocked;
    runner.totalSteps = saved.steps;
    for (const [limit, times] of saved.limits) runner.limitsReached.set(limit, times);
    for (const one of saved.findings) {
      const finding = fromPlain(one.finding) as Finding;
      const schedule = one.schedule.map(([actor, label, choices]) => ({ actor, label, choices }));
      this.found.set(finding.identity, { finding: { ...one, schedule, finding }, executions: one.executions });
    }
    if (scheduler instanceof Dpor) scheduler.restore(saved.dpor!);
    if (scheduler instanceof Bounded) scheduler.restore(saved.bounded!);
    if (scheduler instanceof Pct) scheduler.horizon = saved.horizon!;
    this.over = saved.over;
  }

  /** Findings so far, each cause once, in the order in which they were met. */
  get findings(): readonly FoundFinding[] {
    return [...this.found.values()].map(({ finding, executions }) => ({ ...finding, executions }));
  }

  /**
   * How many executions this search makes in all, as far as can be told by now. An exhaustive search makes random walks
   * to find out: at least `walks`, more the more has been executed, so that they cost a part of the search.
   */
  estimate(walks = 0): Estimate | null {
    const { scheduler, executions } = this;
    if (scheduler.finished === true) return { total: executions, error: 0 };
    if (scheduler instanceof Dpor) {
      this.estimator ??= new Estimator(this.runner, String(this.options.seed ?? '0'));
      this.estimator.drawTo(Math.max(walks, WALKS + Math.floor(executions * WALKS_PER_EXECUTION)));
      return this.estimator.total(executions, scheduler.explored);
    }
    if (scheduler instanceof Bounded) {
      const done = scheduler.fractionDone;
      return done > 0 ? { total: Math.max(executions / done, executions + 1), error: null } : null;
    }
    return { total: this.wanted, error: 0 };
  }

  /** Executions that a sampler is to make. */
  private get wanted(): number {
    return this.strategy === 'replay' ? 1 : (this.options.runs ?? RUNS);
  }

  /** What can be said by now. */
  result(): ExploreResult {
    const { runner, scheduler, options } = this;
    const { finished } = scheduler;
    const limits = [...runner.limitsReached].map(([message, times]) => `${message} (${times} times)`);
    if (scheduler instanceof Replay && scheduler.divergence !== null) limits.push(scheduler.divergence);
    if (scheduler instanceof Bounded && scheduler.leftOut > 0) {
      const bound = options.bound ?? BOUND;
      limits.push(
        `the bound of ${bound} preemption${bound === 1 ? '' : 's'} left out ${scheduler.leftOut} switches between actors`,
      );
    }
    const most = options.maxExecutions ?? Number.POSITIVE_INFINITY;
    // A sampler that made all its runs was not stopped.
    const cutShort = finished === undefined ? most < this.wanted : finished !== true;
    if (cutShort && this.executions >= most) limits.push(`stopped after ${most} executions (maxExecutions)`);
    else if (finished !== true && options.stopAtFinding === true && this.found.size > 0)
      limits.push('stopped at the first finding (stopAtFinding)');
    if (finished === true && !runner.sim.checked) {
      limits.push('steps were not held to what they announced (unchecked): some interleavings may not have been run');
    }
    let estimated: Estimate | null = null;
    const estimate = (): Estimate | null => this.estimate();
    return {
      strategy: this.strategy,
      executions: this.executions,
      blocked: this.blocked,
      complete: finished === true && limits.length === 0,
      findings: this.findings,
      get estimate(): Estimate | null {
        estimated ??= estimate();
        return estimated;
      },
      steps: runner.totalSteps,
      limits,
    };
  }

  private note(findings: readonly Finding[], execution: number): void {
    const { found, runner } = this;
    const { preemptions } = runner;
    let shown: { schedule: readonly ScheduledStep[]; token: string } | null = null;
    const seen = new Set<string>();
    for (const finding of [...findings]) {
      if (seen.has(finding.identity)) continue;
      seen.add(finding.identity);
      const known = found.get(finding.identity);
      if (known !== undefined) {
        known.executions++;
        if (!isShorter({ preemptions, schedule: { length: runner.steps } }, known.finding)) continue;
      }
      shown ??= this.shown();
      const { kind, message } = finding;
      const firstExecution = known?.finding.firstExecution ?? execution;
      const best = { kind, message, ...shown, preemptions, firstExecution, executions: 1, finding };
      found.set(finding.identity, { finding: best, executions: known?.executions ?? 1 });
    }
  }

  /** The last execution, for people. */
  private shown(): { schedule: readonly ScheduledStep[]; token: string } {
    const schedule = this.runner.schedule();
    return { schedule, token: tokenOf(this.runner, schedule) };
  }
}

/** As much of a finding as tells how long its schedule is. */
type Length = Pick<FoundFinding, 'preemptions'> & { readonly schedule: { readonly length: number } };

/** Fewer preemptions first, then fewer steps. */
export function isShorter(a: Length, b: Length): boolean {
  return (a.preemptions - b.preemptions || a.schedule.length - b.schedule.length) < 0;
}

/** Counts must be counts. Throws Error that names the option. */
function checkOptions(options: ExploreOptions): void {
  const least = { runs: 1, depth: 1, horizon: 1, bound: 0, maxExecutions: 1, maxSteps: 1, jitterPercent: 0 } as const;
  for (const [name, from] of Object.entries(least)) {
    const value = options[name as keyof typeof least];
    if (value === undefined || value === Number.POSITIVE_INFINITY) continue;
    if (!Number.isInteger(value) || value < from)
      throw new Error(`${name} cannot be ${value}: expected a whole number from ${from} on`);
  }
}

function makeScheduler(strategy: Strategy, sim: Sim, options: ExploreOptions): Scheduler {
  const seed = String(options.seed ?? '0');
  const runs = options.runs ?? RUNS;
  switch (strategy) {
    case 'dpor':
      return new Dpor(sim);
    case 'bounded':
      return new Bounded(sim, options.bound ?? BOUND);
    case 'pct':
      return new Pct(seed, runs, options.depth ?? DEPTH, options.horizon);
    case 'pos':
      return new PartialOrderSampling(seed, runs);
    case 'timed':
      return new TimedJitter(seed, runs, options.jitterPercent);
    case 'random':
      return new RandomWalk(seed, runs);
    case 'replay':
      if (options.token === undefined) throw new Error('a replay needs the token to follow');
      return new Replay(parseToken(options.token));
    default:
      throw new Error(
        `there is no strategy '${String(strategy)}': expected dpor, bounded, random, pct, pos, timed or replay`,
      );
  }
}

/** Where was anybody preempted? Only another run along the same steps can tell. */
export function tokenOf(runner: Runner, schedule: readonly ScheduledStep[]): string {
  const retrace = new Retrace(schedule, runner.initialChoices);
  runner.retrace(retrace);
  return printToken(retrace.token());
}
