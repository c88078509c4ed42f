// Mistakes of the user: where, what was wrong, what was expected, what was probably meant. Rendered the way compilers
// do it, one block per mistake. A mistake of the user never shows a stack trace; anything else is an assertion.
import { suggest } from '../../kernel/index.ts';

/** A place in a file. Lines and columns count from 1; a column is a UTF-16 code unit, as editors count. */
export interface Where {
  readonly file: string;
  readonly line: number;
  readonly column: number;
}

export interface Diagnostic {
  /** Absent when the mistake has no place in a file, such as a kernel named on the command line. */
  readonly where?: Where;
  /** How many columns to underline; at least 1. */
  readonly length?: number;
  /** The whole offending line, without its line break. */
  readonly text?: string;
  /** What was wrong, in one sentence without a full stop. */
  readonly message: string;
  /** What would have been right. */
  readonly expected?: string;
  /** What to try. */
  readonly hint?: string;
}

/** Carries diagnostics to whoever can print them; the command line turns it into exit code 2. */
export class ScenarioError extends Error {
  override readonly name = 'ScenarioError';
  readonly diagnostics: readonly Diagnostic[];

  constructor(diagnostics: readonly Diagnostic[]) {
    super(diagnostics.map((diagnostic) => headline(diagnostic)).join('\n'));
    this.diagnostics = diagnostics;
  }
}

/** The parts of a rendering that may be coloured; the identity everywhere unless the output is a terminal. */
export interface DiagnosticPaint {
  readonly error: (text: string) => string;
  readonly place: (text: string) => string;
  readonly faint: (text: string) => string;
  readonly help: (text: string) => string;
}

const plain = (text: string): string => text;
const NO_PAINT: DiagnosticPaint = { error: plain, place: plain, faint: plain, help: plain };

/** Columns of source shown when a line is longer than a terminal is wide. */
const WIDTH_MAX = 110;
/** Characters that a message quotes of what is in a file. */
const QUOTED_MAX = 60;

/**
 * One diagnostic as text, without a final line break:
 *
 *     balloon.yaml:4:12: error: unknown key `siez`
 *       4 |   ram: {siez: 16MiB}
 *         |         ^^^^
 *         = expected: one of `kind`, `size`
 *         = help: did you mean `size`?
 */
export function renderDiagnostic(diagnostic: Diagnostic, paint: DiagnosticPaint = NO_PAINT): string {
  const { where, text } = diagnostic;
  const [expected, hint] = [diagnostic.expected, diagnostic.hint].map((one) => one && visible(one));
  const lines = [headline(diagnostic, paint)];
  let margin = '  ';
  if (where !== undefined && text !== undefined) {
    const number = String(where.line);
    margin = ' '.repeat(number.length + 2);
    const { shown, caret } = excerpt(visible(text, '\t'), where.column, diagnostic.length ?? 1);
    lines.push(`${paint.faint(`  ${number} |`)} ${shown}`.trimEnd());
    lines.push(`${paint.faint(`${margin} |`)} ${paint.error(caret)}`);
  }
  if (expected !== undefined) lines.push(`${margin} ${paint.faint('=')} expected: ${expected}`);
  if (hint !== undefined) lines.push(`${margin} ${paint.faint('=')} ${paint.help('help')}: ${hint}`);
  return lines.join('\n');
}

/** All of them, a blank line between two. */
export function renderDiagnostics(diagnostics: readonly Diagnostic[], paint: DiagnosticPaint = NO_PAINT): string {
  return diagnostics.map((diagnostic) => renderDiagnostic(diagnostic, paint)).join('\n\n');
}

function headline(diagnostic: Diagnostic, paint: DiagnosticPaint = NO_PAINT): string {
  const { where, message } = diagnostic;
  const cut = message.replaceAll(/`([^`]*)`/g, (_, words: string) => quoted(words));
  const place = where === undefined ? '' : `${paint.place(visible(formatWhere(where)))}: `;
  return `${place}${paint.error('error')}: ${visible(cut)}`;
}

/** `file:line:column`, which editors and terminals make clickable. */
export function formatWhere(where: Where): string {
  return `${where.file}:${where.line}:${where.column}`;
}

/**
 * A text with the picture of every control character in its place, such as ␛: what stands in a file must not reach the
 * terminal as a command. As long as the text was. `but`: characters that stay.
 */
export function visible(text: string, but = ''): string {
  return text.replaceAll(/\p{Cc}/gu, (char) => {
    if (but.includes(char)) return char;
    const code = char.charCodeAt(0);
    return code < 0x20 ? String.fromCharCode(0x2400 + code) : code === 0x7f ? '␡' : '\uFFFD';
  });
}

/** What somebody wrote, as a message quotes it: the beginning of it when it is long. */
export function quoted(text: string): string {
  return `\`${text.length > QUOTED_MAX ? `${text.slice(0, QUOTED_MAX - 3)}...` : text}\``;
}

/** The offending line, cut around the mistake when it is too long, and the carets that belong under it. */
function excerpt(text: string, column: number, length: number): { shown: string; caret: string } {
  const start = Math.min(column - 1, text.length);
  const end = Math.max(start + 1, Math.min(start + length, text.length));
  let from = 0;
  let to = text.length;
  if (text.length > WIDTH_MAX) {
    from = Math.max(0, Math.min(start - WIDTH_MAX / 2, text.length - WIDTH_MAX));
    to = Math.min(text.length, from + WIDTH_MAX);
  }
  const head = from > 0 ? '...' : '';
  const tail = to < text.length ? '...' : '';
  const before = head + text.slice(from, start);
  const underline = '^'.repeat(Math.max(1, Math.min(end, to) - start));
  return { shown: head + text.slice(from, to) + tail, caret: before.replace(/[^\t]/g, ' ') + underline };
}

/** What kinds of memory are called elsewhere, where likeness would lead astray. */
const CALLED_HERE: ReadonlyMap<string, string> = new Map([
  ['memfd', 'shmem'],
  ['memfd_secret', 'secret'],
  ['thp', 'anon'],
  ['ext4', 'file'],
  ['xfs', 'file'],
  ['dax', 'fsdax'],
  ['pfnmap', 'driver'],
]);

/** `did you mean ...?` for the names nearest to a misspelt one; undefined when none is near. */
export function didYouMean(word: string, names: Iterable<string>): string | undefined {
  const known = [...names];
  const called = CALLED_HERE.get(word);
  const near =
    called !== undefined && known.includes(called) ? [called] : suggest(word, known).filter((name) => name !== word);
  if (near.length === 0) return undefined;
  return `did you mean ${near.map((name) => `\`${name}\``).join(' or ')}?`;
}

/** Names as a sentence shows them: `a`, `b` or `c`, cut after `limit`; undefined when there are none. */
export function nameList(names: readonly string[], limit = 12): string | undefined {
  if (names.length === 0) return undefined;
  const quoted = names.slice(0, limit).map((name) => `\`${name}\``);
  if (names.length > limit) return `${quoted.join(', ')} and ${names.length - limit} more`;
  if (quoted.length === 1) return quoted[0]!;
  return `${quoted.slice(0, -1).join(', ')} or ${quoted.at(-1)}`;
}
