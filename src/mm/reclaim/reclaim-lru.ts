// The LRU lists of a node as reclaim scans them (mm/vmscan.c isolate_lru_folios, shrink_inactive_list,
// shrink_active_list). A list is a set of flags and an age per folio; a scan looks at all folios at once and works off
// the oldest, which may have moved on by the time it isolates them. With MGLRU (evict_folios) there is no active list:
// what could not be reclaimed becomes the youngest; generations are not modelled beyond that.
import { call, type Steps } from '../../engine/process.ts';
import { step } from '../../engine/step.ts';
import type { CoreMm, ZoneState } from '../core.ts';
import { tryLockNow, unlockNow, willTryLock, willUnlock } from '../folio-lock.ts';
import {
  PG_ACTIVE,
  PG_ANON,
  PG_DIRTY,
  PG_ISOLATED,
  PG_LRU,
  PG_MLOCKED,
  PG_PARTIALLY_MAPPED,
  PG_RECLAIM,
  PG_REFERENCED,
  PG_SWAPBACKED,
  PG_UNEVICTABLE,
  PG_WORKINGSET,
  PG_WRITEBACK,
} from '../page-flags.ts';
import { isolateNow, lruAddDrain, moveFolioToLru } from './lru.ts';
import { shrinkFolioList } from './reclaim.ts';
import type { ReclaimStat, ScanControl } from './reclaim-folio.ts';
import { folioReferenced } from './reclaim-references.ts';

const SCAN = step('isolate_lru_folios:scan', 'op');
const ISOLATED = step('reclaim_throttle:VMSCAN_THROTTLE_ISOLATED', 'none');
const ISOLATE = step('isolate_lru_folios', 'op');
const TRYLOCK = step('folio_referenced:trylock', 'lock');
const UNLOCK = step('folio_referenced:unlock', 'lock');
const DEACTIVATE = step('shrink_active_list:deactivate', 'op');

/** SWAP_CLUSTER_MAX */
export const SWAP_CLUSTER_MAX = 32;

export const LISTS = ['inactive-anon', 'active-anon', 'inactive-file', 'active-file'] as const;
export type ListName = (typeof LISTS)[number];

/** Candidates that kswapd keeps of one list at a time. */
const CANDIDATES_MAX = 8192;
const BUCKETS = 1024;

/** Flags of folios that a look counts. */
const COUNTED = PG_PARTIALLY_MAPPED | PG_LRU | PG_ISOLATED | PG_WRITEBACK | PG_DIRTY;

interface List {
  /** All folios on it when it was scanned [pages]. */
  pages: number;
  /** The oldest of them, oldest first; `at` is the next. */
  heads: number[];
  at: number;
}

/** What one reclaimer knows of the lists of a node. Local to it. */
export class LruScan {
  readonly core: CoreMm;
  private readonly zones: readonly ZoneState[];
  private readonly candidates: number;
  private readonly lists: Record<ListName, List>;
  /** Partially unmapped THPs seen: the deferred split queue. */
  partiallyMapped: number[] = [];
  looked = false;
  /** NR_ISOLATED_ANON, NR_ISOLATED_FILE at the last look [pages]. */
  readonly isolated = { anon: 0, file: 0 };
  /** NR_ZONE_WRITE_PENDING at the last look: dirty pages of files, and all under writeback. */
  writePending = 0;

  /** `candidates`: how many of the oldest of each list it keeps from one look to the next. */
  constructor(core: CoreMm, zones: readonly ZoneState[], candidates = CANDIDATES_MAX) {
    this.core = core;
    this.zones = zones;
    this.candidates = candidates;
    const empty = (): List => ({ pages: 0, heads: [], at: 0 });
    this.lists = {
      'inactive-anon': empty(),
      'active-anon': empty(),
      'inactive-file': empty(),
      'active-file': empty(),
    };
  }

  /** lruvec_lru_size at the last look [pages]. */
  pages(name: ListName): number {
    return this.lists[name].pages;
  }

  /** zone_reclaimable_pages at the last look, with what is isolated [pages]. */
  reclaimablePages(anon: boolean): number {
    const file = this.pages('inactive-file') + this.pages('active-file') + this.isolated.file;
    return anon ? file + this.pages('inactive-anon') + this.pages('active-anon') + this.isolated.anon : file;
  }

  /** The oldest folios of a list, `want` pages of them. Looks again when those it knows are used up. */
  *take(name: ListName, want: number): Steps<readonly number[]> {
    if (this.lists[name].at >= this.lists[name].heads.length) yield* call(this.look());
    const list = this.lists[name];
    const from = list.at;
    for (let pages = 0; pages < want && list.at < list.heads.length; list.at++) {
      pages += this.core.folios.pagesOf(list.heads[list.at]!);
    }
    return list.heads.slice(from, list.at);
  }

  /** Who adds to the lists or isolates from them adds to `core.lru`, which this reads. */
  *look(): Steps<void> {
    yield this.core.lru.willRead(SCAN);
    void this.core.lru.value;
    this.looked = true;
    const found: Record<ListName, number[]> = {
      'inactive-anon': [],
      'active-anon': [],
      'inactive-file': [],
      'active-file': [],
    };
    this.partiallyMapped = [];
    this.isolated.anon = 0;
    this.isolated.file = 0;
    this.writePending = 0;
    for (const { zone } of this.zones) this.collect(zone.firstPfn, zone.firstPfn + zone.pages, found);
    for (const name of LISTS) {
      const heads = found[name];
      let pages = 0;
      for (const head of heads) pages += this.core.folios.pagesOf(head);
      this.lists[name] = { pages, heads: this.oldest(heads), at: 0 };
    }
  }

  private collect(first: number, end: number, found: Record<ListName, number[]>): void {
    const { flags } = this.core.folios;
    for (let pfn = first; pfn < end; ) {
      const bits = flags.peek(pfn);
      const last = bits === 0 ? flags.endOfRun(pfn, end - 1) : pfn;
      if ((bits & COUNTED) !== 0) this.count(pfn, bits, found);
      pfn = last + 1;
    }
  }

  private count(pfn: number, bits: number, found: Record<ListName, number[]>): void {
    if ((bits & PG_PARTIALLY_MAPPED) !== 0) this.partiallyMapped.push(pfn);
    if ((bits & PG_LRU) !== 0 && (bits & PG_UNEVICTABLE) === 0) found[listOf(this.core, bits)].push(pfn);
    if ((bits & PG_ISOLATED) !== 0) {
      this.isolated[(bits & PG_SWAPBACKED) !== 0 ? 'anon' : 'file'] += this.core.folios.pagesOf(pfn);
    }
    if ((bits & PG_WRITEBACK) !== 0 || (bits & (PG_DIRTY | PG_SWAPBACKED)) === PG_DIRTY) {
      this.writePending += this.core.folios.pagesOf(pfn);
    }
  }

  private oldest(heads: number[]): number[] {
    const { candidates } = this;
    const { lruAge } = this.core.folios;
    let kept = heads;
    if (candidates === 0) return [];
    if (heads.length > candidates) {
      let most = 0;
      for (const head of heads) most = Math.max(most, lruAge.peek(head));
      const bucketOf = (head: number) => Math.floor((lruAge.peek(head) * BUCKETS) / (most + 1));
      const counts = new Array<number>(BUCKETS).fill(0);
      for (const head of heads) counts[bucketOf(head)]!++;
      let limit = 0;
      for (let sum = 0; limit < BUCKETS && sum < candidates; limit++) sum += counts[limit]!;
      kept = heads.filter((head) => bucketOf(head) < limit);
    }
    kept.sort((a, b) => lruAge.peek(a) - lruAge.peek(b) || a - b);
    return kept.length > candidates ? kept.slice(0, candidates) : kept;
  }
}

function listOf(core: CoreMm, flags: number): ListName {
  const active = (flags & PG_ACTIVE) !== 0 && !core.kernel.has('reclaim.multigen-lru');
  // Lazyfree pages are on the file lists.
  if ((flags & PG_SWAPBACKED) !== 0) return active ? 'active-anon' : 'inactive-anon';
  return active ? 'active-file' : 'inactive-file';
}

/** isolate_lru_folios: those of `heads` that are still on the list and can be had, under one hold of lru_lock. */
function* isolate(core: CoreMm, heads: readonly number[], name: ListName): Steps<number[]> {
  const { folios } = core;
  if (heads.length === 0) return [];
  for (const head of heads) {
    folios.refcount.willUpdate(head, ISOLATE);
    folios.flags.willUpdate(head, ISOLATE);
  }
  yield core.sim.times(heads.length, core.lru.willAdd(ISOLATE));
  const gone = core.kernel.has('reclaim.multigen-lru') ? PG_ACTIVE | PG_RECLAIM : 0;
  return heads.filter((head) => {
    const flags = folios.flags.get(head);
    if ((flags & PG_UNEVICTABLE) !== 0 || listOf(core, flags) !== name || !isolateNow(core, head)) return false;
    if (gone !== 0) folios.change(head, 0, gone);
    return true;
  });
}

/**
 * too_many_isolated: more than an eighth of the list is in the hands of others. A direct reclaimer waits once, HZ/50, and
 * leaves the list alone when it was in vain. The multi-gen LRU does not look.
 */
function* throttledByIsolation(scan: LruScan, name: 'inactive-anon' | 'inactive-file'): Steps<boolean> {
  const { core } = scan;
  if (core.kernel.has('reclaim.multigen-lru') || core.current.task.kernelThread) return false;
  const kind = name === 'inactive-anon' ? 'anon' : 'file';
  const tooMany = () => scan.isolated[kind] > scan.pages(name) >> 3;
  if (!tooMany()) return false;
  yield core.sim.sleep(20_000_000, ISOLATED);
  yield* call(scan.look());
  return tooMany();
}

export interface InactiveShrunk {
  readonly reclaimed: number;
  readonly taken: number;
  readonly stat: ReclaimStat | null;
}

/** shrink_inactive_list: one batch. */
export function* shrinkInactiveList(
  scan: LruScan,
  name: 'inactive-anon' | 'inactive-file',
  want: number,
  sc: ScanControl,
): Steps<InactiveShrunk> {
  const { core } = scan;
  if (!sc.kswapd && (yield* call(throttledByIsolation(scan, name)))) return { reclaimed: 0, taken: 0, stat: null };
  yield* call(lruAddDrain(core));
  const heads = yield* call(isolate(core, yield* call(scan.take(name, want)), name));
  if (heads.length === 0) return { reclaimed: 0, taken: 0, stat: null };
  let taken = 0;
  for (const head of heads) taken += core.folios.pagesOf(head);
  const result = yield* call(shrinkFolioList(core, heads, sc));
  const rejected = core.kernel.has('reclaim.multigen-lru') ? PG_ACTIVE | PG_REFERENCED | PG_WORKINGSET : 0;
  for (const head of result.kept) yield* call(moveFolioToLru(core, head, rejected));
  return { reclaimed: result.reclaimed, taken, stat: result.stat };
}

/** shrink_active_list: one batch moves to the inactive list, used or not; only executable file pages get another round. */
export function* shrinkActiveList(scan: LruScan, name: 'active-anon' | 'active-file', want: number): Steps<void> {
  const { core } = scan;
  const { folios } = core;
  yield* call(lruAddDrain(core));
  const heads = yield* call(isolate(core, yield* call(scan.take(name, want)), name));
  for (const head of heads) {
    const stays = !folios.has(head, PG_MLOCKED) && (yield* call(usedAsCode(core, head)));
    if (!stays) {
      yield folios.flags.willUpdate(head, DEACTIVATE);
      folios.change(head, PG_WORKINGSET, PG_ACTIVE);
    }
    yield* call(moveFolioToLru(core, head));
  }
}

/** folio_referenced of an unlocked folio: a file folio is locked for it, and counts as used when that fails. */
function* usedAsCode(core: CoreMm, head: number): Steps<boolean> {
  const file = !core.folios.has(head, PG_ANON);
  if (file) {
    yield willTryLock(core, head, TRYLOCK);
    if (!tryLockNow(core, head)) return false;
  }
  const found = yield* call(folioReferenced(core, head));
  if (file) {
    yield willUnlock(core, head, UNLOCK);
    unlockNow(core, head);
  }
  return found.young > 0 && found.exec && file;
}
