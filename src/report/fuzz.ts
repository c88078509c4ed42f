// A campaign as text: what no scenario expects, in full; then what was run, what it covered and what it never reached.
import type { FuzzCampaign } from '../scenario/search/fuzz-result.ts';
import type { CaseSearch, ScenarioSearch } from '../scenario/search/result.ts';
import { NO_PAINT } from './paint.ts';
import { renderScenarioSearch } from './search.ts';
import type { TextOptions } from './text.ts';
import { formatCount, plural, wrap } from './value.ts';

/** Names listed of what was never reached, unless all are asked for. */
const LISTED = 12;
/** Places where an expected finding was never met, likewise. */
const MISSING_LISTED = 8;

/** The whole report; ends with a line break. */
export function renderFuzz(
  campaign: FuzzCampaign,
  scenarios: readonly ScenarioSearch[],
  options: TextOptions = {},
): string {
  const verbose = options.verbose === true;
  const shown = scenarios.flatMap((scenario) => {
    const cases = scenario.cases.filter(({ findings, status }) =>
      verbose ? findings.length > 0 : status === 'not-as-expected',
    );
    // What was not met is listed below, all in one place.
    const told = cases.map((one) => ({ ...one, missingFindings: [], missingLabels: [], limits: [] }));
    return told.length === 0 ? [] : [{ ...scenario, cases: told }];
  });
  const found = shown.map((scenario) => `${renderScenarioSearch(scenario, options)}\n`).join('');
  return `${found}${summary(campaign, scenarios, options).join('\n')}\n`;
}

function summary(
  campaign: FuzzCampaign,
  scenarios: readonly ScenarioSearch[],
  options: TextOptions,
): readonly string[] {
  const paint = options.paint ?? NO_PAINT;
  const { runs, unexpected, absent, shard, mutate, seed, cases } = campaign;
  const part = shard === undefined ? '' : `, shard ${shard.index} of ${shard.count}`;
  const ran = `${plural(runs, 'run')} (${plural(campaign.steps, 'step')})`;
  const wrong = [
    ...(unexpected > 0 ? [plural(unexpected, 'UNEXPECTED FINDING')] : []),
    ...(absent > 0 ? [`${plural(absent, 'FINDING')} ABSENT that every run must show`] : []),
  ];
  const found =
    wrong.length > 0
      ? `${paint.bad(wrong.join(' and '))} in ${ran}`
      : campaign.expected > 0
        ? `${paint.good('no unexpected finding')} in ${ran}`
        : `${paint.good('no finding')} in ${ran}`;
  const verdict = [...corpusVerdict(campaign, options), found, ...unreachedVerdict(scenarios, options)].join('; ');
  const made = mutate ? `, ${plural(campaign.workloads, 'workload')} made up` : '';
  const lines = [
    `${verdict}, ${plural(cases, 'case')} of ${plural(campaign.scenarios, 'scenario')}${made}; seed ${seed}${part}`,
  ];
  const text = (line: string): void => {
    lines.push(
      ...wrap(line, (options.width ?? 100) - 4).map((part_, index) => `${index === 0 ? '  ' : '    '}${part_}`),
    );
  };
  if (campaign.stopped !== undefined) text(paint.warn(`stopped before the end: ${campaign.stopped}`));
  if (campaign.expected > 0) text(`${plural(campaign.expected, 'finding')} that the scenarios expect`);
  corpusLines(campaign, options, text);
  text(`strategies: ${entries(campaign.runsBy)}`);
  const limits = Object.entries(campaign.limits);
  if (limits.length > 0) text(paint.warn(`runs cut short: ${entries(campaign.limits)}`));
  coverageLines(campaign, options, text);
  missingLines(campaign, scenarios, options, text);
  return lines;
}

/** Cases that ran, and did not reach what their scenario says they reach: whatever they show may be vacuous. */
function unreached(scenarios: readonly ScenarioSearch[]): readonly CaseSearch[] {
  const cases = scenarios.flatMap((scenario) => scenario.cases);
  return cases.filter(({ executions, missingLabels }) => executions > 0 && missingLabels.length > 0);
}

function unreachedVerdict(scenarios: readonly ScenarioSearch[], options: TextOptions): readonly string[] {
  const { length } = unreached(scenarios);
  if (length === 0) return [];
  return [(options.paint ?? NO_PAINT).warn(`INCOMPLETE: ${plural(length, 'case')} did not reach what must be reached`)];
}

/** What of the corpus folder decides the exit code. */
function corpusVerdict({ corpus }: FuzzCampaign, options: TextOptions): readonly string[] {
  const paint = options.paint ?? NO_PAINT;
  const count = (outcome: string): number => corpus.filter((one) => one.outcome === outcome).length;
  const [shown, broken] = [count('shows'), count('broken')];
  return [
    ...(shown === 0 ? [] : [paint.bad(`${plural(shown, 'CORPUS CASE')} STILL SHOWN`)]),
    ...(broken === 0 ? [] : [paint.warn(`${plural(broken, 'corpus case')} not to be replayed`)]),
  ];
}

type Write = (line: string) => void;

function corpusLines({ corpus }: FuzzCampaign, options: TextOptions, text: Write): void {
  const paint = options.paint ?? NO_PAINT;
  if (corpus.length === 0) return;
  const count = (outcome: string): number => corpus.filter((one) => one.outcome === outcome).length;
  const kinds = [
    [count('shows'), 'still shown'],
    [count('expected'), 'shown as expected'],
    [count('gone'), 'not shown any more'],
    [count('broken'), 'not to be replayed'],
  ] as const;
  const counts = kinds.filter(([n]) => n > 0).map(([n, words]) => `${formatCount(n)} ${words}`);
  text(`corpus: ${plural(corpus.length, 'case')} replayed first: ${counts.join(', ')}`);
  for (const { entry, outcome, says, note } of corpus) {
    if (outcome === 'shows') text(`${paint.bad('shown')} ${entry}: ${says}`);
    if (outcome === 'broken') text(`${paint.warn('broken')} ${entry}: ${note ?? ''}`);
    if (outcome === 'gone' && options.verbose === true)
      text(`gone ${entry}: ${says}${note === undefined ? '' : ` (${note})`}`);
  }
}

function coverageLines({ coverage }: FuzzCampaign, options: TextOptions, text: Write): void {
  const { labelsReached, labelsKnown, behavioursAsked, behavioursBothWays, behavioursKnown, features } = coverage;
  text(
    `coverage: ${formatCount(labelsReached)} of ${plural(labelsKnown, 'label')} reached, ` +
      `${formatCount(behavioursAsked)} of ${plural(behavioursKnown, 'behaviour')} asked for, ` +
      `${formatCount(behavioursBothWays)} of them taken both ways; ${formatCount(features)} features in all`,
  );
  const oneWay = coverage.behavioursOneWay.map(({ behaviour, answer }) => `${behaviour} (${answer})`);
  const list = (what: string, names: readonly string[]): void => {
    if (names.length > 0) text(listed(what, names, options));
  };
  list('labels never reached', coverage.labelsNever);
  list('behaviours never asked for', coverage.behavioursNever);
  list('behaviours taken one way only', oneWay);
}

function missingLines(
  campaign: FuzzCampaign,
  scenarios: readonly ScenarioSearch[],
  options: TextOptions,
  text: Write,
): void {
  const ran = scenarios.flatMap(({ cases }) => cases.filter(({ executions }) => executions > 0));
  const findings = ran.flatMap(({ missingFindings }) =>
    missingFindings.map(({ what, where }) => `${where.file}:${where.line} ${what}`),
  );
  const labels = unreached(scenarios).flatMap(({ name, executions, missingLabels }) =>
    missingLabels.map(
      ({ what, where }) => `${where.file}:${where.line} ${what} (${name}, ${plural(executions, 'run')})`,
    ),
  );
  const list = (what: string, names: readonly string[]): void => {
    if (names.length > 0) text(listed(what, names, options, MISSING_LISTED));
  };
  list('expected findings not met', findings);
  list('labels that must be reached (reaches) and were not', labels);
  list('cases that have not had a turn (large ones seldom have)', campaign.notYet);
}

/** `labels never reached (212): a, b, c and 209 more`. */
function listed(what: string, names: readonly string[], options: TextOptions, most = LISTED): string {
  const all = options.verbose === true || names.length <= most + 1;
  const some = all ? names : names.slice(0, most);
  const more = all ? '' : ` and ${formatCount(names.length - most)} more (--verbose lists them)`;
  return `${what} (${formatCount(names.length)}): ${some.join(', ')}${more}`;
}

function entries(sums: Readonly<Record<string, number>>): string {
  return Object.entries(sums)
    .map(([what, count]) => `${what} ${formatCount(count)}`)
    .join(', ');
}
