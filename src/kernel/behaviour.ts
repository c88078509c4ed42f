// One thing that a kernel does or does not do, or does in one of several named ways: the shape of the data.
// The data itself is in behaviours/*.ts, one file per subject; catalogue.ts joins them and derives the types of ids.
import type { RangeSpec } from './version.ts';

/** Architectures that a profile can name. */
export const ARCHES = ['x86_64', 's390x', 'arm64'] as const;
export type Arch = (typeof ARCHES)[number];

/**
 * How a behaviour is known: read in the 6.1.192 / 6.12.117 sources, recorded on a running kernel, from changelogs of
 * stable backports and vulnerability records, from a mailing list or commit archive, or from memory only. Releases
 * between the two recorded ones are mostly known by commit; where one is not certain, `note` says so.
 */
export const EVIDENCE = ['source', 'observed', 'changelog', 'list', 'unverified'] as const;
export type Evidence = (typeof EVIDENCE)[number];

/** What one of several ways is, and where a kernel goes that way. Exactly one way has no `in`: it is taken otherwise. */
export interface Way {
  readonly summary: string;
  readonly in?: RangeSpec;
  readonly commit?: string;
  readonly arch?: readonly Arch[];
}

/** The facts of one behaviour; its id is the key under which the subject's file holds it. */
export interface BehaviourFacts {
  /** One sentence about the kernel that has it. For a fixed bug: what the fix makes it do. */
  readonly summary: string;
  /** 12 hex digits of the upstream commit(s) that brought it. */
  readonly commit?: string;
  /** Page and row of the reference that states it, such as `gup.md R14`. */
  readonly source: string;
  readonly evidence: Evidence;
  /** Where it holds. Absent exactly when `ways` is present. */
  readonly in?: RangeSpec;
  readonly ways?: Readonly<Record<string, Way>>;
  /** Only these architectures; absent: all. */
  readonly arch?: readonly Arch[];
  /** Only with this option (`CMA` for CONFIG_CMA) set to y or m. */
  readonly config?: string;
  /** Ids, or `id=way`, that must hold too. */
  readonly requires?: readonly string[];
  /** Ids, or `id=way`, that must not hold. Stated on one side, checked for both. */
  readonly excludes?: readonly string[];
  /** A design that was posted but never merged; off unless asked for. */
  readonly proposal?: boolean;
  /** What is not known about the ranges, or how the two recorded kernels were checked. */
  readonly note?: string;
}

/** A behaviour with its id, as questions and listings see it. */
export interface Behaviour extends BehaviourFacts {
  readonly id: string;
  /** File of the data that holds it: `gup`, `cow-fork`, ... */
  readonly subject: string;
}

/** Types a subject's data without widening the ids and the names of ways. */
export function subject<const T extends Readonly<Record<string, BehaviourFacts>>>(facts: T): T {
  return facts;
}
