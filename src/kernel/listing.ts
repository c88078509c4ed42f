// Plain data for `list kernels`, `list behaviours` and `explain <behaviour>`; printing is for others.
import type { Behaviour, Evidence } from './behaviour.ts';
import { BEHAVIOURS, findBehaviour } from './catalogue.ts';
import { KernelError } from './error.ts';
import { type Answer, type Kernel, profileAnswer } from './kernel.ts';
import { namedProfiles } from './profile.ts';
import { suggest } from './suggest.ts';
import { isAsked } from './unasked.ts';
import { describeRange } from './version.ts';

/** One line of `list kernels`. */
export interface KernelLine {
  readonly name: string;
  readonly arch: string;
  readonly note: string;
  /** How many switches of the catalogue this kernel has. */
  readonly behaviours: number;
}

/** The named kernels, oldest first. Other releases of the same series can be named too. */
export function listKernels(): readonly KernelLine[] {
  return namedProfiles().map((profile) => ({
    name: profile.name,
    arch: profile.arch,
    note: profile.note,
    behaviours: BEHAVIOURS.filter((behaviour) => profileAnswer(behaviour, profile) === true).length,
  }));
}

/** One line of `list behaviours`. */
export interface BehaviourLine {
  readonly id: string;
  readonly subject: string;
  readonly summary: string;
  /** The releases in words; for a behaviour with ways, its ways. */
  readonly where: string;
  readonly evidence: Evidence;
  readonly proposal: boolean;
  /** Whether any part of the model asks about it yet. */
  readonly asked: boolean;
  /** What the kernel asked about answers; absent when none was named. */
  readonly answer?: Answer;
}

/** All behaviours in catalogue order, with the answers of one kernel if one is given. */
export function listBehaviours(kernel?: Kernel): readonly BehaviourLine[] {
  return BEHAVIOURS.map((behaviour) => {
    const line = {
      id: behaviour.id,
      subject: behaviour.subject,
      summary: behaviour.summary,
      where: whereabouts(behaviour),
      evidence: behaviour.evidence,
      proposal: behaviour.proposal === true,
      asked: isAsked(behaviour.id),
    };
    return kernel === undefined ? line : { ...line, answer: kernel.answer(behaviour.id) };
  });
}

function whereabouts(behaviour: Behaviour): string {
  if (behaviour.ways === undefined) return describeRange(behaviour.in ?? 'never');
  return Object.entries(behaviour.ways)
    .map(([name, way]) => `${name}: ${way.in === undefined ? 'otherwise' : describeRange(way.in)}`)
    .join('; ');
}

/** One way of a behaviour, as `explain` shows it. */
export interface WayLine {
  readonly name: string;
  readonly summary: string;
  readonly where: string;
  readonly commit: string;
}

/** Everything known of one behaviour. Texts are empty where nothing is known. */
export interface Explanation {
  readonly id: string;
  readonly subject: string;
  readonly summary: string;
  readonly where: string;
  readonly commit: string;
  readonly source: string;
  readonly evidence: Evidence;
  readonly arch: readonly string[];
  readonly config: string;
  readonly requires: readonly string[];
  readonly requiredBy: readonly string[];
  readonly excludes: readonly string[];
  readonly ways: readonly WayLine[];
  readonly proposal: boolean;
  readonly note: string;
  /** The answer of each named kernel, oldest first. */
  readonly answers: readonly { readonly kernel: string; readonly answer: Answer }[];
}

/** Throws KernelError (`unknown-behaviour`) with suggestions. */
export function explainBehaviour(id: string): Explanation {
  const behaviour = findBehaviour(id);
  if (behaviour === undefined) {
    const near = suggest(
      id,
      BEHAVIOURS.map((known) => known.id),
    );
    throw new KernelError('unknown-behaviour', id, `cannot explain '${id}'`, 'there is no such behaviour', near);
  }
  return {
    id,
    subject: behaviour.subject,
    summary: behaviour.summary,
    where: whereabouts(behaviour),
    commit: behaviour.commit ?? '',
    source: behaviour.source,
    evidence: behaviour.evidence,
    arch: behaviour.arch ?? [],
    config: behaviour.config ?? '',
    requires: behaviour.requires ?? [],
    requiredBy: BEHAVIOURS.filter((other) => mentions(other.requires, id)).map((other) => other.id),
    excludes: [
      ...(behaviour.excludes ?? []),
      ...BEHAVIOURS.filter((other) => mentions(other.excludes, id)).map((other) => other.id),
    ],
    ways: Object.entries(behaviour.ways ?? {}).map(([name, way]) => ({
      name,
      summary: way.summary,
      where: way.in === undefined ? 'otherwise' : describeRange(way.in),
      commit: way.commit ?? '',
    })),
    proposal: behaviour.proposal === true,
    note: behaviour.note ?? '',
    answers: namedProfiles().map((profile) => ({ kernel: profile.name, answer: profileAnswer(behaviour, profile) })),
  };
}

function mentions(conditions: readonly string[] | undefined, id: string): boolean {
  return conditions?.some((condition) => condition.split('=')[0] === id) ?? false;
}
