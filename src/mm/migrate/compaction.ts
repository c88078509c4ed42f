// Compaction (mm/compaction.c): a scanner from the bottom of a zone isolates movable pages, another takes free frames from
// the top, and the pages move up. Pinned anonymous pages are passed over; pinned file pages are isolated, and come back.
// Whole pageblocks are not skipped by hints, and kcompactd does not run by itself.
import { call, type Steps } from '../../engine/process.ts';
import { type Announced, type Step, step } from '../../engine/step.ts';
import { PMD_PAGES } from '../../hw/machine.ts';
import { drainPages } from '../alloc/page-alloc.ts';
import type { CoreMm, ZoneState } from '../core.ts';
import { PG_ANON, PG_DIRTY, PG_HUGETLB, PG_LRU, PG_SWAPCACHE, PG_UNEVICTABLE, PG_WRITEBACK } from '../page-flags.ts';
import { isolateNow, lruAddDrain, lruAddDrainAll } from '../reclaim/lru.ts';
import { isolateHugetlb, type MigrateRequest, migratePages, putbackMovablePages } from './migrate.ts';

const SCAN = step('isolate_migratepages_block:scan', 'none');
const LOOK = step('isolate_migratepages_block:look', 'op');
const ISOLATE = step('isolate_migratepages_block:isolate', 'op');
const FREE = step('compaction_alloc', 'alloc');
const FINISHED = step('compact_finished', 'op');
const STATS = step('compact_zone:vmstat', 'none');

/** COMPACT_CLUSTER_MAX */
const CLUSTER = 32;

export interface CompactControl {
  readonly mode: 'async' | 'sync-light' | 'sync';
  /** Stop when a free block of this order is there; null: go through the whole zone (compact_memory). */
  readonly order: number | null;
  /** Called by an allocation: never blocks on folio locks. */
  readonly direct: boolean;
}

export interface Compacted {
  /** A block of the wanted order is free now. */
  readonly success: boolean;
  readonly scanned: number;
  readonly migrated: number;
  /** Folios isolated that could not move. */
  readonly failed: number;
}

/** How isolate_migratepages_block treats pages. */
export interface IsolateMode {
  readonly mode: CompactControl['mode'];
  /** alloc_contig_range, which takes huge pages too. */
  readonly contig: boolean;
}

/** What one block of frames yields. */
export interface Isolated {
  readonly heads: number[];
  /** The next frame to scan. */
  next: number;
  scanned: number;
}

/**
 * isolate_migratepages over [low, high): stops after a cluster of 32, or at the end of the first pageblock that gave
 * something. Memory with nothing to isolate is passed over in one step: it is walked once, and no retry.
 */
export function* isolateMigratepages(core: CoreMm, low: number, high: number, how: IsolateMode): Steps<Isolated> {
  const { folios } = core;
  const found: Isolated = { heads: [], next: low, scanned: 0 };
  yield willScan(core, how, SCAN);
  while (found.next < high && found.heads.length < CLUSTER) {
    const pfn = found.next;
    if (!how.contig && found.heads.length > 0 && pfn % PMD_PAGES === 0) break;
    const head = folios.headOf(pfn);
    const flags = folios.flags.peek(head);
    found.scanned++;
    found.next = folios.isLarge(head) ? head + folios.pagesOf(head) : pfn + 1;
    if ((flags & PG_HUGETLB) !== 0) {
      if (!how.contig || folios.refcount.peek(head) === 0) continue;
      if (yield* call(isolateHugetlb(core, head))) found.heads.push(head);
      folios.flags.willRead(head, SCAN);
      yield willScan(core, how, SCAN);
      continue;
    }
    if ((flags & PG_LRU) === 0 || (folios.isLarge(head) && !how.contig)) continue;
    // What is passed over takes no step of its own: the scan goes on in that look.
    if (!(yield* call(worthIsolating(core, head, how)))) continue;
    folios.refcount.willUpdate(head, ISOLATE);
    core.lru.willAdd(ISOLATE);
    yield folios.flags.willUpdate(head, ISOLATE);
    if (isolateNow(core, head)) found.heads.push(head);
    yield willScan(core, how, SCAN);
  }
  return found;
}

/** A racy look in the kernel as well: what is free or not on a list is passed over without touching it. */
function willScan(core: CoreMm, how: IsolateMode, at: Step): Announced {
  // Huge pages come into use and go.
  if (how.contig) for (const pool of core.hugePool.values()) pool.willRead(at);
  return core.lru.willRead(at);
}

/** The closer look: tests for pins, IO and mappings that keep a page from moving. */
function* worthIsolating(core: CoreMm, head: number, how: IsolateMode): Steps<boolean> {
  const { folios } = core;
  folios.mapcount.willRead(head, LOOK);
  folios.mapping.willRead(head, LOOK);
  folios.refcount.willRead(head, LOOK);
  willScan(core, how, LOOK);
  yield folios.flags.willRead(head, LOOK);
  const flags = folios.flags.get(head);
  const mapped = (flags & PG_ANON) === 0 ? folios.mapping.get(head) !== 0 : (flags & PG_SWAPCACHE) !== 0;
  // 119d6d59dcc0: no cache explains a reference beyond the mappings, so somebody holds the page, and it would not move.
  const held = !mapped && folios.refcount.get(head) > folios.mapcountOf(head);
  if (held && core.kernel.has('compaction.skips-pinned')) return false;
  if (how.mode === 'async') {
    const file = (flags & PG_ANON) === 0 && core.rmapInode(head)?.kind === 'file';
    if ((flags & PG_WRITEBACK) !== 0 || (file && (flags & PG_DIRTY) !== 0)) return false;
  }
  // vm.compact_unevictable_allowed is 1 by default; secretmem and guest_memfd are not to be moved at all.
  return (flags & PG_UNEVICTABLE) === 0 || core.rmapInode(head)?.unevictable !== true;
}

/** One run over a zone. */
class Run {
  readonly core: CoreMm;
  readonly zone: ZoneState;
  readonly control: CompactControl;
  migratePfn: number;
  scanned = 0;
  migrated = 0;
  failed = 0;

  constructor(core: CoreMm, zone: ZoneState, control: CompactControl) {
    this.core = core;
    this.zone = zone;
    this.control = control;
    this.migratePfn = zone.zone.firstPfn;
  }

  get end(): number {
    return this.zone.zone.firstPfn + this.zone.zone.pages;
  }

  /** compaction_alloc: the highest free frame above the migrate scanner. Undefined: the scanners have met. */
  *allocAbove(core: CoreMm, src: number): Steps<number | undefined> {
    if (core.folios.isLarge(src)) return undefined;
    const { zone } = this;
    for (;;) {
      // The look tells which frame to announce; the act looks again.
      const expected = core.sim.unwatched(() => this.highest());
      if (expected !== undefined) core.folios.refcount.willUpdate(expected, FREE);
      zone.freePages.willAdd(FREE);
      yield zone.freeRuns.willUpdate(FREE);
      const pfn = this.highest();
      if (pfn === undefined) return undefined;
      if (pfn !== expected) continue;
      zone.freeRuns.cut(pfn, 1);
      zone.freePages.add(-1);
      core.folios.refcount.set(pfn, 1);
      return pfn;
    }
  }

  private highest(): number | undefined {
    const { highest } = this.zone.freeRuns;
    return highest === undefined || highest <= this.migratePfn ? undefined : highest;
  }
}

/** compact_zone */
export function* compactZone(core: CoreMm, zone: ZoneState, control: CompactControl): Steps<Compacted> {
  const run = new Run(core, zone, control);
  const request: MigrateRequest = {
    mode: control.mode,
    reason: 'compaction',
    target: { movable: true, zero: false, noReclaim: true },
    memalloc: control.direct,
    newFolio: run,
  };
  yield* call(lruAddDrain(core));
  let success = control.order !== null && (yield* call(blockFree(zone, control.order)));
  while (!success && run.migratePfn < run.end) {
    const found = yield* call(
      isolateMigratepages(core, run.migratePfn, run.end, { mode: control.mode, contig: false }),
    );
    run.migratePfn = found.next;
    run.scanned += found.scanned;
    if (found.heads.length === 0) continue;
    const result = yield* call(migratePages(core, found.heads, request));
    run.migrated += result.moved;
    // What no free frame was left for has not been tried.
    if (result.errno === undefined) run.failed += result.failed.length;
    yield* call(putbackMovablePages(core, result.failed));
    // Nothing free above any more: the scanners have met.
    if (result.errno === 'ENOMEM') break;
    if (control.order !== null) {
      yield* call(lruAddDrain(core));
      yield* call(drainPages(core));
      success = yield* call(blockFree(zone, control.order));
    }
  }
  core.vmstat.willAdd('compact_migrate_scanned', STATS);
  yield core.vmstat.willAdd(success || control.order === null ? 'compact_success' : 'compact_fail', STATS);
  core.vmstat.add('compact_migrate_scanned', run.scanned);
  core.vmstat.add(success || control.order === null ? 'compact_success' : 'compact_fail', 1);
  return { success, scanned: run.scanned, migrated: run.migrated, failed: run.failed };
}

/** compact_finished: is a free block of the order there? */
function* blockFree(zone: ZoneState, order: number): Steps<boolean> {
  yield zone.freeRuns.willRead(FINISHED);
  const pages = 2 ** order;
  return zone.freeRuns.place(pages, pages) !== undefined;
}

/** /proc/sys/vm/compact_memory: every zone, whole, waiting for what can be waited for. */
export function* compactMemory(core: CoreMm): Steps<Compacted> {
  const total = { success: true, scanned: 0, migrated: 0, failed: 0 };
  yield* call(lruAddDrainAll(core));
  yield* call(drainPages(core));
  for (const zone of core.zones) {
    if (zone.zone.kind === 'DEVICE') continue;
    const one = yield* call(compactZone(core, zone, { mode: 'sync', order: null, direct: false }));
    total.scanned += one.scanned;
    total.migrated += one.migrated;
    total.failed += one.failed;
  }
  return total;
}

/** try_to_compact_pages of an allocation that found no block: without waiting first, then waiting a little. */
export function* directCompact(core: CoreMm, zones: readonly ZoneState[], order: number): Steps<boolean> {
  for (const mode of ['async', 'sync-light'] as const) {
    for (const zone of zones) {
      if ((yield* call(compactZone(core, zone, { mode, order, direct: true }))).success) return true;
    }
  }
  return false;
}
