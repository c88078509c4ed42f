// try_to_migrate and remove_migration_ptes (mm/rmap.c, mm/migrate.c, mm/huge_memory.c): migration entries take the place
// of a folio's mappings while it moves. Whoever meets one waits for the lock of the old folio. A pinned exclusive page
// keeps its entry.
import { call, type Steps } from '../../engine/process.ts';
import { type Announced, type Step, step } from '../../engine/step.ts';
import { PMD_PAGES } from '../../hw/machine.ts';
import type { CoreMm } from '../core.ts';
import type { Mm } from '../mm.ts';
import { PG_ANON, PG_DIRTY, PG_HUGETLB, PG_HWPOISON, PG_MLOCKED } from '../page-flags.ts';
import { pmdOf } from '../page-table.ts';
import {
  PMD_INVALID,
  PMD_LEAF,
  PMD_TABLE,
  PTE_DIRTY,
  PTE_EXCLUSIVE,
  PTE_HWPOISON,
  PTE_MIGRATION,
  PTE_PRESENT,
  PTE_PROTNONE,
  PTE_SOFT_DIRTY,
  PTE_SPECIAL,
  PTE_UFFD_WP,
  PTE_WRITE,
  PTE_YOUNG,
  type Pte,
  ptePresent,
} from '../pte.ts';
import type { RmapPlace } from '../rmap/rmap.ts';
import { rmapWalk, type TtuFlags } from '../rmap/rmap-walk.ts';
import { tryShareNow, willTryShare } from '../rmap/share-anon-rmap.ts';
import { unmapPlace } from '../rmap/unmap.ts';
import type { Cleared, Replacement, Unmapping } from '../rmap/unmap-pte.ts';
import { deferSplitNow, willDeferSplit } from '../thp/deferred-split.ts';
import { splitHugePmd, splitHugePmdLocked } from '../thp/huge-pmd.ts';
import { flushTlbRange } from '../tlb.ts';
import { markDirtyNow, willMarkDirty } from '../writeback/mark-dirty.ts';
import { notifierRange } from '../zap/zap.ts';

const SHARE = step('try_to_migrate_one:share', 'refcount');
const PMD_CLEAR = step('set_pmd_migration_entry:invalidate', 'pte-op');
const PMD_SHARE = step('folio_try_share_anon_rmap_pmd', 'refcount');
const PMD_RESTORE = step('set_pmd_migration_entry:restore', 'pte-op');
const PMD_INSTALL = step('set_pmd_migration_entry:install', 'pte-op');
const REMOVE = step('remove_migration_pte', 'pte-op');
const REMOVE_PMD = step('remove_migration_pmd', 'pte-op');

const CARRIED = PTE_YOUNG | PTE_DIRTY | PTE_SOFT_DIRTY | PTE_UFFD_WP;

/** Bits of the migration entry for a present entry: writable, readable-exclusive or readable. */
export function migrationBits(bits: number, exclusive: boolean): number {
  const kind = (bits & PTE_WRITE) !== 0 ? PTE_WRITE : exclusive ? PTE_EXCLUSIVE : 0;
  return PTE_MIGRATION | kind | (bits & CARRIED);
}

/** try_to_migrate: the folio is locked, and the caller has a reference. mlock does not matter. */
export function* tryToMigrate(core: CoreMm, head: number, flags: TtuFlags = {}): Steps<void> {
  const options = { locked: flags.rmapLocked === true, untilUnmapped: true };
  yield* call(rmapWalk(core, head, tryToMigrateOne, { ...flags, ignoreMlock: true }, options));
}

function* tryToMigrateOne(core: CoreMm, head: number, place: RmapPlace, flags: TtuFlags): Steps<boolean> {
  const { mm, vma, vpn, pages } = place;
  if (flags.splitHugePmd === true) yield* call(splitAddress(core, head, place));
  const range = notifierRange(core, mm, vma, vpn, vpn + pages, 'CLEAR');
  yield* call(mm.notifiers.start(range));
  const whole = pages === core.folios.pagesOf(head) && core.folios.isLarge(head);
  const seen = mm.pageTable.peekPmd(pmdOf(vpn));
  const byPmd = whole && (seen.bits & PMD_LEAF) !== 0 && seen.pfn === head;
  const done = byPmd
    ? yield* call(migratePmd(core, head, mm, pmdOf(vpn), pages))
    : yield* call(unmapPlace({ core, head, place, flags }, migrationEntry));
  yield* call(mm.notifiers.end(range));
  return done;
}

/** split_huge_pmd_address(freeze): migration entries at once where the share test allows it, else a plain split. */
function* splitAddress(core: CoreMm, head: number, place: RmapPlace): Steps<void> {
  const { mm, vma, vpn, pages } = place;
  const row = pmdOf(vpn);
  if (pages < PMD_PAGES || vpn % PMD_PAGES !== 0) return;
  // The folio is locked and its rmap lock held: nobody else maps it by a PMD now; a split by others is seen below.
  if ((mm.pageTable.peekPmd(row).bits & PMD_LEAF) === 0) return;
  if (!core.folios.isAnon(head)) {
    yield* call(splitHugePmd(core, mm, vma, row));
    return;
  }
  const range = { mm, start: vpn, end: vpn + PMD_PAGES, event: 'CLEAR', blockable: true } as const;
  yield* call(mm.notifiers.start(range));
  yield* call(migratePmd(core, head, mm, row, PMD_PAGES, true));
  yield* call(splitHugePmdLocked(core, mm, vma, row));
  yield* call(mm.notifiers.end(range));
}

function* migrationEntry(u: Unmapping, cleared: Cleared): Steps<Replacement> {
  const { core, head } = u;
  const { page, pte, exclusive, shared } = cleared;
  if (core.folios.has(head, PG_HWPOISON)) return { pfn: page, bits: PTE_HWPOISON };
  if (exclusive && shared === 'undecided') {
    yield willTryShare(core, head, page, SHARE);
    if (!tryShareNow(core, head, page)) return 'restore';
  }
  return { pfn: page, bits: migrationBits(pte.bits, exclusive) };
}

/** Every PMD row of a mapping: one for 2 MiB, 512 for 1 GiB. */
function willRows(mm: Mm, row: number, pages: number, at: Step): Announced {
  for (let i = 0; i < pages / PMD_PAGES; i++) mm.pageTable.willUpdatePmd(row + i, at);
  return mm.pageTable.ptl.willChange(row, at);
}

function setRows(core: CoreMm, mm: Mm, row: number, pages: number, head: number, bits: number): void {
  for (let i = 0; i < pages / PMD_PAGES; i++) {
    const pfn = head + i * PMD_PAGES;
    mm.pageTable.setPmd(row + i, pfn, bits, core.frames.peekGeneration(pfn));
  }
}

/**
 * set_pmd_migration_entry, and its hugetlb counterpart. False: it may be pinned, and the entry stands again. `freeze`: for
 * __split_huge_pmd_locked, which took the mapping away page by page in 6.1.
 */
function* migratePmd(core: CoreMm, head: number, mm: Mm, row: number, pages: number, freeze = false): Steps<boolean> {
  const { folios, kernel } = core;
  const { pageTable } = mm;
  willMarkDirty(core, head, PMD_CLEAR);
  folios.anonExclusive.willRead(head, PMD_CLEAR);
  willRows(mm, row, pages, PMD_CLEAR);
  yield pageTable.ptl.lock(row, PMD_CLEAR);
  const pmd = pageTable.pmd(row);
  if ((pmd.bits & PMD_LEAF) === 0 || !ptePresent(pmd.bits) || pmd.pfn !== head) {
    pageTable.ptl.releaseNow(row);
    return true;
  }
  const anon = (folios.flags.get(head) & PG_ANON) !== 0;
  const exclusive = anon && kernel.has('cow.anon-exclusive') && folios.anonExclusive.get(head) === 1;
  const hugetlb = (folios.flags.get(head) & PG_HUGETLB) !== 0;
  const gone = hugetlb ? PMD_LEAF : (pmd.bits & ~(PTE_PRESENT | PTE_PROTNONE)) | PMD_INVALID;
  setRows(core, mm, row, pages, head, gone);
  if ((pmd.bits & PTE_DIRTY) !== 0) markDirtyNow(core, head);
  yield* call(flushTlbRange(core, mm, row * PMD_PAGES, row * PMD_PAGES + pages));

  if (exclusive) {
    yield willTryShare(core, head, head, PMD_SHARE);
    if (!tryShareNow(core, head, head)) {
      yield willRows(mm, row, pages, PMD_RESTORE);
      setRows(core, mm, row, pages, head, pmd.bits);
      pageTable.ptl.releaseNow(row);
      return false;
    }
  }
  folios.willMap(head, head, PMD_INSTALL);
  folios.refcount.willUpdate(head, PMD_INSTALL);
  if (freeze) willDeferSplit(core, head, PMD_INSTALL);
  yield willRows(mm, row, pages, PMD_INSTALL);
  setRows(core, mm, row, pages, head, PMD_LEAF | migrationBits(pmd.bits, exclusive));
  folios.addPmdMapping(head, -1);
  if (freeze && anon) deferSplitNow(core, head, head);
  folios.refcount.set(head, folios.refcount.get(head) - 1);
  pageTable.ptl.releaseNow(row);
  return true;
}

/** What remove_migration_ptes turns entries of `src` into. */
interface Remapping {
  readonly src: number;
  /** TTU of a folio split: pages that hold only zeros get the zero page (RMP_USE_SHARED_ZEROPAGE). */
  readonly zeropage: boolean;
}

/**
 * remove_migration_ptes(src, dst): every migration entry of `src` maps the same page of `dst` again. `src` may be `dst`
 * (a failure), or the folio that `dst` was split off from. No window and no flush: the entries were not present.
 */
export function* removeMigrationPtes(
  core: CoreMm,
  src: number,
  dst: number,
  options: { readonly rmapLocked?: boolean; readonly zeropage?: boolean } = {},
): Steps<void> {
  const remapping: Remapping = { src, zeropage: options.zeropage === true };
  yield* call(rmapWalk(core, dst, removeMigrationOne, remapping, { locked: options.rmapLocked === true }));
}

function* removeMigrationOne(core: CoreMm, dst: number, place: RmapPlace, remapping: Remapping): Steps<boolean> {
  const { mm, vpn, pages } = place;
  const { pageTable } = mm;
  const row = pmdOf(vpn);
  const first = remapping.src + place.offset;
  // The old folio is locked: entries that name it only ever go away (zap, or a split of the PMD).
  const seen = pageTable.peekPmd(row);
  if ((seen.bits & PMD_LEAF) !== 0 && (seen.bits & PTE_MIGRATION) !== 0 && seen.pfn === first) {
    if (yield* call(remapPmd(core, dst, place, remapping))) return true;
  }
  for (let at = vpn; at < vpn + pages; at++) {
    const source = first + (at - vpn);
    const entry = pageTable.peekPte(at);
    if (core.folios.isLarge(dst) && ((entry.bits & PTE_MIGRATION) === 0 || entry.pfn !== source)) continue;
    yield* call(remapPte(core, dst, place, at, source, remapping));
  }
  return true;
}

function* remapPte(
  core: CoreMm,
  dst: number,
  place: RmapPlace,
  vpn: number,
  source: number,
  remapping: Remapping,
): Steps<void> {
  const { folios } = core;
  const { mm, vma } = place;
  const { pageTable } = mm;
  const page = dst + place.offset + (vpn - place.vpn);
  const row = pmdOf(vpn);
  if (remapping.zeropage) core.frames.content.willRead(page, REMOVE);
  folios.willMap(dst, page, REMOVE);
  folios.refcount.willUpdate(dst, REMOVE);
  folios.flags.willUpdate(dst, REMOVE);
  folios.anonExclusive.willUpdate(page, REMOVE);
  pageTable.willReadPmd(row, REMOVE);
  pageTable.willUpdatePte(vpn, REMOVE);
  yield pageTable.ptl.pass(row, REMOVE);
  if ((pageTable.pmd(row).bits & PMD_TABLE) === 0) return;
  const entry = pageTable.pte(vpn);
  if ((entry.bits & PTE_MIGRATION) === 0 || entry.pfn !== source) return;
  if (remapping.zeropage && mayUseZeropage(core, dst, place, page)) {
    pageTable.setPte(vpn, core.zeroPfn, PTE_PRESENT | PTE_SPECIAL, core.frames.peekGeneration(core.zeroPfn));
    return;
  }
  folios.refcount.set(dst, folios.refcount.get(dst) + 1);
  folios.addPteMapping(dst, page);
  if (vma.fields.locked) folios.change(dst, PG_MLOCKED);
  pageTable.setPte(vpn, page, presentBits(core, dst, page, entry), core.frames.peekGeneration(page));
}

/** try_to_map_unused_to_zeropage: only zeros, anonymous, neither mlocked nor watched by userfaultfd. */
function mayUseZeropage(core: CoreMm, dst: number, place: RmapPlace, page: number): boolean {
  const { vma } = place;
  if (vma.fields.locked || vma.fields.uffd !== null || !core.folios.isAnon(dst)) return false;
  return core.frames.content.get(page) === 0;
}

/** The present entry that a migration entry stands for; an exclusive page is marked so again. */
function presentBits(core: CoreMm, dst: number, page: number, entry: Pte): number {
  const { folios, kernel } = core;
  const flags = folios.flags.get(dst);
  const exclusive = (entry.bits & (PTE_WRITE | PTE_EXCLUSIVE)) !== 0;
  if ((flags & PG_ANON) !== 0 && exclusive && kernel.has('cow.anon-exclusive')) folios.anonExclusive.set(page, 1);
  const dirty = (flags & PG_DIRTY) !== 0 ? entry.bits & PTE_DIRTY : 0;
  return PTE_PRESENT | dirty | (entry.bits & (PTE_WRITE | PTE_YOUNG | PTE_SOFT_DIRTY | PTE_UFFD_WP));
}

/** remove_migration_pmd, and hugetlb. False: the PMD has been split meanwhile. */
function* remapPmd(core: CoreMm, dst: number, place: RmapPlace, remapping: Remapping): Steps<boolean> {
  const { folios } = core;
  const { mm, vma, vpn, pages } = place;
  const { pageTable } = mm;
  const row = pmdOf(vpn);
  folios.willMap(dst, dst, REMOVE_PMD);
  folios.refcount.willUpdate(dst, REMOVE_PMD);
  folios.flags.willUpdate(dst, REMOVE_PMD);
  folios.anonExclusive.willUpdate(dst, REMOVE_PMD);
  for (let i = 0; i < pages / PMD_PAGES; i++) pageTable.willUpdatePmd(row + i, REMOVE_PMD);
  yield pageTable.ptl.pass(row, REMOVE_PMD);
  const entry = pageTable.pmd(row);
  if ((entry.bits & PMD_LEAF) === 0) return (entry.bits & PMD_TABLE) === 0;
  if ((entry.bits & PTE_MIGRATION) === 0 || entry.pfn !== remapping.src) return true;
  folios.refcount.set(dst, folios.refcount.get(dst) + 1);
  folios.addPmdMapping(dst, 1);
  if (vma.fields.locked) folios.change(dst, PG_MLOCKED);
  setRows(core, mm, row, pages, dst, PMD_LEAF | presentBits(core, dst, dst, entry));
  return true;
}

/**
 * remap_page of a folio split: the migration entries of `head`'s pages map them again, as folios of their own or, when
 * the split failed, as pages of the folio. The rmap lock is held for write, so the places stand.
 */
export function* remapSplitPages(
  core: CoreMm,
  head: number,
  places: readonly RmapPlace[],
  split: boolean,
  zeropage: boolean,
): Steps<void> {
  for (const place of places) {
    for (let i = 0; i < place.pages; i++) {
      const vpn = place.vpn + i;
      const page = head + place.offset + i;
      const entry = place.mm.pageTable.peekPte(vpn);
      // The pages are locked: entries that name them only ever go away.
      if ((entry.bits & PTE_MIGRATION) === 0 || entry.pfn !== page) continue;
      const one = split ? { ...place, vpn, pages: 1, offset: 0 } : place;
      yield* call(remapPte(core, split ? page : head, one, vpn, page, { src: head, zeropage }));
    }
  }
}
