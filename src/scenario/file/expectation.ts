// What a step's author expects of its outcome (`expect: ENOMEM`, `returns: 0`, `shows: {present: false}`) and what a
// scenario expects to be found; and whether what happened is that.
import * as z from 'zod';
import type { Finding } from '../../engine/finding.ts';
import type { Outcome, Shown } from '../operation.ts';
import { didYouMean } from './diagnostic.ts';
import { OUTCOME_NAMES } from './errno.ts';
import { scalar } from './scalar.ts';
import { parseSize, UnitError } from './units.ts';

/** A value, or a condition on one. */
export type Matcher = Shown | Condition;

/** Exactly one of them. */
interface Condition {
  readonly not?: Shown | undefined;
  readonly 'one-of'?: readonly Shown[] | undefined;
  readonly 'at-least'?: Shown | undefined;
  readonly 'at-most'?: Shown | undefined;
}

/** What is expected of one step. Without any of the three, a step is expected to succeed. */
export interface Expectation {
  /** `ok`, `any`, an errno or a signal; one of them must be the outcome. */
  readonly expect?: readonly string[] | undefined;
  readonly returns?: Matcher | undefined;
  readonly shows?: Readonly<Record<string, Matcher>> | undefined;
}

const zShown: z.ZodType<Shown> = z.lazy(() =>
  z.union([z.string(), z.number(), z.bigint(), z.boolean(), z.null(), z.array(zShown)]),
);
const CONDITIONS = 'a value, or one of `not`, `one-of`, `at-least`, `at-most`';
const zMatcher: z.ZodType<Matcher> = z
  .union([
    z.string(),
    z.number(),
    z.bigint(),
    z.boolean(),
    z.null(),
    z.array(zShown),
    z
      .strictObject({
        not: zShown.optional(),
        'one-of': z.array(zShown).min(1).optional(),
        'at-least': zShown.optional(),
        'at-most': zShown.optional(),
      })
      .refine((condition) => Object.keys(condition).length === 1, {
        message: 'this is not one condition',
        when: ({ issues }) => issues.length === 0,
        params: { expected: 'exactly one of `not`, `one-of`, `at-least`, `at-most`' },
      }),
  ])
  .describe(`What it must be: ${CONDITIONS}. Sizes may be written 64MiB.`);

const OUTCOME_EXPECTED = '`ok`, `any`, or an errno such as `ENOMEM`';
const zOutcomeName = scalar(
  OUTCOME_EXPECTED,
  { is: 'name' },
  { type: 'string', enum: OUTCOME_NAMES, description: '' },
  (written) => {
    if (OUTCOME_NAMES.includes(String(written))) return String(written);
    throw new UnitError(`unknown outcome \`${written}\``, OUTCOME_EXPECTED, didYouMean(String(written), OUTCOME_NAMES));
  },
);

/** The keys beside an operation in a step. */
export const EXPECTATION_TYPES = {
  expect: z
    .union([zOutcomeName.transform((name) => [name]), z.array(zOutcomeName).min(1)])
    .describe('How it ends: ok, any, an errno or a signal; a list means one of them.'),
  returns: zMatcher.describe(`What it returns: ${CONDITIONS}.`),
  shows: z.record(z.string(), zMatcher).describe('What it shows, key by key; keys not named are free.'),
};

/** A finding that a scenario expects: its kind, and any of its details. */
export interface FindingPattern {
  readonly kind: string;
  readonly details: Readonly<Record<string, Matcher>>;
}

/** In words, each way in which the outcome is not what was expected; empty when it is. */
export function checkOutcome(expectation: Expectation, outcome: Outcome): readonly string[] {
  const wanted = expectation.expect ?? ['ok'];
  const got = outcome.errno ?? 'ok';
  if (!wanted.includes('any') && !wanted.includes(got)) return [`expected ${orList(wanted)}, got ${ending(outcome)}`];
  const failures: string[] = [];
  if (expectation.returns !== undefined) {
    const returned = outcome.returns ?? (outcome.errno === undefined ? 0 : -1);
    if (!matches(expectation.returns, returned))
      failures.push(`expected to return ${formatMatcher(expectation.returns)}, returned ${returned}`);
  }
  for (const [key, matcher] of Object.entries(expectation.shows ?? {})) {
    const shown = outcome.shows?.[key];
    if (shown === undefined) failures.push(`expected \`${key}\` ${formatMatcher(matcher)}, but it shows no \`${key}\``);
    else if (!matches(matcher, shown))
      failures.push(`expected \`${key}\` ${formatMatcher(matcher)}, got ${formatShown(shown)}`);
  }
  return failures;
}

/** Whether a finding is one that the pattern describes. */
export function matchesFinding(pattern: FindingPattern, finding: Finding): boolean {
  if (pattern.kind !== finding.kind) return false;
  return Object.entries(pattern.details).every(([key, matcher]) => {
    if (key === 'actor') return finding.actors.some((actor) => matches(matcher, actor));
    if (key === 'object') return finding.objects.some((object) => matches(matcher, object));
    const value = finding.details[key];
    return value !== undefined && matches(matcher, value);
  });
}

/** `pin-failure (errno: ENOMEM, limit: RLIMIT_MEMLOCK)`. */
export function formatPattern(pattern: FindingPattern): string {
  const details = Object.entries(pattern.details).map(([key, matcher]) => `${key}: ${formatMatcher(matcher)}`);
  return details.length === 0 ? pattern.kind : `${pattern.kind} (${details.join(', ')})`;
}

/** Whether a value is as a matcher says. Text that reads as a size equals that many bytes. */
export function matches(matcher: Matcher, value: Shown): boolean {
  if (!isCondition(matcher)) return equals(matcher, value);
  if (matcher.not !== undefined) return !equals(matcher.not, value);
  if (matcher['one-of'] !== undefined) return matcher['one-of'].some((one) => equals(one, value));
  const whole = wholeOf(value);
  const least = wholeOf(matcher['at-least']);
  const most = wholeOf(matcher['at-most']);
  if (whole === undefined || (least === undefined && most === undefined)) return false;
  return (least === undefined || whole >= least) && (most === undefined || whole <= most);
}

function isCondition(matcher: Matcher): matcher is Condition {
  return typeof matcher === 'object' && matcher !== null && !Array.isArray(matcher);
}

function equals(expected: Shown, value: Shown): boolean {
  if (Array.isArray(expected) && Array.isArray(value))
    return expected.length === value.length && expected.every((item, index) => equals(item, value[index] as Shown));
  if (expected === value) return true;
  if (typeof value !== 'number' && typeof value !== 'bigint') return false;
  const whole = wholeOf(expected);
  return whole !== undefined && whole === wholeOf(value);
}

function wholeOf(value: Shown | undefined): bigint | undefined {
  if (typeof value === 'bigint') return value;
  if (typeof value === 'number') return Number.isInteger(value) ? BigInt(value) : undefined;
  if (typeof value !== 'string') return undefined;
  try {
    return parseSize(value);
  } catch (error) {
    if (error instanceof UnitError) return undefined;
    throw error;
  }
}

function formatMatcher(matcher: Matcher): string {
  if (!isCondition(matcher)) return formatShown(matcher);
  if (matcher.not !== undefined) return `anything but ${formatShown(matcher.not)}`;
  if (matcher['one-of'] !== undefined) return orList(matcher['one-of'].map(formatShown));
  const least = matcher['at-least'];
  if (least !== undefined) return `at least ${formatShown(least)}`;
  return `at most ${formatShown(matcher['at-most'] ?? null)}`;
}

/** A shown value as a person reads it. */
export function formatShown(value: Shown): string {
  if (Array.isArray(value)) return `[${value.map((item: Shown) => formatShown(item)).join(', ')}]`;
  return String(value);
}

function ending(outcome: Outcome): string {
  return outcome.errno ?? (outcome.returns === undefined ? 'ok' : `ok (returned ${outcome.returns})`);
}

function orList(words: readonly string[]): string {
  return words.length === 1 ? words[0]! : `${words.slice(0, -1).join(', ')} or ${words.at(-1)}`;
}
