// What devices do: DMA reads and writes, one transaction per page.
import * as z from 'zod';
import { call, type Steps } from '../../engine/process.ts';
import { dmaRead, dmaWrite } from '../../hw/dma-device.ts';
import type { EmulatedDevice } from '../../vfio/emulated.ts';
import { VfioIommu } from '../../vfio/iommu.ts';
import { type Ref, zRef } from '../file/reference.ts';
import { zAddress, zContent, zSize } from '../file/scalar.ts';
import { ScriptMistake } from '../mistake.ts';
import { defineOperation, type Outcome } from '../operation.ts';
import type { OperationContext } from '../world/context.ts';
import type { WorldDevice } from '../world/devices.ts';
import { ownContent, tokensOf } from './access.ts';

const PAGE = 4096n;

const ARGS = {
  device: zRef('device').optional().describe('Default: the device that acts.'),
  iova: zAddress,
  length: zSize.optional().describe('One transaction for each page; default: one.'),
} as const;

const SHOWN = {
  value: 'What was read, or written: one word, or words in order where it changes. Blocked reads give zero.',
  fault: 'Why the IOMMU blocked a transaction, or `none`.',
};

/** The device that is named, or that acts. */
function deviceOf({ performance, subject }: OperationContext, device: Ref | undefined): WorldDevice {
  const found = performance.world.devices.get(device?.name ?? subject);
  if (found === undefined) throw new ScriptMistake(`\`${subject}\` is no device: say which one, \`device: NAME\``);
  return found;
}

function* transfer(
  context: OperationContext,
  args: { readonly device?: Ref | undefined; readonly iova: bigint; readonly length?: bigint | undefined },
  text: string | null,
): Steps<Outcome> {
  const { dma, addressMask } = deviceOf(context, args.device);
  const { sim } = context.performance.world;
  const first = Number(args.iova / PAGE);
  const last = Number((args.iova + (args.length ?? 1n) - 1n) / PAGE);
  const seen: string[] = [];
  let fault: string | null = null;
  const lastPage = Number(addressMask / PAGE);
  for (let at = first; at <= last; at++) {
    const page = at > lastPage ? Number(((BigInt(at) * PAGE) & addressMask) / PAGE) : at;
    const result = yield* call(text === null ? dmaRead(dma, page) : dmaWrite(dma, page, tokensOf(context).of(text)));
    fault ??= result.fault;
    const value = tokensOf(context).text(result.token);
    if (seen[seen.length - 1] !== value) seen.push(value);
    sim.progress++;
  }
  return { returns: 0, shows: { value: seen.join(' '), fault: fault ?? 'none' } };
}

/** The emulated device that acts or is named, and the container that it is in. */
function emulatedOf(context: OperationContext, device: Ref | undefined): { device: EmulatedDevice; iommu: VfioIommu } {
  const { vfio, group } = deviceOf(context, device);
  const iommu = group.container.peek()?.driver.peek();
  if (vfio.emulated === null) throw new ScriptMistake(`\`${vfio.name}\` is no emulated device`);
  if (!(iommu instanceof VfioIommu)) throw new ScriptMistake(`\`${vfio.name}\` is in no container`);
  return { device: vfio.emulated, iommu };
}

export const dmaOperations = [
  defineOperation({
    name: 'mdev.pin',
    summary: 'The driver of an emulated device pins the page at an IOVA (vfio_pin_pages), unless it has it.',
    on: ['device', 'process'],
    args: z.strictObject({
      device: ARGS.device,
      iova: zAddress,
      again: z.boolean().optional().describe('Wait until it is unpinned first, and pin it anew.'),
    }),
    *run(context, args) {
      const { device, iommu } = emulatedOf(context, args.device);
      const result = yield* call(device.pin(iommu, Number(args.iova / PAGE), args.again === true));
      return result === 'ok' ? { returns: 0 } : { errno: result };
    },
  }),
  defineOperation({
    name: 'mdev.unpin',
    summary: 'The driver of an emulated device gives the page at an IOVA back (vfio_unpin_pages).',
    on: ['device', 'process'],
    args: z.strictObject({ device: ARGS.device, iova: zAddress }),
    *run(context, args) {
      const { device, iommu } = emulatedOf(context, args.device);
      yield* call(device.unpin(iommu, Number(args.iova / PAGE)));
      return { returns: 0 };
    },
  }),
  defineOperation({
    name: 'dma.read',
    summary: 'The device reads memory at an IOVA.',
    on: ['device', 'process'],
    args: z.strictObject(ARGS),
    shows: SHOWN,
    run: (context, args) => transfer(context, args, null),
  }),
  defineOperation({
    name: 'dma.write',
    summary: 'The device writes memory at an IOVA.',
    on: ['device', 'process'],
    args: z.strictObject({
      ...ARGS,
      value: zContent.optional().describe('What is written; default: a word of its own.'),
    }),
    shows: SHOWN,
    run: (context, args) => transfer(context, args, args.value ?? ownContent(context)),
  }),
];
