// Faults on hugetlb memory (mm/hugetlb.c hugetlb_fault, hugetlb_no_page, hugetlb_wp). Reuse asks for the mapcount alone,
// in every kernel: a FOLL_GET user keeps the old page. Who was promised a page of the pool: hugetlb-reserve.ts.
import { call, type Steps } from '../../engine/process.ts';
import { type Announced, type Step, step } from '../../engine/step.ts';
import { PMD_PAGES } from '../../hw/machine.ts';
import type { CoreMm } from '../core.ts';
import type { Inode } from '../file/inode.ts';
import { filemapAddFolio, filemapGetFolio, unlockFolio } from '../file/page-cache.ts';
import { lockFolio, unlockNow, waitUnlocked } from '../folio-lock.ts';
import { lockFaultMutex, unlockFaultMutex } from '../hugetlb/hugetlb-mutex.ts';
import { allocHugetlbFolio, restoreReserveOnError } from '../hugetlb/hugetlb-reserve.ts';
import { unmapRefPrivate } from '../hugetlb/hugetlb-unmap.ts';
import { UFFD_MINOR, UFFD_MISSING } from '../mapping/vma.ts';
import { PG_ANON, PG_HWPOISON, PG_RESTORE_RESERVE, PG_UPTODATE } from '../page-flags.ts';
import {
  PTE_HWPOISON,
  PTE_MARKER,
  PTE_MIGRATION,
  PTE_NONE,
  PTE_PRESENT,
  PTE_PROTNONE,
  PTE_UFFD_WP,
  PTE_WRITE,
  PTE_YOUNG,
} from '../pte.ts';
import { folioPut, getNow, willGet } from '../refcount.ts';
import { flushTlbRange } from '../tlb.ts';
import { anonVmaPrepare, pinnableOnly } from './anon-page.ts';
import { Fault, type FaultResult, PTE_MKDIRTY, putUnused } from './fault-context.ts';
import { handleUserfault, userfaultfdWp } from './uffd.ts';

const MUTEX = step('hugetlb_fault:fault-mutex', 'lock');
const MUTEX_UNLOCK = step('hugetlb_fault:fault-mutex-unlock', 'lock');
const LOOK = step('hugetlb_fault:huge_ptep_get', 'fault');
const WAIT = step('migration_entry_wait_huge', 'none');
const SIZE = step('hugetlb_no_page:i_size', 'op');
const LOCK_FOLIO = step('filemap_lock_hugetlb_folio', 'lock');
const STABLE = step('hugetlb_pte_stable', 'op');
const SET = step('hugetlb_no_page:set-pte', 'thp-fault');
const LOCK = step('hugetlb_fault:lock', 'thp-fault');
const REUSE = step('hugetlb_wp:reuse', 'pte-op');
const GET_OLD = step('hugetlb_wp:get-and-unlock', 'refcount');
const COPY = step('copy_user_large_folio', 'copy-page');
const CLEAR = step('hugetlb_wp:huge_ptep_clear_flush', 'pte-op');
const REPLACE = step('hugetlb_wp:set-pte', 'pte-op');

/** hugetlb_fault */
export function* hugetlbFault(core: CoreMm, small: Fault, inode: Inode): Steps<FaultResult> {
  const pages = 2 ** inode.hugeOrder;
  const fault = new Fault(small.mm, small.vma, small.vpn - (small.vpn % pages), small.flags);
  const index = fault.index;
  yield lockFaultMutex(core, inode, index, MUTEX);
  core.vmstat.willAdd('pgfault', LOOK);
  yield fault.mm.pageTable.willReadPmd(fault.row, LOOK);
  core.vmstat.add('pgfault', 1);
  fault.orig = fault.mm.pageTable.pmd(fault.row);
  const result = yield* call(handle(core, fault, inode));
  // Waiting happens without the mutex, and with a userfault without mmap_lock.
  yield unlockFaultMutex(core, inode, index, MUTEX_UNLOCK);
  if (result === 'uffd-missing') return yield* call(handleUserfault(core, fault, 'missing'));
  if (result === 'uffd-minor') return yield* call(handleUserfault(core, fault, 'minor'));
  if (result === 'uffd-wp') return yield* call(handleUserfault(core, fault, 'wp'));
  if (result === 'wait') yield waitUnlocked(core, core.folios.headOf(fault.orig.pfn), WAIT);
  return result === 'wait' ? 'ok' : result;
}

type Outcome = FaultResult | 'uffd-missing' | 'uffd-minor' | 'uffd-wp' | 'wait';

function* handle(core: CoreMm, fault: Fault, inode: Inode): Steps<Outcome> {
  const { bits } = fault.orig;
  if ((bits & PTE_MIGRATION) !== 0) return 'wait';
  if ((bits & PTE_HWPOISON) !== 0) return 'hwpoison';
  // HPAGE_RESV_UNMAPPED: the owner of the reservation took the page from this process.
  if ((bits & PTE_MARKER) !== 0) return 'sigbus';
  if ((bits & (PTE_PRESENT | PTE_PROTNONE)) === 0) return yield* call(hugetlbNoPage(core, fault, inode));
  return yield* call(presentFault(core, fault, inode));
}

/** hugetlb_no_page */
function* hugetlbNoPage(core: CoreMm, fault: Fault, inode: Inode): Steps<Outcome> {
  const { mayShare } = fault.vma;
  fault.orig = PTE_NONE;
  const found = yield* call(lockCached(core, inode, fault.index));
  if (found === 'hwpoison') return 'hwpoison';
  if (found !== undefined) {
    if (!fault.vma.userfaults(UFFD_MINOR)) return yield* call(mapFolio(core, fault, inode, found, false));
    yield* call(unlockFolio(core, found));
    yield* call(folioPut(core, found, 1, 'hugetlb_no_page'));
    return (yield* call(stable(fault))) ? 'uffd-minor' : 'ok';
  }
  yield inode.sizePages.willRead(SIZE);
  if (fault.index >= inode.sizePages.value) return 'sigbus';
  if (fault.vma.userfaults(UFFD_MISSING)) return (yield* call(stable(fault))) ? 'uffd-missing' : 'ok';
  if (!mayShare) fault.vma = yield* call(anonVmaPrepare(core, fault.mm, fault.vma));
  const movable = !pinnableOnly(core, fault.flags.memallocPin);
  const gfp = { order: inode.hugeOrder, movable, zero: true, ...inode.policy };
  const head = yield* call(allocHugetlbFolio(core, inode, fault.vma, fault.index, gfp));
  // ENOSPC, unless a migration put the entry back meanwhile.
  if (head === undefined) return (yield* call(stable(fault))) ? 'sigbus' : 'ok';
  if (mayShare) {
    if (!(yield* call(filemapAddFolio(core, inode, fault.index, head, PG_UPTODATE)))) {
      yield* call(restoreReserveOnError(core, inode, fault.vma, head, fault.index));
      yield* call(putUnused(core, head));
      return 'ok';
    }
  } else {
    core.folios.mapping.willRead(head, LOCK_FOLIO);
    yield lockFolio(core, head, LOCK_FOLIO);
  }
  return yield* call(mapFolio(core, fault, inode, head, !mayShare));
}

/** filemap_lock_hugetlb_folio */
function* lockCached(core: CoreMm, inode: Inode, index: number): Steps<number | undefined | 'hwpoison'> {
  const { folios } = core;
  for (;;) {
    const head = yield* call(filemapGetFolio(core, inode, index));
    if (head === undefined) return undefined;
    folios.mapping.willRead(head, LOCK_FOLIO);
    yield lockFolio(core, head, LOCK_FOLIO);
    const ours = folios.mapping.get(head) === inode.id;
    const poisoned = (folios.flags.get(head) & PG_HWPOISON) !== 0;
    if (ours && !poisoned) return head;
    unlockNow(core, head);
    yield* call(folioPut(core, head, 1, 'hugetlb_no_page'));
    if (ours) return 'hwpoison';
  }
}

/** hugetlb_pte_stable: is there really nothing mapped? */
function* stable(fault: Fault): Steps<boolean> {
  yield fault.passPmd(STABLE);
  return fault.pmdSame;
}

/** The second half of hugetlb_no_page: map the locked folio; a private write goes on to hugetlb_wp under the lock. */
function* mapFolio(core: CoreMm, fault: Fault, inode: Inode, head: number, fresh: boolean): Steps<Outcome> {
  const { folios } = core;
  const { vma, flags } = fault;
  willMapHuge(core, head, SET);
  willUpdateRows(fault, inode, SET);
  yield fault.lockPmd(SET);
  if (!fault.pmdSame) {
    fault.unlockNow();
    if (fresh) yield* call(restoreReserveOnError(core, inode, vma, head, fault.index));
    yield* call(unlockFolio(core, head));
    yield* call(folioPut(core, head, 1, 'hugetlb_no_page'));
    return 'ok';
  }
  if (fresh) newAnonNow(core, fault, head);
  else folios.addPmdMapping(head, 1);
  const writable = vma.fields.write && vma.fields.shared;
  const bits = PTE_PRESENT | PTE_YOUNG | (writable ? PTE_WRITE | PTE_MKDIRTY : 0);
  setRows(core, fault, inode, head, bits);
  fault.orig = fault.mm.pageTable.pmd(fault.row);
  let result: Outcome = 'ok';
  if (flags.write && !vma.fields.shared) result = yield* call(hugetlbWp(core, fault, inode));
  else fault.unlockNow();
  yield* call(unlockFolio(core, head));
  return result;
}

/** The entry is present: a write or unshare through a read-only one, or only the accessed and dirty bits. */
function* presentFault(core: CoreMm, fault: Fault, inode: Inode): Steps<Outcome> {
  const { vma, flags, orig } = fault;
  willUpdateRows(fault, inode, LOCK);
  yield fault.lockPmd(LOCK);
  if (!fault.pmdSame) {
    fault.unlockNow();
    return 'ok';
  }
  const readOnly = (orig.bits & PTE_WRITE) === 0;
  if (flags.write && readOnly && userfaultfdWp(vma) && (orig.bits & PTE_UFFD_WP) !== 0) {
    fault.unlockNow();
    return 'uffd-wp';
  }
  if ((flags.write || flags.unshare) && readOnly) return yield* call(hugetlbWp(core, fault, inode));
  const dirty = flags.write ? PTE_MKDIRTY : 0;
  const bits = ((orig.bits & ~PTE_PROTNONE) | PTE_PRESENT | PTE_YOUNG | dirty) >>> 0;
  if (bits !== orig.bits) setRows(core, fault, inode, orig.pfn, bits);
  fault.unlockNow();
  return 'ok';
}

/** hugetlb_wp, with the page-table lock held; releases it. */
function* hugetlbWp(core: CoreMm, fault: Fault, inode: Inode): Steps<Outcome> {
  const { folios } = core;
  const { vma, flags, orig } = fault;
  const head = orig.pfn;
  folios.mapcount.willRead(head, REUSE);
  folios.flags.willRead(head, REUSE);
  folios.anonExclusive.willUpdate(head, REUSE);
  willUpdateRows(fault, inode, REUSE);
  yield fault.willUnlockPmd(REUSE);
  // FOLL_FORCE never writes through a read-only hugetlb mapping.
  if (flags.write && !vma.fields.write) {
    fault.unlockNow();
    return 'sigsegv';
  }
  const anon = (folios.flags.get(head) & PG_ANON) !== 0;
  if (vma.fields.shared || (anon && folios.mapcountOf(head) === 1)) {
    if (anon && core.kernel.has('cow.anon-exclusive')) folios.anonExclusive.set(head, 1);
    const writable = vma.fields.write ? PTE_WRITE : 0;
    if (!flags.unshare) setRows(core, fault, inode, head, orig.bits | PTE_YOUNG | PTE_MKDIRTY | writable);
    fault.unlockNow();
    return 'ok';
  }
  return yield* call(copyHuge(core, fault, inode, head));
}

/** The copying half of hugetlb_wp. When the pool is empty the owner of the reservation takes the page from the others. */
function* copyHuge(core: CoreMm, fault: Fault, inode: Inode, old: number): Steps<Outcome> {
  const { frames } = core;
  const { mm } = fault;
  const pages = 2 ** inode.hugeOrder;
  willGet(core, old, GET_OLD);
  yield fault.willUnlockPmd(GET_OLD);
  getNow(core, old, 1);
  fault.unlockNow();
  const movable = !pinnableOnly(core, fault.flags.memallocPin);
  const gfp = { order: inode.hugeOrder, movable, zero: false, ...inode.policy };
  // The page that the children share since fork is the one that was promised (outside_reserve).
  const owner = fault.vma.fields.reservation !== null && core.folios.has(old, PG_ANON);
  const head = yield* call(allocHugetlbFolio(core, inode, fault.vma, fault.index, gfp, owner));
  if (head === undefined) {
    yield* call(folioPut(core, old, 1, 'hugetlb_wp'));
    if (!owner) return 'sigbus';
    return yield* call(takeFromChildren(core, fault, inode, old));
  }
  fault.vma = yield* call(anonVmaPrepare(core, mm, fault.vma));
  frames.content.willReadRange(old, old + pages - 1, COPY);
  yield core.sim.times(pages, frames.content.willUpdateRange(head, head + pages - 1, COPY));
  frames.copy(old, head, pages);
  const range = { mm, start: fault.vpn, end: fault.vpn + pages, event: 'CLEAR', blockable: true } as const;
  yield* call(mm.notifiers.start(range));
  const replaced = yield* call(replaceHuge(core, fault, inode, old, head));
  yield* call(mm.notifiers.end(range));
  if (!replaced) {
    yield* call(restoreReserveOnError(core, inode, fault.vma, head, fault.index));
    yield* call(putUnused(core, head));
  }
  yield* call(folioPut(core, old, replaced ? 2 : 1, 'hugetlb_wp'));
  return 'ok';
}

function* replaceHuge(core: CoreMm, fault: Fault, inode: Inode, old: number, head: number): Steps<boolean> {
  const { folios } = core;
  const { mm, vpn, flags, orig } = fault;
  willUpdateRows(fault, inode, CLEAR);
  yield fault.lockPmd(CLEAR);
  if (!fault.pmdSame) {
    fault.unlockNow();
    return false;
  }
  const pages = 2 ** inode.hugeOrder;
  for (let i = 0; i < pages / PMD_PAGES; i++) mm.pageTable.clearPmd(fault.row + i);
  yield* call(flushTlbRange(core, mm, vpn, vpn + pages));
  willMapHuge(core, head, REPLACE);
  folios.willMap(old, old, REPLACE);
  willUpdateRows(fault, inode, REPLACE);
  yield fault.willUnlockPmd(REPLACE);
  folios.addPmdMapping(old, -1);
  folios.change(head, PG_UPTODATE);
  newAnonNow(core, fault, head);
  const kept = flags.unshare ? orig.bits & PTE_UFFD_WP : PTE_MKDIRTY | (fault.vma.fields.write ? PTE_WRITE : 0);
  setRows(core, fault, inode, head, PTE_PRESENT | PTE_YOUNG | kept);
  fault.unlockNow();
  return true;
}

/** unmap_ref_private without the mutex, then the write again: now the mapping is the only one. */
function* takeFromChildren(core: CoreMm, fault: Fault, inode: Inode, old: number): Steps<Outcome> {
  const { index } = fault;
  yield unlockFaultMutex(core, inode, index, MUTEX_UNLOCK);
  yield* call(unmapRefPrivate(core, fault, inode, old));
  yield lockFaultMutex(core, inode, index, MUTEX);
  willUpdateRows(fault, inode, LOCK);
  yield fault.lockPmd(LOCK);
  if (fault.pmdSame) return yield* call(hugetlbWp(core, fault, inode));
  fault.unlockNow();
  return 'ok';
}

function willMapHuge(core: CoreMm, head: number, at: Step): Announced {
  const { folios } = core;
  folios.flags.willUpdate(head, at);
  folios.mapping.willUpdate(head, at);
  folios.anonExclusive.willUpdate(head, at);
  return folios.willMap(head, head, at);
}

/** hugetlb_add_new_anon_rmap and __folio_mark_uptodate. */
function newAnonNow(core: CoreMm, fault: Fault, head: number): void {
  const { folios } = core;
  const { anonVma } = fault.vma.fields;
  if (anonVma === null) throw new Error(`a private huge page in ${fault.vma.fields.name}, which has no anon_vma`);
  folios.change(head, PG_UPTODATE | PG_ANON, PG_RESTORE_RESERVE);
  folios.mapping.set(head, anonVma.id);
  folios.index.set(head, fault.index);
  folios.anonExclusive.set(head, core.kernel.has('cow.anon-exclusive') ? 1 : 0);
  folios.addPmdMapping(head, 1);
}

/** A 1 GiB page fills 512 PMD rows; the first stands for it. */
function willUpdateRows(fault: Fault, inode: Inode, at: Step): void {
  for (let i = 1; i < 2 ** inode.hugeOrder / PMD_PAGES; i++) fault.mm.pageTable.willUpdatePmd(fault.row + i, at);
}

function setRows(core: CoreMm, fault: Fault, inode: Inode, head: number, bits: number): void {
  fault.setPmd(core, head, bits);
  const { pageTable } = fault.mm;
  const { bits: leaf, generation } = pageTable.peekPmd(fault.row);
  for (let i = 1; i < 2 ** inode.hugeOrder / PMD_PAGES; i++) {
    pageTable.setPmd(fault.row + i, head + i * PMD_PAGES, leaf, generation);
  }
}
