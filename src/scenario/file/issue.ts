// Turns what zod says of a value into a diagnostic about the file: in the words of a person who writes scenarios, at
// the key or value concerned, with the nearest right name.
import * as z from 'zod';
import { type Diagnostic, didYouMean, nameList, quoted } from './diagnostic.ts';
import { describeType } from './scalar.ts';
import type { Path, Source } from './source.ts';

type Issue = z.core.$ZodIssue & { readonly known?: readonly string[]; readonly about?: string };

/** Parse the value written at `path`. Every issue becomes a diagnostic; `value` is undefined when there are any. */
export function parseAt<T extends z.ZodType>(
  type: T,
  source: Source,
  path: Path,
  value: unknown,
): { value?: z.output<T>; diagnostics: readonly Diagnostic[] } {
  const result = type.safeParse(value, { error: remember });
  if (result.success) return { value: result.data, diagnostics: [] };
  return { diagnostics: result.error.issues.flatMap((issue) => diagnose(issue, source, path)) };
}

/** zod forgets which type raised an issue; what the message needs of it is noted on the issue while it is known. */
function remember(raw: z.core.$ZodRawIssue): undefined {
  const noted = raw as { known?: readonly string[]; about?: string | undefined; inst?: unknown };
  const { inst } = noted;
  if (inst instanceof z.ZodObject) noted.known = Object.keys(inst.shape);
  if (inst instanceof z.ZodType && inst.description !== undefined) noted.about = inst.description;
  return undefined;
}

function diagnose(issue: Issue, source: Source, base: Path): readonly Diagnostic[] {
  const path = [...base, ...issue.path];
  switch (issue.code) {
    case 'unrecognized_keys':
      return issue.keys.map((key) => unknownKey(key, issue.known ?? [], source, path));
    case 'invalid_union':
      return issue.errors.length === 0 ? [badValue(issue, source, path)] : diagnoseUnion(issue, source, path);
    case 'invalid_key':
      return issue.issues.map((inner) => keyProblem(inner, source, path));
    default:
      return [badValue(issue, source, path)];
  }
}

/** An unknown key of a mapping, with the nearest known one. */
export function unknownKey(key: string, known: readonly string[], source: Source, path: Path): Diagnostic {
  const what = { message: `unknown key ${quoted(key)}`, expected: nameList(known, 40), hint: didYouMean(key, known) };
  return source.diagnostic([...path, key], what, 'key');
}

function keyProblem(inner: z.core.$ZodIssue, source: Source, path: Path): Diagnostic {
  const { expected, hint } = customParams(inner);
  const key = String(path.at(-1));
  const message = inner.code === 'custom' ? inner.message : `${quoted(key)} is not allowed here`;
  return source.diagnostic(path, { message, expected: expected ?? expectationOf(inner), hint }, 'key');
}

/** The alternative that the value looks most like speaks for the union. */
function diagnoseUnion(issue: Issue & { code: 'invalid_union' }, source: Source, path: Path): readonly Diagnostic[] {
  const meant = issue.errors.filter((errors) => !errors.some((error) => error.path.length === 0 && isMismatch(error)));
  if (meant.length === 1) return meant[0]!.flatMap((inner) => diagnose(inner, source, path));
  if (meant.length > 1) {
    // Several shapes fit: the one whose first complaint lies deepest got furthest.
    const depth = (errors: readonly z.core.$ZodIssue[]): number =>
      Math.max(...errors.map((error) => error.path.length));
    const best = meant.reduce((a, b) => (depth(b) > depth(a) ? b : a));
    return best.flatMap((inner) => diagnose(inner, source, path));
  }
  const expected = [...new Set(issue.errors.flat().map((error) => expectationOf(error)))].filter(
    (text) => text !== undefined,
  );
  const got = source.get(path);
  if (got === undefined || !source.has(path)) return [missing(source, path, expected.join(', or '))];
  const enums = issue.errors
    .flat()
    .flatMap((error) => (error.code === 'invalid_value' ? error.values.map(String) : []));
  const hint = typeof got === 'string' ? didYouMean(got, enums) : undefined;
  return [source.diagnostic(path, { message: notWanted(got), expected: expected.join(', or '), hint })];
}

function isMismatch(issue: z.core.$ZodIssue): boolean {
  if (issue.code === 'invalid_type') return true;
  if (issue.code === 'invalid_value') return true;
  return issue.code === 'custom' && issue.params?.mismatch === true;
}

function badValue(issue: Issue, source: Source, path: Path): Diagnostic {
  const got = source.get(path);
  const { expected = expectationOf(issue) ?? issue.about, hint } = customParams(issue);
  if (got === undefined || !source.has(path)) return missing(source, path, expected);
  if (issue.code === 'custom') return source.diagnostic(path, { message: issue.message, expected, hint });
  const names = issue.code === 'invalid_value' ? issue.values.map(String) : optionsOf(issue);
  return source.diagnostic(path, {
    message: notWanted(got),
    expected: expected ?? issue.message,
    hint: typeof got === 'string' ? didYouMean(got, names) : undefined,
  });
}

function missing(source: Source, path: Path, expected: string | undefined): Diagnostic {
  const parent = path.slice(0, -1);
  const owner =
    parent.length === 0
      ? 'this file'
      : typeof parent.at(-1) === 'string'
        ? `\`${String(parent.at(-1))}\``
        : 'this entry';
  const message = `${owner} has no \`${String(path.at(-1))}\``;
  return source.diagnostic(parent, { message, expected: expected === '' ? undefined : expected }, 'key');
}

function notWanted(got: unknown): string {
  if (typeof got === 'string') return `${quoted(got)} is not allowed here`;
  if (typeof got === 'number' || typeof got === 'bigint') return `${got} is not allowed here`;
  return `this is ${describeType(got)}`;
}

function customParams(issue: z.core.$ZodIssue): { expected?: string; hint?: string | undefined } {
  if (issue.code !== 'custom' || issue.params === undefined) return {};
  const { expected, hint } = issue.params as { expected?: string; hint?: string };
  return { ...(expected === undefined ? {} : { expected }), hint };
}

function optionsOf(issue: z.core.$ZodIssue): readonly string[] {
  return 'options' in issue && Array.isArray(issue.options) ? issue.options.map(String) : [];
}

const TYPE_WORDS: Readonly<Record<string, string>> = {
  array: 'a list',
  object: 'a mapping',
  record: 'a mapping',
  string: 'text',
  number: 'a number',
  bigint: 'a number',
  boolean: '`true` or `false`',
  null: 'nothing',
};

function expectationOf(issue: z.core.$ZodIssue): string | undefined {
  switch (issue.code) {
    case 'invalid_type':
      return TYPE_WORDS[issue.expected] ?? issue.expected;
    case 'invalid_value':
      return nameList(issue.values.map(String), 40);
    case 'too_small':
      return `at least ${issue.minimum} ${issue.origin === 'string' ? 'character' : issue.minimum === 1 ? 'entry' : 'entries'}${issue.origin === 'string' && issue.minimum !== 1 ? 's' : ''}`;
    case 'invalid_format':
      return issue.format === 'regex' ? `text like ${issue.pattern}` : issue.format;
    case 'custom':
      return customParams(issue).expected;
    case 'invalid_union':
      return optionsOf(issue).length > 0 ? nameList(optionsOf(issue), 40) : undefined;
    default:
      return undefined;
  }
}
