// Runs the cases of a scenario under the timed clock and judges them. The signature is what the command line and tests
// rely on.
import type { Finding } from '../engine/finding.ts';
import type { Scenario, ScenarioCase } from './file/scenario.ts';
import { type CaseChanges, selectCases } from './file/select-cases.ts';
import { isExpected, judgeCase } from './judge.ts';
import { preventions } from './prevention.ts';
import type { CaseResult, TraceLine } from './result.ts';
import { runToEnd } from './run-case.ts';

/** How far a run has come, for people who watch. */
export interface Progress {
  readonly caseName: string;
  readonly steps: number;
  readonly timeNs: number;
}

export interface RunOptions extends CaseChanges {
  /** Default: the scenario's. */
  readonly seed?: string;
  /** Steps after which a case is given up as incomplete. Default a thousand million. */
  readonly maxSteps?: number;
  /** Called for every step acted, in order; nobody listening costs nothing. */
  readonly trace?: (line: TraceLine) => void;
  /** Keep the trace in the result. */
  readonly keepTrace?: boolean;
  /** Called now and then during a run, never at a time that depends on the clock of this machine. */
  readonly progress?: (progress: Progress) => void;
  /** Throw when a step touches what it did not announce (tests and fuzzing). */
  readonly checked?: boolean;
  /** Findings to run again with other behaviours, to say what would have prevented them. Default: unexpected ones. */
  readonly explain?: 'unexpected' | 'all' | 'none';
}

export type RunScenario = (scenario: Scenario, options: RunOptions) => readonly CaseResult[];

/**
 * Run the selected cases (see `selectCases`) one after the other.
 * Throws ScenarioError for what only shows when the world is built, such as a memory that does not fit the host.
 */
export const runScenario: RunScenario = (scenario, options) => {
  return selectCases(scenario, options).map((one) => runCase(scenario, one, options));
};

function runCase(scenario: Scenario, one: ScenarioCase, options: RunOptions): CaseResult {
  const trace: TraceLine[] = [];
  const tracing = options.keepTrace === true;
  const watched: RunOptions = tracing
    ? {
        ...options,
        trace: (line) => {
          trace.push(line);
          options.trace?.(line);
        },
      }
    : options;
  const run = runToEnd(scenario, one, watched);
  const { world, failed } = run.stage;
  const { missed } = world.milestones;
  const seed = options.seed ?? scenario.seed;
  const told = (finding: Finding) =>
    options.explain === 'all' || (options.explain !== 'none' && !isExpected(one.expect, finding));
  const prevented = preventions(scenario, one, world.kernel, run, seed, told);
  return judgeCase(scenario, one, {
    seed,
    findings: run.findings,
    failed,
    reached: world.log?.labels ?? new Set(),
    ...(run.limit === undefined ? {} : { limit: run.limit }),
    ...(missed.length === 0 ? {} : { note: missed.join('; ') }),
    timeNs: run.timeNs,
    steps: run.steps,
    digest: run.digest,
    ...(tracing ? { trace } : {}),
    replay: () => replayLine(scenario, one, seed),
    preventedBy: (finding) => prevented.get(finding) ?? [],
    whereShown: (finding) => run.shownBy.get(finding),
  });
}

/** The command line that shows a finding again. */
function replayLine(scenario: Scenario, one: ScenarioCase, seed: string): string {
  const words = ['pinsim', 'run', shellWord(scenario.file)];
  const name = one.written ?? one.name;
  const written = scenario.cases.length > 1 ? scenario.cases.find((other) => other.name === name) : undefined;
  if (written !== undefined) words.push('--case', shellWord(written.name));
  if (written?.kernel !== one.kernel) words.push('--kernel', one.kernel);
  for (const behaviour of one.with) if (written?.with.includes(behaviour) !== true) words.push('--with', behaviour);
  for (const behaviour of one.without)
    if (written?.without.includes(behaviour) !== true) words.push('--without', behaviour);
  if (seed !== scenario.seed) words.push('--seed', shellWord(seed));
  return words.join(' ');
}

/** Quoted for a POSIX shell where it has to be. */
function shellWord(text: string): string {
  return /^[\w./:=@%+,-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
}
