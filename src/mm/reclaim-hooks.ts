// The two calls from the page allocator into reclaim. Reclaim installs itself here when the world is built, because it
// allocates too: an import each way would be a cycle.
import { call, type Steps } from '../engine/process.ts';
import type { CoreMm, ZoneState } from './core.ts';
import type { Gfp } from './page-alloc.ts';

export interface ReclaimHooks {
  /** __alloc_pages_slowpath: free some memory; false when there was no progress. */
  directReclaim(core: CoreMm, gfp: Gfp): Steps<boolean>;
  /** wakeup_kswapd */
  wakeKswapd(core: CoreMm, zone: ZoneState): Steps<void>;
}

const installed = new WeakMap<CoreMm, ReclaimHooks>();

export function installReclaim(core: CoreMm, hooks: ReclaimHooks): void {
  installed.set(core, hooks);
}

export function* directReclaim(core: CoreMm, gfp: Gfp): Steps<boolean> {
  const hooks = installed.get(core);
  return hooks === undefined ? false : yield* call(hooks.directReclaim(core, gfp));
}

export function* wakeKswapd(core: CoreMm, zone: ZoneState): Steps<void> {
  const hooks = installed.get(core);
  if (hooks !== undefined) yield* call(hooks.wakeKswapd(core, zone));
}
