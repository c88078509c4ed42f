// KVM's MMU notifier (virt/kvm/kvm_main.c kvm_mmu_notifier_*): a window over guest memory zaps the SPTEs and keeps page
// faults out until it closes. SEV's cache write-back after reclaim is not modelled.
import { call, type Steps } from '../engine/process.ts';
import { step } from '../engine/step.ts';
import type { NotifierOps, NotifierRange } from '../mm/notifier.ts';
import { gpcInvalidateStart } from './gpc-notifier.ts';
import { dropInProgress, invalidateBegin, rangeAddNow } from './invalidate.ts';
import type { Memslot } from './memslot.ts';
import { SPTE_ACCESSED, sptePresent } from './spte.ts';
import { flushRemoteTlbs } from './tlb-flush.ts';
import type { Vm } from './vm.ts';
import { type PendingFlush, unmapGfnRange, zapAllRoots } from './zap.ts';

const COUNT = step('kvm_mmu_notifier_invalidate_range_start:mn_active_invalidate_count', 'notifier');
const SLOTS = step('__kvm_handle_hva_range:memslots', 'op');
const NO_SLOT = step('__kvm_handle_hva_range:srcu_read_unlock', 'none');
const BEGIN = step('kvm_mmu_invalidate_begin', 'lock');
const UNLOCK = step('__kvm_handle_hva_range:unlock', 'lock');
const END_SEQ = step('kvm_mmu_invalidate_end:seq', 'lock');
const END_COUNT = step('kvm_mmu_invalidate_end:in_progress', 'lock');
const UNCOUNT = step('kvm_mmu_notifier_invalidate_range_end:mn_active_invalidate_count', 'notifier');
const AGE_LOCK = step('kvm_age_gfn:lock', 'lock');
const AGE = step('kvm_age_gfn:clear-accessed', 'pte-op');
const RELEASE = step('kvm_mmu_notifier_release:lock', 'lock');
const RELEASE_UNLOCK = step('kvm_mmu_notifier_release:unlock', 'lock');
const RELEASE_TLB = step('kvm_mmu_notifier_release:no-vcpu-runs', 'none');

/** The part of a memslot that a range of host pages meets. */
interface Overlap {
  readonly slot: Memslot;
  readonly start: number;
  readonly end: number;
}

/** kvm_mmu_notifier_ops of a VM, to be registered with its address space. */
export function kvmNotifierOps(vm: Vm): NotifierOps {
  return {
    name: `kvm ${vm.name}`,
    invalidateRangeStart: (range) => rangeStart(vm, range),
    invalidateRangeEnd: (range) => rangeEnd(vm, range),
    release: () => release(vm),
    clearFlushYoung: (_mm, start, end) => clearFlushYoung(vm, start, end),
  };
}

/** Enter the SRCU section and find the slots that meet [start, end). */
function* slotsOf(vm: Vm, start: number, end: number): Steps<readonly Overlap[]> {
  // Publishing a set waits until no window is open, so that both address spaces may be read at once.
  for (const space of vm.spaces) space.active.willRead(SLOTS);
  vm.srcu.readLock();
  yield vm.core.sim.local(SLOTS);
  vm.srcu.enter();
  const found: Overlap[] = [];
  for (const space of vm.spaces) {
    for (const slot of space.current.peekHva(start, end)) {
      const from = Math.max(start, slot.fields.vpn);
      const to = Math.min(end, slot.fields.vpn + slot.pages);
      found.push({ slot, start: slot.gfnOf(from), end: slot.gfnOf(to) });
    }
  }
  return found;
}

function* leaveSlots(vm: Vm): Steps<void> {
  vm.srcu.readUnlock();
  yield vm.core.sim.local(NO_SLOT);
  vm.srcu.leave();
}

/** kvm_mmu_notifier_invalidate_range_start. On return no vCPU reaches the range, and none will until the end. */
function* rangeStart(vm: Vm, range: NotifierRange): Steps<boolean> {
  // The count is raised before any cache is looked at: a cache activated later sees it and refreshes again.
  vm.caches.willRead(COUNT);
  yield vm.mnActive.willUpdate(COUNT);
  vm.mnActive.value += 1;
  yield* call(gpcInvalidateStart(vm.caches.value, range.start, range.end));
  const slots = yield* call(slotsOf(vm, range.start, range.end));
  if (slots.length === 0 && vm.core.kernel.has('kvm.notifier-locks-if-slot-hit')) {
    yield* call(leaveSlots(vm));
    return true;
  }
  vm.inProgress.willUpdate(BEGIN);
  yield vm.mmuLock.write(BEGIN);
  invalidateBegin(vm);
  const unit = vm.core.kernel.way('kvm.retry-unit');
  if (unit === 'hva') rangeAddNow(vm, range.start, range.end);
  const pending: PendingFlush = { flush: false };
  for (const { slot, start, end } of slots) {
    if (unit === 'gfn') {
      // mmu_lock may be dropped between slots: each range is added right before its zap.
      if (slot !== slots[0]?.slot) yield vm.inProgress.willUpdate(BEGIN);
      rangeAddNow(vm, start, end);
    }
    yield* call(unmapGfnRange(vm, slot.fields.asId, start, end, range.blockable, pending));
  }
  if (pending.flush) yield* call(flushRemoteTlbs(vm));
  vm.srcu.readUnlock();
  yield vm.mmuLock.unlock(UNLOCK);
  vm.srcu.leave();
  return true;
}

/** kvm_mmu_notifier_invalidate_range_end */
function* rangeEnd(vm: Vm, range: NotifierRange): Steps<void> {
  const slots = yield* call(slotsOf(vm, range.start, range.end));
  if (slots.length === 0 && vm.core.kernel.has('kvm.notifier-locks-if-slot-hit')) yield* call(leaveSlots(vm));
  else {
    vm.seq.willUpdate(END_SEQ);
    yield vm.mmuLock.write(END_SEQ);
    vm.seq.value += 1;
    vm.inProgress.willUpdate(END_COUNT);
    vm.srcu.readUnlock();
    yield vm.mmuLock.unlock(END_COUNT);
    dropInProgress(vm);
    vm.srcu.leave();
  }
  yield vm.mnActive.willUpdate(UNCOUNT);
  vm.mnActive.value -= 1;
}

/** kvm_mmu_notifier_clear_flush_young: were pages [start, end) used through the guest's tables? */
function* clearFlushYoung(vm: Vm, start: number, end: number): Steps<boolean> {
  const slots = yield* call(slotsOf(vm, start, end));
  if (slots.length === 0) {
    yield* call(leaveSlots(vm));
    return false;
  }
  const locks = !vm.core.kernel.has('kvm.lockless-aging');
  if (locks) yield vm.mmuLock.write(AGE_LOCK);
  let young = false;
  for (const { slot, start: from, end: to } of slots) {
    for (const root of vm.roots.peek()) {
      if (root.asId !== slot.fields.asId) continue;
      for (let gfn = from; gfn < to; gfn++) {
        if (!sptePresent(root.peek(gfn).bits)) continue;
        yield root.willUpdate(gfn, AGE);
        const spte = root.read(gfn);
        if (!sptePresent(spte.bits) || (spte.bits & SPTE_ACCESSED) === 0) continue;
        root.setBits(gfn, spte, spte.bits & ~SPTE_ACCESSED);
        young = true;
      }
    }
  }
  if (young) yield* call(flushRemoteTlbs(vm));
  vm.srcu.readUnlock();
  if (locks) yield vm.mmuLock.unlock(UNLOCK);
  else yield vm.core.sim.local(NO_SLOT);
  vm.srcu.leave();
  return young;
}

/** kvm_mmu_notifier_release, kvm_flush_shadow_all: the address space goes away, and with it everything mapped of it. */
export function* release(vm: Vm): Steps<void> {
  yield vm.srcu.readLock();
  vm.srcu.enter();
  yield vm.mmuLock.write(RELEASE);
  yield* call(zapAllRoots(vm));
  vm.srcu.readUnlock();
  yield vm.mmuLock.unlock(RELEASE_UNLOCK);
  vm.srcu.leave();
  // No flush: the threads that ran vCPUs are gone, and nobody can enter the guest. What their TLBs hold is unreachable.
  for (const vcpu of vm.vcpus.peek()) {
    yield vcpu.tlb.willUpdate(RELEASE_TLB);
    vcpu.flush();
  }
}
