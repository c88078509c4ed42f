// O_DIRECT reads and writes (fs/ext4/file.c, fs/iomap/direct-io.c): locks, what becomes of the page cache of the range (it
// is written and dropped first, pinned or not), and waiting. Offsets and lengths are whole pages; the bios are in dio-bio.ts.
import { call, type Steps } from '../../engine/process.ts';
import { type Announced, step } from '../../engine/step.ts';
import { until } from '../../engine/wait.ts';
import type { CoreMm } from '../core.ts';
import type { Errno } from '../errno.ts';
import { cpuAccess } from '../fault/access.ts';
import { invalidateInodePages2 } from '../reclaim/drop-caches.ts';
import { writeAndWait } from '../writeback/msync.ts';
import { DirectIo, grabBuffer, setPagesDirty, submit } from './dio-bio.ts';
import { pread, writePage } from './file-io.ts';
import type { Inode } from './inode.ts';

const END = step('__iomap_dio_rw:end', 'none');
const CHECKS = step('iomap_dio_rw:checks', 'op');
const OVERWRITE = step('ext4_overwrite_io', 'op');
const BLOCKS = step('ext4_iomap_begin', 'op');
const DIO_WAIT = step('inode_dio_wait', 'none');
const GROW = step('ext4_handle_inode_extension', 'op');

/** inode_dio_wait: truncation waits here, with i_rwsem held, until no direct IO of the file is under way. */
export function inodeDioWait(inode: Inode): Announced {
  return until(inode.sim, [inode.dioCount], () => inode.dioCount.peek() === 0, DIO_WAIT, {
    name: `direct IO of ${inode.name}`,
  });
}

/** read(2) of an O_DIRECT file into pages from `vpn` on. EINVAL: no O_DIRECT here; EFAULT: the buffer. */
export function* directRead(
  core: CoreMm,
  inode: Inode,
  index: number,
  vpn: number,
  pages: number,
): Steps<'ok' | Errno> {
  const buffered = buffersDirect(core, inode);
  if (buffered === 'EINVAL') return buffered;
  if (buffered) return yield* call(bufferedRead(core, inode, index, vpn, pages));
  yield* call(inode.rwsem.read());
  const request = yield* call(startRead(core, inode, index, vpn, pages));
  const result = typeof request === 'string' ? request : yield* call(finished(request));
  yield inode.rwsem.up();
  return result;
}

/** write(2) of an O_DIRECT file from pages at `vpn`. EROFS, EINVAL, EFAULT; EIO: the device refused a block. */
export function* directWrite(
  core: CoreMm,
  inode: Inode,
  index: number,
  vpn: number,
  pages: number,
): Steps<'ok' | Errno> {
  const buffered = buffersDirect(core, inode);
  if (buffered === 'EINVAL') return buffered;
  if (buffered) return yield* call(bufferedWrite(core, inode, index, vpn, pages));
  const { superBlock } = inode;
  if (superBlock !== null) yield* call(superBlock.startWrite('write'));
  const result = yield* call(lockedWrite(core, inode, index, vpn, pages));
  if (superBlock !== null) {
    yield superBlock.endWrite('write');
    superBlock.endWriteNow('write');
  }
  return result;
}

/** io_submit or io_uring: as directRead, but returns as soon as the IO is under way. */
export function* submitDirectRead(
  core: CoreMm,
  inode: Inode,
  index: number,
  vpn: number,
  pages: number,
): Steps<DirectIo | Errno> {
  if (buffersDirect(core, inode) !== false) return 'EINVAL';
  yield* call(inode.rwsem.read());
  const request = yield* call(startRead(core, inode, index, vpn, pages));
  yield inode.rwsem.up();
  return request;
}

/** Does O_DIRECT of this file go through the page cache (tmpfs since 6.6, DAX), or fail (EINVAL)? */
function buffersDirect(core: CoreMm, inode: Inode): boolean | 'EINVAL' {
  if (inode.kind === 'file') return false;
  if (inode.kind === 'fsdax') return true;
  return inode.kind === 'shmem' && core.kernel.has('tmpfs.direct-io') ? true : 'EINVAL';
}

function* bufferedRead(core: CoreMm, inode: Inode, index: number, vpn: number, pages: number): Steps<'ok' | Errno> {
  for (let i = 0; i < pages; i++) {
    const read = yield* call(pread(core, inode, index + i, vpn + i));
    if ('errno' in read) return read.errno;
    if (read.token === null) break;
  }
  return 'ok';
}

function* bufferedWrite(core: CoreMm, inode: Inode, index: number, vpn: number, pages: number): Steps<'ok' | Errno> {
  for (let i = 0; i < pages; i++) {
    const from = yield* call(cpuAccess(core, vpn + i, null));
    if ('signal' in from) return 'EFAULT';
    const result = yield* call(writePage(core, inode, index + i, from.token));
    if (result !== 'ok') return result;
  }
  return 'ok';
}

function* finished(request: DirectIo): Steps<'ok' | Errno> {
  yield request.wait();
  const result = request.result.value;
  if (result === 'pending') throw new Error(`${request.result.name} resumed while pending`);
  return result;
}

/** iomap_dio_rw of a read, up to submission. The caller holds i_rwsem. */
function* startRead(core: CoreMm, inode: Inode, index: number, vpn: number, pages: number): Steps<DirectIo | Errno> {
  yield inode.sizePages.willRead(CHECKS);
  const length = Math.min(pages, inode.sizePages.value - index);
  if (length <= 0) {
    // At the end there is nothing to read, and nothing to wait for.
    const nothing = new DirectIo(core, inode, index, 0, false);
    yield nothing.result.willWrite(END);
    nothing.result.value = 'ok';
    return nothing;
  }
  yield* call(writeAndWait(core, inode, index, index + length));
  const held = yield* call(grabBuffer(core, vpn, length, true));
  if (typeof held === 'string') return held;
  yield* call(setPagesDirty(core, held));
  return yield* call(submit(core, inode, index, held, false));
}

/** ext4_dio_write_checks: shared where it overwrites allotted blocks, exclusive where it allots or grows the file. */
function* lockForWrite(inode: Inode, index: number, pages: number): Steps<void> {
  yield* call(inode.rwsem.read());
  inode.allocated.willReadRange(index, index + pages - 1, OVERWRITE);
  yield inode.sizePages.willRead(OVERWRITE);
  let overwrites = index + pages <= inode.sizePages.value;
  for (let i = 0; i < pages && overwrites; i++) overwrites = inode.allocated.get(index + i) === 1;
  if (overwrites) return;
  yield inode.rwsem.up();
  yield* call(inode.rwsem.write());
}

/** ext4_dio_write_iter */
function* lockedWrite(core: CoreMm, inode: Inode, index: number, vpn: number, pages: number): Steps<'ok' | Errno> {
  yield* call(lockForWrite(inode, index, pages));
  if (inode.superBlock !== null) inode.superBlock.readOnly.willRead(CHECKS);
  yield inode.sizePages.willRead(CHECKS);
  const end = inode.sizePages.value;
  let result: 'ok' | Errno;
  if (inode.superBlock?.readOnly.value === true) result = 'EROFS';
  else result = yield* call(writeDirect(core, inode, index, vpn, pages));
  if (result === 'ok' && index + pages > end) {
    yield inode.sizePages.willUpdate(GROW);
    inode.sizePages.value = Math.max(inode.sizePages.value, index + pages);
  }
  yield inode.rwsem.up();
  // iomap_dio_rw gave -ENOTBLK: through the page cache instead, and out to the disk at once.
  if (result !== 'EBUSY') return result;
  result = yield* call(bufferedWrite(core, inode, index, vpn, pages));
  if (result === 'ok') yield* call(writeAndWait(core, inode, index, index + pages));
  return result;
}

/** iomap_dio_rw of a write. EBUSY: a page of the range would not leave the page cache. */
function* writeDirect(core: CoreMm, inode: Inode, index: number, vpn: number, pages: number): Steps<'ok' | Errno> {
  const end = index + pages;
  yield* call(writeAndWait(core, inode, index, end));
  if ((yield* call(invalidateInodePages2(core, inode, index, end))) !== 'ok') return 'EBUSY';
  inode.allocated.willUpdateRange(index, end - 1, BLOCKS);
  yield core.sim.local(BLOCKS);
  inode.allocated.fill(index, end - 1, 1);
  const held = yield* call(grabBuffer(core, vpn, pages, false));
  if (typeof held === 'string') return held;
  return yield* call(finished(yield* call(submit(core, inode, index, held, true))));
}
