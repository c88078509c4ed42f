// FOLL_LONGTERM (mm/gup.c __gup_longterm_locked, check_and_migrate_movable_pages): pin, look where the pages lie, and
// when any may not stay: unpin all, migrate those, start over. Between the unpin and the next pin nothing is held.
// Device-coherent memory is not modelled.

import type { Loop } from '../../engine/loop.ts';
import { call, type Steps } from '../../engine/process.ts';
import { step } from '../../engine/step.ts';
import type { CoreMm } from '../core.ts';
import type { FrameRun, Refusal } from '../ledger.ts';
import { isolateHugetlb, migratePages, putbackMovablePages } from '../migrate/migrate.ts';
import type { Mm } from '../mm.ts';
import { PG_HUGETLB, PG_LRU } from '../page-flags.ts';
import { folioIsolateLru, lruAddDrain, lruAddDrainAll } from '../reclaim/lru.ts';
import { type GupFlags, refuse } from './gup-flags.ts';
import { referencesPerPage } from './gup-grab.ts';
import { getUserPagesLocked, type Walk } from './gup-slow.ts';
import { isLongtermPinnable, sameAnswerUntil, whyUnpinnable } from './longterm-pinnable.ts';
import { putRuns } from './unpin.ts';

const TEST_REFS = step('collect_longterm_unpinnable_pages:refs', 'op');
const AGAIN = step('__gup_longterm_locked:again', 'none');

/** Rounds in which nothing could be isolated, before the run is called incomplete. The kernel has no bound. */
export const FRUITLESS_ROUNDS = 32;

/**
 * __gup_longterm_locked: pages pinned into `walk.runs`; returns how many. With FOLL_LONGTERM none of them lies where it
 * must not stay. Errors beyond those of GUP-slow: ENOMEM when a page could not be migrated.
 */
export function* gupLongtermLocked(
  core: CoreMm,
  mm: Mm,
  vpn: number,
  pages: number,
  flags: GupFlags,
  walk: Walk,
): Steps<number> {
  if (!flags.longterm) return yield* call(getUserPagesLocked(core, mm, vpn, pages, flags, walk));
  let loop: Loop | null = null;
  for (;;) {
    walk.runs.clear();
    const pinned = yield* call(getUserPagesLocked(core, mm, vpn, pages, flags, walk));
    const verdict = pinned === 0 ? 'done' : yield* call(checkAndMigrate(core, walk.runs.runs));
    if (verdict === 'fruitless') {
      if (loop === null) loop = core.sim.loop('__gup_longterm_locked', FRUITLESS_ROUNDS);
      else yield loop.again(AGAIN);
      loop.begin();
      continue;
    }
    if (verdict === 'again') continue;
    loop?.end();
    if (verdict === 'done') return pinned;
    walk.runs.clear();
    if (core.kernel.has('gup.longterm.migration-failure-is-error')) {
      walk.failure = verdict;
      walk.failedAt = -1;
      return 0;
    }
    // Before 5.13 what could not be moved was pinned where it is.
    return yield* call(getUserPagesLocked(core, mm, vpn, pages, flags, walk));
  }
}

/**
 * check_and_migrate_movable_pages. `done`: all may stay and are still pinned. Otherwise nothing is pinned any more:
 * `again` after a migration, `fruitless` when nothing could be isolated, or the refusal.
 */
export function* checkAndMigrate(
  core: CoreMm,
  runs: readonly FrameRun[],
): Steps<'done' | 'again' | 'fruitless' | Refusal> {
  const unpinnable = unpinnableFolios(core, runs);
  if (unpinnable.length === 0) return 'done';
  const isolated = yield* call(collect(core, unpinnable));
  if (isolated.length === 0 && core.kernel.way('gup.longterm.nothing-isolated') === 'succeed') return 'done';
  const first = unpinnable[0]!;
  const zone = whyUnpinnable(core, first);
  yield* call(putRuns(core, 'pin', runs, false, 'migrate_longterm_unpinnable_pages'));
  if (isolated.length === 0) return 'fruitless';
  const { failed, notMoved, errno } = yield* call(
    migratePages(core, isolated, { mode: 'sync', reason: 'longterm-pin', target: { movable: false, zero: false } }),
  );
  // A THP that was split and moved in parts counts as not moved, too.
  const moved = notMoved === 0 && errno === undefined;
  const refusal = moved ? null : busy(core, failed, isolated.length, zone ?? 'unpinnable memory');
  yield* call(putbackMovablePages(core, failed));
  return refusal ?? 'again';
}

/** The folios of the runs that a long-term pin must not keep, in order. Each once, as consecutive pages of it merge. */
function unpinnableFolios(core: CoreMm, runs: readonly FrameRun[]): number[] {
  const found: number[] = [];
  for (const run of runs) {
    const end = run.pfn + run.pages;
    for (let pfn = run.pfn; pfn < end; ) {
      const until = sameAnswerUntil(core, pfn, end);
      if (!isLongtermPinnable(core, pfn)) {
        for (let at = pfn; at < until; ) {
          // Pinned: it can neither be split nor freed, so its head stands.
          const head = core.folios.headOf(at);
          if (found[found.length - 1] !== head) found.push(head);
          at = head + core.folios.pagesOf(head);
        }
      }
      pfn = until;
    }
  }
  return found;
}

/** collect_longterm_unpinnable_pages: isolate what can be isolated, draining per-CPU batches at most twice. */
function* collect(core: CoreMm, heads: readonly number[]): Steps<number[]> {
  const { folios } = core;
  const isolated: number[] = [];
  let drained = 0;
  for (const head of heads) {
    if (folios.has(head, PG_HUGETLB)) {
      if (yield* call(isolateHugetlb(core, head))) isolated.push(head);
      continue;
    }
    // Large folios are never in a batch (folio_may_be_lru_cached).
    while (drained < 2 && !folios.isLarge(head) && (yield* call(mayBeBatched(core, head)))) {
      if (drained === 0 && core.kernel.way('gup.longterm.lru-drain') !== 'lru-flag') yield* call(lruAddDrain(core));
      else {
        yield* call(lruAddDrainAll(core));
        drained = 1;
      }
      drained++;
    }
    if (yield* call(folioIsolateLru(core, head))) isolated.push(head);
  }
  return isolated;
}

/** Does the folio look as if a per-CPU batch held it? Which look decides differs between kernels. */
function* mayBeBatched(core: CoreMm, head: number): Steps<boolean> {
  const { folios } = core;
  yield folios.willCompareRefs(head, TEST_REFS);
  switch (core.kernel.way('gup.longterm.lru-drain')) {
    case 'lru-flag':
      return (folios.flags.get(head) & PG_LRU) === 0;
    case 'refcount-plus-one':
      return folios.refcount.get(head) !== folios.expectedRefs(head) + 1;
    case 'refcount-own-pin':
      return folios.refcount.get(head) !== folios.expectedRefs(head) + referencesPerPage(core, 'pin', false);
  }
}

/** Why the migration failed, as far as the counts tell. */
function busy(core: CoreMm, failed: readonly number[], isolated: number, zone: string): Refusal {
  const of = failed.length > isolated ? `parts of ${isolated}` : `${failed.length} of ${isolated}`;
  const what = `migrate_longterm_unpinnable_pages: ${of} folio(s) in ${zone} could not be migrated`;
  const remedy =
    'memory outside ZONE_MOVABLE and CMA, or nobody else holding references to the pages while they are to be moved';
  const head = failed[0];
  if (head === undefined) return refuse('ENOMEM', `${what} in one piece`, remedy, { zone });
  const { folios } = core;
  const [references, expected] = core.sim.unwatched(() => [folios.refcount.peek(head), folios.expectedRefs(head) + 1]);
  const counts = `pfn ${head} has ${references} references where ${expected} are expected (mappings, caches, and the isolation)`;
  const cause =
    references > expected ? `it is busy: ${counts}` : `${counts}: no memory to move it to, or it stayed locked`;
  const details = {
    'failed-folios': failed.length,
    pfn: head,
    zone,
    refcount: references,
    'refcount-expected': expected,
  };
  return refuse('ENOMEM', `${what}; ${cause}`, remedy, details, [folios.refcount.base + head]);
}
