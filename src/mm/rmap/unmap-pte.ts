// One PTE of a folio being unmapped (mm/rmap.c, the common part of try_to_unmap_one and try_to_migrate_one): clear it
// (flush now or later), let the caller decide what takes its place, write that or put the old entry back.
import { call, type Steps } from '../../engine/process.ts';
import { step } from '../../engine/step.ts';
import type { CoreMm } from '../core.ts';
import { PG_ANON, PG_MLOCKED } from '../page-flags.ts';
import { PMD_TABLE, PTE_DIRTY, PTE_SPECIAL, type Pte, ptePresent } from '../pte.ts';
import { deferSplitNow, willDeferSplit } from '../thp/deferred-split.ts';
import { deferFlushNow, flushTlbRange, shouldDeferFlush, willDeferFlush } from '../tlb.ts';
import { markDirtyNow, willMarkDirty } from '../writeback/mark-dirty.ts';
import type { RmapPlace } from './rmap.ts';
import type { TtuFlags } from './rmap-walk.ts';
import { shareTestMayRunEarly, tryShareNow, willTryShare } from './share-anon-rmap.ts';

const CLEAR = step('try_to_unmap_one:clear', 'pte-op');
const EARLY = step('folio_try_share_anon_rmap:unordered', 'refcount');
const INSTALL = step('try_to_unmap_one:install', 'pte-op');
const UNLOCK = step('try_to_unmap_one:unlock', 'lock');

/** One place being unmapped. */
export interface Unmapping {
  readonly core: CoreMm;
  readonly head: number;
  readonly place: RmapPlace;
  readonly flags: TtuFlags;
}

/** A cleared entry; the page-table lock is held. */
export interface Cleared {
  readonly pte: Pte;
  readonly vpn: number;
  readonly row: number;
  /** The page that it mapped. */
  readonly page: number;
  /** Was it exclusive? Then `tryShareNow` decides, unless `shared` says that it has. */
  readonly exclusive: boolean;
  readonly shared: 'undecided' | 'yes' | 'pinned';
}

/** What takes the place of a cleared entry: an entry, nothing, or the old one. */
export type Replacement = { readonly pfn: number; readonly bits: number } | 'none' | 'restore';

/** Decides with the page-table lock held. */
export type Decide = (u: Unmapping, cleared: Cleared) => Steps<Replacement>;

/** The page that would be mapped at `vpn` of the place. */
export function pageAt(u: Pick<Unmapping, 'head' | 'place'>, vpn: number): number {
  return u.head + u.place.offset + (vpn - u.place.vpn);
}

/** Does this walk put its flushes off? */
export function defersFlush(u: Unmapping): boolean {
  const { core, flags, place } = u;
  return flags.batchFlush === true && core.kernel.has('tlb.reclaim-defers-flush') && shouldDeferFlush(core, place.mm);
}

/**
 * Unmap the PTE at `vpn`. `held`: the caller holds the page-table lock and keeps it. False: the walk must stop (mlocked,
 * or `decide` had the entry restored).
 */
export function* unmapPte(u: Unmapping, vpn: number, row: number, held: boolean, decide: Decide): Steps<boolean> {
  const cleared = yield* call(clearPte(u, vpn, row, held));
  if (cleared === 'absent') return true;
  if (cleared === 'mlocked') return false;
  const entry = cleared.shared === 'pinned' ? 'restore' : yield* call(decide(u, cleared));
  if (entry === 'restore') yield* call(restorePte(u, cleared, held));
  else yield* call(installPte(u, cleared, entry, held));
  return entry !== 'restore';
}

function* clearPte(u: Unmapping, vpn: number, row: number, held: boolean): Steps<Cleared | 'absent' | 'mlocked'> {
  const { core, head, place, flags } = u;
  const { folios, kernel } = core;
  const { mm, vma } = place;
  const { pageTable } = mm;
  const page = pageAt(u, vpn);
  const defer = defersFlush(u);
  const early = shareTestMayRunEarly(core, defer);
  willMarkDirty(core, head, CLEAR);
  if (early) willTryShare(core, head, page, CLEAR);
  else folios.anonExclusive.willRead(page, CLEAR);
  if (defer) willDeferFlush(core, mm, CLEAR);
  pageTable.willReadPmd(row, CLEAR);
  pageTable.willUpdatePte(vpn, CLEAR);
  yield held ? core.sim.local(CLEAR) : pageTable.ptl.lock(row, CLEAR);

  const table = (pageTable.pmd(row).bits & PMD_TABLE) !== 0;
  const pte = pageTable.pte(vpn);
  const state =
    !table || !ptePresent(pte.bits) || (pte.bits & PTE_SPECIAL) !== 0 || pte.pfn !== page
      ? 'absent'
      : vma.fields.locked && flags.ignoreMlock !== true
        ? 'mlocked'
        : 'mapped';
  if (state !== 'mapped') {
    // mlock_vma_folio: what the mlock of the area missed.
    if (state === 'mlocked' && !folios.isLarge(head)) folios.change(head, PG_MLOCKED);
    if (!held) pageTable.ptl.releaseNow(row);
    return state;
  }
  const anon = (folios.flags.get(head) & PG_ANON) !== 0;
  const exclusive = anon && kernel.has('cow.anon-exclusive') && folios.anonExclusive.get(page) === 1;
  let shared: Cleared['shared'] = 'undecided';
  if (early && exclusive) {
    // The processor does the test of the next lines first; the entry still stands for GUP-fast.
    shared = tryShareNow(core, head, page) ? 'yes' : 'pinned';
    if (defer) willDeferFlush(core, mm, EARLY);
    willMarkDirty(core, head, EARLY);
    yield pageTable.willUpdatePte(vpn, EARLY);
  }
  const last = pageTable.pte(vpn);
  pageTable.clearPte(vpn);
  if (defer) deferFlushNow(core, mm, (last.bits & PTE_DIRTY) !== 0);
  if ((last.bits & PTE_DIRTY) !== 0) markDirtyNow(core, head);
  if (!defer) yield* call(flushTlbRange(core, mm, vpn, vpn + 1));
  else if (mm.notifiers.hasSubscribers && kernel.way('notifier.secondary-tlb') === 'with-cpu-flush') {
    yield* call(mm.notifiers.invalidateSecondaryTlbs(vpn, vpn + 1));
  }
  return { pte: last, vpn, row, page, exclusive, shared };
}

/** set_pte_at of the old value: the refusal leaves everything as it was, but for the notifier window. */
function* restorePte(u: Unmapping, cleared: Cleared, held: boolean): Steps<void> {
  const { pageTable } = u.place.mm;
  const { vpn, row, pte } = cleared;
  pageTable.willUpdatePte(vpn, UNLOCK);
  yield held ? u.core.sim.local(UNLOCK) : pageTable.ptl.willChange(row, UNLOCK);
  pageTable.setPte(vpn, pte.pfn, pte.bits, pte.generation);
  if (!held) pageTable.ptl.releaseNow(row);
}

/** The new entry, and folio_remove_rmap_pte and folio_put of the mapping: the walk's caller holds another reference. */
function* installPte(
  u: Unmapping,
  cleared: Cleared,
  entry: Exclude<Replacement, 'restore'>,
  held: boolean,
): Steps<void> {
  const { core, head } = u;
  const { folios } = core;
  const { pageTable } = u.place.mm;
  const { vpn, row, page } = cleared;
  folios.willMap(head, page, INSTALL);
  willDeferSplit(core, head, INSTALL);
  folios.refcount.willUpdate(head, INSTALL);
  pageTable.willUpdatePte(vpn, INSTALL);
  yield held ? core.sim.local(INSTALL) : pageTable.ptl.willChange(row, INSTALL);
  if (entry !== 'none') pageTable.setPte(vpn, entry.pfn, entry.bits, core.frames.peekGeneration(page));
  folios.removePteMapping(head, page);
  deferSplitNow(core, head, page);
  folios.refcount.set(head, folios.refcount.get(head) - 1);
  if (!held) pageTable.ptl.releaseNow(row);
}
