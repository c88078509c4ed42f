// From what a campaign knows to what its reports are made from: case by case as every search has it, and as a whole.
import { BEHAVIOURS } from '../../kernel/index.ts';
import { formatPattern, matchesFinding } from '../../scenario/file/expectation.ts';
import type { Scenario } from '../../scenario/file/scenario.ts';
import type { Missing } from '../../scenario/result.ts';
import type {
  CorpusReplay,
  FuzzAbsence,
  FuzzCampaign,
  FuzzCoverage,
  FuzzFinding,
} from '../../scenario/search/fuzz-result.ts';
import type { Absent, CaseSearch, ScenarioSearch, SearchFinding } from '../../scenario/search/result.ts';
import type { FuzzCase } from './subjects.ts';
import type { Tally } from './tally.ts';

/** What is known beside the tally. */
export interface Circumstances {
  readonly seed: string;
  readonly shard: { readonly index: number; readonly count: number };
  readonly mutate: boolean;
  readonly strategies: readonly string[];
  readonly stopped: string | undefined;
  readonly corpus: readonly CorpusReplay[];
  /** Features covered. */
  readonly features: number;
  readonly labelsKnown: ReadonlySet<string>;
  /** Findings with their stories, by token as found. */
  readonly told: ReadonlyMap<string, SearchFinding>;
  /** Runs that lack a finding, made small, by token as found. */
  readonly small: ReadonlyMap<string, Pick<Absent, 'token' | 'shrunk'>>;
}

export function campaignOf(tally: Tally, cases: readonly FuzzCase[], known: Circumstances): FuzzCampaign {
  const { seed, shard, mutate, stopped, corpus } = known;
  const findings = tally.found.all;
  const unexpected = findings.filter(({ expected }) => expected === 'no').length;
  return {
    seed,
    ...(shard.count === 1 ? {} : { shard }),
    mutate,
    scenarios: new Set(cases.map(({ file }) => file)).size,
    cases: cases.length,
    runs: tally.runs,
    steps: tally.steps,
    runsBy: sorted(tally.runsBy),
    workloads: tally.workloads,
    limits: sorted(tally.limits),
    ...(stopped === undefined ? {} : { stopped }),
    unexpected,
    expected: findings.length - unexpected,
    absent: tally.lacked.size,
    notYet: cases.flatMap(({ scenario, one }, index) =>
      tally.cases.has(index) ? [] : [`${scenario.file} ${one.name}`],
    ),
    corpus,
    coverage: coverageOf(tally, known),
  };
}

function coverageOf({ labels, asked }: Tally, { labelsKnown, features }: Circumstances): FuzzCoverage {
  const behaviours = BEHAVIOURS.map(({ id }) => id);
  const oneWay = behaviours.filter((id) => asked.get(id)?.size === 1);
  const never = behaviours.filter((id) => !asked.has(id));
  return {
    labelsReached: labels.size,
    labelsKnown: new Set([...labelsKnown, ...labels]).size,
    behavioursAsked: behaviours.length - never.length,
    behavioursBothWays: behaviours.length - never.length - oneWay.length,
    behavioursKnown: behaviours.length,
    features,
    labelsNever: [...labelsKnown].filter((label) => !labels.has(label)).sort(byCodeUnit),
    behavioursNever: never,
    behavioursOneWay: oneWay.map((behaviour) => ({ behaviour, answer: [...asked.get(behaviour)!][0]! })),
  };
}

/** Every scenario with its cases, as other searches report them. */
export function searchesOf(tally: Tally, cases: readonly FuzzCase[], known: Circumstances): readonly ScenarioSearch[] {
  const byFile = new Map<number, { scenario: Scenario; searches: CaseSearch[] }>();
  const findings = tally.found.all;
  const absences = tally.lacked.all;
  for (const [index, one] of cases.entries()) {
    const file = byFile.get(one.file) ?? { scenario: one.scenario, searches: [] };
    byFile.set(one.file, file);
    const isOwn = (met: FuzzFinding | FuzzAbsence): boolean =>
      met.file === one.scenario.file && met.case === one.one.name;
    const done = {
      runs: tally.cases.get(index) ?? 0,
      steps: tally.caseSteps.get(index) ?? 0,
      found: findings.filter(isOwn),
      lacked: absences.filter(isOwn),
      labels: tally.caseLabels.get(index) ?? new Set<string>(),
    };
    file.searches.push(searchOf(one, done, known));
  }
  return [...byFile.values()].map(({ scenario: { file, title, bug }, searches }) => {
    return { file, title, ...(bug === undefined ? {} : { bug }), cases: searches };
  });
}

/** What was done with one case. */
interface Done {
  readonly runs: number;
  readonly steps: number;
  readonly found: readonly FuzzFinding[];
  readonly lacked: readonly FuzzAbsence[];
  /** Labels that its own workload reached. */
  readonly labels: ReadonlySet<string>;
}

function searchOf({ scenario, one }: FuzzCase, done: Done, known: Circumstances): CaseSearch {
  const { runs, steps, found, lacked, labels } = done;
  const missing = (what: string): Missing => ({ what, where: one.expectWhere });
  const missingLabels = scenario.reaches
    .filter(({ label }) => !labels.has(label))
    .map(({ label, where }): Missing => ({ what: label, where }));
  const violated = lacked.length > 0 || found.some(({ expected }) => expected === 'no');
  // What random runs did not reach, others may: nobody knows yet whether this case shows anything.
  const open = runs === 0 || missingLabels.length > 0;
  return {
    name: one.name,
    kernel: one.kernel,
    with: one.with,
    without: one.without,
    seed: scenario.seed,
    method: { strategy: 'mix', exhaustive: false, words: `${known.strategies.join(', ')} mixed` },
    status: violated ? 'not-as-expected' : open ? 'incomplete' : 'as-expected',
    verdict: found.length > 0 ? 'violated' : 'no-finding',
    executions: runs,
    blocked: 0,
    steps,
    estimate: null,
    limits: runs === 0 ? ['it has not had a turn yet'] : [],
    restsOn: [],
    findings: found.map((finding) => told(finding, known)),
    missingFindings: [...one.expect.always, ...one.expect.possible]
      .filter((pattern) => !found.some(({ finding }) => matchesFinding(pattern, finding)))
      .map(formatPattern)
      .filter((what) => !lacked.some(({ pattern }) => pattern === what))
      .map(missing),
    absent: lacked.map(({ pattern, runs: times, token }): Absent => {
      return { missing: missing(pattern), executions: times, token, ...known.small.get(token) };
    }),
    missingLabels,
  };
}

/** As other searches report a finding. */
export function plainFinding({ finding, expected, token, firstRun, runs }: FuzzFinding): SearchFinding {
  return { finding, expected, token, schedule: [], firstExecution: firstRun, executions: runs, preventedBy: [] };
}

function told(found: FuzzFinding, known: Circumstances): SearchFinding {
  const plain = plainFinding(found);
  const story = known.told.get(found.token);
  return story === undefined ? plain : { ...story, expected: plain.expected, executions: plain.executions };
}

function sorted(sums: ReadonlyMap<string, number>): Readonly<Record<string, number>> {
  return Object.fromEntries([...sums].sort(([a], [b]) => byCodeUnit(a, b)));
}

function byCodeUnit(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
