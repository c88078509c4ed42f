// KVM_CHECK_EXTENSION and KVM_CREATE_VM as recorded on 6.1.192, 6.12.117 and a 6.12.117 with software-protected VMs.
import { describe, expect, it } from 'vitest';
import { Kernel } from '../../src/kernel/kernel.ts';
import {
  checkExtension,
  checkVmType,
  KVM_CAP_GUEST_MEMFD,
  KVM_CAP_NR_MEMSLOTS,
  KVM_CAP_USER_MEMORY2,
  KVM_CAP_VM_TYPES,
} from '../../src/kvm/capabilities.ts';
import { makeGuest } from './guest.ts';

describe.each([
  ['v6.1.192', 0, 0, 0, 'EINVAL'],
  ['v6.12.117', 1, 1, 1, 'EINVAL'],
  ['v6.12.117+pinlab', 1, 1, 3, 'ok'],
] as const)('%s', (name, userMemory2, guestMemfd, vmTypes, protectedVm) => {
  const kernel = new Kernel(name);

  it('says what /dev/kvm can do', () => {
    const of = (capability: number) => checkExtension(kernel, null, capability);
    expect([of(KVM_CAP_USER_MEMORY2), of(KVM_CAP_GUEST_MEMFD), of(KVM_CAP_VM_TYPES)]).toEqual([
      userMemory2,
      guestMemfd,
      vmTypes,
    ]);
    expect([of(KVM_CAP_NR_MEMSLOTS), of(9999)]).toEqual([32764, 0]);
  });

  it('has no guest_memfd on a default VM', () => {
    const { vm } = makeGuest({ kernel: name });
    expect(checkExtension(kernel, vm, KVM_CAP_GUEST_MEMFD)).toBe(0);
  });

  it('offers software-protected VMs or not', () => {
    expect([checkVmType(kernel, 0), checkVmType(kernel, 1), checkVmType(kernel, 7)]).toEqual([
      'ok',
      protectedVm,
      'EINVAL',
    ]);
  });
});
