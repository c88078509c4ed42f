// GUP-fast at one leaf (mm/gup.c gup_fast_pte_range, gup_fast_pmd_leaf): speculative reference, pin, re-read of the
// entries, the folio's own tests, exclusivity, and the mark of its use. A run of PTEs alike is taken together when a step
// covers several pages.
import { call, type Steps } from '../../engine/process.ts';
import { step } from '../../engine/step.ts';
import { PMD_PAGES } from '../../hw/machine.ts';
import type { CoreMm } from '../core.ts';
import { REFCOUNT_MAX } from '../folio.ts';
import type { Mm } from '../mm.ts';
import { PG_ANON, PG_HUGETLB, PG_LRU, PG_REFERENCED } from '../page-flags.ts';
import { pmdOf } from '../page-table.ts';
import { PTE_DEVMAP, PTE_PRESENT, PTE_PROTNONE, PTE_SPECIAL, PTE_WRITE, type Pte, pteSame } from '../pte.ts';
import { makeAccessible, mustMakeAccessible } from './accessible-hooks.ts';
import type { GupFlags, RunList } from './gup-flags.ts';
import { mustUnshare } from './gup-follow.ts';
import { hasPincount, referencesPerPage } from './gup-grab.ts';
import { isLongtermPinnable } from './longterm-pinnable.ts';
import { putGrab, putRuns } from './unpin.ts';

const GET = step('try_get_folio', 'refcount');
const PIN = step('try_grab_folio_fast:pin', 'refcount');
const RECHECK = step('gup_fast:recheck', 'gup-fast');
const FOLIO = step('gup_fast_folio_allowed', 'gup-fast');
const EXCLUSIVE = step('gup_must_unshare', 'gup-fast');

/**
 * Take up to `want` pages of the leaf `entry` just read at `vpn`: how many were recorded in `runs`, 0 to leave for the
 * slow path, `next-table` for the s390 bug that skips the rest of a page table.
 */
export function* takeLeaf(
  core: CoreMm,
  mm: Mm,
  vpn: number,
  want: number,
  pmd: Pte,
  entry: Pte,
  huge: boolean,
  flags: GupFlags,
  runs: RunList,
): Steps<number | 'next-table'> {
  const { folios, kernel } = core;
  if (!permitted(core, entry, flags)) return 0;
  const page = huge ? entry.pfn + (vpn % PMD_PAGES) : entry.pfn;
  if (flags.longterm && kernel.way('gup.fast.zone-test') === 'before-ref' && !isLongtermPinnable(core, page)) return 0;
  // While an entry maps a folio it is neither split nor freed, so its head is as certain as the entry just read;
  // that is what the look at the head after the reference finds out.
  const looked = folios.headOf(page);
  const grab = flags.grab as 'pin' | 'get';
  const got = yield* call(tryGet(core, page, huge ? want : run(core, mm, vpn, want, entry, looked, flags), looked));
  if (got === null) return 0;
  const { head, pages } = got;
  if (flags.longterm && kernel.way('gup.fast.zone-test') === 'after-ref' && !isLongtermPinnable(core, page)) {
    yield* call(putRuns(core, 'get', [{ pfn: page, pages }], false, 'try_grab_folio_fast'));
    return 0;
  }
  if (grab === 'pin') yield* call(addPin(core, page, pages, head));
  const kept = yield* call(stillAllowed(core, mm, { vpn, page, pages, head, pmd, entry, huge }, flags));
  if (kept < pages) {
    yield* call(putRuns(core, grab, [{ pfn: page + kept, pages: pages - kept }], false, 'gup_put_folio'));
    if (kept === 0) return 0;
  }
  if (grab === 'pin' && mustMakeAccessible(core) && !huge) {
    for (let i = 0; i < kept; i++) {
      if ((yield* call(makeAccessible(core, page + i))) === null) continue;
      yield* call(putRuns(core, grab, [{ pfn: page + i, pages: kept - i }], false, 'gup_put_folio'));
      if (i > 0) runs.add(page, i);
      // The non-zero error went up as "go on": the caller continues behind this page table.
      return kernel.has('gup.fast.accessible-error-stops') ? 0 : 'next-table';
    }
  }
  runs.add(page, kept);
  return kept;
}

/** pte_access_permitted and what else makes GUP-fast leave an entry to the slow path. */
function permitted(core: CoreMm, entry: Pte, flags: GupFlags): boolean {
  const { bits } = entry;
  if ((bits & PTE_PROTNONE) !== 0) {
    if (core.kernel.way('gup.fast.protnone') === 'always-leaves' || !flags.force) return false;
  } else if ((bits & PTE_PRESENT) === 0) return false;
  if (flags.write && (bits & PTE_WRITE) === 0) return false;
  // gup_pte_range: a long-term pin of a device's pages is the slow path's to refuse (fsdax) or to take.
  if (flags.longterm && (bits & PTE_DEVMAP) !== 0) return false;
  return (bits & PTE_SPECIAL) === 0;
}

/**
 * How many PTEs from `vpn` on are like the first, each mapping the next frame of the same kind of folio. Of folios that
 * the later tests look at more closely a step takes one. This only sizes the step: every page is tested in its turn.
 */
function run(core: CoreMm, mm: Mm, vpn: number, want: number, first: Pte, head: number, flags: GupFlags): number {
  if (want === 1) return 1;
  const { folios } = core;
  const large = folios.isLarge(head);
  const anon = folios.isAnon(head);
  const mapping = folios.mapping.peek(head);
  const unwritable = flags.grab === 'pin' && !flags.write && (first.bits & PTE_WRITE) === 0;
  if (unwritable && mustUnshare(core, null, flags, first.pfn)) return 1;
  if (!anon && core.rmapInode(head)?.kind !== 'shmem' && !folios.has(head, PG_HUGETLB)) return 1;
  const blockEnd = first.pfn - (first.pfn % PMD_PAGES) + PMD_PAGES;
  const limit = large ? Math.min(blockEnd, head + folios.pagesOf(head)) : blockEnd;
  const { bits, pfn } = mm.pageTable.bulk;
  let pages = 1;
  for (; pages < want && first.pfn + pages < limit; pages++) {
    const frame = first.pfn + pages;
    if (bits.get(vpn + pages) !== first.bits || pfn.peek(vpn + pages) !== frame) break;
    if (!large && (anon ? !folios.isAnon(frame) : folios.mapping.peek(frame) !== mapping)) break;
    if (unwritable && anon && folios.anonExclusive.peek(frame) === 0) break;
  }
  return pages;
}

/**
 * try_get_folio: add references unless the count is zero, then look whether the page still belongs to that folio. The
 * count may for a moment be that of a folio that has nothing to do with us. Null: free or frozen.
 */
function* tryGet(core: CoreMm, page: number, want: number, looked: number): Steps<Got | null> {
  const { folios } = core;
  const { refcount } = folios;
  for (let head = looked; ; head = folios.headOf(page)) {
    folios.willReadHead(page, GET);
    folios.order.willRead(head, GET);
    if (!folios.isLarge(head) && want > 1) {
      yield core.sim.times(want, refcount.willUpdateRange(page, page + want - 1, GET));
      let pages = 0;
      while (pages < want && mayTake(refcount.get(page + pages), 1)) pages++;
      if (pages === 0) return null;
      refcount.addRange(page, page + pages - 1, 1);
      return { head, pages };
    }
    yield refcount.willUpdate(head, GET);
    const now = refcount.get(head);
    if (!mayTake(now, want)) return null;
    refcount.set(head, now + want);
    if (folios.headOf(page) === head) return { head, pages: want };
    yield* call(putGrab(core, 'get', head, want, 'try_get_folio'));
  }
}

interface Got {
  readonly head: number;
  readonly pages: number;
}

function mayTake(references: number, pages: number): boolean {
  return references > 0 && references <= REFCOUNT_MAX - pages;
}

/** The pin part of try_grab_folio_fast; the references are there already. */
function* addPin(core: CoreMm, page: number, pages: number, head: number): Steps<void> {
  const { folios, vmstat } = core;
  const { refcount, pincount } = folios;
  const large = folios.isLarge(head);
  const bias = referencesPerPage(core, 'pin', large) - 1;
  vmstat.willAdd('nr_foll_pin_acquired', PIN);
  if (!large && pages > 1) {
    yield core.sim.times(pages, refcount.willUpdateRange(page, page + pages - 1, PIN));
    refcount.addRange(page, page + pages - 1, bias);
  } else {
    yield refcount.willUpdate(head, PIN);
    if (bias > 0) refcount.set(head, (refcount.get(head) + pages * bias) | 0);
    if (hasPincount(core, large)) pincount.set(head, pincount.get(head) + pages);
  }
  vmstat.add('nr_foll_pin_acquired', pages);
}

/** What was found at the leaf, and what is held of it. */
interface Leaf {
  readonly vpn: number;
  readonly page: number;
  readonly pages: number;
  readonly head: number;
  readonly pmd: Pte;
  readonly entry: Pte;
  readonly huge: boolean;
}

/**
 * The tests after the pin: how many of the pages, from the first on, pass them all. Those are marked referenced
 * (folio_set_referenced, not folio_mark_accessed: GUP-fast never activates) in the step of the last test.
 */
function* stillAllowed(core: CoreMm, mm: Mm, leaf: Leaf, flags: GupFlags): Steps<number> {
  const { folios, kernel } = core;
  const { vpn, page, head, pmd, entry, huge } = leaf;
  const large = folios.isLarge(head);
  const first = large ? head : page;
  const lastOf = (pages: number) => (large ? head : page + pages - 1);
  const writesFile =
    flags.grab === 'pin' && flags.longterm && flags.write && kernel.has('gup.fast.longterm-file-check');
  // secretmem only: that test is merged into the re-check, as nothing can come between them that changes its answer
  // but a truncation, and a page truncated before or after the pin is pinned and gone either way.
  const secret = !writesFile && !large && kernel.has('gup.secretmem-refused');
  const unwritable = flags.grab === 'pin' && !flags.write && (entry.bits & PTE_WRITE) === 0;
  let pages = leaf.pages;

  const row = pmdOf(vpn);
  if (huge || kernel.has('gup.fast.recheck-pmd')) mm.pageTable.willReadPmd(row, RECHECK);
  if (secret) {
    folios.flags.willReadRange(first, lastOf(pages), RECHECK);
    folios.mapping.willReadRange(first, lastOf(pages), RECHECK);
  }
  if (!writesFile && !unwritable) folios.flags.willUpdateRange(first, lastOf(pages), RECHECK);
  if (huge) yield core.sim.local(RECHECK);
  else yield core.sim.times(pages, mm.pageTable.willReadPtes(vpn, vpn + pages - 1, RECHECK));
  if ((huge || kernel.has('gup.fast.recheck-pmd')) && !pteSame(mm.pageTable.pmd(row), pmd)) return 0;
  if (!huge) pages = sameEntries(mm, vpn, pages, entry);
  if (secret) pages = leading(pages, (i) => (folios.flags.get(page + i) & PG_ANON) !== 0 || !isSecret(core, page + i));

  if (writesFile && pages > 0) {
    folios.flags.willUpdateRange(first, lastOf(pages), FOLIO);
    yield core.sim.times(large ? 1 : pages, folios.mapping.willReadRange(first, lastOf(pages), FOLIO));
    pages = large ? (bearsWrites(core, head) ? pages : 0) : leading(pages, (i) => bearsWrites(core, page + i));
  }
  if (unwritable && pages > 0) {
    // Of a huge leaf the head's flag counts.
    const single = huge || folios.has(head, PG_HUGETLB);
    folios.flags.willUpdateRange(first, lastOf(pages), EXCLUSIVE);
    const from = single ? head : page;
    const to = single ? head : page + pages - 1;
    yield core.sim.times(to - from + 1, folios.anonExclusive.willReadRange(from, to, EXCLUSIVE));
    pages = single
      ? keepsPage(core, head, head, flags)
        ? pages
        : 0
      : leading(pages, (i) => keepsPage(core, large ? head : page + i, page + i, flags));
  }
  if (pages > 0) setReferenced(core, first, lastOf(pages));
  return pages;
}

/** folio_set_referenced of first..last, in a step that announced their flags. */
function setReferenced(core: CoreMm, first: number, last: number): void {
  const { flags } = core.folios;
  for (let pfn = first; pfn <= last; ) {
    const now = flags.get(pfn);
    const end = flags.endOfRun(pfn, last);
    if ((now & PG_REFERENCED) === 0) flags.fill(pfn, end, now | PG_REFERENCED);
    pfn = end + 1;
  }
}

function leading(pages: number, passes: (i: number) => boolean): number {
  let i = 0;
  while (i < pages && passes(i)) i++;
  return i;
}

/** How many entries from `vpn` on are still what they were: like the first, on rising frames. */
function sameEntries(mm: Mm, vpn: number, pages: number, first: Pte): number {
  const { bits, pfn } = mm.pageTable.bulk;
  let same = 0;
  while (same < pages && bits.get(vpn + same) === first.bits && pfn.peek(vpn + same) === first.pfn + same) same++;
  return same;
}

/** folio_is_secretmem; before 65291dcfcf89 it trusted PG_lru, which a fresh folio in a per-CPU batch does not have. */
function isSecret(core: CoreMm, head: number): boolean {
  const { folios, kernel } = core;
  const flags = folios.flags.get(head);
  if ((flags & PG_ANON) !== 0 || folios.mapping.get(head) === 0) return false;
  if (!kernel.has('gup.fast.secretmem-any-folio') && (flags & PG_LRU) === 0) return false;
  return core.rmapInode(head)?.kind === 'secret';
}

/** gup_fast_folio_allowed for a writable long-term pin: hugetlb, anonymous or shmem. */
function bearsWrites(core: CoreMm, head: number): boolean {
  const { folios } = core;
  const flags = folios.flags.get(head);
  if ((flags & PG_HUGETLB) !== 0) return true;
  if (folios.mapping.get(head) === 0) return false;
  if ((flags & PG_ANON) !== 0) return true;
  return core.rmapInode(head)?.kind === 'shmem';
}

/** Not gup_must_unshare, whose rule without a VMA is the stricter one. */
function keepsPage(core: CoreMm, head: number, page: number, flags: GupFlags): boolean {
  core.folios.flags.get(head);
  core.folios.anonExclusive.get(page);
  return !mustUnshare(core, null, flags, page);
}
