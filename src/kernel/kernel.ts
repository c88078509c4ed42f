// The kernel of one world: every behaviour resolved once into a plain answer, and the questions that were asked.
// Model code asks here at the one place where a behaviour matters and never compares versions.
import type { Behaviour, Way } from './behaviour.ts';
import { BEHAVIOURS, type BehaviourId, findBehaviour, type SwitchId, type WayId, type WayOf } from './catalogue.ts';
import { type Config, isSet } from './config.ts';
import { KernelError } from './error.ts';
import { type Profile, resolveProfile } from './profile.ts';
import { suggest } from './suggest.ts';
import { describeRange, type RangeSpec, VersionRange } from './version.ts';

/** Has it or not, or the name of the way it goes. */
export type Answer = boolean | string;

/** What a user changes in a profile. Behaviours with ways are written `id=way` in `with`. */
export interface KernelChanges {
  readonly with?: readonly string[];
  readonly without?: readonly string[];
  /** Options set or unset on top of the profile's. */
  readonly config?: Config;
}

interface Resolved {
  readonly behaviour: Behaviour;
  answer: Answer;
  asked: boolean;
  /** The argument by which the user set it; undefined: the profile's own answer. */
  chosenBy: string | undefined;
}

/** A kernel: a profile with behaviours added and removed. Immutable but for the record of questions. */
export class Kernel {
  readonly profile: Profile;
  /** What it was built with, as given. */
  readonly changes: KernelChanges;
  readonly #answers: ReadonlyMap<string, Resolved>;

  /** Throws KernelError for a kernel, behaviour or way that is unknown and for a combination that cannot exist. */
  constructor(profile: string | Profile, changes: KernelChanges = {}) {
    this.profile = withOptions(profile, changes.config);
    this.changes = changes;
    const answers = new Map<string, Resolved>();
    for (const behaviour of BEHAVIOURS) {
      const answer = profileAnswer(behaviour, this.profile);
      answers.set(behaviour.id, { behaviour, answer, asked: false, chosenBy: undefined });
    }
    for (const argument of changes.with ?? []) add(argument, answers, this.profile);
    for (const argument of changes.without ?? []) remove(argument, answers);
    for (const resolved of answers.values()) checkCombination(resolved, answers, this.profile);
    this.#answers = answers;
  }

  /** Whether this kernel has the behaviour; the question is recorded. */
  has(id: SwitchId): boolean {
    return this.#ask(id) === true;
  }

  /** Which of the named ways this kernel goes; the question is recorded. */
  way<K extends WayId>(id: K): WayOf<K> {
    return this.#ask(id) as WayOf<K>;
  }

  /** The answer without recording a question: for reports and listings, not for the model. */
  answer(id: BehaviourId): Answer {
    return this.#answers.get(id)!.answer;
  }

  /** Whether a condition as `requires` has it (`id`, or `id=way`) holds; not recorded. */
  meets(condition: string): boolean {
    return isSo(condition, this.#answers);
  }

  /** The questions asked so far with their answers, in the order of the catalogue. */
  asked(): ReadonlyMap<BehaviourId, Answer> {
    const asked = new Map<BehaviourId, Answer>();
    for (const [id, resolved] of this.#answers) if (resolved.asked) asked.set(id as BehaviourId, resolved.answer);
    return asked;
  }

  /** Record questions anew, as if only these had been asked so far: a world that is used again tells what it asks now. */
  recordAnew(asked: ReadonlyMap<BehaviourId, Answer>): void {
    for (const [id, resolved] of this.#answers) resolved.asked = asked.has(id as BehaviourId);
  }

  /** The answers in which this kernel differs from its profile because the user chose so, in catalogue order. */
  chosen(): ReadonlyMap<BehaviourId, Answer> {
    const chosen = new Map<BehaviourId, Answer>();
    for (const [id, resolved] of this.#answers)
      if (resolved.answer !== profileAnswer(resolved.behaviour, this.profile))
        chosen.set(id as BehaviourId, resolved.answer);
    return chosen;
  }

  #ask(id: BehaviourId): Answer {
    const resolved = this.#answers.get(id)!;
    resolved.asked = true;
    return resolved.answer;
  }
}

function withOptions(profile: string | Profile, config: Config | undefined): Profile {
  if (typeof profile === 'string') return resolveProfile(profile, config);
  return config === undefined ? profile : resolveProfile(profile.name, { ...profile.config, ...config });
}

/** What the profile says by itself. A behaviour with ways whose architecture it lacks goes the way without a range. */
export function profileAnswer(behaviour: Behaviour, profile: Profile): Answer {
  if (behaviour.ways === undefined) return unfit(behaviour, profile) === undefined && holds(behaviour.in, profile);
  let otherwise = '';
  for (const [name, way] of Object.entries(behaviour.ways)) {
    if (way.in === undefined) otherwise = name;
    else if (fits(way, profile) && holds(way.in, profile)) return name;
  }
  return otherwise;
}

const RANGES = new Map<RangeSpec, VersionRange>();

function holds(spec: RangeSpec | undefined, profile: Profile): boolean {
  if (spec === undefined) return false;
  let range = RANGES.get(spec);
  if (range === undefined) {
    range = new VersionRange(spec);
    RANGES.set(spec, range);
  }
  return range.includes(profile.version);
}

function fits(way: Way, profile: Profile): boolean {
  return way.arch === undefined || way.arch.includes(profile.arch);
}

/** Why the profile cannot have the behaviour whatever its version, or undefined. */
function unfit(behaviour: Behaviour, profile: Profile): { kind: 'arch' | 'config'; reason: string } | undefined {
  if (behaviour.arch !== undefined && !behaviour.arch.includes(profile.arch))
    return {
      kind: 'arch',
      reason: `it exists on ${behaviour.arch.join(', ')}, and ${profile.name} is ${profile.arch}`,
    };
  if (behaviour.config !== undefined && !isSet(profile.config, behaviour.config))
    return { kind: 'config', reason: `it needs CONFIG_${behaviour.config}, which ${profile.name} does not set` };
  return undefined;
}

function add(argument: string, answers: ReadonlyMap<string, Resolved>, profile: Profile): void {
  const { resolved, wayName } = lookUp('with', argument, answers);
  const { behaviour } = resolved;
  const obstacle = unfit(behaviour, profile);
  if (obstacle !== undefined)
    throw new KernelError(obstacle.kind, argument, `--with ${argument} is impossible`, obstacle.reason);
  if (behaviour.ways === undefined) {
    if (wayName !== undefined)
      throw new KernelError(
        'malformed',
        argument,
        `--with ${argument}`,
        `${behaviour.id} is on or off and has no ways`,
      );
    choose(resolved, true, argument);
    return;
  }
  const names = Object.keys(behaviour.ways);
  if (wayName === undefined)
    throw new KernelError(
      'malformed',
      argument,
      `--with ${argument}`,
      `say which way: ${behaviour.id}=${names.join('|')}`,
    );
  const way = behaviour.ways[wayName];
  if (way === undefined)
    throw new KernelError(
      'unknown-way',
      argument,
      `${behaviour.id} has no way '${wayName}'`,
      `its ways are ${names.join(', ')}`,
      suggest(wayName, names).map((name) => `${behaviour.id}=${name}`),
    );
  if (!fits(way, profile))
    throw new KernelError(
      'arch',
      argument,
      `--with ${argument} is impossible`,
      `that way exists on ${way.arch?.join(', ')}, and ${profile.name} is ${profile.arch}`,
    );
  choose(resolved, wayName, argument);
}

function remove(argument: string, answers: ReadonlyMap<string, Resolved>): void {
  const { resolved, wayName } = lookUp('without', argument, answers);
  if (resolved.behaviour.ways !== undefined || wayName !== undefined)
    throw new KernelError(
      'malformed',
      argument,
      `--without ${argument}`,
      resolved.behaviour.ways === undefined
        ? `${resolved.behaviour.id} is on or off and has no ways`
        : `a behaviour with several ways always goes one of them; use --with ${resolved.behaviour.id}=${Object.keys(resolved.behaviour.ways).join('|')}`,
    );
  choose(resolved, false, argument);
}

function choose(resolved: Resolved, answer: Answer, argument: string): void {
  if (resolved.chosenBy !== undefined && resolved.answer !== answer)
    throw new KernelError(
      'contradiction',
      argument,
      `${given(argument, answer)} contradicts ${given(resolved.chosenBy, resolved.answer)}`,
      `${resolved.behaviour.id} was asked to be ${say(resolved.answer)} and ${say(answer)}`,
    );
  resolved.answer = answer;
  resolved.chosenBy = argument;
}

/** The change as a command line has it. */
function given(argument: string, answer: Answer): string {
  return `--${answer === false ? 'without' : 'with'} ${argument}`;
}

function say(answer: Answer): string {
  if (typeof answer === 'string') return `'${answer}'`;
  return answer ? 'on' : 'off';
}

function lookUp(option: 'with' | 'without', argument: string, answers: ReadonlyMap<string, Resolved>) {
  const [id = '', ...rest] = argument.split('=');
  const resolved = answers.get(id);
  if (resolved === undefined)
    throw new KernelError(
      'unknown-behaviour',
      argument,
      `--${option} ${argument}`,
      `there is no behaviour '${id}'`,
      suggest(id, answers.keys()),
    );
  return { resolved, wayName: rest.length === 0 ? undefined : rest.join('=') };
}

/** `id` means on; `id=way` means that way. */
function isSo(condition: string, answers: ReadonlyMap<string, Resolved>): boolean {
  const [id = '', way] = condition.split('=');
  return answers.get(id)?.answer === (way ?? true);
}

function checkCombination(resolved: Resolved, answers: ReadonlyMap<string, Resolved>, profile: Profile): void {
  if (resolved.answer !== true) return;
  const { behaviour } = resolved;
  for (const condition of behaviour.requires ?? [])
    if (!isSo(condition, answers))
      throw impossible('requires', resolved, condition, `which ${absence(condition, answers, profile)}`, answers);
  for (const condition of behaviour.excludes ?? [])
    if (isSo(condition, answers))
      throw impossible('excludes', resolved, condition, `which ${presence(condition, answers, profile)}`, answers);
}

function impossible(
  kind: 'requires' | 'excludes',
  resolved: Resolved,
  condition: string,
  because: string,
  answers: ReadonlyMap<string, Resolved>,
): KernelError {
  const other = answers.get(condition.split('=')[0]!);
  const chosen = resolved.chosenBy !== undefined ? resolved : other?.chosenBy !== undefined ? other : undefined;
  const rule = `${resolved.behaviour.id} ${kind} ${condition}`;
  const reason = `${rule}, ${because}`;
  if (chosen === undefined) return new KernelError(kind, resolved.behaviour.id, 'no kernel can be so', reason);
  const offending = chosen.chosenBy!;
  // The profile's own behaviour stands in the way of the change: it has to go, too.
  const why = chosen === other ? `${rule}; add --without ${resolved.behaviour.id}` : reason;
  return new KernelError(kind, offending, `${given(offending, chosen.answer)} is impossible`, why);
}

function absence(condition: string, answers: ReadonlyMap<string, Resolved>, profile: Profile): string {
  const id = condition.split('=')[0]!;
  const resolved = answers.get(id);
  if (resolved?.chosenBy !== undefined) return `is switched off by ${given(resolved.chosenBy, resolved.answer)}`;
  const range = findBehaviour(id)?.in;
  return `${profile.name} does not have${range === undefined ? '' : ` (${describeRange(range)})`}; add --with ${condition}`;
}

function presence(condition: string, answers: ReadonlyMap<string, Resolved>, profile: Profile): string {
  const resolved = answers.get(condition.split('=')[0]!);
  if (resolved?.chosenBy !== undefined) return `is switched on by ${given(resolved.chosenBy, resolved.answer)}`;
  return `${profile.name} has; add --without ${condition}`;
}
