// Writing pages of a file to its disk (block layer, fs/ext4/page-io.c): the device reads memory over an interval, so that
// a device write or a CPU write in between shows on the disk as half old, half new. Completion comes as an interrupt.
import { eventType } from '../../engine/event.ts';
import { call, type Process, type Steps } from '../../engine/process.ts';
import { step } from '../../engine/step.ts';
import type { CoreMm } from '../core.ts';
import type { Inode } from '../file/inode.ts';
import { PG_RECLAIM, PG_WRITEBACK } from '../page-flags.ts';

const PREP = step('bio_integrity_prep', 'op');
const BEGIN = step('bio:device-reads', 'dma');
const END = step('bio:device-has-read', 'disk-write');
const DONE = step('folio_end_writeback', 'op');

/** Consecutive pages of a file under writeback. */
export interface Bio {
  readonly inode: Inode;
  readonly index: number;
  /** Frames of the pages from `index` on. */
  readonly pfns: readonly number[];
}

/** A page changed while its device read it. */
export interface TornWrite {
  readonly inode: Inode;
  readonly index: number;
  readonly pfn: number;
  /** Contents at the beginning and at the end of the transfer. */
  readonly before: number;
  readonly after: number;
  /** The device refused the block: its checksum did not fit. */
  readonly refused: boolean;
}
export const TORN_WRITE = eventType<TornWrite>('torn-write');

/** submit_bio: an actor of its own carries it out; nobody waits for more than PG_writeback. */
export function submitBio(core: CoreMm, bio: Bio): Process {
  return core.sim.spawn('bio', function* () {
    yield* call(writeBio(core, bio));
  });
}

/** The device takes one page after the other and interrupts once: as many pages, as many ends of writeback. */
function* writeBio(core: CoreMm, bio: Bio): Steps<void> {
  const { inode, pfns } = bio;
  const sums = yield* call(checksums(core, inode, pfns));
  const errors: boolean[] = [];
  for (let i = 0; i < pfns.length; i++) {
    errors.push(yield* call(deviceReads(core, inode, bio.index + i, pfns[i]!, sums[i] ?? null)));
  }
  for (let i = 0; i < pfns.length; i++) yield* call(endWriteback(core, inode, pfns[i]!, errors[i]!));
}

/** bio_integrity_prep: what the device will compare the blocks with; empty where it does not. */
export function* checksums(core: CoreMm, inode: Inode, pfns: readonly number[]): Steps<readonly number[]> {
  if (!inode.stablePages) return [];
  const { content } = core.frames;
  for (const pfn of pfns) content.willRead(pfn, PREP);
  yield core.sim.local(PREP, pfns.length);
  return pfns.map((pfn) => content.get(pfn));
}

/**
 * The device reads frame `pfn` and writes it to block `index`. `sum`: the content that its checksum was made of. True
 * when the device refused the block because the checksum did not fit; the block then keeps what it had.
 */
export function* deviceReads(
  core: CoreMm,
  inode: Inode,
  index: number,
  pfn: number,
  sum: number | null,
): Steps<boolean> {
  const { content } = core.frames;
  yield content.willRead(pfn, BEGIN);
  const before = content.get(pfn);
  inode.disk.willWrite(index, END);
  yield content.willRead(pfn, END);
  const after = content.get(pfn);
  const refused = sum !== null && (before !== sum || after !== sum);
  if (!refused) inode.disk.set(index, before === after ? after : core.frames.tokens.torn(before, after));
  if ((refused || before !== after) && core.sim.hears(TORN_WRITE)) {
    core.sim.emit(TORN_WRITE, { inode, index, pfn, before: sum ?? before, after, refused });
  }
  return refused;
}

function* endWriteback(core: CoreMm, inode: Inode, pfn: number, failed: boolean): Steps<void> {
  const { folios } = core;
  if (failed) inode.writeError.willWrite(DONE);
  yield folios.flags.willUpdate(pfn, DONE);
  if (failed) inode.writeError.value = 'EIO';
  // folio_rotate_reclaimable: reclaim waited for this one, it goes to the tail of its list.
  if (folios.has(pfn, PG_RECLAIM)) folios.lruAge.set(pfn, 0);
  folios.change(pfn, 0, PG_WRITEBACK | PG_RECLAIM);
}
