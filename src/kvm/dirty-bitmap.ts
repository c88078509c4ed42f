// mark_page_dirty_in_slot (virt/kvm/kvm_main.c): set_bit in the slot's dirty bitmap. Dirty rings are not modelled.
import type { Announced, Step } from '../engine/step.ts';
import type { Memslot } from './memslot.ts';

/** Announce marking `gfn` dirty; false when the slot does not log. */
export function willMarkDirty(slot: Memslot, gfn: number, at: Step): Announced | null {
  const { dirtyBitmap } = slot.fields;
  return dirtyBitmap === null || !slot.logsDirty ? null : dirtyBitmap.willUpdate(gfn - slot.baseGfn, at);
}

/** In a step announced by `willMarkDirty`. */
export function markDirtyNow(slot: Memslot, gfn: number): void {
  const { dirtyBitmap } = slot.fields;
  if (dirtyBitmap !== null && slot.logsDirty) dirtyBitmap.set(gfn - slot.baseGfn, 1);
}
