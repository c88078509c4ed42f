// follow_page_mask (mm/gup.c): what GUP-slow makes of the entry it finds under the page-table lock. Protection keys
// and dev_pagemap references are not modelled.
import { PMD_PAGES } from '../../hw/machine.ts';
import type { CoreMm } from '../core.ts';
import type { Vma } from '../mapping/vma.ts';
import type { Mm } from '../mm.ts';
import { pmdOf } from '../page-table.ts';
import {
  PMD_LEAF,
  PMD_TABLE,
  PTE_DIRTY,
  PTE_PROTNONE,
  PTE_SOFT_DIRTY,
  PTE_SPECIAL,
  PTE_UFFD_WP,
  PTE_WRITE,
  type Pte,
  ptePresent,
} from '../pte.ts';
import type { GupFlags } from './gup-flags.ts';

/**
 * `grab`: pages `pfn`.. can be taken; `fault`: NULL, let the fault handler work; `unshare`: -EMLINK, let it break COW;
 * `raw`: -EEXIST, an entry without struct page.
 */
export interface Followed {
  readonly outcome: 'grab' | 'fault' | 'unshare' | 'raw';
  readonly pfn: number;
  /** Pages from the address on that the entry, or a run of entries alike, covers. */
  readonly pages: number;
  readonly head: number;
  /** A PMD maps it. */
  readonly huge: boolean;
  readonly dirty: boolean;
}

const FAULT: Followed = { outcome: 'fault', pfn: 0, pages: 0, head: 0, huge: false, dirty: false };
const UNSHARE: Followed = { ...FAULT, outcome: 'unshare' };
const RAW: Followed = { ...FAULT, outcome: 'raw' };

/**
 * Look at the entry of `vpn` and, for PTEs, at those up to `last` of the same table. In a step that announced reading
 * the PMD and the PTEs vpn..last and holds the page-table lock.
 */
export function followEntry(core: CoreMm, mm: Mm, vma: Vma, vpn: number, last: number, flags: GupFlags): Followed {
  const row = pmdOf(vpn);
  const pmd = mm.pageTable.pmd(row);
  if ((pmd.bits & PMD_LEAF) !== 0) return followPmd(core, vma, pmd, vpn, flags);
  if ((pmd.bits & PMD_TABLE) === 0) return FAULT;
  const pte = mm.pageTable.pte(vpn);
  if (!ptePresent(pte.bits)) return FAULT;
  if ((pte.bits & PTE_PROTNONE) !== 0 && !followsProtnone(core, flags)) return FAULT;
  const special = (pte.bits & PTE_SPECIAL) !== 0;
  if (flags.write && !canFollowWrite(core, vma, pte, special ? 0 : pte.pfn, flags)) return FAULT;
  if (special && pte.pfn !== core.zeroPfn) return RAW;
  if ((pte.bits & PTE_WRITE) === 0 && mustUnshare(core, vma, flags, pte.pfn)) return UNSHARE;
  const head = core.folios.headOf(pte.pfn);
  const zero = pte.pfn === core.zeroPfn;
  const pages = zero ? zeros(core, mm, vpn, last) : special ? 1 : alike(core, mm, vpn, last, pte, head, flags);
  return { outcome: 'grab', pfn: pte.pfn, pages, head, huge: false, dirty: (pte.bits & PTE_DIRTY) !== 0 };
}

function followPmd(core: CoreMm, vma: Vma, pmd: Pte, vpn: number, flags: GupFlags): Followed {
  if (!ptePresent(pmd.bits)) return FAULT;
  const head = core.folios.headOf(pmd.pfn);
  if (flags.write && !canFollowWrite(core, vma, pmd, head, flags)) return FAULT;
  if ((pmd.bits & PTE_PROTNONE) !== 0 && !followsProtnone(core, flags)) return FAULT;
  if ((pmd.bits & PTE_SPECIAL) !== 0 && head !== core.hugeZeroPfn) return RAW;
  if ((pmd.bits & PTE_WRITE) === 0 && mustUnshare(core, vma, flags, head)) return UNSHARE;
  const within = vpn % PMD_PAGES;
  return {
    outcome: 'grab',
    pfn: pmd.pfn + within,
    pages: PMD_PAGES - within,
    head,
    huge: true,
    dirty: (pmd.bits & PTE_DIRTY) !== 0,
  };
}

/** gup_can_follow_protnone */
function followsProtnone(core: CoreMm, flags: GupFlags): boolean {
  return core.kernel.has('gup.slow.follows-protnone') ? !flags.honorNumaFault : flags.force;
}

/** can_follow_write_pte / _pmd: FOLL_FORCE may write through a read-only entry of an exclusive anon page. */
function canFollowWrite(core: CoreMm, vma: Vma, entry: Pte, page: number, flags: GupFlags): boolean {
  if ((entry.bits & PTE_WRITE) !== 0) return true;
  const { shared, mayWrite, write } = vma.fields;
  if (!flags.force || shared || !mayWrite || write) return false;
  if (page === 0 || !core.folios.isAnon(core.folios.headOf(page))) return false;
  if (core.kernel.has('gup.force.needs-exclusive-anon')) {
    if (core.folios.anonExclusive.peek(page) === 0) return false;
  } else if ((entry.bits & PTE_DIRTY) === 0) return false;
  // The write must fault where soft-dirty tracking or userfaultfd is to learn of it.
  if (vma.fields.softDirtyEnabled && (entry.bits & PTE_SOFT_DIRTY) === 0) return false;
  return (entry.bits & PTE_UFFD_WP) === 0;
}

/**
 * gup_must_unshare: would this pin see a copy break away from it? `page` is the page of a PTE, the head of a PMD or of
 * hugetlb. `vma` null: GUP-fast, which does not know the mapping. Anon-ness and AnonExclusive cannot change while the
 * caller holds the page-table lock of an entry that maps the page; GUP-fast announces reading them.
 */
export function mustUnshare(core: CoreMm, vma: Vma | null, flags: GupFlags, page: number): boolean {
  if (flags.grab !== 'pin' || flags.write || !core.kernel.has('cow.unshare-fault')) return false;
  const { folios } = core;
  const head = folios.headOf(page);
  if (!folios.isAnon(head)) {
    if (!flags.longterm || !core.kernel.has('gup.longterm.ro-breaks-cow')) return false;
    return vma === null || vma.cow;
  }
  return folios.anonExclusive.peek(page) === 0;
}

/** How many entries from `vpn` on map the zero page as the first does. */
function zeros(core: CoreMm, mm: Mm, vpn: number, last: number): number {
  if (last === vpn) return 1;
  const { bits, pfn } = mm.pageTable.bulk;
  const end = pfn.endOfRun(vpn, bits.endOfRun(vpn, last));
  if (core.sim.watching) for (let at = vpn + 1; at <= Math.min(last, end + 1); at++) bits.get(at);
  return end - vpn + 1;
}

/** How many entries from `vpn` on are like the first and map the frames after it: what one step may take at once. */
function alike(core: CoreMm, mm: Mm, vpn: number, last: number, first: Pte, head: number, flags: GupFlags): number {
  if (last === vpn) return 1;
  const { folios } = core;
  // The frames of one 2 MiB block are either all small folios or all of one large folio.
  const blockEnd = first.pfn - (first.pfn % PMD_PAGES) + PMD_PAGES;
  const limit = folios.isLarge(head) ? Math.min(blockEnd, head + folios.pagesOf(head)) : blockEnd;
  const { bits, pfn } = mm.pageTable.bulk;
  const { zeroPfn } = core;
  const to = Math.min(last, vpn + limit - first.pfn - 1);
  const end = pfn.endOfRise(vpn, bits.endOfRun(vpn, to));
  if (core.sim.watching) for (let at = vpn + 1; at <= Math.min(to, end + 1); at++) bits.get(at);
  let frame = first.pfn + end - vpn;
  if (zeroPfn > first.pfn && zeroPfn <= frame) frame = zeroPfn - 1;
  // Through a read-only entry the folio itself decides; pages of the same kind decide alike.
  if ((first.bits & PTE_WRITE) === 0 && (flags.write || flags.grab === 'pin')) frame = sameKind(core, first.pfn, frame);
  return frame - first.pfn + 1;
}

/** The last of first..last up to which the pages decide alike: all anonymous and exclusive, or none anonymous. */
function sameKind(core: CoreMm, first: number, last: number): number {
  const { folios } = core;
  const head = folios.headOf(first);
  const anon = folios.isAnon(head);
  let end = last;
  if (!folios.isLarge(head)) {
    let next = first;
    do next = folios.flags.endOfRun(next, last) + 1;
    while (next <= last && folios.isAnon(next) === anon);
    end = next - 1;
  }
  return anon && end > first ? Math.max(first, folios.anonExclusive.firstOutside(first + 1, end, 1, 1) - 1) : end;
}
