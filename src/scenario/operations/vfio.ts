// The type1 ioctls of a VFIO container, and the module's parameters. Groups and devices: vfio-devices.ts.
import * as z from 'zod';
import { call } from '../../engine/process.ts';
import { step } from '../../engine/step.ts';
import {
  type VfioContainer,
  vfioApiVersion,
  vfioCheckExtension,
  vfioIommuDirtyPages,
  vfioIommuInfo,
  vfioIommuMapDma,
  vfioIommuUnmapDma,
  vfioSetIommu,
  vfioUnknownIoctl,
} from '../../vfio/container.ts';
import { type Ref, zRef } from '../file/reference.ts';
import { zAddress, zCount, zProt, zSize } from '../file/scalar.ts';
import { ScriptMistake } from '../mistake.ts';
import { defineOperation, type Shown } from '../operation.ts';
import type { OperationContext } from '../world/context.ts';
import { containerNamed } from '../world/devices.ts';
import { defineIoctl } from './descriptor.ts';
import { outcome } from './mapping.ts';
import { mustRange, processOf, WHERE } from './place.ts';
import { IOMMU_TYPES } from './vfio-devices.ts';

const MODULE = step('vfio_iommu_type1:module-param', 'op');

/** Which container: of a device, or by name. */
const OF = {
  device: zRef('device').optional().describe('A device; its container is meant.'),
  container: zRef('container').optional().describe('A container by name; default: the one of the process.'),
} as const;
interface OfArgs {
  readonly device?: Ref | undefined;
  readonly container?: Ref | undefined;
}

function containerOf(context: OperationContext, args: OfArgs): VfioContainer {
  const { world } = context.performance;
  const name = args.container?.name ?? args.device?.name ?? `container of ${processOf(context)}`;
  const known = containerNamed(world, name) ?? containerNamed(world, `container of ${processOf(context)}`);
  if (known === undefined) throw new ScriptMistake(`there is no open VFIO container for ${name}`);
  return known;
}

const FLAGS = zCount(0, 0xffffffff).optional().describe('The flags field as a number, instead of what the rest says.');
const ARGSZ = zCount(0, 0xffffffff).optional().describe('The argsz field; default: right.');

export const vfioOperations = [
  defineIoctl({
    name: 'vfio.map',
    summary: 'VFIO_IOMMU_MAP_DMA: pins memory of the process and maps it for DMA.',
    on: ['process'],
    args: z.strictObject({
      ...OF,
      ...WHERE,
      iova: zAddress,
      vaddr: zAddress.optional().describe('The vaddr field, when it is not a mapping of the process.'),
      prot: zProt.optional().describe('READ and WRITE as the device sees them; default rw.'),
      flags: FLAGS,
      argsz: ARGSZ,
      set_vaddr: z.boolean().optional().describe('VFIO_DMA_MAP_FLAG_VADDR: give an invalidated entry its address.'),
      fault: z.boolean().optional().describe('The argument is an unreadable pointer.'),
    }),
    target: containerOf,
    *run(context, args, container) {
      if (args.fault === true) return outcome(yield* call(vfioIommuMapDma(container, null)));
      const range = args.vaddr === undefined ? mustRange(context, args) : undefined;
      const vaddr = args.vaddr ?? range!.address;
      const size = args.length ?? range?.bytes ?? 0n;
      const prot = args.prot ?? { read: true, write: true };
      const flags = args.flags ?? (args.set_vaddr === true ? 4 : (prot.read ? 1 : 0) | (prot.write ? 2 : 0));
      const arg = { flags, vaddr, iova: args.iova, size, ...(args.argsz === undefined ? {} : { argsz: args.argsz }) };
      return outcome(yield* call(vfioIommuMapDma(container, arg)));
    },
  }),
  defineIoctl({
    name: 'vfio.unmap',
    summary: 'VFIO_IOMMU_UNMAP_DMA: takes mappings away and unpins.',
    on: ['process'],
    example: '{iova: 0x1000, size: 64KiB}',
    args: z.strictObject({
      ...OF,
      iova: zAddress.optional(),
      size: zSize.optional(),
      all: z.boolean().optional().describe('VFIO_DMA_UNMAP_FLAG_ALL'),
      vaddr: z.boolean().optional().describe('VFIO_DMA_UNMAP_FLAG_VADDR: only the address becomes invalid.'),
      dirty: z
        .strictObject({ pgsize: zSize, size: zSize, writable: zCount().optional() })
        .optional()
        .describe('VFIO_DMA_UNMAP_FLAG_GET_DIRTY_BITMAP with this struct vfio_bitmap.'),
      flags: FLAGS,
      argsz: ARGSZ,
      fault: z.boolean().optional(),
    }),
    shows: { unmapped: 'The size field afterwards, in bytes.', dirty: 'Dirty runs as text: iova+pages.' },
    target: containerOf,
    *run(_context, args, container) {
      const flags = args.flags ?? (args.dirty ? 1 : 0) | (args.all === true ? 2 : 0) | (args.vaddr === true ? 4 : 0);
      const result = yield* call(
        vfioIommuUnmapDma(
          container,
          args.fault === true
            ? null
            : {
                flags,
                iova: args.iova ?? 0n,
                size: args.size ?? 0n,
                ...(args.argsz === undefined ? {} : { argsz: args.argsz }),
                ...(args.dirty === undefined
                  ? {}
                  : {
                      bitmap: {
                        pgsize: args.dirty.pgsize,
                        size: args.dirty.size,
                        ...(args.dirty.writable === undefined ? {} : { writableBytes: args.dirty.writable }),
                      },
                    }),
              },
        ),
      );
      const shows = { unmapped: result.size, dirty: runsText(result.dirty) };
      return result.errno === null ? { returns: 0, shows } : { errno: result.errno, shows };
    },
  }),
  defineIoctl({
    name: 'vfio.dirty',
    summary: 'VFIO_IOMMU_DIRTY_PAGES: start, stop, or get the bitmap.',
    on: ['process'],
    example: '{do: start}',
    args: z.strictObject({
      ...OF,
      do: z.enum(['start', 'stop', 'get']).optional(),
      iova: zAddress.optional(),
      size: zSize.optional(),
      pgsize: zSize.optional().describe('Default 4KiB.'),
      bitmap_size: zSize.optional().describe('Bytes of the bitmap; default: enough.'),
      writable: zCount().optional().describe('Bytes of the bitmap that can be written.'),
      flags: FLAGS,
      argsz: ARGSZ,
    }),
    shows: { dirty: 'Dirty runs as text: iova+pages.', pages: 'How many pages are dirty.' },
    target: containerOf,
    *run(_context, args, container) {
      const flags = args.flags ?? { start: 1, stop: 2, get: 4 }[args.do ?? 'get'];
      const pgsize = args.pgsize ?? 4096n;
      const size = args.size ?? 0n;
      const enough = pgsize === 0n ? 8n : ((size / pgsize + 63n) / 64n) * 8n;
      const answer = yield* call(
        vfioIommuDirtyPages(container, {
          flags,
          ...(args.argsz === undefined ? {} : { argsz: args.argsz }),
          ...(args.do === 'get' || args.iova !== undefined
            ? {
                iova: args.iova ?? 0n,
                size,
                bitmap: {
                  pgsize,
                  size: args.bitmap_size ?? enough,
                  ...(args.writable === undefined ? {} : { writableBytes: args.writable }),
                },
              }
            : {}),
        }),
      );
      if ('errno' in answer) return { errno: answer.errno };
      const pages = answer.dirty.reduce((sum, run) => sum + run.pages, 0);
      return { returns: 0, shows: { dirty: runsText(answer.dirty), pages } };
    },
  }),
  defineIoctl({
    name: 'vfio.set_iommu',
    summary: 'VFIO_SET_IOMMU.',
    on: ['process'],
    args: z.strictObject({
      ...OF,
      type: z.union([z.enum(Object.keys(IOMMU_TYPES) as [keyof typeof IOMMU_TYPES]), zCount()]),
    }),
    target: containerOf,
    *run(_context, args, container) {
      const type = typeof args.type === 'number' ? args.type : IOMMU_TYPES[args.type];
      return outcome(yield* call(vfioSetIommu(container, type)));
    },
  }),
  defineIoctl({
    name: 'vfio.check_extension',
    summary: 'VFIO_CHECK_EXTENSION.',
    on: ['process'],
    args: z.strictObject({ ...OF, extension: zCount() }),
    target: containerOf,
    *run(_context, args, container) {
      return { returns: yield* call(vfioCheckExtension(container, args.extension)) };
    },
  }),
  defineIoctl({
    name: 'vfio.info',
    summary: 'VFIO_IOMMU_GET_INFO.',
    on: ['process'],
    args: z.strictObject({ ...OF, argsz: ARGSZ, fault: z.boolean().optional() }),
    shows: {
      argsz: 'Bytes that all of it takes: with less in `argsz`, capabilities are left out.',
      flags: 'PGSIZES (1) and CAPS (2).',
      pgsizes: 'iova_pgsizes',
      dma_avail: 'Entries that can still be made.',
      ranges: 'Usable IOVAs: first, last, first, last...',
      migration_pgsizes: 'pgsize_bitmap of the migration capability; 0 where there is none.',
      max_dirty_bitmap: 'max_dirty_bitmap_size',
    },
    target: containerOf,
    *run(_context, args, container) {
      const arg = args.fault === true ? null : args.argsz === undefined ? {} : { argsz: args.argsz };
      const info = yield* call(vfioIommuInfo(container, arg));
      if ('errno' in info) return { errno: info.errno };
      const shows: Record<string, Shown> = {
        argsz: info.argsz,
        flags: info.flags,
        pgsizes: info.iovaPgsizes,
        ranges: info.iovaRanges.flat(),
        migration_pgsizes: info.migrationPgsizes,
        max_dirty_bitmap: info.maxDirtyBitmap,
      };
      if (info.dmaAvail !== undefined) shows.dma_avail = info.dmaAvail;
      return { returns: 0, shows };
    },
  }),
  defineIoctl({
    name: 'vfio.api_version',
    summary: 'VFIO_GET_API_VERSION.',
    on: ['process'],
    args: z.strictObject(OF),
    target: containerOf,
    *run(_context, _args, container) {
      return { returns: yield* call(vfioApiVersion(container)) };
    },
  }),
  defineIoctl({
    name: 'vfio.ioctl_unknown',
    summary: 'An ioctl number that the container does not know.',
    on: ['process'],
    args: z.strictObject(OF),
    target: containerOf,
    *run(_context, _args, container) {
      return { errno: yield* call(vfioUnknownIoctl(container)) };
    },
  }),
  defineOperation({
    name: 'vfio.module_param',
    summary: 'Writes parameters of vfio_iommu_type1; containers opened later have them.',
    on: ['process', 'kernel'],
    example: '{dma_entry_limit: 1024}',
    args: z.strictObject({
      dma_entry_limit: zCount().optional(),
      disable_hugepages: z.boolean().optional(),
      allow_unsafe_interrupts: z.boolean().optional(),
    }),
    *run(context, args) {
      const { vfioModule } = context.performance.world;
      vfioModule.dmaEntryLimit.willWrite(MODULE);
      vfioModule.disableHugepages.willWrite(MODULE);
      yield vfioModule.allowUnsafeInterrupts.willWrite(MODULE);
      if (args.dma_entry_limit !== undefined) vfioModule.dmaEntryLimit.value = args.dma_entry_limit;
      if (args.disable_hugepages !== undefined) vfioModule.disableHugepages.value = args.disable_hugepages;
      if (args.allow_unsafe_interrupts !== undefined)
        vfioModule.allowUnsafeInterrupts.value = args.allow_unsafe_interrupts;
      return { returns: 0 };
    },
  }),
];

/** `0x10000000+4 0x10008000+1` */
function runsText(runs: readonly { readonly iova: number; readonly pages: number }[]): string {
  return runs.map(({ iova, pages }) => `0x${(iova * 4096).toString(16)}+${pages}`).join(' ');
}
