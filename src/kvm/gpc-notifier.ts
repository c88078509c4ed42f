// The notifier's side of gfn-to-pfn caches (virt/kvm/pfncache.c gfn_to_pfn_cache_invalidate_start): each valid cache of
// the range is made invalid under its own lock, before mmu_invalidate_in_progress is raised.
import type { Steps } from '../engine/process.ts';
import { step } from '../engine/step.ts';
import type { GfnToPfnCache } from './gpc.ts';

const INVALIDATE = step('gfn_to_pfn_cache_invalidate_start:invalidate', 'op');

/** Make those of `caches` invalid that hold a host page of [start, end). The lock is taken and left in the step. */
export function* gpcInvalidateStart(caches: readonly GfnToPfnCache[], start: number, end: number): Steps<void> {
  for (const gpc of caches) {
    gpc.state.willUpdate(INVALIDATE);
    yield gpc.lock.write(INVALIDATE);
    const { vpn, valid } = gpc.state.value;
    if (valid && vpn !== null && vpn >= start && vpn < end) gpc.state.value = gpc.state.value.with({ valid: false });
    gpc.lock.releaseNow();
  }
}
