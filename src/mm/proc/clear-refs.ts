// /proc/PID/clear_refs (fs/proc/task_mmu.c clear_refs_write): every mapping forgets that it was written (soft-dirty) or
// used. Soft-dirty tracking write-protects, so that the next CPU write sets the bit again; DMA never does. Pinned pages
// of COW mappings stay writable, and with that dirty. hugetlb mappings are passed over.
import { call, type Steps } from '../../engine/process.ts';
import { step } from '../../engine/step.ts';
import { PMD_PAGES } from '../../hw/machine.ts';
import type { CoreMm } from '../core.ts';
import type { Errno } from '../errno.ts';
import type { Vma } from '../mapping/vma.ts';
import { findVmas, replaceVma } from '../mapping/vma-edit.ts';
import type { Mm } from '../mm.ts';
import type { NotifierRange } from '../notifier.ts';
import { PG_REFERENCED } from '../page-flags.ts';
import { pmdOf } from '../page-table.ts';
import {
  PMD_LEAF,
  PMD_TABLE,
  PTE_MIGRATION,
  PTE_SOFT_DIRTY,
  PTE_SWAP,
  PTE_WRITE,
  PTE_YOUNG,
  type Pte,
  ptePresent,
} from '../pte.ts';
import { flushTlbMm } from '../tlb.ts';
import { normalHead } from '../zap/zap-entry.ts';

const WALK = step('clear_refs:walk_page_range', 'none');
const CLEAR = step('clear_refs_pte_range', 'pte-op');
const CLEAR_HUGE = step('clear_refs_pte_range:pmd', 'pte-op');
const PENDING = step('clear_refs_write:inc_tlb_flush_pending', 'none');

/** What is written to the file: 1 (referenced bits of all pages) or 4 (soft-dirty bits). */
export type ClearRefs = 'all' | 'soft-dirty';

interface Clear {
  readonly core: CoreMm;
  readonly mm: Mm;
  readonly vma: Vma;
  readonly softDirty: boolean;
}

/** clear_refs_write. EINTR: killed while waiting for mmap_lock. */
export function* clearRefs(core: CoreMm, mm: Mm, what: ClearRefs): Steps<'ok' | Errno> {
  if (!(yield* call(mm.mmapLock.killable(true, core.current.task.killed)))) return 'EINTR';
  const softDirty = what === 'soft-dirty';
  const range: NotifierRange = { mm, start: 0, end: 2 ** 36, event: 'SOFT_DIRTY', blockable: true };
  if (softDirty) {
    for (const vma of yield* call(findVmas(mm, 0, Number.POSITIVE_INFINITY))) {
      if (!vma.fields.softDirtyEnabled) yield* call(replaceVma(mm, vma.with({ softDirtyEnabled: true })));
    }
    yield mm.tlbFlushPending.willAdd(PENDING);
    mm.tlbFlushPending.add(1);
    yield* call(mm.notifiers.start(range));
  }
  for (const vma of yield* call(findVmas(mm, 0, Number.POSITIVE_INFINITY))) {
    if (vma.fields.pfnMapping === null && !vma.hugetlb) yield* call(clearVma({ core, mm, vma, softDirty }));
  }
  if (softDirty) {
    yield* call(mm.notifiers.end(range));
    yield* call(flushTlbMm(core, mm));
    yield mm.tlbFlushPending.willAdd(PENDING);
    mm.tlbFlushPending.add(-1);
  }
  yield mm.mmapLock.up();
  return 'ok';
}

function* clearVma(clear: Clear): Steps<void> {
  const { mm, vma } = clear;
  const { pageTable } = mm;
  yield pageTable.willReadPmds(pmdOf(vma.start), pmdOf(vma.end - 1), WALK);
  for (const row of pageTable.populatedRows(pmdOf(vma.start), pmdOf(vma.end - 1))) {
    if (yield* call(clearHuge(clear, row))) continue;
    const to = Math.min(vma.end, (row + 1) * PMD_PAGES);
    for (let vpn = Math.max(vma.start, row * PMD_PAGES); vpn < to; ) vpn = yield* call(clearPtes(clear, row, vpn, to));
  }
}

/** A huge page, whose pins are not asked. False: a table. */
function* clearHuge({ core, mm, softDirty }: Clear, row: number): Steps<boolean> {
  const { pageTable } = mm;
  const seen = pageTable.peekPmd(row);
  if ((seen.bits & PMD_LEAF) === 0) return false;
  const head = ptePresent(seen.bits) ? core.folios.headOf(seen.pfn) : undefined;
  if (head !== undefined && !softDirty) core.folios.flags.willUpdate(head, CLEAR_HUGE);
  pageTable.willUpdatePmd(row, CLEAR_HUGE);
  yield pageTable.ptl.pass(row, CLEAR_HUGE);
  const pmd = pageTable.pmd(row);
  // Split or moved meanwhile: the walk looks again.
  if (pmd.bits !== seen.bits || pmd.pfn !== seen.pfn) return (pmd.bits & PMD_TABLE) === 0;
  const bits = softDirty ? withoutSoftDirty(pmd) : pmd.bits & ~PTE_YOUNG;
  if (head !== undefined && !softDirty) core.folios.change(head, 0, PG_REFERENCED);
  if (bits !== pmd.bits) pageTable.setPmd(row, pmd.pfn, bits, pmd.generation);
  return true;
}

/** clear_refs_pte_range: some entries in one step. Returns where it got to. */
function* clearPtes(clear: Clear, row: number, from: number, to: number): Steps<number> {
  const { core, mm, softDirty } = clear;
  const { pageTable } = mm;
  const { folios } = core;
  const end = Math.min(to, from + core.params.stepPages);
  const seen: { readonly vpn: number; readonly pte: Pte; readonly head: number | undefined }[] = [];
  for (let vpn = from; vpn < end; vpn++) {
    const pte = pageTable.peekPte(vpn);
    if (pte.bits === 0) continue;
    const head = normalHead(core, pte);
    seen.push({ vpn, pte, head });
    if (head === undefined) continue;
    if (softDirty) willAskPin(core, head);
    else folios.flags.willUpdate(head, CLEAR);
  }
  mm.hasPinned.willRead(CLEAR);
  pageTable.willUpdatePtes(from, end - 1, CLEAR);
  pageTable.willReadPmd(row, CLEAR);
  yield core.sim.times(seen.length, pageTable.ptl.pass(row, CLEAR));
  if ((pageTable.pmd(row).bits & PMD_TABLE) === 0) return to;
  for (const { vpn, pte: before, head } of seen) {
    const pte = pageTable.pte(vpn);
    // Another page than the one looked at: from here on again.
    if (pte.pfn !== before.pfn || ptePresent(pte.bits) !== ptePresent(before.bits)) return vpn;
    const bits = softDirty ? softDirtyBits(clear, pte, head) : pte.bits & (head === undefined ? ~0 : ~PTE_YOUNG);
    if (head !== undefined && !softDirty) folios.change(head, 0, PG_REFERENCED);
    if (bits !== pte.bits) pageTable.setPte(vpn, pte.pfn, bits, pte.generation);
  }
  return end;
}

function willAskPin(core: CoreMm, head: number): void {
  core.folios.refcount.willRead(head, CLEAR);
  core.folios.pincount.willRead(head, CLEAR);
  core.folios.order.willRead(head, CLEAR);
}

/** clear_soft_dirty, with pte_is_pinned. */
function softDirtyBits({ core, mm, vma }: Clear, pte: Pte, head: number | undefined): number {
  const writable = vma.cow && (pte.bits & PTE_WRITE) !== 0 && head !== undefined;
  const asks = writable && core.kernel.has('cow.softdirty-skips-pinned') && mm.hasPinned.value;
  return asks && core.folios.maybeDmaPinned(head) ? pte.bits : withoutSoftDirty(pte);
}

function withoutSoftDirty({ bits }: Pte): number {
  if (ptePresent(bits)) return bits & ~(PTE_WRITE | PTE_SOFT_DIRTY);
  return (bits & (PTE_SWAP | PTE_MIGRATION)) !== 0 ? bits & ~PTE_SOFT_DIRTY : bits;
}
