// Every behaviour known, in one place, and the types of their ids, so that a misspelt id does not compile.
import type { Behaviour, BehaviourFacts } from './behaviour.ts';
import { accounting } from './behaviours/accounting.ts';
import { cowFork } from './behaviours/cow-fork.ts';
import { gup } from './behaviours/gup.ts';
import { gupLongterm } from './behaviours/gup-longterm.ts';
import { hugetlb } from './behaviours/hugetlb.ts';
import { iommu } from './behaviours/iommu.ts';
import { iouring } from './behaviours/iouring.ts';
import { kvm } from './behaviours/kvm.ts';
import { kvmArch } from './behaviours/kvm-arch.ts';
import { kvmObjects } from './behaviours/kvm-objects.ts';
import { migration } from './behaviours/migration.ts';
import { notifier } from './behaviours/notifier.ts';
import { proposals } from './behaviours/proposals.ts';
import { reclaim } from './behaviours/reclaim.ts';
import { thp } from './behaviours/thp.ts';
import { tlb } from './behaviours/tlb.ts';
import { type1 } from './behaviours/type1.ts';
import { writeback } from './behaviours/writeback.ts';

const SUBJECTS = {
  gup,
  'gup-longterm': gupLongterm,
  'cow-fork': cowFork,
  thp,
  reclaim,
  tlb,
  migration,
  writeback,
  notifier,
  type1,
  kvm,
  'kvm-objects': kvmObjects,
  'kvm-arch': kvmArch,
  iommu,
  hugetlb,
  accounting,
  iouring,
  proposals,
} as const satisfies Readonly<Record<string, Readonly<Record<string, BehaviourFacts>>>>;

type Subjects = typeof SUBJECTS;
type Facts = typeof gup &
  typeof gupLongterm &
  typeof cowFork &
  typeof thp &
  typeof reclaim &
  typeof tlb &
  typeof migration &
  typeof writeback &
  typeof notifier &
  typeof type1 &
  typeof kvm &
  typeof kvmObjects &
  typeof kvmArch &
  typeof iommu &
  typeof hugetlb &
  typeof accounting &
  typeof iouring &
  typeof proposals;

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

/** A behaviour of the catalogue. */
export type KnownBehaviour = Behaviour & { readonly id: BehaviourId };

/** Every behaviour, in the order of the data; the order of every listing. */
export const BEHAVIOURS: readonly KnownBehaviour[] = Object.entries(SUBJECTS).flatMap(([name, facts]) =>
  Object.entries<BehaviourFacts>(facts).map(([id, fact]) => ({ ...fact, id: id as BehaviourId, subject: name })),
);

const BY_ID: ReadonlyMap<string, KnownBehaviour> = new Map(BEHAVIOURS.map((behaviour) => [behaviour.id, behaviour]));

/** The behaviour of that id, or undefined. */
export function findBehaviour(id: string): KnownBehaviour | undefined {
  return BY_ID.get(id);
}
