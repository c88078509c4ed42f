// Virtual machines of a scenario: KVM_CREATE_VM, vCPUs and the first memslots, made as the VMM makes them.
import { call, type Steps } from '../../engine/process.ts';
import { checkVmType } from '../../kvm/capabilities.ts';
import { createVcpu, createVm, putVm } from '../../kvm/create.ts';
import { createGuestMemfd } from '../../kvm/guest-memfd.ts';
import { KVM_MEM_GUEST_MEMFD, KVM_MEM_LOG_DIRTY_PAGES, KVM_MEM_READONLY } from '../../kvm/memslot.ts';
import { setUserMemoryRegion } from '../../kvm/set-memory-region.ts';
import type { Vm } from '../../kvm/vm.ts';
import type { Errno } from '../../mm/errno.ts';
import { OpenFile } from '../../mm/process/task.ts';
import { ScenarioError } from '../file/diagnostic.ts';
import { Ref } from '../file/reference.ts';
import type { Vm as VmEntry } from '../file/scenario.ts';
import { fileNamed, installFile } from './devices.ts';
import type { World } from './world.ts';

const PAGE = 4096n;

/** Create the VM called `name` for the running process, with its descriptor. */
export function* openVm(world: World, name: string, vcpus: number, privateMemory = false): Steps<Vm> {
  const vm = yield* call(createVm(world.core, { name, yields: false, privateMemory }));
  for (let id = 0; id < vcpus; id++) yield* call(createVcpu(vm));
  const release = () => putVm(vm);
  const file = new OpenFile(world.sim, { name: `${name} file`, kind: 'kvm-vm', object: vm, release });
  yield* call(installFile(world, name, file));
  world.vms.set(name, vm);
  return vm;
}

/** KVM_CREATE_GUEST_MEMFD for the running process: a memory object and its descriptor, both by the name of the request. */
export function* openGuestMemfd(
  world: World,
  vm: Vm,
  request: { readonly name: string; readonly size: bigint; readonly flags: number },
): Steps<'ok' | Errno> {
  const memfd = yield* call(createGuestMemfd(vm, request));
  if (typeof memfd === 'string') return memfd;
  const { name, size } = request;
  yield* call(installFile(world, name, memfd.file));
  const vmRef = new Ref(['vm'], vm.name);
  const object = {
    name,
    spec: { kind: 'guest_memfd', size, vm: vmRef },
    inode: memfd.inode,
    pfnMapping: null,
  } as const;
  world.memory.set(name, object);
  return 'ok';
}

/** What the scenario says a VM has from the start. Runs as a thread of its process. */
export function* setUpVm(world: World, entry: VmEntry): Steps<void> {
  const { name, spec } = entry;
  const privateMemory = spec.type === 'sw-protected';
  if (checkVmType(world.kernel, privateMemory ? 1 : 0) !== 'ok') {
    throw new ScenarioError([
      { where: entry.where, message: 'this kernel has no software-protected VMs', hint: 'KVM_SW_PROTECTED_VM' },
    ]);
  }
  const vm = yield* call(openVm(world, name, spec.vcpus ?? 1, privateMemory));
  for (const memory of world.scenario.memory) {
    if (memory.spec.kind !== 'guest_memfd' || memory.spec.vm.name !== name) continue;
    const made = yield* call(openGuestMemfd(world, vm, { name: memory.name, size: memory.spec.size, flags: 0 }));
    if (made === 'ok') continue;
    throw new ScenarioError([{ where: memory.where, message: `guest_memfd \`${memory.name}\` fails with ${made}` }]);
  }
  for (const [index, region] of (spec.regions ?? []).entries()) {
    const place = world.place(spec.process.name, region.memory.name);
    if (place === undefined) {
      const message = `\`${region.memory.name}\` is not mapped yet when the memslots of \`${name}\` are set up`;
      const hint = 'the BAR of a device is mapped after that: use kvm.set_memory_region in a script';
      throw new ScenarioError([{ where: entry.where, message, hint }]);
    }
    const offset = region.offset ?? 0n;
    const memfd = region.guest_memfd;
    const flags =
      (region.readonly === true ? KVM_MEM_READONLY : 0) |
      (region.log_dirty === true ? KVM_MEM_LOG_DIRTY_PAGES : 0) |
      (memfd === undefined ? 0 : KVM_MEM_GUEST_MEMFD);
    const file = memfd === undefined ? undefined : fileNamed(world, memfd.name);
    const result = yield* call(
      setUserMemoryRegion(vm, {
        slot: region.slot ?? index,
        flags,
        guestPhysAddr: region.gpa,
        memorySize: region.size ?? BigInt(place.pages) * PAGE - offset,
        userspaceAddr: BigInt(place.vpn) * PAGE + offset,
        ...(file === undefined ? {} : { guestMemfd: { file, offset: region.guest_memfd_offset ?? 0n } }),
      }),
    );
    if (result !== 'ok') {
      const message = `memslot ${region.slot ?? index} of \`${name}\` fails with ${result}`;
      throw new ScenarioError([{ where: entry.where, message }]);
    }
  }
}
