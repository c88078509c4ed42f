// KVM_CREATE_VM and the end of a VM (virt/kvm/kvm_main.c kvm_create_vm, kvm_destroy_vm).
import { call, type Steps } from '../engine/process.ts';
import { step } from '../engine/step.ts';
import type { CoreMm } from '../mm/core.ts';
import { VIEW_REMOVED } from '../mm/ledger.ts';
import type { Mm } from '../mm/mm.ts';
import { registerNotifier } from '../mm/notifier-register.ts';
import { clearAsyncPf } from './async-pf.ts';
import { gpcDeactivate } from './gpc-refresh.ts';
import { kvmNotifierOps, release } from './notifier.ts';
import { Vcpu } from './vcpu.ts';
import { vcpuUnmap } from './vcpu-map.ts';
import { releaseKvmVfio } from './vfio-device.ts';
import { tellView, willLookAtView } from './view.ts';
import { Vm, type VmOptions } from './vm.ts';

const VCPU = step('kvm_vm_ioctl_create_vcpu', 'op');
const PUT = step('kvm_put_kvm', 'refcount');
const DEAD = step('kvm_destroy_vm:vm_dead', 'op');
const GONE = step('kvm_arch_free_vm', 'op');
const UNBALANCED = step('kvm_destroy_vm:mn_active_invalidate_count', 'op');

/** KVM_CREATE_VM by the running thread: the VM belongs to its address space. */
export function* createVm(core: CoreMm, options: VmOptions): Steps<Vm> {
  const mm = core.current.task.mm.peek()!;
  const vm = new Vm(core, mm, options);
  vm.notifierOps = kvmNotifierOps(vm);
  yield* call(registerNotifier(core, mm, vm.notifierOps));
  return vm;
}

/** A VM of `mm`, while the world is built. */
export function createVmNow(core: CoreMm, mm: Mm, options: VmOptions): Vm {
  const vm = new Vm(core, mm, options);
  vm.notifierOps = kvmNotifierOps(vm);
  mm.notifiers.registerNow(vm.notifierOps);
  return vm;
}

/** KVM_CREATE_VCPU */
export function* createVcpu(vm: Vm): Steps<Vcpu> {
  yield vm.vcpus.willUpdate(VCPU);
  const vcpu = new Vcpu(vm.core.sim, vm.name, vm.vcpus.value.length);
  vm.vcpus.value = [...vm.vcpus.value, vcpu];
  return vcpu;
}

/** kvm_put_kvm: the last user destroys the VM. */
export function* putVm(vm: Vm): Steps<void> {
  yield vm.users.willUpdate(PUT);
  vm.users.value -= 1;
  if (vm.users.value === 0) yield* call(destroyVm(vm));
}

/** kvm_destroy_vm, at the last close: nobody runs a vCPU or changes a slot any more. */
export function* destroyVm(vm: Vm): Steps<void> {
  const ops = vm.notifierOps!;
  for (const space of vm.spaces) {
    for (const slot of space.peekCurrent.slots.peek()) willLookAtView(vm, slot, DEAD);
  }
  yield vm.dead.willWrite(DEAD);
  vm.dead.value = true;
  for (const space of vm.spaces) {
    for (const slot of space.peekCurrent.slots.peek()) tellView(vm, slot, VIEW_REMOVED);
  }
  yield* call(vm.mm.notifiers.unregister(ops));
  // A window that was open at the unregistration never tells its end.
  yield vm.mnActive.willUpdate(UNBALANCED);
  vm.mnActive.value = 0;
  const device = vm.vfioDevice.peek();
  if (device !== null) yield* call(releaseKvmVfio(device));
  // kvm_arch_flush_shadow_all once more: release has run, by exit or by the unregistration, and finds nothing now.
  yield* call(release(vm));
  for (const vcpu of vm.vcpus.peek()) yield* call(clearAsyncPf(vm, vcpu));
  // kvm_xen_destroy_vcpu, kvm_xen_destroy_vm
  for (const gpc of vm.caches.peek()) yield* call(gpcDeactivate(vm, gpc));
  // free_nested
  for (const map of vm.hostMaps.peek()) yield* call(vcpuUnmap(vm, map, true));
  yield vm.gone.willWrite(GONE);
  vm.gone.value = true;
}
