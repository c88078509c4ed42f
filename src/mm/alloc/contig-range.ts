// alloc_contig_range and cma_alloc (mm/page_alloc.c, mm/cma.c): isolate pageblocks so that nobody allocates there, move
// what can be moved, and take the range if all of it is free. A pinned page makes it EBUSY, and the next area is tried.
import { call, type Steps } from '../../engine/process.ts';
import { step } from '../../engine/step.ts';
import { PMD_PAGES } from '../../hw/machine.ts';
import type { CoreMm, ZoneState } from '../core.ts';
import type { Errno } from '../errno.ts';
import { isolateMigratepages } from '../migrate/compaction.ts';
import { migratePages, putbackMovablePages } from '../migrate/migrate.ts';
import { PG_HUGETLB, PG_HWPOISON, PG_LRU, PG_RESERVED } from '../page-flags.ts';
import { lruAddDrainAll } from '../reclaim/lru.ts';
import { freeRun } from '../refcount.ts';
import { drainPages } from './page-alloc.ts';

const START = step('start_isolate_page_range', 'op');
const UNDO = step('undo_isolate_page_range', 'op');
const TEST = step('test_pages_isolated', 'op');
const TAKE = step('isolate_freepages_range', 'alloc');
const SIGNAL = step('__alloc_contig_migrate_range:signal', 'none');
const PREPARE = step('alloc_contig_range:split_map_pages', 'alloc');
const UNMOVABLE = step('has_unmovable_pages', 'op');

/** A task tries so often to move the pages of one batch. */
const TRIES = 5;

export function zoneOf(core: CoreMm, pfn: number): ZoneState {
  return core.zones[core.machine.zoneOf(pfn)!.index]!;
}

function blocksOf(start: number, end: number): number[] {
  const blocks: number[] = [];
  for (let block = start - (start % PMD_PAGES); block < end; block += PMD_PAGES) blocks.push(block);
  return blocks;
}

/**
 * start_isolate_page_range: no allocation from these pageblocks any more. EBUSY: somebody else isolates them, or
 * (has_unmovable_pages) a page there can never move. In ZONE_MOVABLE everything is taken to be movable; CMA memory is
 * only for CMA allocations, and never goes offline.
 */
export function* isolatePageRange(
  core: CoreMm,
  start: number,
  end: number,
  purpose: 'contig' | 'offline',
): Steps<'ok' | Errno> {
  const { folios } = core;
  const state = zoneOf(core, start);
  const blocks = blocksOf(start, end);
  const movable = state.zone.kind === 'MOVABLE';
  const cma = state.zone.kind === 'CMA';
  if (cma && purpose === 'offline') return 'EBUSY';
  if (!cma) {
    // Neither free pages nor those on lists are in the way; a look at each, as the kernel's under zone->lock.
    folios.refcount.willReadRange(start, end - 1, UNMOVABLE);
    yield folios.flags.willReadRange(start, end - 1, UNMOVABLE);
  }
  for (let pfn = start; pfn < end && !cma; ) {
    const head = folios.headOf(pfn);
    const flags = folios.flags.peek(head);
    const stays = folios.refcount.peek(head) > 0 && (flags & (PG_LRU | PG_HUGETLB | PG_HWPOISON)) === 0;
    if (stays && (!movable || (flags & PG_RESERVED) !== 0)) return 'EBUSY';
    pfn = folios.isLarge(head) ? head + folios.pagesOf(head) : pfn + 1;
  }
  yield state.isolated.willUpdate(START);
  if (state.isolated.value.some((block) => blocks.includes(block))) return 'EBUSY';
  state.isolated.value = [...state.isolated.value, ...blocks];
  return 'ok';
}

/** undo_isolate_page_range */
export function* undoIsolatePageRange(core: CoreMm, start: number, end: number): Steps<void> {
  const state = zoneOf(core, start);
  const blocks = blocksOf(start, end);
  yield state.isolated.willUpdate(UNDO);
  state.isolated.value = state.isolated.value.filter((block) => !blocks.includes(block));
}

/** test_pages_isolated: is every frame of [start, end) free? Poisoned ones do not count when memory goes offline. */
export function* testPagesIsolated(core: CoreMm, start: number, end: number, skipPoisoned: boolean): Steps<boolean> {
  const state = zoneOf(core, start);
  yield state.freeRuns.willRead(TEST);
  let at = start;
  for (const [first, pages] of state.freeRuns.value) {
    if (first + pages <= at) continue;
    while (skipPoisoned && at < Math.min(first, end) && core.folios.has(at, PG_HWPOISON)) at++;
    if (first > at) return at >= end;
    at = first + pages;
    if (at >= end) return true;
  }
  while (skipPoisoned && at < end && core.folios.has(at, PG_HWPOISON)) at++;
  return at >= end;
}

/** isolate_freepages_range, __offline_isolated_pages: take the free frames of [start, end) off the zone's lists. */
export function* takeFreeRange(core: CoreMm, start: number, end: number): Steps<void> {
  const state = zoneOf(core, start);
  state.freePages.willAdd(TAKE);
  yield state.freeRuns.willUpdate(TAKE);
  const rest: (readonly [number, number])[] = [];
  let taken = 0;
  for (const [first, pages] of state.freeRuns.value) {
    const low = Math.max(first, start);
    const high = Math.min(first + pages, end);
    if (low >= high) {
      rest.push([first, pages]);
      continue;
    }
    taken += high - low;
    if (first < low) rest.push([first, low - first]);
    if (high < first + pages) rest.push([high, first + pages - high]);
  }
  state.freeRuns.value = rest;
  state.freePages.add(-taken);
}

/**
 * alloc_contig_range(start, end): the frames are the caller's, each with one reference. EBUSY: something there would not
 * move; EINTR: killed; ENOMEM.
 */
export function* allocContigRange(core: CoreMm, start: number, end: number): Steps<'ok' | Errno> {
  const isolated = yield* call(isolatePageRange(core, start, end, 'contig'));
  if (isolated !== 'ok') return isolated;
  yield* call(drainPages(core));
  let result = yield* call(contigMigrateRange(core, start, end));
  // EBUSY of the migration is not final: what could not be moved may have been freed meanwhile.
  if (result === 'ok' || result === 'EBUSY') {
    yield* call(lruAddDrainAll(core));
    yield* call(drainPages(core));
    result = (yield* call(testPagesIsolated(core, start, end, false))) ? 'ok' : 'EBUSY';
  }
  if (result === 'ok') {
    yield* call(takeFreeRange(core, start, end));
    yield core.folios.refcount.willUpdateRange(start, end - 1, PREPARE);
    core.folios.refcount.fill(start, end - 1, 1);
  }
  yield* call(undoIsolatePageRange(core, start, end));
  return result;
}

/** __alloc_contig_migrate_range */
function* contigMigrateRange(core: CoreMm, start: number, end: number): Steps<'ok' | Errno> {
  yield* call(lruAddDrainAll(core));
  const { killed } = core.current.task;
  let batch: readonly number[] = [];
  let tries = 0;
  let error: Errno | null = null;
  for (let pfn = start; pfn < end || batch.length > 0; ) {
    yield killed.willRead(SIGNAL);
    if (killed.value) {
      error = 'EINTR';
      break;
    }
    if (batch.length === 0) {
      const found = yield* call(isolateMigratepages(core, pfn, end, { mode: 'sync', contig: true }));
      pfn = found.next;
      batch = found.heads;
      tries = 0;
      if (batch.length === 0) continue;
    } else if (++tries === TRIES) {
      error = 'EBUSY';
      break;
    }
    const { failed, errno } = yield* call(
      migratePages(core, batch, { mode: 'sync', reason: 'contig-range', target: { movable: true, zero: false } }),
    );
    batch = failed;
    if (errno !== undefined) {
      error = errno;
      break;
    }
  }
  yield* call(putbackMovablePages(core, batch));
  return error ?? 'ok';
}

/** free_contig_range: the frames go back to their zone. */
export function* freeContigRange(core: CoreMm, start: number, end: number): Steps<void> {
  yield* call(freeRun(core, start, end - start, 'free_contig_range'));
}

/** cma_alloc of `pages` from a CMA zone: the first frame, or null when no area of it can be emptied. */
export function* cmaAlloc(
  core: CoreMm,
  zone: ZoneState,
  pages: number,
  taken: readonly number[] = [],
): Steps<number | null> {
  const { firstPfn, pages: size } = zone.zone;
  for (let start = firstPfn; start + pages <= firstPfn + size; start += pages) {
    if (taken.includes(start)) continue;
    const result = yield* call(allocContigRange(core, start, start + pages));
    if (result === 'ok') return start;
    if (result !== 'EBUSY') return null;
  }
  return null;
}
