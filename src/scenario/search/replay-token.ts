// Replays a token on the scenario as it is now, on the kernel of the token or on another, and says whether it still
// shows what it was kept for. Where scenario or model have changed since, and the schedule no longer fits, the nearest
// schedules are tried before the finding is called gone.
import type { Finding } from '../../engine/finding.ts';
import type { RunSchedule } from '../../explore/attempt.ts';
import { PartialOrderSampling } from '../../explore/schedulers/pos.ts';
import { Replay } from '../../explore/schedulers/replay.ts';
import { Budget, shrinkSchedule } from '../../explore/shrink.ts';
import { parseToken, printToken, type ScheduleToken } from '../../explore/token.ts';
import { KernelError } from '../../kernel/index.ts';
import { canonicalKernel } from '../catalogue.ts';
import { ScenarioError } from '../file/diagnostic.ts';
import { formatPattern, matchesFinding } from '../file/expectation.ts';
import { kernelDiagnostic } from '../file/load-cases.ts';
import type { Scenario, ScenarioCase } from '../file/scenario.ts';
import { type CaseChanges, caseNamed, switched } from '../file/select-cases.ts';
import type { TraceLine } from '../result.ts';
import { Bench } from './bench.ts';
import { type NotedRun, noteRun } from './recorder.ts';
import type { Absent, CaseSearch, ReplayReport, SearchFinding } from './result.ts';
import { shrinkAbsence } from './shrink-absence.ts';
import { type TellOptions, tell } from './tell.ts';
import { type CaseToken, caseToken, hashOf, printCaseToken, scenarioDigest, shownFinding } from './token.ts';

/** Executions spent on schedules near one that does not fit any more. */
const REPAIR_BUDGET = 200;
/** Random schedules among them. */
const REPAIR_SAMPLES = 60;
/** By how many occurrences of its label a stop is moved. */
const SHIFTS = [1, -1, 2, -2, 3] as const;

export interface ReplayOptions extends TellOptions, CaseChanges {
  /** Tell only the finding that the token was kept for. */
  readonly only?: boolean;
}

/** A replay with what its report is made from. */
export interface ReplayedToken {
  readonly result: CaseSearch;
  readonly trace: readonly TraceLine[];
}

/** The case that a token means, on its kernel or on another. Throws ScenarioError. */
export function caseOfToken(scenario: Scenario, token: CaseToken, changes: CaseChanges): ScenarioCase {
  const name = changes.case ?? token.case;
  const written: ScenarioCase =
    name === '' ? { ...scenario.base, name: token.kernel, written: '' } : caseNamed(scenario, name);
  const kernel = changes.kernel ?? token.kernel;
  const own = { ...written, kernel: token.kernel, with: token.with, without: token.without };
  try {
    const on = { ...own, kernel: canonicalKernel(kernel), written: written.written ?? written.name };
    return switched(on, changes.with ?? [], changes.without ?? []);
  } catch (error) {
    if (error instanceof KernelError) throw new ScenarioError([kernelDiagnostic(error)]);
    throw error;
  }
}

/** Replay `token` on `scenario`. Throws ScenarioError when the world cannot be built, Error for a bad schedule. */
export function replayToken(scenario: Scenario, token: CaseToken, options: ReplayOptions): ReplayedToken {
  const one = caseOfToken(scenario, token, options);
  const { seed, omitted, shows } = token;
  const isShown = (finding: Finding): boolean =>
    shows !== undefined && finding.kind === shows.kind && hashOf(finding.identity) === shows.hash;
  const budget = new Budget(REPAIR_BUDGET);
  const bench = new Bench(scenario, one, {
    seed,
    omitted,
    wanted: (findings) => findings.some(isShown),
    budget,
    stories: true,
  });
  const replay = new Replay(parseToken(token.schedule));
  const noted = noteRun(bench, () => bench.trials.follow(replay));
  if (noted === undefined) throw new Error('the model cannot run this schedule');
  const { findings, end } = bench;
  const limits = [...bench.runner.limitsReached.keys()];
  const changed = scenarioDigest(scenario, one) !== token.digest;
  const otherKernel = !sameKernel(one, token);
  const shown = shows === undefined ? findings.length > 0 : showsAgain(one, token, findings, isShown);
  const mayRepair = shows !== undefined && !shows.absent && !shown && !otherKernel;
  const repaired = mayRepair && (changed || replay.diverged !== null) ? repair(bench, token.schedule) : undefined;
  const told = (schedule: string): readonly SearchFinding[] =>
    (repaired === undefined && (options.only !== true || shows === undefined)
      ? findings
      : bench.findings.filter(isShown)
    ).map((finding) => toldFinding(scenario, one, { schedule, omitted, seed, finding }, options));
  const schedule = repaired === undefined ? printToken(noted.run.token) : printToken(repaired.token);
  const report: ReplayReport = {
    verdict: shown ? 'shown' : repaired !== undefined ? 'nearby' : verdictOf(token, findings),
    ...(shows === undefined ? {} : { kept: { kind: shows.kind, absent: shows.absent } }),
    scenarioChanged: changed,
    otherKernel,
    omitted,
    missing: bench.unknown,
    steps: noted.steps.length,
    ...(replay.diverged === null ? {} : { diverged: replay.diverged }),
  };
  const ok = report.verdict === 'shown' || report.verdict === 'nearby';
  const cut = !ok && (end === 'cut' || end === 'long');
  const result: CaseSearch = {
    ...plainCase(one, seed),
    status: ok ? 'as-expected' : cut ? 'incomplete' : 'not-as-expected',
    verdict: findings.length > 0 || repaired !== undefined ? 'violated' : cut ? 'incomplete' : 'no-finding',
    executions: budget.spent,
    steps: bench.runner.totalSteps,
    limits,
    findings: told(schedule),
    absent: shown && shows?.absent === true ? absentIn(scenario, one, token, options) : [],
    replay: report,
  };
  return { result, trace: traceOf(noted) };
}

/** What a case search says of a case in which one schedule was run. */
function plainCase(one: ScenarioCase, seed: string) {
  return {
    name: one.name,
    kernel: one.kernel,
    with: one.with,
    without: one.without,
    seed,
    method: { strategy: 'replay', exhaustive: false, words: 'one schedule replayed' },
    blocked: 0,
    estimate: null,
    restsOn: [],
    missingFindings: [],
    missingLabels: [],
  } as const;
}

/** The absence that a token was kept for, made small when that is asked for. */
function absentIn(scenario: Scenario, one: ScenarioCase, token: CaseToken, options: TellOptions): readonly Absent[] {
  const pattern = one.expect.always.find((other) => hashOf(formatPattern(other)) === token.shows?.hash);
  const small = shrinkAbsence(scenario, one, printCaseToken(token), options.shrink);
  if (pattern === undefined || small === undefined) return [];
  return [{ missing: { what: formatPattern(pattern), where: one.expectWhere }, executions: 1, ...small }];
}

function sameKernel(one: ScenarioCase, token: CaseToken): boolean {
  const same = (a: readonly string[], b: readonly string[]): boolean =>
    a.length === b.length && a.every((id) => b.includes(id));
  return one.kernel === canonicalKernel(token.kernel) && same(one.with, token.with) && same(one.without, token.without);
}

/** Does the run show what the token was kept for: the finding, or its absence? */
function showsAgain(
  one: ScenarioCase,
  { shows }: CaseToken,
  findings: readonly Finding[],
  isShown: (finding: Finding) => boolean,
): boolean {
  if (shows?.absent !== true) return findings.some(isShown);
  const pattern = one.expect.always.find((other) => hashOf(formatPattern(other)) === shows.hash);
  if (pattern === undefined) return !findings.some(({ kind }) => kind === shows.kind);
  return !findings.some((finding) => matchesFinding(pattern, finding));
}

function verdictOf({ shows }: CaseToken, findings: readonly Finding[]): ReplayReport['verdict'] {
  if (shows?.absent === true) return 'appears';
  return findings.some(({ kind }) => kind === shows?.kind) ? 'other' : 'gone';
}

/** A schedule near one that does not fit any more, which shows the finding: with one stop moved, or found by chance. */
function repair(bench: Bench, text: string): RunSchedule | undefined {
  const { trials } = bench;
  const found = shiftedStops(parseToken(text), (token) => trials.show(token, null)) ?? sampled(bench);
  if (found === undefined) return undefined;
  const small = shrinkSchedule(trials, found);
  // Whoever asks next wants the findings of this schedule.
  bench.trials.run(small.token, null);
  return small;
}

function sampled({ trials }: Bench): RunSchedule | undefined {
  const sampler = new PartialOrderSampling('repair', REPAIR_SAMPLES);
  for (let run = 0; run < REPAIR_SAMPLES && !trials.budget.exhausted; run++) {
    const found = trials.sample(sampler, run);
    if (found !== undefined) return found;
  }
  return undefined;
}

function shiftedStops(
  token: ScheduleToken,
  show: (token: ScheduleToken) => RunSchedule | undefined,
): RunSchedule | undefined {
  for (const by of SHIFTS) {
    for (const [at, segment] of token.segments.entries()) {
      const occurrence = segment.occurrence + by;
      if (segment.until === null || occurrence < 1) continue;
      const found = show({ ...token, segments: token.segments.with(at, { ...segment, occurrence }) });
      if (found !== undefined) return found;
    }
  }
  return undefined;
}

function toldFinding(
  scenario: Scenario,
  one: ScenarioCase,
  shows: { schedule: string; omitted: readonly string[]; seed: string; finding: Finding },
  options: TellOptions,
): SearchFinding {
  const { finding, seed, omitted, schedule } = shows;
  const matches = (patterns: ScenarioCase['expect']['always']): boolean =>
    patterns.some((pattern) => matchesFinding(pattern, finding));
  const plain: SearchFinding = {
    finding,
    expected: matches(one.expect.always) ? 'always' : matches(one.expect.possible) ? 'possible' : 'no',
    token: printCaseToken(caseToken(scenario, one, seed, schedule, { omitted, shows: shownFinding(finding) })),
    schedule: [],
    firstExecution: 0,
    executions: 1,
    preventedBy: [],
  };
  const told = tell(scenario, one, shows, options);
  return told === undefined ? plain : { ...plain, ...told };
}

function traceOf({ steps }: NotedRun): readonly TraceLine[] {
  return steps.map(({ actor, label, allChanges }) => ({
    timeNs: 0,
    actor,
    label,
    ...(allChanges.length === 0 ? {} : { changed: allChanges.join(', ') }),
  }));
}
