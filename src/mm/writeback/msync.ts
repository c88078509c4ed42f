// msync, fsync, sync_file_range and sync (mm/msync.c, fs/sync.c, fs/ext4/fsync.c): they write what the dirty flags tell
// of. A write by a device through a pin tells nothing, so that all of them return 0 and leave it in memory.
import { call, type Steps } from '../../engine/process.ts';
import { step } from '../../engine/step.ts';
import type { CoreMm } from '../core.ts';
import type { Errno } from '../errno.ts';
import type { Inode } from '../file/inode.ts';
import { filemapFdatawait, writeCachePages } from './writeback.ts';

const RDONLY = step('ext4_sync_file:sb_rdonly', 'op');
const SIZE = step('file_write_and_wait_range', 'op');
const JOURNAL = step('ext4_fsync_journal', 'disk-write');
const CHECK_ERROR = step('file_check_and_advance_wb_err', 'op');
const FIND_VMA = step('msync:find_vma', 'op');

/**
 * vfs_fsync_range over pages [from, to). EIO: a page could not be written since the last call that said so. A read-only
 * filesystem writes nothing, whatever is dirty.
 */
export function* vfsFsyncRange(core: CoreMm, inode: Inode, from: number, to: number): Steps<'ok' | Errno> {
  // noop_fsync of shmem and hugetlb; DAX files have no page cache to write.
  if (inode.kind !== 'file') return 'ok';
  const { superBlock } = inode;
  let readOnly = false;
  if (superBlock !== null) {
    yield superBlock.readOnly.willRead(RDONLY);
    readOnly = superBlock.readOnly.value;
  }
  if (!readOnly) {
    yield* call(writeAndWait(core, inode, from, to));
    yield core.sim.local(JOURNAL);
  }
  yield inode.writeError.willUpdate(CHECK_ERROR);
  const error = inode.writeError.value;
  if (error === null) return 'ok';
  inode.writeError.value = null;
  return error;
}

/** fsync(2) of a file. */
export function* fsync(core: CoreMm, inode: Inode): Steps<'ok' | Errno> {
  return yield* call(vfsFsyncRange(core, inode, 0, Number.POSITIVE_INFINITY));
}

/** filemap_write_and_wait_range: WB_SYNC_ALL, then wait. */
export function* writeAndWait(core: CoreMm, inode: Inode, from: number, to: number): Steps<void> {
  yield inode.sizePages.willRead(SIZE);
  // Pages beyond the end may be cached for a moment, but there is nothing to write of them.
  const end = Math.min(to, inode.sizePages.value);
  if (from >= end) return;
  yield* call(writeCachePages(core, inode, { sync: 'all', from, to: end }));
  yield* call(filemapFdatawait(core, inode, from, end));
}

export interface SyncFileRangeFlags {
  /** SYNC_FILE_RANGE_WAIT_BEFORE */
  readonly waitBefore?: boolean;
  /** SYNC_FILE_RANGE_WRITE */
  readonly write?: boolean;
  /** SYNC_FILE_RANGE_WAIT_AFTER */
  readonly waitAfter?: boolean;
}

/** sync_file_range(2) over pages [from, to): neither metadata nor the journal. */
export function* syncFileRange(
  core: CoreMm,
  inode: Inode,
  from: number,
  to: number,
  flags: SyncFileRangeFlags,
): Steps<'ok' | Errno> {
  if (inode.kind !== 'file') return 'ok';
  yield inode.sizePages.willRead(SIZE);
  const end = Math.min(to, inode.sizePages.value);
  if (flags.waitBefore === true) yield* call(filemapFdatawait(core, inode, from, end));
  if (flags.write === true) {
    // With both waits it is a write for integrity; otherwise pages under writeback are passed over.
    const sync = flags.waitBefore === true && flags.waitAfter === true ? 'all' : 'none';
    yield* call(writeCachePages(core, inode, { sync, from, to: end }));
  }
  if (flags.waitAfter === true) yield* call(filemapFdatawait(core, inode, from, end));
  return 'ok';
}

export interface MsyncFlags {
  /** MS_SYNC; without it (MS_ASYNC) nothing is written. */
  readonly sync: boolean;
  /** MS_INVALIDATE: EBUSY on mlocked areas, nothing else. */
  readonly invalidate?: boolean;
}

/** msync(2) of pages [vpn, vpn + pages) of the running thread. ENOMEM: a part is not mapped (the rest is written). */
export function* msync(core: CoreMm, vpn: number, pages: number, flags: MsyncFlags): Steps<'ok' | Errno> {
  const mm = core.current.task.mm.peek();
  if (mm === null) return 'ENOMEM';
  const end = vpn + pages;
  let unmapped: 'ok' | Errno = 'ok';
  yield* call(mm.mmapLock.read());
  for (let at = vpn; at < end; ) {
    yield mm.vmas.willRead(FIND_VMA);
    const vma = mm.vmasIn(at, end)[0];
    if (vma === undefined) {
      yield mm.mmapLock.up();
      return 'ENOMEM';
    }
    if (vma.start > at) {
      // MS_ASYNC is only asked whether the range is mapped.
      if (!flags.sync && flags.invalidate !== true) {
        yield mm.mmapLock.up();
        return 'ENOMEM';
      }
      unmapped = 'ENOMEM';
      at = vma.start;
    }
    if (flags.invalidate === true && vma.fields.locked) {
      yield mm.mmapLock.up();
      return 'EBUSY';
    }
    const to = Math.min(end, vma.end);
    const { file, shared } = vma.fields;
    if (flags.sync && file !== null && shared) {
      yield mm.mmapLock.up();
      const result = yield* call(vfsFsyncRange(core, file, vma.indexOf(at), vma.indexOf(to)));
      if (result !== 'ok') return result;
      if (to === end) return unmapped;
      yield* call(mm.mmapLock.read());
    }
    at = to;
  }
  yield mm.mmapLock.up();
  return unmapped;
}

/** sync(2), and sync_filesystem: every page of every file of a filesystem that may be written. */
export function* syncAll(core: CoreMm, only: (inode: Inode) => boolean = () => true): Steps<void> {
  for (const inode of core.allInodes()) {
    if (inode.kind !== 'file' || !only(inode)) continue;
    const { superBlock } = inode;
    if (superBlock !== null) {
      yield superBlock.readOnly.willRead(RDONLY);
      if (superBlock.readOnly.value) continue;
    }
    yield* call(writeAndWait(core, inode, 0, Number.POSITIVE_INFINITY));
  }
}
