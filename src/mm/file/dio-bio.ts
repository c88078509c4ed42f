// The bios of direct IO (block/bio.c, fs/iomap/direct-io.c): the user's pages are held by pins (since 6.5) or references,
// the device transfers page by page, and an interrupt completes: steps of an actor of its own, which can come much later.
import { Cell } from '../../engine/cell.ts';
import { eventType } from '../../engine/event.ts';
import { call, type Steps } from '../../engine/process.ts';
import { type Announced, type Step, step } from '../../engine/step.ts';
import { until } from '../../engine/wait.ts';
import { FRAME_ACCESS } from '../../hw/frames.ts';
import { PMD_PAGES } from '../../hw/machine.ts';
import type { CoreMm } from '../core.ts';
import type { Errno } from '../errno.ts';
import { lockFolio, unlockNow } from '../folio-lock.ts';
import { ownMm } from '../gup/gup.ts';
import { getUserPagesFast, pinUserPagesFast } from '../gup/gup-fast.ts';
import { putRuns, unpinUserPages } from '../gup/unpin.ts';
import type { FrameRun } from '../ledger.ts';
import type { Vma } from '../mapping/vma.ts';
import type { Mm } from '../mm.ts';
import { PG_DIRTY } from '../page-flags.ts';
import { pmdOf } from '../page-table.ts';
import { PTE_MARKER, ptePresent } from '../pte.ts';
import { invalidateInodePages2 } from '../reclaim/drop-caches.ts';
import { checksums, deviceReads } from '../writeback/bio.ts';
import { markDirtyNow, willMarkDirty } from '../writeback/mark-dirty.ts';
import type { Inode } from './inode.ts';

const BEGIN = step('inode_dio_begin', 'op');
const SET_DIRTY = step('bio_set_pages_dirty', 'op');
const DEVICE_WRITES = step('bio:device-writes', 'disk-read');
const CHECK_DIRTY = step('bio_check_pages_dirty', 'op');
const DONE = step('iomap_dio_complete', 'op');
const WAIT = step('iomap_dio_rw:wait', 'none');
const SEEN = step('user:looks-at-buffer', 'none');

/** Direct IO put a page of a file on the disk without going through the page cache. */
export interface FileOverwritten {
  readonly inode: Inode;
  readonly index: number;
  readonly token: number;
}
export const FILE_OVERWRITTEN = eventType<FileOverwritten>('file-overwritten');

/**
 * A direct read is complete, and a page of its buffer is looked at: it was filled as `token` into `pfn` of `generation`,
 * and the process finds `own` there (0: nothing) of `ownGeneration`, holding `ownToken`. `waits`: an entry that is
 * not present, and more than a marker. Emitted in a step that announced all of it.
 */
export interface BufferSeen {
  readonly mm: Mm;
  readonly vpn: number;
  readonly vma: Vma | undefined;
  readonly pfn: number;
  readonly generation: number;
  readonly token: number;
  readonly own: number;
  readonly ownGeneration: number;
  readonly ownToken: number;
  readonly waits: boolean;
  readonly owner: string;
}
export const BUFFER_SEEN = eventType<BufferSeen>('direct-read-seen');

/** One direct IO under way. */
export class DirectIo {
  readonly inode: Inode;
  readonly index: number;
  readonly pages: number;
  readonly write: boolean;
  readonly result: Cell<'pending' | 'ok' | Errno>;

  constructor(core: CoreMm, inode: Inode, index: number, pages: number, write: boolean) {
    this.inode = inode;
    this.index = index;
    this.pages = pages;
    this.write = write;
    const { current } = core.sim;
    const number = current?.nextNumber() ?? 0;
    this.result = new Cell<'pending' | 'ok' | Errno>(
      core.sim,
      `direct IO ${number} of ${current?.name ?? 'set-up'}`,
      'pending',
    );
  }

  /** Resumes when it is complete; read `result` then. */
  wait(at: Step = WAIT): Announced {
    return until(this.inode.sim, [this.result], () => this.result.peek() !== 'pending', at, { lasting: true });
  }
}

/** A user buffer held for IO. */
export interface Held {
  readonly runs: readonly FrameRun[];
  readonly frames: readonly { readonly pfn: number; readonly generation: number }[];
  readonly grab: 'pin' | 'get';
  readonly owner: string;
  /** Where the buffer was when it was grabbed. */
  readonly mm: Mm;
  readonly vpn: number;
}

/** bio_iov_iter_get_pages. EFAULT when not one page could be had; fewer than asked end the IO early. */
export function* grabBuffer(core: CoreMm, vpn: number, pages: number, write: boolean): Steps<Held | Errno> {
  const grab = core.kernel.has('dio.pins-user-pages') ? 'pin' : 'get';
  const owner = `direct IO of ${core.current.task.name}`;
  const request = { owner, write };
  const got = yield* call(
    grab === 'pin' ? pinUserPagesFast(core, vpn, pages, request) : getUserPagesFast(core, vpn, pages, request),
  );
  if (got.pinned === 0) return got.errno ?? 'EFAULT';
  const frames: { pfn: number; generation: number }[] = [];
  for (const run of got.runs) {
    for (let i = 0; i < run.pages; i++) {
      const pfn = run.pfn + i;
      // Held: its generation stands.
      frames.push({ pfn, generation: core.frames.peekGeneration(pfn) });
    }
  }
  return { runs: got.runs, frames, grab, owner, mm: ownMm(core), vpn };
}

/** set_page_dirty_lock */
function* setPageDirtyLock(core: CoreMm, pfn: number): Steps<void> {
  const head = core.folios.headOf(pfn);
  willMarkDirty(core, head, SET_DIRTY);
  yield lockFolio(core, head, SET_DIRTY);
  markDirtyNow(core, head);
  unlockNow(core, head);
}

/** bio_set_pages_dirty: before the IO, because its completion must not sleep; it looks again then. */
export function* setPagesDirty(core: CoreMm, held: Held): Steps<void> {
  for (const { pfn } of held.frames) yield* call(setPageDirtyLock(core, pfn));
}

/** submit_bio: the rest happens in an actor of its own. */
export function* submit(core: CoreMm, inode: Inode, index: number, held: Held, write: boolean): Steps<DirectIo> {
  const request = new DirectIo(core, inode, index, held.frames.length, write);
  yield inode.dioCount.willUpdate(BEGIN);
  inode.dioCount.value += 1;
  const bio = core.sim.spawn(write ? 'dio-write' : 'dio-read', () =>
    write ? writeOut(core, request, held) : readIn(core, request, held),
  );
  core.runAs(bio, core.current.task);
  return request;
}

/** The device fills the buffer page by page; nobody sees but who looks at memory. */
function* readIn(core: CoreMm, request: DirectIo, held: Held): Steps<void> {
  const { inode, index } = request;
  const { frames } = core;
  const tokens: number[] = [];
  for (const [i, { pfn, generation }] of held.frames.entries()) {
    inode.disk.willRead(index + i, DEVICE_WRITES);
    frames.willCheck(pfn, DEVICE_WRITES);
    yield frames.content.willWrite(pfn, DEVICE_WRITES);
    const token = inode.disk.get(index + i);
    tokens.push(token);
    frames.content.set(pfn, token);
    tellAccess(core, held, i, generation, frames.generationOf(pfn), token, true);
  }
  const { folios } = core;
  const heads = [...new Set(held.frames.map(({ pfn }) => folios.headOf(pfn)))];
  for (const head of heads) folios.flags.willRead(head, CHECK_DIRTY);
  yield core.sim.local(CHECK_DIRTY, heads.length);
  // bio_dirty_work: a page that was cleaned meanwhile is dirtied again before it is let go.
  const cleaned = heads.some((head) => (folios.flags.get(head) & PG_DIRTY) === 0);
  yield* call(release(core, held, cleaned));
  yield* call(complete(request, 'ok'));
  if (core.sim.hears(BUFFER_SEEN)) for (const [i, token] of tokens.entries()) yield* call(see(core, held, i, token));
}

/** What the process would find in page `i` of its buffer now that the read is complete: for checkers, no kernel's step. */
function* see(core: CoreMm, { mm, vpn: first, frames: filled, owner }: Held, i: number, token: number): Steps<void> {
  const { frames } = core;
  const { pageTable } = mm;
  const vpn = first + i;
  const row = pmdOf(vpn);
  const mapped = (): number => {
    const { pte, huge } = pageTable.peekLeaf(vpn);
    return ptePresent(pte.bits) ? pte.pfn + (huge ? vpn % PMD_PAGES : 0) : 0;
  };
  for (;;) {
    // Which frame's contents to announce; the act looks again.
    const own = mapped();
    if (own !== 0) {
      frames.content.willRead(own, SEEN);
      frames.willCheck(own, SEEN);
    }
    mm.vmas.willRead(SEEN);
    pageTable.willReadPmd(row, SEEN);
    pageTable.willReadPte(vpn, SEEN);
    // An entry that reclaim has taken out under the lock may be put back before it lets go.
    yield pageTable.ptl.pass(row, SEEN);
    if (mapped() !== own) continue;
    const { bits } = pageTable.peekLeaf(vpn).pte;
    core.sim.emit(BUFFER_SEEN, {
      ...{ mm, vpn, ...filled[i]!, token, own, owner },
      vma: mm.vmaAt(vpn),
      ownGeneration: own === 0 ? 0 : frames.generationOf(own),
      ownToken: own === 0 ? 0 : frames.content.get(own),
      waits: bits !== 0 && !ptePresent(bits) && (bits & PTE_MARKER) === 0,
    });
    return;
  }
}

function* release(core: CoreMm, held: Held, dirty: boolean): Steps<void> {
  if (held.grab === 'pin') yield* call(unpinUserPages(core, held.runs, { owner: held.owner, dirty }));
  else yield* call(putRuns(core, 'get', held.runs, dirty, `put_page of ${held.owner}`));
}

function* complete(request: DirectIo, result: 'ok' | Errno): Steps<void> {
  const { inode } = request;
  inode.dioCount.willUpdate(DONE);
  yield request.result.willWrite(DONE);
  inode.dioCount.value -= 1;
  request.result.value = result;
}

/** The device takes the buffer page by page, over an interval each: who writes to it meanwhile tears the block. */
function* writeOut(core: CoreMm, request: DirectIo, held: Held): Steps<void> {
  const { inode, index } = request;
  const pfns = held.frames.map(({ pfn }) => pfn);
  const sums = yield* call(checksums(core, inode, pfns));
  let result: 'ok' | Errno = 'ok';
  for (const [i, { pfn, generation }] of held.frames.entries()) {
    if (yield* call(deviceReads(core, inode, index + i, pfn, sums[i] ?? null))) result = 'EIO';
    const token = inode.disk.peek(index + i);
    tellAccess(core, held, i, generation, core.frames.peekGeneration(pfn), token, false);
    if (core.sim.hears(FILE_OVERWRITTEN)) core.sim.emit(FILE_OVERWRITTEN, { inode, index: index + i, token });
  }
  yield* call(release(core, held, false));
  // kiocb_invalidate_post_direct_write: pages that a fault or readahead brought back are of before. EBUSY is only logged.
  yield* call(invalidateInodePages2(core, inode, index, index + request.pages));
  yield* call(complete(request, result));
}

function tellAccess(
  core: CoreMm,
  held: Held,
  i: number,
  madeFor: number,
  generation: number,
  token: number,
  write: boolean,
): void {
  if (!core.sim.hears(FRAME_ACCESS)) return;
  const { pfn } = held.frames[i]!;
  core.sim.emit(FRAME_ACCESS, {
    pfn,
    write,
    madeFor,
    generation,
    through: 'pin',
    holder: held.owner,
    page: i,
    token,
  });
}
