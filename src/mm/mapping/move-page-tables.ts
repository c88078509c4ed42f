// move_page_tables (mm/mremap.c, mm/hugetlb.c): entries go from the old to the new address under both page-table locks,
// and the old address is flushed before either is dropped. Pages, references and pins stay as they are.
import { call, type Steps } from '../../engine/process.ts';
import type { RwSem } from '../../engine/rwsem.ts';
import { step } from '../../engine/step.ts';
import { PMD_PAGES } from '../../hw/machine.ts';
import type { CoreMm } from '../core.ts';
import type { Mm } from '../mm.ts';
import { hex, pmdOf } from '../page-table.ts';
import { PMD_LEAF, PMD_TABLE, PTE_MARKER, PTE_SOFT_DIRTY, PTE_UFFD_WP, ptePresent } from '../pte.ts';
import { splitHugePmd } from '../thp/huge-pmd.ts';
import { flushTlbRange, tlbFlushBatchedPending } from '../tlb.ts';
import { notifierRange } from '../zap/zap.ts';
import { hugeHead, rowsOf } from '../zap/zap-huge.ts';
import type { Vma } from './vma.ts';
import { rmapLocksOf } from './vma-edit.ts';

const WALK = step('move_page_tables:walk', 'none');
const PLAN = step('move_page_tables:old_pmd', 'none');
const LOCK_OLD = step('move_ptes:lock-old', 'lock');
const LOCK_NEW = step('move_ptes:lock-new', 'lock');
const MOVE = step('move_ptes', 'pte-op');
const MOVE_TABLE = step('move_normal_pmd', 'pte-op');
const MOVE_HUGE = step('move_huge_pmd', 'pte-op');
const UNLOCK_NEW = step('move_ptes:unlock-new', 'lock');
const UNLOCK_OLD = step('move_ptes:unlock-old', 'lock');
const ALLOC = step('alloc_new_pmd', 'pte-op');

interface Move {
  readonly core: CoreMm;
  readonly mm: Mm;
  readonly vma: Vma;
  /** Added to an old address gives the new one. */
  readonly shift: number;
  /** Rmap walks must not look at the new place first and at the old one last. */
  readonly lockRmap: boolean;
}

/** Move the entries of [from, to) of `vma` by `shift` pages. mmap_lock is held for write. */
export function* movePageTables(core: CoreMm, mm: Mm, vma: Vma, from: number, to: number, shift: number): Steps<void> {
  // Walks visit VMAs by address: going up, they find the page at one of the two places without a lock.
  const move: Move = { core, mm, vma, shift, lockRmap: shift < 0 };
  const event = vma.hugetlb ? 'CLEAR' : 'UNMAP';
  const range = notifierRange(core, mm, vma, from, to, event);
  yield* call(mm.notifiers.start(range));
  yield mm.pageTable.willReadPmds(pmdOf(from), pmdOf(to - 1), WALK);
  for (const row of mm.pageTable.populatedRows(pmdOf(from), pmdOf(to - 1))) {
    const end = Math.min(to, (row + 1) * PMD_PAGES);
    for (let vpn = Math.max(from, row * PMD_PAGES); vpn < end; ) {
      // get_extent: neither table may end in between.
      const boundary = (pmdOf(vpn + shift) + 1) * PMD_PAGES - shift;
      const next = Math.min(end, boundary);
      yield* call(moveExtent(move, row, vpn, next));
      vpn = next;
    }
  }
  yield* call(mm.notifiers.end(range));
}

function* moveExtent(move: Move, row: number, from: number, to: number): Steps<void> {
  const { core, mm, vma, shift } = move;
  const whole = to - from === PMD_PAGES;
  const leaf = () => (mm.pageTable.peekPmd(row).bits & PMD_LEAF) !== 0;
  yield mm.pageTable.willReadPmd(row, PLAN);
  if (leaf()) {
    if (vma.hugetlb || whole) {
      yield* call(moveLeaf(move, row, pmdOf(from + shift)));
      if (!leaf()) return;
    }
    yield* call(splitHugePmd(core, mm, vma, row));
  }
  if ((mm.pageTable.peekPmd(row).bits & PMD_TABLE) === 0) return;
  if (whole && vma.fields.uffd === null && (yield* call(moveTable(move, row, pmdOf(from + shift))))) return;
  yield* call(movePtes(move, row, from, to));
}

/** take_rmap_locks */
function* takeRmapLocks(vma: Vma, wanted: boolean): Steps<readonly RwSem[]> {
  const locks = wanted ? rmapLocksOf(vma) : [];
  for (const lock of locks) yield* call(lock.write());
  return locks;
}

/** drop_rmap_locks */
function* dropRmapLocks(locks: readonly RwSem[]): Steps<void> {
  for (const lock of locks) yield lock.up();
}

/** Both locks, the old row's first; the same lock once. */
function* lockBoth({ mm }: Move, old: number, fresh: number): Steps<void> {
  const { pageTable } = mm;
  pageTable.willReadPmd(old, LOCK_OLD);
  yield pageTable.ptl.lock(old, LOCK_OLD);
  if (fresh !== old) yield pageTable.ptl.lock(fresh, LOCK_NEW);
}

function* unlockBoth({ mm }: Move, old: number, fresh: number): Steps<void> {
  const { ptl } = mm.pageTable;
  if (fresh !== old) yield ptl.unlock(fresh, UNLOCK_NEW);
  yield ptl.unlock(old, UNLOCK_OLD);
}

/** flush_tlb_range of the old address, before the locks go (eb66ae030829) or, in old kernels, after. */
function* flushAndUnlock(
  move: Move,
  old: number,
  fresh: number,
  from: number,
  to: number,
  flush: boolean,
): Steps<void> {
  const { core, mm } = move;
  const before = core.kernel.has('mremap.flush-before-unlock');
  if (flush && before) yield* call(flushTlbRange(core, mm, from, to));
  yield* call(unlockBoth(move, old, fresh));
  if (flush && !before) yield* call(flushTlbRange(core, mm, from, to));
}

/**
 * move_normal_pmd: the table itself changes place. False: it is gone (rmap locks alone suffice to take it away), or
 * something is at the new place. Before 6fa1066fc5d0 whatever the entry held by now was moved, as if it were a table.
 */
function* moveTable(move: Move, old: number, fresh: number): Steps<boolean> {
  const { core, mm, vma } = move;
  const { pageTable } = mm;
  const locks = move.lockRmap || core.kernel.has('mremap.rmap-locks-for-tables');
  const rmapLocks = yield* call(takeRmapLocks(vma, locks));
  yield* call(lockBoth(move, old, fresh));
  const first = old * PMD_PAGES;
  const target = fresh * PMD_PAGES;
  pageTable.willUpdatePmd(old, MOVE_TABLE);
  pageTable.willUpdatePmd(fresh, MOVE_TABLE);
  pageTable.willUpdatePtes(target, target + PMD_PAGES - 1, MOVE_TABLE);
  yield pageTable.willUpdatePtes(first, first + PMD_PAGES - 1, MOVE_TABLE);
  const pmd = pageTable.pmd(old);
  const there = pageTable.pmd(fresh);
  const blind = !core.kernel.has('thp.mremap-rechecks-pmd');
  const moved = there.bits === 0 && ((pmd.bits & PMD_TABLE) !== 0 || (blind && pmd.bits === 0));
  if (moved) {
    if (pmd.bits === 0) tellBogusTable(move, fresh);
    pageTable.setPmd(old, pmd.pfn, 0, 0);
    pageTable.setPmd(fresh, there.pfn + 1, PMD_TABLE, 0);
    for (let i = 0; i < PMD_PAGES; i++) moveEntry(move, first + i);
  }
  yield* call(flushAndUnlock(move, old, fresh, first, first + PMD_PAGES, moved));
  yield* call(dropRmapLocks(rmapLocks));
  return moved;
}

/** pmd_populate with the frame of an empty entry. */
function tellBogusTable({ core: { sim, current }, mm }: Move, row: number): void {
  const at = hex(row * PMD_PAGES);
  sim.report({
    kind: 'data-corruption',
    message: `move_normal_pmd by ${current.process.name} makes physical page 0 the page table of ${at} of ${mm.name}`,
    reasons: ['the table was retracted after mremap had looked and before it had the locks; an empty entry was moved'],
    actors: [current.process.name],
    objects: [`PMD ${at} of ${mm.name}`],
    steps: [],
    details: {},
    identity: 'data-corruption|move_normal_pmd|empty entry',
  });
}

/** move_huge_pmd, move_huge_pte. */
function* moveLeaf(move: Move, old: number, fresh: number): Steps<void> {
  const { core, mm, vma } = move;
  const { pageTable } = mm;
  const seen = pageTable.peekPmd(old);
  const head = hugeHead(move, seen);
  // The rows of a 1 GiB page go with its first.
  if (vma.hugetlb && head !== undefined && seen.pfn !== head) return;
  const rows = rowsOf(core, head);
  const rmapLocks = yield* call(takeRmapLocks(vma, move.lockRmap));
  yield* call(lockBoth(move, old, fresh));
  for (let i = 0; i < rows; i++) {
    pageTable.willUpdatePmd(old + i, MOVE_HUGE);
    pageTable.willUpdatePmd(fresh + i, MOVE_HUGE);
  }
  yield core.sim.local(MOVE_HUGE);
  const pmd = pageTable.pmd(old);
  const there = pageTable.pmd(fresh);
  const moved = (pmd.bits & PMD_LEAF) !== 0 && (there.bits & PMD_LEAF) === 0;
  if (moved) {
    for (let i = 0; i < rows; i++) {
      const entry = pageTable.pmd(old + i);
      pageTable.setPmd(old + i, entry.pfn, 0, 0);
      pageTable.setPmd(fresh + i, entry.pfn, entry.bits | PTE_SOFT_DIRTY, entry.generation);
    }
  }
  const first = old * PMD_PAGES;
  const flush = moved && ptePresent(pmd.bits);
  yield* call(flushAndUnlock(move, old, fresh, first, first + rows * PMD_PAGES, flush));
  yield* call(dropRmapLocks(rmapLocks));
}

/** move_ptes */
function* movePtes(move: Move, row: number, from: number, to: number): Steps<void> {
  const { core, mm, vma, shift } = move;
  const { pageTable } = mm;
  const fresh = pmdOf(from + shift);
  yield pageTable.willUpdatePmd(fresh, ALLOC);
  const there = pageTable.pmd(fresh);
  if (there.bits === 0) pageTable.setPmd(fresh, there.pfn + 1, PMD_TABLE, 0);
  const rmapLocks = yield* call(takeRmapLocks(vma, move.lockRmap));
  yield* call(lockBoth(move, row, fresh));
  if (core.kernel.has('tlb.deferred-flush-pending-check')) yield* call(tlbFlushBatchedPending(core, mm));
  let flush = false;
  for (let vpn = from; vpn < to; ) {
    const next = nextBatch(move, vpn, to);
    pageTable.willUpdatePtes(vpn + shift, next.end + shift - 1, MOVE);
    yield core.sim.times(next.populated, pageTable.willUpdatePtes(vpn, next.end - 1, MOVE));
    for (; vpn < next.end; vpn++) if (moveEntry(move, vpn)) flush = true;
  }
  yield* call(flushAndUnlock(move, row, fresh, from, to, flush));
  yield* call(dropRmapLocks(rmapLocks));
}

/** As many entries as one step moves: `stepPages` populated ones, with the empty ones between and after. */
function nextBatch({ core, mm }: Move, vpn: number, to: number): { end: number; populated: number } {
  let end = vpn;
  let populated = 0;
  for (; end < to && populated < core.params.stepPages; end++) if (mm.pageTable.peekPte(end).bits !== 0) populated++;
  while (end < to && mm.pageTable.peekPte(end).bits === 0) end++;
  return { end, populated };
}

/** ptep_get_and_clear, move_soft_dirty_pte, set_pte_at. True: it was present. A userfaultfd mark does not move along. */
function moveEntry({ mm, shift, vma }: Move, vpn: number): boolean {
  const { pageTable } = mm;
  const pte = pageTable.pte(vpn);
  if (pte.bits === 0) return false;
  pageTable.clearPte(vpn);
  const marked = vma.fields.uffd !== null;
  if (marked && (pte.bits & PTE_MARKER) !== 0) return false;
  const bits = (marked ? pte.bits & ~PTE_UFFD_WP : pte.bits) | PTE_SOFT_DIRTY;
  pageTable.setPte(vpn + shift, pte.pfn, bits, pte.generation);
  return ptePresent(pte.bits);
}
