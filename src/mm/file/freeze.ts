// Freezing, thawing and remounting a filesystem (fs/super.c freeze_super, reconfigure_super). All of it stops new writes
// by system calls and faults and writes out what is dirty; a device with a pin goes on writing to the page cache.
import { call, type Steps } from '../../engine/process.ts';
import { step } from '../../engine/step.ts';
import type { CoreMm } from '../core.ts';
import type { Errno } from '../errno.ts';
import type { Mm } from '../mm.ts';
import { syncAll } from '../writeback/msync.ts';
import type { Inode } from './inode.ts';
import type { SuperBlock } from './super-block.ts';

const BUSY = step('sb_prepare_remount_readonly', 'op');
const REMOUNT = step('reconfigure_super', 'op');

/** FIFREEZE. EBUSY: frozen already. */
export function* freezeFilesystem(core: CoreMm, superBlock: SuperBlock): Steps<'ok' | Errno> {
  return yield* call(superBlock.freeze(() => syncAll(core, (inode) => inode.superBlock === superBlock)));
}

/** FITHAW. EINVAL: not frozen. */
export function* thawFilesystem(superBlock: SuperBlock): Steps<'ok' | Errno> {
  return yield* call(superBlock.thaw());
}

/**
 * mount -o remount,ro. EBUSY while a file is mapped shared by somebody who may write (its file is open for writing);
 * pins of pages whose mapping is gone do not count.
 */
export function* remountReadOnly(core: CoreMm, superBlock: SuperBlock): Steps<'ok' | Errno> {
  const own = core.allInodes().filter((inode) => inode.superBlock === superBlock);
  for (const inode of own) {
    for (const mm of inode.mms.peek()) mm.vmas.willRead(BUSY);
    inode.mms.willRead(BUSY);
  }
  yield core.sim.local(BUSY);
  if (own.some((inode) => inode.mms.value.some((mm) => mapsWritable(mm, inode)))) return 'EBUSY';
  yield* call(syncAll(core, (inode) => own.includes(inode)));
  yield superBlock.readOnly.willWrite(REMOUNT);
  superBlock.readOnly.value = true;
  return 'ok';
}

function mapsWritable(mm: Mm, inode: Inode): boolean {
  return mm.vmas.entries().some(([, { fields }]) => fields.file === inode && fields.shared && fields.mayWrite);
}
