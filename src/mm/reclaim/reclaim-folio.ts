// shrink_folio_list for one folio (mm/vmscan.c): the checks in the kernel's own order, from the trylock to the freeze.
// No step waits for anybody: what is in use is kept or activated, and a pin is met in up to four places.
import { call, type Steps } from '../../engine/process.ts';
import { step } from '../../engine/step.ts';
import type { CoreMm } from '../core.ts';
import { leftFile, willLeaveFile } from '../file/leave-file.ts';
import { tryLockNow, unlockNow, willTryLock, willUnlock } from '../folio-lock.ts';
import {
  PG_ANON,
  PG_DIRTY,
  PG_HWPOISON,
  PG_ISOLATED,
  PG_LOCKED,
  PG_MLOCKED,
  PG_PARTIALLY_MAPPED,
  PG_PRIVATE,
  PG_RECLAIM,
  PG_REFERENCED,
  PG_SWAPBACKED,
  PG_SWAPCACHE,
  PG_WRITEBACK,
} from '../page-flags.ts';
import { freezeNow, putNow, unfreezeNow, willPut } from '../refcount.ts';
import { tryToUnmap } from '../rmap/unmap.ts';
import { addToSwap, pageout } from '../swap/swap-out.ts';
import { splitFolio } from '../thp/split-folio.ts';
import { tryToUnmapFlushDirty } from '../tlb.ts';
import { pageoutHooks } from './pageout-hooks.ts';
import { checkReferences, type References } from './reclaim-references.ts';
import { filemapReleaseFolio } from './remove-mapping.ts';

const TRYLOCK = step('shrink_folio_list:folio_trylock', 'lock');
const POISON = step('shrink_folio_list:hwpoison', 'refcount');
const MAPPED = step('shrink_folio_list:folio_mapped', 'op');
const WRITEBACK = step('shrink_folio_list:writeback', 'op');
const DEMOTE = step('shrink_folio_list:demote', 'lock');
const PINNED = step('shrink_folio_list:folio_maybe_dma_pinned', 'refcount');
const PINNED_AGAIN = step('shrink_folio_list:folio_maybe_dma_pinned-after-unmap', 'refcount');
const DIRTY = step('shrink_folio_list:set-reclaim', 'op');
const AFTER_WRITE = step('shrink_folio_list:after-pageout', 'lock');
const NO_MAPPING = step('shrink_folio_list:no-mapping', 'refcount');
const LAZYFREE = step('shrink_folio_list:lazyfree-freeze', 'refcount');
const REMOVE = step('__remove_mapping', 'op');

/** struct scan_control, as far as it decides anything here. */
export interface ScanControl {
  readonly node: number;
  readonly kswapd: boolean;
  readonly mayUnmap: boolean;
  /** Anonymous and shmem pages may go (swap exists, and the caller allows it). */
  readonly maySwap: boolean;
  readonly mayWritepage: boolean;
  /** MADV_PAGEOUT, memory.reclaim: references are not asked. */
  readonly ignoreReferences: boolean;
  /** The node that cold pages move to first, or null. */
  readonly demotionNode: number | null;
  /** memory.reclaim: what could not be demoted is put back instead of reclaimed. */
  readonly proactive: boolean;
  /** PGDAT_DIRTY, PGDAT_WRITEBACK of the node. */
  readonly nodeDirty: boolean;
  readonly nodeWriteback: boolean;
}

/** struct reclaim_stat */
export interface ReclaimStat {
  dirty: number;
  unqueuedDirty: number;
  congested: number;
  writeback: number;
  immediate: number;
  activated: number;
  unmapFail: number;
  refKeep: number;
  scanned: number;
}

export function newStat(): ReclaimStat {
  return {
    dirty: 0,
    unqueuedDirty: 0,
    congested: 0,
    writeback: 0,
    immediate: 0,
    activated: 0,
    unmapFail: 0,
    refKeep: 0,
    scanned: 0,
  };
}

/**
 * How it ended. `keep`: unlocked already; `keep-locked`, `activate-locked`: as the kernel's labels; `freed`: the count is
 * frozen at 0; `demote`: unlocked, to be migrated; `gone`: the reference went with it.
 */
export type Verdict = 'keep' | 'keep-locked' | 'activate-locked' | 'freed' | 'demote' | 'gone';

/** One folio under reclaim: isolated, with a reference. */
export interface Reclaiming {
  readonly core: CoreMm;
  readonly sc: ScanControl;
  readonly stat: ReclaimStat;
  readonly head: number;
  readonly mayDemote: boolean;
  /** Pages that a split set free of their head: they make their own pass. */
  readonly split: number[];
}

export function* reclaimFolio(r: Reclaiming): Steps<Verdict> {
  const { core, head, sc, stat } = r;
  const { folios, kernel } = core;
  yield willTryLock(core, head, TRYLOCK);
  const flags = folios.flags.get(head);
  if (!tryLockNow(core, head)) return 'keep';
  if ((flags & PG_HWPOISON) !== 0 && kernel.has('reclaim.skips-hwpoison')) return yield* call(dropPoisoned(r));
  const pages = folios.pagesOf(head);
  stat.scanned += pages;
  // folio_evictable
  if ((flags & PG_MLOCKED) !== 0 || core.rmapInode(head)?.unevictable === true) return 'activate-locked';
  if (!sc.mayUnmap || (kernel.has('reclaim.multigen-lru') && !sc.ignoreReferences)) {
    yield folios.mapcount.willRead(head, MAPPED);
    if (folios.mapcountOf(head) > 0 && (!sc.mayUnmap || (flags & PG_REFERENCED) !== 0)) return 'keep-locked';
  }
  if (yield* call(underWriteback(r, pages))) return 'activate-locked';

  const references = sc.ignoreReferences ? 'reclaim' : yield* call(checkReferences(core, head));
  if (references === 'activate') return 'activate-locked';
  if (references === 'keep') {
    stat.refKeep += pages;
    return 'keep-locked';
  }
  if (r.mayDemote && (kernel.has('thp.pmd-migration') || !folios.isLarge(head))) {
    yield willUnlock(core, head, DEMOTE);
    unlockNow(core, head);
    return 'demote';
  }
  const refusal = yield* call(intoSwapCache(r));
  if (refusal !== null) return refusal;
  return yield* call(unmapAndRemove(r, references));
}

/** unmap_poisoned_folio, and nobody reuses the page. */
function* dropPoisoned(r: Reclaiming): Steps<Verdict> {
  const { core, head } = r;
  if (core.folios.isLarge(head)) {
    if (core.kernel.has('reclaim.keeps-hwpoison-large')) return 'keep-locked';
    throw new Error(`unmap_poisoned_folio of the large folio ${head}: this kernel warns and goes wrong`);
  }
  yield* call(tryToUnmap(core, head, { ignoreMlock: true, hwpoison: true }));
  yield willPut(core, head, POISON);
  core.folios.change(head, 0, PG_ISOLATED);
  unlockNow(core, head);
  putNow(core, head, 1, 'shrink_folio_list:hwpoison');
  return 'gone';
}

/** Dirty and writeback: counted, and a folio under writeback is marked for its end. True: activate it. */
function* underWriteback(r: Reclaiming, pages: number): Steps<boolean> {
  const { core, head, sc, stat } = r;
  const { folios } = core;
  yield folios.flags.willUpdate(head, WRITEBACK);
  const flags = folios.flags.get(head);
  const file = (flags & PG_SWAPBACKED) === 0 && (flags & PG_ANON) === 0;
  const writeback = (flags & PG_WRITEBACK) !== 0;
  if (file && (writeback || (flags & PG_DIRTY) !== 0)) stat.dirty += pages;
  if (file && !writeback && (flags & PG_DIRTY) !== 0) stat.unqueuedDirty += pages;
  if (file && writeback && (flags & PG_RECLAIM) !== 0) stat.congested += pages;
  if (!writeback) return false;
  if (sc.kswapd && (flags & PG_RECLAIM) !== 0 && sc.nodeWriteback) stat.immediate += pages;
  else {
    // Legacy memcg would wait; every other reclaim marks the folio and goes on.
    folios.change(head, PG_RECLAIM);
    stat.writeback += pages;
  }
  return true;
}

/** The first pin test, and add_to_swap. Null: go on. */
function* intoSwapCache(r: Reclaiming): Steps<Verdict | null> {
  const { core, head } = r;
  const { folios, kernel } = core;
  // Locked and isolated: its kind stands.
  const flags = folios.flags.peek(head);
  if ((flags & PG_SWAPBACKED) === 0) return null;
  if ((flags & PG_ANON) === 0) {
    const splits = folios.isLarge(head) && !kernel.has('reclaim.shmem-swaps-whole-folios');
    return !splits || (yield* call(splitHere(r))) ? null : 'keep-locked';
  }
  if ((flags & PG_SWAPCACHE) !== 0) return null;
  folios.mapcount.willRead(head, PINNED);
  yield folios.refcount.willRead(head, PINNED);
  if (kernel.has('reclaim.pinned-stays-out-of-swap-cache') && folios.maybeDmaPinned(head)) return 'keep-locked';
  if (folios.isLarge(head)) {
    // can_split_folio
    if (folios.mapcountOf(head) !== folios.refcount.get(head) - 1) return 'activate-locked';
    const splits = kernel.has('reclaim.splits-only-partially-mapped')
      ? (flags & PG_PARTIALLY_MAPPED) !== 0
      : folios.entireMapcount.get(head) === 0;
    if (splits && !(yield* call(splitHere(r)))) return 'activate-locked';
  }
  if (yield* call(addToSwap(core, head))) return null;
  if (!folios.isLarge(head) || !(yield* call(splitHere(r)))) return 'activate-locked';
  return (yield* call(addToSwap(core, head))) ? null : 'activate-locked';
}

/** split_folio_to_list: the head stays here, the other pages join the list. */
function* splitHere(r: Reclaiming): Steps<boolean> {
  const { core, head } = r;
  const pages = core.folios.pagesOf(head);
  if ((yield* call(splitFolio(core, head, { isolated: true }))) !== 'ok') return false;
  for (let i = 1; i < pages; i++) r.split.push(head + i);
  return true;
}

function* unmapAndRemove(r: Reclaiming, references: References): Steps<Verdict> {
  const { core, head, stat } = r;
  const { folios, kernel } = core;
  yield folios.mapcount.willRead(head, MAPPED);
  if (folios.mapcountOf(head) > 0) {
    yield* call(tryToUnmap(core, head, { batchFlush: true, splitHugePmd: folios.isLarge(head) }));
    yield folios.mapcount.willRead(head, MAPPED);
    if (folios.mapcountOf(head) > 0) {
      stat.unmapFail += folios.pagesOf(head);
      return 'activate-locked';
    }
  }
  // Unmapped: it cannot be newly pinned through a page table any more.
  folios.refcount.willRead(head, PINNED_AGAIN);
  yield folios.flags.willRead(head, PINNED_AGAIN);
  if (kernel.has('reclaim.pinned-keeps-private') && folios.maybeDmaPinned(head)) return 'activate-locked';
  if ((folios.flags.get(head) & PG_DIRTY) !== 0) {
    const verdict = yield* call(writeDirty(r, references));
    if (verdict !== null) return verdict;
  }
  if (folios.has(head, PG_PRIVATE)) {
    if (!(yield* call(filemapReleaseFolio(core, head)))) return 'activate-locked';
    if (core.rmapInode(head) === undefined && !folios.has(head, PG_SWAPCACHE)) return yield* call(freeOrphan(r));
  }
  return yield* call(freezeAndRemove(r));
}

/** A dirty folio: left to the flushers, or written now. Null: it is clean, and locked, now. */
function* writeDirty(r: Reclaiming, references: References): Steps<Verdict | null> {
  const { core, head, sc } = r;
  const { folios } = core;
  const flags = folios.flags.peek(head);
  const fileLru = (flags & PG_SWAPBACKED) === 0;
  if (fileLru && (!sc.kswapd || (flags & PG_RECLAIM) === 0 || !sc.nodeDirty)) {
    yield folios.flags.willUpdate(head, DIRTY);
    folios.change(head, PG_RECLAIM);
    return 'activate-locked';
  }
  if (references === 'reclaim-clean' || !sc.mayWritepage) return 'keep-locked';
  // The processor must not write through an old entry once the device reads.
  yield* call(tryToUnmapFlushDirty(core));
  switch (yield* call(pageout(core, head, pageoutHooks(core)?.pageoutFile ?? null))) {
    case 'keep':
      return 'keep-locked';
    case 'activate':
      return 'activate-locked';
    case 'clean':
      return null;
    case 'success':
      return yield* call(afterPageout(r));
  }
}

/** Written and unlocked: a synchronous device is done, and the folio may go on. */
function* afterPageout(r: Reclaiming): Steps<Verdict | null> {
  const { core, head } = r;
  yield willTryLock(core, head, AFTER_WRITE);
  const flags = core.folios.flags.get(head);
  if ((flags & (PG_WRITEBACK | PG_DIRTY | PG_LOCKED)) !== 0) return 'keep';
  tryLockNow(core, head);
  return null;
}

/** Private data is gone and there is no mapping: whoever holds it last frees it. */
function* freeOrphan(r: Reclaiming): Steps<Verdict> {
  const { core, head } = r;
  yield willPut(core, head, NO_MAPPING);
  if (core.folios.refcount.get(head) !== 1) return 'keep-locked';
  unlockNow(core, head);
  putNow(core, head, 1, 'shrink_folio_list');
  return 'gone';
}

/** A lazyfree page, or __remove_mapping: freeze the count, look at dirty again, leave the cache. One act. */
function* freezeAndRemove(r: Reclaiming): Steps<Verdict> {
  const { core, head } = r;
  const { folios } = core;
  const flags = folios.flags.peek(head);
  if ((flags & PG_ANON) !== 0 && (flags & PG_SWAPBACKED) === 0) {
    folios.flags.willUpdate(head, LAZYFREE);
    yield folios.refcount.willUpdate(head, LAZYFREE);
    if (!freezeNow(core, head, 1)) return 'keep-locked';
    unlockNow(core, head);
    return 'freed';
  }
  const inode = core.rmapInode(head);
  const cached = (flags & PG_SWAPCACHE) !== 0;
  if (!cached && inode === undefined) return 'keep-locked';
  return (yield* call(removeFromCache(r, cached))) ? 'freed' : 'keep-locked';
}

/** __remove_mapping with the count left at 0; the folio is unlocked, as nobody can reach it. */
function* removeFromCache(r: Reclaiming, cached: boolean): Steps<boolean> {
  const { core, head } = r;
  const { folios, swap } = core;
  const pages = folios.pagesOf(head);
  // Locked: its place and its slots stand.
  const inode = cached ? undefined : core.rmapInode(head);
  const index = folios.index.peek(head);
  const first = folios.swapEntry.peek(head) - 1;
  if (inode !== undefined) inode.pages.willUpdateRange(index, index + pages - 1, REMOVE);
  else {
    swap.allocator.willUpdate(REMOVE);
    swap.map.willUpdateRange(first, first + pages - 1, REMOVE);
  }
  folios.mapping.willUpdate(head, REMOVE);
  willLeaveFile(core, head, REMOVE);
  folios.flags.willUpdate(head, REMOVE);
  yield folios.refcount.willUpdate(head, REMOVE);
  if (!freezeNow(core, head, 1 + pages)) return false;
  // After the freeze: who dirtied it through a reference has dropped that reference since.
  if ((folios.flags.get(head) & PG_DIRTY) !== 0) {
    unfreezeNow(core, head, 1 + pages);
    return false;
  }
  if (inode !== undefined) {
    inode.pages.fill(index, index + pages - 1, 0);
    folios.mapping.set(head, 0);
    leftFile(core, head);
  } else {
    for (let slot = first; slot < first + pages; slot++) {
      swap.cache.set(slot, 0);
      // put_swap_folio: nobody names it any more either.
      if (swap.map.get(slot) === 0) {
        swap.content.set(slot, 0);
        swap.giveBack(slot);
      }
    }
    folios.swapEntry.set(head, 0);
    folios.change(head, 0, PG_SWAPCACHE);
  }
  unlockNow(core, head);
  return true;
}
