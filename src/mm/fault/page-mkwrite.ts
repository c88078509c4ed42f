// What a filesystem does before a page of a shared mapping may be written (fs/ext4/inode.c ext4_page_mkwrite, fs/buffer.c
// block_page_mkwrite, mm/memory.c do_page_mkwrite), and the dirtying after it: f1 and f3 of a shared write fault. A frozen
// filesystem holds the fault up, with mmap_lock held. Journalling and quota are left out.
import { call, type Steps } from '../../engine/process.ts';
import { step } from '../../engine/step.ts';
import type { CoreMm } from '../core.ts';
import type { Inode } from '../file/inode.ts';
import { lockFolio, unlockNow, waitWriteback } from '../folio-lock.ts';
import { PG_PRIVATE } from '../page-flags.ts';
import { getNow, willGet } from '../refcount.ts';
import { markDirtyNow, willMarkDirty } from '../writeback/mark-dirty.ts';
import { dropMmapLock, type Fault, type FaultResult, mayDropLock } from './fault-context.ts';

const INVALIDATE_LOCK = step('filemap_invalidate_lock_shared', 'lock');
const INVALIDATE_UNLOCK = step('filemap_invalidate_unlock_shared', 'lock');
const LOCK = step('page_mkwrite:folio_lock', 'lock');
const RESERVE = step('page_mkwrite:reserve-blocks', 'op');
const STABLE = step('page_mkwrite:folio_wait_stable', 'disk-write');
const DIRTY = step('fault_dirty_shared_page', 'op');

/** vm_ops->page_mkwrite: does the filesystem want to know of the first write to a clean page? */
export function hasPageMkwrite(inode: Inode | null): boolean {
  return inode?.kind === 'file';
}

/**
 * do_page_mkwrite of the page at `index`. True: the folio is locked, its blocks are reserved and its buffers attached.
 * False: it was truncated meanwhile, the fault starts over.
 */
export function* doPageMkwrite(core: CoreMm, inode: Inode, index: number, head: number): Steps<boolean> {
  const { superBlock } = inode;
  if (superBlock !== null) yield* call(superBlock.startWrite('pagefault'));
  yield* call(inode.invalidateLock.read(INVALIDATE_LOCK));
  const locked = yield* call(lockMapped(core, inode, index, head));
  if (locked) {
    yield* call(reserve(core, inode, index, head));
    // Stable pages: the device checksums what it writes, so that a CPU's write must wait for it.
    if (inode.stablePages) yield waitWriteback(core, head, STABLE);
  }
  yield inode.invalidateLock.up(INVALIDATE_UNLOCK);
  if (superBlock !== null) {
    yield superBlock.endWrite('pagefault');
    superBlock.endWriteNow('pagefault');
  }
  return locked;
}

function* lockMapped(core: CoreMm, inode: Inode, index: number, head: number): Steps<boolean> {
  inode.sizePages.willRead(LOCK);
  core.folios.mapping.willRead(head, LOCK);
  yield lockFolio(core, head, LOCK);
  if (core.folios.mapping.get(head) === inode.id && index < inode.sizePages.value) return true;
  unlockNow(core, head);
  return false;
}

/** create_empty_buffers, block allocation or reservation, block_commit_write: under the folio lock. */
function* reserve(core: CoreMm, inode: Inode, index: number, head: number): Steps<void> {
  const { folios } = core;
  inode.allocated.willUpdate(index, RESERVE);
  willGet(core, head, RESERVE);
  yield willMarkDirty(core, head, RESERVE);
  inode.allocated.set(index, 1);
  if ((folios.flags.get(head) & PG_PRIVATE) === 0) {
    getNow(core, head, 1);
    folios.change(head, PG_PRIVATE);
  }
  markDirtyNow(core, head);
}

/**
 * fault_dirty_shared_page: mark dirty, unlock, and let the writer be throttled without mmap_lock where that may be
 * dropped (`completed`). The folio is locked.
 */
export function* faultDirtySharedPage(core: CoreMm, fault: Fault, inode: Inode, head: number): Steps<FaultResult> {
  const { folios } = core;
  folios.mapping.willRead(head, DIRTY);
  yield willMarkDirty(core, head, DIRTY);
  const dirtied = markDirtyNow(core, head);
  const mapped = folios.mapping.get(head) !== 0;
  unlockNow(core, head);
  if (!(dirtied || hasPageMkwrite(inode)) || !mapped || !mayDropLock(fault)) return 'ok';
  // balance_dirty_pages_ratelimited: throttling itself takes no step.
  yield* call(dropMmapLock(fault));
  return 'completed';
}
