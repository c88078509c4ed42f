// Telling vCPUs (virt/kvm/kvm_main.c kvm_make_all_cpus_request): a request bit and, for those in the guest, an interrupt
// that is waited for. On return each of them has left the guest, or will see the request before it enters again.
import type { Steps } from '../engine/process.ts';
import { type Step, step } from '../engine/step.ts';
import type { Vm } from './vm.ts';

const FLUSH = step('kvm_flush_remote_tlbs:kick', 'tlb-ipi');
const RELOAD = step('kvm_make_all_cpus_request:free-obsolete-roots', 'tlb-ipi');

/** kvm_flush_remote_tlbs. `ordered`: checkers judge accesses by whether they came before the last step of it. */
export function* flushRemoteTlbs(vm: Vm, ordered = false): Steps<void> {
  const vcpus = vm.vcpus.peek();
  for (const [i, vcpu] of vcpus.entries()) {
    if (ordered && i > 0 && i === vcpus.length - 1) willOrderAccesses(vm, FLUSH);
    else vcpu.tlb.willUpdate(FLUSH);
    yield vm.core.sim.local(FLUSH);
    vcpu.flush();
  }
}

/** Announce a step that comes before or after each access of a vCPU through its TLB, for checkers that hear of both. */
export function willOrderAccesses(vm: Vm, at: Step): void {
  for (const vcpu of vm.vcpus.peek()) vcpu.tlb.willWrite(at);
}

/** KVM_REQ_MMU_FREE_OBSOLETE_ROOTS to all: the next entry loads a root, which also flushes the TLB. */
export function* requestReload(vm: Vm): Steps<void> {
  for (const vcpu of vm.vcpus.peek()) {
    yield vcpu.tlb.willUpdate(RELOAD);
    vcpu.reload.value = true;
    vcpu.flush();
  }
}
