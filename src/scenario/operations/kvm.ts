// KVM as a VMM and its guest see it: memslots, dirty logs, guest accesses, pfn caches, the KVM-VFIO device.
import * as z from 'zod';
import { call, type Steps } from '../../engine/process.ts';
import { step } from '../../engine/step.ts';
import { vcpuRead, vcpuWrite } from '../../guest/vcpu.ts';
import { checkExtension, checkVmType } from '../../kvm/capabilities.ts';
import { clearDirtyLog, getDirtyLog } from '../../kvm/dirty-log.ts';
import { emulateCmpxchg } from '../../kvm/emulate.ts';
import { GfnToPfnCache } from '../../kvm/gpc.ts';
import { gpcAccess, gpcActivate, gpcDeactivate, gpcRefresh } from '../../kvm/gpc-refresh.ts';
import { KVM_MEMORY_ATTRIBUTE_PRIVATE, setMemoryAttributes } from '../../kvm/memory-attributes.ts';
import { setUserMemoryRegion } from '../../kvm/set-memory-region.ts';
import { type HostMap, hostMapAccess, vcpuMap, vcpuUnmap } from '../../kvm/vcpu-map.ts';
import { createKvmVfio, kvmVfioSetAttr } from '../../kvm/vfio-device.ts';
import type { Vm } from '../../kvm/vm.ts';
import { type Ref, zDeclares, zRef } from '../file/reference.ts';
import { zAddress, zContent, zCount, zSize } from '../file/scalar.ts';
import { ScriptMistake } from '../mistake.ts';
import { defineOperation, type Outcome } from '../operation.ts';
import type { OperationContext } from '../world/context.ts';
import { fileNamed } from '../world/devices.ts';
import { openGuestMemfd, openVm } from '../world/vms.ts';
import { ownContent, tokensOf } from './access.ts';
import { defineIoctl, inRun } from './descriptor.ts';
import { outcome } from './mapping.ts';
import { mustRange, processOf, WHERE } from './place.ts';

const CHECK = step('kvm_vm_ioctl_check_extension_generic', 'op');
const PAGE = 4096n;
const VM = {
  vm: zRef('vm').optional().describe('Default: the VM that acts, or the only one of the process.'),
} as const;

/** The VM that the arguments name, that acts, or that the process has. */
function vmOf(context: OperationContext, ref: Ref | undefined): Vm {
  const { world } = context.performance;
  const named = ref ?? (context.subjectKind === 'vcpu' ? { name: context.subject } : undefined);
  const mm = world.core.current.task.mm.peek();
  const vm = named === undefined ? [...world.vms.values()].find((one) => one.mm === mm) : world.vms.get(named.name);
  if (vm === undefined) throw new ScriptMistake(`${processOf(context)} has no VM ${named?.name ?? ''}`);
  return vm;
}

function vmOfArgs(context: OperationContext, args: { readonly vm?: Ref | undefined }): Vm {
  return vmOf(context, args.vm);
}

function* guestAccess(
  context: OperationContext,
  args: {
    readonly vm?: Ref | undefined;
    readonly vcpu?: number | undefined;
    readonly gpa: bigint;
    readonly length?: bigint | undefined;
  },
  text: string | null,
): Steps<Outcome> {
  const vm = vmOf(context, args.vm);
  const number = args.vcpu ?? context.performance.actor.vcpu;
  const vcpu = vm.vcpus.peek()[number];
  if (vcpu === undefined) throw new ScriptMistake(`${vm.name} has no vCPU ${number}`);
  const first = Number(args.gpa / PAGE);
  const last = Number((args.gpa + (args.length ?? 1n) - 1n) / PAGE);
  const seen: string[] = [];
  for (let gfn = first; gfn <= last; gfn++) {
    const result = yield* call(
      text === null ? vcpuRead(vm, vcpu, gfn) : vcpuWrite(vm, vcpu, gfn, tokensOf(context).of(text)),
    );
    if ('exit' in result) return exitOutcome(result.exit, seen);
    const value = tokensOf(context).text(result.token);
    if (seen[seen.length - 1] !== value) seen.push(value);
  }
  return { returns: 0, shows: { value: seen.join(' '), exit: 'none' } };
}

/** KVM_RUN's errno where it has one; other exits succeed and are shown. */
function exitOutcome(exit: string, seen: readonly string[]): Outcome {
  const shows = { exit, value: seen.join(' ') };
  if (exit === 'EFAULT' || exit === 'EINTR' || exit === 'ENOMEM' || exit === 'EIO') return { errno: exit, shows };
  if (exit === 'HWPOISON') return { errno: 'SIGBUS', shows };
  if (exit === 'MEMORY_FAULT') return { errno: 'EFAULT', shows };
  return { returns: 0, shows };
}

const GUEST_ARGS = {
  ...VM,
  vcpu: zCount().optional().describe('Default: the vCPU that acts.'),
  gpa: zAddress.describe('Guest physical address.'),
  length: zSize.optional().describe('One access to each page; default: one.'),
} as const;
const GUEST_SHOWS = {
  value: 'What the guest read or wrote.',
  exit: 'Why KVM_RUN returned: none, MMIO, EFAULT, HWPOISON, MEMORY_FAULT...',
};

export const kvmOperations = [
  defineOperation({
    name: 'vcpu.read',
    summary: 'The guest reads memory: a vCPU walks its second stage, faulting as needed.',
    on: ['vcpu', 'process'],
    args: z.strictObject(GUEST_ARGS),
    shows: GUEST_SHOWS,
    run: (context, args) => inRun(context, vmOf(context, args.vm), () => guestAccess(context, args, null)),
  }),
  defineOperation({
    name: 'vcpu.write',
    summary: 'The guest writes memory.',
    on: ['vcpu', 'process'],
    args: z.strictObject({ ...GUEST_ARGS, value: zContent.optional() }),
    shows: GUEST_SHOWS,
    run: (context, args) => {
      const text = args.value ?? ownContent(context);
      return inRun(context, vmOf(context, args.vm), () => guestAccess(context, args, text));
    },
  }),
  defineOperation({
    name: 'vcpu.cmpxchg',
    summary: 'A locked compare-and-exchange of the guest that KVM has to emulate.',
    on: ['vcpu', 'process'],
    args: z.strictObject({ ...VM, gpa: zAddress, expected: zContent, value: zContent }),
    shows: { value: 'What was there before.', exit: 'none, or MMIO when nothing is there.' },
    *run(context, args) {
      const gfn = Number(args.gpa / PAGE);
      const vm = vmOf(context, args.vm);
      const result = yield* call(
        emulateCmpxchg(vm, gfn, tokensOf(context).of(args.expected), tokensOf(context).of(args.value)),
      );
      if ('exit' in result) return { returns: 0, shows: { exit: result.exit, value: '' } };
      return { returns: 0, shows: { exit: 'none', value: tokensOf(context).text(result.token) } };
    },
  }),
  defineOperation({
    name: 'kvm.create_vm',
    summary: 'KVM_CREATE_VM with vCPUs.',
    on: ['process'],
    args: z.strictObject({
      as: zDeclares('vm', 'fd'),
      vcpus: zCount(1).optional(),
      type: z
        .union([z.enum(['default', 'sw-protected']), zCount()])
        .optional()
        .describe('Type of VM; default: an ordinary one.'),
    }),
    *run(context, args) {
      const { world } = context.performance;
      const type = typeof args.type === 'number' ? args.type : args.type === 'sw-protected' ? 1 : 0;
      const known = checkVmType(world.kernel, type);
      if (known !== 'ok') return { errno: known };
      yield* call(openVm(world, args.as.name, args.vcpus ?? 1, type === 1));
      return { returns: 0 };
    },
  }),
  defineIoctl({
    name: 'kvm.check_extension',
    summary: 'KVM_CHECK_EXTENSION of /dev/kvm, or of a VM.',
    on: ['process'],
    args: z.strictObject({ vm: zRef('vm').optional(), capability: zCount() }),
    target: (context, args) => (args.vm === undefined ? null : vmOf(context, args.vm)),
    *run(context, args, vm) {
      const { world } = context.performance;
      yield world.sim.local(CHECK);
      return { returns: checkExtension(world.kernel, vm, args.capability) };
    },
  }),
  defineIoctl({
    name: 'kvm.create_guest_memfd',
    summary: 'KVM_CREATE_GUEST_MEMFD: memory for private pages of a VM.',
    on: ['process'],
    args: z.strictObject({ ...VM, as: zDeclares('memory', 'fd'), size: zSize, flags: zCount().optional() }),
    target: vmOfArgs,
    *run(context, args, vm) {
      const request = { name: args.as.name, size: args.size, flags: args.flags ?? 0 };
      return outcome(yield* call(openGuestMemfd(context.performance.world, vm, request)));
    },
  }),
  defineIoctl({
    name: 'kvm.set_memory_attributes',
    summary: 'KVM_SET_MEMORY_ATTRIBUTES: makes guest frames private or shared.',
    on: ['process'],
    args: z.strictObject({
      ...VM,
      gpa: zAddress,
      size: zSize,
      private: z.boolean().optional().describe('Default: true.'),
      attributes: zCount().optional().describe('The attributes field as a number.'),
      flags: zCount().optional(),
    }),
    target: vmOfArgs,
    *run(_context, args, vm) {
      const attributes = args.attributes ?? (args.private === false ? 0 : KVM_MEMORY_ATTRIBUTE_PRIVATE);
      const request = { address: args.gpa, size: args.size, attributes, flags: args.flags ?? 0 };
      return outcome(yield* call(setMemoryAttributes(vm, request)));
    },
  }),
  defineIoctl({
    name: 'kvm.set_memory_region',
    summary: 'KVM_SET_USER_MEMORY_REGION: creates, moves, changes or (size 0) deletes a memslot.',
    on: ['process'],
    args: z.strictObject({
      ...VM,
      ...WHERE,
      slot: zCount(0, 0xffffffff),
      gpa: zAddress.optional(),
      size: zSize.optional().describe('0 deletes; default: the range of `memory`.'),
      hva: zAddress.optional().describe('userspace_addr, when it is not a mapping.'),
      readonly: z.boolean().optional(),
      log_dirty: z.boolean().optional(),
      guest_memfd: zRef('fd', 'memory').optional().describe('KVM_MEM_GUEST_MEMFD with this descriptor.'),
      guest_memfd_offset: zAddress.optional(),
      flags: zCount(0, 0xffffffff).optional(),
    }),
    target: vmOfArgs,
    *run(context, args, vm) {
      const memfd = args.guest_memfd;
      const file = memfd === undefined ? undefined : (fileNamed(context.performance.world, memfd.name) ?? null);
      const named =
        (args.log_dirty === true ? 1 : 0) | (args.readonly === true ? 2 : 0) | (memfd === undefined ? 0 : 4);
      const range = args.memory === undefined ? undefined : mustRange(context, args);
      return outcome(
        yield* call(
          setUserMemoryRegion(vm, {
            slot: args.slot,
            flags: args.flags ?? named,
            guestPhysAddr: args.gpa ?? 0n,
            memorySize: args.size ?? range?.bytes ?? 0n,
            userspaceAddr: args.hva ?? range?.address ?? 0n,
            ...(file === undefined ? {} : { guestMemfd: { file, offset: args.guest_memfd_offset ?? 0n } }),
          }),
        ),
      );
    },
  }),
  defineIoctl({
    name: 'kvm.get_dirty_log',
    summary: 'KVM_GET_DIRTY_LOG of a slot.',
    on: ['process'],
    args: z.strictObject({ ...VM, slot: zCount() }),
    shows: { pages: 'Offsets of the dirty pages in the slot.', count: 'How many.' },
    target: vmOfArgs,
    *run(_context, args, vm) {
      const log = yield* call(getDirtyLog(vm, args.slot));
      if ('errno' in log) return { errno: log.errno };
      return { returns: 0, shows: { pages: log.dirty, count: log.dirty.length } };
    },
  }),
  defineIoctl({
    name: 'kvm.clear_dirty_log',
    summary: 'KVM_CLEAR_DIRTY_LOG: given pages of a slot are clean and watched again.',
    on: ['process'],
    args: z.strictObject({ ...VM, slot: zCount(), first: zCount(), count: zCount(), pages: z.array(zCount()) }),
    target: vmOfArgs,
    *run(_context, args, vm) {
      const request = { firstPage: args.first, pages: args.count, dirty: args.pages };
      return outcome(yield* call(clearDirtyLog(vm, args.slot, request)));
    },
  }),
  defineIoctl({
    name: 'kvm.create_vfio_device',
    summary: 'KVM_CREATE_DEVICE of KVM_DEV_TYPE_VFIO.',
    on: ['process'],
    args: z.strictObject(VM),
    target: vmOfArgs,
    *run(_context, _args, vm) {
      const device = yield* call(createKvmVfio(vm));
      return typeof device === 'string' ? { errno: device } : { returns: 0 };
    },
  }),
  defineOperation({
    name: 'kvm.vfio_file',
    summary: 'KVM_SET_DEVICE_ATTR of the KVM-VFIO device: add or remove a VFIO file (a group).',
    on: ['process'],
    example: '{do: add, group_of: nic}',
    args: z.strictObject({
      ...VM,
      group_of: zRef('device').optional().describe('The group of this device.'),
      fd: zRef('fd', 'container', 'device', 'vm').optional(),
      bad_fd: z.boolean().optional(),
      do: z.enum(['add', 'del']).optional(),
      group: zCount().optional().describe('Attribute group; default 1.'),
      attribute: zCount().optional().describe('Default: 1 for add, 2 for del.'),
    }),
    *run(context, args) {
      const { world } = context.performance;
      const vm = vmOf(context, args.vm);
      const device = vm.vfioDevice.peek();
      if (device === null) return { errno: 'EBADF' };
      const group = args.group_of === undefined ? undefined : world.devices.get(args.group_of.name)!.group.name;
      const name = args.fd?.name ?? group;
      const file = args.bad_fd === true || name === undefined ? undefined : fileNamed(world, name);
      const attribute = args.attribute ?? (args.do === 'del' ? 2 : 1);
      return outcome(yield* call(kvmVfioSetAttr(device, args.group ?? 1, attribute, file)));
    },
  }),
  defineOperation({
    name: 'gpc.activate',
    summary: 'kvm_gpc_activate: KVM caches the kernel mapping of a guest page (Xen shared info, runstate).',
    on: ['process', 'vcpu'],
    args: z.strictObject({ ...VM, gpa: zAddress, as: zDeclares('cache') }),
    *run(context, args) {
      const { world } = context.performance;
      if (!world.kernel.has('gpc.present'))
        throw new ScriptMistake('this kernel has no gfn-to-pfn caches: they came with 5.17');
      const vm = vmOf(context, args.vm);
      const known = world.named.get(`cache:${args.as.name}`);
      const gpc =
        known instanceof GfnToPfnCache ? known : new GfnToPfnCache(world.sim, `cache ${args.as.name} of ${vm.name}`);
      world.named.set(`cache:${args.as.name}`, gpc);
      return outcome(yield* call(gpcActivate(vm, gpc, { gfn: Number(args.gpa / PAGE) })));
    },
  }),
  ...(['refresh', 'deactivate'] as const).map((what) =>
    defineOperation({
      name: `gpc.${what}`,
      summary: what === 'refresh' ? 'kvm_gpc_refresh: look the page up again.' : 'kvm_gpc_deactivate.',
      on: ['process', 'vcpu'],
      args: z.strictObject({ ...VM, cache: zRef('cache') }),
      *run(context, args) {
        const vm = vmOf(context, args.vm);
        const gpc = cacheOf(context, args.cache);
        if (what === 'refresh') return outcome(yield* call(gpcRefresh(vm, gpc)));
        yield* call(gpcDeactivate(vm, gpc));
        return { returns: 0 };
      },
    }),
  ),
  ...(['read', 'write'] as const).map((what) =>
    defineOperation({
      name: `gpc.${what}`,
      summary: `KVM ${what}s the guest page through the cache: checks it, refreshes it when stale.`,
      on: ['process', 'vcpu'],
      args: z.strictObject({ ...VM, cache: zRef('cache'), value: zContent.optional() }),
      shows: { value: 'What was read or written.' },
      *run(context, args) {
        const write = what === 'write' ? { token: tokensOf(context).of(args.value ?? ownContent(context)) } : null;
        const result = yield* call(gpcAccess(vmOf(context, args.vm), cacheOf(context, args.cache), write));
        return 'errno' in result
          ? { errno: result.errno }
          : { returns: 0, shows: { value: tokensOf(context).text(result.token) } };
      },
    }),
  ),
  defineOperation({
    name: 'kvm.vcpu_map',
    summary: 'kvm_vcpu_map: KVM maps a guest page for itself, without a notifier, until kvm.vcpu_unmap.',
    on: ['vcpu', 'process'],
    args: z.strictObject({ ...VM, gpa: zAddress, as: zDeclares('host-map') }),
    *run(context, args) {
      const map = yield* call(vcpuMap(vmOf(context, args.vm), Number(args.gpa / PAGE)));
      if (typeof map === 'string') return { errno: map };
      const { world } = context.performance;
      world.looks.name(args.as.name, () => world.named.set(`host-map:${args.as.name}`, map));
      return { returns: 0 };
    },
  }),
  defineOperation({
    name: 'kvm.host_map_access',
    summary: 'KVM reads or writes a page that it mapped with kvm.vcpu_map.',
    on: ['vcpu', 'process'],
    args: z.strictObject({ ...VM, map: zRef('host-map'), write: z.boolean().optional(), value: zContent.optional() }),
    shows: { value: 'What was read or written.' },
    *run(context, args) {
      const write = args.write === true ? { token: tokensOf(context).of(args.value ?? ownContent(context)) } : null;
      const token = yield* call(hostMapAccess(vmOf(context, args.vm), hostMapOf(context, args.map), write));
      return { returns: 0, shows: { value: tokensOf(context).text(token) } };
    },
  }),
  defineOperation({
    name: 'kvm.vcpu_unmap',
    summary: 'kvm_vcpu_unmap.',
    on: ['vcpu', 'process'],
    args: z.strictObject({ ...VM, map: zRef('host-map'), dirty: z.boolean().optional() }),
    *run(context, args) {
      yield* call(vcpuUnmap(vmOf(context, args.vm), hostMapOf(context, args.map), args.dirty ?? true));
      return { returns: 0 };
    },
  }),
];

function cacheOf(context: OperationContext, ref: Ref): GfnToPfnCache {
  const gpc = context.performance.world.named.get(`cache:${ref.name}`);
  if (!(gpc instanceof GfnToPfnCache)) throw new ScriptMistake(`cache ${ref.name} is not active yet`);
  return gpc;
}

function hostMapOf(context: OperationContext, ref: Ref): HostMap {
  const map = context.performance.world.named.get(`host-map:${ref.name}`);
  if (map === undefined) throw new ScriptMistake(`${ref.name} is not mapped yet`);
  return map as HostMap;
}
