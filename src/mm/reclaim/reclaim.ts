// shrink_folio_list over a list, and what to do with the survivors (mm/vmscan.c shrink_folio_list, reclaim_pages). Frames
// are freed in batches, always after the deferred TLB flush.
import { call, type Steps } from '../../engine/process.ts';
import { step } from '../../engine/step.ts';
import type { CoreMm } from '../core.ts';
import { unlockNow, willUnlock } from '../folio-lock.ts';
import { migratePages } from '../migrate/migrate.ts';
import { PG_ACTIVE, PG_MLOCKED, PG_SWAPCACHE } from '../page-flags.ts';
import { freeFolio, willPut } from '../refcount.ts';
import { folioFreeSwap } from '../swap/swap-cache.ts';
import { tryToUnmapFlush } from '../tlb.ts';
import { folioPutbackLru } from './lru.ts';
import { newStat, type ReclaimStat, reclaimFolio, type ScanControl } from './reclaim-folio.ts';

const ACTIVATE = step('shrink_folio_list:activate_locked', 'lock');
const KEEP = step('shrink_folio_list:keep_locked', 'lock');
const SWAP_FULL = step('mem_cgroup_swap_full', 'none');
const FREE = step('free_unref_folios', 'refcount');
const CLEAR_ACTIVE = step('reclaim_pages:folio_clear_active', 'op');
const STAT = step('shrink_folio_list:vmstat', 'none');

export interface Shrunk {
  /** Pages freed or demoted. */
  readonly reclaimed: number;
  /** Still isolated, PG_active set where they shall go to the active list. */
  readonly kept: readonly number[];
  readonly stat: ReclaimStat;
}

/** shrink_folio_list: the folios are isolated, each with a reference. */
export function* shrinkFolioList(core: CoreMm, heads: readonly number[], sc: ScanControl): Steps<Shrunk> {
  const stat = newStat();
  const shrink = new Shrink(core, sc, stat);
  const canDemote = sc.demotionNode !== null && core.kernel.has('reclaim.demotion');
  yield* call(shrink.pass([...heads], canDemote));
  if (shrink.demote.length > 0) {
    const left = yield* call(demote(core, shrink));
    // Memory that the slower node has no room for is reclaimed after all, except where the user only asked for cold pages.
    if (sc.proactive) shrink.kept.push(...left);
    else yield* call(shrink.pass([...left], false));
  }
  yield* call(shrink.freeBatch());
  core.vmstat.willAdd('pgscan', STAT);
  yield core.vmstat.willAdd('pgsteal', STAT);
  core.vmstat.add('pgscan', stat.scanned);
  core.vmstat.add('pgsteal', shrink.reclaimed);
  return { reclaimed: shrink.reclaimed, kept: shrink.kept, stat };
}

/** demote_folio_list: those that stay, still isolated. */
function* demote(core: CoreMm, shrink: Shrink): Steps<readonly number[]> {
  const heads = shrink.demote.splice(0);
  const { failed, moved } = yield* call(
    migratePages(core, heads, {
      mode: 'async',
      reason: 'demotion',
      target: { movable: true, zero: false, node: shrink.sc.demotionNode!, noReclaim: true },
      memalloc: true,
    }),
  );
  shrink.reclaimed += moved;
  return failed;
}

/** One call of shrink_folio_list: local to the reclaiming actor. */
class Shrink {
  readonly core: CoreMm;
  readonly sc: ScanControl;
  readonly stat: ReclaimStat;
  readonly kept: number[] = [];
  readonly demote: number[] = [];
  reclaimed = 0;
  private readonly frozen: number[] = [];

  constructor(core: CoreMm, sc: ScanControl, stat: ReclaimStat) {
    this.core = core;
    this.sc = sc;
    this.stat = stat;
  }

  *pass(list: number[], mayDemote: boolean): Steps<void> {
    const { core, sc, stat } = this;
    for (let i = 0; i < list.length; i++) {
      const head = list[i]!;
      const split: number[] = [];
      const pages = core.folios.pagesOf(head);
      const verdict = yield* call(reclaimFolio({ core, sc, stat, head, mayDemote, split }));
      list.push(...split);
      switch (verdict) {
        case 'demote':
          this.demote.push(head);
          break;
        case 'gone':
          this.reclaimed += 1;
          break;
        case 'freed':
          this.reclaimed += split.length > 0 ? 1 : pages;
          this.frozen.push(head);
          // 6.12 frees every 31 folios; 6.1 at the end of the list, except large ones.
          if (this.frozen.length >= 31 && core.kernel.way('lru.batch-size') === 'thirty-one')
            yield* call(this.freeBatch());
          break;
        case 'activate-locked':
          yield* call(activateLocked(core, head));
          stat.activated += core.folios.pagesOf(head);
          this.kept.push(head);
          break;
        case 'keep-locked':
          yield willUnlock(core, head, KEEP);
          unlockNow(core, head);
          this.kept.push(head);
          break;
        case 'keep':
          this.kept.push(head);
      }
    }
  }

  /** try_to_unmap_flush, free_unref_folios: the deferred flush always comes before the frames can be used again. */
  *freeBatch(): Steps<void> {
    const { core } = this;
    const heads = this.frozen.splice(0);
    if (core.kernel.way('page-alloc.batch-free-order') === 'backwards') heads.reverse();
    yield* call(tryToUnmapFlush(core));
    const per = core.params.stepPages;
    for (let i = 0; i < heads.length; i += per) {
      const some = heads.slice(i, i + per);
      for (const head of some) willPut(core, head, FREE);
      yield core.sim.local(FREE, some.length);
      for (const head of some) freeFolio(core, head, 'shrink_folio_list');
    }
  }
}

/** activate_locked: give swap space back when it is short or the folio mlocked; mlocked folios are not made active. */
function* activateLocked(core: CoreMm, head: number): Steps<void> {
  const { folios, swap } = core;
  const flags = folios.flags.peek(head);
  if ((flags & PG_SWAPCACHE) !== 0) {
    yield swap.allocator.willRead(SWAP_FULL);
    // mem_cgroup_swap_full: more than half of it is used.
    const used = swap.allocator.value - swap.freeSlots.value.length;
    if (used * 2 > swap.slots || (flags & PG_MLOCKED) !== 0) yield* call(folioFreeSwap(core, head));
  }
  yield willUnlock(core, head, ACTIVATE);
  if ((folios.flags.get(head) & PG_MLOCKED) === 0) folios.change(head, PG_ACTIVE);
  unlockNow(core, head);
}

/**
 * reclaim_pages (MADV_PAGEOUT, DAMON): the folios are isolated; demotion does not count, nor (6.9) references. Returns
 * the pages reclaimed; the survivors go back through the per-CPU batch.
 */
export function* reclaimPages(core: CoreMm, heads: readonly number[]): Steps<number> {
  let reclaimed = 0;
  const nodeOf = (head: number) => core.machine.zoneOf(head)!.node;
  for (let i = 0; i < heads.length; ) {
    const node = nodeOf(heads[i]!);
    const some: number[] = [];
    for (; i < heads.length && nodeOf(heads[i]!) === node; i++) some.push(heads[i]!);
    for (const head of some) {
      yield core.folios.flags.willUpdate(head, CLEAR_ACTIVE);
      core.folios.change(head, 0, PG_ACTIVE);
    }
    const result = yield* call(
      shrinkFolioList(core, some, {
        node,
        kswapd: false,
        mayUnmap: true,
        maySwap: true,
        mayWritepage: true,
        ignoreReferences: core.kernel.has('reclaim.pageout-ignores-references'),
        demotionNode: null,
        proactive: false,
        nodeDirty: false,
        nodeWriteback: false,
      }),
    );
    reclaimed += result.reclaimed;
    for (const head of result.kept) yield* call(folioPutbackLru(core, head));
  }
  return reclaimed;
}
