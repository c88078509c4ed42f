// struct resv_map (mm/hugetlb.c region_chg, region_add, region_del, region_count): a set of huge pages of a file. Of the
// file itself: those that are promised to shared mappings, or in use. Of a private mapping: those whose promise is used up.
import { Column } from '../../engine/column.ts';
import { hashText, mix } from '../../engine/hash.ts';
import type { Sim } from '../../engine/sim.ts';
import type { Announced, Step } from '../../engine/step.ts';

/** Huge pages of 2 MiB that a file can have. */
const ROWS = 2 ** 23;

export class ResvMap {
  readonly name: string;
  readonly identity: number;
  /** 1: in the set. By index in the file, in huge pages; each is an object of its own. */
  private readonly regions: Column;

  /** `name` must not depend on the interleaving. */
  constructor(sim: Sim, name: string) {
    this.name = name;
    this.identity = mix(hashText(name), 0x72657376);
    this.regions = new Column(sim, name, { rows: ROWS, sparse: true, width: 'u8' });
  }

  /** Announce a look at [from, to). */
  willCount(from: number, to: number, at: Step): Announced {
    return this.regions.willReadRange(from, Math.min(to, ROWS) - 1, at);
  }

  /** Announce a change of [from, to). */
  willChange(from: number, to: number, at: Step): Announced {
    return this.regions.willUpdateRange(from, Math.min(to, ROWS) - 1, at);
  }

  has(index: number): boolean {
    return this.regions.get(index) !== 0;
  }

  /** region_count: how many of [from, to) are in the set. */
  count(from: number, to: number): number {
    return this.runs(from, to).reduce((sum, [first, last]) => sum + last - first + 1, 0);
  }

  /** region_add: returns how many of [from, to) were not in the set before. */
  add(from: number, to: number): number {
    const added = to - from - this.count(from, to);
    if (added > 0) this.regions.fill(from, to - 1, 1);
    return added;
  }

  /** region_del: returns how many of [from, to) were in the set. */
  delete(from: number, to: number): number {
    let deleted = 0;
    for (const [first, last] of this.runs(from, to)) {
      this.regions.fill(first, last, 0);
      deleted += last - first + 1;
    }
    return deleted;
  }

  /** The stretches [first, last] of the set in [from, to). */
  private runs(from: number, to: number): (readonly [number, number])[] {
    const end = Math.min(to, ROWS) - 1;
    const found: (readonly [number, number])[] = [];
    if (from > end) return found;
    // One look stands for the range that was announced.
    void this.regions.get(from);
    for (let index = from; index <= end; ) {
      const last = this.regions.endOfRun(index, end);
      if (this.regions.peek(index) !== 0) found.push([index, last]);
      index = last + 1;
    }
    return found;
  }
}
