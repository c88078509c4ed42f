// Migrating one folio (mm/migrate.c migrate_folio_unmap, migrate_folio_move, unmap_and_move_huge_page). Between the two
// halves the old folio stays locked, with migration entries in place of its mappings.
import { call, type Steps } from '../../engine/process.ts';
import { step } from '../../engine/step.ts';
import { allocFolio, allocMigrateHugetlb } from '../alloc/page-alloc.ts';
import type { CoreMm } from '../core.ts';
import { lockFolio, unlockNow, waitWriteback } from '../folio-lock.ts';
import {
  PG_ANON,
  PG_HUGETLB,
  PG_ISOLATED,
  PG_LOCKED,
  PG_MLOCKED,
  PG_PRIVATE,
  PG_UPTODATE,
  PG_WRITEBACK,
} from '../page-flags.ts';
import { folioAddLru, lruAddDrain } from '../reclaim/lru.ts';
import { putNow, willPut } from '../refcount.ts';
import { rmapLock } from '../rmap/rmap.ts';
import { carryFlagsNow, replaceNow, willCarryFlags, willReplace } from './migrate-replace.ts';
import type { MigrateOptions } from './migrate-request.ts';
import { removeMigrationPtes, tryToMigrate } from './migration-entry.ts';

const REF_ONE = step('migrate_folio_unmap:ref-one', 'refcount');
const TRYLOCK = step('migrate_folio_unmap:trylock', 'lock');
const LOCK = step('migrate_folio_unmap:lock', 'lock');
const WRITEBACK = step('migrate_folio_unmap:writeback', 'op');
const DROP_PRIVATE = step('migrate_folio_unmap:try_to_free_buffers', 'op');
const MAPPED = step('migrate_folio_unmap:folio_mapped', 'op');
const UNDO = step('migrate_folio_undo_src', 'lock');
const PUT_DST = step('migrate_folio_undo_dst', 'refcount');
const COMPARE = step('__migrate_folio:compare-refs', 'refcount');
const COPY = step('folio_mc_copy', 'copy-page');
const REPLACE = step('__folio_migrate_mapping', 'op');
const FLAGS = step('folio_migrate_flags', 'op');
const UNLOCK = step('migrate_folio_move:unlock', 'lock');
const DONE = step('migrate_folio_done', 'refcount');
const FREED = step('migrate_folio_unmap:freed-under-us', 'refcount');
const HUGE_LOCK = step('hugetlb_folio_mapping_lock_write', 'lock');
const HUGE_UNLOCK = step('i_mmap_unlock_write', 'lock');

/** Where new folios come from, when not from the allocator. */
export interface FolioSource {
  allocAbove(core: CoreMm, src: number): Steps<number | undefined>;
}

/** Options of one attempt. */
export interface Attempt extends MigrateOptions {
  readonly newFolio?: FolioSource;
  /** 6.1: from the fourth pass on it waits for locks and writeback. 6.12: always, in a synchronous mode. */
  readonly force: boolean;
  /** Put the TLB flush off to the end of the batch. */
  readonly batchFlush: boolean;
  /** PF_MEMALLOC (direct compaction): never blocks on a folio lock. */
  readonly memalloc: boolean;
}

/** A folio with its mappings replaced by migration entries (or that had none), locked, and where it will go. */
export interface Unmapped {
  readonly src: number;
  readonly dst: number;
  readonly wasMapped: boolean;
  readonly wasMlocked: boolean;
}

export type Failure = 'EAGAIN' | 'EBUSY' | 'ENOMEM' | 'ENOSYS';

/** get_new_folio: alloc_migration_target. */
function* newFolio(core: CoreMm, src: number, attempt: Attempt): Steps<number | undefined> {
  if (attempt.newFolio !== undefined) return yield* call(attempt.newFolio.allocAbove(core, src));
  const order = core.folios.orderOf(src);
  // Isolated, so that neither its size nor its kind changes.
  if (core.folios.has(src, PG_HUGETLB)) return yield* call(allocMigrateHugetlb(core, { ...attempt.target, order }));
  // Without a node to go to (NUMA_NO_NODE) it stays near where it was.
  const near = core.machine.zoneOf(src)!.node;
  return yield* call(allocFolio(core, { near, ...attempt.target, order, zero: false }));
}

function* putUnusedDst(core: CoreMm, dst: number): Steps<void> {
  yield willPut(core, dst, PUT_DST);
  putNow(core, dst, 1, 'put_new_folio');
}

/** folio_ref_count(src) == 1: only the isolation holds it. */
function* freedUnderUs(core: CoreMm, src: number): Steps<boolean> {
  yield core.folios.refcount.willRead(src, REF_ONE);
  if (core.folios.refcount.get(src) !== 1) return false;
  yield willPut(core, src, FREED);
  putNow(core, src, 1, 'migrate_folio_done');
  return true;
}

/** migrate_folio_unmap: lock, wait for writeback, unmap. `freed`: nobody used it any more. */
export function* migrateFolioUnmap(core: CoreMm, src: number, attempt: Attempt): Steps<Unmapped | Failure | 'freed'> {
  const { folios } = core;
  if (yield* call(freedUnderUs(core, src))) return 'freed';
  const dst = yield* call(newFolio(core, src, attempt));
  if (dst === undefined) return 'ENOMEM';
  if (!(yield* call(lockBoth(core, src, dst, attempt)))) {
    yield* call(putUnusedDst(core, dst));
    return 'EAGAIN';
  }
  const busy = yield* call(settle(core, src, attempt));
  if (busy !== null) {
    yield* call(undo(core, { src, dst, wasMapped: false, wasMlocked: false }));
    return busy;
  }
  yield folios.mapcount.willRead(src, MAPPED);
  const wasMapped = folios.mapcountOf(src) > 0;
  const job = { src, dst, wasMapped, wasMlocked: folios.has(src, PG_MLOCKED) };
  if (!wasMapped) return job;
  yield* call(tryToMigrate(core, src, { batchFlush: attempt.batchFlush }));
  yield folios.mapcount.willRead(src, MAPPED);
  if (folios.mapcountOf(src) === 0) return job;
  yield* call(undo(core, job));
  return 'EAGAIN';
}

/** Lock the old folio, and the new one with it: nobody else knows that one. False: the lock is not to be had. */
function* lockBoth(core: CoreMm, src: number, dst: number, attempt: Attempt): Steps<boolean> {
  const { folios } = core;
  folios.flags.willUpdate(dst, TRYLOCK);
  yield folios.flags.willUpdate(src, TRYLOCK);
  const flags = folios.flags.get(src);
  if ((flags & PG_LOCKED) === 0) {
    folios.change(src, PG_LOCKED);
    folios.change(dst, PG_LOCKED);
    return true;
  }
  if (attempt.mode === 'async' || !attempt.force || attempt.memalloc) return false;
  if (attempt.mode === 'sync-light' && core.kernel.has('migration.batched-unmap') && (flags & PG_UPTODATE) === 0) {
    return false;
  }
  folios.flags.willUpdate(dst, LOCK);
  yield lockFolio(core, src, LOCK);
  folios.change(dst, PG_LOCKED);
  return true;
}

/** Writeback and file system data of a truncated page. Null: it may be unmapped. */
function* settle(core: CoreMm, src: number, attempt: Attempt): Steps<Failure | null> {
  const { folios } = core;
  yield folios.flags.willRead(src, WRITEBACK);
  if ((folios.flags.get(src) & PG_WRITEBACK) !== 0) {
    if (attempt.mode !== 'sync') return 'EBUSY';
    if (!attempt.force) return 'EAGAIN';
    yield waitWriteback(core, src, WRITEBACK);
  }
  // Locked: neither truncation nor the file system changes these.
  if (folios.mapping.peek(src) === 0 && folios.has(src, PG_PRIVATE) && !folios.has(src, PG_ANON)) {
    folios.refcount.willUpdate(src, DROP_PRIVATE);
    yield folios.flags.willUpdate(src, DROP_PRIVATE);
    folios.change(src, 0, PG_PRIVATE);
    folios.refcount.set(src, folios.refcount.get(src) - 1);
    return 'EAGAIN';
  }
  // secretmem_migrate_folio; kvm_gmem_migrate_folio would warn and refuse, too.
  return core.rmapInode(src)?.unevictable === true ? 'EBUSY' : null;
}

/** migrate_folio_undo_src, migrate_folio_undo_dst: the old mappings again, both unlocked, the new folio free. */
export function* undo(core: CoreMm, job: Unmapped): Steps<void> {
  const { src, dst } = job;
  if (job.wasMapped) yield* call(removeMigrationPtes(core, src, src));
  yield core.folios.flags.willUpdate(src, UNDO);
  unlockNow(core, src);
  yield* call(putUnusedDst(core, dst));
}

/** move_to_new_folio: the copy, and the place in the cache. Null: done. EAGAIN: an unexplained reference. */
function* moveToNewFolio(core: CoreMm, src: number, dst: number): Steps<Failure | null> {
  const { folios, frames } = core;
  const copyFirst = core.kernel.has('migration.copy-before-freeze');
  const pages = folios.pagesOf(src);
  if (copyFirst) {
    yield folios.willCompareRefs(src, COMPARE);
    if (folios.refcount.get(src) !== folios.expectedRefs(src) + 1) return 'EAGAIN';
    frames.content.willReadRange(src, src + pages - 1, COPY);
    yield core.sim.times(pages, frames.content.willUpdateRange(dst, dst + pages - 1, COPY));
    frames.copy(src, dst, pages);
    willCarryFlags(core, src, dst, REPLACE);
    yield willReplace(core, src, dst, REPLACE);
    if (!replaceNow(core, src, dst, false)) return 'EAGAIN';
    carryFlagsNow(core, src, dst);
    return null;
  }
  yield willReplace(core, src, dst, REPLACE);
  if (!replaceNow(core, src, dst, true)) return 'EAGAIN';
  frames.content.willReadRange(src, src + pages - 1, COPY);
  yield core.sim.times(pages, frames.content.willUpdateRange(dst, dst + pages - 1, COPY));
  frames.copy(src, dst, pages);
  yield willCarryFlags(core, src, dst, FLAGS);
  carryFlagsNow(core, src, dst);
  return null;
}

/** migrate_folio_move. Null: moved, and the old folio is free. On EAGAIN the folio stays unmapped and locked. */
export function* migrateFolioMove(core: CoreMm, job: Unmapped, reason: string): Steps<Failure | null> {
  const { folios } = core;
  const { src, dst } = job;
  const failure = yield* call(moveToNewFolio(core, src, dst));
  if (failure !== null) return failure;
  yield* call(folioAddLru(core, dst));
  // 6.1 drained whenever the folio was mapped; now only for mlocked folios.
  if (core.kernel.has('migration.batched-unmap') ? job.wasMlocked : job.wasMapped) yield* call(lruAddDrain(core));
  if (job.wasMapped) yield* call(removeMigrationPtes(core, src, dst));
  folios.flags.willUpdate(src, UNLOCK);
  yield willPut(core, dst, UNLOCK);
  unlockNow(core, dst);
  unlockNow(core, src);
  putNow(core, dst, 1, 'migrate_folio_move');
  yield willPut(core, src, DONE);
  // A page that shall never be used again keeps its last reference (page_handle_poison).
  if (reason === 'memory-failure') folios.change(src, 0, PG_ISOLATED);
  else putNow(core, src, 1, 'migrate_folio_done');
  return null;
}

/** unmap_and_move_huge_page: one hugetlb folio, its mappings restored whatever happens. */
export function* migrateHugetlbFolio(core: CoreMm, src: number, attempt: Attempt): Steps<Failure | null> {
  const { folios } = core;
  if (yield* call(freedUnderUs(core, src))) return null;
  const dst = yield* call(newFolio(core, src, attempt));
  if (dst === undefined) return 'ENOMEM';
  if (!(yield* call(lockBoth(core, src, dst, { ...attempt, mode: attempt.mode === 'sync' ? 'sync' : 'async' })))) {
    yield* call(putUnusedDst(core, dst));
    return 'EAGAIN';
  }
  // Sharing of page tables may end here, so a file's mapping lock is held for write over unmap and remap.
  const mapping = folios.has(src, PG_ANON) ? null : rmapLock(core, src);
  yield folios.mapcount.willRead(src, MAPPED);
  const wasMapped = folios.mapcountOf(src) > 0;
  const locked = wasMapped && mapping !== null;
  if (locked) yield* call(mapping.write(HUGE_LOCK));
  if (wasMapped) yield* call(tryToMigrate(core, src, { rmapLocked: locked }));
  yield folios.mapcount.willRead(src, MAPPED);
  const failure = folios.mapcountOf(src) > 0 ? 'EAGAIN' : yield* call(moveToNewFolio(core, src, dst));
  if (wasMapped) yield* call(removeMigrationPtes(core, src, failure === null ? dst : src, { rmapLocked: locked }));
  if (locked) yield mapping.up(HUGE_UNLOCK);
  if (failure !== null) {
    yield folios.flags.willUpdate(src, UNDO);
    unlockNow(core, src);
    yield* call(putUnusedDst(core, dst));
    return failure;
  }
  folios.flags.willUpdate(dst, UNLOCK);
  yield willPut(core, dst, UNLOCK);
  unlockNow(core, dst);
  putNow(core, dst, 1, 'folio_putback_active_hugetlb');
  // move_hugetlb_state: the old page returns to the pool with its last reference.
  yield willPut(core, src, DONE);
  unlockNow(core, src);
  folios.change(src, 0, PG_ISOLATED);
  putNow(core, src, 1, 'folio_putback_active_hugetlb');
  return null;
}
