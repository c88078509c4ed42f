// Collapsing 512 small shmem pages into a huge page of the page cache (mm/khugepaged.c collapse_file): each old page is
// locked, isolated and unmapped; one reference too many and all is rolled back, the mappings faulting again. Then the page
// tables that mapped the range are retracted. Other filesystems would need CONFIG_READ_ONLY_THP_FOR_FS.
import { call, type Steps } from '../../engine/process.ts';
import { step } from '../../engine/step.ts';
import { PMD_ORDER, PMD_PAGES } from '../../hw/machine.ts';
import { allocFolio } from '../alloc/page-alloc.ts';
import type { CoreMm } from '../core.ts';
import type { Inode } from '../file/inode.ts';
import { leftFile, willLeaveFile } from '../file/leave-file.ts';
import { shmemGetFolio } from '../file/shmem.ts';
import { tryLockNow, unlockNow, willTryLock, willUnlock } from '../folio-lock.ts';
import { UFFD_WP, type Vma } from '../mapping/vma.ts';
import type { Mm } from '../mm.ts';
import {
  PG_ACTIVE,
  PG_DIRTY,
  PG_ISOLATED,
  PG_LOCKED,
  PG_LRU,
  PG_SWAPBACKED,
  PG_UNEVICTABLE,
  PG_UPTODATE,
} from '../page-flags.ts';
import { folioAddLru, folioIsolateLru, folioPutbackLru, lruAddDrain } from '../reclaim/lru.ts';
import { folioPut, freezeNow, getNow, putNow, tryGetNow, unfreezeNow, willGet, willPut } from '../refcount.ts';
import { tryToUnmap } from '../rmap/unmap.ts';
import { tlbRemoveTableSyncOne, tryToUnmapFlush } from '../tlb.ts';
import { type CollapseLimits, isRefcountSuitable, type ScanResult } from './collapse-scan.ts';
import { collapsePteMapped, mapHere, retract } from './collapse-table.ts';

const SCAN = step('hpage_collapse_scan_file', 'op');
const GET = step('collapse_file:folio_trylock', 'lock');
const MAPPED = step('collapse_file:folio_mapped', 'op');
const TEST = step('collapse_file:ref-test', 'refcount');
const COPY = step('collapse_file:copy', 'copy-page');
const STORE = step('collapse_file:xas_store', 'op');
const UNLOCK = step('collapse_file:folio_unlock', 'lock');
const PUT_OLD = step('collapse_file:put-old', 'refcount');
const RMAP = step('retract_page_tables:i_mmap_lock', 'lock');
const RMAP_END = step('retract_page_tables:i_mmap_unlock', 'lock');
const TREE = step('retract_page_tables:walk', 'op');
const TRY_MMAP = step('retract_page_tables:mmap_write_trylock', 'lock');
const MMAP_END = step('retract_page_tables:mmap_write_unlock', 'lock');

type Failure = Exclude<ScanResult, 'SUCCEED'>;

/** hpage_collapse_scan_file and collapse_file of pages [index, index + 512); nobody holds mmap_lock. */
export function* collapseFile(
  core: CoreMm,
  mm: Mm,
  row: number,
  inode: Inode,
  index: number,
  limits: CollapseLimits | null,
): Steps<ScanResult> {
  if (index % PMD_PAGES !== 0) return 'VMA_CHECK';
  const scanned = yield* call(scanFile(core, inode, index, limits));
  if (scanned !== null && scanned !== 'PTE_MAPPED_HUGEPAGE') return scanned;
  const result: ScanResult = scanned ?? (yield* call(collapse(core, inode, index, limits !== null, mm)));
  // khugepaged leaves it to faults to map the huge page, and only takes away a table that maps it page by page.
  if (result === 'PTE_MAPPED_HUGEPAGE') return yield* call(collapsePteMapped(core, mm, row, inode, limits === null));
  return limits === null && result === 'SUCCEED' ? yield* call(mapHere(core, mm, row, inode, index)) : result;
}

/** The page cache is walked under RCU alone: a look at each page. Null: worth a try. */
function* scanFile(core: CoreMm, inode: Inode, index: number, limits: CollapseLimits | null): Steps<Failure | null> {
  const { folios } = core;
  let present = 0;
  let swap = 0;
  for (let at = index; at < index + PMD_PAGES; at++) {
    const expected = inode.pages.peek(at);
    if (expected > 0) folios.willCompareRefs(expected - 1, SCAN);
    yield inode.pages.willRead(at, SCAN);
    const entry = inode.pages.get(at);
    if (entry !== expected) {
      // Another page by now: look at that one.
      at--;
      continue;
    }
    if (entry < 0 && ++swap > (limits?.swap ?? PMD_PAGES)) return 'EXCEED_SWAP_PTE';
    if (entry <= 0) continue;
    const head = entry - 1;
    if (folios.orderOf(head) === PMD_ORDER) return 'PTE_MAPPED_HUGEPAGE';
    if ((folios.flags.get(head) & PG_LRU) === 0) return 'PAGE_LRU';
    if (!isRefcountSuitable(core, head)) return 'PAGE_COUNT';
    present++;
  }
  return limits !== null && present < PMD_PAGES - limits.none ? 'EXCEED_NONE_PTE' : null;
}

function* collapse(core: CoreMm, inode: Inode, index: number, khugepaged: boolean, target: Mm): Steps<ScanResult> {
  const huge = yield* call(allocFolio(core, { order: PMD_ORDER, movable: true, zero: false }));
  if (huge === undefined) return 'ALLOC_HUGE_PAGE_FAIL';
  const taken: { readonly at: number; readonly head: number }[] = [];
  let failed: Failure | null = null;
  for (let at = index; at < index + PMD_PAGES && failed === null; at++) {
    const got: number | Failure | null = yield* call(takePage(core, inode, at));
    if (got === null) continue;
    if (typeof got === 'string') failed = got;
    else taken.push({ at, head: got });
  }
  yield* call(tryToUnmapFlush(core));
  if (failed === null) failed = yield* call(copyAndStore(core, inode, index, huge, taken));
  if (failed !== null) {
    for (const { head } of taken) yield* call(giveBack(core, head));
    yield* call(folioPut(core, huge, 1, 'collapse_file'));
    return failed;
  }
  yield* call(retractPageTables(core, inode, index, khugepaged, target));
  yield willUnlock(core, huge, UNLOCK);
  unlockNow(core, huge);
  for (const { head } of taken) yield* call(putOld(core, head));
  return 'SUCCEED';
}

/** One old page: locked, isolated, unmapped, and held by nobody else. Null: a hole. */
function* takePage(core: CoreMm, inode: Inode, at: number): Steps<number | Failure | null> {
  const head = yield* call(lockPage(core, inode, at));
  if (head === null || typeof head === 'string') return head;
  const { folios } = core;
  if (!(yield* call(folioIsolateLru(core, head)))) return yield* call(refuse(core, head, 'DEL_PAGE_LRU'));
  yield folios.mapcount.willRead(head, MAPPED);
  if (folios.mapcountOf(head) > 0) yield* call(tryToUnmap(core, head, { ignoreMlock: true, batchFlush: true }));
  yield willGet(core, head, TEST);
  // Ours, the page cache's, the isolation's. 6.1 froze the count here; a late reference then finds nothing.
  const freezes = core.kernel.way('thp.collapse.file-ref-check') === 'freeze';
  const alone = freezes ? freezeNow(core, head, 3) : folios.refcount.get(head) === 3;
  if (alone) return head;
  yield* call(folioPutbackLru(core, head));
  return yield* call(refuse(core, head, 'PAGE_COUNT'));
}

function* refuse(core: CoreMm, head: number, why: Failure): Steps<Failure> {
  yield willUnlock(core, head, UNLOCK);
  unlockNow(core, head);
  yield* call(folioPut(core, head, 1, 'collapse_file'));
  return why;
}

/** The page at an index, locked and with a reference; a swapped page is read in. Null: a hole. */
function* lockPage(core: CoreMm, inode: Inode, at: number): Steps<number | Failure | null> {
  const { folios } = core;
  for (;;) {
    const expected = inode.pages.peek(at);
    if (expected > 0) {
      willGet(core, expected - 1, GET);
      willTryLock(core, expected - 1, GET);
    }
    yield inode.pages.willRead(at, GET);
    const entry = inode.pages.get(at);
    if (entry !== expected) continue;
    if (entry === 0) return null;
    if (entry < 0) {
      const got = yield* call(shmemGetFolio(core, inode, at, true));
      if (typeof got === 'string') return 'FAIL';
      yield* call(lruAddDrain(core));
      return got.head;
    }
    const head = entry - 1;
    if (folios.orderOf(head) === PMD_ORDER) return 'PTE_MAPPED_HUGEPAGE';
    if (!tryLockNow(core, head)) return 'PAGE_LOCK';
    // In the page cache and not frozen, as it was not locked.
    if (!tryGetNow(core, head, 1)) unlockNow(core, head);
    else return head;
  }
}

/** Copy everything, then the huge page takes the place of all at once. */
function* copyAndStore(
  core: CoreMm,
  inode: Inode,
  index: number,
  huge: number,
  taken: readonly { readonly at: number; readonly head: number }[],
): Steps<Failure | null> {
  const { folios, frames } = core;
  for (const { head } of taken) frames.content.willRead(head, COPY);
  yield core.sim.times(PMD_PAGES, frames.content.willUpdateRange(huge, huge + PMD_PAGES - 1, COPY));
  frames.clear(huge, PMD_PAGES);
  for (const { at, head } of taken) frames.content.set(huge + (at - index), frames.content.get(head));

  folios.flags.willUpdate(huge, STORE);
  folios.mapping.willUpdate(huge, STORE);
  folios.refcount.willUpdate(huge, STORE);
  yield inode.pages.willUpdateRange(index, index + PMD_PAGES - 1, STORE);
  const old = new Map(taken.map(({ at, head }) => [at, head + 1]));
  for (let at = index; at < index + PMD_PAGES; at++) {
    // A hole that was filled meanwhile (SCAN_PAGE_FILLED).
    if (inode.pages.get(at) !== (old.get(at) ?? 0)) return 'PAGE_LOCK';
  }
  inode.pages.fill(index, index + PMD_PAGES - 1, huge + 1);
  folios.mapping.set(huge, inode.id);
  folios.index.set(huge, index);
  folios.change(huge, PG_LOCKED | PG_UPTODATE | PG_SWAPBACKED | PG_DIRTY);
  // One reference for each page from the cache; the allocation's is one of them.
  getNow(core, huge, PMD_PAGES - 1);
  yield* call(folioAddLru(core, huge));
  return null;
}

/** Rollback of one page: unfrozen, unlocked, back on its list; its mappings fault again. */
function* giveBack(core: CoreMm, head: number): Steps<void> {
  willGet(core, head, UNLOCK);
  yield willUnlock(core, head, UNLOCK);
  if (core.folios.refcount.get(head) === 0) unfreezeNow(core, head, 3);
  unlockNow(core, head);
  yield* call(folioPutbackLru(core, head));
  yield* call(folioPut(core, head, 1, 'collapse_file:rollback'));
}

/** An old page leaves: our references go, a late one keeps it as an orphan. */
function* putOld(core: CoreMm, head: number): Steps<void> {
  willLeaveFile(core, head, PUT_OLD);
  yield willPut(core, head, PUT_OLD);
  if (core.folios.refcount.get(head) === 0) unfreezeNow(core, head, 3);
  core.folios.mapping.set(head, 0);
  leftFile(core, head);
  unlockNow(core, head);
  core.folios.change(head, 0, PG_ACTIVE | PG_UNEVICTABLE | PG_ISOLATED);
  putNow(core, head, 3, 'collapse_file');
}

/** retract_page_tables: the empty tables of every mapping that could take the huge page go. */
function* retractPageTables(core: CoreMm, inode: Inode, index: number, khugepaged: boolean, target: Mm): Steps<void> {
  const byRcu = core.kernel.way('thp.collapse.file-table-free') === 'rcu';
  yield* call(byRcu ? inode.iMmapLock.read(RMAP) : inode.iMmapLock.write(RMAP));
  for (const mm of inode.mms.peek()) mm.vmas.willRead(TREE);
  yield inode.mms.willRead(TREE);
  const places: { readonly mm: Mm; readonly vma: Vma; readonly vpn: number }[] = [];
  for (const mm of inode.mms.value) {
    for (const [, vma] of mm.vmas.entries()) {
      const vpn = vma.fields.file === inode ? vma.addressOf(index) : undefined;
      // A private mapping that was written to has copies of its own.
      if (vpn === undefined || vma.fields.anonVma !== null || vma.userfaults(UFFD_WP)) continue;
      if (vpn % PMD_PAGES === 0 && vpn + PMD_PAGES <= vma.end) places.push({ mm, vma, vpn });
    }
  }
  for (const { mm, vpn } of places) {
    if (byRcu) yield* call(retract(core, mm, vpn));
    else if (khugepaged || mm === target) {
      // Up to 6.5 mmap_lock for write was needed, and only tried for.
      yield mm.mmapLock.willChange(TRY_MMAP);
      if (!mm.mmapLock.tryNow(true)) continue;
      yield* call(retract(core, mm, vpn));
      if (core.kernel.has('thp.collapse.ipi-sync')) yield* call(tlbRemoveTableSyncOne(core));
      yield mm.mmapLock.up(MMAP_END);
    }
  }
  yield inode.iMmapLock.up(RMAP_END);
}
