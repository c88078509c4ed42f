// The page allocator (mm/page_alloc.c): per-CPU lists refilled in batches from the zones. What a CPU frees it reuses
// first, so unrelated actors never meet here; a batch refill is the only shared step.
import { call, type Steps } from '../../engine/process.ts';
import { step } from '../../engine/step.ts';
import { PMD_ORDER, PMD_PAGES, type ZoneKind } from '../../hw/machine.ts';
import type { CoreMm, ZoneState } from '../core.ts';
import { PG_HUGETLB, PG_HUGETLB_TEMPORARY, PG_HWPOISON, PG_RESTORE_RESERVE } from '../page-flags.ts';
import { type Attempt, directReclaim, retryAllocation, wakeKswapd } from '../reclaim/reclaim-hooks.ts';
import { giveBack, takeRun } from './free-runs.ts';

const PCP = step('rmqueue_pcplist', 'alloc');
const REUSE = step('rmqueue_pcplist:freed-elsewhere', 'alloc');
const REFILL = step('rmqueue_bulk', 'alloc');
const PREP = step('post_alloc_hook', 'alloc');
const CLEAR = step('clear_highpage', 'clear-page');
const HUGETLB = step('dequeue_hugetlb_folio', 'alloc');
const DRAIN = step('drain_pages', 'alloc');

/** pcp->batch: frames moved from the zone to a CPU's list at once. */
const PCP_BATCH = 63;

/** What an allocation may use (gfp_t, reduced to what decides outcomes). */
export interface Gfp {
  readonly order: number;
  /** __GFP_MOVABLE: may come from ZONE_MOVABLE and CMA. A task with PF_MEMALLOC_PIN never may. */
  readonly movable: boolean;
  readonly zero: boolean;
  /** Only from this node (__GFP_THISNODE, MPOL_BIND). */
  readonly node?: number;
  /** This node first (preferred_nid); default: that of the task. */
  readonly near?: number;
  /** Fail instead of reclaiming (THP faults, __GFP_NORETRY). */
  readonly noReclaim?: boolean;
}

/** Allocate a folio: refcount 1, no flags. Undefined: out of memory. */
export function* allocFolio(core: CoreMm, gfp: Gfp): Steps<number | undefined> {
  const pfn = yield* call(fromFreelist(core, gfp));
  return pfn !== undefined || gfp.noReclaim === true ? pfn : yield* call(slowPath(core, gfp));
}

/** get_page_from_freelist: from this CPU's list, which a zone refills where it has none or none so good. */
function* fromFreelist(core: CoreMm, gfp: Gfp): Steps<number | undefined> {
  if (core.params.reuse === 'choose' && gfp.order === 0) {
    const pfn = yield* call(freedElsewhere(core, gfp));
    if (pfn !== undefined) return pfn;
  }
  const list = gfp.order === 0 ? core.local.freePages : core.local.freeBlocks;
  let exhausted = false;
  for (;;) {
    yield list.willUpdate(PCP);
    const pfn = takeFrom(core, list.value, gfp);
    // rmqueue_pcplist serves one zone: a better one refills its list before this zone's turn comes.
    const better = pfn === undefined ? zonelist(core, gfp) : betterZones(core, gfp, pfn);
    if (pfn !== undefined && (exhausted || better.length === 0)) {
      list.value = without(list.value, pfn);
      yield* call(prepare(core, pfn, gfp));
      return pfn;
    }
    if (exhausted) return undefined;
    if (yield* call(refill(core, gfp, better))) continue;
    if (pfn === undefined) return undefined;
    exhausted = true;
  }
}

/**
 * What another CPU freed last may come here: in life by way of the zone, once that list is drained or full. Whether it
 * does, and from whom, is a choice; a page that nobody has had yet is as good as one of our own.
 */
function* freedElsewhere(core: CoreMm, gfp: Gfp): Steps<number | undefined> {
  const others = core.perCpu.filter((perCpu) => perCpu !== core.local);
  for (const { freePages } of others) freePages.willUpdate(REUSE);
  yield core.sim.local(REUSE);
  const zones = zonelist(core, gfp);
  const fits = (pfn: number) => {
    const { index } = core.machine.zoneOf(pfn)!;
    return zones.some(({ zone }) => zone.index === index) && !isolated(core, pfn);
  };
  const found = others.flatMap(({ freePages }) => {
    const pfn = freePages.value.findLast((page) => core.frames.peekGeneration(page) > 0 && fits(page));
    return pfn === undefined ? [] : [{ freePages, pfn }];
  });
  const chosen = core.sim.choose(found.length + 1, 'rmqueue_pcplist:freed-elsewhere');
  if (chosen === 0) return undefined;
  const { freePages, pfn } = found[chosen - 1]!;
  freePages.value = without(freePages.value, pfn);
  yield* call(prepare(core, pfn, gfp));
  return pfn;
}

/** __alloc_pages_slowpath: rounds of direct reclaim, as long as they make sense. */
function* slowPath(core: CoreMm, gfp: Gfp): Steps<number | undefined> {
  const attempt: Attempt = { progress: false, rounds: 0 };
  for (;;) {
    attempt.progress = yield* call(directReclaim(core, gfp));
    const pfn = yield* call(fromFreelist(core, gfp));
    if (pfn !== undefined) return pfn;
    if (attempt.progress) {
      // __alloc_pages_direct_reclaim: what was freed may lie in the list of another CPU.
      yield* call(drainPages(core));
      const drained = yield* call(fromFreelist(core, gfp));
      if (drained !== undefined) return drained;
    }
    if (!(yield* call(retryAllocation(core, gfp, attempt)))) return undefined;
  }
}

/** A copy of the list without this frame, which lies near its end. */
function without(list: readonly number[], pfn: number): readonly number[] {
  const left = list.slice();
  const at = left.lastIndexOf(pfn);
  if (at === left.length - 1) left.pop();
  else left.splice(at, 1);
  return left;
}

/** Of the best zone that has one, the most recently freed page that suits: LIFO, as pcp lists are. */
function takeFrom(core: CoreMm, list: readonly number[], gfp: Gfp): number | undefined {
  const zones = zonelist(core, gfp);
  let best: number | undefined;
  let rank = zones.length;
  for (let i = list.length - 1; i >= 0 && rank > 0; i--) {
    const { zone } = core.zones[core.machine.zoneOf(list[i]!)!.index]!;
    const at = zones.findIndex((state) => state.zone === zone);
    if (at < 0 || at >= rank || isolated(core, list[i]!)) continue;
    best = list[i];
    rank = at;
  }
  return best;
}

/** The zones that come before that of `pfn`. */
function betterZones(core: CoreMm, gfp: Gfp, pfn: number): readonly ZoneState[] {
  const zones = zonelist(core, gfp);
  const { index } = core.machine.zoneOf(pfn)!;
  return zones.slice(
    0,
    zones.findIndex((state) => state.zone.index === index),
  );
}

function suits(kind: ZoneKind, node: number, gfp: Gfp): boolean {
  if (kind === 'DEVICE') return false;
  if (!gfp.movable && (kind === 'MOVABLE' || kind === 'CMA')) return false;
  return gfp.node === undefined || gfp.node === node;
}

/** Is the frame in a pageblock that is being offlined or claimed? */
function isolated(core: CoreMm, pfn: number): boolean {
  const state = core.zones[core.machine.zoneOf(pfn)!.index]!;
  const blocks = state.isolated.peek();
  return blocks.length > 0 && blocks.includes(pfn - (pfn % PMD_PAGES));
}

/** Zones to try, best first: the preferred node's zones in zonelist order, then the other nodes'. */
function zonelist(core: CoreMm, gfp: Gfp): readonly ZoneState[] {
  const built = zonelists.get(core) ?? [[], []];
  zonelists.set(core, built);
  const byNode = built[gfp.movable ? 1 : 0];
  const near = gfp.near ?? core.current.task.homeNode;
  const place = (gfp.node ?? -1) + 1 + near * (core.machine.nodes + 1);
  const known = byNode[place];
  if (known !== undefined) return known;
  const rank = (z: ZoneState) => core.params.userZones.indexOf(z.zone.kind);
  const list = core.zones
    .filter((z) => rank(z) >= 0 && suits(z.zone.kind, z.zone.node, gfp))
    .sort((a, b) => distance(near, a) - distance(near, b) || rank(a) - rank(b));
  byNode[place] = list;
  return list;
}

/** Where a zone's node stands in the node order: the preferred one first, the others by number. */
function distance(near: number, { zone }: ZoneState): number {
  return zone.node === near ? -1 : zone.node;
}

// Zones never change: what build_all_zonelists made stays, for movable requests and others, by the nodes asked for.
const zonelists = new WeakMap<CoreMm, [ZoneList[], ZoneList[]]>();
type ZoneList = readonly ZoneState[] | undefined;

/** rmqueue_bulk: move a batch (or one 2 MiB block) from a zone's free lists to this CPU. */
function* refill(core: CoreMm, gfp: Gfp, zones: readonly ZoneState[]): Steps<boolean> {
  const list = gfp.order === 0 ? core.local.freePages : core.local.freeBlocks;
  for (const state of zones) {
    state.freePages.willAdd(REFILL);
    state.isolated.willRead(REFILL);
    list.willUpdate(REFILL);
    yield state.freeRuns.willUpdate(REFILL);
    const taken = gfp.order === 0 ? takeRun(state, PCP_BATCH, 1) : takeRun(state, 2 ** gfp.order, 2 ** gfp.order);
    if (taken === undefined) continue;
    const [first, pages] = taken;
    // Handed out ascending: the lowest frame lies on top.
    const more = list.value.slice();
    if (gfp.order > 0) more.push(first);
    else for (let pfn = first + pages - 1; pfn >= first; pfn--) more.push(pfn);
    list.value = more;
    if (state.freePages.peek() < state.lowPages) yield* call(wakeKswapd(core, state, gfp));
    return true;
  }
  return false;
}

/** post_alloc_hook and prep_compound_page: the page becomes a folio with one reference; then it is cleared. */
function* prepare(core: CoreMm, pfn: number, gfp: Gfp): Steps<void> {
  const { folios, frames } = core;
  folios.flags.willUpdate(pfn, PREP);
  folios.order.willUpdate(pfn, PREP);
  yield folios.refcount.willUpdate(pfn, PREP);
  folios.refcount.set(pfn, 1);
  if (gfp.order > 0) folios.order.set(pfn, gfp.order);
  if (gfp.zero) {
    const pages = 2 ** gfp.order;
    yield core.sim.times(pages, frames.content.willUpdateRange(pfn, pfn + pages - 1, CLEAR));
    frames.clear(pfn, pages);
  }
}

/**
 * The bulk form of allocFolio for small pages: up to `want` frames, the same and in the same order as that many calls
 * would give, with one reference each. Fewer, or none, where a call would have to do more than take from the lists.
 */
export function* allocFrames(core: CoreMm, gfp: Gfp, want: number): Steps<readonly number[]> {
  const { folios, frames, sim } = core;
  const list = core.local.freePages;
  if (core.params.reuse === 'choose' || core.zones.some((state) => state.isolated.peek().length > 0)) return [];
  const zones = zonelist(core, gfp);
  for (const state of zones) {
    state.freePages.willAdd(PCP);
    state.freeRuns.willUpdate(PCP);
  }
  const suited = list.peek().filter((pfn) => zones[0]?.zone.index === core.machine.zoneOf(pfn)!.index).length;
  const refills = Math.ceil(Math.max(0, want - suited) / PCP_BATCH);
  yield sim.times(want + 2 * refills, list.willUpdate(PCP));
  const left = [...list.value];
  const taken: number[] = [];
  while (taken.length < want) {
    const best = takeFrom(core, left, gfp);
    const better = best === undefined ? zones : betterZones(core, gfp, best);
    if (best !== undefined && better.length === 0) {
      taken.push(...left.splice(left.lastIndexOf(best), 1));
      continue;
    }
    const run = takeQuietly(better);
    if (run === undefined) break;
    // Handed out ascending: what is left of the batch lies on the list with its lowest frame on top.
    const end = run[0] + Math.min(run[1], want - taken.length);
    for (let pfn = run[0]; pfn < end; pfn++) taken.push(pfn);
    for (let pfn = run[0] + run[1] - 1; pfn >= end; pfn--) left.push(pfn);
  }
  list.value = left;
  if (taken.length === 0) return [];
  yield sim.local(PREP, taken.length);
  forRuns(taken, (first, last) => folios.refcount.fill(first, last, 1));
  if (gfp.zero) {
    yield sim.local(CLEAR, taken.length);
    forRuns(taken, (first, last) => frames.clear(first, last - first + 1));
  }
  return taken;
}

/** A batch from the first zone that has one and stays above its low watermark: kswapd need not know. */
function takeQuietly(zones: readonly ZoneState[]): readonly [number, number] | undefined {
  for (const state of zones) {
    if (state.freePages.peek() - PCP_BATCH < state.lowPages) return undefined;
    const run = takeRun(state, PCP_BATCH, 1);
    if (run !== undefined) return run;
  }
  return undefined;
}

/** The stretches of `frames` in which one frame follows the other. */
export function forRuns(frames: readonly number[], act: (first: number, last: number, at: number) => void): void {
  for (let at = 0; at < frames.length; ) {
    let end = at + 1;
    while (end < frames.length && frames[end] === frames[end - 1]! + 1) end++;
    act(frames[at]!, frames[end - 1]!, at);
    at = end;
  }
}

/**
 * Take a page of the hugetlb pool (dequeue_hugetlb_folio_*); undefined when it has none that suits. What was freed last
 * is taken first (enqueue_hugetlb_folio), with the marks that its last user left. `promised`: out of what is reserved, by
 * whom it was reserved for; anybody else gets what is left of the pool (available_huge_pages).
 */
export function* allocHugetlb(core: CoreMm, gfp: Gfp, promised: boolean): Steps<number | undefined> {
  const pool = core.hugePool.get(gfp.order);
  const reserved = core.hugeReserved.get(gfp.order);
  if (pool === undefined || reserved === undefined) return undefined;
  yield pool.willUpdate(HUGETLB);
  if (!promised && pool.value.length <= reserved.value) return undefined;
  // The nearest node that has one; poisoned pages stay where they are.
  const near = zonelist(core, gfp).map((state) => state.zone.node);
  const fits = pool.value.filter((pfn) => {
    const zone = core.machine.zoneOf(pfn)!;
    return suits(zone.kind, zone.node, gfp) && !core.folios.has(pfn, PG_HWPOISON);
  });
  const distance = (pfn: number): number => {
    const at = near.indexOf(core.machine.zoneOf(pfn)!.node);
    return at < 0 ? near.length : at;
  };
  let head = fits.at(-1);
  for (const pfn of fits.reverse()) if (distance(pfn) < distance(head!)) head = pfn;
  if (head === undefined) return undefined;
  pool.value = pool.value.filter((other) => other !== head);
  if (promised) reserved.value -= 1;
  // In use, and marked so: scanners find it.
  core.lru.willAdd(PREP);
  yield* call(prepare(core, head, gfp));
  core.lru.willAdd(PREP);
  yield core.folios.flags.willUpdate(head, PREP);
  core.folios.change(head, PG_HUGETLB | (promised ? PG_RESTORE_RESERVE : 0));
  return head;
}

/**
 * alloc_hugetlb_folio_nodemask, for migration: where the pool has no page that suits and nobody was promised, a fresh one,
 * unless it were gigantic. It is temporary until the old page takes that over (move_hugetlb_state).
 */
export function* allocMigrateHugetlb(core: CoreMm, gfp: Gfp): Steps<number | undefined> {
  const pooled = yield* call(allocHugetlb(core, gfp, false));
  if (pooled !== undefined || gfp.order > PMD_ORDER) return pooled;
  const head = yield* call(allocFolio(core, { ...gfp, zero: false }));
  if (head === undefined) return undefined;
  core.lru.willAdd(PREP);
  yield core.folios.flags.willUpdate(head, PREP);
  core.folios.change(head, PG_HUGETLB | PG_HUGETLB_TEMPORARY);
  return head;
}

/** drain_all_pages: give this CPU's lists back to the zones (before offline, CMA and when memory is short). */
export function* drainPages(core: CoreMm): Steps<void> {
  for (const perCpu of core.perCpu) {
    perCpu.freePages.willUpdate(DRAIN);
    for (const zone of core.zones) zone.freePages.willAdd(DRAIN);
    for (const zone of core.zones.slice(1)) zone.freeRuns.willUpdate(DRAIN);
    perCpu.freeBlocks.willUpdate(DRAIN);
    yield core.zones[0]!.freeRuns.willUpdate(DRAIN);
    for (const pfn of perCpu.freePages.value) giveBack(core, pfn, 1);
    for (const pfn of perCpu.freeBlocks.value) giveBack(core, pfn, PMD_PAGES);
    perCpu.freePages.value = [];
    perCpu.freeBlocks.value = [];
  }
}
