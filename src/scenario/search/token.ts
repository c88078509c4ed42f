// A replay token: one line that can be pasted into a mail. It names the scenario, what it looked like, the kernel and
// the schedule:
//   pinsim1 scenarios/bugs/x.yaml 8f3a01c2 fix%20off v6.1.192 +a.behaviour -another s1;a@label;b
// Behaviours beside the kernel are those that the command line or the case switched. Parts are separated by blanks; a
// blank within a part is written %20.
import { hashText, mix } from '../../engine/hash.ts';
import { canonicalKernel } from '../catalogue.ts';
import type { Scenario, ScenarioCase } from '../scenario.ts';

const VERSION = 'pinsim1';

export interface CaseToken {
  readonly file: string;
  /** Of the scenario's meaning: comments and layout do not count. */
  readonly digest: string;
  /** The name of the case in the file. */
  readonly case: string;
  readonly kernel: string;
  readonly with: readonly string[];
  readonly without: readonly string[];
  /** Seed of the world's own streams. */
  readonly seed: string;
  /** As `printToken` of the explorer writes it. */
  readonly schedule: string;
}

const escapePart = (text: string): string =>
  text.replace(/[%\s]/g, (c) => `%${c.charCodeAt(0).toString(16).padStart(2, '0')}`);
const unescapePart = (text: string): string =>
  text.replace(/%([0-9a-f]{2})/g, (_, hex: string) => String.fromCharCode(Number.parseInt(hex, 16)));

/** The token of a schedule found in `one`. */
export function caseToken(scenario: Scenario, one: ScenarioCase, seed: string, schedule: string): CaseToken {
  return {
    file: scenario.file,
    digest: scenarioDigest(scenario),
    case: one.name,
    kernel: canonicalKernel(one.kernel),
    with: one.with,
    without: one.without,
    seed,
    schedule,
  };
}

export function printCaseToken(token: CaseToken): string {
  return [
    VERSION,
    escapePart(token.file),
    token.digest,
    escapePart(token.case),
    token.kernel,
    ...token.with.map((behaviour) => `+${behaviour}`),
    ...token.without.map((behaviour) => `-${behaviour}`),
    ...(token.seed === '1' ? [] : [`~${escapePart(token.seed)}`]),
    escapePart(token.schedule),
  ].join(' ');
}

/** @throws Error that says which part cannot be read. */
export function parseCaseToken(text: string): CaseToken {
  const [version, file, digest, name, kernel, ...rest] = text.trim().split(/\s+/);
  if (version !== VERSION) throw new Error(`a replay token starts with \`${VERSION} \`, this one with \`${version}\``);
  const schedule = rest.pop();
  if (kernel === undefined || schedule === undefined || !schedule.startsWith('s1'))
    throw new Error('the replay token has been cut: its last part is the schedule, which starts with `s1`');
  const marked = (mark: string): string[] =>
    rest.filter((part) => part.startsWith(mark)).map((part) => unescapePart(part.slice(1)));
  const stray = rest.find((part) => !/^[-+~]/.test(part));
  if (stray !== undefined)
    throw new Error(`\`${stray}\` is no part of a replay token: expected +behaviour or -behaviour`);
  return {
    file: unescapePart(file!),
    digest: digest!,
    case: unescapePart(name!),
    kernel,
    with: marked('+'),
    without: marked('-'),
    seed: marked('~')[0] ?? '1',
    schedule: unescapePart(schedule),
  };
}

/** 64 bits in hexadecimal of what the scenario says, whatever its layout. */
export function scenarioDigest(scenario: Scenario): string {
  const { memory, processes, vms, devices, actors } = scenario;
  const text = JSON.stringify([memory, processes, vms, devices, actors], (key, value: unknown) => {
    if (key === 'where') return undefined;
    if (typeof value === 'bigint') return `${value}n`;
    if (key === 'operation') return (value as { name?: string }).name ?? value;
    return value;
  });
  const hex = (n: number): string => (n >>> 0).toString(16).padStart(8, '0');
  return hex(mix(hashText(text), text.length));
}
