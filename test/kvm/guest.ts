// A VMM with memory and a virtual machine, for tests of KVM.
import type { Steps } from '../../src/engine/process.ts';
import { type GuestResult, vcpuRead, vcpuWrite } from '../../src/guest/vcpu.ts';
import { createVmNow } from '../../src/kvm/create.ts';
import { type MemoryRegion, setUserMemoryRegion } from '../../src/kvm/set-memory-region.ts';
import type { Vcpu } from '../../src/kvm/vcpu.ts';
import type { Vm, VmOptions } from '../../src/kvm/vm.ts';
import type { CoreMm } from '../../src/mm/core.ts';
import type { Errno } from '../../src/mm/errno.ts';
import { type AccessResult, cpuAccess } from '../../src/mm/fault/access.ts';
import type { Vma, VmaFields } from '../../src/mm/mapping/vma.ts';
import type { Mm } from '../../src/mm/mm.ts';
import type { Task } from '../../src/mm/process/task.ts';
import { placeVma } from '../support/memory.ts';
import { tokenOf } from '../support/tokens.ts';
import { makeTask, makeWorld, run, type TestWorld, type WorldOptions } from '../support/world.ts';

/** Host page and guest frame of the memory that tests give to the guest. */
export const VPN = 0x10000;
export const GFN = 0x8;
export const B = tokenOf('b');

export interface Guest {
  readonly world: TestWorld;
  readonly core: CoreMm;
  readonly task: Task;
  readonly mm: Mm;
  readonly vm: Vm;
  readonly vcpu: Vcpu;
}

/** A VM without memslots and one vCPU. */
export function makeGuest(options: WorldOptions = {}, vmOptions: Partial<VmOptions> = {}): Guest {
  const world = makeWorld(options);
  const task = makeTask(world, 'vmm');
  const mm = task.mm.peek()!;
  const vm = createVmNow(world.core, mm, { name: 'vm', ...vmOptions });
  return { world, core: world.core, task, mm, vm, vcpu: vm.addVcpuNow() };
}

/** Private anonymous memory at VPN, not touched yet. */
export function mapMemory(guest: Guest, pages = 8, fields: Partial<VmaFields> = {}): Vma {
  return placeVma(guest.mm, VPN, pages, { hugepage: 'never', ...fields });
}

export function region(slot: number, gfn: number, pages: number, vpn: number, flags = 0): MemoryRegion {
  return {
    slot,
    flags,
    guestPhysAddr: BigInt(gfn) * 4096n,
    memorySize: BigInt(pages) * 4096n,
    userspaceAddr: BigInt(vpn) * 4096n,
  };
}

export function setSlot(guest: Guest, wanted: MemoryRegion): 'ok' | Errno {
  return run(guest.world, guest.task, () => setUserMemoryRegion(guest.vm, wanted));
}

/** Slot 1: the memory at VPN, at guest frame GFN. */
export function addSlot(guest: Guest, pages = 8, flags = 0): void {
  const result = setSlot(guest, region(1, GFN, pages, VPN, flags));
  if (result !== 'ok') throw new Error(`the slot was refused with ${result}`);
}

export function guestRead(guest: Guest, gfn = GFN): GuestResult {
  return run(guest.world, guest.task, () => vcpuRead(guest.vm, guest.vcpu, gfn));
}

export function guestWrite(guest: Guest, gfn = GFN, token = B): GuestResult {
  return run(guest.world, guest.task, () => vcpuWrite(guest.vm, guest.vcpu, gfn, token));
}

export function cpuRead(guest: Guest, vpn = VPN): AccessResult {
  return run(guest.world, guest.task, () => cpuAccess(guest.core, vpn, null));
}

export function cpuWrite(guest: Guest, vpn: number, token: number): AccessResult {
  return run(guest.world, guest.task, () => cpuAccess(guest.core, vpn, { token }));
}

/** Run kernel code as the VMM. */
export function as<R>(guest: Guest, body: () => Steps<R>): R {
  return run(guest.world, guest.task, body);
}
