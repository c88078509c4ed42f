// Giving pages back (mm/gup.c gup_put_folio, unpin_user_pages, unpin_user_pages_dirty_lock). Dirtying is test, lock and
// dirty, put: three acts, so that writeback may come in between. A pinned folio cannot be split, so its head stands.
import { call, type Steps } from '../../engine/process.ts';
import { step } from '../../engine/step.ts';
import { PMD_PAGES } from '../../hw/machine.ts';
import type { CoreMm } from '../core.ts';
import { lockFolio, unlockNow, waitRunUnlocked } from '../folio-lock.ts';
import { type FrameRun, PIN_DROPPED } from '../ledger.ts';
import { PG_DIRTY } from '../page-flags.ts';
import { freeFolio, putNow, willPut } from '../refcount.ts';
import { markDirtyNow, willMarkDirty } from '../writeback/mark-dirty.ts';
import { hasPincount, ignoresZeroPage, referencesPerPage } from './gup-grab.ts';

const PUT = step('gup_put_folio', 'refcount');
const FREE = step('__folio_put', 'refcount');
const TEST_DIRTY = step('unpin_user_pages_dirty_lock:test', 'op');
const SET_DIRTY = step('unpin_user_pages_dirty_lock:set_page_dirty', 'op');

/** gup_put_folio: drop `pages` grabs of one folio. Errors of counting show as a refcount below zero. */
export function* putGrab(core: CoreMm, grab: 'pin' | 'get', head: number, pages: number, why: string): Steps<void> {
  if (grab === 'pin' && ignoresZeroPage(core, head)) return;
  const large = core.folios.isLarge(head);
  if (grab === 'pin') core.vmstat.willAdd('nr_foll_pin_released', PUT);
  yield willPut(core, head, PUT);
  if (grab === 'pin') {
    core.vmstat.add('nr_foll_pin_released', pages);
    const { pincount } = core.folios;
    // Pin first, reference second: whoever sees a pin can rely on the reference.
    if (hasPincount(core, large)) pincount.set(head, pincount.get(head) - pages);
  }
  putNow(core, head, pages * referencesPerPage(core, grab, large), why);
}

export interface UnpinOptions {
  /** Who held the pages. */
  readonly owner: string;
  /** unpin_user_pages_dirty_lock(make_dirty): the holder wrote to them. */
  readonly dirty?: boolean;
}

/** unpin_user_pages, unpin_user_page_range_dirty_lock. */
export function* unpinUserPages(core: CoreMm, runs: readonly FrameRun[], options: UnpinOptions): Steps<void> {
  yield* call(putRuns(core, 'pin', runs, options.dirty === true, `unpin_user_pages of ${options.owner}`));
  if (core.sim.hears(PIN_DROPPED) && runs.length > 0) {
    core.sim.emit(PIN_DROPPED, { runs, owner: options.owner, dirty: options.dirty === true });
  }
}

/** release_pages of what get_user_pages returned. */
export function* putUserPages(core: CoreMm, runs: readonly FrameRun[], owner: string): Steps<void> {
  yield* call(putRuns(core, 'get', runs, false, `put_page of ${owner}`));
}

/** Drop one grab on every page of `runs`, folio by folio, without telling the ledger. */
export function* putRuns(
  core: CoreMm,
  grab: 'pin' | 'get',
  runs: readonly FrameRun[],
  dirty: boolean,
  why: string,
): Steps<void> {
  const { folios } = core;
  for (const run of runs) {
    const end = run.pfn + run.pages;
    for (let pfn = run.pfn; pfn < end; ) {
      const head = folios.headOf(pfn);
      let pages = 1;
      if (folios.isLarge(head)) pages = Math.min(end, head + folios.pagesOf(head)) - pfn;
      else if (pfn !== core.zeroPfn) {
        // The frames of one 2 MiB block are either all small folios or all of one large folio.
        pages = Math.min(end, pfn - (pfn % PMD_PAGES) + PMD_PAGES, pfn + core.params.stepPages) - pfn;
      }
      const small = head === pfn && !folios.isLarge(head) && pages > 1;
      if (dirty) yield* call(small ? dirtyRun(core, pfn, pages) : dirtyFolio(core, head));
      if (small) yield* call(putRun(core, grab, pfn, pages, why));
      else yield* call(putGrab(core, grab, head, pages, why));
      pfn += pages;
    }
  }
}

/** Drop one grab on each of `pages` small folios from `first` on. */
function* putRun(core: CoreMm, grab: 'pin' | 'get', first: number, pages: number, why: string): Steps<void> {
  const { refcount } = core.folios;
  const last = first + pages - 1;
  const references = referencesPerPage(core, grab, false);
  if (grab === 'pin') core.vmstat.willAdd('nr_foll_pin_released', PUT);
  yield core.sim.times(pages, refcount.willUpdateRange(first, last, PUT));
  if (grab === 'pin') core.vmstat.add('nr_foll_pin_released', pages);
  let unused: number[] | null = null;
  for (let pfn = first; pfn <= last; pfn++) {
    if (refcount.get(pfn) === references) {
      unused ??= [];
      unused.push(pfn);
    }
  }
  refcount.addRange(first, last, -references);
  for (const pfn of unused ?? []) {
    yield willPut(core, pfn, FREE);
    freeFolio(core, pfn, why);
  }
}

/** Mark one folio dirty unless it is: the test is racy, the marking is done under the folio lock. */
function* dirtyFolio(core: CoreMm, head: number): Steps<void> {
  const { folios } = core;
  yield folios.flags.willRead(head, TEST_DIRTY);
  if ((folios.flags.get(head) & PG_DIRTY) !== 0) return;
  yield* call(setDirty(core, head));
}

/** set_page_dirty_lock. A folio truncated meanwhile has no mapping to tell. */
function* setDirty(core: CoreMm, head: number): Steps<void> {
  core.folios.mapping.willRead(head, SET_DIRTY);
  willMarkDirty(core, head, SET_DIRTY);
  yield lockFolio(core, head, SET_DIRTY);
  core.folios.mapping.get(head);
  markDirtyNow(core, head);
  unlockNow(core, head);
}

/**
 * dirtyFolio on each of the small folios first..last. Those that are clean, alike and follow each other are locked,
 * marked and unlocked in one step: as one by one, it waits while somebody else holds one of the locks.
 */
function* dirtyRun(core: CoreMm, first: number, pages: number): Steps<void> {
  const { flags, mapping } = core.folios;
  const last = first + pages - 1;
  yield core.sim.times(pages, flags.willReadRange(first, last, TEST_DIRTY));
  const clean: (readonly [number, number])[] = [];
  for (let pfn = first; pfn <= last; ) {
    const dirty = (flags.get(pfn) & PG_DIRTY) !== 0;
    const end = sameDirty(core, pfn, last);
    if (!dirty) clean.push([pfn, end]);
    pfn = end + 1;
  }
  for (const [from, to] of clean) {
    for (let pfn = from; pfn <= to; ) {
      const end = mapping.endOfRun(pfn, to);
      if (end === pfn) yield* call(setDirty(core, pfn));
      else yield* call(setDirtyRun(core, pfn, end));
      pfn = end + 1;
    }
  }
}

/** The last of first..last up to which all are dirty, or all are clean; in a step that announced their flags. */
function sameDirty(core: CoreMm, first: number, last: number): number {
  const { flags } = core.folios;
  const dirty = flags.peek(first) & PG_DIRTY;
  let end = first;
  do end = flags.endOfRun(end, last) + 1;
  while (end <= last && (flags.peek(end) & PG_DIRTY) === dirty);
  if (core.sim.watching) for (let pfn = first + 1; pfn < end; pfn++) flags.get(pfn);
  return end - 1;
}

/** set_page_dirty_lock on each of first..last, small folios of one mapping. */
function* setDirtyRun(core: CoreMm, first: number, last: number): Steps<void> {
  const { flags, mapping } = core.folios;
  mapping.willReadRange(first, last, SET_DIRTY);
  willMarkDirty(core, first, SET_DIRTY);
  yield core.sim.times(last - first + 1, waitRunUnlocked(core, first, last, SET_DIRTY));
  for (let pfn = first; pfn <= last; ) {
    const end = Math.min(flags.endOfRun(pfn, last), mapping.endOfRun(pfn, last));
    // The word to the flusher is the same for all; the flag is each folio's own.
    mapping.get(pfn);
    markDirtyNow(core, pfn);
    if (end > pfn) flags.fill(pfn + 1, end, flags.peek(pfn));
    pfn = end + 1;
  }
}
