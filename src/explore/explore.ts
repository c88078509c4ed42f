// The library's entry: set a program up once, run it under a strategy, and say what was found and what that proves.
import type { Finding } from '../engine/finding.ts';
import { Sim } from '../engine/sim.ts';
import { Dpor } from './dpor.ts';
import { Program } from './program.ts';
import { RandomWalk } from './random.ts';
import { Replay, Retrace } from './replay.ts';
import { type RunLimits, Runner, type ScheduledStep } from './runner.ts';
import type { Scheduler } from './scheduler.ts';
import { parseToken, printToken } from './token.ts';

export type Strategy = 'dpor' | 'random' | 'replay';

export interface ExploreOptions extends RunLimits {
  readonly strategy?: Strategy;
  /** Seed of samplers and of the program's own streams. Default '0'. */
  readonly seed?: string | number;
  /** Executions of a sampler. Default 1,000. */
  readonly runs?: number;
  /** The schedule to replay. */
  readonly token?: string;
  /** Stop after this many executions, whatever the strategy. */
  readonly maxExecutions?: number;
  /** Stop at the first finding. */
  readonly stopAtFinding?: boolean;
  /** Throw when a step touches what it did not announce. Default true: no search is sound without. */
  readonly checked?: boolean;
}

/** One cause, as first met. */
export interface FoundFinding {
  readonly kind: string;
  readonly message: string;
  /** The steps that led to it, in order. */
  readonly schedule: readonly ScheduledStep[];
  /** The schedule as one line, for `{ strategy: 'replay', token }`. */
  readonly token: string;
  /** Number (from 0) of the execution that showed it first, and how many did. */
  readonly firstExecution: number;
  readonly executions: number;
  readonly finding: Finding;
}

export interface ExploreResult {
  readonly strategy: Strategy;
  readonly executions: number;
  /** Executions given up because they could only repeat others. */
  readonly blocked: number;
  /** Every inequivalent interleaving was run to its end. */
  readonly complete: boolean;
  readonly findings: readonly FoundFinding[];
  /** Steps acted in all executions. */
  readonly steps: number;
  /** What kept the search from being complete, in words: bounds of retry loops, step limits, divergence of a replay. */
  readonly limits: readonly string[];
}

/** Explore a program. `setup` builds it once; executions rewind it. */
export function explore(setup: (sim: Program) => void, options: ExploreOptions = {}): ExploreResult {
  const sim = new Sim({ seed: String(options.seed ?? '0'), checked: options.checked ?? true, journaled: true });
  setup(new Program(sim));
  return exploreSim(sim, options);
}

/** As `explore`, for a world that is already set up: its present state is where every execution starts. */
export function exploreSim(sim: Sim, options: ExploreOptions = {}): ExploreResult {
  const strategy = options.strategy ?? 'dpor';
  const runner = new Runner(sim, options);
  const scheduler = makeScheduler(strategy, sim, options);
  const maxExecutions = options.maxExecutions ?? Number.POSITIVE_INFINITY;
  const found = new Map<string, { finding: FoundFinding; executions: number }>();
  let executions = 0;
  let stopped = false;
  while (!stopped && executions < maxExecutions && runner.execute(scheduler, executions)) {
    executions++;
    const { findings } = runner;
    if (findings.length === 0) continue;
    note(found, runner, findings, executions - 1);
    stopped = options.stopAtFinding ?? false;
  }
  const limits = [...runner.limitsReached].map(([message, times]) => `${message} (${times} times)`);
  if (scheduler instanceof Replay && scheduler.divergence !== null) limits.push(scheduler.divergence);
  return {
    strategy,
    executions,
    blocked: scheduler instanceof Dpor ? scheduler.blocked : 0,
    complete: scheduler instanceof Dpor && scheduler.finished && limits.length === 0,
    findings: [...found.values()].map(({ finding, executions: shown }) => ({ ...finding, executions: shown })),
    steps: runner.totalSteps,
    limits,
  };
}

function makeScheduler(strategy: Strategy, sim: Sim, options: ExploreOptions): Scheduler {
  const seed = String(options.seed ?? '0');
  const runs = options.runs ?? 1000;
  switch (strategy) {
    case 'dpor':
      return new Dpor(sim);
    case 'random':
      return new RandomWalk(seed, runs);
    case 'replay':
      if (options.token === undefined) throw new Error('a replay needs the token to follow');
      return new Replay(parseToken(options.token));
  }
}

function note(
  found: Map<string, { finding: FoundFinding; executions: number }>,
  runner: Runner,
  findings: readonly Finding[],
  execution: number,
): void {
  let schedule: ScheduledStep[] | null = null;
  let token = '';
  const seen = new Set<string>();
  for (const finding of [...findings]) {
    if (seen.has(finding.identity)) continue;
    seen.add(finding.identity);
    const known = found.get(finding.identity);
    if (known !== undefined) {
      known.executions++;
      continue;
    }
    if (schedule === null) {
      schedule = runner.schedule();
      token = tokenOf(runner, schedule);
    }
    const { kind, message } = finding;
    const first = { kind, message, schedule, token, firstExecution: execution, executions: 1, finding };
    found.set(finding.identity, { finding: first, executions: 1 });
  }
}

/** Where was anybody preempted? Only another run along the same steps can tell. */
function tokenOf(runner: Runner, schedule: readonly ScheduledStep[]): string {
  const retrace = new Retrace(schedule, runner.initialChoices);
  runner.retrace(retrace);
  return printToken(retrace.token());
}
