// A counterexample as a table: a column per actor, time downwards, switches between actors marked. Where the columns
// would get too narrow to read, a list of steps with their actors in front.
import type { Fix, Nearest, ShrinkReport, Story, StoryRow, StorySwitch } from '../scenario/search/result.ts';
import type { Paint } from './paint.ts';
import { plural, wrap } from './value.ts';

/** Narrower columns are not read as columns. */
const COLUMN_MIN = 21;
const GAP = 2;

/** The table, line by line, in at most `width` columns where words allow it. `marked`: the step with a mark. */
export function renderStory(story: Story, paint: Paint, width: number, marked?: number): readonly string[] {
  const { actors } = story;
  const numbers = Math.max(4, String(story.steps).length);
  const column = Math.floor((width - numbers - GAP * actors.length) / Math.max(1, actors.length));
  const layout: Layout = { numbers, column, paint, width, actors };
  if (actors.length > 1 && column >= COLUMN_MIN) return asColumns(story, layout, marked);
  return asList(story, layout, marked);
}

interface Layout {
  readonly numbers: number;
  readonly column: number;
  readonly paint: Paint;
  readonly width: number;
  readonly actors: readonly string[];
}

function asColumns(story: Story, layout: Layout, marked: number | undefined): readonly string[] {
  const { actors, column, numbers, paint } = layout;
  const gap = ' '.repeat(GAP);
  const heads = actors.map((actor) => chop(actor, column));
  const high = Math.max(...heads.map((lines) => lines.length));
  const lines = Array.from({ length: high }, (_, at) =>
    `${(at === 0 ? 'step' : '').padStart(numbers)}${heads.map((head) => gap + (head[at] ?? '').padEnd(column)).join('')}`.trimEnd(),
  ).map(paint.faint);
  eachRow(story, (row, switches, begins) => {
    for (const one of switches) lines.push(...switchLines(one, layout));
    const before = ' '.repeat(actors.indexOf(row.actor) * (column + GAP) + GAP);
    for (const [at, { text, style }] of cell(row, begins, column, paint, row.step === marked).entries()) {
      const number = at === 0 ? String(row.step).padStart(numbers) : ' '.repeat(numbers);
      lines.push(`${paint.faint(number)}${before}${style(text)}`);
    }
  });
  return [...lines, ...endLine(story, layout)];
}

function asList(story: Story, layout: Layout, marked: number | undefined): readonly string[] {
  const { numbers, paint, width, actors } = layout;
  const gap = ' '.repeat(GAP);
  const names = actors.length === 0 ? 0 : Math.max(5, ...story.rows.map(({ actor }) => actor.length)) + GAP;
  const actor = names === 0 ? '' : 'actor'.padEnd(names);
  const lines = [paint.faint(`${'step'.padStart(numbers)}${gap}${actor}what it does`)];
  const room = Math.max(COLUMN_MIN, width - numbers - names - GAP);
  eachRow(story, (row, switches, begins) => {
    for (const one of switches) lines.push(...switchLines(one, layout));
    for (const [at, { text, style }] of cell(row, begins, room, paint, row.step === marked).entries()) {
      const name = names === 0 ? '' : row.actor.padEnd(names);
      const head = at === 0 ? `${String(row.step).padStart(numbers)}${gap}${name}` : ' '.repeat(numbers + GAP + names);
      lines.push(`${at === 0 ? paint.faint(head) : head}${style(text)}`);
    }
  });
  return [...lines, ...endLine(story, layout)];
}

/** Rows in order, with the switches before each and whether its operation begins there. */
function eachRow(story: Story, see: (row: StoryRow, switches: readonly StorySwitch[], begins: boolean) => void): void {
  const operations = new Map<string, string>();
  let shown = 0;
  for (const row of story.rows) {
    const switches = story.switches.filter(({ after }) => after >= shown && after < row.step);
    const operation = `${row.operation} ${row.line}`;
    const begins = row.operation !== undefined && operations.get(row.actor) !== operation;
    operations.set(row.actor, operation);
    see(row, shown === 0 ? switches.slice(-1) : switches, begins);
    shown = row.step;
  }
}

interface Piece {
  readonly text: string;
  readonly style: (text: string) => string;
}

/** What stands in the cell of a row. */
function cell(row: StoryRow, begins: boolean, width: number, paint: Paint, marked: boolean): readonly Piece[] {
  const plain = (text: string): string => text;
  const pieces: Piece[] = [];
  const add = (text: string, style: (text: string) => string, indent = ''): void => {
    for (const line of wrap(text, width - indent.length).flatMap((part) => chop(part, width - indent.length)))
      pieces.push({ text: indent + line, style });
  };
  add(`${marked ? '>> ' : ''}${row.label}`, marked ? paint.bad : paint.strong);
  if (begins) add(`in ${row.operation}, line ${row.line}`, paint.faint, '  ');
  for (const changed of row.changed) add(changed, plain, '  ');
  for (const note of row.notes) add(note, paint.warn, '  ');
  return pieces;
}

/** A rule across the table, as wide as that is. */
function switchLines({ actor, before, to }: StorySwitch, { paint, width, numbers }: Layout): readonly string[] {
  const lines = wrap(`${actor} is stopped before ${before}, ${to} goes on`, width - numbers - 3);
  return lines.map((line, at) => {
    const head = `${(at === 0 ? '-' : ' ').repeat(numbers + 2)} ${line}`;
    const rest = Math.min(width, 100) - head.length - 1;
    return paint.warn(at === lines.length - 1 && rest > 0 ? `${head} ${'-'.repeat(rest)}` : head);
  });
}

function endLine(story: Story, { numbers, paint, width }: Layout): readonly string[] {
  const left = story.steps - story.rows.length;
  const shown = story.shownAt === undefined ? '' : `shown at step ${story.shownAt}; `;
  const text = `${shown}${plural(left, 'step')} of ${story.steps} left out (replay --trace)`;
  return wrap(text, width - numbers - GAP).map((line) => paint.faint(`${' '.repeat(numbers + GAP)}${line}`));
}

/** A text in pieces of at most `width`: labels are long words, and break best behind a mark. */
function chop(text: string, width: number): readonly string[] {
  const pieces: string[] = [];
  let rest = text;
  while (rest.length > width) {
    const marks = [...rest.slice(0, width).matchAll(/[:_/.-]/g)];
    const at = (marks.at(-1)?.index ?? -1) + 1;
    const cut = at > width / 2 ? at : width;
    pieces.push(rest.slice(0, cut));
    rest = rest.slice(cut);
  }
  return [...pieces, rest];
}

/** What shrinking came to, in words. */
export function shrinkInWords({ before, after, minimal, omitted }: ShrinkReport): string {
  const size = ({ actors, scriptSteps, preemptions, steps }: ShrinkReport['before']): string =>
    `${plural(actors, 'actor')}, ${plural(scriptSteps, 'script step')}, ${plural(preemptions, 'preemption')}, ${plural(steps, 'step')}`;
  const nothing = JSON.stringify(before) === JSON.stringify(after);
  const words = nothing ? `nothing could go: ${size(after)}` : `from ${size(before)} to ${size(after)}`;
  const end = minimal ? (nothing ? '' : '; no more can go') : '; the budget ended (--shrink gives more)';
  return `${words}${end}${omitted.length === 0 ? '' : `; left out: ${omitted.join(', ')}`}`;
}

/** A story with as little in its rows as tells two of them apart, and no column for actors. */
function compact(story: Story): Story {
  const rows = story.rows.map(({ step, actor, label, changed }) => ({
    step,
    actor,
    label: `${actor}: ${label}`,
    changed: changed.slice(0, 1),
    notes: [],
  }));
  return { ...story, rows, actors: [] };
}

/** What a behaviour would have done, in words. */
export function fixInWords({ step, row, instead, searched }: Fix): string {
  const there = instead === undefined ? 'nobody can go on' : `${instead.actor} does ${instead.label}`;
  const place =
    row === undefined
      ? `at step ${step} ${there}`
      : row.step === step
        ? `instead of step ${row.step} (${row.actor}: ${row.label}) ${there}`
        : `from step ${step} on, before row ${row.step} (${row.actor}: ${row.label}): ${there}`;
  return `${place}; without the finding in ${searched}`;
}

/** The failing and the passing run side by side, or one below the other where there is no room. */
export function renderNearest(nearest: Nearest, paint: Paint, width: number): readonly string[] {
  const { change, differsAt, failing, passing } = nearest;
  const first = (story: Story): number | undefined => story.rows.find(({ step }) => step >= differsAt)?.step;
  const gap = ' | ';
  const half = Math.floor((width - gap.length) / 2);
  const head = `the nearest interleaving that passes: ${change}; they differ from step ${differsAt} on (>>)`;
  const lines = [...wrap(head, width).map(paint.strong), ''];
  const left = renderStory(compact(failing), NO_STYLE, half, first(failing));
  const right = renderStory(compact(passing), NO_STYLE, half, first(passing));
  if (half < 40) return [...lines, 'fails:', ...left, '', 'passes:', ...right];
  lines.push(`${paint.bad('fails'.padEnd(half))}${gap}${paint.good('passes')}`);
  for (let at = 0; at < Math.max(left.length, right.length); at++)
    lines.push(`${(left[at] ?? '').slice(0, half).padEnd(half)}${gap}${(right[at] ?? '').slice(0, half)}`.trimEnd());
  return lines;
}

const unstyled = (text: string): string => text;
/** Columns that are put side by side are measured: no colours inside. */
const NO_STYLE: Paint = { good: unstyled, bad: unstyled, warn: unstyled, strong: unstyled, faint: unstyled };
