// migrate_pages (mm/migrate.c). Two ways: since 6.3 a batch is unmapped, flushed once and moved, and folios that could
// not be moved stay unmapped over the passes; before, every pass was a full unmap, move and restore of each folio.
import { call, type Steps } from '../../engine/process.ts';
import { step } from '../../engine/step.ts';
import { PMD_PAGES } from '../../hw/machine.ts';
import type { CoreMm } from '../core.ts';
import type { Errno } from '../errno.ts';
import { PG_HUGETLB, PG_ISOLATED, PG_PARTIALLY_MAPPED } from '../page-flags.ts';
import { folioPutbackLru } from '../reclaim/lru.ts';
import { putNow, tryGetNow, willPut } from '../refcount.ts';
import { splitIsolated } from '../thp/split-folio.ts';
import { tryToUnmapFlush } from '../tlb.ts';
import {
  type Attempt,
  type Failure,
  type FolioSource,
  migrateFolioMove,
  migrateFolioUnmap,
  migrateHugetlbFolio,
  type Unmapped,
  undo,
} from './migrate-folio.ts';
import type { MigrateOptions, MigrateResult } from './migrate-request.ts';

const STATS = step('count_vm_events:pgmigrate', 'none');
const ISOLATE_HUGETLB = step('folio_isolate_hugetlb', 'op');
const PUTBACK_HUGETLB = step('folio_putback_hugetlb', 'op');

/** NR_MAX_MIGRATE_PAGES_RETRY is `params.migratePasses`; a synchronous migration since 6.3 spends these of it first. */
const ASYNC_PASSES = 3;
/** NR_MAX_BATCHED_MIGRATION [pages] */
const BATCH_PAGES = PMD_PAGES;

/** As migrate_pages is asked here. */
export interface MigrateRequest extends MigrateOptions {
  /** PF_MEMALLOC: direct compaction and reclaim. */
  readonly memalloc?: boolean;
  /** get_new_folio of a caller that keeps free frames of its own (compaction). */
  readonly newFolio?: FolioSource;
}

export interface Migrated extends MigrateResult {
  /** The kernel's return value: folios not migrated (a split THP counts once); meaningless with `errno`. */
  readonly notMoved: number;
  /** Pages that moved. */
  readonly moved: number;
}

/** What one call collects. */
interface Run {
  readonly core: CoreMm;
  readonly request: MigrateRequest;
  /** Permanent failures: back to the caller. */
  readonly failed: number[];
  /** Folios that came out of a split: tried once more, asynchronously. */
  readonly split: number[];
  moved: number;
  failedPages: number;
}

/** What a batch leaves: folios still worth a try, and how many count as not migrated; or -ENOMEM. */
interface Left {
  readonly again: number[];
  readonly failed: number;
  readonly noMemory: boolean;
}

/** migrate_pages: the folios are isolated. What stays is in `failed`, for putback_movable_pages. */
export function* migratePages(core: CoreMm, heads: readonly number[], request: MigrateRequest): Steps<Migrated> {
  const run: Run = { core, request, failed: [], split: [], moved: 0, failedPages: 0 };
  const isHuge = (head: number) => core.folios.has(head, PG_HUGETLB);
  // Sorted before anything moves: a folio that was moved and freed says nothing of itself any more.
  let rest = heads.filter((head) => !isHuge(head));
  const hugetlb = yield* call(migrateHugetlbs(run, heads.filter(isHuge)));
  run.failed.push(...hugetlb.again);
  let notMoved = hugetlb.failed;
  let noMemory = hugetlb.noMemory;
  while (rest.length > 0 && !noMemory) {
    const [batch, later] = cutBatch(core, rest);
    rest = later;
    const left = yield* call(migrateOneBatch(run, batch));
    run.failed.push(...left.again);
    notMoved += left.failed;
    noMemory = left.noMemory;
    if (!noMemory && run.split.length > 0) {
      // Minimal effort, and no failure of its own: the large folio has been counted.
      const parts = run.split.splice(0);
      const ones = yield* call(migratePagesBatch(run, parts, attempt(run, 'async', true), 1));
      run.failed.push(...ones.again);
    }
  }
  run.failed.push(...rest, ...run.split);
  yield* call(count(run));
  const result = { failed: run.failed, notMoved: run.failed.length === 0 ? 0 : notMoved, moved: run.moved };
  return noMemory ? { ...result, errno: 'ENOMEM' as Errno } : result;
}

function* count(run: Run): Steps<void> {
  const { vmstat } = run.core;
  vmstat.willAdd('pgmigrate_success', STATS);
  yield vmstat.willAdd('pgmigrate_fail', STATS);
  vmstat.add('pgmigrate_success', run.moved);
  vmstat.add('pgmigrate_fail', run.failedPages);
}

function attempt(run: Run, mode: MigrateOptions['mode'], force: boolean): Attempt {
  const batches = run.core.kernel.has('migration.batched-unmap');
  const { request } = run;
  return { ...request, mode, force, batchFlush: batches && mode === 'async', memalloc: request.memalloc === true };
}

function cutBatch(core: CoreMm, heads: number[]): [number[], number[]] {
  let pages = 0;
  let at = 0;
  while (at < heads.length && pages < BATCH_PAGES) pages += core.folios.pagesOf(heads[at++]!);
  return [heads.slice(0, at), heads.slice(at)];
}

/** One batch, in the mode asked for. */
function* migrateOneBatch(run: Run, batch: number[]): Steps<Left> {
  const { mode } = run.request;
  const all = run.core.params.migratePasses;
  if (!run.core.kernel.has('migration.batched-unmap')) return yield* call(migratePassByPass(run, batch));
  if (mode === 'async') return yield* call(migratePagesBatch(run, batch, attempt(run, 'async', true), all));
  // migrate_pages_sync: first as a batch without waiting, then what is left one by one.
  const passes = run.core.kernel.way('migration.passes') === 'three-then-seven' ? Math.min(ASYNC_PASSES, all) : 0;
  const failedBefore = run.failed.length;
  const pagesBefore = run.failedPages;
  const first = yield* call(migratePagesBatch(run, batch, attempt(run, 'async', true), passes));
  if (first.noMemory) return first;
  // Its failures are tried again and not counted, permanent ones too; splits are.
  run.failedPages = pagesBefore;
  const left = [...run.failed.splice(failedBefore), ...first.again];
  let failed = first.failed - left.length;
  const again: number[] = [];
  for (let i = 0; i < left.length; i++) {
    const one = yield* call(migratePagesBatch(run, [left[i]!], attempt(run, mode, true), all - passes));
    again.push(...one.again);
    failed += one.failed;
    if (one.noMemory) return { again: [...again, ...left.slice(i + 1)], failed, noMemory: true };
  }
  return { again, failed, noMemory: false };
}

/** migrate_pages_batch: unmap all (up to `passes` times), flush once, move all (up to `passes` times), undo the rest. */
function* migratePagesBatch(run: Run, heads: readonly number[], how: Attempt, passes: number): Steps<Left> {
  const { core } = run;
  const unmapped: Unmapped[] = [];
  let todo = [...heads];
  let failed = 0;
  let noMemory = false;
  for (let pass = 0; pass < passes && todo.length > 0 && !noMemory; pass++) {
    const again: number[] = [];
    for (let i = 0; i < todo.length; i++) {
      const src = todo[i]!;
      if (core.folios.has(src, PG_PARTIALLY_MAPPED) && (yield* call(trySplit(run, src, how)))) {
        failed++;
        continue;
      }
      if (core.folios.isLarge(src) && !core.kernel.has('thp.pmd-migration')) {
        failed++;
        if (!(yield* call(trySplit(run, src, how)))) fail(run, src);
        continue;
      }
      const result = yield* call(migrateFolioUnmap(core, src, how));
      if (typeof result === 'object') unmapped.push(result);
      else if (result === 'freed') run.moved += 1;
      else if (result === 'EAGAIN') again.push(src);
      else if (result === 'ENOMEM') {
        failed++;
        if (core.folios.isLarge(src) && how.reason !== 'numa' && (yield* call(trySplit(run, src, how)))) continue;
        again.push(...todo.slice(i));
        noMemory = true;
        break;
      } else {
        failed++;
        fail(run, src);
      }
    }
    todo = again;
  }
  for (const src of todo) run.failedPages += core.folios.pagesOf(src);
  failed += todo.length;
  yield* call(tryToUnmapFlush(core));
  const stuck = yield* call(moveAll(run, unmapped, passes));
  for (const job of stuck.jobs) yield* call(undo(core, job));
  const left = [...todo, ...stuck.jobs.map((job) => job.src)];
  return { again: left, failed: failed + stuck.jobs.length + stuck.failed, noMemory };
}

/** The move phase: jobs that stayed unmapped through all passes. */
function* moveAll(run: Run, jobs: readonly Unmapped[], passes: number): Steps<{ jobs: Unmapped[]; failed: number }> {
  const { core } = run;
  let todo = [...jobs];
  let failed = 0;
  for (let pass = 0; pass < passes && todo.length > 0; pass++) {
    const again: Unmapped[] = [];
    for (const job of todo) {
      const pages = core.folios.pagesOf(job.src);
      const failure = yield* call(migrateFolioMove(core, job, run.request.reason));
      if (failure === null) run.moved += pages;
      else if (failure === 'EAGAIN') again.push(job);
      else {
        yield* call(undo(core, job));
        fail(run, job.src);
        failed++;
      }
    }
    todo = again;
  }
  for (const job of todo) run.failedPages += core.folios.pagesOf(job.src);
  return { jobs: todo, failed };
}

/** Up to 6.2: ten passes over the list; from the fourth on it waits for locks. Each flushes by itself. */
function* migratePassByPass(run: Run, heads: readonly number[]): Steps<Left> {
  const { core, request } = run;
  let todo = [...heads];
  let failed = 0;
  for (let pass = 0; pass < core.params.migratePasses && todo.length > 0; pass++) {
    const again: number[] = [];
    const how = attempt(run, request.mode, pass > 2);
    for (let i = 0; i < todo.length; i++) {
      const src = todo[i]!;
      const pages = core.folios.pagesOf(src);
      const failure = yield* call(unmapAndMove(core, src, how));
      if (failure === null) run.moved += pages;
      else if (failure === 'EAGAIN') again.push(src);
      else if (failure === 'ENOMEM' || failure === 'ENOSYS') {
        failed++;
        if (core.folios.isLarge(src) && request.reason !== 'numa' && (yield* call(trySplit(run, src, how)))) continue;
        if (failure === 'ENOMEM') {
          run.failedPages += pages;
          return { again: [...again, ...todo.slice(i)], failed, noMemory: true };
        }
        fail(run, src);
      } else {
        failed++;
        fail(run, src);
      }
    }
    todo = again;
  }
  for (const src of todo) run.failedPages += core.folios.pagesOf(src);
  return { again: todo, failed: failed + todo.length, noMemory: false };
}

/** unmap_and_move: the mappings are restored whatever happens. */
function* unmapAndMove(core: CoreMm, src: number, how: Attempt): Steps<Failure | null> {
  if (core.folios.isLarge(src) && !core.kernel.has('thp.pmd-migration')) return 'ENOSYS';
  const job = yield* call(migrateFolioUnmap(core, src, how));
  if (job === 'freed') return null;
  if (typeof job === 'string') return job;
  const failure = yield* call(migrateFolioMove(core, job, how.reason));
  if (failure !== null) yield* call(undo(core, job));
  return failure;
}

/** migrate_hugetlbs: ten passes, one folio at a time; it waits for locks from the fourth on. */
function* migrateHugetlbs(run: Run, heads: readonly number[]): Steps<Left> {
  const { core, request } = run;
  let todo = [...heads];
  let failed = 0;
  for (let pass = 0; pass < core.params.migratePasses && todo.length > 0; pass++) {
    const again: number[] = [];
    for (let i = 0; i < todo.length; i++) {
      const src = todo[i]!;
      const pages = core.folios.pagesOf(src);
      const failure = yield* call(migrateHugetlbFolio(core, src, attempt(run, request.mode, pass > 2)));
      if (failure === null) run.moved += pages;
      else if (failure === 'EAGAIN') again.push(src);
      else if (failure === 'ENOMEM') {
        run.failedPages += pages;
        return { again: [...again, ...todo.slice(i)], failed, noMemory: true };
      } else {
        failed++;
        fail(run, src);
      }
    }
    todo = again;
  }
  for (const src of todo) run.failedPages += core.folios.pagesOf(src);
  return { again: todo, failed: failed + todo.length, noMemory: false };
}

function fail(run: Run, src: number): void {
  run.failed.push(src);
  run.failedPages += run.core.folios.pagesOf(src);
}

/** try_split_folio: its pages, still isolated, are tried for themselves. */
function* trySplit(run: Run, src: number, how: Attempt): Steps<boolean> {
  const parts = yield* call(splitIsolated(run.core, src, how.mode !== 'async'));
  if (parts === null) return false;
  run.split.push(...parts);
  return true;
}

/** folio_isolate_hugetlb: a reference, and off the active list. */
export function* isolateHugetlb(core: CoreMm, head: number): Steps<boolean> {
  const { folios } = core;
  folios.refcount.willUpdate(head, ISOLATE_HUGETLB);
  yield folios.flags.willUpdate(head, ISOLATE_HUGETLB);
  if ((folios.flags.get(head) & PG_ISOLATED) !== 0 || !tryGetNow(core, head, 1)) return false;
  folios.change(head, PG_ISOLATED);
  return true;
}

/** putback_movable_pages */
export function* putbackMovablePages(core: CoreMm, heads: readonly number[]): Steps<void> {
  for (const head of heads) {
    if (!core.folios.has(head, PG_HUGETLB)) {
      yield* call(folioPutbackLru(core, head));
      continue;
    }
    yield willPut(core, head, PUTBACK_HUGETLB);
    core.folios.change(head, 0, PG_ISOLATED);
    putNow(core, head, 1, 'folio_putback_hugetlb');
  }
}
