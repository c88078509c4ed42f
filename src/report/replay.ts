// What a replay showed, in words: whether the finding is still there, and where the schedule did not fit any more.
import type { CaseSearch, ReplayDivergence, ReplayReport, ScenarioSearch } from '../scenario/search/result.ts';
import { renderAbsence, renderFinding } from './finding.ts';
import { NO_PAINT, type Paint } from './paint.ts';
import type { TextOptions } from './text.ts';
import { plural, wrap } from './value.ts';

/** The report of one replayed token. Ends with a line break. */
export function renderReplay({ file, title }: ScenarioSearch, one: CaseSearch, options: TextOptions = {}): string {
  const paint = options.paint ?? NO_PAINT;
  const width = options.width ?? 100;
  const lines = [`${paint.strong(file)}  ${title}`, `  ${one.name}  ${paint.faint(kernelOf(one))}`];
  const { replay } = one;
  if (replay !== undefined) {
    const colour = one.status === 'as-expected' ? paint.good : paint.bad;
    lines.push(...wrap(verdictOfReplay(replay, one), width - 4).map((line) => `  ${colour(line)}`));
    lines.push(...notesOf(replay, width).map((line) => `  ${line}`));
    if (replay.diverged !== undefined) lines.push(...divergenceLines(replay.diverged, replay, paint, width));
  }
  for (const limit of one.limits) lines.push(`  ${paint.warn(`limit: ${limit}`)}`);
  for (const found of one.findings) {
    const text = renderFinding({ ...found, replay: `pinsim replay '${found.token}'` }, paint, width - 4);
    lines.push('', ...text.split('\n').map((line) => (line === '' ? '' : `    ${line}`)));
  }
  for (const absent of one.absent) lines.push(...renderAbsence(absent, width - 2).split('\n'));
  return `${lines.join('\n')}\n`;
}

/** Whether it shows what it was kept for, in one sentence. */
export function verdictOfReplay({ verdict, kept, steps }: ReplayReport, one: CaseSearch): string {
  const kinds = [...new Set(one.findings.map(({ finding }) => finding.kind))].join(', ');
  const ran = `in ${plural(steps, 'step')}`;
  const what = kept?.kind ?? 'finding';
  switch (verdict) {
    case 'shown':
      if (kept === undefined) return `shows ${kinds}, ${ran}`;
      return kept.absent ? `does not show ${what}, as before, ${ran}` : `shows the same ${what} again, ${ran}`;
    case 'nearby':
      return `the schedule does not show ${what} any more, but one near it does: the finding is still there`;
    case 'other':
      return `shows ${kinds}, but not the ${what} that the token was kept for`;
    case 'gone': {
      if (kept === undefined) return `shows no finding, ${ran}`;
      return `does not show ${what} any more${kinds === '' ? '' : `, but ${kinds}`}, ${ran}`;
    }
    case 'appears':
      return `shows ${what}, which it did not show before`;
  }
}

function kernelOf({ kernel, with: on, without }: CaseSearch): string {
  return ['on', kernel, ...on.map((id) => `with ${id}`), ...without.map((id) => `without ${id}`)].join(' ');
}

function notesOf({ scenarioChanged, otherKernel, omitted, missing }: ReplayReport, width: number): readonly string[] {
  const notes: string[] = [];
  if (scenarioChanged) notes.push('the scenario has changed since the token was made');
  if (otherKernel) notes.push('this is not the kernel of the token');
  if (omitted.length > 0) notes.push(`left out: ${omitted.join(', ')}`);
  if (missing.length > 0) notes.push(`the scenario has no ${missing.join(', ')} to leave out any more`);
  return notes.flatMap((note) => wrap(note, width - 4));
}

/** Where it first diverges: step, actor, label expected and what the world offered. */
function divergenceLines(
  { steps, segment, actor, label, message, offers }: ReplayDivergence,
  { scenarioChanged, otherKernel }: ReplayReport,
  paint: Paint,
  width: number,
): readonly string[] {
  const goal = label === null ? `lets ${actor} run until it ends or waits` : `runs ${actor} up to ${label}`;
  const cause = scenarioChanged || otherKernel ? '' : ' Scenario and kernel are the same: the model has changed since.';
  const text =
    `the schedule fits for ${plural(steps, 'step')}, then ${message}: part ${segment} of it ${goal}.${cause} ` +
    `The rest was followed as far as it applies. At that point stood`;
  return [
    ...wrap(text, width - 4).map((line) => `  ${paint.warn(line)}`),
    ...offers.map(
      ({ actor: other, label: at, waitsFor }) =>
        `    ${other} before ${at}${waitsFor === undefined ? '' : `, waiting for ${waitsFor}`}`,
    ),
  ];
}
