// The end of a file (fs/namei.c do_unlinkat, fs/inode.c iput_final, evict): its pages stay as long as it has a name, an open
// descriptor or a mapping; then they leave the page cache, and only pins keep frames. A pin is no user of the file.
import { call, type Steps } from '../../engine/process.ts';
import { step } from '../../engine/step.ts';
import type { CoreMm } from '../core.ts';
import type { Errno } from '../errno.ts';
import type { Inode } from './inode.ts';
import { truncateInodePages } from './truncate.ts';

const UNLINK = step('vfs_unlink', 'op');
const CLOSE = step('__fput', 'op');
const EVICT = step('evict', 'op');

/** unlink(2) of the only name. ENOENT: it has none (any more); EROFS. Waits while the filesystem is frozen. */
export function* unlink(core: CoreMm, inode: Inode): Steps<'ok' | Errno> {
  const { superBlock } = inode;
  if (superBlock !== null) yield* call(superBlock.startWrite('write'));
  if (superBlock !== null) superBlock.readOnly.willRead(UNLINK);
  inode.mms.willRead(UNLINK);
  inode.opened.willRead(UNLINK);
  yield inode.linked.willUpdate(UNLINK);
  const found = inode.linked.value;
  const writable = superBlock?.readOnly.value !== true;
  if (found && writable) inode.linked.value = false;
  const last = unused(inode);
  if (superBlock !== null) {
    yield superBlock.endWrite('write');
    superBlock.endWriteNow('write');
  }
  if (!found) return 'ENOENT';
  if (!writable) return 'EROFS';
  if (last) yield* call(evict(core, inode));
  return 'ok';
}

/** close(2) of the descriptor. EBADF: closed before. */
export function* closeInode(core: CoreMm, inode: Inode): Steps<'ok' | Errno> {
  inode.mms.willRead(CLOSE);
  inode.linked.willRead(CLOSE);
  yield inode.opened.willUpdate(CLOSE);
  if (!inode.opened.value) return 'EBADF';
  inode.opened.value = false;
  yield* call(iput(core, inode));
  return 'ok';
}

/** iput: somebody stopped using it. Looks in the act that ended the use. */
export function* iput(core: CoreMm, inode: Inode): Steps<void> {
  if (unused(inode)) yield* call(evict(core, inode));
}

/** Whoever ends one of the three kinds of use announces the other two, or is the last of its kind. */
function unused(inode: Inode): boolean {
  return !inode.linked.peek() && !inode.opened.peek() && inode.mms.peek().length === 0;
}

function* evict(core: CoreMm, inode: Inode): Steps<void> {
  yield inode.sizePages.willUpdate(EVICT);
  inode.sizePages.value = 0;
  yield* call(truncateInodePages(core, inode, 0, Number.POSITIVE_INFINITY));
}
