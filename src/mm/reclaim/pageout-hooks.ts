// The calls from reclaim into writeback: a dirty file folio that kswapd writes itself, and waking the flushers. Writeback
// installs itself here when the world is built; without it dirty file folios are left on their list.
import { call, type Steps } from '../../engine/process.ts';
import type { CoreMm } from '../core.ts';
import type { Inode } from '../file/inode.ts';

export interface PageoutHooks {
  /** writepage of a locked, dirty file folio: true when it was started and unlocked, false when it is still locked. */
  pageoutFile(core: CoreMm, inode: Inode, head: number): Steps<boolean>;
  /** wakeup_flusher_threads */
  wakeFlushers(core: CoreMm): Steps<void>;
}

const installed = new WeakMap<CoreMm, PageoutHooks>();

export function installPageout(core: CoreMm, hooks: PageoutHooks): void {
  installed.set(core, hooks);
}

export function pageoutHooks(core: CoreMm): PageoutHooks | undefined {
  return installed.get(core);
}

export function* wakeFlushers(core: CoreMm): Steps<void> {
  const hooks = installed.get(core);
  if (hooks !== undefined) yield* call(hooks.wakeFlushers(core));
}
