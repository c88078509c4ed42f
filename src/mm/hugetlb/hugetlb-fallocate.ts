// Preallocation of huge pages (fs/hugetlbfs/inode.c hugetlbfs_fallocate): page after page under its fault mutex, out of
// what shared mappings of the file were promised, or what is left of the pool. i_rwsem is held.
import { call, type Steps } from '../../engine/process.ts';
import { step } from '../../engine/step.ts';
import type { CoreMm } from '../core.ts';
import type { Errno } from '../errno.ts';
import { putUnused } from '../fault/fault-context.ts';
import type { Inode } from '../file/inode.ts';
import { filemapAddFolio, filemapGetFolio, unlockFolio } from '../file/page-cache.ts';
import { Vma } from '../mapping/vma.ts';
import { PG_UPTODATE } from '../page-flags.ts';
import { folioPut } from '../refcount.ts';
import { lockFaultMutex, unlockFaultMutex } from './hugetlb-mutex.ts';
import { allocHugetlbFolio, restoreReserveOnError } from './hugetlb-reserve.ts';

const SIGNAL = step('hugetlbfs_fallocate:signal_pending', 'none');
const MUTEX = step('hugetlbfs_fallocate:fault-mutex', 'lock');
const UNMUTEX = step('hugetlbfs_fallocate:fault-mutex-unlock', 'lock');
const SIZE = step('hugetlbfs_fallocate:i_size', 'op');

/** ENOSPC: the pool has no page that nobody else was promised; those made before stay. EINTR: killed. */
export function* hugetlbfsFallocate(core: CoreMm, inode: Inode, from: number, to: number): Steps<'ok' | Errno> {
  const { killed } = core.current.task;
  const huge = 2 ** inode.hugeOrder;
  let result: 'ok' | Errno = 'ok';
  for (let index = Math.floor(from / huge) * huge; index < to; index += huge) {
    yield killed.willRead(SIGNAL);
    if (killed.value) {
      result = 'EINTR';
      break;
    }
    yield lockFaultMutex(core, inode, index, MUTEX);
    const made = yield* call(makePage(core, inode, index));
    yield unlockFaultMutex(core, inode, index, UNMUTEX);
    if (made === 'ENOSPC') return 'ENOSPC';
    if (made === 'there') continue;
    yield* call(unlockFolio(core, made));
    yield* call(folioPut(core, made, 1, 'hugetlbfs_fallocate'));
  }
  yield inode.sizePages.willUpdate(SIZE);
  if (inode.sizePages.value < to) inode.sizePages.value = to;
  return result;
}

/** The page at `index`, locked, with a reference; `there`: the file has one. */
function* makePage(core: CoreMm, inode: Inode, index: number): Steps<number | 'there' | 'ENOSPC'> {
  const cached = yield* call(filemapGetFolio(core, inode, index));
  if (cached !== undefined) {
    yield* call(folioPut(core, cached, 1, 'hugetlbfs_fallocate'));
    return 'there';
  }
  const pages = 2 ** inode.hugeOrder;
  const pseudo = new Vma({ start: 0, end: pages, name: inode.name, shared: true, file: inode });
  const gfp = { order: inode.hugeOrder, movable: true, zero: true, ...inode.policy };
  const head = yield* call(allocHugetlbFolio(core, inode, pseudo, index, gfp));
  if (head === undefined) return 'ENOSPC';
  if (yield* call(filemapAddFolio(core, inode, index, head, PG_UPTODATE))) return head;
  // Pins of a memfd make pages without the mutex around their allocation.
  yield* call(restoreReserveOnError(core, inode, pseudo, head, index));
  yield* call(putUnused(core, head));
  return 'there';
}
