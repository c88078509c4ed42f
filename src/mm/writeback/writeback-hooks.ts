// The call from hole punching and range shifting into writeback: filesystems write dirty pages of the range out first.
// Writeback installs itself here when the world is built.
import { call, type Steps } from '../../engine/process.ts';
import type { CoreMm } from '../core.ts';
import type { Inode } from '../file/inode.ts';

/** filemap_write_and_wait_range over pages [from, to). */
export type WriteAndWait = (core: CoreMm, inode: Inode, from: number, to: number) => Steps<void>;

const installed = new WeakMap<CoreMm, WriteAndWait>();

export function installWriteAndWait(core: CoreMm, writeAndWait: WriteAndWait): void {
  installed.set(core, writeAndWait);
}

/** Without writeback in the world nothing is ever written out, and the pages are dropped as they are. */
export function* writeAndWaitRange(core: CoreMm, inode: Inode, from: number, to: number): Steps<void> {
  const writeAndWait = installed.get(core);
  if (writeAndWait !== undefined) yield* call(writeAndWait(core, inode, from, to));
}
