// kswapd (mm/vmscan.c): keeps the watermarks of a node. It waits to be woken, and gives up after 16 runs without a page;
// memory full of pins ends there.
import { call, type Steps } from '../../engine/process.ts';
import { step } from '../../engine/step.ts';
import { until } from '../../engine/wait.ts';
import { directReclaim, retryAllocation } from '../alloc/alloc-slowpath.ts';
import { giveBack } from '../alloc/free-runs.ts';
import { installOom, outOfMemory } from '../alloc/oom-kill.ts';
import type { CoreMm } from '../core.ts';
import { Mm } from '../mm.ts';
import { Task, User } from '../process/task.ts';
import {
  balanced,
  type Highest,
  highestOf,
  MAX_RECLAIM_RETRIES,
  type Pgdat,
  Reclaimer,
  type ReclaimOptions,
  wakeKswapd,
  zonesUpTo,
} from './pgdat.ts';
import { installReclaim } from './reclaim-hooks.ts';
import { LruScan, SWAP_CLUSTER_MAX } from './reclaim-lru.ts';
import { DEF_PRIORITY, shrinkNode } from './shrink-node.ts';

export type { ReclaimOptions } from './pgdat.ts';

const SLEEP = step('kswapd:sleep', 'none');
const BALANCED = step('pgdat_balanced', 'op');
const FAILED = step('balance_pgdat:kswapd_failures', 'op');
const NODE = step('clear_pgdat_congested', 'none');
const DRAIN = step('drain_local_pages', 'alloc');

/** Start a kswapd per node and make allocations reclaim. While the world is built. */
export function startReclaim(core: CoreMm, options: ReclaimOptions = {}): void {
  const reclaimer = new Reclaimer(core, options);
  installReclaim(core, {
    directReclaim: (_core, gfp) => directReclaim(core, reclaimer, gfp),
    retryAllocation: (_core, gfp, attempt) => retryAllocation(core, reclaimer, gfp, attempt),
    outOfMemory,
    wakeKswapd: (_core, zone, gfp) => wakeKswapd(reclaimer.pgdatOf(zone), highestOf(gfp)),
  });
  if (options.tasks !== undefined) installOom(core, options.tasks);
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
      kernelThread: true,
    });
    core.runAs(process, task);
  }
}

/** kswapd: sleeps until it is wanted, then balances its node, run after run, until that is done or hopeless. */
function* kswapd(core: CoreMm, reclaimer: Reclaimer, pgdat: Pgdat): Steps<void> {
  for (;;) {
    yield until(core.sim, [pgdat.wanted], () => pgdat.wanted.peek() !== null, SLEEP, {
      name: `work for kswapd${pgdat.node}`,
      update: true,
      lasting: true,
    });
    const highest = pgdat.wanted.value!;
    pgdat.wanted.value = null;
    // prepare_kswapd_sleep: nobody wakes it a second time for what the first run did not reach.
    while (!(yield* call(balancePgdat(core, reclaimer, pgdat, highest))));
  }
}

function* isBalanced(pgdat: Pgdat, highest: Highest): Steps<boolean> {
  for (const zone of pgdat.zones.slice(1)) zone.freePages.willRead(BALANCED);
  // For clearCongested, which goes on in this step.
  pgdat.dirty.willRead(BALANCED);
  pgdat.writeback.willRead(BALANCED);
  yield pgdat.zones[0]!.freePages.willRead(BALANCED);
  return balanced(pgdat, highest);
}

/** balance_pgdat: priorities 12 to 1, each scanning twice as much of the lists. True: it may sleep. */
function* balancePgdat(core: CoreMm, reclaimer: Reclaimer, pgdat: Pgdat, highest: Highest): Steps<boolean> {
  const zones = zonesUpTo(pgdat, highest);
  const scan = new LruScan(core, zones);
  const wanted = zones.reduce((sum, zone) => sum + Math.max(zone.highPages, SWAP_CLUSTER_MAX), 0);
  let total = 0;
  for (let priority = DEF_PRIORITY; priority >= 1; ) {
    if (yield* call(isBalanced(pgdat, highest))) {
      yield* call(clearCongested(pgdat));
      return true;
    }
    const reclaimed = yield* call(shrinkNode(core, reclaimer, pgdat, scan, priority, wanted, true));
    yield* call(drainLocal(core));
    total += reclaimed;
    if (reclaimed < wanted || reclaimed === 0) priority--;
  }
  for (const zone of pgdat.zones) zone.freePages.willRead(FAILED);
  yield pgdat.failures.willUpdate(FAILED);
  if (total === 0) pgdat.failures.value += 1;
  return balanced(pgdat, highest) || pgdat.failures.value >= MAX_RECLAIM_RETRIES;
}

/** clear_pgdat_congested, in the step that found the node balanced. */
function* clearCongested(pgdat: Pgdat): Steps<void> {
  if (!pgdat.dirty.value && !pgdat.writeback.value) return;
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
