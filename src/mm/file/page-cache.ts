// The page cache of an inode (mm/filemap.c): finding, adding and reading pages. A cached page has one reference from the
// cache for each of its pages. Readahead reads around a faulting page; IO is done by whoever waits for it.
import { call, type Steps } from '../../engine/process.ts';
import { step } from '../../engine/step.ts';
import { allocFolio } from '../alloc/page-alloc.ts';
import type { CoreMm } from '../core.ts';
import { unlockNow, willUnlock } from '../folio-lock.ts';
import { PG_LOCKED, PG_RESTORE_RESERVE, PG_SWAPBACKED, PG_UPTODATE } from '../page-flags.ts';
import { folioAddLru } from '../reclaim/lru.ts';
import { folioPut, getNow, putNow, tryGetNow, willGet, willPut } from '../refcount.ts';
import type { Inode } from './inode.ts';

const GET = step('filemap_get_entry:folio_try_get', 'refcount');
const LOOKUP = step('filemap_get_entry', 'op');
const ADD = step('__filemap_add_folio', 'op');
const INVALIDATE_LOCK = step('page_cache_ra_unbounded:invalidate_lock', 'lock');
const INVALIDATE_UNLOCK = step('page_cache_ra_unbounded:invalidate_unlock', 'lock');
const SIZE = step('page_cache_ra_unbounded:i_size', 'op');
const READ = step('filemap_read_folio', 'disk-read');
const READ_DONE = step('folio_end_read', 'none');

/** ra_pages of a block device: 128 KiB. */
const RA_PAGES = 32;

/**
 * filemap_get_entry: what is at `index`. Positive: the head of a folio, with a reference of the caller's; negative:
 * -(swap slot + 1) of shmem; 0: nothing.
 */
export function* filemapGetEntry(core: CoreMm, inode: Inode, index: number): Steps<number> {
  for (;;) {
    yield inode.pages.willRead(index, LOOKUP);
    const entry = inode.pages.get(index);
    if (entry <= 0) return entry;
    // folio_try_get, then xas_reload: the page may have left the cache between the look and the reference.
    const head = entry - 1;
    willGet(core, head, GET);
    yield inode.pages.willRead(index, GET);
    // Frozen by somebody who is about to take it out (reclaim, migration): the kernel spins.
    if (!tryGetNow(core, head, 1)) continue;
    if (inode.pages.get(index) === entry) return head;
    yield willPut(core, head, GET);
    putNow(core, head, 1, 'filemap_get_entry');
  }
}

/** filemap_get_folio: the head with a reference, or undefined. */
export function* filemapGetFolio(core: CoreMm, inode: Inode, index: number): Steps<number | undefined> {
  const entry = yield* call(filemapGetEntry(core, inode, index));
  return entry > 0 ? entry : undefined;
}

/**
 * filemap_add_folio: the fresh folio becomes the page at `index`, locked, with the cache's references. False: there is
 * one already (-EEXIST). `flags`: what the filesystem sets with it.
 */
export function* filemapAddFolio(
  core: CoreMm,
  inode: Inode,
  index: number,
  head: number,
  flags = 0,
  expected = 0,
): Steps<boolean> {
  const { folios } = core;
  const pages = folios.pagesOf(head);
  folios.flags.willUpdate(head, ADD);
  folios.mapping.willUpdate(head, ADD);
  willGet(core, head, ADD);
  yield inode.pages.willUpdateRange(index, index + pages - 1, ADD);
  for (let i = 0; i < pages; i++) if (inode.pages.get(index + i) !== expected) return false;
  inode.pages.fill(index, index + pages - 1, head + 1);
  folios.mapping.set(head, inode.id);
  folios.index.set(head, index);
  folios.change(head, PG_LOCKED | flags | (inode.swapBacked ? PG_SWAPBACKED : 0), PG_RESTORE_RESERVE);
  // Until 6.7 the cache's hold of a hugetlb page counted once; nobody can tell the difference by it.
  getNow(core, head, pages);
  return true;
}

/** folio_file_page: the page of a cached folio that stands at `index`. Its place stands while it is locked or cached. */
export function filePage(core: CoreMm, head: number, index: number): number {
  return core.folios.isLarge(head) ? head + (index - core.folios.index.peek(head)) : head;
}

/** folio_unlock as a step of its own. */
export function* unlockFolio(core: CoreMm, head: number, why = READ_DONE): Steps<void> {
  yield willUnlock(core, head, why);
  unlockNow(core, head);
}

/** Read the locked page of a file from disk, and unlock it. */
export function* readFolio(core: CoreMm, inode: Inode, index: number, head: number): Steps<void> {
  const { frames, folios } = core;
  inode.disk.willRead(index, READ);
  yield frames.content.willWrite(head, READ);
  frames.content.set(head, inode.disk.get(index));
  yield willUnlock(core, head, READ_DONE);
  folios.change(head, PG_UPTODATE);
  unlockNow(core, head);
}

/**
 * do_sync_mmap_readahead: read the pages around `index` that are not cached, up to the end of the file. False: no
 * memory for the page itself.
 */
export function* mmapReadahead(core: CoreMm, inode: Inode, index: number, movable: boolean): Steps<boolean> {
  const from = Math.max(0, index - RA_PAGES / 2);
  // invalidate_lock keeps truncation and hole punching away while pages are made.
  yield* call(inode.invalidateLock.read(INVALIDATE_LOCK));
  inode.pages.willReadRange(from, from + RA_PAGES - 1, SIZE);
  yield inode.sizePages.willRead(SIZE);
  const absent: number[] = [];
  const to = Math.min(from + RA_PAGES, inode.sizePages.value);
  for (let at = from; at < to; at++) if (inode.pages.get(at) === 0) absent.push(at);
  let ok = true;
  for (const at of absent) if (!(yield* call(readNew(core, inode, at, movable))) && at === index) ok = false;
  yield inode.invalidateLock.up(INVALIDATE_UNLOCK);
  return ok;
}

/** Add a new page and read it. False: out of memory. */
function* readNew(core: CoreMm, inode: Inode, index: number, movable: boolean): Steps<boolean> {
  const head = yield* call(allocFolio(core, { order: 0, movable, zero: false }));
  if (head === undefined) return false;
  if (yield* call(filemapAddFolio(core, inode, index, head))) {
    yield* call(folioAddLru(core, head));
    yield* call(readFolio(core, inode, index, head));
  }
  yield* call(folioPut(core, head, 1, 'page_cache_ra_unbounded'));
  return true;
}
