// Swapping out (mm/swap_state.c add_to_swap, mm/shmem.c shmem_writepage, mm/page_io.c swap_writepage): a folio gets slots
// and joins the swap cache; later it is written, at once on zram, by an actor of its own on a disk.
import { call, type Steps } from '../../engine/process.ts';
import { type Announced, type Step, step } from '../../engine/step.ts';
import type { CoreMm } from '../core.ts';
import type { Inode } from '../file/inode.ts';
import { unlockNow, willUnlock } from '../folio-lock.ts';
import { PG_DIRTY, PG_LRU, PG_PRIVATE, PG_RECLAIM, PG_SWAPCACHE, PG_UPTODATE, PG_WRITEBACK } from '../page-flags.ts';
import { folioFreeSwap } from './swap-cache.ts';

const ADD = step('add_to_swap', 'op');
const FREEABLE = step('pageout:is_page_cache_freeable', 'refcount');
const CLEAR_DIRTY = step('pageout:folio_clear_dirty_for_io', 'op');
const SHMEM_ADD = step('shmem_writepage:add_to_swap_cache', 'op');
const SHMEM_DELETE = step('shmem_delete_from_page_cache', 'op');
const REDIRTY = step('shmem_writepage:redirty', 'op');
const UNLOCK = step('swap_writepage:folio_unlock', 'op');
const START = step('swap_writepage:folio_start_writeback', 'op');
const WRITE = step('swap_writepage:bdev-sync', 'swap-out');
const BEGIN = step('swap_writepage:device-reads', 'dma');
const WRITTEN = step('swap_writepage:device-has-read', 'disk-write');
const END = step('end_swap_bio_write', 'op');

/** The slots that an allocation would take now (folio_alloc_swap): the first of them, or undefined. */
function nextSlots(core: CoreMm, pages: number): number | undefined {
  const { swap } = core;
  const free = swap.freeSlots.peek();
  if (pages === 1 && free.length > 0) return free[free.length - 1];
  // A THP takes a whole cluster; what was freed singly is not put together again.
  const next = swap.allocator.peek();
  return next + pages <= swap.slots ? next : undefined;
}

/** folio_alloc_swap and add_to_swap_cache: one reference for each page. Undefined: no slots. Sets `flags` with it. */
function* join(core: CoreMm, head: number, flags: number, at: Step): Steps<number | undefined> {
  const { folios, swap } = core;
  const pages = folios.pagesOf(head);
  for (;;) {
    // The look tells which slots to announce; the act looks again.
    const expected = nextSlots(core, pages);
    if (expected !== undefined) swap.map.willUpdateRange(expected, expected + pages - 1, at);
    folios.flags.willUpdate(head, at);
    folios.mapping.willUpdate(head, at);
    folios.refcount.willUpdate(head, at);
    yield swap.allocator.willUpdate(at);
    const first = nextSlots(core, pages);
    if (first === undefined) return undefined;
    if (first !== expected) continue;
    if (pages === 1) swap.take();
    else swap.allocator.value = first + pages;
    for (let slot = first; slot < first + pages; slot++) swap.cache.set(slot, head + 1);
    folios.swapEntry.set(head, first + 1);
    folios.change(head, PG_SWAPCACHE | flags);
    folios.refcount.set(head, folios.refcount.get(head) + pages);
    return first;
  }
}

/** add_to_swap of a locked anonymous folio: slots, swap cache, dirty. False: no slots. */
export function* addToSwap(core: CoreMm, head: number): Steps<boolean> {
  return (yield* call(join(core, head, PG_DIRTY, ADD))) !== undefined;
}

/** pageout_t. `success`: written or on its way, and unlocked. The others leave it locked. */
export type Pageout = 'keep' | 'activate' | 'success' | 'clean';

/** pageout: `writeFile` writes a dirty file folio where reclaim may do that. */
export function* pageout(
  core: CoreMm,
  head: number,
  writeFile: ((core: CoreMm, inode: Inode, head: number) => Steps<boolean>) | null,
): Steps<Pageout> {
  const { folios } = core;
  folios.refcount.willRead(head, FREEABLE);
  yield folios.flags.willRead(head, FREEABLE);
  const flags = folios.flags.get(head);
  const priv = (flags & PG_PRIVATE) !== 0 ? 1 : 0;
  if (folios.refcount.get(head) - priv !== 1 + folios.pagesOf(head)) return 'keep';
  const inode = core.rmapInode(head);
  const cached = (flags & PG_SWAPCACHE) !== 0;
  if (!cached && inode === undefined) return 'keep';
  if (inode !== undefined && inode.kind !== 'shmem' && !cached) {
    if (writeFile === null) return 'activate';
    return (yield* call(writeFile(core, inode, head))) ? 'success' : 'activate';
  }
  yield folios.flags.willUpdate(head, CLEAR_DIRTY);
  if ((folios.flags.get(head) & PG_DIRTY) === 0) return 'clean';
  folios.change(head, PG_RECLAIM, PG_DIRTY);
  if (!cached && !(yield* call(shmemWritepage(core, inode!, head)))) return 'activate';
  yield* call(swapWritepage(core, head));
  return 'success';
}

/** shmem_writepage, up to the swap cache: the slot takes the page's place in the file. False: no slot. */
function* shmemWritepage(core: CoreMm, inode: Inode, head: number): Steps<boolean> {
  const { folios, swap } = core;
  const slot = yield* call(join(core, head, PG_UPTODATE, SHMEM_ADD));
  if (slot === undefined) {
    yield folios.flags.willUpdate(head, REDIRTY);
    folios.change(head, PG_DIRTY, PG_RECLAIM);
    return false;
  }
  // Locked: its place in the file stands.
  const index = folios.index.peek(head);
  const pages = folios.pagesOf(head);
  swap.map.willUpdateRange(slot, slot + pages - 1, SHMEM_DELETE);
  folios.mapping.willUpdate(head, SHMEM_DELETE);
  folios.refcount.willUpdate(head, SHMEM_DELETE);
  yield inode.pages.willUpdateRange(index, index + pages - 1, SHMEM_DELETE);
  for (let i = 0; i < pages; i++) {
    inode.pages.set(index + i, -(slot + i + 1));
    swap.map.set(slot + i, swap.map.get(slot + i) + 1);
  }
  folios.mapping.set(head, 0);
  folios.refcount.set(head, folios.refcount.get(head) - pages);
  return true;
}

/** swap_writepage: unlocks. A folio whose slots nobody names any more is not written, and dirty again. */
function* swapWritepage(core: CoreMm, head: number): Steps<void> {
  const { folios } = core;
  if (yield* call(folioFreeSwap(core, head))) {
    yield willUnlock(core, head, UNLOCK);
    unlockNow(core, head);
    return;
  }
  yield willUnlock(core, head, START);
  folios.change(head, PG_WRITEBACK);
  unlockNow(core, head);
  const first = folios.swapEntry.peek(head) - 1;
  if (core.swap.synchronousIo) {
    yield* call(writeSync(core, head, first));
    return;
  }
  core.sim.spawn('swap-bio', function* () {
    yield* call(writeAsync(core, head, first));
  });
}

function willTransfer(core: CoreMm, head: number, first: number, at: Step): Announced {
  const pages = core.folios.pagesOf(head);
  core.frames.content.willReadRange(head, head + pages - 1, at);
  core.vmstat.willAdd('pswpout', at);
  return core.sim.times(pages, core.swap.map.willUpdateRange(first, first + pages - 1, at));
}

/** A memory device (zram): the write is done when the submission returns. */
function* writeSync(core: CoreMm, head: number, first: number): Steps<void> {
  const pages = core.folios.pagesOf(head);
  yield willTransfer(core, head, first, WRITE);
  for (let i = 0; i < pages; i++) core.swap.content.set(first + i, core.frames.content.get(head + i));
  core.vmstat.add('pswpout', pages);
  yield core.folios.flags.willUpdate(head, END);
  endNow(core, head);
}

/** A disk reads memory over an interval; under writeback the folio is neither freed nor split. */
function* writeAsync(core: CoreMm, head: number, first: number): Steps<void> {
  const { content } = core.frames;
  const pages = core.folios.pagesOf(head);
  yield content.willReadRange(head, head + pages - 1, BEGIN);
  const before = Array.from({ length: pages }, (_, i) => content.get(head + i));
  yield willTransfer(core, head, first, WRITTEN);
  for (let i = 0; i < pages; i++) {
    const after = content.get(head + i);
    core.swap.content.set(first + i, after === before[i] ? after : core.frames.tokens.torn(before[i]!, after));
  }
  core.vmstat.add('pswpout', pages);
  yield core.folios.flags.willUpdate(head, END);
  endNow(core, head);
}

/** folio_end_writeback: what reclaim waits for goes to the tail of its list, if it is on one again. */
function endNow(core: CoreMm, head: number): void {
  const { folios } = core;
  if (folios.has(head, PG_RECLAIM) && folios.has(head, PG_LRU)) folios.lruAge.set(head, 0);
  folios.change(head, 0, PG_WRITEBACK | PG_RECLAIM);
}
