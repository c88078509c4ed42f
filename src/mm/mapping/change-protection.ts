// change_protection (mm/mprotect.c, mm/huge_memory.c, mm/hugetlb.c): new rights for the entries of one VMA, for mprotect,
// NUMA hinting and userfaultfd write protection. Pages stay; pins are not asked, except by NUMA hinting.
import { call, type Steps } from '../../engine/process.ts';
import { step } from '../../engine/step.ts';
import { PMD_PAGES } from '../../hw/machine.ts';
import type { CoreMm } from '../core.ts';
import { protBits, wantsWritenotify } from '../fault/fault-context.ts';
import type { Mm } from '../mm.ts';
import type { NotifierRange } from '../notifier.ts';
import { PG_ANON, PG_DIRTY, PG_KSM, PG_SWAPBACKED } from '../page-flags.ts';
import { pmdOf } from '../page-table.ts';
import {
  PMD_LEAF,
  PMD_TABLE,
  PTE_DIRTY,
  PTE_EXCLUSIVE,
  PTE_MARKER,
  PTE_MIGRATION,
  PTE_PRESENT,
  PTE_PROTNONE,
  PTE_SOFT_DIRTY,
  PTE_SWAP,
  PTE_UFFD_WP,
  PTE_WRITE,
  type Pte,
  ptePresent,
} from '../pte.ts';
import { splitHugePmd } from '../thp/huge-pmd.ts';
import { deferredFlushPossible, type MmuGather, tlbFlushBatchedPending } from '../tlb.ts';
import { notifierRange } from '../zap/zap.ts';
import { normalHead } from '../zap/zap-entry.ts';
import { hugeHead, rowsOf } from '../zap/zap-huge.ts';
import type { Vma } from './vma.ts';

const WALK = step('change_protection:walk', 'none');
const LOCK = step('change_pte_range:lock', 'lock');
const CHANGE = step('change_pte_range', 'pte-op');
const CHANGE_HUGE = step('change_huge_pmd', 'pte-op');
const UNLOCK = step('change_pte_range:unlock', 'lock');

const PUD_ROWS = PMD_PAGES;
const P4D_ROWS = PMD_PAGES * PMD_PAGES;

/** MM_CP_*: who changes. With neither, the VMA's own new rights apply. */
export interface ProtectionChange {
  /** MM_CP_PROT_NUMA: make entries PROT_NONE, so that the next touch tells who uses the page. */
  readonly numa?: boolean;
  /** MM_CP_UFFD_WP and MM_CP_UFFD_WP_RESOLVE */
  readonly uffdWp?: 'set' | 'resolve';
}

interface Change extends ProtectionChange {
  readonly core: CoreMm;
  readonly mm: Mm;
  readonly vma: Vma;
  readonly gather: MmuGather;
}

/** Change [from, to) of `vma`, which has its new flags already. The caller flushes by finishing the gather. */
export function* changeProtection(
  core: CoreMm,
  gather: MmuGather,
  mm: Mm,
  vma: Vma,
  from: number,
  to: number,
  how: ProtectionChange = {},
): Steps<void> {
  const change: Change = { ...how, core, mm, vma, gather };
  const first = pmdOf(from);
  const last = pmdOf(to - 1);
  yield mm.pageTable.willReadPmds(first, last, WALK);
  const rows = mm.pageTable.populatedRows(first, last);
  if (vma.hugetlb) {
    yield* call(changeWindow(change, notifierRange(core, mm, vma, from, to, 'PROTECTION_VMA'), rows, from, to));
    return;
  }
  // A window opens at the first populated entry of an upper-level table and reaches to its end.
  const perPud = core.kernel.way('notifier.mprotect-window') === 'pmd';
  const span = perPud ? PUD_ROWS : P4D_ROWS;
  for (let i = 0; i < rows.length; ) {
    const group = Math.floor(rows[i]! / span);
    let end = i;
    while (end < rows.length && Math.floor(rows[end]! / span) === group) end++;
    const firstRow = perPud ? rows[i]! : Math.floor(rows[i]! / PUD_ROWS) * PUD_ROWS;
    const range: NotifierRange = {
      mm,
      start: Math.max(from, firstRow * PMD_PAGES),
      end: Math.min(to, (group + 1) * span * PMD_PAGES),
      event: 'PROTECTION_VMA',
      blockable: true,
    };
    yield* call(changeWindow(change, range, rows.slice(i, end), from, to));
    i = end;
  }
}

function* changeWindow(
  change: Change,
  range: NotifierRange,
  rows: readonly number[],
  from: number,
  to: number,
): Steps<void> {
  const { mm } = change;
  yield* call(mm.notifiers.start(range));
  for (const row of rows) {
    yield* call(changeRow(change, row, Math.max(from, row * PMD_PAGES), Math.min(to, (row + 1) * PMD_PAGES)));
  }
  yield* call(mm.notifiers.end(range));
}

function* changeRow(change: Change, row: number, from: number, to: number): Steps<void> {
  const { core, mm, vma } = change;
  // mmap_lock keeps faults or at least other changers out; what changes under our eyes is looked at again.
  while ((mm.pageTable.peekPmd(row).bits & PMD_LEAF) !== 0) {
    const splits = !vma.hugetlb && (to - from < PMD_PAGES || (change.uffdWp !== undefined && !vma.anonymous));
    if (splits) yield* call(splitHugePmd(core, mm, vma, row));
    else if (yield* call(changeHuge(change, row))) return;
  }
  if ((mm.pageTable.peekPmd(row).bits & PMD_TABLE) !== 0) yield* call(changePteRange(change, row, from, to));
}

/** change_huge_pmd. False: no leaf any more. */
function* changeHuge(change: Change, row: number): Steps<boolean> {
  const { core, mm, gather } = change;
  const { pageTable } = mm;
  const seen = pageTable.peekPmd(row);
  const head = hugeHead(change, seen);
  // The rows of a 1 GiB page go with its first.
  const inner = head !== undefined && change.vma.hugetlb && seen.pfn !== head;
  if (inner) return true;
  const rows = rowsOf(core, head);
  for (let i = 1; i < rows; i++) pageTable.willUpdatePmd(row + i, CHANGE_HUGE);
  if (head !== undefined) {
    core.folios.flags.willRead(head, CHANGE_HUGE);
    core.folios.anonExclusive.willRead(head, CHANGE_HUGE);
  }
  pageTable.willUpdatePmd(row, CHANGE_HUGE);
  yield pageTable.ptl.pass(row, CHANGE_HUGE);
  const pmd = pageTable.pmd(row);
  if ((pmd.bits & PMD_LEAF) === 0 || hugeHead(change, pmd) !== head) return false;
  if (change.numa === true && pmd.pfn === core.hugeZeroPfn) return true;
  const bits = ptePresent(pmd.bits) ? presentBits(change, pmd, head, head) : absentBits(change, pmd);
  if (bits === pmd.bits) return true;
  for (let i = 0; i < rows; i++) pageTable.setPmd(row + i, pmd.pfn + i * PMD_PAGES, bits, pmd.generation);
  if (needsFlush(pmd.bits, bits)) gather.note(row * PMD_PAGES, (row + rows) * PMD_PAGES);
  return true;
}

/** change_pte_range. As in zap, the lock is kept where deferred flushes have to be looked for under it. */
function* changePteRange(change: Change, row: number, from: number, to: number): Steps<void> {
  const { core, mm } = change;
  const { pageTable } = mm;
  const keep = deferredFlushPossible(core, mm);
  if (keep) {
    pageTable.willReadPmd(row, LOCK);
    yield pageTable.ptl.lock(row, LOCK);
    if (core.kernel.has('tlb.deferred-flush-pending-check')) yield* call(tlbFlushBatchedPending(core, mm));
  }
  for (let vpn = from; vpn < to; ) {
    const planned: { vpn: number; pte: Pte; head: number | undefined }[] = [];
    let end = vpn;
    for (; end < to && planned.length < core.params.stepPages; end++) {
      const pte = pageTable.peekPte(end);
      if (pte.bits === 0) continue;
      const head = normalHead(core, pte);
      planned.push({ vpn: end, pte, head });
      if (head !== undefined) willLook(change, head, pte.pfn);
    }
    while (end < to && pageTable.peekPte(end).bits === 0) end++;
    pageTable.willUpdatePtes(vpn, end - 1, CHANGE);
    pageTable.willReadPmd(row, CHANGE);
    yield core.sim.times(planned.length, keep ? core.sim.local(CHANGE) : pageTable.ptl.pass(row, CHANGE));
    if ((pageTable.pmd(row).bits & PMD_TABLE) === 0) break;
    vpn = changePlanned(change, planned, end);
  }
  if (keep) yield pageTable.ptl.unlock(row, UNLOCK);
}

function willLook({ core, numa }: Change, head: number, pfn: number): void {
  core.folios.flags.willRead(head, CHANGE);
  core.folios.anonExclusive.willRead(pfn, CHANGE);
  if (numa === true) {
    core.folios.refcount.willRead(head, CHANGE);
    core.folios.mapcount.willRead(head, CHANGE);
  }
}

/** The act; returns how far it got: it stops where an entry maps something else than was planned. */
function changePlanned(
  change: Change,
  planned: readonly { vpn: number; pte: Pte; head: number | undefined }[],
  end: number,
): number {
  const { pageTable } = change.mm;
  for (const { vpn, pte: seen, head } of planned) {
    const pte = pageTable.pte(vpn);
    if (pte.pfn !== seen.pfn || ptePresent(pte.bits) !== ptePresent(seen.bits)) return vpn;
    const bits = ptePresent(pte.bits) ? presentBits(change, pte, head, pte.pfn) : absentBits(change, pte);
    if (bits === pte.bits) continue;
    pageTable.setPte(vpn, pte.pfn, bits, pte.generation);
    if (needsFlush(pte.bits, bits)) change.gather.note(vpn, vpn + 1);
  }
  return end;
}

/** pte_modify and can_change_pte_writable */
function presentBits(change: Change, pte: Pte, head: number | undefined, page: number | undefined): number {
  const { vma, numa, uffdWp } = change;
  if (numa === true && (head === undefined || numaSkips(change, pte, head))) return pte.bits;
  const { read, write, exec } = vma.fields;
  const none = numa === true || !(read || write || exec);
  let bits = pte.bits & ~(PTE_PRESENT | PTE_PROTNONE | PTE_WRITE);
  bits |= none ? PTE_PROTNONE : PTE_PRESENT;
  if (uffdWp === 'set') bits |= PTE_UFFD_WP;
  if (uffdWp === 'resolve') bits &= ~PTE_UFFD_WP;
  if (none || !write || (bits & PTE_UFFD_WP) !== 0) return bits;
  bits |= protBits(vma);
  return (bits & PTE_WRITE) === 0 && canChangeWritable(change, bits, head, page) ? bits | PTE_WRITE : bits;
}

/** can_change_pte_writable: exclusive anonymous memory, and shared pages that were written to already. */
function canChangeWritable(change: Change, bits: number, head: number | undefined, page: number | undefined): boolean {
  const { core, vma } = change;
  if (vma.hugetlb) return false;
  // Its first write is to be seen (vma_soft_dirty_enabled).
  if (vma.fields.softDirtyEnabled && (bits & PTE_SOFT_DIRTY) === 0) return false;
  if (vma.fields.shared) return wantsWritenotify(vma) && (bits & PTE_DIRTY) !== 0;
  if (head === undefined || page === undefined || !core.kernel.has('mprotect.restores-exclusive-write')) return false;
  return (core.folios.flags.get(head) & PG_ANON) !== 0 && core.folios.anonExclusive.get(page) === 1;
}

/** Entries that NUMA hinting leaves alone. */
function numaSkips({ core, vma }: Change, pte: Pte, head: number): boolean {
  const { folios } = core;
  const flags = folios.flags.get(head);
  if ((pte.bits & PTE_PROTNONE) !== 0 || (flags & PG_KSM) !== 0) return true;
  // folio_is_file_lru: MIGRATE_ASYNC could not move it.
  if ((flags & (PG_SWAPBACKED | PG_DIRTY)) === PG_DIRTY) return true;
  if (!vma.cow || !core.kernel.has('cow.numa-skips-shared')) return false;
  if (core.kernel.way('cow.numa-other-use-test') === 'page-count') return folios.refcount.get(head) !== 1;
  return folios.maybeDmaPinned(head) || folios.mapcountOf(head) > folios.pagesOf(head);
}

/** Swap entries keep their rights; a writable migration entry loses the right to write, not its exclusiveness. */
function absentBits({ core, uffdWp }: Change, pte: Pte): number {
  let { bits } = pte;
  if ((bits & PTE_MIGRATION) !== 0 && (bits & PTE_WRITE) !== 0) {
    // The migrator has the folio locked: what kind it is stays.
    const anon = core.folios.isAnon(core.folios.headOf(pte.pfn)) && core.kernel.has('cow.anon-exclusive');
    bits = (bits & ~PTE_WRITE) | (anon ? PTE_EXCLUSIVE : 0);
  }
  if ((bits & PTE_MARKER) !== 0) return uffdWp === 'resolve' ? 0 : bits;
  if ((bits & (PTE_SWAP | PTE_MIGRATION)) === 0) return bits;
  if (uffdWp === 'set') return bits | PTE_UFFD_WP;
  return uffdWp === 'resolve' ? bits & ~PTE_UFFD_WP : bits;
}

/** pte_needs_flush (x86): only when a right goes away. */
function needsFlush(old: number, now: number): boolean {
  return (old & PTE_PRESENT) !== 0 && (old & ~now & (PTE_PRESENT | PTE_WRITE)) !== 0;
}
