// The bulk lane of faults: a run of absent pages that one caller is about to touch one after the other (populate, GUP of
// a range) is made in one go, where nobody journals, digests or watches and one step may cover them. Frames, counts,
// LRU and entries end up as page by page.
import { call, type Steps } from '../../engine/process.ts';
import { step } from '../../engine/step.ts';
import { PMD_PAGES } from '../../hw/machine.ts';
import { allocFrames, forRuns } from '../alloc/page-alloc.ts';
import type { CoreMm } from '../core.ts';
import type { Inode } from '../file/inode.ts';
import { PG_ANON, PG_DIRTY, PG_IN_LRU_BATCH, PG_REFERENCED, PG_SWAPBACKED, PG_UPTODATE } from '../page-flags.ts';
import { PTE_PRESENT, PTE_SPECIAL, PTE_YOUNG } from '../pte.ts';
import { activeInFault, batchSize, lruAddDrain, onList } from '../reclaim/lru.ts';
import { nextAge } from '../reclaim/lru-move.ts';
import { folioPut } from '../refcount.ts';
import { anonVmaPrepare, userGfp } from './anon-page.ts';
import { type Fault, maybeMkwrite, mayDropLock, protBits } from './fault-context.ts';

const WALK = step('__handle_mm_fault:walk', 'fault');
const SET_ZERO = step('do_anonymous_page:zero-page', 'fault');
const LOCK = step('do_anonymous_page:lock', 'fault');
const LRU = step('folio_add_lru', 'op');
const SET = step('do_anonymous_page:set-pte', 'pte-op');
const SHMEM = step('shmem_get_folio_gfp:run', 'op');
const SET_FILE = step('finish_fault', 'fault');

/** How many pages from the faulting one on the bulk lane may make; 1: it is not open. The page table is there. */
export function bulkPages(core: CoreMm, fault: Fault): number {
  const { mm, vma, vpn, row, flags } = fault;
  const { stepPages } = core.params;
  const ahead = Math.min(flags.ahead ?? 1, stepPages);
  if (ahead < 2 || !core.folios.refcount.bulk || mm.unstable.peek()) return 1;
  if (vma.fields.uffd !== null || vma.fields.locked) return 1;
  const limit = Math.min(vpn + ahead, vma.end, (row + 1) * PMD_PAGES);
  return absentFrom(fault, limit);
}

/** The faults that the pages after the first need no more count as if they had been. */
function noteSpared(core: CoreMm, { flags }: Fault, faults: number): void {
  core.vmstat.add('pgfault', faults);
  if (flags.spared !== undefined) flags.spared.faults += faults;
}

/** Length of the run of none entries from the fault on. */
function absentFrom(fault: Fault, limit: number): number {
  const { bits } = fault.mm.pageTable.bulk;
  return bits.peek(fault.vpn) === 0 ? bits.endOfRun(fault.vpn, limit - 1) + 1 - fault.vpn : 0;
}

/** do_anonymous_page for `pages` reads: the zero page at each. */
export function* mapZeroPages(core: CoreMm, fault: Fault, pages: number): Steps<void> {
  yield core.sim.local(WALK, pages - 1);
  yield core.sim.times(pages, fault.pass(SET_ZERO));
  const count = absentFrom(fault, fault.vpn + pages);
  if (count === 0) return;
  const { bits, pfn, generation } = fault.mm.pageTable.bulk;
  const last = fault.vpn + count - 1;
  bits.fill(fault.vpn, last, PTE_PRESENT | PTE_YOUNG | PTE_SPECIAL);
  pfn.fill(fault.vpn, last, core.zeroPfn);
  generation.fill(fault.vpn, last, core.frames.peekGeneration(core.zeroPfn));
  noteSpared(core, fault, count - 1);
}

/** do_anonymous_page for `pages` writes. False: no memory without further ado; the fault goes on page by page. */
export function* makeAnonPages(core: CoreMm, fault: Fault, pages: number): Steps<boolean> {
  const { folios } = core;
  fault.vma = yield* call(anonVmaPrepare(core, fault.mm, fault.vma));
  const { vma, vpn } = fault;
  const frames = yield* call(allocFrames(core, userGfp(core, fault.flags.memallocPin, true, fault.vma), pages));
  if (frames.length === 0) return false;
  yield core.sim.local(WALK, frames.length - 1);
  yield core.sim.times(frames.length, fault.lock(LOCK));
  const count = fault.mm.unstable.peek() ? 0 : absentFrom(fault, vpn + frames.length);
  const used = frames.slice(0, count);
  const exclusive = core.kernel.has('cow.anon-exclusive') ? 1 : 0;
  forRuns(used, (first, last, at) => {
    folios.flags.fill(first, last, PG_UPTODATE | PG_SWAPBACKED | PG_ANON);
    folios.mapping.fill(first, last, vma.fields.anonVma!.id);
    folios.index.fillRising(first, last, vma.indexOf(vpn + at));
    folios.anonExclusive.fill(first, last, exclusive);
    folios.mapcount.fill(first, last, 1);
  });
  yield* call(addLruRun(core, used, fault.flags.marked));
  yield core.sim.times(count, fault.willUnlock(SET));
  setEntries(core, fault, used, PTE_PRESENT | PTE_YOUNG | maybeMkwrite(vma));
  fault.unlockNow();
  noteSpared(core, fault, count - 1);
  for (const pfn of frames.slice(count)) yield* call(folioPut(core, pfn, 1, 'unused by a page fault'));
  return count > 0;
}

/**
 * Shared faults on shmem pages that do not exist yet (do_read_fault or do_shared_fault, shmem_alloc_and_add_folio).
 * False: the lane is not open here.
 */
export function* makeShmemPages(core: CoreMm, fault: Fault, inode: Inode): Steps<boolean> {
  const { folios, sim } = core;
  const { vma, vpn, flags } = fault;
  const { write } = flags;
  const pages = Math.min(bulkPages(core, fault), uncachedFrom(core, fault, inode));
  // A write fault that may drop mmap_lock does so after every page.
  if (pages < 2 || (write && mayDropLock(fault))) return false;
  const frames = yield* call(allocFrames(core, { ...userGfp(core, flags.memallocPin, true), ...inode.policy }, pages));
  if (frames.length === 0) return false;
  const index = vma.indexOf(vpn);
  const count = Math.min(frames.length, absentFrom(fault, vpn + frames.length), uncachedFrom(core, fault, inode));
  const used = frames.slice(0, count);
  // i_size, look-up, insertion, i_size again; and the neighbours of a read, or the dirty flag after a write.
  yield sim.local(SHMEM, count * 5);
  forRuns(used, (first, last, at) => {
    folios.flags.fill(first, last, PG_UPTODATE | PG_SWAPBACKED | (write ? PG_DIRTY : 0));
    folios.mapping.fill(first, last, inode.id);
    folios.index.fillRising(first, last, index + at);
    folios.refcount.fill(first, last, 2);
    inode.pages.fillRising(index + at, index + at + last - first, first + 1);
  });
  yield* call(addLruRun(core, used, flags.marked));
  yield sim.local(WALK, count - 1);
  if (!write) yield sim.local(WALK, lookedAround(core, fault, inode, count));
  yield sim.times(count, fault.pass(SET_FILE));
  forRuns(used, (first, last) => folios.mapcount.fill(first, last, 1));
  setEntries(core, fault, used, PTE_PRESENT | PTE_YOUNG | protBits(vma) | (write ? maybeMkwrite(vma) : 0));
  noteSpared(core, fault, count - 1);
  for (const pfn of frames.slice(count)) yield* call(folioPut(core, pfn, 1, 'unused by a page fault'));
  return count > 0;
}

/**
 * Pages from the fault on that are not in the page cache. 0 where fault-around would also map cached pages outside the
 * run: those faults go one by one.
 */
function uncachedFrom(core: CoreMm, fault: Fault, inode: Inode): number {
  const { vma, vpn } = fault;
  const index = vma.indexOf(vpn);
  const limit = Math.min(index + core.params.stepPages, inode.sizePages.peek());
  if (index >= limit || inode.pages.peek(index) !== 0) return 0;
  const end = inode.pages.endOfRun(index, limit - 1) + 1;
  const around = core.params.faultAroundPages;
  const before = vpn - (vpn % around);
  const behind = vpn + end - index;
  const after = Math.ceil(behind / around) * around;
  for (let at = before; at < after; at++) {
    if (at >= vpn && at < behind) continue;
    if (!vma.contains(at) || inode.pages.peek(vma.indexOf(at)) === 0) continue;
    if (fault.mm.pageTable.peekPte(at).bits === 0) return 0;
  }
  return end - index;
}

/** Page by page every fault but the first of a window finds its cached neighbours mapped already: what looking cost. */
function lookedAround(core: CoreMm, fault: Fault, inode: Inode, count: number): number {
  const { vma, vpn, row } = fault;
  const around = core.params.faultAroundPages;
  if (around < 2) return 0;
  let looked = 0;
  for (let at = vpn; at < vpn + count; at++) {
    const from = Math.max(at - (at % around), vma.start, row * PMD_PAGES);
    const to = Math.min(at - (at % around) + around, vma.end, (row + 1) * PMD_PAGES);
    looked += Math.max(0, at - Math.max(from, vpn));
    for (let near = from; near < to; near++) {
      if ((near < vpn || near >= vpn + count) && inode.pages.peek(vma.indexOf(near)) > 0) looked++;
    }
  }
  return looked;
}

/** Map `frames` from the faulting page on. */
function setEntries(core: CoreMm, fault: Fault, frames: readonly number[], bits: number): void {
  if (frames.length === 0) return;
  const { vpn } = fault;
  const table = fault.mm.pageTable.bulk;
  table.bits.fill(vpn, vpn + frames.length - 1, bits);
  forRuns(frames, (first, last, at) => {
    table.pfn.fillRising(vpn + at, vpn + at + last - first, first);
    for (let pfn = first; pfn <= last; ) {
      const end = core.frames.endOfGeneration(pfn, last);
      const row = vpn + at + pfn - first;
      table.generation.fill(row, row + end - pfn, core.frames.peekGeneration(pfn));
      pfn = end + 1;
    }
  });
}

/**
 * folio_add_lru for each: whole batches go straight to the list, the rest waits in the CPU's batch. Where the caller marks
 * each page accessed, the multi-gen LRU forgets the mark with the batch, save for the page that fills it: that is marked
 * when it is on the list already.
 */
function* addLruRun(core: CoreMm, frames: readonly number[], marked: { pages: number } | undefined): Steps<void> {
  if (marked !== undefined) {
    const { flags } = core.folios;
    marked.pages = frames.length;
    forRuns(frames, (first, last) => flags.fill(first, last, flags.peek(first) | PG_REFERENCED));
  }
  const size = batchSize(core);
  const room = size - core.local.lruAdd.peek().length;
  if (frames.length < room) {
    yield* call(fillBatch(core, frames));
    return;
  }
  yield* call(fillBatch(core, frames.slice(0, room)));
  yield* call(lruAddDrain(core));
  if (marked !== undefined) setReferenced(core, frames, room - 1, room);
  const whole = Math.floor((frames.length - room) / size) * size;
  const straight = frames.slice(room, room + whole);
  const { folios, sim } = core;
  yield sim.times(whole + whole / size, core.lru.willAdd(LRU));
  forRuns(straight, (first, last) => {
    folios.flags.fill(first, last, onList(core, folios.flags.peek(first) | activeInFault(core), 0));
    const age = nextAge(core);
    for (let pfn = first + 1; pfn <= last; pfn++) nextAge(core);
    folios.lruAge.fillRising(first, last, age);
  });
  if (marked !== undefined) setReferenced(core, straight, size - 1, straight.length);
  core.lru.add(whole);
  yield* call(fillBatch(core, frames.slice(room + whole)));
}

/** The mark of every page that filled a batch: the first at `at`. */
function setReferenced(core: CoreMm, frames: readonly number[], at: number, length: number): void {
  const size = batchSize(core);
  for (let i = at; i < length; i += size) core.folios.change(frames[i]!, PG_REFERENCED);
}

function* fillBatch(core: CoreMm, frames: readonly number[]): Steps<void> {
  if (frames.length === 0) return;
  const { folios, local, sim } = core;
  yield sim.times(frames.length, local.lruAdd.willUpdate(LRU));
  forRuns(frames, (first, last) => {
    folios.refcount.addRange(first, last, 1);
    folios.flags.fill(first, last, folios.flags.peek(first) | PG_IN_LRU_BATCH | activeInFault(core));
  });
  local.lruAdd.value = [...local.lruAdd.value, ...frames];
}
