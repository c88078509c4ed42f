// fast_page_fault (arch/x86/kvm/mmu/mmu.c): give W back to a write-protected leaf without mmu_lock, by cmpxchg. The frame
// never changes here. Access tracking is not needed: A/D bits are enabled.
import type { Steps } from '../engine/process.ts';
import { step } from '../engine/step.ts';
import { markDirtyNow, willMarkDirty } from './dirty-bitmap.ts';
import type { Memslot } from './memslot.ts';
import { SPTE_DIRTY, SPTE_MMU_WRITABLE, SPTE_WRITE, sptePresent } from './spte.ts';
import type { TdpRoot } from './tdp-root.ts';

const WALK = step('fast_page_fault:walk', 'op');
const FIX = step('fast_pf_fix_direct_spte:cmpxchg', 'pte-op');
const MARK = step('fast_pf_fix_direct_spte:mark_page_dirty', 'op');

/** Lost races after which the slow path is taken. */
const RETRIES = 4;

/** For a write to a present entry. `invalid`: the slow path has to do it. */
export function* fastPageFault(
  root: TdpRoot,
  slot: Memslot | undefined,
  gfn: number,
): Steps<'invalid' | 'fixed' | 'spurious'> {
  for (let tries = 0; tries <= RETRIES; tries++) {
    yield root.willRead(gfn, WALK);
    const seen = root.read(gfn);
    if (!sptePresent(seen.bits)) return 'invalid';
    if ((seen.bits & SPTE_WRITE) !== 0) return 'spurious';
    if ((seen.bits & SPTE_MMU_WRITABLE) === 0) return 'invalid';
    // Only the first page of a large leaf would be marked.
    if (seen.large && slot?.logsDirty === true) return 'invalid';
    yield root.willUpdate(gfn, FIX);
    const now = root.read(gfn);
    if (now.bits !== seen.bits || now.pfn !== seen.pfn) continue;
    root.setBits(gfn, now, now.bits | SPTE_WRITE | SPTE_DIRTY);
    if (slot !== undefined) {
      const announced = willMarkDirty(slot, gfn, MARK);
      if (announced !== null) {
        yield announced;
        markDirtyNow(slot, gfn);
      }
    }
    return 'fixed';
  }
  return 'invalid';
}
