// Faults on 2 MiB pages of anonymous memory (mm/huge_memory.c): a fresh THP or the huge zero page, reuse or split on a
// write, waiting for a migration. `fallback`: the fault goes on with small pages.
import { call, type Steps } from '../../engine/process.ts';
import { type Announced, type Step, step } from '../../engine/step.ts';
import { PMD_ORDER, PMD_PAGES } from '../../hw/machine.ts';
import { allocFolio } from '../alloc/page-alloc.ts';
import type { CoreMm } from '../core.ts';
import { lockFolio, tryLockNow, unlockNow, waitUnlocked, willTryLock, willUnlock } from '../folio-lock.ts';
import { UFFD_MISSING, type Vma } from '../mapping/vma.ts';
import { PG_ANON, PG_MLOCKED, PG_SWAPBACKED, PG_SWAPCACHE, PG_UPTODATE } from '../page-flags.ts';
import { PTE_MIGRATION, PTE_NONE, PTE_PRESENT, PTE_PROTNONE, PTE_UFFD_WP, PTE_WRITE, PTE_YOUNG } from '../pte.ts';
import { folioAddLru } from '../reclaim/lru.ts';
import { folioPut, getNow, willGet } from '../refcount.ts';
import { folioFreeSwap } from '../swap/swap-cache.ts';
import { splitHugePmd } from '../thp/huge-pmd.ts';
import { flushTlbRange } from '../tlb.ts';
import { anonVmaPrepare, pinnableOnly, policyNode } from './anon-page.ts';
import { type Fault, type FaultResult, maybeMkwrite, putUnused } from './fault-context.ts';
import { handleUserfault, userfaultfdWp } from './uffd.ts';

const SET_ZERO = step('set_huge_zero_folio', 'thp-fault');
const LOCK = step('__do_huge_pmd_anonymous_page:lock', 'thp-fault');
const SET = step('__do_huge_pmd_anonymous_page:set-pmd', 'pte-op');
const ACCESS = step('huge_pmd_set_accessed', 'pte-op');
const NUMA = step('do_huge_pmd_numa_page', 'pte-op');
const WAIT_LOOK = step('pmd_migration_entry_wait:look', 'op');
const WAIT = step('pmd_migration_entry_wait', 'none');
const WP = step('do_huge_pmd_wp_page:lock', 'thp-fault');
const TRYLOCK = step('do_huge_pmd_wp_page:trylock', 'lock');
const FOLIO_LOCK = step('do_huge_pmd_wp_page:folio_lock', 'lock');
const RELOCK = step('do_huge_pmd_wp_page:relock', 'lock');
const REF_EARLY = step('do_huge_pmd_wp_page:early-ref-test', 'refcount');
const REF_TEST = step('do_huge_pmd_wp_page:ref-test', 'refcount');
const REUSE = step('do_huge_pmd_wp_page:reuse', 'pte-op');
const GIVE_UP = step('do_huge_pmd_wp_page:unlock_fallback', 'lock');
const ZERO_CLEAR = step('do_huge_zero_wp_pmd:pmdp_clear_flush', 'pte-op');

export type HugeResult = FaultResult | 'fallback';

/** thp_vma_allowable_order at PMD order for a fault: sysfs, advice, and room for the whole huge page in the VMA. */
export function thpAllowed(core: CoreMm, vma: Vma, vpn: number): boolean {
  const { thp } = core.params;
  const { hugepage } = vma.fields;
  if (thp === 'never' || hugepage === 'never' || (thp === 'madvise' && hugepage !== 'always')) return false;
  const first = vpn - (vpn % PMD_PAGES);
  return first >= vma.start && first + PMD_PAGES <= vma.end;
}

/** create_huge_pmd: nothing is mapped, not even a table. */
export function* createHugePmd(core: CoreMm, fault: Fault): Steps<HugeResult> {
  // File memory would need huge pages in the page cache; the model's are small.
  if (!fault.vma.anonymous || fault.vma.fields.shared) return 'fallback';
  fault.vma = yield* call(anonVmaPrepare(core, fault.mm, fault.vma));
  if (!fault.flags.write && core.hugeZeroPfn !== 0) return yield* call(mapHugeZero(core, fault));
  return yield* call(doHugePmdAnonymousPage(core, fault));
}

/** The huge zero page holds no reference per mapping: each mm keeps one for all of its own. */
function* mapHugeZero(core: CoreMm, fault: Fault): Steps<HugeResult> {
  fault.mm.unstable.willRead(SET_ZERO);
  yield fault.passPmd(SET_ZERO);
  fault.orig = PTE_NONE;
  if (fault.mm.pageTable.pmd(fault.row).bits !== 0) return 'ok';
  if (fault.mm.unstable.value) return 'sigbus';
  if (fault.vma.userfaults(UFFD_MISSING)) return yield* call(handleUserfault(core, fault, 'missing'));
  fault.setPmd(core, core.hugeZeroPfn, PTE_PRESENT | PTE_YOUNG);
  return 'ok';
}

/** vma_alloc_anon_folio_pmd: GFP_TRANSHUGE fails rather than reclaims hard; zeroed. */
function* allocThp(core: CoreMm, fault: Fault): Steps<number | undefined> {
  const movable = !pinnableOnly(core, fault.flags.memallocPin);
  return yield* call(
    allocFolio(core, { order: PMD_ORDER, movable, zero: true, noReclaim: true, ...policyNode(fault.vma) }),
  );
}

/** __do_huge_pmd_anonymous_page */
function* doHugePmdAnonymousPage(core: CoreMm, fault: Fault): Steps<HugeResult> {
  const head = yield* call(allocThp(core, fault));
  if (head === undefined) return 'fallback';
  fault.mm.unstable.willRead(LOCK);
  willAddNewThp(core, head, LOCK);
  yield fault.lockPmd(LOCK);
  const refused = refuse(fault);
  if (refused !== null) {
    fault.unlockNow();
    yield* call(putUnused(core, head));
    return refused === 'uffd' ? yield* call(handleUserfault(core, fault, 'missing')) : refused;
  }
  yield* call(mapAnonPmd(core, fault, head));
  return 'ok';
}

function refuse(fault: Fault): 'ok' | 'sigbus' | 'uffd' | null {
  if (fault.mm.pageTable.pmd(fault.row).bits !== 0) return 'ok';
  if (fault.mm.unstable.value) return 'sigbus';
  return fault.vma.userfaults(UFFD_MISSING) ? 'uffd' : null;
}

function willAddNewThp(core: CoreMm, head: number, at: Step): Announced {
  const { folios } = core;
  folios.flags.willUpdate(head, at);
  folios.mapping.willUpdate(head, at);
  folios.anonExclusive.willUpdate(head, at);
  return folios.willMap(head, head, at);
}

/** map_anon_folio_pmd, from a step that announced `willAddNewThp` and holds the lock; releases it. */
function* mapAnonPmd(core: CoreMm, fault: Fault, head: number): Steps<void> {
  const { folios } = core;
  const { vma } = fault;
  if (vma.fields.anonVma === null) throw new Error(`a huge page in ${vma.fields.name}, which has no anon_vma`);
  folios.change(head, PG_UPTODATE | PG_SWAPBACKED | PG_ANON | (vma.fields.locked ? PG_MLOCKED : 0));
  folios.mapping.set(head, vma.fields.anonVma.id);
  folios.index.set(head, vma.indexOf(fault.row * PMD_PAGES));
  // Of a huge page mapped whole, the flag of the head speaks for all.
  folios.anonExclusive.set(head, core.kernel.has('cow.anon-exclusive') ? 1 : 0);
  folios.addPmdMapping(head, 1);
  yield* call(folioAddLru(core, head, true));
  core.vmstat.willAdd('thp_fault_alloc', SET);
  yield fault.willUnlockPmd(SET);
  fault.setPmd(core, head, PTE_PRESENT | PTE_YOUNG | maybeMkwrite(vma));
  core.vmstat.add('thp_fault_alloc', 1);
  fault.unlockNow();
}

/** A fault whose PMD is a leaf: `fault.orig`. */
export function* hugePmdFault(core: CoreMm, fault: Fault): Steps<HugeResult> {
  const { bits } = fault.orig;
  if ((bits & PTE_MIGRATION) !== 0) return yield* call(pmdMigrationEntryWait(core, fault));
  if ((bits & PTE_PROTNONE) !== 0)
    return yield* call(setPmdBits(core, fault, NUMA, (bits & ~PTE_PROTNONE) | PTE_PRESENT));
  // Invalidated for a moment by a split: that is over once the lock is free.
  if ((bits & PTE_PRESENT) === 0) return yield* call(setPmdBits(core, fault, ACCESS, bits));
  const { write, unshare } = fault.flags;
  if ((write || unshare) && (bits & PTE_WRITE) === 0) return yield* call(wpHugePmd(core, fault));
  const dirty = write ? maybeMkwrite(fault.vma) & ~PTE_WRITE : 0;
  return yield* call(setPmdBits(core, fault, ACCESS, bits | PTE_YOUNG | dirty));
}

function* setPmdBits(core: CoreMm, fault: Fault, at: Step, bits: number): Steps<HugeResult> {
  yield fault.passPmd(at);
  if (fault.pmdSame && bits !== fault.orig.bits) fault.setPmd(core, fault.orig.pfn, bits);
  return 'ok';
}

/** pmd_migration_entry_wait: no reference is held while waiting. */
function* pmdMigrationEntryWait(core: CoreMm, fault: Fault): Steps<HugeResult> {
  yield fault.passPmd(WAIT_LOOK);
  if (!fault.pmdSame) return 'ok';
  yield waitUnlocked(core, core.folios.headOf(fault.orig.pfn), WAIT);
  return 'ok';
}

/** wp_huge_pmd */
function* wpHugePmd(core: CoreMm, fault: Fault): Steps<HugeResult> {
  const { vma, flags, orig } = fault;
  if (vma.anonymous && !vma.fields.shared) {
    if (!flags.unshare && userfaultfdWp(vma) && (orig.bits & PTE_UFFD_WP) !== 0) {
      return yield* call(handleUserfault(core, fault, 'wp'));
    }
    if (orig.pfn === core.hugeZeroPfn && core.kernel.has('thp.zero-page-write-allocates')) {
      return yield* call(doHugeZeroWpPmd(core, fault));
    }
    return yield* call(doHugePmdWpPage(core, fault));
  }
  return yield* call(splitAndFallBack(core, fault));
}

function* splitAndFallBack(core: CoreMm, fault: Fault): Steps<HugeResult> {
  yield* call(splitHugePmd(core, fault.mm, fault.vma, fault.row));
  return 'fallback';
}

/** do_huge_pmd_wp_page: an exclusive or otherwise unreferenced THP is kept, any other is split and copied by pages. */
function* doHugePmdWpPage(core: CoreMm, fault: Fault): Steps<HugeResult> {
  const { folios, kernel } = core;
  const head = fault.orig.pfn;
  if (head === core.hugeZeroPfn) return yield* call(splitAndFallBack(core, fault));
  folios.anonExclusive.willRead(head, WP);
  yield fault.lockPmd(WP);
  if (!fault.pmdSame) {
    fault.unlockNow();
    return 'ok';
  }
  if (kernel.has('cow.anon-exclusive') && folios.anonExclusive.get(head) === 1) {
    reuseNow(core, fault);
    return 'ok';
  }
  const locked = yield* call(lockUnderPtl(core, fault, head));
  if (locked === 'changed') return 'ok';
  if (yield* call(soleUser(core, head))) {
    yield fault.willUnlockPmd(REUSE);
    reuseNow(core, fault);
    return 'ok';
  }
  willUnlock(core, head, GIVE_UP);
  yield fault.willUnlockPmd(GIVE_UP);
  unlockNow(core, head);
  fault.unlockNow();
  return yield* call(splitAndFallBack(core, fault));
}

/** The folio lock, for which the page-table lock is dropped when it is not free at once. `changed`: neither is held. */
function* lockUnderPtl(core: CoreMm, fault: Fault, head: number): Steps<'locked' | 'changed'> {
  willGet(core, head, TRYLOCK);
  fault.mm.pageTable.ptl.willChange(fault.row, TRYLOCK);
  yield willTryLock(core, head, TRYLOCK);
  if (tryLockNow(core, head)) return 'locked';
  getNow(core, head, 1);
  fault.unlockNow();
  yield lockFolio(core, head, FOLIO_LOCK);
  yield fault.lockPmd(RELOCK);
  const same = fault.pmdSame;
  if (!same) {
    fault.unlockNow();
    yield willUnlock(core, head, GIVE_UP);
    unlockNow(core, head);
  }
  yield* call(folioPut(core, head, 1, 'do_huge_pmd_wp_page'));
  return same ? 'locked' : 'changed';
}

/**
 * Is this mapping the only user of the locked THP? Then the page is exclusive and the folio unlocked; otherwise it stays
 * locked.
 */
function* soleUser(core: CoreMm, head: number): Steps<boolean> {
  const { folios, kernel } = core;
  folios.flags.willRead(head, REF_EARLY);
  yield folios.refcount.willRead(head, REF_EARLY);
  const cached = (folios.flags.get(head) & PG_SWAPCACHE) !== 0;
  const byMapcount = kernel.way('cow.reuse-rule') === 'mapcount';
  if (!byMapcount && folios.refcount.get(head) > 1 + (cached ? folios.pagesOf(head) : 0)) return false;
  if (cached) yield* call(folioFreeSwap(core, head));
  folios.refcount.willRead(head, REF_TEST);
  folios.mapcount.willRead(head, REF_TEST);
  folios.anonExclusive.willUpdate(head, REF_TEST);
  yield willUnlock(core, head, REF_TEST);
  if (byMapcount ? folios.mapcountOf(head) !== 1 : folios.refcount.get(head) !== 1) return false;
  if (kernel.has('cow.anon-exclusive')) folios.anonExclusive.set(head, 1);
  unlockNow(core, head);
  return true;
}

function reuseNow(core: CoreMm, fault: Fault): void {
  const { pfn, bits } = fault.orig;
  if (!fault.flags.unshare) fault.setPmd(core, pfn, bits | PTE_YOUNG | maybeMkwrite(fault.vma));
  fault.unlockNow();
}

/** do_huge_zero_wp_pmd (since 6.13): a write to the huge zero page gets a THP at once. */
function* doHugeZeroWpPmd(core: CoreMm, fault: Fault): Steps<HugeResult> {
  const { mm, row } = fault;
  const head = yield* call(allocThp(core, fault));
  if (head === undefined) return yield* call(splitAndFallBack(core, fault));
  const range = { mm, start: row * PMD_PAGES, end: (row + 1) * PMD_PAGES, event: 'CLEAR', blockable: true } as const;
  yield* call(mm.notifiers.start(range));
  mm.unstable.willRead(ZERO_CLEAR);
  yield fault.lockPmd(ZERO_CLEAR);
  const replaces = fault.pmdSame && !mm.unstable.value;
  if (replaces) {
    mm.pageTable.clearPmd(row);
    yield* call(flushTlbRange(core, mm, range.start, range.end));
    willAddNewThp(core, head, ZERO_CLEAR);
    yield fault.willUnlockPmd(ZERO_CLEAR);
    yield* call(mapAnonPmd(core, fault, head));
  } else fault.unlockNow();
  yield* call(mm.notifiers.end(range));
  if (!replaces) yield* call(putUnused(core, head));
  return 'ok';
}
