// Searches as text: a line per case with the verdict in words that claim no more than was shown, and under it what was
// found.
import type { CaseStatus } from '../scenario/result.ts';
import type { CaseSearch, ScenarioSearch } from '../scenario/search/result.ts';
import { renderAbsence, renderFinding } from './finding.ts';
import { NO_PAINT } from './paint.ts';
import type { TextOptions } from './text.ts';
import { formatCount, plural, wrap } from './value.ts';

/** One scenario: a headline, a line per case, and details. Ends with a line break. */
export function renderScenarioSearch(result: ScenarioSearch, options: TextOptions = {}): string {
  const paint = options.paint ?? NO_PAINT;
  const lines = [`${paint.strong(result.file)}  ${result.title}`];
  for (const one of result.cases) lines.push(...renderCase(one, options));
  return `${lines.join('\n')}\n`;
}

/** The verdict in one sentence. */
export function verdictInWords(one: CaseSearch): string {
  const ran = plural(one.executions, executionWord(one));
  switch (one.verdict) {
    case 'verified': {
      const which = one.method.strategy === 'dpor' ? '' : `, ${one.method.words}`;
      const all = one.executions === 1 ? 'its only interleaving' : `all ${ran}`;
      return `verified: ${all}${which}, within these bounds`;
    }
    case 'violated': {
      const kinds = [...new Set(one.findings.map(({ finding }) => finding.kind))].join(', ');
      const of = one.method.exhaustive && !isWhole(one) ? `${ran} run, of ${estimated(one)}` : ran;
      return `violated: ${kinds}, in ${shownIn(one)} of ${of}`;
    }
    case 'no-finding':
      return `no finding in ${plural(one.executions, 'run')} (${one.method.words}); this proves nothing`;
    case 'incomplete':
      if (isWhole(one) && one.method.strategy === 'bounded')
        return `incomplete: ${allWithin(one)} ${one.executions === 1 ? 'was' : 'were'} run, not all others; nothing found in ${one.executions === 1 ? 'it' : 'them'}`;
      if (isWhole(one)) return `incomplete: all ${ran} were run, some only up to a limit; nothing found in them`;
      return `incomplete: ${formatCount(one.executions)} of ${estimated(one)} interleavings; nothing found in them`;
  }
}

/** Of a search that ended at its bound: `all 10 interleavings with at most 1 preemption`. */
function allWithin({ executions, method }: CaseSearch): string {
  const all = executions === 1 ? 'the only interleaving' : `all ${formatCount(executions)} interleavings`;
  return method.words.replace('every interleaving', all);
}

/** What an execution is called: only a search that repeats none can speak of interleavings. */
export function executionWord({ method }: CaseSearch): 'interleaving' | 'run' {
  return method.exhaustive ? 'interleaving' : 'run';
}

/** How many executions showed a finding. Where each cause was counted by itself, several may share executions. */
function shownIn({ violating, findings }: CaseSearch): string {
  if (violating !== undefined) return formatCount(violating);
  const most = formatCount(Math.max(...findings.map(({ executions }) => executions)));
  return findings.length === 1 ? most : `at least ${most}`;
}

/** Was everything run, though not always to its end? */
function isWhole({ estimate, executions }: CaseSearch): boolean {
  return estimate !== null && estimate.error === 0 && estimate.total === executions;
}

function estimated({ estimate }: CaseSearch): string {
  return estimate === null ? 'an unknown number' : `an estimated ${formatEstimate(estimate)}`;
}

/** `131,000 ± 4,000`, to three digits; `about 131,000` when nobody knows how far off it is. */
export function formatEstimate({ total, error }: { readonly total: number; readonly error: number | null }): string {
  const round = (value: number, digits: number): string => formatCount(Number(value.toPrecision(digits)));
  if (error === null) return `about ${round(total, 2)}`;
  if (error === 0) return formatCount(Math.round(total));
  return `${round(total, 3)} ± ${round(error, 2)}`;
}

const STATUS_WORDS: Readonly<Record<CaseStatus, string>> = {
  'as-expected': 'as expected',
  'not-as-expected': 'NOT AS EXPECTED',
  incomplete: 'INCOMPLETE',
};

function renderCase(one: CaseSearch, options: TextOptions): readonly string[] {
  const paint = options.paint ?? NO_PAINT;
  const colour = one.status === 'as-expected' ? paint.good : one.status === 'incomplete' ? paint.warn : paint.bad;
  const lines = [`  ${one.name}  ${colour(STATUS_WORDS[one.status])}  ${verdictInWords(one)}`];
  const block = (text: string): void => {
    for (const line of text.split('\n')) lines.push(line === '' ? '' : `    ${line}`);
  };
  for (const limit of one.limits) block(paint.warn(`limit: ${limit}`));
  for (const { what, where } of one.missingFindings)
    block(
      `${where.file}:${where.line}:${where.column}: ${paint.bad('missing')}: no ${executionWord(one)} showed ${what}`,
    );
  for (const absent of one.absent) {
    const { missing, executions } = absent;
    const { what, where } = missing;
    block(
      `${where.file}:${where.line}:${where.column}: ${paint.bad('missing')}: ${plural(executions, executionWord(one))} did not show ${what}`,
    );
    block(renderAbsence(absent, (options.width ?? 100) - 4));
  }
  for (const { what, where } of one.missingLabels)
    block(
      `${where.file}:${where.line}:${where.column}: ${paint.bad('missing')}: no ${executionWord(one)} reached ${what}`,
    );
  if (one.verdict === 'verified' && options.verbose === true) {
    for (const line of wrap(`rests on ${one.restsOn.join('; ')}`, (options.width ?? 100) - 4)) block(paint.faint(line));
  }
  for (const found of one.findings) {
    if (found.expected !== 'no' && options.verbose !== true) continue;
    lines.push('');
    const replay = `pinsim replay '${found.token}'`;
    block(renderFinding({ ...found, replay }, paint, (options.width ?? 100) - 4));
  }
  if (lines.length > 1 && lines.at(-1) !== '') lines.push('');
  return lines;
}
