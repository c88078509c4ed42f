// Entering the guest (arch/x86/kvm/x86.c vcpu_enter_guest, kvm_mmu_reload; tdp_mmu.c kvm_tdp_mmu_get_vcpu_root): obsolete
// roots are dropped, the shared root of the address space is found or made, and the TLB starts empty.
import type { Steps } from '../engine/process.ts';
import { step } from '../engine/step.ts';
import { TdpRoot } from './tdp-root.ts';
import type { Vcpu } from './vcpu.ts';
import type { Vm } from './vm.ts';
import { putRootNow } from './zap.ts';

const LOAD = step('kvm_mmu_reload', 'lock');
const NESTED = step('nested_vmx_enter_non_root_mode', 'vm-exit');
const UNLOCK = step('kvm_mmu_reload:unlock', 'lock');

/** Serve a reload request and load a root if there is none. A new root is named after the thread that makes it. */
export function* loadRoot(vm: Vm, vcpu: Vcpu): Steps<void> {
  const { sim } = vm.core;
  vm.roots.willUpdate(LOAD);
  vcpu.tlb.willUpdate(LOAD);
  yield vm.mmuLock.read(LOAD);
  vcpu.reload.value = false;
  const old = vcpu.root.value;
  const nested = vcpu.nested.value;
  if (old === null || old.invalid.value || old.nested !== nested) {
    if (old !== null) putRootNow(vm, old);
    // Roots of system management mode are not made: no guest of the model enters it.
    let root = vm.roots.value.find((r) => r.asId === 0 && r.nested === nested && !r.invalid.value);
    if (root === undefined) {
      const process = sim.current!;
      const name = `root ${process.name}.${process.nextNumber()} of ${vm.name}`;
      root = new TdpRoot(sim, { name, owner: vm.name, asId: 0, nested }, vm.mmuLock, vm.roots);
      vm.roots.value = [...vm.roots.value, root];
    }
    root.references.value += 1;
    vcpu.root.value = root;
    vcpu.flush();
  }
  yield vm.mmuLock.unlock(UNLOCK);
}

/**
 * The vCPU enters or leaves a nested guest (L2) whose hypervisor does not use second-stage paging of its own: the same
 * frame numbers, other tables (role.guest_mode).
 */
export function* switchNested(vcpu: Vcpu, nested: boolean): Steps<void> {
  yield vcpu.tlb.willUpdate(NESTED);
  if (vcpu.nested.value === nested) return;
  vcpu.nested.value = nested;
  vcpu.reload.value = true;
  vcpu.flush();
}
