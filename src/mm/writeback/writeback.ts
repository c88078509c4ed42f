// Writing dirty pages of a file to disk (mm/page-writeback.c write_cache_pages, fs/ext4/inode.c ext4_writepages, iomap).
// Lock, mkclean, clear PG_dirty, set PG_writeback and unlock, IO, end: six acts, none of which asks for pins. Block
// allocation and the journal are left out; btrfs is treated as a filesystem that always finds its reservation.
import { eventType } from '../../engine/event.ts';
import { call, type Steps } from '../../engine/process.ts';
import { type Step, step } from '../../engine/step.ts';
import { until } from '../../engine/wait.ts';
import type { CoreMm } from '../core.ts';
import type { Inode } from '../file/inode.ts';
import { lockFolio, unlockNow, waitWriteback, willUnlock } from '../folio-lock.ts';
import { PG_DIRTY, PG_LOCKED, PG_PRIVATE, PG_RECLAIM, PG_WRITEBACK } from '../page-flags.ts';
import { folioBatchRelease } from '../reclaim/lru.ts';
import { tryGetNow } from '../refcount.ts';
import { folioMkclean } from '../rmap/mkclean.ts';
import { releasePages } from '../tlb.ts';
import { submitBio } from './bio.ts';

const LOOKUP = step('filemap_get_folios_tag', 'op');
const LOCK = step('write_cache_pages:folio_lock', 'lock');
const WAIT = step('write_cache_pages:folio_wait_writeback', 'none');
const NO_BUFFERS = step('ext4_writepages:no-buffers', 'op');
const BUG = step('ext4_writepages:BUG_ON', 'none');
const CLEAR_DIRTY = step('folio_clear_dirty_for_io:clear', 'op');
const SKIP = step('write_cache_pages:folio_unlock', 'op');
const START = step('folio_start_writeback', 'op');
const WAIT_TAG = step('__filemap_fdatawait_range:look-up', 'op');
const WAIT_PAGE = step('__filemap_fdatawait_range', 'none');

/** ext4 found a dirty page without buffers: somebody dirtied it without asking (unpin after the buffers were stripped). */
export interface DirtyWithoutBuffers {
  readonly inode: Inode;
  readonly index: number;
  readonly pfn: number;
  /** The kernel stops there (BUG_ON); otherwise it warns and drops the write. */
  readonly fatal: boolean;
}
export const DIRTY_WITHOUT_BUFFERS = eventType<DirtyWithoutBuffers>('dirty-without-buffers');

export interface WritebackControl {
  /** WB_SYNC_ALL waits for pages under writeback and writes them again; WB_SYNC_NONE passes them over. */
  readonly sync: 'all' | 'none';
  /** Pages [from, to) of the file. */
  readonly from: number;
  readonly to: number;
  /** Stop after this many (WB_SYNC_NONE only). */
  readonly pagesMax?: number;
}

/** Indices of the pages of [from, to) that are cached now, ascending. Looks without a step. */
export function cachedIndices(inode: Inode, from: number, to: number): number[] {
  const found: number[] = [];
  if (to - from <= 4096) {
    for (let index = from; index < to; index++) if (inode.pages.peek(index) > 0) found.push(index);
    return found;
  }
  for (const index of inode.pages.filled()) {
    if (index >= from && index < to && inode.pages.peek(index) > 0) found.push(index);
  }
  return found;
}

/** A page found by its tag, with a reference of the finder's. */
interface Found {
  readonly index: number;
  readonly head: number;
}

/** filemap_get_folios_tag: the next batch of pages of [from, to) that have one of `flags`, each with a reference. */
function* lookupTag(
  core: CoreMm,
  inode: Inode,
  from: number,
  to: number,
  flags: number,
  at: Step,
): Steps<{ readonly found: readonly Found[]; readonly next: number }> {
  const { folios, kernel } = core;
  const batch = kernel.way('lru.batch-size') === 'thirty-one' ? 31 : 15;
  for (;;) {
    // The look tells which pages to announce; the act looks again, and starts over when there are others.
    const heads = cachedHeads(inode, from, to);
    for (const head of heads) {
      folios.flags.willRead(head, at);
      folios.refcount.willPerhaps(head, at);
    }
    yield inode.pages.willReadRange(from, Math.max(from, to - 1), at);
    const now = cachedHeads(inode, from, to);
    if (now.length !== heads.length || now.some((head, i) => head !== heads[i])) continue;
    const found: Found[] = [];
    for (const index of cachedIndices(inode, from, to)) {
      const head = inode.pages.get(index) - 1;
      if ((folios.flags.get(head) & flags) === 0) continue;
      if (found.length === batch) return { found, next: index };
      if (tryGetNow(core, head, 1)) found.push({ index, head });
    }
    return { found, next: to };
  }
}

/** The heads of the pages of [from, to) that are cached now. Looks without a step. */
function cachedHeads(inode: Inode, from: number, to: number): readonly number[] {
  return cachedIndices(inode, from, to).map((index) => inode.pages.peek(index) - 1);
}

/** folio_clear_dirty_for_io of a locked folio: true when it was dirty. */
export function* folioClearDirtyForIo(core: CoreMm, head: number): Steps<boolean> {
  const { folios } = core;
  const inode = core.rmapInode(head);
  const cleaned = inode?.dirtyTracking === true ? yield* call(folioMkclean(core, head)) : 0;
  yield folios.flags.willUpdate(head, CLEAR_DIRTY);
  // An entry that was dirty dirties the folio first, whatever its flag said.
  const dirty = cleaned > 0 || (folios.flags.get(head) & PG_DIRTY) !== 0;
  folios.change(head, 0, PG_DIRTY);
  return dirty;
}

/** write_cache_pages of a `file`: start writing what is dirty in the range. Returns how many pages are on their way. */
export function* writeCachePages(core: CoreMm, inode: Inode, control: WritebackControl): Steps<number> {
  const { sync, to } = control;
  // PAGECACHE_TAG_DIRTY outlives PG_dirty until writeback has started; the folio is locked all that while.
  const tags = sync === 'all' ? PG_DIRTY | PG_LOCKED : PG_DIRTY;
  let left = sync === 'none' ? (control.pagesMax ?? Number.POSITIVE_INFINITY) : Number.POSITIVE_INFINITY;
  let written = 0;
  let drained = false;
  for (let from = control.from; from < to && left > 0; ) {
    const { found, next } = yield* call(lookupTag(core, inode, from, to, tags, LOOKUP));
    const run = new WriteRun(core, inode);
    for (const { index, head } of found) {
      if (left === 0 || !(yield* call(writeOne(core, inode, index, head, sync)))) continue;
      run.add(index, head);
      written++;
      left--;
    }
    run.submit();
    if (found.length > 0 && !drained) yield* call(folioBatchRelease(core));
    drained ||= found.length > 0;
    const held = found.map(({ head }) => ({ head, references: 1 }));
    yield* call(releasePages(core, held));
    from = next;
  }
  return written;
}

/** Consecutive pages that go to the device together (mpage_da_data, io_submit). */
class WriteRun {
  private readonly core: CoreMm;
  private readonly inode: Inode;
  private index = 0;
  private pfns: number[] = [];

  constructor(core: CoreMm, inode: Inode) {
    this.core = core;
    this.inode = inode;
  }

  add(index: number, pfn: number): void {
    if (index !== this.index + this.pfns.length) this.submit();
    if (this.pfns.length === 0) this.index = index;
    this.pfns.push(pfn);
  }

  submit(): void {
    if (this.pfns.length === 0) return;
    submitBio(this.core, { inode: this.inode, index: this.index, pfns: this.pfns });
    this.pfns = [];
  }
}

/** One page: true when it is under writeback now and wants its IO. */
function* writeOne(core: CoreMm, inode: Inode, index: number, head: number, sync: 'all' | 'none'): Steps<boolean> {
  const { folios } = core;
  folios.mapping.willRead(head, LOCK);
  yield lockFolio(core, head, LOCK);
  const flags = folios.flags.get(head);
  const skip =
    // Truncated or invalidated meanwhile; written by somebody else meanwhile.
    folios.mapping.get(head) !== inode.id ||
    (flags & PG_DIRTY) === 0 ||
    (sync === 'none' && (flags & PG_WRITEBACK) !== 0);
  if (skip) {
    unlockNow(core, head);
    return false;
  }
  if ((flags & PG_WRITEBACK) !== 0) yield waitWriteback(core, head, WAIT);
  if (inode.fs === 'ext4' && (flags & PG_PRIVATE) === 0) {
    yield* call(dropWithoutBuffers(core, inode, index, head));
    return false;
  }
  return yield* call(cleanAndStart(core, inode, index, head));
}

/** From a locked dirty folio to one under writeback and unlocked; false when there is nothing to write. */
function* cleanAndStart(core: CoreMm, inode: Inode, index: number, head: number): Steps<boolean> {
  if (yield* call(folioClearDirtyForIo(core, head))) return yield* call(startAndUnlock(core, inode, index, head));
  yield willUnlock(core, head, SKIP);
  unlockNow(core, head);
  return false;
}

function* startAndUnlock(core: CoreMm, inode: Inode, index: number, head: number, flags = 0): Steps<boolean> {
  inode.sizePages.willRead(START);
  inode.allocated.willRead(index, START);
  yield willUnlock(core, head, START);
  // Beyond the end there is nothing to write; iomap finds a hole where nobody reserved blocks, and writes nothing.
  const writes = index < inode.sizePages.value && (inode.fs === 'ext4' || inode.allocated.get(index) === 1);
  if (writes) core.folios.change(head, PG_WRITEBACK | flags);
  unlockNow(core, head);
  return writes;
}

/** ext4_writepages on a dirty page without buffers (cc5095747edf). Page tables keep their dirty bits. */
function* dropWithoutBuffers(core: CoreMm, inode: Inode, index: number, head: number): Steps<void> {
  const fatal = core.kernel.way('writeback.ext4-dirty-without-buffers') === 'bug';
  if (core.sim.hears(DIRTY_WITHOUT_BUFFERS)) {
    core.sim.emit(DIRTY_WITHOUT_BUFFERS, { inode, index, pfn: head, fatal });
  }
  // BUG_ON: the thread dies with the folio locked, and whoever needs it waits for ever.
  if (fatal) yield until(core.sim, [], () => false, BUG, { name: 'kernel BUG at fs/ext4/inode.c' });
  yield willUnlock(core, head, NO_BUFFERS);
  core.folios.change(head, 0, PG_DIRTY);
  unlockNow(core, head);
}

/** __filemap_fdatawait_range: wait until no page of [from, to) that is under writeback now still is. */
export function* filemapFdatawait(core: CoreMm, inode: Inode, from: number, to: number): Steps<void> {
  let drained = false;
  for (let at = from; at < to; ) {
    const { found, next } = yield* call(lookupTag(core, inode, at, to, PG_WRITEBACK, WAIT_TAG));
    for (const { head } of found) yield waitWriteback(core, head, WAIT_PAGE);
    if (found.length > 0 && !drained) yield* call(folioBatchRelease(core));
    drained ||= found.length > 0;
    const held = found.map(({ head }) => ({ head, references: 1 }));
    yield* call(releasePages(core, held));
    at = next;
  }
}

/**
 * writepage for reclaim, of a locked folio that nobody else holds: true when it is on its way (or dropped) and unlocked;
 * false when the filesystem writes no single pages, or the folio turned out clean: still locked.
 */
export function* pageoutFile(core: CoreMm, inode: Inode, head: number): Steps<boolean> {
  if (inode.fs !== 'ext4' || !core.kernel.has('writeback.ext4-writepage')) return false;
  const { folios } = core;
  // The folio lock holds its place in the file.
  const index = folios.index.peek(head);
  if (!(yield* call(folioClearDirtyForIo(core, head)))) return false;
  if (!folios.has(head, PG_PRIVATE)) {
    yield* call(dropWithoutBuffers(core, inode, index, head));
    return true;
  }
  if (yield* call(startAndUnlock(core, inode, index, head, PG_RECLAIM)))
    submitBio(core, { inode, index, pfns: [head] });
  return true;
}
