// What an allocation does that finds nothing (mm/page_alloc.c __alloc_pages_slowpath, mm/vmscan.c try_to_free_pages): it
// reclaims for itself, again and again while pages are left that could be reclaimed, and at last calls the OOM killer.
// Allocations take the last free page: the reserve below the min watermark is not kept, so a victim gets no more of it.
import { call, type Steps } from '../../engine/process.ts';
import { step } from '../../engine/step.ts';
import { until } from '../../engine/wait.ts';
import type { CoreMm, ZoneState } from '../core.ts';
import { directCompact } from '../migrate/compaction.ts';
import { highestOf, MAX_RECLAIM_RETRIES, type Pgdat, type Reclaimer, wakeKswapd } from '../reclaim/pgdat.ts';
import type { Attempt } from '../reclaim/reclaim-hooks.ts';
import { LruScan, SWAP_CLUSTER_MAX } from '../reclaim/reclaim-lru.ts';
import { DEF_PRIORITY, shrinkNode, throttleNoProgress } from '../reclaim/shrink-node.ts';
import { outOfMemory } from './oom-kill.ts';
import { drainPages, type Gfp } from './page-alloc.ts';

const PFMEMALLOC = step('throttle_direct_reclaim', 'none');
const AWAKE = step('allow_direct_reclaim:wake_up', 'none');
const RETRY = step('should_reclaim_retry', 'op');

/** PAGE_ALLOC_COSTLY_ORDER: what is larger fails instead of killing somebody. */
const COSTLY_ORDER = 3;
/** Tries of a costly allocation after the first; the kernel counts rounds of compaction. */
const COSTLY_TRIES = 3;
/** Candidates that a direct reclaimer keeps of a list: it wants one cluster. */
const CANDIDATES = 8 * SWAP_CLUSTER_MAX;

interface Target {
  readonly pgdat: Pgdat;
  readonly zones: readonly ZoneState[];
}

/** The nodes and zones that the allocation may use. */
function targets(reclaimer: Reclaimer, gfp: Gfp): readonly Target[] {
  const usable = ({ zone }: ZoneState) =>
    (gfp.movable || (zone.kind !== 'MOVABLE' && zone.kind !== 'CMA')) &&
    (gfp.node === undefined || gfp.node === zone.node);
  return reclaimer.nodes
    .map((pgdat) => ({ pgdat, zones: pgdat.zones.filter(usable) }))
    .filter(({ zones }) => zones.length > 0);
}

/** try_to_free_pages: priorities 12 to 0 until one cluster is freed; at last the free lists of all CPUs are looked through. */
export function* directReclaim(core: CoreMm, reclaimer: Reclaimer, gfp: Gfp): Steps<boolean> {
  const wanted = Math.max(SWAP_CLUSTER_MAX, 2 ** gfp.order);
  const nodes = targets(reclaimer, gfp).map((target) => ({
    ...target,
    scan: new LruScan(core, target.zones, CANDIDATES),
  }));
  // wake_all_kswapds of the allocator's slow path.
  for (const { pgdat } of nodes) yield* call(wakeKswapd(pgdat, highestOf(gfp)));
  if (gfp.order > 0) {
    const zones = nodes.flatMap((target) => target.zones);
    if (yield* call(directCompact(core, zones, gfp.order))) return true;
  }
  if (nodes[0] !== undefined && (yield* call(throttled(core, nodes[0].pgdat)))) return true;
  let total = 0;
  for (let priority = DEF_PRIORITY; priority >= 0 && total < wanted; priority--) {
    for (const { pgdat, scan } of nodes) {
      total += yield* call(shrinkNode(core, reclaimer, pgdat, scan, priority, wanted, false));
      // consider_reclaim_throttle
      if (priority === 1 && total === 0) yield* call(throttleNoProgress(core, scan));
    }
  }
  if (total > 0) return true;
  const waiting = core.perCpu.some(
    ({ freePages, freeBlocks }) => freePages.peek().length + freeBlocks.peek().length > 0,
  );
  if (waiting) yield* call(drainPages(core));
  return waiting;
}

/**
 * throttle_direct_reclaim: below half of the min watermarks, wait until kswapd has freed some or given up on the zones for
 * kernel memory. Kernel threads and the dying do not. True: killed meanwhile, which counts as progress.
 */
function* throttled(core: CoreMm, pgdat: Pgdat): Steps<boolean> {
  const { task } = core.current;
  if (task.kernelThread) return false;
  // allow_direct_reclaim: the zones for kernel memory alone.
  const zones = pgdat.zones.filter(({ zone }) => zone.kind === 'NORMAL' || zone.kind === 'DMA32');
  const reserve = zones.reduce((sum, { minPages }) => sum + minPages, 0);
  const allowed = () =>
    reserve === 0 ||
    zones.reduce((sum, { freePages }) => sum + freePages.peek(), 0) > reserve / 2 ||
    pgdat.failures.peek() >= MAX_RECLAIM_RETRIES;
  const ready = () => task.killed.peek() || allowed();
  const seen = [...zones.map(({ freePages }) => freePages), pgdat.failures, task.killed];
  for (const { freePages } of zones) freePages.willRead(PFMEMALLOC);
  pgdat.failures.willRead(PFMEMALLOC);
  // Kept apart from the reclaim that follows, though it mostly is no wait at all.
  yield task.killed.willRead(PFMEMALLOC);
  if (ready()) return false;
  // Free pages of ZONE_MOVABLE do not keep it asleep: kswapd_highest_zoneidx is lowered.
  pgdat.failures.willRead(AWAKE);
  yield pgdat.wanted.willUpdate(AWAKE);
  if (pgdat.failures.value < MAX_RECLAIM_RETRIES) pgdat.wanted.value = 'NORMAL';
  yield until(core.sim, seen, ready, PFMEMALLOC, { name: `kswapd${pgdat.node} to make progress` });
  return task.killed.value;
}

/** What __alloc_pages_slowpath does after a round of reclaim that did not get it a page. False: the allocation fails. */
export function* retryAllocation(core: CoreMm, reclaimer: Reclaimer, gfp: Gfp, attempt: Attempt): Steps<boolean> {
  if (gfp.order > COSTLY_ORDER) return attempt.progress && ++attempt.rounds <= COSTLY_TRIES;
  attempt.rounds = attempt.progress ? 0 : attempt.rounds + 1;
  if (attempt.rounds <= MAX_RECLAIM_RETRIES && (yield* call(shouldReclaimRetry(core, reclaimer, gfp)))) return true;
  // __alloc_pages_may_oom: killing would not help an allocation that is bound to a node.
  if (gfp.node !== undefined) return false;
  attempt.rounds = 0;
  return yield* call(outOfMemory(core));
}

/**
 * should_reclaim_retry: would the page be there if all that can be reclaimed were? Pages that somebody has isolated count:
 * of the kernel's lists a batch of them is a small part, of the lists of a small world it may be all.
 */
function* shouldReclaimRetry(core: CoreMm, reclaimer: Reclaimer, gfp: Gfp): Steps<boolean> {
  for (const { pgdat, zones } of targets(reclaimer, gfp)) {
    const scan = new LruScan(core, zones, 0);
    yield* call(scan.look());
    for (const zone of zones.slice(1)) zone.freePages.willRead(RETRY);
    yield zones[0]!.freePages.willRead(RETRY);
    const free = zones.reduce((sum, { freePages }) => sum + freePages.value, 0);
    const min = zones.reduce((sum, { minPages }) => sum + minPages, 0);
    if (free + scan.reclaimablePages(reclaimer.maySwap(core, pgdat)) > min) return true;
  }
  return false;
}
