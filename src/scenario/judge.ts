// Whether a finished run is what its case expected: all of `always`, nothing outside `always` and `possible`, every
// inline expectation held, every label of `reaches` reached.
import type { Finding } from '../engine/finding.ts';
import type { Where } from './file/diagnostic.ts';
import { formatPattern, matchesFinding } from './file/expectation.ts';
import type { ExpectedFindings, Scenario, ScenarioCase } from './file/scenario.ts';
import type { CaseResult, FailedExpectation, Missing, Prevention, ReportedFinding, TraceLine } from './result.ts';

/** What a run of one case produced. */
export interface Observed {
  readonly seed: string;
  readonly findings: readonly Finding[];
  readonly failed: readonly FailedExpectation[];
  /** Of the labels in `reaches`, those that some actor acted. */
  readonly reached: ReadonlySet<string>;
  /** What a reader should know of the run. */
  readonly note?: string;
  /** The limit that ended the run early, in words. */
  readonly limit?: string;
  readonly timeNs: number;
  readonly steps: number;
  readonly digest: string;
  readonly trace?: readonly TraceLine[];
  /** A command line that shows a finding again. */
  readonly replay: (finding: Finding) => string;
  readonly preventedBy: (finding: Finding) => readonly Prevention[];
  /** The step of a script that showed a finding, when one did. */
  readonly whereShown?: (finding: Finding) => Where | undefined;
}

/** Is the finding in either list? */
export function isExpected(expected: ExpectedFindings, finding: Finding): boolean {
  return [...expected.always, ...expected.possible].some((pattern) => matchesFinding(pattern, finding));
}

/** Where a finding belongs that no step of a script showed: what expects it, or the first actor that it names. */
function whereOf(scenario: Scenario, one: ScenarioCase, finding: Finding): Where {
  if (isExpected(one.expect, finding)) return one.expectWhere;
  return scenario.actors.find(({ name }) => finding.actors.includes(name))?.where ?? one.where;
}

/** The result of one case. A run that was cut short is incomplete unless it already went wrong. */
export function judgeCase(scenario: Scenario, one: ScenarioCase, observed: Observed): CaseResult {
  const { always, possible } = one.expect;
  const findings = observed.findings.map(
    (finding): ReportedFinding => ({
      finding,
      expected: always.some((pattern) => matchesFinding(pattern, finding))
        ? 'always'
        : possible.some((pattern) => matchesFinding(pattern, finding))
          ? 'possible'
          : 'no',
      replay: observed.replay(finding),
      preventedBy: observed.preventedBy(finding),
      where: observed.whereShown?.(finding) ?? whereOf(scenario, one, finding),
    }),
  );
  const missingFindings = always
    .filter((pattern) => !observed.findings.some((finding) => matchesFinding(pattern, finding)))
    .map((pattern): Missing => ({ what: formatPattern(pattern), where: one.expectWhere }));
  const missingLabels = scenario.reaches
    .filter(({ label }) => !observed.reached.has(label))
    .map(({ label, where }): Missing => ({ what: label, where }));
  const wrong = observed.failed.length > 0 || findings.some((reported) => reported.expected === 'no');
  const absent = missingFindings.length > 0 || missingLabels.length > 0;
  const notes = [one.note, observed.note].filter((note) => note !== undefined);
  const incomplete = observed.limit !== undefined && !wrong;
  return {
    name: one.name,
    kernel: one.kernel,
    with: one.with,
    without: one.without,
    seed: observed.seed,
    status: incomplete ? 'incomplete' : wrong || absent ? 'not-as-expected' : 'as-expected',
    ...(notes.length === 0 ? {} : { note: notes.join('; ') }),
    ...(observed.limit === undefined ? {} : { limit: observed.limit }),
    findings,
    failed: observed.failed,
    missingFindings,
    missingLabels,
    timeNs: observed.timeNs,
    steps: observed.steps,
    digest: observed.digest,
    ...(observed.trace === undefined ? {} : { trace: observed.trace }),
  };
}
