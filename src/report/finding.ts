// One finding as text: what went wrong, why, the steps in order, what would have been enough, how to see it again.
import type { FindingStep, ReportedFinding } from '../scenario/result.ts';
import type { Absent, SearchFinding } from '../scenario/search/result.ts';
import type { Paint } from './paint.ts';
import { fixInWords, renderNearest, renderStory, shrinkInWords } from './story.ts';
import { formatDetail, formatTime, wrap } from './value.ts';

/** Most steps of a story that a reader wants at once; the JSON has all. */
const STEPS_MAX = 40;

/** A finding with what a search adds to it. */
export type ToldFinding = ReportedFinding & Partial<Pick<SearchFinding, 'shrunk' | 'story' | 'fixes' | 'nearest'>>;

/** The finding in at most `width` columns where words allow it; no line break at the end. */
export function renderFinding(reported: ToldFinding, paint: Paint, width: number): string {
  const { finding, expected, replay, preventedBy, story, shrunk, nearest, fixes } = reported;
  const kind = expected === 'no' ? paint.bad(finding.kind) : paint.warn(finding.kind);
  const lines = [`${kind}${expected === 'no' ? '' : paint.faint(` (expected: ${expected})`)}`];
  lines.push(...wrap(finding.message, width - 2).map((line) => `  ${paint.strong(line)}`));
  if (finding.reasons.length > 0) lines.push('', ...numbered('why', finding.reasons, width));
  const details = Object.entries(finding.details);
  if (details.length > 0)
    lines.push(
      '',
      ...field('facts', details.map(([key, value]) => `${key} ${formatDetail(key, value)}`).join(', '), width),
    );
  if (story !== undefined) lines.push('', ...renderStory(story, paint, width - 2).map((line) => `  ${line}`));
  else if (finding.steps.length > 0) lines.push('', ...stepTable(finding.steps, paint));
  if (nearest !== undefined)
    lines.push('', ...renderNearest(nearest, paint, width - 2).map((line) => (line === '' ? '' : `  ${line}`)));
  lines.push('');
  for (const fix of fixes ?? []) {
    lines.push(...field('fixed by', `${fix.behaviour}: ${fix.summary}`, width));
    lines.push(...field('', fixInWords(fix), width));
  }
  if (finding.remedy !== undefined) lines.push(...field('to pass', finding.remedy, width));
  for (const { behaviour, summary } of fixes === undefined ? preventedBy : [])
    lines.push(...field('prevented', `by ${behaviour}: ${summary}`, width));
  if (shrunk !== undefined) lines.push(...field('shrunk', shrinkInWords(shrunk), width));
  lines.push(...field('replay', replay, Number.POSITIVE_INFINITY));
  return lines.join('\n');
}

/** How to see a run again that lacks a finding, and what shrinking made of it. */
export function renderAbsence({ token, shrunk }: Absent, width: number): string {
  const lines = shrunk === undefined ? [] : field('shrunk', shrinkInWords(shrunk), width);
  return [...lines, ...field('replay', `pinsim replay '${token}'`, Number.POSITIVE_INFINITY)].join('\n');
}

const LABEL_WIDTH = 9;

/** `  why      ...`, later lines indented under the first. */
function field(label: string, text: string, width: number): readonly string[] {
  const indent = ' '.repeat(LABEL_WIDTH + 3);
  return wrap(text, width - indent.length).map((line, index) =>
    index === 0 ? `  ${label.padEnd(LABEL_WIDTH)} ${line}` : `${indent}${line}`,
  );
}

/** A chain of reasons, each one the cause of the one before it. */
function numbered(label: string, texts: readonly string[], width: number): readonly string[] {
  return texts.flatMap((text, index) =>
    field(index === 0 ? label : '', `${index === 0 ? '' : 'because '}${text}`, width),
  );
}

function stepTable(steps: readonly FindingStep[], paint: Paint): readonly string[] {
  const timed = steps.some((step) => step.timeNs > 0);
  const shown = steps.length > STEPS_MAX ? steps.slice(-STEPS_MAX) : steps;
  const skipped = steps.length - shown.length;
  const rows = shown.map((step, index) => [
    String(skipped + index + 1),
    ...(timed ? [formatTime(step.timeNs)] : []),
    step.actor,
    step.label,
    step.changed ?? '',
  ]);
  const head = ['#', ...(timed ? ['time'] : []), 'actor', 'step', 'what happened'];
  const widths = head.map((title, column) => Math.max(title.length, ...rows.map((row) => row[column]!.length)));
  const numeric = timed ? 2 : 1;
  const line = (cells: readonly string[]): string =>
    cells
      .map((cell, column) => (column < numeric ? cell.padStart(widths[column]!) : cell.padEnd(widths[column]!)))
      .join('  ')
      .trimEnd();
  const more = skipped === 0 ? [] : [`  ${paint.faint(`(${skipped} earlier steps left out; --format json has all)`)}`];
  return [`  ${paint.faint(line(head))}`, ...more, ...rows.map((row) => `  ${line(row)}`)];
}
