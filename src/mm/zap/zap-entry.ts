// Zapping one page-table entry (mm/memory.c zap_present_pte, zap_nonpresent_ptes): what it may touch, and the act. The
// reference of the mapping is not dropped here: it goes to the gather. Pins and other references are never looked at.
import type { Step } from '../../engine/step.ts';
import type { CoreMm } from '../core.ts';
import { CONTENT_DROPPED } from '../ledger.ts';
import type { Vma } from '../mapping/vma.ts';
import type { Mm } from '../mm.ts';
import { PG_ANON, PG_HUGETLB, PG_MLOCKED, PG_UNEVICTABLE } from '../page-flags.ts';
import {
  PTE_DIRTY,
  PTE_HWPOISON,
  PTE_MARKER,
  PTE_MIGRATION,
  PTE_SPECIAL,
  PTE_SWAP,
  PTE_YOUNG,
  type Pte,
  ptePresent,
} from '../pte.ts';
import { markAccessedNow, willMarkAccessed } from '../reclaim/mark-accessed.ts';
import { freeSwapNow, willFreeSwap } from '../swap/swap-slots.ts';
import { deferSplitNow, willDeferSplit } from '../thp/deferred-split.ts';
import type { MmuGather } from '../tlb.ts';
import { markDirtyNow, willMarkDirty } from '../writeback/mark-dirty.ts';

/** struct zap_details. */
export interface ZapDetails {
  /** Private copies go too (truncation); hole punching by MADV_REMOVE of a private mapping keeps them. */
  readonly evenCows: boolean;
  /** Only pages of this folio (unmap_mapping_folio). */
  readonly singleFolio?: number;
}

export const ZAP_ALL: ZapDetails = { evenCows: true };

/** A page whose rmap removal waits for the flush (delay_rmap). */
export interface DelayedRmap {
  readonly head: number;
  readonly pfn: number;
  /** More than one: a run of small folios (bulk lane). */
  readonly pages: number;
}

/** One zap of one VMA: who, what, and what it collected. Local to the zapping actor. */
export interface Zap {
  readonly core: CoreMm;
  readonly mm: Mm;
  readonly vma: Vma;
  readonly gather: MmuGather;
  readonly details: ZapDetails;
  /** Under the current page-table lock: rmap removals to do after the flush, and whether a flush must come first. */
  delayed: DelayedRmap[];
  forceFlush: boolean;
  /** Pages of anonymous THPs unmapped in the current step, by head (folio_remove_rmap_ptes takes many at once). */
  readonly unmapped: Map<number, number[]>;
}

/** vm_normal_page: the folio head of a present entry, or undefined for zero pages and raw frames. */
export function normalHead(core: CoreMm, pte: Pte): number | undefined {
  if (!ptePresent(pte.bits) || (pte.bits & PTE_SPECIAL) !== 0) return undefined;
  if (!core.machine.hasStructPage(pte.pfn)) return undefined;
  return core.folios.headOf(pte.pfn);
}

/** Announce all that zapping this entry may touch, besides the entry itself. */
export function willZapEntry(zap: Zap, pte: Pte, at: Step): void {
  const { core, vma } = zap;
  if ((pte.bits & PTE_SWAP) !== 0) {
    willFreeSwap(core, pte.pfn, at);
    return;
  }
  const head = normalHead(core, pte);
  if (head === undefined) return;
  core.folios.willMap(head, pte.pfn, at);
  core.folios.order.willRead(head, at);
  if (vma.fields.file !== null) {
    willMarkDirty(core, head, at);
    if (!core.folios.isAnon(head)) willMarkAccessed(core, head, head, at);
  } else if (vma.fields.locked) core.folios.flags.willUpdate(head, at);
  else core.folios.flags.willRead(head, at);
  willDeferSplit(core, head, at);
}

/** Zap the entry at `vpn`, in a step announced by `willZapEntry`. False: the details spare it. */
export function zapEntryNow(zap: Zap, vpn: number, pte: Pte): boolean {
  const { core, mm, details } = zap;
  if (!ptePresent(pte.bits)) {
    if (spares(zap, pte)) return false;
    if ((pte.bits & PTE_SWAP) !== 0) freeSwapNow(core, pte.pfn);
    mm.pageTable.clearPte(vpn);
    return true;
  }
  const head = normalHead(core, pte);
  if (head === undefined) {
    mm.pageTable.clearPte(vpn);
    zap.gather.note(vpn, vpn + 1);
    return true;
  }
  const flags = core.folios.flags.get(head);
  if (sparesFolio(details, head, flags)) return false;
  mm.pageTable.clearPte(vpn);
  zap.gather.note(vpn, vpn + 1);
  zap.gather.addPage(head, 1);
  if ((flags & PG_ANON) === 0) {
    if ((pte.bits & PTE_YOUNG) !== 0) markAccessedNow(core, head);
    if ((pte.bits & PTE_DIRTY) !== 0) {
      // folio_mark_dirty before the mapping goes, so that writeback sees the page dirty (1cf35d47712d).
      markDirtyNow(core, head);
      if (!core.machine.arch.noGather) zap.forceFlush = true;
      if (delaysRmap(core)) {
        zap.delayed.push({ head, pfn: pte.pfn, pages: 1 });
        return true;
      }
    }
  }
  removeRmapNow(zap, head, pte.pfn);
  return true;
}

/** tlb_delay_rmap: not on architectures that free zapped pages at once. */
export function delaysRmap(core: CoreMm): boolean {
  return !core.machine.arch.noGather && core.kernel.has('tlb.delay-rmap');
}

function spares(zap: Zap, pte: Pte): boolean {
  if ((pte.bits & PTE_MIGRATION) !== 0) {
    const head = zap.core.folios.headOf(pte.pfn);
    return sparesFolio(zap.details, head, zap.core.folios.flags.peek(head));
  }
  if (zap.details.singleFolio !== undefined) return true;
  if ((pte.bits & (PTE_SWAP | PTE_HWPOISON)) !== 0) return !zap.details.evenCows;
  return (pte.bits & PTE_MARKER) !== 0 && zap.vma.fields.file !== null && !zap.details.evenCows;
}

/** should_zap_folio. A migration entry's folio is locked by the migrator, so that its flags may be looked at. */
function sparesFolio(details: ZapDetails, head: number, flags: number): boolean {
  if (details.singleFolio !== undefined && details.singleFolio !== head) return true;
  return !details.evenCows && (flags & PG_ANON) !== 0;
}

/** folio_remove_rmap_pte: the mapping's count goes; the reference stays with the gather. */
export function removeRmapNow(zap: Zap, head: number, pfn: number): void {
  const { core, vma } = zap;
  const { folios } = core;
  folios.removePteMapping(head, pfn);
  const left = folios.mapcountOf(head);
  if (vma.fields.locked) munlockNow(core, head);
  if (folios.isLarge(head) && folios.isAnon(head)) {
    const others = zap.unmapped.get(head);
    if (others === undefined) zap.unmapped.set(head, [pfn]);
    else others.push(pfn);
  }
  reportDropped(core, head, pfn, 1, left);
}

/** The end of a step of zapping: what of huge pages it left mapped in part waits to be split. */
export function deferSplitsNow({ core, unmapped }: Zap): void {
  for (const [head, pages] of unmapped) for (const pfn of pages) deferSplitNow(core, head, pfn);
  unmapped.clear();
}

/** munlock_vma_folio. The model keeps no mlock_count: a folio locked through two VMAs is re-mlocked when reclaim meets it. */
export function munlockNow(core: CoreMm, head: number): void {
  core.folios.change(head, 0, PG_MLOCKED | PG_UNEVICTABLE);
}

/** Anonymous contents are gone with their last mapping, unless a pin or the swap cache still leads to them. */
export function reportDropped(core: CoreMm, head: number, pfn: number, pages: number, mappingsLeft: number): void {
  if (mappingsLeft > 0 || !core.folios.isAnon(head) || core.folios.has(head, PG_HUGETLB)) return;
  if (core.sim.hears(CONTENT_DROPPED)) core.sim.emit(CONTENT_DROPPED, { pfn, pages, why: 'zap' });
}
