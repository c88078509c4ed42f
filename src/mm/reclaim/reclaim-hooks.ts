// The calls from the page allocator into reclaim. Reclaim installs itself here when the world is built, because it
// allocates too: an import each way would be a cycle.
import { call, type Steps } from '../../engine/process.ts';
import type { Gfp } from '../alloc/page-alloc.ts';
import type { CoreMm, ZoneState } from '../core.ts';

/** What one allocation remembers from round to round. */
export interface Attempt {
  /** did_some_progress of the last round. */
  progress: boolean;
  /** no_progress_loops */
  rounds: number;
}

export interface ReclaimHooks {
  /** try_to_free_pages: free some memory; false when there was no progress. */
  directReclaim(core: CoreMm, gfp: Gfp): Steps<boolean>;
  /** Is there any sense in another round? Kills somebody when there is not. False: the allocation fails. */
  retryAllocation(core: CoreMm, gfp: Gfp, attempt: Attempt): Steps<boolean>;
  /** out_of_memory: somebody is killed, or dies already. False: the allocation fails. */
  outOfMemory(core: CoreMm): Steps<boolean>;
  /** wakeup_kswapd */
  wakeKswapd(core: CoreMm, zone: ZoneState, gfp: Gfp): Steps<void>;
}

const installed = new WeakMap<CoreMm, ReclaimHooks>();

export function installReclaim(core: CoreMm, hooks: ReclaimHooks): void {
  installed.set(core, hooks);
}

export function* directReclaim(core: CoreMm, gfp: Gfp): Steps<boolean> {
  const hooks = installed.get(core);
  return hooks === undefined ? false : yield* call(hooks.directReclaim(core, gfp));
}

export function* retryAllocation(core: CoreMm, gfp: Gfp, attempt: Attempt): Steps<boolean> {
  const hooks = installed.get(core);
  return hooks === undefined ? false : yield* call(hooks.retryAllocation(core, gfp, attempt));
}

export function* outOfMemory(core: CoreMm): Steps<boolean> {
  const hooks = installed.get(core);
  return hooks === undefined ? false : yield* call(hooks.outOfMemory(core));
}

export function* wakeKswapd(core: CoreMm, zone: ZoneState, gfp: Gfp): Steps<void> {
  const hooks = installed.get(core);
  if (hooks !== undefined) yield* call(hooks.wakeKswapd(core, zone, gfp));
}
