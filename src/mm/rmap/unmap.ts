// try_to_unmap (mm/rmap.c): reclaim and memory failure take a folio out of every page table. Anonymous pages leave swap
// entries, MADV_FREE pages and file pages nothing. A pinned exclusive page keeps its entry; a file page never does.
// The CMMA-unused bit of s390 is not modelled.
import { call, type Steps } from '../../engine/process.ts';
import { step } from '../../engine/step.ts';
import type { CoreMm } from '../core.ts';
import { UFFD_WP } from '../mapping/vma.ts';
import { PG_ANON, PG_DIRTY, PG_HUGETLB, PG_HWPOISON, PG_SWAPBACKED, PG_SWAPCACHE } from '../page-flags.ts';
import { pmdOf } from '../page-table.ts';
import {
  PMD_LEAF,
  PMD_TABLE,
  PTE_DIRTY,
  PTE_EXCLUSIVE,
  PTE_HWPOISON,
  PTE_MARKER,
  PTE_SOFT_DIRTY,
  PTE_SWAP,
  PTE_UFFD_WP,
  ptePresent,
} from '../pte.ts';
import { splitHugePmdLocked } from '../thp/huge-pmd.ts';
import { flushTlbRange } from '../tlb.ts';
import { markDirtyNow, willMarkDirty } from '../writeback/mark-dirty.ts';
import { notifierRange } from '../zap/zap.ts';
import type { RmapPlace } from './rmap.ts';
import { rmapWalk, type TtuFlags } from './rmap-walk.ts';
import { tryShareNow, willTryShare } from './share-anon-rmap.ts';
import { type Cleared, type Decide, type Replacement, type Unmapping, unmapPte } from './unmap-pte.ts';

const WALK = step('page_vma_mapped_walk', 'lock');
const WALK_END = step('page_vma_mapped_walk_done', 'lock');
const LAZYFREE = step('try_to_unmap_one:lazyfree-ref-test', 'refcount');
const SHARE = step('folio_try_share_anon_rmap_pte', 'refcount');
const HUGETLB = step('try_to_unmap_one:hugetlb-clear', 'pte-op');
const HUGETLB_INSTALL = step('try_to_unmap_one:hugetlb-install', 'pte-op');

/** try_to_unmap: the folio is locked, and the caller has a reference. Whether it worked is for folio_mapped to tell. */
export function* tryToUnmap(core: CoreMm, head: number, flags: TtuFlags): Steps<void> {
  yield* call(rmapWalk(core, head, tryToUnmapOne, flags, { locked: flags.rmapLocked === true, untilUnmapped: true }));
}

function* tryToUnmapOne(core: CoreMm, head: number, place: RmapPlace, flags: TtuFlags): Steps<boolean> {
  const { mm, vma, vpn, pages } = place;
  const range = notifierRange(core, mm, vma, vpn, vpn + pages, 'CLEAR');
  yield* call(mm.notifiers.start(range));
  const done = yield* call(unmapPlace({ core, head, place, flags }, replacement));
  yield* call(mm.notifiers.end(range));
  return done;
}

/** page_vma_mapped_walk over the place: PTEs, and what the flags say of a PMD leaf. False: the walk stops. */
export function* unmapPlace(u: Unmapping, decide: Decide): Steps<boolean> {
  const { core, head, place } = u;
  if (!core.folios.isLarge(head)) return yield* call(unmapPte(u, place.vpn, pmdOf(place.vpn), false, decide));
  const end = place.vpn + place.pages;
  for (let at = place.vpn; at < end; ) {
    const row = pmdOf(at);
    const to = Math.min(end, (row + 1) * 512);
    if (!(yield* call(unmapRow(u, row, at, to, decide)))) return false;
    if (core.folios.has(head, PG_HUGETLB)) return true;
    at = to;
  }
  return true;
}

/** The part of a large folio in one page table, under one hold of its lock. */
function* unmapRow(u: Unmapping, row: number, from: number, to: number, decide: Decide): Steps<boolean> {
  const { core, head, place, flags } = u;
  const { mm, vma } = place;
  const { pageTable } = mm;
  pageTable.willReadPmd(row, WALK);
  yield pageTable.ptl.lock(row, WALK);
  const pmd = pageTable.pmd(row);
  if ((pmd.bits & PMD_LEAF) !== 0 && ptePresent(pmd.bits) && core.folios.headOf(pmd.pfn) === head) {
    pageTable.ptl.releaseNow(row);
    if (vma.fields.locked && flags.ignoreMlock !== true) return false;
    if (core.folios.has(head, PG_HUGETLB)) return yield* call(unmapHugetlb(u, row));
    if (flags.splitHugePmd !== true) throw new Error(`folio ${head} is mapped by a PMD that nobody asked to split`);
    yield* call(splitHugePmdLocked(core, mm, vma, row));
    // File memory has lost the mapping with the PMD; anonymous memory is mapped by PTEs now.
    return yield* call(unmapRow(u, row, from, to, decide));
  }
  let done = true;
  if ((pmd.bits & PMD_TABLE) !== 0) {
    for (let vpn = from; vpn < to && done; vpn++) {
      // The lock is held: only the processor changes entries, and only their accessed and dirty bits.
      const { bits, pfn } = pageTable.peekPte(vpn);
      if (ptePresent(bits) && core.folios.headOf(pfn) === head) done = yield* call(unmapPte(u, vpn, row, true, decide));
    }
  }
  yield pageTable.ptl.unlock(row, WALK_END);
  return done;
}

/** What takes the place of an entry that try_to_unmap_one has cleared. */
function* replacement(u: Unmapping, cleared: Cleared): Steps<Replacement> {
  const { core, head, flags, place } = u;
  const { folios } = core;
  // The folio is locked and isolated: what kind it is does not change, and who poisons is who asks.
  const kind = folios.flags.peek(head);
  if (flags.hwpoison === true && (kind & PG_HWPOISON) !== 0) return { pfn: cleared.page, bits: PTE_HWPOISON };
  if ((kind & PG_ANON) === 0) {
    // pte_install_uffd_wp_if_needed: the file's page may go, the protection of the address must not.
    const marked = (cleared.pte.bits & PTE_UFFD_WP) !== 0 && place.vma.userfaults(UFFD_WP);
    return marked ? { pfn: 0, bits: PTE_MARKER | PTE_UFFD_WP } : 'none';
  }
  if ((kind & PG_SWAPBACKED) === 0) return yield* call(discardLazyfree(u));
  // Neither is ever without the other here; the kernel warns and leaves the page mapped.
  if ((kind & PG_SWAPCACHE) === 0) return 'restore';
  return yield* call(swapEntry(u, cleared));
}

/** A MADV_FREE page: may it be dropped? Its references are read after the entry is gone (6c8e2a256915). */
function* discardLazyfree(u: Unmapping): Steps<Replacement> {
  const { core, head } = u;
  const { folios } = core;
  folios.mapcount.willRead(head, LAZYFREE);
  folios.refcount.willRead(head, LAZYFREE);
  yield folios.flags.willUpdate(head, LAZYFREE);
  const dirty = (folios.flags.get(head) & PG_DIRTY) !== 0;
  const alone =
    !core.kernel.has('reclaim.lazyfree-ref-test-ordered') || folios.refcount.get(head) === 1 + folios.mapcountOf(head);
  if (alone && !dirty) return 'none';
  folios.change(head, PG_SWAPBACKED);
  return 'restore';
}

/** swap_duplicate, and the share test of an exclusive page. */
function* swapEntry(u: Unmapping, cleared: Cleared): Steps<Replacement> {
  const { core, head } = u;
  const { folios, swap, kernel } = core;
  const { page, exclusive, shared, pte } = cleared;
  // Held under the folio lock.
  const slot = folios.swapEntry.peek(head) - 1 + (page - head);
  swap.map.willUpdate(slot, SHARE);
  yield willTryShare(core, head, page, SHARE);
  if (exclusive && shared === 'undecided' && !tryShareNow(core, head, page)) return 'restore';
  swap.map.set(slot, swap.map.get(slot) + 1);
  const remembered = exclusive && kernel.has('cow.swap-exclusive-bit') ? PTE_EXCLUSIVE : 0;
  return { pfn: slot, bits: PTE_SWAP | remembered | (pte.bits & (PTE_SOFT_DIRTY | PTE_UFFD_WP)) };
}

/** A poisoned hugetlb page; nobody else unmaps hugetlb pages this way. The caller holds the rmap lock for write. */
function* unmapHugetlb(u: Unmapping, row: number): Steps<boolean> {
  const { core, head, place } = u;
  const { folios } = core;
  const { pageTable } = place.mm;
  willMarkDirty(core, head, HUGETLB);
  pageTable.willUpdatePmd(row, HUGETLB);
  yield pageTable.ptl.lock(row, HUGETLB);
  const pmd = pageTable.pmd(row);
  if ((pmd.bits & PMD_LEAF) === 0 || !ptePresent(pmd.bits) || pmd.pfn !== head) {
    pageTable.ptl.releaseNow(row);
    return true;
  }
  pageTable.setPmd(row, pmd.pfn, 0, 0);
  if ((pmd.bits & PTE_DIRTY) !== 0) markDirtyNow(core, head);
  yield* call(flushTlbRange(core, place.mm, place.vpn, place.vpn + place.pages));
  folios.willMap(head, head, HUGETLB_INSTALL);
  folios.refcount.willUpdate(head, HUGETLB_INSTALL);
  pageTable.willUpdatePmd(row, HUGETLB_INSTALL);
  yield pageTable.ptl.willChange(row, HUGETLB_INSTALL);
  pageTable.setPmd(row, head, PMD_LEAF | PTE_HWPOISON, pmd.generation);
  folios.addPmdMapping(head, -1);
  folios.refcount.set(head, folios.refcount.get(head) - 1);
  pageTable.ptl.releaseNow(row);
  return true;
}
