// read(2), write(2), pread and pwrite through the page cache (mm/filemap.c filemap_read, generic_perform_write, fs/ext4,
// mm/shmem.c), one page at a time. They reach the same frames as mappings and pins. Partial pages, readahead of
// sequential reads and throttling of dirtiers (balance_dirty_pages) are left out.
import { call, type Steps } from '../../engine/process.ts';
import { step } from '../../engine/step.ts';
import { FRAME_ACCESS } from '../../hw/frames.ts';
import { allocFolio } from '../alloc/page-alloc.ts';
import type { CoreMm } from '../core.ts';
import type { Errno } from '../errno.ts';
import { cpuAccess } from '../fault/access.ts';
import { daxBlock } from '../fault/fault-pfn.ts';
import { lockFolio, unlockNow, waitUnlocked, waitWriteback, willUnlock } from '../folio-lock.ts';
import { PAGE_DIRTIED } from '../ledger.ts';
import { PG_LOCKED, PG_PRIVATE, PG_UPTODATE } from '../page-flags.ts';
import { folioAddLru } from '../reclaim/lru.ts';
import { folioPut, getNow, willGet } from '../refcount.ts';
import { markDirtyNow, willMarkDirty } from '../writeback/mark-dirty.ts';
import type { Inode } from './inode.ts';
import { filemapAddFolio, filemapGetFolio, readFolio } from './page-cache.ts';
import { shmemGetFolio } from './shmem.ts';

const SIZE = step('filemap_read:i_size', 'op');
const WAIT_READ = step('filemap_update_page:folio_lock', 'none');
const LOCK_READ = step('filemap_update_page:read', 'lock');
const COPY_OUT = step('copy_folio_to_iter', 'copy-page');
const CHECKS = step('generic_write_checks', 'op');
const GROW = step('i_size_write', 'op');
const LOCK = step('write_begin:folio_lock', 'lock');
const STABLE = step('write_begin:folio_wait_stable', 'none');
const BUFFERS = step('write_begin:create_empty_buffers', 'op');
const COPY_IN = step('copy_folio_from_iter_atomic', 'copy-page');
const COMMIT = step('write_end:block_commit_write', 'op');
const DAX = step('dax_iomap_iter', 'copy-page');

/** The content of a page; null at or beyond the end of the file, where there is nothing to read. */
export type ReadResult = { readonly token: number | null } | { readonly errno: Errno };

/** read(2) of page `index`: its content, `zero` for a hole. ENOMEM. */
export function* readPage(core: CoreMm, inode: Inode, index: number): Steps<ReadResult> {
  if (inode.kind === 'secret') return { errno: 'EINVAL' };
  yield inode.sizePages.willRead(SIZE);
  if (index >= inode.sizePages.value) return { token: null };
  if (inode.kind === 'fsdax') return yield* call(daxRead(core, inode, index));
  const head = yield* call(uptodateFolio(core, inode, index));
  if (typeof head === 'string') return head === 'hole' ? { token: 0 } : { errno: head };
  const token = yield* call(copyOut(core, inode, index, head));
  yield* call(folioPut(core, head, 1, 'filemap_read'));
  return { token };
}

/** pread(2) of one page into page `vpn` of the running thread. EFAULT: the buffer cannot be written. */
export function* pread(core: CoreMm, inode: Inode, index: number, vpn: number): Steps<ReadResult> {
  const read = yield* call(readPage(core, inode, index));
  if ('errno' in read || read.token === null) return read;
  const copied = yield* call(cpuAccess(core, vpn, { token: read.token }));
  return 'signal' in copied ? { errno: 'EFAULT' } : read;
}

/** The page at `index`, read, with a reference. Reads do not lock what is up to date. */
function* uptodateFolio(core: CoreMm, inode: Inode, index: number): Steps<number | 'hole' | Errno> {
  const { folios } = core;
  for (;;) {
    const cached = yield* call(filemapGetFolio(core, inode, index));
    if (cached === undefined) {
      if (inode.kind === 'hugetlb') return 'hole';
      if (inode.kind === 'shmem') return yield* call(shmemRead(core, inode, index));
      const added = yield* call(addFolio(core, inode, index));
      if (added === 'ENOMEM') return added;
      if (added === undefined) continue;
      yield* call(readFolio(core, inode, index, added));
      return added;
    }
    if (folios.has(cached, PG_UPTODATE)) return cached;
    if (inode.kind === 'shmem') {
      // Made by fallocate, and nobody has used it (SGP_READ).
      yield* call(folioPut(core, cached, 1, 'shmem_get_folio:read'));
      return 'hole';
    }
    if (folios.has(cached, PG_LOCKED)) yield waitUnlocked(core, cached, WAIT_READ);
    folios.mapping.willRead(cached, LOCK_READ);
    yield lockFolio(core, cached, LOCK_READ);
    const ours = folios.mapping.get(cached) === inode.id;
    if (ours && (folios.flags.get(cached) & PG_UPTODATE) === 0) {
      yield* call(readFolio(core, inode, index, cached));
      return cached;
    }
    unlockNow(core, cached);
    if (ours) return cached;
    yield* call(folioPut(core, cached, 1, 'filemap_update_page:truncated'));
  }
}

/** shmem_file_read_iter: holes read as zero without a page of their own; swapped pages come back. */
function* shmemRead(core: CoreMm, inode: Inode, index: number): Steps<number | 'hole' | Errno> {
  if (inode.pages.peek(index) === 0) return 'hole';
  const got = yield* call(shmemGetFolio(core, inode, index, true));
  if (typeof got === 'string') return got === 'oom' ? 'ENOMEM' : got === 'hwpoison' ? 'EIO' : 'hole';
  yield core.folios.flags.willUpdate(got.head, LOCK_READ);
  unlockNow(core, got.head);
  return got.head;
}

/** A new page, locked, in the page cache and with our reference; undefined: somebody else was first. */
function* addFolio(core: CoreMm, inode: Inode, index: number): Steps<number | 'ENOMEM' | undefined> {
  const head = yield* call(allocFolio(core, { order: 0, movable: true, zero: false }));
  if (head === undefined) return 'ENOMEM';
  if (yield* call(filemapAddFolio(core, inode, index, head))) {
    yield* call(folioAddLru(core, head));
    return head;
  }
  yield* call(folioPut(core, head, 1, 'filemap_add_folio:exists'));
  return undefined;
}

/** The frame of page `index` within its folio. */
function frameAt(core: CoreMm, head: number, index: number): number {
  return head + (index - core.folios.index.peek(head));
}

function* copyOut(core: CoreMm, inode: Inode, index: number, head: number): Steps<number> {
  const pfn = frameAt(core, head, index);
  yield core.frames.content.willRead(pfn, COPY_OUT);
  const token = core.frames.content.get(pfn);
  report(core, inode, index, pfn, token, false);
  return token;
}

/**
 * write(2) of a whole page: `token` becomes the content of page `index`, the file grows if need be. EROFS, EPERM
 * (sealed), EINVAL (a kind of file without write), ENOMEM. Waits while the filesystem is frozen.
 */
export function* writePage(core: CoreMm, inode: Inode, index: number, token: number): Steps<'ok' | Errno> {
  if (inode.kind === 'hugetlb' || inode.kind === 'secret') return 'EINVAL';
  const { superBlock } = inode;
  if (superBlock !== null) yield* call(superBlock.startWrite('write'));
  yield* call(inode.rwsem.write());
  const result = yield* call(writeLocked(core, inode, index, token));
  yield inode.rwsem.up();
  if (superBlock !== null) {
    yield superBlock.endWrite('write');
    superBlock.endWriteNow('write');
  }
  return result;
}

function* writeLocked(core: CoreMm, inode: Inode, index: number, token: number): Steps<'ok' | Errno> {
  if (inode.superBlock !== null) inode.superBlock.readOnly.willRead(CHECKS);
  if (inode.kind === 'shmem') inode.sizePages.willRead(CHECKS);
  yield inode.seals.willRead(CHECKS);
  if (inode.superBlock?.readOnly.value === true) return 'EROFS';
  if (inode.sealed('write', 'future_write')) return 'EPERM';
  if (inode.sealed('grow') && index >= inode.sizePages.value) return 'EPERM';
  if (inode.kind === 'fsdax') return yield* call(daxWrite(core, inode, index, token));
  // shmem allots beyond the end and then grows; here it grows first, which only i_rwsem keeps apart.
  if (inode.kind === 'shmem') yield* call(grow(inode, index));
  const head = yield* call(writeBegin(core, inode, index));
  if (typeof head === 'string') return head;
  const pfn = frameAt(core, head, index);
  yield core.frames.content.willWrite(pfn, COPY_IN);
  core.frames.content.set(pfn, token);
  report(core, inode, index, pfn, token, true);
  yield* call(writeEnd(core, inode, index, head));
  return 'ok';
}

/** i_size_write, under i_rwsem. */
function* grow(inode: Inode, index: number): Steps<void> {
  yield inode.sizePages.willUpdate(GROW);
  if (index >= inode.sizePages.value) inode.sizePages.value = index + 1;
}

/** write_begin: the page, locked and with a reference; blocks reserved and buffers attached (ext4). */
function* writeBegin(core: CoreMm, inode: Inode, index: number): Steps<number | Errno> {
  if (inode.kind === 'shmem') {
    const got = yield* call(shmemGetFolio(core, inode, index, true, true));
    if (typeof got !== 'string') return got.head;
    return got === 'hwpoison' ? 'EIO' : got === 'oom' ? 'ENOMEM' : 'EFBIG';
  }
  const head = yield* call(lockForWrite(core, inode, index));
  if (typeof head === 'string') return head;
  if (inode.stablePages) yield waitWriteback(core, head, STABLE);
  const { folios } = core;
  inode.allocated.willUpdate(index, BUFFERS);
  willGet(core, head, BUFFERS);
  yield folios.flags.willUpdate(head, BUFFERS);
  inode.allocated.set(index, 1);
  if (!folios.has(head, PG_PRIVATE)) {
    getNow(core, head, 1);
    folios.change(head, PG_PRIVATE);
  }
  return head;
}

/** __filemap_get_folio(FGP_WRITEBEGIN): found or made; a page written whole needs no read. */
function* lockForWrite(core: CoreMm, inode: Inode, index: number): Steps<number | Errno> {
  const { folios } = core;
  for (;;) {
    const cached = yield* call(filemapGetFolio(core, inode, index));
    if (cached === undefined) {
      const added = yield* call(addFolio(core, inode, index));
      if (added !== undefined) return added;
      continue;
    }
    folios.mapping.willRead(cached, LOCK);
    yield lockFolio(core, cached, LOCK);
    if (folios.mapping.get(cached) === inode.id) return cached;
    unlockNow(core, cached);
    yield* call(folioPut(core, cached, 1, '__filemap_get_folio:truncated'));
  }
}

/**
 * block_commit_write, shmem_write_end: up to date, dirty, unlocked. The file grows before the unlock: writeback would leave
 * out what lies beyond its end.
 */
function* writeEnd(core: CoreMm, inode: Inode, index: number, head: number): Steps<void> {
  yield willMarkDirty(core, head, COMMIT);
  core.folios.change(head, PG_UPTODATE);
  markDirtyNow(core, head);
  if (inode.kind !== 'shmem') {
    willUnlock(core, head, GROW);
    yield* call(grow(inode, index));
  }
  unlockNow(core, head);
  yield* call(folioPut(core, head, 1, 'write_end'));
}

function* daxRead(core: CoreMm, inode: Inode, index: number): Steps<ReadResult> {
  const pfn = yield* call(daxBlock(core, inode, index));
  if (pfn === undefined) return { errno: 'ENOSPC' };
  return { token: yield* call(copyOutDax(core, inode, index, pfn)) };
}

function* copyOutDax(core: CoreMm, inode: Inode, index: number, pfn: number): Steps<number> {
  yield core.frames.content.willRead(pfn, DAX);
  const token = core.frames.content.get(pfn);
  report(core, inode, index, pfn, token, false);
  return token;
}

/** dax_iomap_rw: into the block itself. */
function* daxWrite(core: CoreMm, inode: Inode, index: number, token: number): Steps<'ok' | Errno> {
  const pfn = yield* call(daxBlock(core, inode, index));
  if (pfn === undefined) return 'ENOSPC';
  yield core.frames.content.willWrite(pfn, DAX);
  core.frames.content.set(pfn, token);
  report(core, inode, index, pfn, token, true);
  yield* call(grow(inode, index));
  return 'ok';
}

/** Tell checkers of an access through the kernel's own mapping, which is always of the frame as it is. */
function report(core: CoreMm, inode: Inode, index: number, pfn: number, token: number, write: boolean): void {
  const { sim, frames } = core;
  if (sim.hears(FRAME_ACCESS)) {
    const generation = frames.peekGeneration(pfn);
    sim.emit(FRAME_ACCESS, {
      pfn,
      write,
      madeFor: generation,
      generation,
      through: 'kernel',
      holder: inode.name,
      page: index,
      token,
    });
  }
  if (write && sim.hears(PAGE_DIRTIED)) sim.emit(PAGE_DIRTIED, { pfn, token, by: 'kernel' });
}
