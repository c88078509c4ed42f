// MMF_HAS_PINNED (mm/gup.c mm_set_has_pinned_flag): whether an address space ever pinned a page, which fork asks.
import type { Steps } from '../../engine/process.ts';
import { step } from '../../engine/step.ts';
import type { Mm } from '../mm.ts';

const HAS_PINNED = step('mm_set_has_pinned_flag', 'none');

/** mm_set_has_pinned_flag: before the first pin attempt, so that fork never misses a pin. */
export function* setHasPinned(mm: Mm): Steps<void> {
  yield mm.hasPinned.willUpdate(HAS_PINNED);
  if (!mm.hasPinned.value) mm.hasPinned.value = true;
}
