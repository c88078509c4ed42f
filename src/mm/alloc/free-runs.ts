// Free memory of a zone as runs of frames: what the buddy allocator (mm/page_alloc.c) knows, without its orders.
import { OrderedTable } from '../../engine/ordered.ts';
import type { Sim } from '../../engine/sim.ts';
import type { Announced, Step } from '../../engine/step.ts';
import { PMD_PAGES } from '../../hw/machine.ts';
import type { CoreMm, ZoneState } from '../core.ts';

export type Run = readonly [first: number, pages: number];

/**
 * The free runs of one zone, in address order, which is also the order in which they are handed out. Neighbours are
 * always merged. A tree, because memory that reclaim frees page by page lies in tens of thousands of runs.
 */
export class FreeRuns {
  private readonly sim: Sim;
  /** Pages of a run by its first frame. */
  private readonly runs: OrderedTable<number>;

  constructor(sim: Sim, name: string, first: number, pages: number) {
    this.sim = sim;
    this.runs = new OrderedTable<number>(sim, name);
    if (pages > 0) this.runs.set(first, pages);
  }

  willRead(at: Step): Announced {
    return this.runs.willRead(at);
  }

  willUpdate(at: Step): Announced {
    return this.runs.willUpdate(at);
  }

  willPerhaps(at: Step): Announced {
    return this.runs.willPerhaps(at);
  }

  /** All of them: for who goes through the whole zone. */
  get value(): readonly Run[] {
    return this.runs.entries();
  }

  set value(runs: readonly Run[]) {
    for (const [first] of this.runs.entries()) this.runs.delete(first);
    for (const [first, pages] of runs) this.runs.set(first, pages);
  }

  /** Look without a step. */
  peek(): readonly Run[] {
    return this.sim.unwatched(() => this.value);
  }

  /** The lowest free frame; looks without a step. */
  peekLowest(): number | undefined {
    return this.sim.unwatched(() => this.runs.ceiling(0)?.[0]);
  }

  /** The first run that starts at `pfn` or later. */
  from(pfn: number): Run | undefined {
    return this.runs.ceiling(pfn);
  }

  /** The highest free frame. */
  get highest(): number | undefined {
    const last = this.runs.floor(Number.MAX_SAFE_INTEGER);
    return last === undefined ? undefined : last[0] + last[1] - 1;
  }

  /** The lowest place, a multiple of `align`, from which `pages` frames are free. Visits each aligned place once at most. */
  place(pages: number, align: number): number | undefined {
    for (let run = this.from(0); run !== undefined; ) {
      const start = Math.ceil(run[0] / align) * align;
      // The run over `start` is this one, or a later one that starts no later than that.
      const over = this.runs.floor(start)!;
      if (start + pages <= over[0] + over[1]) return start;
      run = this.from(start + 1);
    }
    return undefined;
  }

  /** Take [first, first + pages), which lies in one run. */
  cut(first: number, pages: number): void {
    const run = this.runs.floor(first);
    if (run === undefined || run[0] + run[1] < first + pages) throw new Error(`frame ${first} is not free`);
    const end = run[0] + run[1];
    if (run[0] < first) this.runs.set(run[0], first - run[0]);
    else this.runs.delete(first);
    if (end > first + pages) this.runs.set(first + pages, end - first - pages);
  }

  /** Add a run, merged with its neighbours. */
  add(first: number, pages: number): void {
    const before = this.runs.floor(first);
    const after = this.runs.ceiling(first + pages);
    let start = first;
    let end = first + pages;
    if (after !== undefined && after[0] === end) {
      this.runs.delete(end);
      end += after[1];
    }
    if (before !== undefined && before[0] + before[1] === first) start = before[0];
    this.runs.set(start, end - start);
  }
}

/**
 * Cut up to `want` frames, aligned, from the first run that has them (at least `align` of them). Isolated pageblocks
 * (MIGRATE_ISOLATE) give nothing. In a step that announced the free runs and the isolated blocks.
 */
export function takeRun(state: ZoneState, want: number, align: number): Run | undefined {
  const { freeRuns } = state;
  const isolated = state.isolated.value;
  const run = isolated.length === 0 ? firstRun(freeRuns, want, align) : firstUsable(freeRuns, want, align, isolated);
  if (run === undefined) return undefined;
  freeRuns.cut(run[0], run[1]);
  state.freePages.add(-run[1]);
  return run;
}

function firstRun(runs: FreeRuns, want: number, align: number): Run | undefined {
  if (align > 1) {
    const start = runs.place(want, align);
    return start === undefined ? undefined : [start, want];
  }
  const run = runs.from(0);
  return run === undefined ? undefined : [run[0], Math.min(want, run[1])];
}

function firstUsable(runs: FreeRuns, want: number, align: number, isolated: readonly number[]): Run | undefined {
  for (const [first, count] of runs.value) {
    for (const [low, high] of usable(first, count, isolated)) {
      const start = Math.ceil(low / align) * align;
      const available = high - start;
      const pages = align === 1 ? Math.min(want, available) : want;
      if (available >= align && available >= pages) return [start, pages];
    }
  }
  return undefined;
}

/** The parts [low, high) of a run outside the isolated pageblocks. */
function usable(first: number, count: number, isolated: readonly number[]): (readonly [number, number])[] {
  const parts: (readonly [number, number])[] = [];
  let low = first;
  for (const block of [...isolated].sort((a, b) => a - b)) {
    if (block + PMD_PAGES <= low || block >= first + count) continue;
    if (block > low) parts.push([low, block]);
    low = block + PMD_PAGES;
  }
  if (low < first + count) parts.push([low, first + count]);
  return parts;
}

/** __free_one_page: put a run on its zone's free list, merged with its neighbours. */
export function giveBack(core: CoreMm, first: number, pages: number): void {
  const state = core.zones[core.machine.zoneOf(first)!.index]!;
  state.freeRuns.add(first, pages);
  state.freePages.add(pages);
}
