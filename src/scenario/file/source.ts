// A scenario file as text: parsed YAML that remembers, for every value, where it was written. Integers are read as
// bigint and become numbers only where that is exact. All syntax errors are collected, not only the first.
import {
  type Alias,
  isAlias,
  isMap,
  isScalar,
  isSeq,
  type Node,
  type ParsedNode,
  parseDocument,
  type YAMLError,
} from 'yaml';
import type { Diagnostic, Where } from './diagnostic.ts';

/** Steps from the top of the document to a value: mapping keys and sequence indices. */
export type Path = readonly PropertyKey[];

/** Where a value was written, and its key when it is in a mapping. Offsets into the text, end exclusive. */
interface Spot {
  readonly start: number;
  readonly end: number;
  readonly keyStart: number;
  readonly keyEnd: number;
  readonly inside: Map<string | number, Spot>;
}

/** More values than any real scenario has; what aliases multiply is counted too. */
const VALUES_MAX = 500_000;

/** One parsed file. `value` is plain data: null-prototype objects, arrays, strings, numbers, bigints, booleans, null. */
export class Source {
  readonly file: string;
  readonly text: string;
  readonly value: unknown;
  private readonly root: Spot;
  private readonly lineStarts: readonly number[];

  constructor(file: string, text: string, value: unknown, root: Spot, lineStarts: readonly number[]) {
    this.file = file;
    this.text = text;
    this.value = value;
    this.root = root;
    this.lineStarts = lineStarts;
  }

  /** The place of the value at `path`, or of the nearest enclosing value that exists. */
  where(path: Path, part: 'key' | 'value' = 'value'): Where {
    return placeOf(this.file, this.lineStarts, this.span(path, part).start);
  }

  /** A diagnostic that points at the value (or the key) at `path`. */
  diagnostic(
    path: Path,
    what: { message: string; expected?: string | undefined; hint?: string | undefined },
    part: 'key' | 'value' = 'value',
  ): Diagnostic {
    const { start, end } = this.span(path, part);
    return pointAt(this.file, this.text, this.lineStarts, start, end, what);
  }

  /** Whether something was written at `path`. */
  has(path: Path): boolean {
    return this.find(path).exact;
  }

  /** The value at `path`; undefined when nothing was written there. */
  get(path: Path): unknown {
    let value: unknown = this.value;
    for (const key of path) {
      if (typeof value !== 'object' || value === null) return undefined;
      value = (value as Record<PropertyKey, unknown>)[key];
    }
    return value;
  }

  private span(path: Path, part: 'key' | 'value'): { start: number; end: number } {
    const { spot, exact } = this.find(path);
    const key = spot.keyEnd > spot.keyStart && (part === 'key' || (!exact && spot.inside.size > 0));
    return key ? { start: spot.keyStart, end: spot.keyEnd } : { start: spot.start, end: spot.end };
  }

  private find(path: Path): { spot: Spot; exact: boolean } {
    let spot = this.root;
    for (const key of path) {
      const next = typeof key === 'symbol' ? undefined : spot.inside.get(key);
      // What may be one or a list is parsed as a list; a single one stands where the list would.
      if (next === undefined && key === 0) continue;
      if (next === undefined) return { spot, exact: false };
      spot = next;
    }
    return { spot, exact: true };
  }
}

/** Parse the text of a scenario file. `source` is undefined when the text is no single YAML document. */
export function readSource(file: string, rawText: string): { source?: Source; diagnostics: readonly Diagnostic[] } {
  const text = rawText.startsWith('\uFEFF') ? rawText.slice(1) : rawText;
  const lineStarts = findLineStarts(text);
  const complain = (start: number, end: number, message: string, expected?: string): Diagnostic =>
    pointAt(file, text, lineStarts, start, end, { message, expected });
  const document = parse(text);
  const problems = [...document.errors, ...document.warnings];
  if (problems.length > 0)
    return { diagnostics: problems.map((problem) => complain(problem.pos[0], problem.pos[1], inOurWords(problem))) };
  if (document.contents === null || (isScalar(document.contents) && document.contents.value === null))
    return { diagnostics: [complain(0, 0, 'this file is empty', 'a scenario, see `pinsim new`')] };
  const builder = new ValueBuilder(document, complain);
  const { value, spot } = builder.build(document.contents, undefined);
  if (builder.diagnostics.length > 0) return { diagnostics: builder.diagnostics };
  return { source: new Source(file, text, value, spot, lineStarts), diagnostics: [] };
}

function parse(text: string) {
  return parseDocument(text, { intAsBigInt: true, prettyErrors: false, strict: true, uniqueKeys: true });
}

/** What the YAML parser says, unless it speaks to programmers. It recurses, and tells an exhausted stack as an error. */
function inOurWords({ code, message }: YAMLError): string {
  if (code === 'MULTIPLE_DOCS') return 'a second YAML document begins here: a file holds one scenario';
  return message.includes('call stack') ? 'this file is nested too deeply' : message;
}

type Complain = (start: number, end: number, message: string, expected?: string) => Diagnostic;

/** Turns YAML nodes into plain values and remembers their places. */
class ValueBuilder {
  readonly diagnostics: Diagnostic[] = [];
  private readonly document: ReturnType<typeof parse>;
  private readonly complain: Complain;
  private readonly open = new Set<Node>();
  private count = 0;

  constructor(document: ReturnType<typeof parse>, complain: Complain) {
    this.document = document;
    this.complain = complain;
  }

  build(node: ParsedNode | null, key: ParsedNode | undefined): { value: unknown; spot: Spot } {
    const spot = spotOf(node, key);
    this.count++;
    if (this.count > VALUES_MAX) {
      if (this.count === VALUES_MAX + 1)
        this.diagnostics.push(this.complain(spot.start, spot.end, `this file has more than ${VALUES_MAX} values`));
      return { value: null, spot };
    }
    return { value: this.valueOf(node, spot), spot };
  }

  private valueOf(node: ParsedNode | null, spot: Spot): unknown {
    if (node === null) return null;
    if (isAlias(node)) return this.aliased(node, spot);
    if (isScalar(node)) return exactNumber(node.value);
    this.open.add(node);
    const value = isMap(node) ? this.mapping(node.items, spot) : isSeq(node) ? this.sequence(node.items, spot) : null;
    this.open.delete(node);
    return value;
  }

  private aliased(alias: Alias.Parsed, spot: Spot): unknown {
    const target = alias.resolve(this.document) as ParsedNode | undefined;
    if (target === undefined || this.open.has(target)) {
      const message = target === undefined ? `no anchor &${alias.source}` : `*${alias.source} contains itself`;
      this.diagnostics.push(this.complain(spot.start, spot.end, message));
      return null;
    }
    const { value, spot: aimed } = this.build(target, undefined);
    for (const [key, inner] of aimed.inside) spot.inside.set(key, inner);
    return value;
  }

  private mapping(items: readonly { key: ParsedNode; value: ParsedNode | null }[], spot: Spot): unknown {
    const value: Record<string, unknown> = Object.create(null);
    for (const item of items) {
      const name = this.keyName(item.key);
      if (name === undefined) continue;
      const inner = this.build(item.value, item.key);
      value[name] = inner.value;
      spot.inside.set(name, inner.spot);
    }
    return value;
  }

  private keyName(key: ParsedNode): string | undefined {
    if (isScalar(key) && key.value !== null)
      return typeof key.value === 'string' ? key.value : (key.source ?? String(key.value));
    const [start, end] = key.range;
    this.diagnostics.push(this.complain(start, end, 'this key is not a name', 'a word before the colon'));
    return undefined;
  }

  private sequence(items: readonly (ParsedNode | null)[], spot: Spot): unknown {
    return items.map((item, index) => {
      const inner = this.build(item, undefined);
      spot.inside.set(index, inner.spot);
      return inner.value;
    });
  }
}

function spotOf(node: ParsedNode | null, key: ParsedNode | undefined): Spot {
  const [keyStart, keyEnd] = key?.range ?? [0, 0];
  // A missing value (`key:`) has no text of its own: its place is that of the key.
  const [start, end] = node?.range ?? [keyStart, keyEnd];
  return { start, end, keyStart, keyEnd, inside: new Map() };
}

/** A bigint that a number holds exactly becomes one. */
function exactNumber(value: unknown): unknown {
  if (typeof value !== 'bigint') return value;
  const number = Number(value);
  return Number.isSafeInteger(number) ? number : value;
}

function findLineStarts(text: string): readonly number[] {
  const starts = [0];
  for (let at = text.indexOf('\n'); at !== -1; at = text.indexOf('\n', at + 1)) starts.push(at + 1);
  return starts;
}

function placeOf(file: string, lineStarts: readonly number[], offset: number): Where {
  let low = 0;
  let high = lineStarts.length - 1;
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (lineStarts[middle]! <= offset) low = middle;
    else high = middle - 1;
  }
  return { file, line: low + 1, column: offset - lineStarts[low]! + 1 };
}

function pointAt(
  file: string,
  text: string,
  lineStarts: readonly number[],
  start: number,
  end: number,
  what: { message: string; expected?: string | undefined; hint?: string | undefined },
): Diagnostic {
  const where = placeOf(file, lineStarts, start);
  const lineStart = lineStarts[where.line - 1]!;
  const lineEnd = lineStarts[where.line] ?? text.length;
  const line = text.slice(lineStart, lineEnd).replace(/\n$/, '').replace(/\r$/, '');
  // A value of several lines is underlined to the end of its first.
  const length = Math.max(1, Math.min(end, lineStart + line.length) - start);
  return {
    // What the line ends in has no column of its own.
    where: { ...where, column: Math.min(where.column, line.length + 1) },
    length,
    text: line,
    message: what.message,
    ...(what.expected === undefined ? {} : { expected: what.expected }),
    ...(what.hint === undefined ? {} : { hint: what.hint }),
  };
}
