// Every behaviour known, in one place, and the types of their ids, so that a misspelt id does not compile.
import type { Behaviour, BehaviourFacts } from './behaviour.ts';
import { cowFork } from './behaviours/cow-fork.ts';
import { gup } from './behaviours/gup.ts';
import { proposals } from './behaviours/proposals.ts';
import { type1 } from './behaviours/type1.ts';

const SUBJECTS = {
  gup,
  'cow-fork': cowFork,
  type1,
  proposals,
} as const satisfies Readonly<Record<string, Readonly<Record<string, BehaviourFacts>>>>;

type Subjects = typeof SUBJECTS;
type Facts = typeof gup & typeof cowFork & typeof type1 & typeof proposals;

/** Subject of the data: the file that holds it. */
export type Subject = keyof Subjects;
/** The id of any behaviour. */
export type BehaviourId = keyof Facts;
/** Behaviours that have several named ways; asked with `Kernel.way`. */
export type WayId = { [K in BehaviourId]: Facts[K] extends { readonly ways: object } ? K : never }[BehaviourId];
/** Behaviours that a kernel has or has not; asked with `Kernel.has`. */
export type SwitchId = Exclude<BehaviourId, WayId>;
/** The names of the ways of one behaviour. */
export type WayOf<K extends WayId> = Facts[K] extends { readonly ways: infer W } ? keyof W & string : never;

/** Every behaviour, in the order of the data; the order of every listing. */
export const BEHAVIOURS: readonly Behaviour[] = Object.entries(SUBJECTS).flatMap(([name, facts]) =>
  Object.entries<BehaviourFacts>(facts).map(([id, fact]) => ({ ...fact, id, subject: name })),
);

const BY_ID: ReadonlyMap<string, Behaviour> = new Map(BEHAVIOURS.map((behaviour) => [behaviour.id, behaviour]));

/** The behaviour of that id, or undefined. */
export function findBehaviour(id: string): Behaviour | undefined {
  return BY_ID.get(id);
}
