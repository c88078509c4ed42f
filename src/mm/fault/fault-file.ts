// Faults on mapped files (mm/memory.c do_fault, mm/filemap.c filemap_fault): regular files and shmem; secretmem and the
// vdso by the same path; fsdax and raw frames in fault-pfn.ts. Fault-around is one step: its entries were absent.
import { call, type Steps } from '../../engine/process.ts';
import { type Announced, type Step, step } from '../../engine/step.ts';
import { PMD_PAGES } from '../../hw/machine.ts';
import { allocFolio } from '../alloc/page-alloc.ts';
import type { CoreMm } from '../core.ts';
import type { Inode } from '../file/inode.ts';
import { filemapGetFolio, filePage, mmapReadahead, readFolio, unlockFolio } from '../file/page-cache.ts';
import { secretmemGetFolio } from '../file/secretmem.ts';
import { type GotFolio, shmemGetOrMissing } from '../file/shmem.ts';
import { lockFolio } from '../folio-lock.ts';
import { specialMappingFault } from '../mapping/special-mapping.ts';
import { UFFD_MINOR, UFFD_MISSING, UFFD_WP, type Vma } from '../mapping/vma.ts';
import { PG_HWPOISON, PG_LOCKED, PG_MLOCKED, PG_UPTODATE } from '../page-flags.ts';
import { PTE_NONE, PTE_PRESENT, PTE_WRITE, PTE_YOUNG } from '../pte.ts';
import { folioAddLru } from '../reclaim/lru.ts';
import { folioPut, getNow, tryGetNow, willGet } from '../refcount.ts';
import { addNewAnonNow, anonVmaPrepare, pinnableOnly, userGfp, willAddNewAnon } from './anon-page.ts';
import { makeShmemPages } from './fault-bulk.ts';
import {
  dropMmapLock,
  type Fault,
  type FaultResult,
  maybeMkwrite,
  mayDropLock,
  PTE_MKDIRTY,
  protBits,
  pteAlloc,
  putUnused,
} from './fault-context.ts';
import { lockOrDropMmap } from './fault-lock.ts';
import { doPageMkwrite, faultDirtySharedPage, hasPageMkwrite } from './page-mkwrite.ts';
import { handleUserfault } from './uffd.ts';

const SIZE = step('filemap_fault:i_size', 'op');
const MINOR = step('shmem_get_folio:userfaultfd_minor', 'op');
const CHECK = step('filemap_fault:recheck-mapping', 'op');
const RECHECK = step('filemap_fault:recheck-size', 'op');
const NEXT = step('next_uptodate_folio', 'op');
const AROUND = step('filemap_map_pages', 'fault');
const SET = step('finish_fault', 'fault');
const COW_COPY = step('do_cow_fault:copy', 'copy-page');
const COW_LOCK = step('do_cow_fault:lock', 'fault');
const COW_SET = step('do_cow_fault:set-pte', 'pte-op');
const WP_GET = step('wp_page_shared:get', 'refcount');
const WP_SET = step('finish_mkwrite_fault', 'pte-op');
const WP_LOCK = step('wp_page_shared:folio_lock', 'lock');

export { protBits, wantsWritenotify } from './fault-context.ts';

/** do_fault, for files with pages in a page cache. */
export function* doFault(core: CoreMm, fault: Fault, inode: Inode): Steps<FaultResult> {
  if (!fault.flags.write) return yield* call(doReadFault(core, fault, inode));
  if (!fault.vma.fields.shared) return yield* call(doCowFault(core, fault, inode));
  return yield* call(doSharedFault(core, fault, inode));
}

/** __do_fault: the page, locked, with a reference of ours. */
function* getPage(core: CoreMm, fault: Fault, inode: Inode): Steps<GotFolio | FaultResult> {
  const movable = !pinnableOnly(core, fault.flags.memallocPin);
  switch (inode.kind) {
    case 'shmem':
      return yield* call(shmemFault(core, fault, inode, movable));
    case 'secret':
      return yield* call(secretmemGetFolio(core, inode, fault.index));
    case 'special':
      return yield* call(specialMappingFault(core, inode, fault.index));
    default:
      return yield* call(filemapFault(core, fault, inode, movable));
  }
}

/** shmem_fault: a page that is nowhere is a userfault where the VMA is registered for that. */
function* shmemFault(core: CoreMm, fault: Fault, inode: Inode, movable: boolean): Steps<GotFolio | FaultResult> {
  const { vma, index } = fault;
  if (vma.userfaults(UFFD_MINOR)) {
    // The page that the file has is somebody's answer to give, in memory or in swap.
    yield inode.pages.willRead(index, MINOR);
    if (inode.pages.get(index) !== 0) return yield* call(handleUserfault(core, fault, 'minor'));
  }
  const got = yield* call(shmemGetOrMissing(core, inode, index, movable, vma.userfaults(UFFD_MISSING)));
  return got === 'missing' ? yield* call(handleUserfault(core, fault, 'missing')) : got;
}

/** filemap_fault */
function* filemapFault(core: CoreMm, fault: Fault, inode: Inode, movable: boolean): Steps<GotFolio | 'retry'> {
  const { index } = fault;
  for (;;) {
    yield inode.sizePages.willRead(SIZE);
    if (index >= inode.sizePages.value) return 'sigbus';
    const head = yield* call(filemapGetFolio(core, inode, index));
    if (head === undefined) {
      // maybe_unlock_mmap_for_io: with IO to do, the lock is dropped and the fault starts over.
      const drop = mayDropLock(fault);
      if (drop) yield* call(dropMmapLock(fault));
      const ok = yield* call(mmapReadahead(core, inode, index, movable));
      if (drop) return 'retry';
      if (!ok) return 'oom';
      continue;
    }
    if (!(yield* call(lockOrDropMmap(core, fault, head, 'filemap_fault:retry')))) return 'retry';
    const got = yield* call(checkLocked(core, fault, inode, head));
    if (got !== 'again') return got;
  }
}

/** The rest of filemap_fault, with the folio locked: still this file's, read, inside the file? */
function* checkLocked(core: CoreMm, fault: Fault, inode: Inode, head: number): Steps<GotFolio | 'again'> {
  const { folios } = core;
  folios.mapping.willRead(head, CHECK);
  yield folios.flags.willRead(head, CHECK);
  const ours = folios.mapping.get(head) === inode.id;
  const flags = folios.flags.get(head);
  if (ours && (flags & PG_UPTODATE) === 0) {
    yield* call(readFolio(core, inode, fault.index, head));
    yield* call(folioPut(core, head, 1, 'filemap_fault:read'));
    return 'again';
  }
  if (!ours) {
    yield* call(unlockFolio(core, head));
    yield* call(folioPut(core, head, 1, 'filemap_fault:truncated'));
    return 'again';
  }
  yield inode.sizePages.willRead(RECHECK);
  const beyond = fault.index >= inode.sizePages.value;
  if (!beyond && (flags & PG_HWPOISON) === 0) return { head };
  yield* call(unlockFolio(core, head));
  yield* call(folioPut(core, head, 1, 'filemap_fault:refused'));
  return beyond ? 'sigbus' : 'hwpoison';
}

/** do_read_fault */
function* doReadFault(core: CoreMm, fault: Fault, inode: Inode): Steps<FaultResult> {
  // uffd_disable_fault_around: each page of its own is to be told.
  const mapsAround = (inode.kind === 'shmem' || inode.kind === 'file') && !fault.vma.userfaults(UFFD_MINOR | UFFD_WP);
  if (!(yield* call(pteAlloc(fault)))) return 'ok';
  if (inode.kind === 'shmem' && fault.vma.fields.shared && (yield* call(makeShmemPages(core, fault, inode))))
    return 'ok';
  if (mapsAround && core.params.faultAroundPages > 1 && (yield* call(faultAround(core, fault, inode)))) return 'ok';
  const got = yield* call(getPage(core, fault, inode));
  if (typeof got === 'string') return got;
  const mapped = yield* call(finishFault(core, fault, got.head));
  yield* call(unlockFolio(core, got.head));
  if (mapped !== true) yield* call(folioPut(core, got.head, 1, 'do_read_fault'));
  return mapped === true ? 'ok' : mapped;
}

/** do_fault_around and filemap_map_pages: map what is cached around. True: the faulting page was among it. */
function* faultAround(core: CoreMm, fault: Fault, inode: Inode): Steps<boolean> {
  const { mm, vma, vpn, row } = fault;
  const pages = core.params.faultAroundPages;
  const from = Math.max(vpn - (vpn % pages), vma.start, row * PMD_PAGES);
  const to = Math.min(vpn - (vpn % pages) + pages, vma.end, (row + 1) * PMD_PAGES);
  const heads = new Map<number, number>();
  yield inode.pages.willReadRange(vma.indexOf(from), vma.indexOf(to - 1), NEXT);
  for (let at = from; at < to; at++) {
    const entry = inode.pages.get(vma.indexOf(at));
    if (entry > 0) heads.set(at, entry - 1);
  }
  if (heads.size === 0) return false;
  for (const [at, head] of heads) willMapFile(core, head, filePage(core, head, vma.indexOf(at)), AROUND);
  inode.pages.willReadRange(vma.indexOf(from), vma.indexOf(to - 1), AROUND);
  inode.sizePages.willRead(AROUND);
  mm.pageTable.willReadPmd(row, AROUND);
  mm.pageTable.willUpdatePtes(from, to - 1, AROUND);
  yield core.sim.times(heads.size, mm.pageTable.ptl.pass(row, AROUND));
  fault.orig = PTE_NONE;
  if (!fault.tablePresent) return false;
  let hit = false;
  for (const [at, head] of heads) {
    const index = vma.indexOf(at);
    if (index >= inode.sizePages.value || inode.pages.get(index) !== head + 1) continue;
    if (mm.pageTable.pte(at).bits !== 0) continue;
    const flags = core.folios.flags.get(head);
    // folio_trylock, uptodate, not poisoned: others are left to a fault of their own.
    if ((flags & (PG_LOCKED | PG_UPTODATE | PG_HWPOISON)) !== PG_UPTODATE) continue;
    if (!tryGetNow(core, head, 1)) continue;
    const page = filePage(core, head, index);
    addFileRmapNow(core, vma, head, page);
    mm.pageTable.setPte(
      at,
      page,
      PTE_PRESENT | (at === vpn ? PTE_YOUNG : 0) | protBits(vma),
      core.frames.peekGeneration(page),
    );
    hit ||= at === vpn;
  }
  return hit;
}

/** Announce giving page `page` of a file folio another mapping. */
function willMapFile(core: CoreMm, head: number, page: number, at: Step): Announced {
  core.folios.flags.willUpdate(head, at);
  willGet(core, head, at);
  return core.folios.willMap(head, page, at);
}

/** folio_add_file_rmap_pte, with mlock_vma_folio. */
function addFileRmapNow(core: CoreMm, vma: Vma, head: number, page: number): void {
  core.folios.addPteMapping(head, page);
  if (vma.fields.locked) core.folios.change(head, PG_MLOCKED);
}

/** finish_fault: map the locked page; our reference becomes the mapping's. `ok`: somebody else was first. */
function* finishFault(core: CoreMm, fault: Fault, head: number): Steps<true | 'ok' | 'sigbus'> {
  const { mm, vma } = fault;
  const page = filePage(core, head, fault.index);
  mm.unstable.willRead(SET);
  willMapFile(core, head, page, SET);
  yield fault.pass(SET);
  if (!vma.fields.shared && mm.unstable.value) return 'sigbus';
  fault.orig = PTE_NONE;
  if (!fault.same) return 'ok';
  addFileRmapNow(core, vma, head, page);
  fault.set(core, page, PTE_PRESENT | PTE_YOUNG | protBits(vma) | (fault.flags.write ? maybeMkwrite(vma) : 0));
  return true;
}

/** do_cow_fault: the first touch of a private file page is a write; the process gets its copy at once. */
function* doCowFault(core: CoreMm, fault: Fault, inode: Inode): Steps<FaultResult> {
  const { frames } = core;
  fault.vma = yield* call(anonVmaPrepare(core, fault.mm, fault.vma));
  const copy = yield* call(allocFolio(core, userGfp(core, fault.flags.memallocPin, false, fault.vma)));
  if (copy === undefined) return 'oom';
  const got = yield* call(getPage(core, fault, inode));
  if (typeof got === 'string') {
    yield* call(putUnused(core, copy));
    return got;
  }
  const page = filePage(core, got.head, fault.index);
  frames.content.willRead(page, COW_COPY);
  yield frames.content.willWrite(copy, COW_COPY);
  frames.copy(page, copy, 1);
  const result = yield* call(mapCopy(core, fault, copy));
  yield* call(unlockFolio(core, got.head));
  yield* call(folioPut(core, got.head, 1, 'do_cow_fault'));
  if (result !== 'mapped') yield* call(putUnused(core, copy));
  return result === 'mapped' ? 'ok' : result;
}

/** finish_fault for the anonymous copy of a private file page. */
export function* mapCopy(core: CoreMm, fault: Fault, copy: number): Steps<'mapped' | 'ok' | 'sigbus'> {
  if (!(yield* call(pteAlloc(fault)))) return 'ok';
  fault.mm.unstable.willRead(COW_LOCK);
  willAddNewAnon(core, copy, COW_LOCK);
  yield fault.lock(COW_LOCK);
  fault.orig = PTE_NONE;
  const refused = fault.mm.unstable.value ? 'sigbus' : fault.same ? null : 'ok';
  if (refused !== null) {
    fault.unlockNow();
    return refused;
  }
  addNewAnonNow(core, fault.vma, fault.vpn, copy);
  yield* call(folioAddLru(core, copy, true));
  yield fault.willUnlock(COW_SET);
  fault.set(core, copy, PTE_PRESENT | PTE_YOUNG | maybeMkwrite(fault.vma));
  fault.unlockNow();
  return 'mapped';
}

/** do_shared_fault: page_mkwrite comes before the entry, the dirty flag after it. */
function* doSharedFault(core: CoreMm, fault: Fault, inode: Inode): Steps<FaultResult> {
  if (inode.kind === 'shmem' && fault.flags.ahead !== undefined) {
    if (!(yield* call(pteAlloc(fault))) || (yield* call(makeShmemPages(core, fault, inode)))) return 'ok';
  }
  const got = yield* call(getPage(core, fault, inode));
  if (typeof got === 'string') return got;
  const { head } = got;
  if (hasPageMkwrite(inode)) {
    yield* call(unlockFolio(core, head));
    if (!(yield* call(doPageMkwrite(core, inode, fault.index, head)))) {
      yield* call(folioPut(core, head, 1, 'do_shared_fault'));
      return 'ok';
    }
  }
  if (!(yield* call(pteAlloc(fault)))) {
    yield* call(unlockFolio(core, head));
    yield* call(folioPut(core, head, 1, 'do_shared_fault'));
    return 'ok';
  }
  const mapped = yield* call(finishFault(core, fault, head));
  if (mapped !== true) {
    yield* call(unlockFolio(core, head));
    yield* call(folioPut(core, head, 1, 'do_shared_fault'));
    return mapped;
  }
  return yield* call(faultDirtySharedPage(core, fault, inode, head));
}

/** wp_page_shared: a write to a page of a shared mapping that is mapped read-only. The page-table lock is held. */
export function* wpPageShared(core: CoreMm, fault: Fault): Steps<FaultResult> {
  const head = core.folios.headOf(fault.orig.pfn);
  const inode = fault.vma.fields.file;
  if (inode === null) throw new Error(`a shared page of ${fault.vma.fields.name}, which maps no file`);
  willGet(core, head, WP_GET);
  yield fault.willUnlock(WP_GET);
  getNow(core, head, 1);
  const mkwrite = hasPageMkwrite(inode);
  if (!mkwrite) reuseNow(core, fault);
  fault.unlockNow();
  if (mkwrite) {
    const done = yield* call(mkwriteAndMap(core, fault, inode, head));
    if (!done) {
      yield* call(folioPut(core, head, 1, 'wp_page_shared'));
      return 'ok';
    }
  } else yield lockFolio(core, head, WP_LOCK);
  const result = yield* call(faultDirtySharedPage(core, fault, inode, head));
  yield* call(folioPut(core, head, 1, 'wp_page_shared'));
  return result;
}

/** do_page_mkwrite and finish_mkwrite_fault. True: mapped writable, the folio locked. */
function* mkwriteAndMap(core: CoreMm, fault: Fault, inode: Inode, head: number): Steps<boolean> {
  if (!(yield* call(doPageMkwrite(core, inode, fault.index, head)))) return false;
  yield fault.pass(WP_SET);
  if (fault.same) {
    reuseNow(core, fault);
    return true;
  }
  yield* call(unlockFolio(core, head));
  return false;
}

function reuseNow(core: CoreMm, fault: Fault): void {
  fault.set(core, fault.orig.pfn, fault.orig.bits | PTE_WRITE | PTE_MKDIRTY | PTE_YOUNG);
}
