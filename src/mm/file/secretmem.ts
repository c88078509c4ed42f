// memfd_secret (mm/secretmem.c): pages that the kernel's direct map does not reach, always resident, never movable.
import { call, type Steps } from '../../engine/process.ts';
import { step } from '../../engine/step.ts';
import { allocFolio } from '../alloc/page-alloc.ts';
import type { CoreMm } from '../core.ts';
import { lockFolio, unlockNow } from '../folio-lock.ts';
import { PG_HWPOISON, PG_UNEVICTABLE, PG_UPTODATE } from '../page-flags.ts';
import { folioAddLru } from '../reclaim/lru.ts';
import { folioPut } from '../refcount.ts';
import type { Inode } from './inode.ts';
import { filemapAddFolio, filemapGetFolio } from './page-cache.ts';
import type { GotFolio } from './shmem.ts';

const INVALIDATE_LOCK = step('secretmem_fault:invalidate_lock', 'lock');
const INVALIDATE_UNLOCK = step('secretmem_fault:invalidate_unlock', 'lock');
const SIZE = step('secretmem_fault:i_size', 'op');
const LOCK = step('secretmem_fault:folio_lock', 'lock');

/** secretmem_fault */
export function* secretmemGetFolio(core: CoreMm, inode: Inode, index: number): Steps<GotFolio> {
  yield* call(inode.invalidateLock.read(INVALIDATE_LOCK));
  const got = yield* call(getFolio(core, inode, index));
  yield inode.invalidateLock.up(INVALIDATE_UNLOCK);
  return got;
}

function* getFolio(core: CoreMm, inode: Inode, index: number): Steps<GotFolio> {
  const { folios } = core;
  for (;;) {
    yield inode.sizePages.willRead(SIZE);
    if (index >= inode.sizePages.value) return 'sigbus';
    const found = yield* call(filemapGetFolio(core, inode, index));
    if (found !== undefined) {
      folios.mapping.willRead(found, LOCK);
      yield lockFolio(core, found, LOCK);
      const ours = folios.mapping.get(found) === inode.id;
      const poisoned = (folios.flags.get(found) & PG_HWPOISON) !== 0;
      if (ours && !poisoned) return { head: found };
      unlockNow(core, found);
      yield* call(folioPut(core, found, 1, 'secretmem_fault'));
      if (ours) return 'hwpoison';
      continue;
    }
    const head = yield* call(allocFolio(core, { order: 0, movable: false, zero: true }));
    if (head === undefined) return 'oom';
    if (yield* call(filemapAddFolio(core, inode, index, head, PG_UPTODATE | PG_UNEVICTABLE))) {
      yield* call(folioAddLru(core, head));
      return { head };
    }
    yield* call(folioPut(core, head, 1, 'secretmem_fault'));
  }
}
