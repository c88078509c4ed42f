// shrink_node (mm/vmscan.c): some of each LRU list of a node, by priority and swappiness, and what tells reclaim to slow
// down: lists full of dirty pages, of pages under writeback, or of pages that somebody else has isolated.
import { call, type Steps } from '../../engine/process.ts';
import { step } from '../../engine/step.ts';
import type { CoreMm } from '../core.ts';
import { deferredSplit } from '../thp/split-folio.ts';
import { wakeFlushers } from './pageout-hooks.ts';
import type { Pgdat, Reclaimer } from './pgdat.ts';
import type { ScanControl } from './reclaim-folio.ts';
import { type LruScan, SWAP_CLUSTER_MAX, shrinkActiveList, shrinkInactiveList } from './reclaim-lru.ts';

const NODE = step('shrink_node:pgdat-flags', 'none');
const FAILED = step('shrink_node:kswapd_failures', 'op');
const THROTTLE = step('reclaim_throttle:VMSCAN_THROTTLE_WRITEBACK', 'none');
const NO_PROGRESS = step('reclaim_throttle:VMSCAN_THROTTLE_NOPROGRESS', 'none');

/** DEF_PRIORITY */
export const DEF_PRIORITY = 12;

/** shrink_node: some of each list, by priority and swappiness; then THPs of which parts are unmapped. */
export function* shrinkNode(
  core: CoreMm,
  reclaimer: Reclaimer,
  pgdat: Pgdat,
  scan: LruScan,
  priority: number,
  wanted: number,
  kswapdRuns: boolean,
): Steps<number> {
  pgdat.dirty.willRead(NODE);
  pgdat.failures.willRead(NODE);
  yield pgdat.writeback.willRead(NODE);
  const failures = pgdat.failures.value;
  const sc: ScanControl = {
    node: pgdat.node,
    kswapd: kswapdRuns,
    mayUnmap: true,
    maySwap: reclaimer.maySwap(core, pgdat),
    mayWritepage: true,
    ignoreReferences: false,
    demotionNode: reclaimer.options.demotion?.[pgdat.node] ?? null,
    proactive: false,
    nodeDirty: pgdat.dirty.value,
    nodeWriteback: pgdat.writeback.value,
  };
  const reclaimed = yield* call(
    shrinkLruvec(core, pgdat, scan, priority, wanted, sc, reclaimer.options.swappiness ?? 60),
  );
  // shrink_slab(deferred_split_shrinker): with so few entries a shrinker scans nothing at the first priorities.
  let split = 0;
  if (priority < DEF_PRIORITY - 1) {
    for (const head of scan.partiallyMapped.splice(0)) if (yield* call(deferredSplit(core, head))) split++;
  }
  if (reclaimed + split > 0 && failures > 0) {
    yield pgdat.failures.willWrite(FAILED);
    pgdat.failures.value = 0;
  }
  return reclaimed;
}

/** get_scan_count and shrink_lruvec. Anonymous lists are left alone without swap. */
function* shrinkLruvec(
  core: CoreMm,
  pgdat: Pgdat,
  scan: LruScan,
  priority: number,
  wanted: number,
  sc: ScanControl,
  swappiness: number,
): Steps<number> {
  if (!scan.looked) yield* call(scan.look());
  const anon = scan.pages('inactive-anon') + scan.pages('active-anon');
  const file = scan.pages('inactive-file') + scan.pages('active-file');
  const share = (kind: 'anon' | 'file') => {
    if (kind === 'anon' && !sc.maySwap) return 0;
    // SCAN_EQUAL at the last priority; otherwise by swappiness (the cost terms of the lists are left out).
    if (priority === 0 || anon === 0 || file === 0) return 1;
    return (kind === 'anon' ? swappiness : 200 - swappiness) / 200;
  };
  const left = {
    'inactive-anon': Math.ceil((scan.pages('inactive-anon') >> priority) * share('anon')),
    'active-anon': Math.ceil((scan.pages('active-anon') >> priority) * share('anon')),
    'inactive-file': Math.ceil((scan.pages('inactive-file') >> priority) * share('file')),
    'active-file': Math.ceil((scan.pages('active-file') >> priority) * share('file')),
  };
  let reclaimed = 0;
  while (left['inactive-anon'] > 0 || left['active-file'] > 0 || left['inactive-file'] > 0 || left['active-anon'] > 0) {
    for (const kind of ['anon', 'file'] as const) {
      const [inactive, active] = [`inactive-${kind}`, `active-${kind}`] as const;
      if (left[active] > 0) {
        const want = Math.min(left[active], SWAP_CLUSTER_MAX);
        left[active] -= want;
        // inactive_is_low: a ratio of one below a gigabyte, of sqrt(10 * GB) above.
        const gigabytes = (scan.pages(inactive) + scan.pages(active)) >> 18;
        const ratio = gigabytes > 0 ? Math.floor(Math.sqrt(10 * gigabytes)) : 1;
        if (scan.pages(inactive) * ratio < scan.pages(active)) yield* call(shrinkActiveList(scan, active, want));
      }
      if (left[inactive] > 0) {
        const want = Math.min(left[inactive], SWAP_CLUSTER_MAX);
        left[inactive] -= want;
        const shrunk = yield* call(shrinkInactiveList(scan, inactive, want, sc));
        reclaimed += shrunk.reclaimed;
        if (shrunk.taken === 0) left[inactive] = 0;
        else yield* call(noteCongestion(core, pgdat, sc, shrunk.taken, shrunk.stat));
      }
    }
    if (reclaimed >= wanted) break;
  }
  return reclaimed;
}

/** The end of shrink_inactive_list and shrink_node: lists full of dirty pages or of pages under writeback. */
function* noteCongestion(
  core: CoreMm,
  pgdat: Pgdat,
  sc: ScanControl,
  taken: number,
  stat: { readonly unqueuedDirty: number; readonly writeback: number; readonly immediate: number } | null,
): Steps<void> {
  if (stat === null) return;
  if (stat.unqueuedDirty === taken) yield* call(wakeFlushers(core));
  if (!sc.kswapd) return;
  const dirty = stat.unqueuedDirty === taken;
  const writeback = stat.writeback === taken;
  if ((dirty && !sc.nodeDirty) || (writeback && !sc.nodeWriteback)) {
    pgdat.dirty.willUpdate(NODE);
    yield pgdat.writeback.willUpdate(NODE);
    if (dirty) pgdat.dirty.value = true;
    if (writeback) pgdat.writeback.value = true;
  }
  // Pages come round again before their IO is done: HZ/10.
  if (stat.immediate > 0) yield core.sim.sleep(100_000_000, THROTTLE);
}

/**
 * reclaim_throttle(VMSCAN_THROTTLE_NOPROGRESS): one tick, where much waits to be written (skip_throttle_noprogress).
 */
export function* throttleNoProgress(core: CoreMm, scan: LruScan): Steps<void> {
  if (core.current.task.kernelThread || 2 * scan.writePending <= scan.reclaimablePages(true)) return;
  yield core.sim.sleep(4_000_000, NO_PROGRESS);
}
