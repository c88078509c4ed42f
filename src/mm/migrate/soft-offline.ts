// soft_offline_page and the madvise entries (mm/memory-failure.c, mm/madvise.c madvise_inject_error): a page that shows
// corrected errors is given up after its contents have moved. A pinned page cannot move, and stays in use.
import type { Cell } from '../../engine/cell.ts';
import { call, type Steps } from '../../engine/process.ts';
import { step } from '../../engine/step.ts';
import type { CoreMm } from '../core.ts';
import type { Errno } from '../errno.ts';
import { lockFolio, unlockNow, waitWriteback, willUnlock } from '../folio-lock.ts';
import { getUserPagesFast } from '../gup/gup-fast.ts';
import { availableHugePages } from '../hugetlb/hugetlb-reserve.ts';
import { PG_HUGETLB, PG_HWPOISON, PG_LRU, PG_SWAPCACHE, PG_WRITEBACK } from '../page-flags.ts';
import { folioIsolateLru, lruAddDrainAll } from '../reclaim/lru.ts';
import { mappingEvictFolio } from '../reclaim/remove-mapping.ts';
import { folioPut, putNow, willPut } from '../refcount.ts';
import { splitFolio } from '../thp/split-folio.ts';
import { memoryFailure } from './memory-failure.ts';
import { isolateHugetlb, migratePages, putbackMovablePages } from './migrate.ts';

const MUTEX = step('soft_offline_page:mf_mutex', 'lock');
const MUTEX_UNLOCK = step('soft_offline_page:mf_mutex-unlock', 'lock');
const POISONED = step('soft_offline_page:PageHWPoison', 'op');
const LOCK = step('soft_offline_in_use_page:folio_lock', 'lock');
const WRITEBACK = step('soft_offline_in_use_page:wait', 'disk-write');
const UNLOCK = step('soft_offline_in_use_page:folio_unlock', 'lock');
const POISON = step('page_handle_poison', 'op');

/** soft_offline_page of a frame of which the caller has a reference, which is given back. EBUSY: it stays in use. */
export function* softOfflinePage(core: CoreMm, pfn: number): Steps<'ok' | Errno> {
  yield core.memoryFailureMutex.lock(MUTEX);
  const head = core.folios.headOf(pfn);
  yield core.folios.flags.willRead(head, POISONED);
  let result: 'ok' | Errno = 'ok';
  if ((core.folios.flags.get(head) & PG_HWPOISON) !== 0) yield* call(folioPut(core, head, 1, 'soft_offline_page'));
  else result = yield* call(softOfflineInUse(core, pfn));
  yield core.memoryFailureMutex.unlock(MUTEX_UNLOCK);
  return result;
}

function* softOfflineInUse(core: CoreMm, pfn: number): Steps<'ok' | Errno> {
  const { folios } = core;
  let head = folios.headOf(pfn);
  // get_hwpoison_page: what waits in a batch cannot be handled; shake_page drains them.
  if (!folios.has(head, PG_LRU | PG_HUGETLB)) yield* call(lruAddDrainAll(core));
  const huge = folios.has(head, PG_HUGETLB);
  if (!huge && folios.isLarge(head)) {
    yield lockFolio(core, head, LOCK);
    const split = yield* call(splitFolio(core, head, { keep: pfn }));
    const locked = split === 'ok' ? pfn : head;
    yield willUnlock(core, locked, UNLOCK);
    unlockNow(core, locked);
    if (split !== 'ok') {
      yield* call(folioPut(core, head, 1, 'soft_offline_in_use_page'));
      return 'EBUSY';
    }
    head = pfn;
  }
  yield lockFolio(core, head, LOCK);
  const flags = folios.flags.get(head);
  if (!huge && (flags & PG_WRITEBACK) !== 0) yield waitWriteback(core, head, WRITEBACK);
  if ((flags & PG_HWPOISON) !== 0) {
    yield willPut(core, head, UNLOCK);
    unlockNow(core, head);
    putNow(core, head, 1, 'soft_offline_in_use_page');
    return 'ok';
  }
  // A clean page of a file that nobody maps is simply dropped.
  const inode = core.rmapInode(head);
  const droppable = !huge && inode !== undefined && folios.has(head, PG_LRU) && !folios.has(head, PG_SWAPCACHE);
  const evicted = droppable && (yield* call(mappingEvictFolio(core, inode, head))) === 'evicted';
  yield willUnlock(core, head, UNLOCK);
  unlockNow(core, head);
  if (evicted) {
    yield* call(handlePoison(core, head));
    return 'ok';
  }
  return yield* call(moveAway(core, head, huge));
}

function* moveAway(core: CoreMm, head: number, huge: boolean): Steps<'ok' | Errno> {
  // Where the old page goes once nobody has it.
  const pool = huge ? core.hugePool.get(core.folios.orderOf(head)) : undefined;
  const isolated = yield* call(huge ? isolateHugetlb(core, head) : folioIsolateLru(core, head));
  yield* call(folioPut(core, head, 1, 'soft_offline_in_use_page'));
  if (!isolated) return 'EBUSY';
  const { failed, errno } = yield* call(
    migratePages(core, [head], { mode: 'sync', reason: 'memory-failure', target: { movable: true, zero: false } }),
  );
  if (failed.length > 0) {
    yield* call(putbackMovablePages(core, failed));
    return errno ?? 'EBUSY';
  }
  if (pool !== undefined) return (yield* call(dissolvePoisoned(core, head, pool))) ? 'ok' : 'EBUSY';
  yield* call(handlePoison(core, head));
  return 'ok';
}

/** page_handle_poison: marked, and never given to the allocator: the last reference stays. */
function* handlePoison(core: CoreMm, head: number): Steps<void> {
  yield core.folios.flags.willUpdate(head, POISON);
  core.folios.change(head, PG_HWPOISON);
}

/**
 * page_handle_poison of a huge page that has moved: dissolve_free_hugetlb_folio makes its pool one page smaller. If a page
 * beside the pool took its place, it has been freed already (take_page_off_buddy). False: the pool would have fewer pages
 * than it promised, or the page is in use again; it is not marked.
 */
function* dissolvePoisoned(core: CoreMm, head: number, pool: Cell<readonly number[]>): Steps<boolean> {
  const { freeBlocks } = core.local;
  const order = core.folios.orderOf(head);
  freeBlocks.willUpdate(POISON);
  pool.willUpdate(POISON);
  yield core.folios.flags.willUpdate(head, POISON);
  if (pool.value.includes(head)) {
    if (availableHugePages(core, order) <= 0) return false;
    pool.value = pool.value.filter((other) => other !== head);
  } else if (freeBlocks.value.includes(head)) {
    freeBlocks.value = freeBlocks.value.filter((other) => other !== head);
  } else {
    // Somebody has taken it meanwhile: it is not broken, and may be used.
    return false;
  }
  core.folios.change(head, PG_HWPOISON);
  return true;
}

/** madvise_inject_error of the running thread's pages. EFAULT: nothing there. */
export function* injectError(
  core: CoreMm,
  vpn: number,
  pages: number,
  how: 'hwpoison' | 'soft-offline',
): Steps<'ok' | Errno> {
  for (let at = vpn; at < vpn + pages; ) {
    const got = yield* call(getUserPagesFast(core, at, 1, { owner: `madvise ${how}`, write: false }));
    const run = got.runs[0];
    if (run === undefined) return got.errno ?? 'EFAULT';
    const size = core.folios.pagesOf(core.folios.headOf(run.pfn));
    const result =
      how === 'soft-offline'
        ? yield* call(softOfflinePage(core, run.pfn))
        : yield* call(
            memoryFailure(core, run.pfn, { actionRequired: core.kernel.has('hwpoison.madvise-signals-at-once') }),
          );
    if (result !== 'ok') return result;
    at += size;
  }
  return 'ok';
}
