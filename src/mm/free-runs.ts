// Free memory of a zone as runs of frames: what the buddy allocator (mm/page_alloc.c) knows, without its orders.
import { PMD_PAGES } from '../hw/machine.ts';
import type { CoreMm, ZoneState } from './core.ts';

/**
 * Cut up to `want` frames, aligned, from the first run that has them (at least `align` of them). Isolated pageblocks
 * (MIGRATE_ISOLATE) give nothing. In a step that announced the free runs and the isolated blocks.
 */
export function takeRun(state: ZoneState, want: number, align: number): readonly [number, number] | undefined {
  const runs = state.freeRuns.value;
  const isolated = state.isolated.value;
  for (let i = 0; i < runs.length; i++) {
    const [first, count] = runs[i]!;
    for (const [low, high] of isolated.length === 0
      ? [[first, first + count] as const]
      : usable(first, count, isolated)) {
      const start = Math.ceil(low / align) * align;
      const available = high - start;
      if (available < align) continue;
      const pages = Math.min(want, align === 1 ? available : want);
      if (available < pages) continue;
      const rest: (readonly [number, number])[] = [];
      if (start > first) rest.push([first, start - first]);
      if (start + pages < first + count) rest.push([start + pages, first + count - start - pages]);
      state.freeRuns.value = [...runs.slice(0, i), ...rest, ...runs.slice(i + 1)];
      state.freePages.add(-pages);
      return [start, pages];
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

/**
 * __free_one_page: put a run on its zone's free list, merged with its neighbours. The list is kept in address order.
 */
export function giveBack(core: CoreMm, first: number, pages: number): void {
  const state = core.zones[core.machine.zoneOf(first)!.index]!;
  const runs = state.freeRuns.value;
  let at = 0;
  for (let high = runs.length; at < high; ) {
    const middle = (at + high) >> 1;
    if (runs[middle]![0] < first) at = middle + 1;
    else high = middle;
  }
  let start = first;
  let end = first + pages;
  let from = at;
  let to = at;
  const before = runs[at - 1];
  if (before !== undefined && before[0] + before[1] === first) {
    start = before[0];
    from = at - 1;
  }
  const after = runs[at];
  if (after !== undefined && after[0] === end) {
    end = after[0] + after[1];
    to = at + 1;
  }
  state.freeRuns.value = [...runs.slice(0, from), [start, end - start], ...runs.slice(to)];
  state.freePages.add(pages);
}
