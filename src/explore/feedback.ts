// What guides the mutation of workloads: those that reached something new are kept, and later ones are made from them.
// Taken epoch by epoch in the order of the plan, so that it does not matter who ran what, and when.
import type { Draws } from './draws.ts';

/** Workloads kept per family; the oldest make room. */
const KEPT_MAX = 256;

/** What a unit showed. */
export interface Lesson {
  /** Number of the unit in the plan. */
  readonly unit: number;
  /** Workloads of one family can be made from each other. */
  readonly family: string;
  /** Null: the workload as its author wrote it. */
  readonly workload: string | null;
  readonly features: Uint32Array;
}

/** A workload that an epoch added. */
export interface Kept {
  readonly family: string;
  readonly workload: string;
}

export class Feedback {
  private readonly seen = new Set<number>();
  private readonly kept = new Map<string, string[]>();

  /** Features seen so far. */
  get size(): number {
    return this.seen.size;
  }

  has(feature: number): boolean {
    return this.seen.has(feature);
  }

  /** Learn from the units of one epoch. Returns what was new: features, and workloads that showed some. */
  learn(lessons: readonly Lesson[]): { readonly features: readonly number[]; readonly kept: readonly Kept[] } {
    const features: number[] = [];
    const kept: Kept[] = [];
    for (const { family, workload, features: shown } of [...lessons].sort((a, b) => a.unit - b.unit)) {
      const before = features.length;
      for (const feature of shown) {
        if (this.seen.has(feature)) continue;
        this.seen.add(feature);
        features.push(feature);
      }
      if (workload !== null && features.length > before) {
        kept.push({ family, workload });
        this.keep({ family, workload });
      }
    }
    return { features, kept };
  }

  /** Go on from what was learned before. */
  restore(features: Iterable<number>, kept: readonly Kept[]): void {
    for (const feature of features) this.seen.add(feature);
    for (const one of kept) this.keep(one);
  }

  private keep({ family, workload }: Kept): void {
    const workloads = this.kept.get(family) ?? [];
    this.kept.set(family, workloads);
    workloads.push(workload);
    if (workloads.length > KEPT_MAX) workloads.shift();
  }

  /** A workload to start from: the author's (null) in one of four cases, else one that was kept, newer ones rather. */
  pick(family: string, draws: Draws): string | null {
    const workloads = this.kept.get(family);
    if (draws.below(4) === 0 || workloads === undefined) return null;
    return workloads[Math.max(draws.below(workloads.length), draws.below(workloads.length))]!;
  }
}
