// GUP-slow (mm/gup.c __get_user_pages, __get_user_pages_locked): walk a range under mmap_lock, fault in what is
// missing, take a reference or a pin on each page. The entry is read and the page grabbed in two steps under one hold
// of the page-table lock. GUP never grows the stack here; gate pages are not modelled.
import { call, type Steps } from '../../engine/process.ts';
import { step } from '../../engine/step.ts';
import { PMD_PAGES } from '../../hw/machine.ts';
import type { CoreMm } from '../core.ts';
import { handleMmFault } from '../fault/fault.ts';
import type { FaultResult } from '../fault/fault-context.ts';
import type { Refusal } from '../ledger.ts';
import type { Vma } from '../mapping/vma.ts';
import type { Mm } from '../mm.ts';
import { PG_HUGETLB } from '../page-flags.ts';
import { hex, pmdOf } from '../page-table.ts';
import { ptePresent } from '../pte.ts';
import { markAccessedRun, willMarkAccessed } from '../reclaim/mark-accessed.ts';
import { markDirtyNow, willMarkDirty } from '../writeback/mark-dirty.ts';
import { makeAccessible, mustMakeAccessible } from './accessible-hooks.ts';
import { checkVmaFlags, noVma } from './gup-checks.ts';
import { type GupFlags, RunList, refuse, within } from './gup-flags.ts';
import { type Followed, followEntry } from './gup-follow.ts';
import { checkForcedWrite, dropsWrite } from './gup-force.ts';
import { countGrabRun, grabbableRun, grabSlow, grabZeros, willCount, willCountRun } from './gup-grab.ts';
import { setHasPinned } from './has-pinned.ts';
import { isLongtermPinnable } from './longterm-pinnable.ts';
import { putGrab } from './unpin.ts';

const LOOKUP = step('gup_vma_lookup', 'gup-slow');
// The grab carries the cost of the whole round for each page, so that a run costs what its pages cost one by one.
const FOLLOW = step('follow_page_mask', 'none');
const GRAB = step('follow_page_pte:try_grab_folio', 'gup-slow');
const TOUCH = step('follow_page_pte:mark_page_accessed', 'none');
const GRAB_REST = step('__get_user_pages:try_grab_folio', 'refcount');
const UNLOCK = step('follow_page_pte:unlock', 'lock');
const SIGNAL = step('gup_signal_pending', 'none');

/** A walk in progress, and its end. */
export interface Walk {
  readonly runs: RunList;
  /** Is mmap_lock held? */
  locked: boolean;
  /** Why the last call stopped; null: it did not, or it would have had to wait. */
  failure: Refusal | null;
  /** The page at which it stopped; -1: at none in particular. A request may take several walks, each of a part of it. */
  failedAt: number;
}

export function newWalk(core: CoreMm, locked: boolean): Walk {
  return { runs: new RunList(core.zeroPfn), locked, failure: null, failedAt: -1 };
}

/** Why a request for pages [vpn, vpn + pages) stopped, and at which of its pages. */
export function failureOf({ failure, failedAt }: Walk, vpn: number, pages: number): Refusal | null {
  if (failure === null || failedAt < 0) return failure;
  const failed = failedAt - vpn;
  return within(`__get_user_pages: page ${failed} of ${pages}, at ${hex(failedAt)}`, failure, {
    'failed-page': failed,
  });
}

/**
 * __get_user_pages: takes the pages from `vpn` on into `walk.runs`; returns how many. mmap_lock is held on entry and
 * on return, unless `walk.locked` became false (only with `flags.unlockable`). Errors: EFAULT, EINTR, ENOMEM,
 * EOPNOTSUPP, EEXIST in `walk.failure`.
 */
export function* walkUserPages(
  core: CoreMm,
  mm: Mm,
  vpn: number,
  pages: number,
  wanted: GupFlags,
  walk: Walk,
): Steps<number> {
  const { pageTable } = mm;
  const { killed } = core.current.task;
  let flags = wanted;
  const end = vpn + pages;
  walk.failure = null;
  walk.failedAt = -1;
  let vma: Vma | undefined;
  let at = vpn;
  let refused: Refusal | 'stop' | null = null;
  // What the bulk lane makes is marked already.
  const marked = { pages: 0 };
  let markedTo = 0;
  while (at < end) {
    if (vma === undefined || at >= vma.end) {
      yield mm.vmas.willRead(LOOKUP);
      vma = mm.vmaAt(at);
      refused = vma === undefined ? noVma(at) : checkVmaFlags(core, vma, flags);
      if (vma === undefined || refused !== null) break;
    }
    const row = pmdOf(at);
    const last = Math.min(end, vma.end, (row + 1) * PMD_PAGES, at + core.params.stepPages) - 1;
    killed.willRead(FOLLOW);
    pageTable.willReadPmd(row, FOLLOW);
    pageTable.willReadPtes(at, last, FOLLOW);
    yield pageTable.ptl.lock(row, FOLLOW);
    const dying = killed.value;
    const entry = followEntry(core, mm, vma, at, last, flags);
    const touches = flags.touch && entry.outcome === 'grab';
    const present = entry.outcome === 'fault' && ptePresent(pageTable.peekPte(at).bits);
    if (dying || entry.outcome !== 'grab' || (flags.grab === 'none' && !touches)) pageTable.ptl.releaseNow(row);
    if (dying) {
      refused = refuse('EINTR', 'fatal_signal_pending: the caller was killed', 'a caller that lives');
    } else if (entry.outcome === 'grab' || (entry.outcome === 'raw' && flags.grab === 'none')) {
      const want = Math.min(Math.max(entry.pages, 1), end - at, vma.end - at);
      if (flags.grab === 'none') {
        if (touches) yield* call(touchEntry(core, mm, row, entry, want, flags, Math.max(0, markedTo - at)));
        at += want;
        continue;
      }
      const taken: number | Refusal = yield* call(
        grabEntry(core, mm, row, entry, want, flags, Math.max(0, markedTo - at)),
      );
      if (typeof taken === 'number') {
        if (wanted.write && !flags.write) checkForcedWrite(core, vma, at, entry.head);
        if (entry.pfn === core.zeroPfn) for (let i = 0; i < taken; i++) walk.runs.add(entry.pfn, 1);
        else walk.runs.add(entry.pfn, taken);
        at += taken;
        continue;
      }
      refused = taken;
    } else if (entry.outcome === 'raw') refused = rawEntry(vma, at);
    else {
      marked.pages = 0;
      refused = yield* call(faultinPage(core, mm, vma, at, flags, entry.outcome === 'unshare', walk, end - at, marked));
      markedTo = at + marked.pages;
    }
    if (refused !== null) break;
    if (present && dropsWrite(core, vma, flags)) flags = { ...flags, write: false };
  }
  if (refused !== null && refused !== 'stop') {
    walk.failure = refused;
    walk.failedAt = at;
  }
  return at - vpn;
}

/**
 * FOLL_TOUCH without a grab (populate): the pages are marked as a grab would. The page-table lock is held on entry and
 * dropped on return.
 */
function* touchEntry(
  core: CoreMm,
  mm: Mm,
  row: number,
  entry: Followed,
  want: number,
  flags: GupFlags,
  marked: number,
): Steps<void> {
  const { folios } = core;
  const { head, pfn } = entry;
  const { ptl } = mm.pageTable;
  const marks = marksFolio(core, entry);
  const dirties = marks && flags.write && !entry.dirty;
  const run = folios.isLarge(head) || pfn === core.zeroPfn ? 1 : want;
  const [first, last] = run > 1 ? [pfn, pfn + run - 1] : [head, head];
  if (marks) willMarkAccessed(core, first, last, TOUCH);
  if (dirties) for (let page = first; page <= last; page++) willMarkDirty(core, page, TOUCH);
  yield ptl.willChange(row, TOUCH);
  if (dirties) for (let page = first; page <= last; page++) markDirtyNow(core, page);
  if (marks && run > 1) markAccessedRun(core, first + marked, last);
  else if (marks) for (let i = marked; i < want; i++) markAccessedRun(core, first, last);
  ptl.releaseNow(row);
}

/** follow_page_pte marks the folio for every page; what a PMD maps, and hugetlb, is not marked (touch_pmd). */
function marksFolio(core: CoreMm, { head, huge }: Followed): boolean {
  return !huge && !core.folios.has(head, PG_HUGETLB);
}

/** Take up to `want` pages of the entry just read; the page-table lock is held on entry and dropped on return. */
function* grabEntry(
  core: CoreMm,
  mm: Mm,
  row: number,
  entry: Followed,
  want: number,
  flags: GupFlags,
  marked: number,
): Steps<number | Refusal> {
  const { folios, sim } = core;
  const { head, pfn } = entry;
  const { ptl } = mm.pageTable;
  const grab = flags.grab as 'pin' | 'get';
  const small = !folios.isLarge(head);
  const touches = flags.touch && flags.write && !entry.dirty;
  const asks = grab === 'pin' && mustMakeAccessible(core);
  if (pfn === core.zeroPfn && want > 1 && !touches && !asks) {
    if (flags.touch) willMarkAccessed(core, head, head, GRAB);
    willCount(core, head, GRAB);
    yield sim.times(want, ptl.willChange(row, GRAB));
    const taken = grabZeros(core, flags, head, want);
    if (flags.touch && typeof taken === 'number') for (let i = 0; i < taken; i++) markAccessedRun(core, head, head);
    ptl.releaseNow(row);
    return taken;
  }
  if (small && want > 1 && !touches && !asks) {
    if (flags.touch) willMarkAccessed(core, pfn, pfn + want - 1, GRAB);
    willCountRun(core, pfn, pfn + want - 1, GRAB);
    yield sim.times(want, ptl.willChange(row, GRAB));
    const fit = grabbableRun(core, grab, pfn, pfn + want - 1);
    if (fit > 0) {
      countGrabRun(core, grab, pfn, pfn + fit - 1);
      if (flags.touch) markAccessedRun(core, pfn + marked, pfn + fit - 1);
      ptl.releaseNow(row);
      return fit;
    }
    const refused = grabSlow(core, flags, head, 1);
    ptl.releaseNow(row);
    return refused ?? 1;
  }
  // 6.6: one page under the lock and the rest of a PMD without it; before, a round of the lock for each page. The old
  // hugetlb walk took all pages of a huge page under one hold, with the grab of the fast path.
  const hugetlb = folios.has(head, PG_HUGETLB);
  const old = hugetlb && !core.kernel.has('gup.hugetlb-generic-walk');
  const batched = entry.huge && !old && core.kernel.has('gup.slow.thp-batched-grab');
  const first = batched || small ? 1 : old ? want : Math.min(want, core.params.stepPages);
  const guarded = flags.longterm && old && !core.kernel.has('gup.hugetlb.longterm-migrates');
  const marks = flags.touch && marksFolio(core, entry);
  if (touches) willMarkDirty(core, head, GRAB);
  if (marks) willMarkAccessed(core, head, head, GRAB);
  willCount(core, head, GRAB);
  if (!asks) ptl.willChange(row, GRAB);
  yield sim.times(first, sim.local(GRAB));
  const refused =
    guarded && !isLongtermPinnable(core, pfn) ? unpinnableHugetlb(core, pfn) : grabSlow(core, flags, head, first);
  if (refused === null && touches) markDirtyNow(core, head);
  if (refused === null && marks) for (let i = marked; i < first; i++) markAccessedRun(core, head, head);
  if (!asks) ptl.releaseNow(row);
  else {
    const inaccessible = refused === null ? yield* call(makeAccessible(core, head)) : null;
    if (inaccessible !== null) yield* call(putGrab(core, grab, head, first, 'gup_put_folio'));
    yield ptl.willChange(row, UNLOCK);
    ptl.releaseNow(row);
    if (inaccessible !== null) return inaccessible;
  }
  if (refused !== null) return refused;
  if (!batched || want === 1) return first;
  yield sim.times(want - 1, willCount(core, head, GRAB_REST));
  const rest = grabRest(core, flags, pfn, head, want - 1);
  if (rest === null) return want;
  yield* call(putGrab(core, grab, head, 1, 'gup_put_folio'));
  return rest;
}

/** The tail of a huge page, without the page-table lock but with a reference held. */
function grabRest(core: CoreMm, flags: GupFlags, pfn: number, head: number, pages: number): Refusal | null {
  // 6.6 to 6.10 used the grab of the fast path, which refuses what a long-term pin must not keep, instead of migrating.
  if (flags.longterm && !core.kernel.has('gup.slow.grab-ignores-zone') && !isLongtermPinnable(core, pfn)) {
    return refuse(
      'EFAULT',
      `__get_user_pages: try_grab_folio refuses the ${pages} tail pages of the huge page at pfn ${head}, which lies in ${core.machine.zoneOf(pfn)?.kind}`,
      'a kernel with "mm: gup: stop abusing try_grab_folio" (6.10, 6.6.47)',
    );
  }
  const refused = grabSlow(core, flags, head, pages);
  return refused === null ? null : { ...refused, errno: 'EFAULT' };
}

function unpinnableHugetlb(core: CoreMm, pfn: number): Refusal {
  const zone = core.machine.zoneOf(pfn);
  return refuse(
    'ENOMEM',
    `follow_hugetlb_page: the hugetlb page at pfn ${pfn} lies in ${zone?.name}, and this kernel never migrates hugetlb pages for FOLL_LONGTERM`,
    'hugetlb pages reserved outside ZONE_MOVABLE and CMA, or a kernel from 6.6 on',
    { pfn, zone: zone?.kind ?? 'none' },
  );
}

function rawEntry(vma: Vma, vpn: number): Refusal {
  return refuse(
    'EEXIST',
    `follow_pfn_pte: the entry of ${hex(vpn)} in '${vma.fields.name}' maps a frame without struct page`,
    'memory with struct pages',
  );
}

/** faultin_page: null: look again; `stop`: mmap_lock was dropped, or FOLL_NOWAIT would have had to wait. */
function* faultinPage(
  core: CoreMm,
  mm: Mm,
  vma: Vma,
  vpn: number,
  flags: GupFlags,
  unshare: boolean,
  walk: Walk,
  ahead: number,
  marked: { pages: number },
): Steps<Refusal | 'stop' | null> {
  if (flags.nofault) {
    return refuse(
      'EFAULT',
      'faultin_page: the page is not present, and FOLL_NOFAULT forbids to fault it in',
      'touch the memory first',
    );
  }
  const result: FaultResult = yield* call(
    handleMmFault(core, mm, vma, vpn, {
      write: flags.write,
      unshare,
      remote: flags.remote,
      allowRetry: flags.unlockable || flags.nowait,
      killable: flags.unlockable,
      memallocPin: flags.memallocPin,
      tried: flags.tried,
      nowait: flags.nowait,
      ahead,
      ...(flags.touch ? { marked } : {}),
    }),
  );
  switch (result) {
    case 'ok':
      return null;
    case 'retry':
      if (!flags.nowait) walk.locked = false;
      return 'stop';
    case 'completed':
      walk.locked = false;
      return 'stop';
    case 'oom':
      return refuse(
        'ENOMEM',
        'handle_mm_fault: VM_FAULT_OOM: no memory for the page',
        'more free memory of a kind that this fault may use',
        {
          'memalloc-pin': flags.memallocPin ? 'yes: neither MOVABLE nor CMA memory' : 'no',
        },
      );
    case 'hwpoison':
      return refuse(
        flags.hwpoison ? 'EHWPOISON' : 'EFAULT',
        'handle_mm_fault: VM_FAULT_HWPOISON: the page has a memory error',
        'memory without errors',
      );
    case 'sigsegv':
      return refuse(
        'EFAULT',
        `handle_mm_fault: VM_FAULT_SIGSEGV in '${vma.fields.name}'`,
        'a mapping that allows the access',
      );
    case 'sigbus':
      return refuse(
        'EFAULT',
        `handle_mm_fault: VM_FAULT_SIGBUS: nothing can be behind ${hex(vpn)} of '${vma.fields.name}'`,
        'a file that is long enough, free huge pages in the pool, a userfaultfd handler that the caller can wait for',
      );
  }
}

/**
 * __get_user_pages_locked: as `walkUserPages`, going on after mmap_lock was dropped. When it was dropped at any time it
 * is dropped on return. With `walk.locked` false on entry it takes the lock itself.
 */
export function* getUserPagesLocked(
  core: CoreMm,
  mm: Mm,
  vpn: number,
  pages: number,
  flags: GupFlags,
  walk: Walk,
): Steps<number> {
  const { killed } = core.current.task;
  let mustUnlock = false;
  if (!walk.locked) {
    if (!(yield* call(mm.mmapLock.killable(false, killed)))) {
      walk.failure = refuse('EAGAIN', 'mmap_read_lock_killable: the caller was killed', 'a caller that lives');
      return 0;
    }
    walk.locked = true;
    mustUnlock = true;
  }
  if (flags.grab === 'pin') yield* call(setHasPinned(mm));
  let done = yield* call(walkUserPages(core, mm, vpn, pages, flags, walk));
  while (done < pages && !walk.locked && flags.unlockable) {
    mustUnlock = true;
    yield killed.willRead(SIGNAL);
    if (killed.value || !(yield* call(mm.mmapLock.killable(false, killed)))) {
      walk.failure = refuse('EINTR', 'gup_signal_pending: killed while waiting for a page', 'a caller that lives');
      break;
    }
    walk.locked = true;
    // One page with FOLL_TRIED, which does not drop the lock for IO again, then in bulk as before.
    const one = yield* call(walkUserPages(core, mm, vpn + done, 1, { ...flags, tried: true }, walk));
    if (!walk.locked) continue;
    if (one === 0) break;
    done += 1;
    if (done === pages) break;
    done += yield* call(walkUserPages(core, mm, vpn + done, pages - done, flags, walk));
  }
  if (mustUnlock && walk.locked) {
    yield mm.mmapLock.up();
    walk.locked = false;
  }
  return done;
}
