// shmem (mm/shmem.c): pages of memfd, tmpfs, SysV shared memory and shared anonymous memory. A page is in the page cache,
// in swap (the cache then holds the slot), or nowhere. 4 KiB folios; huge= mounts are not modelled. A page that fallocate
// made and nobody has used is not PG_UPTODATE, so that a fallocate that fails can take it back.
import { call, type Steps } from '../../engine/process.ts';
import { step } from '../../engine/step.ts';
import { allocFolio } from '../alloc/page-alloc.ts';
import type { CoreMm } from '../core.ts';
import { lockFolio, unlockNow, willUnlock } from '../folio-lock.ts';
import { PG_DIRTY, PG_HWPOISON, PG_REFERENCED, PG_SWAPCACHE, PG_UPTODATE } from '../page-flags.ts';
import { folioAddLru } from '../reclaim/lru.ts';
import { markAccessedNow, willMarkAccessed } from '../reclaim/mark-accessed.ts';
import { folioPut } from '../refcount.ts';
import { folioFreeSwap, readSwapCache, swapFreeNow, willSwapFree } from '../swap/swap-cache.ts';
import type { Inode } from './inode.ts';
import { filemapAddFolio, filemapGetEntry, unlockFolio } from './page-cache.ts';

const SIZE = step('shmem_get_folio_gfp:i_size', 'op');
const LOCK = step('shmem_get_folio_gfp:folio_lock', 'lock');
const CHECK = step('shmem_get_folio_gfp:recheck', 'op');
const REPLACE = step('shmem_swapin_folio:replace', 'op');
const SIGNAL = step('shmem_fallocate:fatal-signal', 'none');
const DIRTY = step('shmem_fallocate:folio_mark_dirty', 'op');
const UNDO_LOCK = step('shmem_undo_range:folio_lock', 'lock');
const UNDO = step('shmem_get_folio_gfp:undo', 'op');

/** A locked folio with a reference of the caller's, or why there is none. */
export type GotFolio = { readonly head: number } | 'sigbus' | 'oom' | 'hwpoison';

/** shmem_get_folio_gfp(SGP_CACHE or, for `write`, SGP_WRITE): made if need be. `sigbus`: beyond i_size. */
export function* shmemGetFolio(
  core: CoreMm,
  inode: Inode,
  index: number,
  movable: boolean,
  write = false,
): Steps<GotFolio> {
  const got = yield* call(shmemGetOrMissing(core, inode, index, movable, false, { inFault: false, write }));
  if (got === 'missing') throw new Error('a page that may be made is never missing');
  return got;
}

/** What for: a fault, or (SGP_WRITE) a write system call, which is a use of the page, or (SGP_FALLOC) later use. */
interface Purpose {
  readonly inFault: boolean;
  readonly write: boolean;
  /** Also beyond i_size. */
  readonly fallocate?: boolean;
}

const LATER: Purpose = { inFault: false, write: false, fallocate: true };

/** As `shmemGetFolio`; with `userfaultfd` a page that is nowhere is not made but `missing`. By default for a fault. */
export function* shmemGetOrMissing(
  core: CoreMm,
  inode: Inode,
  index: number,
  movable: boolean,
  userfaultfd: boolean,
  purpose: Purpose = { inFault: true, write: false },
): Steps<GotFolio | 'missing'> {
  for (;;) {
    if (purpose.fallocate !== true) {
      yield inode.sizePages.willRead(SIZE);
      if (index >= inode.sizePages.value) return 'sigbus';
    }
    const entry = yield* call(filemapGetEntry(core, inode, index));
    if (entry === 0 && userfaultfd) return 'missing';
    const got =
      entry > 0
        ? yield* call(lockFound(core, inode, entry, purpose))
        : entry < 0
          ? yield* call(shmemSwapin(core, inode, index, -entry - 1, movable, purpose))
          : yield* call(shmemAllocFolio(core, inode, index, movable, purpose));
    if (got === 'again') continue;
    return got;
  }
}

/** The page that the look-up found: locked, and still this file's. */
function* lockFound(core: CoreMm, inode: Inode, head: number, { write }: Purpose): Steps<GotFolio | 'again'> {
  const { folios } = core;
  folios.mapping.willRead(head, LOCK);
  if (write) willMarkAccessed(core, head, head, LOCK);
  yield lockFolio(core, head, LOCK);
  const ours = folios.mapping.get(head) === inode.id;
  const poisoned = (folios.flags.get(head) & PG_HWPOISON) !== 0;
  if (ours && !poisoned) {
    if (write) markAccessedNow(core, head);
    // Made by fallocate: used now.
    if ((folios.flags.get(head) & PG_UPTODATE) === 0) folios.change(head, PG_UPTODATE);
    return { head };
  }
  unlockNow(core, head);
  yield* call(folioPut(core, head, 1, 'shmem_get_folio'));
  return ours ? 'hwpoison' : 'again';
}

/** shmem_alloc_and_add_folio */
function* shmemAllocFolio(
  core: CoreMm,
  inode: Inode,
  index: number,
  movable: boolean,
  { inFault, write, fallocate }: Purpose,
): Steps<GotFolio | 'again'> {
  const head = yield* call(allocFolio(core, { order: 0, movable, zero: true, ...inode.policy }));
  if (head === undefined) return 'oom';
  const flags = fallocate === true ? 0 : write ? PG_UPTODATE | PG_REFERENCED : PG_UPTODATE;
  if (!(yield* call(filemapAddFolio(core, inode, index, head, flags)))) {
    yield* call(folioPut(core, head, 1, 'shmem_alloc_and_add_folio'));
    return 'again';
  }
  yield* call(folioAddLru(core, head, inFault));
  if (fallocate === true) return { head };
  yield inode.sizePages.willRead(CHECK);
  if (index < inode.sizePages.value) return { head };
  // Truncated meanwhile: the page must not stay beyond the end.
  yield* call(removeLocked(core, inode, index, head));
  return 'sigbus';
}

/** filemap_remove_folio of a locked page, its cache reference, our lock and reference. */
function* removeLocked(core: CoreMm, inode: Inode, index: number, head: number): Steps<void> {
  const { folios } = core;
  folios.mapping.willUpdate(head, UNDO);
  willUnlock(core, head, UNDO);
  yield inode.pages.willUpdate(index, UNDO);
  const references = inode.pages.get(index) === head + 1 ? 2 : 1;
  if (references === 2) {
    inode.pages.set(index, 0);
    folios.mapping.set(head, 0);
    folios.change(head, 0, PG_DIRTY);
  }
  unlockNow(core, head);
  yield* call(folioPut(core, head, references, 'shmem_get_folio:undo'));
}

/**
 * The pages [from, to) of shmem_fallocate, in memory or in swap, dirty so that they are not lost; i_rwsem is held. ENOMEM,
 * EINTR: killed; then those that it made and nobody has used are gone again. No limit of a mount (ENOSPC) is modelled,
 * memfd and SysV shared memory have none.
 */
export function* shmemFallocate(
  core: CoreMm,
  inode: Inode,
  from: number,
  to: number,
): Steps<'ok' | 'ENOMEM' | 'EINTR'> {
  const { folios } = core;
  const { killed } = core.current.task;
  for (let index = from; index < to; index++) {
    yield killed.willRead(SIGNAL);
    const got = killed.value ? 'killed' : yield* call(shmemGetOrMissing(core, inode, index, true, false, LATER));
    if (got === 'hwpoison') continue;
    if (typeof got === 'string') {
      for (let made = from; made < index; made++) yield* call(undoFallocated(core, inode, made));
      return got === 'killed' ? 'EINTR' : 'ENOMEM';
    }
    yield folios.flags.willUpdate(got.head, DIRTY);
    folios.change(got.head, PG_DIRTY);
    unlockNow(core, got.head);
    yield* call(folioPut(core, got.head, 1, 'shmem_fallocate'));
  }
  return 'ok';
}

/** shmem_undo_range(unfalloc) of one page: what is in swap stays, and what somebody has used. */
function* undoFallocated(core: CoreMm, inode: Inode, index: number): Steps<void> {
  const { folios } = core;
  const head = yield* call(filemapGetEntry(core, inode, index));
  if (head <= 0) return;
  folios.mapping.willRead(head, UNDO_LOCK);
  yield lockFolio(core, head, UNDO_LOCK);
  const unused = folios.mapping.get(head) === inode.id && (folios.flags.get(head) & PG_UPTODATE) === 0;
  if (unused) {
    yield* call(removeLocked(core, inode, index, head));
    return;
  }
  unlockNow(core, head);
  yield* call(folioPut(core, head, 1, 'shmem_undo_range'));
}

/** shmem_swapin_folio: the page comes back from its slot and takes the slot's place in the page cache. */
function* shmemSwapin(
  core: CoreMm,
  inode: Inode,
  index: number,
  slot: number,
  movable: boolean,
  { write }: Purpose,
): Steps<GotFolio | 'again'> {
  const { folios } = core;
  const head = yield* call(readSwapCache(core, slot, movable));
  if (head === 'oom') return 'oom';
  if (head === 'unused') return 'again';
  yield lockFolio(core, head, LOCK);
  const stillCached = (folios.flags.get(head) & PG_SWAPCACHE) !== 0 && folios.swapEntry.peek(head) === slot + 1;
  if (!stillCached || !(yield* call(takePlace(core, inode, index, slot, head, write)))) {
    yield* call(unlockFolio(core, head));
    yield* call(folioPut(core, head, 1, 'shmem_swapin_folio'));
    return 'again';
  }
  yield* call(folioFreeSwap(core, head));
  return { head };
}

/** shmem_add_to_page_cache(expected = the swap entry), swap_free. */
function* takePlace(
  core: CoreMm,
  inode: Inode,
  index: number,
  slot: number,
  head: number,
  write: boolean,
): Steps<boolean> {
  const { folios } = core;
  folios.mapping.willUpdate(head, REPLACE);
  folios.flags.willUpdate(head, REPLACE);
  folios.refcount.willUpdate(head, REPLACE);
  willSwapFree(core, slot, REPLACE);
  if (write) willMarkAccessed(core, head, head, REPLACE);
  yield inode.pages.willUpdate(index, REPLACE);
  if (inode.pages.get(index) !== -(slot + 1)) return false;
  inode.pages.set(index, head + 1);
  folios.mapping.set(head, inode.id);
  folios.index.set(head, index);
  folios.refcount.set(head, folios.refcount.get(head) + 1);
  folios.change(head, PG_DIRTY);
  if (write) markAccessedNow(core, head);
  swapFreeNow(core, slot);
  return true;
}
