// What a report complains about, one problem after the other, each with its place: what JUnit, SARIF and annotations of
// GitHub are made from.
import type { CaseResult, ScenarioResult } from '../scenario/result.ts';
import type { CorpusReplay } from '../scenario/search/fuzz-result.ts';
import type { CaseSearch, Report, ScenarioSearch } from '../scenario/search/result.ts';
import { verdictOfReplay } from './replay.ts';
import { executionWord, verdictInWords } from './search.ts';
import { plural } from './value.ts';

/** `error`: not as expected. `warning`: nothing can be said. `note`: a finding that was expected. */
export type Level = 'error' | 'warning' | 'note';

export interface Problem {
  readonly level: Level;
  /** Kind of the finding; or `missing-finding`, `missing-label`, `failed-expectation`, `incomplete`, `not-replayed`. */
  readonly rule: string;
  readonly scenario: string;
  readonly caseName: string;
  readonly place: { readonly file: string; readonly line: number; readonly column: number };
  /** One sentence. */
  readonly message: string;
  /** Causes, what to try and how to see it again, a line each. */
  readonly details: readonly string[];
  /** Same cause, same text. */
  readonly identity: string;
}

/** All problems of a report, in its order. */
export function problemsOf(report: Report): readonly Problem[] {
  if (report.command === 'run')
    return report.scenarios.flatMap((scenario) => scenario.cases.flatMap((one) => runProblems(scenario, one)));
  const found = report.scenarios.flatMap((scenario) => scenario.cases.flatMap((one) => searchProblems(scenario, one)));
  const { campaign } = report;
  if (campaign === undefined) return found;
  // What the campaign has found again is not told twice.
  const isKnown = (kept: Problem): boolean =>
    found.some(
      ({ place, caseName, identity }) =>
        place.file === kept.place.file && caseName === kept.caseName && identity === kept.identity,
    );
  return [...found, ...campaign.corpus.flatMap(corpusProblems).filter((kept) => !isKnown(kept))];
}

/** A case of the corpus that still shows what it was kept for, or cannot be replayed; of others there is nothing to say. */
export function corpusProblems(kept: CorpusReplay): readonly Problem[] {
  const { entry, path, scenario, outcome, case: caseName, where, kind, cause, says, note, token } = kept;
  if (outcome !== 'shows' && outcome !== 'broken') return [];
  const shown = outcome === 'shows';
  const message = shown ? says : `it cannot be replayed: ${note ?? 'nobody knows why'}`;
  const rule = !shown ? 'not-replayed' : cause.startsWith('absent|') ? 'missing-finding' : kind;
  const details = [
    `corpus: ${path}`,
    ...(shown && note !== undefined ? [note] : []),
    `replay: pinsim replay '${token}'`,
  ];
  return [
    {
      level: shown ? 'error' : 'warning',
      rule,
      scenario: entry,
      caseName: caseName ?? entry,
      place: where ?? { file: shown ? scenario : path, line: 1, column: 1 },
      message,
      details,
      identity: cause,
    },
  ];
}

type Context = { readonly file: string; readonly title: string };

function runProblems(scenario: ScenarioResult, one: CaseResult): readonly Problem[] {
  const { problem, problems } = collector(scenario, one.name);
  for (const { finding, expected, replay, where } of one.findings) {
    const details = [...finding.reasons.map((reason) => `because ${reason}`), `replay: ${replay}`];
    problem(levelOf(expected), finding.kind, finding.message, where, details, finding.identity);
  }
  for (const { where, actor, operation, message } of one.failed)
    problem('error', 'failed-expectation', `${actor}, ${operation}: ${message}`, where);
  for (const { what, where } of one.missingFindings)
    problem('error', 'missing-finding', `expected the finding ${what}`, where);
  for (const { what, where } of one.missingLabels) problem('error', 'missing-label', `nobody reached ${what}`, where);
  if (one.limit !== undefined) problem('warning', 'incomplete', `stopped early: ${one.limit}`, undefined);
  return problems;
}

function searchProblems(scenario: ScenarioSearch, one: CaseSearch): readonly Problem[] {
  const { problem, problems } = collector(scenario, one.name);
  const { replay } = one;
  if (replay !== undefined && one.status !== 'as-expected')
    problem('error', 'not-replayed', verdictOfReplay(replay, one), one.findings[0]?.where);
  for (const { finding, expected, token, where, fixes, preventedBy } of one.findings) {
    const prevented = (fixes ?? preventedBy).map(({ behaviour }) => behaviour);
    const details = [
      ...finding.reasons.map((reason) => `because ${reason}`),
      ...(prevented.length === 0 ? [] : [`fixed by ${prevented.join(', ')}`]),
      `replay: pinsim replay '${token}'`,
    ];
    // A replay is meant to show what it was kept for.
    const level = replay !== undefined && one.status === 'as-expected' ? 'note' : levelOf(expected);
    problem(level, finding.kind, finding.message, where, details, finding.identity);
  }
  for (const { what, where } of one.missingFindings)
    problem(missing(one), 'missing-finding', `no ${executionWord(one)} showed ${what}`, where);
  for (const {
    missing: { what, where },
    executions,
    token,
  } of one.absent) {
    const message = `${plural(executions, executionWord(one))} did not show ${what}`;
    const level = one.replay !== undefined && one.status === 'as-expected' ? 'note' : 'error';
    problem(level, 'missing-finding', message, where, [`replay: pinsim replay '${token}'`], `absent|${what}`);
  }
  for (const { what, where } of one.missingLabels)
    problem(missing(one), 'missing-label', `no ${executionWord(one)} reached ${what}`, where);
  if (one.status === 'incomplete')
    problem('warning', 'incomplete', [verdictInWords(one), ...one.limits].join('; '), undefined);
  return problems;
}

/** What a search that is not complete did not see, it may yet see; where that is as expected, it is no problem at all. */
function missing({ status, method }: CaseSearch): Level {
  if (status === 'as-expected') return 'note';
  return status === 'incomplete' || !method.exhaustive ? 'warning' : 'error';
}

function levelOf(expected: 'always' | 'possible' | 'no'): Level {
  return expected === 'no' ? 'error' : 'note';
}

function collector({ file, title }: Context, caseName: string) {
  const problems: Problem[] = [];
  const problem = (
    level: Level,
    rule: string,
    message: string,
    where: Problem['place'] | undefined,
    details: readonly string[] = [],
    identity = `${rule}|${message}`,
  ): void => {
    const place = where ?? { file, line: 1, column: 1 };
    problems.push({ level, rule, scenario: title, caseName, place, message, details, identity });
  };
  return { problem, problems };
}
