// Memory pressure (mm/vmscan.c): kswapd of each node keeps the watermarks, an allocation that finds nothing reclaims for
// itself. kswapd waits to be woken, and gives up after 16 runs without a page; memory full of pins ends there.
// Throttling of allocating tasks is left out.
import { Cell } from '../engine/cell.ts';
import { call, type Steps } from '../engine/process.ts';
import type { Sim } from '../engine/sim.ts';
import { step } from '../engine/step.ts';
import { until } from '../engine/wait.ts';
import { directCompact } from './compaction.ts';
import type { CoreMm, ZoneState } from './core.ts';
import { giveBack } from './free-runs.ts';
import { Mm } from './mm.ts';
import { drainPages, type Gfp } from './page-alloc.ts';
import { wakeFlushers } from './pageout-hooks.ts';
import type { ScanControl } from './reclaim-folio.ts';
import { installReclaim } from './reclaim-hooks.ts';
import { LruScan, SWAP_CLUSTER_MAX, shrinkActiveList, shrinkInactiveList } from './reclaim-lru.ts';
import { deferredSplit } from './split-folio.ts';
import { Task, User } from './task.ts';

const WAKE = step('wakeup_kswapd', 'none');
const SLEEP = step('kswapd:sleep', 'none');
const BALANCED = step('pgdat_balanced', 'op');
const FAILED = step('balance_pgdat:kswapd_failures', 'op');
const NODE = step('shrink_node:pgdat-flags', 'none');
const THROTTLE = step('reclaim_throttle:VMSCAN_THROTTLE_WRITEBACK', 'none');
const DRAIN = step('drain_local_pages', 'alloc');

/** DEF_PRIORITY */
const DEF_PRIORITY = 12;
/** MAX_RECLAIM_RETRIES: runs without progress after which kswapd is hopeless. */
const HOPELESS = 16;

export interface ReclaimOptions {
  /** Where a node's cold pages are demoted to, by node (memory tiers with demotion enabled). */
  readonly demotion?: Readonly<Record<number, number>>;
  /** vm.swappiness, 0 to 200. */
  readonly swappiness?: number;
  /** CPU of a node's kswapd; default: the first. */
  readonly cpuOfNode?: Readonly<Record<number, number>>;
}

/** pg_data_t, as far as reclaim keeps state there. */
class Pgdat {
  readonly node: number;
  readonly zones: readonly ZoneState[];
  /** kswapd has been asked to run. */
  readonly wanted: Cell<boolean>;
  readonly failures: Cell<number>;
  /** PGDAT_DIRTY, PGDAT_WRITEBACK */
  readonly dirty: Cell<boolean>;
  readonly writeback: Cell<boolean>;

  constructor(sim: Sim, node: number, zones: readonly ZoneState[]) {
    this.node = node;
    this.zones = zones;
    this.wanted = new Cell(sim, `wake-up of kswapd${node}`, false);
    this.failures = new Cell(sim, `kswapd_failures of node ${node}`, 0);
    this.dirty = new Cell(sim, `PGDAT_DIRTY of node ${node}`, false);
    this.writeback = new Cell(sim, `PGDAT_WRITEBACK of node ${node}`, false);
  }
}

class Reclaimer {
  readonly nodes: readonly Pgdat[];
  readonly options: ReclaimOptions;

  constructor(core: CoreMm, options: ReclaimOptions) {
    this.options = options;
    const zonesOf = (node: number) => core.zones.filter((z) => z.zone.node === node && z.zone.kind !== 'DEVICE');
    this.nodes = Array.from({ length: core.machine.nodes }, (_, node) => node)
      .filter((node) => zonesOf(node).length > 0)
      .map((node) => new Pgdat(core.sim, node, zonesOf(node)));
  }

  pgdatOf(zone: ZoneState): Pgdat {
    return this.nodes.find(({ node }) => node === zone.zone.node)!;
  }
}

/** Start a kswapd per node and make allocations reclaim. While the world is built. */
export function startReclaim(core: CoreMm, options: ReclaimOptions = {}): void {
  const reclaimer = new Reclaimer(core, options);
  installReclaim(core, {
    directReclaim: (_core, gfp) => directReclaim(core, reclaimer, gfp),
    wakeKswapd: (_core, zone) => wakeKswapd(reclaimer.pgdatOf(zone)),
  });
  const kernel = new User(core.sim, 0);
  for (const pgdat of reclaimer.nodes) {
    const name = `kswapd${pgdat.node}`;
    const body = () => kswapd(core, reclaimer, pgdat);
    const process = core.sim.spawn(name, body, { daemon: true, cpu: options.cpuOfNode?.[pgdat.node] ?? 0 });
    const task = new Task(core.sim, new Mm(core.sim, core.kernel, name), {
      name,
      user: kernel,
      capabilities: [],
      memlockBytes: Number.POSITIVE_INFINITY,
    });
    core.runAs(process, task);
  }
}

/** kswapd: sleeps until it is wanted, then balances its node. */
function* kswapd(core: CoreMm, reclaimer: Reclaimer, pgdat: Pgdat): Steps<void> {
  for (;;) {
    yield until(core.sim, [pgdat.wanted], () => pgdat.wanted.peek(), SLEEP, {
      name: `work for kswapd${pgdat.node}`,
      update: true,
      lasting: true,
    });
    pgdat.wanted.value = false;
    yield* call(balancePgdat(core, reclaimer, pgdat));
  }
}

/** wakeup_kswapd: nothing for a node that is balanced, or hopeless. */
function* wakeKswapd(pgdat: Pgdat): Steps<void> {
  for (const zone of pgdat.zones) zone.freePages.willRead(WAKE);
  pgdat.failures.willRead(WAKE);
  yield pgdat.wanted.willUpdate(WAKE);
  if (pgdat.failures.value >= HOPELESS || pgdat.wanted.value || balanced(pgdat)) return;
  pgdat.wanted.value = true;
}

/** pgdat_balanced: one zone above its high watermark is enough. Reads the free counts. */
function balanced(pgdat: Pgdat): boolean {
  return pgdat.zones.some((zone) => zone.freePages.value >= zone.highPages);
}

function* isBalanced(pgdat: Pgdat): Steps<boolean> {
  for (const zone of pgdat.zones.slice(1)) zone.freePages.willRead(BALANCED);
  yield pgdat.zones[0]!.freePages.willRead(BALANCED);
  return balanced(pgdat);
}

/** balance_pgdat: priorities 12 to 1, each scanning twice as much of the lists. */
function* balancePgdat(core: CoreMm, reclaimer: Reclaimer, pgdat: Pgdat): Steps<void> {
  const scan = new LruScan(core, pgdat.zones);
  const wanted = pgdat.zones.reduce((sum, zone) => sum + Math.max(zone.highPages, SWAP_CLUSTER_MAX), 0);
  let total = 0;
  for (let priority = DEF_PRIORITY; priority >= 1; ) {
    if (yield* call(isBalanced(pgdat))) {
      yield* call(clearCongested(pgdat));
      break;
    }
    const reclaimed = yield* call(shrinkNode(core, reclaimer, pgdat, scan, priority, wanted, true));
    yield* call(drainLocal(core));
    total += reclaimed;
    if (reclaimed < wanted || reclaimed === 0) priority--;
  }
  if (total > 0) return;
  yield pgdat.failures.willUpdate(FAILED);
  if (!balancedPeek(pgdat)) pgdat.failures.value += 1;
}

/** A run that had nothing to do is no failure; the counts were read a step ago by the same actor. */
function balancedPeek(pgdat: Pgdat): boolean {
  return pgdat.zones.some((zone) => zone.freePages.peek() >= zone.highPages);
}

function* clearCongested(pgdat: Pgdat): Steps<void> {
  if (!pgdat.dirty.peek() && !pgdat.writeback.peek()) return;
  pgdat.dirty.willWrite(NODE);
  yield pgdat.writeback.willWrite(NODE);
  pgdat.dirty.value = false;
  pgdat.writeback.value = false;
}

/**
 * What kswapd freed must not wait in its CPU's lists: the kernel's lists are short there when memory is (pcp high, and
 * the remote drain of vmstat); here they are emptied after each round.
 */
function* drainLocal(core: CoreMm): Steps<void> {
  const { local } = core;
  if (local.freePages.peek().length === 0 && local.freeBlocks.peek().length === 0) return;
  for (const zone of core.zones) {
    zone.freePages.willAdd(DRAIN);
    zone.freeRuns.willUpdate(DRAIN);
  }
  local.freeBlocks.willUpdate(DRAIN);
  yield local.freePages.willUpdate(DRAIN);
  for (const pfn of local.freePages.value) giveBack(core, pfn, 1);
  for (const pfn of local.freeBlocks.value) giveBack(core, pfn, 512);
  local.freePages.value = [];
  local.freeBlocks.value = [];
}

/** try_to_free_pages: priorities 12 to 0 until one cluster is freed; at last the free lists of all CPUs are looked through. */
function* directReclaim(core: CoreMm, reclaimer: Reclaimer, gfp: Gfp): Steps<boolean> {
  const wanted = Math.max(SWAP_CLUSTER_MAX, 2 ** gfp.order);
  const usable = (z: ZoneState) =>
    (gfp.movable || (z.zone.kind !== 'MOVABLE' && z.zone.kind !== 'CMA')) &&
    (gfp.node === undefined || gfp.node === z.zone.node);
  const nodes = reclaimer.nodes
    .map((pgdat) => ({ pgdat, zones: pgdat.zones.filter(usable) }))
    .filter(({ zones }) => zones.length > 0)
    .map(({ pgdat, zones }) => ({ pgdat, scan: new LruScan(core, zones) }));
  // wake_all_kswapds of the allocator's slow path.
  for (const { pgdat } of nodes) yield* call(wakeKswapd(pgdat));
  if (gfp.order > 0) {
    const zones = nodes.flatMap(({ pgdat }) => pgdat.zones.filter(usable));
    if (yield* call(directCompact(core, zones, gfp.order))) return true;
  }
  let total = 0;
  for (let priority = DEF_PRIORITY; priority >= 0 && total < wanted; priority--) {
    for (const { pgdat, scan } of nodes) {
      total += yield* call(shrinkNode(core, reclaimer, pgdat, scan, priority, wanted, false));
    }
  }
  if (total > 0) return true;
  const waiting = core.perCpu.some(
    ({ freePages, freeBlocks }) => freePages.peek().length + freeBlocks.peek().length > 0,
  );
  if (waiting) yield* call(drainPages(core));
  return waiting;
}

/** shrink_node: some of each list, by priority and swappiness; then THPs of which parts are unmapped. */
function* shrinkNode(
  core: CoreMm,
  reclaimer: Reclaimer,
  pgdat: Pgdat,
  scan: LruScan,
  priority: number,
  wanted: number,
  kswapdRuns: boolean,
): Steps<number> {
  const { swap } = core;
  // can_reclaim_anon_pages: a racy look at the free swap in the kernel as well.
  const maySwap = swap.slots > swap.usedSlots || reclaimer.options.demotion?.[pgdat.node] !== undefined;
  pgdat.dirty.willRead(NODE);
  pgdat.failures.willRead(NODE);
  yield pgdat.writeback.willRead(NODE);
  const failures = pgdat.failures.value;
  const sc: ScanControl = {
    node: pgdat.node,
    kswapd: kswapdRuns,
    mayUnmap: true,
    maySwap,
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
