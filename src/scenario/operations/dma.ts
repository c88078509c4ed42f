// What devices do: DMA reads and writes, one transaction per page.
import * as z from 'zod';
import { call, type Steps } from '../../engine/process.ts';
import { dmaRead, dmaWrite } from '../../hw/dma-device.ts';
import { tokenOf, tokenText } from '../../hw/token.ts';
import type { OperationContext } from '../context.ts';
import { defineOperation, type Outcome } from '../operation.ts';
import { type Ref, zRef } from '../reference.ts';
import { zAddress, zContent, zSize } from '../scalar.ts';
import { ownContent } from './access.ts';

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

function* transfer(
  context: OperationContext,
  args: { readonly device?: Ref | undefined; readonly iova: bigint; readonly length?: bigint | undefined },
  text: string | null,
): Steps<Outcome> {
  const { world } = context.performance;
  const { dma } = world.devices.get(args.device?.name ?? context.subject)!;
  const first = Number(args.iova / PAGE);
  const last = Number((args.iova + (args.length ?? 1n) - 1n) / PAGE);
  const seen: string[] = [];
  let fault: string | null = null;
  for (let page = first; page <= last; page++) {
    const result = yield* call(text === null ? dmaRead(dma, page) : dmaWrite(dma, page, tokenOf(text)));
    fault ??= result.fault;
    const value = tokenText(result.token);
    if (seen[seen.length - 1] !== value) seen.push(value);
  }
  return { returns: 0, shows: { value: seen.join(' '), fault: fault ?? 'none' } };
}

export const dmaOperations = [
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
