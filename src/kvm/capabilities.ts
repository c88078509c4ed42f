// KVM_CHECK_EXTENSION for what concerns memory (virt/kvm/kvm_main.c, arch/x86/kvm/x86.c), and which types of VM exist.
import type { Kernel } from '../kernel/kernel.ts';
import type { Errno } from '../mm/errno.ts';
import { userMemSlots } from './memslot.ts';
import type { Vm } from './vm.ts';

export const KVM_CAP_NR_MEMSLOTS = 10;
export const KVM_CAP_READONLY_MEM = 81;
export const KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2 = 168;
export const KVM_CAP_USER_MEMORY2 = 231;
export const KVM_CAP_GUEST_MEMFD = 234;
export const KVM_CAP_VM_TYPES = 235;

/** KVM_X86_DEFAULT_VM, KVM_X86_SW_PROTECTED_VM */
export type VmType = 0 | 1;

/** KVM_CHECK_EXTENSION on /dev/kvm (`vm` null) or on a VM; 0 for what the kernel does not know. */
export function checkExtension(kernel: Kernel, vm: Vm | null, capability: number): number {
  switch (capability) {
    case KVM_CAP_NR_MEMSLOTS:
      return userMemSlots(kernel);
    case KVM_CAP_READONLY_MEM:
      return 1;
    case KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2:
      // KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE; KVM_DIRTY_LOG_INITIALLY_SET is not modelled.
      return 1;
    case KVM_CAP_USER_MEMORY2:
      return kernel.has('kvm.user-memory-region2') ? 1 : 0;
    case KVM_CAP_GUEST_MEMFD:
      // A default VM has no private memory, and says so; it can make the file all the same.
      return kernel.has('gmem.present') && (vm === null || vm.privateMemory) ? 1 : 0;
    case KVM_CAP_VM_TYPES:
      if (!kernel.has('kvm.user-memory-region2')) return 0;
      return kernel.has('kvm.sw-protected-vm') ? 3 : 1;
    default:
      return 0;
  }
}

/** KVM_CREATE_VM: EINVAL for a type that the kernel does not offer. */
export function checkVmType(kernel: Kernel, type: number): 'ok' | Errno {
  return type === 0 || (type === 1 && kernel.has('kvm.sw-protected-vm')) ? 'ok' : 'EINVAL';
}
