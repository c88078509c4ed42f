// Changing the active memslots (virt/kvm/kvm_main.c kvm_set_memslot, kvm_swap_active_memslots): publish when no notifier
// window is open, wait for readers, give the set its final generation. Deletion and move go through an INVALID copy.
import { call, type Steps } from '../engine/process.ts';
import { step } from '../engine/step.ts';
import { until } from '../engine/wait.ts';
import { GENERATION_UPDATE_IN_PROGRESS, KVM_MEMSLOT_INVALID, type Memslot } from './memslot.ts';
import { MMIO_GENERATIONS } from './tdp-map.ts';
import { flushRemoteTlbs } from './tlb-flush.ts';
import type { Vm } from './vm.ts';
import { type PendingFlush, unmapGfnRange, zapAllFast } from './zap.ts';

const ARCH_LOCK = step('kvm_set_memslot:slots_arch_lock', 'lock');
const ARCH_UNLOCK = step('kvm_swap_active_memslots:slots_arch_unlock', 'lock');
const PUBLISH = step('kvm_swap_active_memslots:publish', 'op');
const GENERATION = step('kvm_swap_active_memslots:generation', 'op');
const COPY_BACK = step('kvm_activate_memslot:replace', 'op');
const FLUSH_LOCK = step('kvm_arch_flush_shadow_memslot:lock', 'lock');
const FLUSH_UNLOCK = step('kvm_arch_flush_shadow_memslot:unlock', 'lock');

/**
 * Exactly one of: CREATE (`old` null), DELETE (`now` null), MOVE (other base frame), FLAGS_ONLY. slots_lock is held.
 * Returns when nothing maps through the old slot any more and no reader sees it.
 */
export function* setMemslot(vm: Vm, old: Memslot | null, now: Memslot | null): Steps<void> {
  const asId = (now ?? old)!.fields.asId;
  const space = vm.spaces[asId]!;
  yield vm.slotsArchLock.lock(ARCH_LOCK);
  let visible = old;
  if (old !== null && (now === null || now.baseGfn !== old.baseGfn)) {
    // The INVALID copy goes into the inactive set, which is then published; the other set keeps the old slot.
    const invalid = old.with({ flags: old.fields.flags | KVM_MEMSLOT_INVALID });
    yield* call(swapActive(vm, asId, old, invalid));
    yield* call(flushShadowMemslot(vm, old));
    yield vm.slotsArchLock.lock(ARCH_LOCK);
    visible = invalid;
  }
  yield* call(swapActive(vm, asId, old, now));
  // kvm_activate_memslot: the set that was active until now follows.
  const other = space.peekOther;
  yield other.slots.willUpdate(COPY_BACK);
  other.replace(visible, now);
}

/**
 * kvm_swap_active_memslots with the change to the inactive set before it. slots_arch_lock is held on entry and dropped
 * before the grace period. The wait for open windows cannot be interrupted.
 */
function* swapActive(vm: Vm, asId: number, old: Memslot | null, now: Memslot | null): Steps<void> {
  const { core } = vm;
  const space = vm.spaces[asId]!;
  const set = space.peekOther;
  const generation = space.peekCurrent.generation.peek();
  set.slots.willUpdate(PUBLISH);
  set.generation.willWrite(PUBLISH);
  if (core.kernel.has('kvm.memslot-update-waits-for-windows')) {
    space.active.willUpdate(PUBLISH);
    yield until(core.sim, [vm.mnActive], () => vm.mnActive.peek() === 0, PUBLISH, {
      name: `the end of all invalidations of ${vm.name}`,
    });
  } else yield space.active.willUpdate(PUBLISH);
  set.replace(old, now);
  set.generation.value = generation + GENERATION_UPDATE_IN_PROGRESS;
  space.active.value = 1 - space.active.value;
  yield vm.slotsArchLock.unlock(ARCH_UNLOCK);
  yield* call(vm.srcu.synchronize());
  const next = generation + vm.spaces.length;
  // kvm_arch_memslots_updated: entries remember only the low bits; when these come round, nothing cached is left.
  if (next % MMIO_GENERATIONS < vm.spaces.length) yield* call(zapAllFast(vm));
  yield set.generation.willWrite(GENERATION);
  set.generation.value = next;
}

/** kvm_arch_flush_shadow_memslot: drop all roots, or only what the slot maps. */
function* flushShadowMemslot(vm: Vm, slot: Memslot): Steps<void> {
  if (vm.slotZapAll) {
    yield* call(zapAllFast(vm));
    return;
  }
  yield vm.mmuLock.write(FLUSH_LOCK);
  const pending: PendingFlush = { flush: false };
  yield* call(unmapGfnRange(vm, slot.fields.asId, slot.baseGfn, slot.endGfn, true, pending));
  if (pending.flush) yield* call(flushRemoteTlbs(vm));
  yield vm.mmuLock.unlock(FLUSH_UNLOCK);
}
