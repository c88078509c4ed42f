// VFIO before and beside the type1 ioctls: containers and groups opened and put together, devices and their BARs.
import * as z from 'zod';
import { call } from '../../engine/process.ts';
import { vfioMmapBar, vfioSetAccess } from '../../vfio/bar.ts';
import { vfioGroupGetDeviceFd } from '../../vfio/device.ts';
import {
  type VfioGroup,
  vfioGroupOpen,
  vfioGroupSetContainer,
  vfioGroupStatus,
  vfioGroupUnsetContainer,
} from '../../vfio/group.ts';
import { type Ref, zDeclares, zRef } from '../file/reference.ts';
import { zAddress, zCount, zProt, zSize } from '../file/scalar.ts';
import { defineOperation } from '../operation.ts';
import type { OperationContext } from '../world/context.ts';
import { attachVfio, fileNamed, installFile, openContainer } from '../world/devices.ts';
import { toPages } from '../world/memory.ts';
import type { World } from '../world/world.ts';
import { defineIoctl, fdget } from './descriptor.ts';
import { outcome } from './mapping.ts';
import { processOf } from './place.ts';

const PAGE = 4096n;

/** VFIO_*_IOMMU numbers by the names that people use. */
export const IOMMU_TYPES = {
  type1: 1,
  type1v2: 3,
  spapr: 2,
  'dma-cc': 4,
  nesting: 6,
  noiommu: 8,
} as const;

function deviceOf(world: World, ref: Ref) {
  return world.devices.get(ref.name)!;
}

function groupOf(context: OperationContext, args: { readonly device: Ref }): VfioGroup {
  return deviceOf(context.performance.world, args.device).group;
}

export const vfioDeviceOperations = [
  defineOperation({
    name: 'vfio.attach',
    summary: 'Opens container and group as far as needed, puts the device in the container, sets the IOMMU, opens it.',
    on: ['process'],
    changes: 'descriptors',
    args: z.strictObject({ device: zRef('device'), type: z.enum(['type1', 'type1v2']).optional() }),
    *run(context, args) {
      const { world } = context.performance;
      const device = world.scenario.devices.find(({ name }) => name === args.device.name)!;
      return outcome(yield* call(attachVfio(world, device, IOMMU_TYPES[args.type ?? 'type1v2'])));
    },
  }),
  defineOperation({
    name: 'vfio.open_container',
    summary: 'open(/dev/vfio/vfio).',
    on: ['process'],
    changes: 'descriptors',
    args: z.strictObject({ as: zDeclares('container', 'fd') }),
    *run(context, args) {
      yield* call(openContainer(context.performance.world, args.as.name));
      return { returns: 0 };
    },
  }),
  defineOperation({
    name: 'vfio.open_group',
    summary: 'open(/dev/vfio/N) of the group of a device.',
    on: ['process'],
    changes: 'descriptors',
    args: z.strictObject({ device: zRef('device'), as: zDeclares('fd').optional() }),
    *run(context, args) {
      const { world } = context.performance;
      const { group } = deviceOf(world, args.device);
      const file = yield* call(vfioGroupOpen(group));
      if (typeof file === 'string') return { errno: file };
      yield* call(installFile(world, args.as?.name ?? group.name, file));
      return { returns: 0 };
    },
  }),
  defineIoctl({
    name: 'vfio.set_container',
    summary: 'VFIO_GROUP_SET_CONTAINER.',
    on: ['process'],
    changes: 'descriptors',
    args: z.strictObject({
      device: zRef('device').describe('Whose group.'),
      fd: zRef('fd', 'container').optional().describe('The descriptor given; default: the container of the process.'),
      bad_fd: z.boolean().optional().describe('A descriptor that is not open.'),
    }),
    target: groupOf,
    *run(context, args, group) {
      const { world } = context.performance;
      const named = fileNamed(world, args.fd?.name ?? `container of ${processOf(context)}`);
      const file = args.bad_fd === true ? null : yield* call(fdget(context, (one) => one === named));
      return outcome(yield* call(vfioGroupSetContainer(group, file)));
    },
  }),
  defineIoctl({
    name: 'vfio.unset_container',
    summary: 'VFIO_GROUP_UNSET_CONTAINER.',
    on: ['process'],
    changes: 'descriptors',
    args: z.strictObject({ device: zRef('device') }),
    target: groupOf,
    *run(_context, _args, group) {
      return outcome(yield* call(vfioGroupUnsetContainer(group)));
    },
  }),
  defineIoctl({
    name: 'vfio.group_status',
    summary: 'VFIO_GROUP_GET_STATUS.',
    on: ['process'],
    args: z.strictObject({ device: zRef('device') }),
    shows: { flags: '1: viable, 2: container set.' },
    target: groupOf,
    *run(_context, _args, group) {
      const flags = yield* call(vfioGroupStatus(group));
      return { returns: 0, shows: { flags } };
    },
  }),
  defineIoctl({
    name: 'vfio.get_device_fd',
    summary: 'VFIO_GROUP_GET_DEVICE_FD.',
    on: ['process'],
    changes: 'descriptors',
    args: z.strictObject({
      device: zRef('device'),
      group_of: zRef('device').optional().describe('Ask the group of this device instead.'),
      unknown: z.boolean().optional().describe('Ask for a name that the group does not have.'),
      as: zDeclares('fd').optional(),
    }),
    target: (context, args) => groupOf(context, { device: args.group_of ?? args.device }),
    *run(context, args, group) {
      const { world } = context.performance;
      const { vfio } = deviceOf(world, args.device);
      const file = yield* call(vfioGroupGetDeviceFd(group, args.unknown === true ? null : vfio));
      if (typeof file === 'string') return { errno: file };
      yield* call(installFile(world, args.as?.name ?? args.device.name, file));
      return { returns: 0 };
    },
  }),
  defineOperation({
    name: 'vfio.mmap_bar',
    summary: 'mmap() of a BAR through the descriptor of the device.',
    on: ['process'],
    changes: 'mappings',
    args: z.strictObject({
      device: zRef('device').describe('Its descriptor must be open.'),
      name: zDeclares('memory'),
      index: zCount(0, 5).optional(),
      offset: zAddress.optional(),
      length: zSize.optional(),
      prot: zProt.optional(),
    }),
    shows: { address: 'Where it was mapped.' },
    *run(context, args) {
      const { world } = context.performance;
      const named = fileNamed(world, args.device.name);
      const file = yield* call(fdget(context, (one) => one === named));
      if (file === null) return { errno: 'EBADF' };
      const offset = Number((args.offset ?? 0n) / PAGE);
      const mapped = yield* call(
        vfioMmapBar(file, {
          index: args.index ?? 0,
          offset,
          ...(args.length === undefined ? {} : { pages: toPages(args.length) }),
          write: args.prot?.write ?? true,
        }),
      );
      if ('errno' in mapped) return { errno: mapped.errno };
      const bar = deviceOf(world, args.device).vfio.bars.find(({ index }) => index === (args.index ?? 0))!;
      const pages = args.length === undefined ? bar.pages - offset : toPages(args.length);
      const memory = world.anonymous(args.name.name, BigInt(pages) * PAGE);
      const place = { mapping: args.name.name, memory, vpn: mapped.vpn, pages, pgoff: offset };
      world.addPlace(processOf(context), { name: args.name.name }, place);
      return { returns: 0, shows: { address: BigInt(mapped.vpn) * PAGE } };
    },
  }),
  defineOperation({
    name: 'vfio.device_memory',
    summary: 'Switches memory decoding (or power) of a PCI device off or on: user mappings of its BARs are zapped.',
    on: ['process', 'device'],
    args: z.strictObject({ device: zRef('device'), on: z.boolean(), what: z.enum(['memory', 'power']).optional() }),
    *run(context, args) {
      yield* call(vfioSetAccess(deviceOf(context.performance.world, args.device).vfio, args.what ?? 'memory', args.on));
      return { returns: 0 };
    },
  }),
];
