// KVM_SET_MEMORY_ATTRIBUTES (virt/kvm/kvm_main.c kvm_vm_set_mem_attributes): which guest frames are private, that is, live
// in guest_memfd. Nothing is copied: private and shared memory of one frame are two pages.
import { call, type Steps } from '../engine/process.ts';
import { step } from '../engine/step.ts';
import { PMD_PAGES } from '../hw/machine.ts';
import type { Errno } from '../mm/errno.ts';
import { dropInProgress, invalidateBegin, rangeAddNow } from './invalidate.ts';
import { MAX_GFNS } from './tdp-root.ts';
import { flushRemoteTlbs } from './tlb-flush.ts';
import type { Vm } from './vm.ts';
import { type PendingFlush, unmapGfnRange } from './zap.ts';

const LOCK = step('kvm_vm_set_mem_attributes:slots_lock', 'lock');
const LOOK = step('kvm_range_has_memory_attributes', 'op');
const BEGIN = step('kvm_pre_set_memory_attributes', 'lock');
const BEGIN_UNLOCK = step('kvm_pre_set_memory_attributes:unlock', 'lock');
const STORE = step('kvm_vm_set_mem_attributes:store', 'op');
const END = step('kvm_arch_post_set_memory_attributes', 'lock');
const END_COUNT = step('kvm_arch_post_set_memory_attributes:in_progress', 'lock');
const UNLOCK = step('kvm_vm_set_mem_attributes:slots_unlock', 'lock');

/** KVM_MEMORY_ATTRIBUTE_PRIVATE */
export const KVM_MEMORY_ATTRIBUTE_PRIVATE = 1 << 3;
const PAGE = 4096n;

export interface MemoryAttributes {
  readonly address: bigint;
  readonly size: bigint;
  readonly attributes: number;
  readonly flags: number;
}

/** ENOTTY: not in this kernel; EINVAL: flags, attributes that the VM does not have, an empty or unaligned range. */
export function* setMemoryAttributes(vm: Vm, request: MemoryAttributes): Steps<'ok' | Errno> {
  if (!vm.core.kernel.has('gmem.present')) return 'ENOTTY';
  const { address, size, attributes, flags } = request;
  const supported = vm.privateMemory ? KVM_MEMORY_ATTRIBUTE_PRIVATE : 0;
  if (flags !== 0 || (attributes & ~supported) !== 0) return 'EINVAL';
  if (size === 0n || address + size >= 2n ** 64n || address % PAGE !== 0n || size % PAGE !== 0n) return 'EINVAL';
  const start = Number(address / PAGE);
  const end = Math.min(Number((address + size) / PAGE), MAX_GFNS);
  yield vm.slotsLock.lock(LOCK);
  yield* call(setLocked(vm, start, end, attributes === 0 ? 0 : 1));
  yield vm.slotsLock.unlock(UNLOCK);
  return 'ok';
}

function* setLocked(vm: Vm, start: number, end: number, value: number): Steps<void> {
  const { attributes } = vm;
  // Changed under slots_lock only.
  yield vm.core.sim.local(LOOK);
  if (attributes.peek(start) === value && attributes.endOfRun(start, end - 1) === end - 1) return;
  const open = yield* call(begin(vm, start, end));
  yield attributes.willUpdateRange(start, end - 1, STORE);
  attributes.fill(start, end - 1, value);
  if (open) yield* call(finish(vm));
}

/** kvm_handle_gfn_range with kvm_pre_set_memory_attributes: a window over the slots that the range meets. */
function* begin(vm: Vm, start: number, end: number): Steps<boolean> {
  const pending: PendingFlush = { flush: false };
  let open = false;
  for (const space of vm.spaces) {
    for (const slot of space.peekCurrent.slots.peek()) {
      const from = Math.max(start, slot.baseGfn);
      const to = Math.min(end, slot.endGfn);
      if (from >= to) continue;
      vm.inProgress.willUpdate(BEGIN);
      if (open) yield vm.changingAttributes.willUpdate(BEGIN);
      else {
        vm.changingAttributes.willUpdate(BEGIN);
        yield vm.mmuLock.write(BEGIN);
        invalidateBegin(vm);
        // The huge pages at head and tail become mixed: none may be installed from here on.
        if (vm.core.kernel.has('gmem.attribute-change-blocks-hugepages')) vm.changingAttributes.value = [start, end];
      }
      open = true;
      rangeAddNow(vm, from, to);
      yield* call(unmapGfnRange(vm, space.asId, from, to, true, pending));
    }
  }
  if (pending.flush) yield* call(flushRemoteTlbs(vm));
  if (open) yield vm.mmuLock.unlock(BEGIN_UNLOCK);
  return open;
}

function* finish(vm: Vm): Steps<void> {
  vm.changingAttributes.willUpdate(END);
  vm.seq.willUpdate(END);
  yield vm.mmuLock.write(END);
  vm.changingAttributes.value = [];
  vm.seq.value += 1;
  vm.inProgress.willUpdate(END_COUNT);
  yield vm.mmuLock.unlock(END_COUNT);
  dropInProgress(vm);
}

/**
 * hugepage_test_mixed: are the 2 MiB around `gfn` private in part, or about to change? In a step that `willReadMixed`
 * announced.
 */
export function mixedAttributes(vm: Vm, gfn: number): boolean {
  const first = gfn - (gfn % PMD_PAGES);
  const last = first + PMD_PAGES - 1;
  const [start, end] = vm.changingAttributes.value;
  if (start !== undefined && end !== undefined && start <= last && first < end) return true;
  return vm.attributes.endOfRun(first, last) !== last;
}
