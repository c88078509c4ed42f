// Memory offlining (mm/memory_hotplug.c offline_pages): isolate the pageblocks, then move pages away until none is left,
// however long that takes: a pinned page keeps it going until a signal ends it.
import { call, type Steps } from '../../engine/process.ts';
import { step } from '../../engine/step.ts';
import { PMD_PAGES } from '../../hw/machine.ts';
import {
  isolatePageRange,
  takeFreeRange,
  testPagesIsolated,
  undoIsolatePageRange,
  zoneOf,
} from '../alloc/contig-range.ts';
import { giveBack } from '../alloc/free-runs.ts';
import { drainPages } from '../alloc/page-alloc.ts';
import type { CoreMm } from '../core.ts';
import type { Errno } from '../errno.ts';
import { availableHugePages } from '../hugetlb/hugetlb-reserve.ts';
import { PG_HUGETLB, PG_HWPOISON, PG_ISOLATED, PG_LRU } from '../page-flags.ts';
import { folioIsolateLru, lruAddDrainAll } from '../reclaim/lru.ts';
import { isolateHugetlb, migratePages, putbackMovablePages } from './migrate.ts';

const SIGNAL = step('offline_pages:signal_pending', 'none');
const AGAIN = step('offline_pages:again', 'none');
const DISSOLVE = step('dissolve_free_hugetlb_folios', 'op');
const OFFLINE = step('offline_pages:MEM_OFFLINE', 'op');
const STATE = step('memory_block_change_state', 'none');
const ONLINE = step('online_pages', 'alloc');

export interface OfflineOptions {
  /** Rounds after which a run that only explores is called incomplete. The kernel has no bound. */
  readonly roundsMax?: number;
}

/**
 * offline_pages of [start, start + pages). EINVAL: not whole pageblocks of one zone; EBUSY: a page that can never move,
 * or somebody else isolates there; EINTR: a signal came while pages would not move.
 */
export function* offlinePages(
  core: CoreMm,
  start: number,
  pages: number,
  options: OfflineOptions = {},
): Steps<'ok' | Errno> {
  const end = start + pages;
  const zone = core.machine.zoneOf(start);
  const whole = zone !== undefined && zone.kind !== 'DEVICE' && end <= zone.firstPfn + zone.pages;
  if (!whole || pages === 0 || start % PMD_PAGES !== 0 || pages % PMD_PAGES !== 0) return 'EINVAL';
  const state = zoneOf(core, start);
  yield state.offline.willRead(STATE);
  if (state.isOffline(start)) return 'ok';
  // zone_pcp_disable, lru_cache_disable
  yield* call(drainPages(core));
  yield* call(lruAddDrainAll(core));
  const isolated = yield* call(isolatePageRange(core, start, end, 'offline'));
  if (isolated !== 'ok') return isolated;
  const result = yield* call(empty(core, start, end, options.roundsMax ?? 10_000));
  if (result === 'ok') {
    yield* call(takeFreeRange(core, start, end));
    yield state.offline.willUpdate(OFFLINE);
    state.offline.value = [...state.offline.value, [start, pages]];
  }
  yield* call(undoIsolatePageRange(core, start, end));
  return result;
}

/** The loop: scan, migrate, until everything is free. */
function* empty(core: CoreMm, start: number, end: number, roundsMax: number): Steps<'ok' | Errno> {
  const { killed } = core.current.task;
  const loop = core.sim.loop('offline_pages', roundsMax);
  let result: 'ok' | Errno | null = null;
  loop.begin();
  while (result === null) {
    const objects = [core.lru, ...core.hugePool.values()];
    for (const object of objects) object.willRead(SIGNAL);
    core.folios.flags.willReadRange(start, end - 1, SIGNAL);
    yield killed.willRead(SIGNAL);
    for (const object of objects) void object.value;
    if (killed.value) {
      result = 'EINTR';
      break;
    }
    const left = movablePages(core, start, end);
    if (left.length > 0) yield* call(migrateRange(core, left));
    else {
      if (!(yield* call(dissolveHugetlb(core, start, end)))) {
        result = 'EBUSY';
        break;
      }
      yield* call(lruAddDrainAll(core));
      yield* call(drainPages(core));
      if (yield* call(testPagesIsolated(core, start, end, true))) result = 'ok';
    }
    if (result !== null) break;
    yield loop.again(AGAIN);
    loop.begin();
  }
  loop.end();
  return result;
}

/**
 * scan_movable_pages: folios on LRU lists, and hugetlb pages in use. A lockless look, as in the kernel, in a step that
 * announced the flags, and the pools for what is free in them.
 */
function movablePages(core: CoreMm, start: number, end: number): number[] {
  const { folios } = core;
  const found: number[] = [];
  for (let pfn = start; pfn < end; ) {
    const head = folios.headOf(pfn);
    const flags = folios.flags.peek(head);
    if (flags === 0) {
      // Free, or the kernel's: no flag that makes it movable.
      pfn = folios.flags.endOfRun(pfn, end - 1) + 1;
      continue;
    }
    const hugetlb = (flags & PG_HUGETLB) !== 0 && folios.refcount.peek(head) > 0;
    if (((flags & (PG_LRU | PG_ISOLATED)) !== 0 || hugetlb) && (flags & PG_HWPOISON) === 0) {
      // Noted: a page that is gone by the time it is to be isolated is reason enough to look again.
      folios.flags.get(head);
      found.push(head);
    }
    pfn = folios.isLarge(head) ? head + folios.pagesOf(head) : pfn + 1;
  }
  return found;
}

/** do_migrate_range: to another node if there is one. */
function* migrateRange(core: CoreMm, heads: readonly number[]): Steps<void> {
  const source: number[] = [];
  for (const head of heads) {
    const huge = core.folios.has(head, PG_HUGETLB);
    if (yield* call(huge ? isolateHugetlb(core, head) : folioIsolateLru(core, head))) source.push(head);
  }
  if (source.length === 0) return;
  const home = core.machine.zoneOf(source[0]!)!.node;
  const other = core.machine.nodes > 1 ? (home === 0 ? 1 : 0) : undefined;
  const target = { movable: true, zero: false, ...(other === undefined ? {} : { node: other }) };
  const { failed } = yield* call(migratePages(core, source, { mode: 'sync', reason: 'memory-hotplug', target }));
  yield* call(putbackMovablePages(core, failed));
  yield* call(lruAddDrainAll(core));
}

/**
 * dissolve_free_hugetlb_folios: free huge pages of the pool in the range become ordinary free memory. False (-EBUSY): the
 * pool would have fewer than it promised.
 */
function* dissolveHugetlb(core: CoreMm, start: number, end: number): Steps<boolean> {
  const isInside = (head: number) => head >= start && head < end;
  for (const [order, pool] of core.hugePool) {
    // The look, which the step before has announced, tells what to announce; the act looks again.
    for (let inside = pool.peek().filter(isInside); inside.length > 0; inside = pool.peek().filter(isInside)) {
      const state = zoneOf(core, start);
      state.freePages.willAdd(DISSOLVE);
      state.freeRuns.willUpdate(DISSOLVE);
      for (const head of inside) core.folios.order.willUpdate(head, DISSOLVE);
      for (const other of core.hugePool.values()) if (other !== pool) other.willRead(DISSOLVE);
      yield pool.willUpdate(DISSOLVE);
      if (pool.value.filter(isInside).join() !== inside.join()) continue;
      const dissolved = inside.slice(0, Math.max(0, availableHugePages(core, order)));
      pool.value = pool.value.filter((head) => !dissolved.includes(head));
      for (const head of dissolved) {
        core.folios.order.set(head, 0);
        giveBack(core, head, 2 ** order);
      }
      if (dissolved.length < inside.length) return false;
    }
  }
  return true;
}

/** online_pages: the range is free memory of its zone again. EINVAL: it is not offline. */
export function* onlinePages(core: CoreMm, start: number, pages: number): Steps<'ok' | Errno> {
  const zone = core.machine.zoneOf(start);
  if (zone === undefined) return 'EINVAL';
  const state = zoneOf(core, start);
  state.freePages.willAdd(ONLINE);
  state.freeRuns.willUpdate(ONLINE);
  yield state.offline.willUpdate(ONLINE);
  const left = state.offline.value.filter(([first, count]) => first !== start || count !== pages);
  if (left.length === state.offline.value.length) return 'EINVAL';
  state.offline.value = left;
  giveBack(core, start, pages);
  return 'ok';
}
