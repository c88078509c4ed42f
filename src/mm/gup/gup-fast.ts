// GUP-fast (mm/gup.c gup_fast, gup_fast_fallback): walk the page tables of the running thread with interrupts off and
// no locks. Every lockless read, reference, pin and re-check is a step of its own; gup-fast-leaf.ts takes one leaf.
import { call, type Steps } from '../../engine/process.ts';
import { step } from '../../engine/step.ts';
import { until } from '../../engine/wait.ts';
import { PMD_PAGES } from '../../hw/machine.ts';
import type { CoreMm } from '../core.ts';
import type { Mm } from '../mm.ts';
import { pmdOf } from '../page-table.ts';
import { PMD_LEAF, PMD_TABLE, type Pte } from '../pte.ts';
import { asked, finish, ownMm, refused } from './gup.ts';
import { takeLeaf } from './gup-fast-leaf.ts';
import { type GupFlags, type GupRequest, type GupResult, gupFlags, type RunList, refuse, within } from './gup-flags.ts';
import { gupLongtermLocked } from './gup-longterm.ts';
import { newWalk } from './gup-slow.ts';
import { setHasPinned } from './has-pinned.ts';
import { putRuns } from './unpin.ts';

const ENTER = step('gup_fast:local_irq_save', 'gup-fast');
// The re-check carries the cost of the walk for each page, so that a run costs what its pages cost one by one.
const WALK = step('gup_fast_pgd_range:read', 'none');
const NEXT = step('gup_fast_pte_range:read', 'none');
const LEAVE = step('gup_fast:local_irq_restore', 'gup-fast');
const SEQ = step('gup_fast:read_seqcount_retry', 'gup-fast');

/** One past the last user page: TASK_SIZE_MAX of 4-level x86, and s390's default asce_limit of the same order. */
const TASK_PAGES = 2 ** 35 - 1;

/**
 * pin_user_pages_fast: pins of the running thread's pages, without mmap_lock where that works. Errors: those of
 * pin_user_pages_unlocked, EOVERFLOW or EFAULT for ranges outside the address space.
 */
export function* pinUserPagesFast(core: CoreMm, vpn: number, pages: number, request: GupRequest): Steps<GupResult> {
  return yield* call(fastFallback(core, 'pin_user_pages_fast', vpn, pages, gupFlags(request, 'pin')));
}

/** get_user_pages_fast: as pin_user_pages_fast, with plain references. */
export function* getUserPagesFast(core: CoreMm, vpn: number, pages: number, request: GupRequest): Steps<GupResult> {
  return yield* call(fastFallback(core, 'get_user_pages_fast', vpn, pages, gupFlags(request, 'get')));
}

/** get_user_pages_fast_only: never waits, never faults; 0 pages is no error. May run where sleeping is forbidden. */
export function* getUserPagesFastOnly(core: CoreMm, vpn: number, pages: number, request: GupRequest): Steps<GupResult> {
  const flags = gupFlags(request, 'get', { fastOnly: true });
  return yield* call(fastFallback(core, 'get_user_pages_fast_only', vpn, pages, flags));
}

/** gup_fast_fallback (6.1: internal_get_user_pages_fast). */
function* fastFallback(core: CoreMm, name: string, vpn: number, pages: number, flags: GupFlags): Steps<GupResult> {
  const mm = ownMm(core);
  const { kernel } = core;
  if (flags.longterm && flags.grab !== 'pin') {
    return refused(false, refuse('EINVAL', `${name}: FOLL_LONGTERM without FOLL_PIN`, 'pin_user_pages_fast'));
  }
  if (flags.grab === 'pin') yield* call(setHasPinned(mm));
  if (vpn + pages > TASK_PAGES) {
    const reason = refuse(
      'EFAULT',
      `${name}: the range ends at page ${vpn + pages}, and user space ends at page ${TASK_PAGES}`,
      'an address of user space',
    );
    return refused(false, within(asked(name, mm, vpn, pages, flags), reason));
  }
  const walk = newWalk(core, false);
  const fast = yield* call(gupFast(core, mm, vpn, pages, flags, walk.runs));
  if (fast === pages || flags.fastOnly) return finish(core, name, mm, vpn, pages, flags, walk, fast);
  // The rest goes the slow way. An errno from there is lost once anything is pinned.
  const rest = newWalk(core, false);
  const from = vpn + fast;
  let slow: number;
  if (!flags.longterm || kernel.has('gup.slow.may-drop-mmap-lock')) {
    const unlockable: GupFlags = { ...flags, touch: true, unlockable: true };
    slow = yield* call(gupLongtermLocked(core, mm, from, pages - fast, unlockable, rest));
  } else {
    // Before 6.3 mmap_lock stays held over the whole loop of pinning and migrating, and faults may not drop it.
    yield* call(mm.mmapLock.read());
    rest.locked = true;
    slow = yield* call(gupLongtermLocked(core, mm, from, pages - fast, flags, rest));
    yield mm.mmapLock.up();
    rest.locked = false;
  }
  for (const run of rest.runs.runs) walk.runs.add(run.pfn, run.pages);
  walk.failure = rest.failure;
  walk.failedAt = rest.failedAt;
  return finish(core, name, mm, vpn, pages, flags, walk, fast + slow);
}

/** gup_fast (6.1: lockless_pages_from_mm): returns the pages taken from the start of the range into `runs`. */
function* gupFast(core: CoreMm, mm: Mm, vpn: number, pages: number, flags: GupFlags, runs: RunList): Steps<number> {
  const { irqsOff } = core.current.cpu;
  const watchesFork = flags.grab === 'pin' && core.kernel.has('gup.fast.write-protect-seq');
  if (watchesFork) mm.writeProtectSeq.willRead(ENTER);
  // One thread at a time runs on a CPU, so nobody else can have its interrupts off here.
  yield until(core.sim, [irqsOff], () => !irqsOff.peek(), ENTER, { update: true });
  const seq = watchesFork ? mm.writeProtectSeq.value : 0;
  if (seq % 2 === 1) return 0;
  irqsOff.value = true;
  yield* call(walkTables(core, mm, vpn, vpn + pages, flags, runs));
  yield irqsOff.willWrite(LEAVE);
  irqsOff.value = false;
  if (!watchesFork) return runs.pages;
  yield mm.writeProtectSeq.willRead(SEQ);
  if (mm.writeProtectSeq.value === seq) return runs.pages;
  // Fork may have judged our pages unpinned meanwhile (gup_fast_unpin_user_pages).
  yield* call(putRuns(core, 'pin', runs.runs, false, 'gup_fast_unpin_user_pages'));
  runs.clear();
  return 0;
}

/** gup_fast_pgd_range and below. Interrupts are off. */
function* walkTables(core: CoreMm, mm: Mm, from: number, end: number, flags: GupFlags, runs: RunList): Steps<void> {
  const { pageTable } = mm;
  let row = -1;
  let pmd: Pte | null = null;
  for (let vpn = from; vpn < end; ) {
    const next = pmdOf(vpn);
    const last = Math.min(end, (next + 1) * PMD_PAGES, vpn + core.params.stepPages) - 1;
    if (pmd === null || next !== row) {
      pageTable.willReadPmd(next, WALK);
      yield pageTable.willReadPtes(vpn, last, WALK);
      row = next;
      pmd = pageTable.pmd(row);
    } else yield pageTable.willReadPtes(vpn, last, NEXT);
    const huge = (pmd.bits & PMD_LEAF) !== 0;
    if (!huge && (pmd.bits & PMD_TABLE) === 0) return;
    const entry = huge ? pmd : pageTable.pte(vpn);
    const want = huge ? Math.min(end, (row + 1) * PMD_PAGES) - vpn : last - vpn + 1;
    const taken: number | 'next-table' = yield* call(takeLeaf(core, mm, vpn, want, pmd, entry, huge, flags, runs));
    if (taken === 0) return;
    vpn = taken === 'next-table' ? (row + 1) * PMD_PAGES : vpn + taken;
  }
}
