// mlock, mlock2, munlock, mlockall (mm/mlock.c). Locked pages stay resident, but they may still migrate. The limit is
// RLIMIT_MEMLOCK against mm->locked_vm, which VFIO type1 charges too. mlock_count of a folio is not modelled.
import { call, type Steps } from '../../engine/process.ts';
import { step } from '../../engine/step.ts';
import { PMD_PAGES } from '../../hw/machine.ts';
import type { CoreMm } from '../core.ts';
import type { Errno } from '../errno.ts';
import { populateRange } from '../fault/populate.ts';
import type { Mm } from '../mm.ts';
import { PG_ACTIVE, PG_LRU, PG_MLOCKED, PG_UNEVICTABLE } from '../page-flags.ts';
import { pmdOf } from '../page-table.ts';
import { PMD_LEAF, ptePresent } from '../pte.ts';
import { lruAddDrain } from '../reclaim/lru.ts';
import { munlockNow, normalHead } from '../zap/zap-entry.ts';
import { hugeHead } from '../zap/zap-huge.ts';
import { canMlock } from './address-space.ts';
import { chargeLocked } from './mmap.ts';
import type { Vma } from './vma.ts';
import { findVmas, lookVma, mergeVmas, replaceVma, splitVma } from './vma-edit.ts';

const LIMIT = step('do_mlock:limit', 'op');
const WALK = step('mlock_pte_range', 'pte-op');
const ROWS = step('mlock_vma_pages_range:walk', 'none');

/**
 * mlock and mlock2(MLOCK_ONFAULT). EPERM: RLIMIT_MEMLOCK is 0 without CAP_IPC_LOCK; ENOMEM: over the limit, or a hole;
 * EAGAIN: no memory to populate with; EINTR.
 */
export function* mlock(core: CoreMm, vpn: number, pages: number, onFault = false): Steps<'ok' | Errno> {
  const { task } = core.current;
  const mm = task.mm.peek()!;
  if (!canMlock(core.current)) return 'EPERM';
  if (!(yield* call(mm.mmapLock.killable(true, task.killed)))) return 'EINTR';
  let result: 'ok' | Errno = 'ENOMEM';
  const limited = !core.current.capable('CAP_IPC_LOCK');
  mm.vmas.willRead(LIMIT);
  task.memlockBytes.willRead(LIMIT);
  yield mm.lockedVm.willRead(LIMIT);
  // What is locked already is not asked for again (count_mm_mlocked_page_nr).
  const asked = pages + mm.lockedVm.value - lockedPages(mm, vpn, vpn + pages);
  if (!limited || asked <= task.memlockPages) {
    result = yield* call(applyLock(core, mm, vpn, vpn + pages, { locked: true, lockOnFault: onFault }));
  }
  yield mm.mmapLock.up();
  if (result !== 'ok') return result;
  // __mlock_posix_error_return
  const populated = yield* call(populateRange(core, mm, vpn, vpn + pages, false));
  return populated === 'EFAULT' ? 'ENOMEM' : populated === 'ENOMEM' ? 'EAGAIN' : populated;
}

/** munlock. ENOMEM: a hole; EINTR. */
export function* munlock(core: CoreMm, vpn: number, pages: number): Steps<'ok' | Errno> {
  const { task } = core.current;
  const mm = task.mm.peek()!;
  if (!(yield* call(mm.mmapLock.killable(true, task.killed)))) return 'EINTR';
  const result = yield* call(applyLock(core, mm, vpn, vpn + pages, { locked: false, lockOnFault: false }));
  yield mm.mmapLock.up();
  return result;
}

/** Pages of locked VMAs in the range; in a step that announced reading `mm.vmas`. */
function lockedPages(mm: Mm, from: number, to: number): number {
  return mm
    .vmasIn(from, to)
    .filter((vma) => vma.fields.locked)
    .reduce((sum, vma) => sum + Math.min(to, vma.end) - Math.max(from, vma.start), 0);
}

interface LockFlags {
  readonly locked: boolean;
  readonly lockOnFault: boolean;
}

/** apply_vma_lock_flags: VMA by VMA; a hole ends it with ENOMEM after what came before it. */
function* applyLock(core: CoreMm, mm: Mm, from: number, to: number, flags: LockFlags): Steps<'ok' | Errno> {
  const vmas = yield* call(findVmas(mm, from, to));
  let reached = from;
  for (const vma of vmas) {
    if (vma.start > reached) break;
    const end = Math.min(to, vma.end);
    yield* call(mlockFixup(core, mm, vma, reached, end, flags));
    reached = end;
  }
  yield* call(mergeVmas(mm, from, to));
  return reached < to ? 'ENOMEM' : 'ok';
}

/** mlock_fixup: raw frames, hugetlb, DAX and secretmem need no lock and keep what they have. */
function* mlockFixup(core: CoreMm, mm: Mm, vma: Vma, from: number, to: number, flags: LockFlags): Steps<void> {
  const { fields } = vma;
  if (fields.io || vma.dontExpand || fields.file?.kind === 'fsdax' || fields.file?.kind === 'secret') return;
  if (fields.locked === flags.locked && fields.lockOnFault === flags.lockOnFault) return;
  yield* call(splitVma(core, mm, from));
  yield* call(splitVma(core, mm, to));
  const charge = flags.locked === fields.locked ? 0 : (to - from) * (flags.locked ? 1 : -1);
  yield* call(chargeLocked(core, mm, charge));
  const changed = lookVma(mm, from)!.with(flags);
  yield* call(replaceVma(mm, changed));
  // Only what was not locked before, or is no longer, has pages to visit.
  if (flags.locked !== fields.locked) yield* call(markPages(core, mm, from, to, flags.locked));
}

/** mlock_vma_pages_range: mark what is mapped already; what comes later is marked by the fault. */
function* markPages(core: CoreMm, mm: Mm, from: number, to: number, locked: boolean): Steps<void> {
  yield* call(lruAddDrain(core));
  const { pageTable } = mm;
  yield pageTable.willReadPmds(pmdOf(from), pmdOf(to - 1), ROWS);
  for (const row of pageTable.populatedRows(pmdOf(from), pmdOf(to - 1))) {
    const end = Math.min(to, (row + 1) * PMD_PAGES);
    for (let vpn = Math.max(from, row * PMD_PAGES); vpn < end; ) {
      vpn = yield* call(markSome(core, mm, row, vpn, end, locked));
    }
  }
}

function* markSome(core: CoreMm, mm: Mm, row: number, vpn: number, to: number, locked: boolean): Steps<number> {
  const { pageTable } = mm;
  for (;;) {
    // The look tells what to announce; the act looks again.
    const { heads, end } = markable(core, mm, row, vpn, to);
    pageTable.willReadPmd(row, WALK);
    pageTable.willReadPtes(vpn, end - 1, WALK);
    for (const head of heads) core.folios.flags.willUpdate(head, WALK);
    yield core.sim.times(heads.length, pageTable.ptl.pass(row, WALK));
    const now = markable(core, mm, row, vpn, to);
    if (now.end !== end || now.heads.length !== heads.length) continue;
    if (now.heads.some((head, i) => head !== heads[i])) continue;
    for (const head of heads) {
      if (locked) mlockNow(core, head);
      else munlockNow(core, head);
    }
    return end;
  }
}

/** The folios of the next step, and where it ends. Looks without a step. */
function markable(
  core: CoreMm,
  { pageTable }: Mm,
  row: number,
  vpn: number,
  to: number,
): { readonly heads: readonly number[]; readonly end: number } {
  const leaf = pageTable.peekPmd(row);
  if ((leaf.bits & PMD_LEAF) !== 0) {
    const head = hugeHead({ core }, leaf);
    // A huge page mapped whole is locked only whole.
    return { heads: head !== undefined && to - vpn === PMD_PAGES ? [head] : [], end: to };
  }
  const heads: number[] = [];
  let end = vpn;
  for (; end < to && heads.length < core.params.stepPages; end++) {
    const pte = pageTable.peekPte(end);
    const head = ptePresent(pte.bits) ? normalHead(core, pte) : undefined;
    // PTE-mapped large folios are left for reclaim to find (mlock_pte_range: folio_test_large).
    if (head !== undefined && !core.folios.isLarge(head)) heads.push(head);
  }
  return { heads, end };
}

/** mlock_folio; a folio on an LRU list moves to the unevictable one. In a step that announced its flags. */
export function mlockNow(core: CoreMm, head: number): void {
  const { folios } = core;
  const onList = (folios.flags.get(head) & PG_LRU) !== 0;
  folios.change(head, PG_MLOCKED | (onList ? PG_UNEVICTABLE : 0), onList ? PG_ACTIVE : 0);
}
