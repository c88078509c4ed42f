// Virtual machines of a scenario: KVM_CREATE_VM, vCPUs and the first memslots, made as the VMM makes them.
import { call, type Steps } from '../engine/process.ts';
import { createVcpu, createVm, destroyVm } from '../kvm/create.ts';
import { KVM_MEM_LOG_DIRTY_PAGES, KVM_MEM_READONLY } from '../kvm/memslot.ts';
import { setUserMemoryRegion } from '../kvm/set-memory-region.ts';
import type { Vm } from '../kvm/vm.ts';
import { OpenFile } from '../mm/task.ts';
import { ScenarioError } from './diagnostic.ts';
import type { Vm as VmEntry } from './scenario.ts';
import type { World } from './world.ts';
import { installFile } from './world-devices.ts';

const PAGE = 4096n;

/** Create the VM called `name` for the running process, with its descriptor. */
export function* openVm(world: World, name: string, vcpus: number): Steps<Vm> {
  const vm = yield* call(createVm(world.core, { name, yields: false }));
  for (let id = 0; id < vcpus; id++) yield* call(createVcpu(vm));
  const release = () => destroyVm(vm);
  const file = new OpenFile(world.sim, { name: `${name} file`, kind: 'kvm-vm', object: vm, release });
  yield* call(installFile(world, name, file));
  world.vms.set(name, vm);
  return vm;
}

/** What the scenario says a VM has from the start. Runs as a thread of its process. */
export function* setUpVm(world: World, entry: VmEntry): Steps<void> {
  const { name, spec } = entry;
  const vm = yield* call(openVm(world, name, spec.vcpus ?? 1));
  for (const [index, region] of (spec.regions ?? []).entries()) {
    const place = world.place(spec.process.name, region.memory.name)!;
    const offset = region.offset ?? 0n;
    const flags =
      (region.readonly === true ? KVM_MEM_READONLY : 0) | (region.log_dirty === true ? KVM_MEM_LOG_DIRTY_PAGES : 0);
    const result = yield* call(
      setUserMemoryRegion(vm, {
        slot: region.slot ?? index,
        flags,
        guestPhysAddr: region.gpa,
        memorySize: region.size ?? BigInt(place.pages) * PAGE - offset,
        userspaceAddr: BigInt(place.vpn) * PAGE + offset,
      }),
    );
    if (result !== 'ok') {
      const message = `memslot ${region.slot ?? index} of \`${name}\` fails with ${result}`;
      throw new ScenarioError([{ where: entry.where, message }]);
    }
  }
}
