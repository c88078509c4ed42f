// A replay token: one line that can be pasted into a mail. It names the scenario, what it looked like, the case, the
// kernel, what it shows and the schedule:
//   pinsim1 scenarios/bugs/x.yaml 8f3a01c2 fix%20off v6.1.192 +a.behaviour -another !guest !vmm:madvise#2
//           ?stale-mapping:5d3c01aa s1;a@label;b .9e0f
// +/- behaviours switched on and off; ~ seed; ! actors and steps left out (see omit.ts); ? the finding it shows, or
// ?no: the expected finding that it does not show; last, a check that tells a token that was cut. Parts are separated
// by blanks; a blank within a part is written %20.
import { hashText, mix } from '../../engine/hash.ts';
import { canonicalKernel } from '../catalogue.ts';
import type { Scenario, ScenarioCase } from '../file/scenario.ts';

const VERSION = 'pinsim1';
/** A check of this kind fits everything: for tokens edited by hand. */
const UNCHECKED = '.';

/** What a schedule was kept for. */
export interface Shown {
  readonly kind: string;
  /** Hash of the finding's identity, or of the pattern that was not met. */
  readonly hash: string;
  /** The finding was expected and does not appear. */
  readonly absent: boolean;
}

export interface CaseToken {
  readonly file: string;
  /** Of the scenario's meaning: comments and layout do not count. */
  readonly digest: string;
  /** The name of the case in the file; empty: the scenario itself, on a kernel that no case names. */
  readonly case: string;
  readonly kernel: string;
  readonly with: readonly string[];
  readonly without: readonly string[];
  /** Seed of the world's own streams. */
  readonly seed: string;
  /** Actors and steps left out. */
  readonly omitted: readonly string[];
  readonly shows: Shown | undefined;
  /** As `printToken` of the explorer writes it. */
  readonly schedule: string;
}

/** What a token may say beside the schedule. */
export interface TokenNotes {
  readonly shows?: Shown | undefined;
  readonly omitted?: readonly string[];
}

/** A token that cannot be read. `message` says which part, `hint` what to try. */
export class TokenError extends Error {
  override readonly name = 'TokenError';
  readonly hint: string;

  constructor(message: string, hint: string) {
    super(message);
    this.hint = hint;
  }
}

const escapePart = (text: string): string =>
  text.replace(/[%\s'"`\\]/g, (c) => `%${c.charCodeAt(0).toString(16).padStart(2, '0')}`);
const unescapePart = (text: string): string =>
  text.replace(/%([0-9a-f]{2})/g, (_, hex: string) => String.fromCharCode(Number.parseInt(hex, 16)));
const hex8 = (n: number): string => (n >>> 0).toString(16).padStart(8, '0');

/** The token of a schedule found in `one`. */
export function caseToken(
  scenario: Scenario,
  one: ScenarioCase,
  seed: string,
  schedule: string,
  { shows, omitted = [] }: TokenNotes = {},
): CaseToken {
  return {
    file: scenario.file,
    digest: scenarioDigest(scenario, one),
    case: writtenName(scenario, one),
    kernel: canonicalKernel(one.kernel),
    with: one.with,
    without: one.without,
    seed,
    omitted,
    shows,
    schedule,
  };
}

/** The name under which the file has the case; empty when it has none, so that the scenario itself is meant. */
function writtenName({ base, cases }: Scenario, one: ScenarioCase): string {
  const name = one.written ?? one.name;
  return cases.length === 1 && name === base.name ? '' : name;
}

/** What a token says of a finding. */
export function shownFinding(finding: { readonly kind: string; readonly identity: string }): Shown {
  return { kind: finding.kind, hash: hashOf(finding.identity), absent: false };
}

/** What a token says of a finding that did not appear; `pattern` as the scenario's `expect` means it, in words. */
export function shownAbsence(kind: string, pattern: string): Shown {
  return { kind, hash: hashOf(pattern), absent: true };
}

/** Hash of an identity or a pattern, as tokens carry it. */
export function hashOf(text: string): string {
  return hex8(mix(hashText(text), text.length));
}

export function printCaseToken(token: CaseToken): string {
  const { shows, seed } = token;
  const text = [
    VERSION,
    escapePart(token.file),
    token.digest,
    token.case === '' ? '-' : escapePart(token.case),
    token.kernel,
    ...token.with.map((behaviour) => `+${behaviour}`),
    ...token.without.map((behaviour) => `-${behaviour}`),
    ...(seed === '1' ? [] : [`~${escapePart(seed)}`]),
    ...token.omitted.map((path) => `!${escapePart(path)}`),
    ...(shows === undefined ? [] : [`?${shows.absent ? 'no:' : ''}${shows.kind}:${shows.hash}`]),
    escapePart(token.schedule),
  ].join(' ');
  return `${text} ${UNCHECKED}${checkOf(text)}`;
}

function checkOf(text: string): string {
  return hashOf(text).slice(0, 4);
}

const CUT = 'the replay token has been cut';
const WHOLE = 'copy the whole line: it begins with `pinsim1` and ends with a dot and four characters';

/**
 * Read a token. Line breaks and `>` marks that a mail has put between its parts do no harm.
 * @throws TokenError that says which part cannot be read.
 */
export function parseCaseToken(text: string): CaseToken {
  const parts = text
    .replace(/^[ \t>]+/gm, '')
    .trim()
    .split(/\s+/);
  const [version, file, digest, name, kernel] = parts;
  if (version !== VERSION) throw new TokenError(wrongStart(version ?? ''), WHOLE);
  const at = parts.findIndex((part, index) => index >= 5 && /^s\d+(;|$)/.test(part));
  if (kernel === undefined || at < 0) throw new TokenError(`${CUT}: its schedule is missing`, WHOLE);
  const last = parts.at(-1)!;
  if (!/^\.([0-9a-f]{4})?$/.test(last) || at === parts.length - 1)
    throw new TokenError(`${CUT}: its end is missing`, `${WHOLE}; end it in \` .\` to replay what is there`);
  // A schedule that was broken across lines has no blanks of its own.
  const whole = [...parts.slice(0, at), parts.slice(at, -1).join('')];
  if (last !== UNCHECKED && last !== `${UNCHECKED}${checkOf(whole.join(' '))}`)
    throw new TokenError(
      'the replay token has been changed: its check does not fit',
      `end it in \` .\` if you mean it`,
    );
  const marked = whole.slice(5, -1);
  // The seed may be the empty text.
  const stray = marked.find((part) => !/^([-+!?].|~)/.test(part));
  if (stray !== undefined)
    throw new TokenError(
      `\`${stray}\` is no part of a replay token`,
      'expected +behaviour, -behaviour, ~seed, !step or ?finding',
    );
  const having = (mark: string): string[] =>
    marked.filter((part) => part.startsWith(mark)).map((part) => unescapePart(part.slice(1)));
  return {
    file: unescapePart(file!),
    digest: digest!,
    case: name === '-' ? '' : unescapePart(name!),
    kernel,
    with: having('+'),
    without: having('-'),
    seed: having('~')[0] ?? '1',
    omitted: having('!'),
    shows: parseShown(having('?')[0]),
    schedule: unescapePart(whole.at(-1)!),
  };
}

function wrongStart(version: string): string {
  if (/^pinsim\d+$/.test(version)) return `this version of pinsim does not know replay tokens of form ${version}`;
  if (/^s\d+;/.test(version)) return 'this is a schedule alone, as the library prints it, and names no scenario';
  return `a replay token starts with \`${VERSION}\`, this one with \`${version}\``;
}

function parseShown(text: string | undefined): Shown | undefined {
  if (text === undefined) return undefined;
  const match = /^(no:)?([a-z-]+):([0-9a-f]{8})$/.exec(text);
  if (match === null) throw new TokenError(`\`?${text}\` names no finding`, 'expected ?kind:hash');
  return { kind: match[2]!, hash: match[3]!, absent: match[1] !== undefined };
}

/** The tokens in a text (a mail, a corpus file, a report), each once, in order; also when a mail has broken their lines. */
export function findTokens(text: string): readonly string[] {
  const starts = [...text.matchAll(/\bpinsim\d+(?=\s+\S)/g)].map(({ index }) => index);
  const found = starts.map((start, nth) => {
    const [part = ''] = text.slice(start, starts[nth + 1]).split(/['"`]|\n[ \t>]*\n/);
    const words = part.replace(/\s*\n[\s>]*/g, ' ').split(' ');
    const end = words.findIndex((word) => /^\.[0-9a-f]{4}$/.test(word));
    // Without its end it is cut, or never was one: whoever reads it says so.
    return end < 0 ? part.split('\n')[0]!.trim() : words.slice(0, end + 1).join(' ');
  });
  return [...new Set(found)];
}

/** 32 bits in hexadecimal of what the scenario says and of the machine of the case, whatever the layout of the file. */
export function scenarioDigest(scenario: Scenario, { host }: ScenarioCase): string {
  const { memory, processes, vms, devices, actors } = scenario;
  const text = JSON.stringify([memory, processes, vms, devices, actors, host], (key, value: unknown) => {
    if (key === 'where') return undefined;
    if (typeof value === 'bigint') return `${value}n`;
    if (key === 'operation') return (value as { name?: string }).name ?? value;
    return value;
  });
  return hashOf(text);
}
