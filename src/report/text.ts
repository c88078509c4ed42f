// Results as text: a line per case, and under it what went other than expected, told so that a reader who did not
// write the scenario can follow.
import type { CaseResult, CaseStatus, ScenarioResult, Tally, TraceLine } from '../scenario/result.ts';
import { renderFinding } from './finding.ts';
import { NO_PAINT, type Paint } from './paint.ts';
import { formatCount, formatTime, plural } from './value.ts';

export interface TextOptions {
  readonly paint?: Paint;
  /** Explain findings that were expected, too. */
  readonly verbose?: boolean;
  /** Columns to fill; default 100. */
  readonly width?: number;
}

const STATUS_WORDS: Readonly<Record<CaseStatus, string>> = {
  'as-expected': 'as expected',
  'not-as-expected': 'NOT AS EXPECTED',
  incomplete: 'INCOMPLETE',
};

/** One scenario: a headline, a line per case, and details. Ends with a line break. */
export function renderScenario(result: ScenarioResult, options: TextOptions = {}): string {
  const paint = options.paint ?? NO_PAINT;
  const lines = [`${paint.strong(result.file)}  ${result.title}`];
  const width = Math.max(0, ...result.cases.map((one) => one.name.length));
  for (const one of result.cases) lines.push(...renderCase(one, width, options));
  return `${lines.join('\n')}\n`;
}

function renderCase(one: CaseResult, nameWidth: number, options: TextOptions): readonly string[] {
  const paint = options.paint ?? NO_PAINT;
  const colour = one.status === 'as-expected' ? paint.good : one.status === 'incomplete' ? paint.warn : paint.bad;
  const ran = paint.faint(`${formatTime(one.timeNs)}, ${plural(one.steps, 'step')}`);
  const lines = [`  ${one.name.padEnd(nameWidth)}  ${colour(STATUS_WORDS[one.status])}  ${findingsLine(one)}  ${ran}`];
  const block = (text: string): void => {
    for (const line of text.split('\n')) lines.push(line === '' ? '' : `    ${line}`);
  };
  if (one.note !== undefined) block(paint.faint(one.note));
  if (one.limit !== undefined) block(paint.warn(`stopped early: ${one.limit}`));
  for (const { where, actor, operation, message } of one.failed)
    block(`${where.file}:${where.line}:${where.column}: ${paint.bad('failed')}: ${actor}, ${operation}: ${message}`);
  for (const { what, where } of one.missingFindings)
    block(`${where.file}:${where.line}:${where.column}: ${paint.bad('missing')}: expected the finding ${what}`);
  for (const { what, where } of one.missingLabels)
    block(`${where.file}:${where.line}:${where.column}: ${paint.bad('missing')}: nobody reached ${what}`);
  // A run is one order of many.
  if (one.missingLabels.length > 0)
    block('in this order of the steps; `pinsim explore` tells whether any order reaches it');
  for (const reported of one.findings) {
    if (reported.expected !== 'no' && options.verbose !== true) continue;
    lines.push('');
    block(renderFinding(reported, paint, (options.width ?? 100) - 4));
  }
  if (lines.length > 1 && lines.at(-1) !== '') lines.push('');
  return lines;
}

/** `no findings`, `pin-failure`, `2 findings: deadlock, pin-failure x3`. */
function findingsLine(one: CaseResult): string {
  if (one.findings.length === 0) return 'no findings';
  const counts = new Map<string, number>();
  for (const { finding } of one.findings) counts.set(finding.kind, (counts.get(finding.kind) ?? 0) + 1);
  return [...counts].map(([kind, count]) => (count === 1 ? kind : `${kind} x${count}`)).join(', ');
}

/** `31 scenarios, 64 cases: 63 as expected, 1 not as expected`. Ends with a line break. */
export function renderTally(tally: Tally, paint: Paint = NO_PAINT): string {
  const parts = [paint.good(`${formatCount(tally.asExpected)} as expected`)];
  if (tally.notAsExpected > 0) parts.push(paint.bad(`${formatCount(tally.notAsExpected)} not as expected`));
  if (tally.incomplete > 0) parts.push(paint.warn(`${formatCount(tally.incomplete)} incomplete`));
  return `${plural(tally.scenarios, 'scenario')}, ${plural(tally.cases, 'case')}: ${parts.join(', ')}\n`;
}

/** One step of a trace as a line; ends with a line break. */
export function renderTraceLine(line: TraceLine, paint: Paint = NO_PAINT): string {
  const changed = line.changed === undefined ? '' : `  ${line.changed}`;
  return `${paint.faint(formatTime(line.timeNs).padStart(9))}  ${line.actor.padEnd(10)}  ${line.label}${changed}\n`;
}
