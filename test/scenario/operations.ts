// Operations for tests of the loader: they check arguments and do nothing to any model.
import * as z from 'zod';
import { zDeclares, zRef, zScript } from '../../src/scenario/file/reference.ts';
import { zAddress, zContent, zCount, zProt, zSize } from '../../src/scenario/file/scalar.ts';
import type { Outcome } from '../../src/scenario/operation.ts';
import { defineOperation, OperationRegistry } from '../../src/scenario/operation.ts';

export const touch = defineOperation({
  name: 'touch',
  summary: 'Writes to every page of a range.',
  on: ['process'],
  args: z.strictObject({
    memory: zRef('memory'),
    offset: zAddress.optional(),
    length: zSize.optional(),
    value: zContent.optional(),
  }),
  shows: { pages: 'how many pages were touched' },
  *run(_context, args): Generator<never, Outcome> {
    return { shows: { pages: Number((args.length ?? 4096n) / 4096n) } };
  },
});

export const fork = defineOperation({
  name: 'fork',
  summary: 'fork(): a child that performs a script.',
  on: ['process'],
  args: z.strictObject({ as: zDeclares('process', 'actor'), do: zScript('process') }),
  *run(): Generator<never, Outcome> {
    return { returns: 1 };
  },
});

export const map = defineOperation({
  name: 'vfio.map',
  summary: 'VFIO_IOMMU_MAP_DMA.',
  on: ['process'],
  args: z.strictObject({
    device: zRef('device'),
    iova: zAddress,
    memory: zRef('memory'),
    offset: zAddress.optional(),
    length: zSize.optional(),
    prot: zProt.optional(),
  }),
  *run(): Generator<never, Outcome> {
    return { errno: 'ENOMEM' };
  },
});

export const vcpuWrite = defineOperation({
  name: 'vcpu.write',
  summary: 'A guest store.',
  on: ['vcpu'],
  args: z.strictObject({ gpa: zAddress, value: zContent }),
  *run(): Generator<never, Outcome> {
    return {};
  },
});

export const reclaim = defineOperation({
  name: 'reclaim',
  summary: 'Frees pages.',
  args: z.strictObject({ pages: zCount(1).optional() }),
  shows: { '*': 'counters of vmstat' },
  *run(): Generator<never, Outcome> {
    return {};
  },
});

export const registry = new OperationRegistry([touch, fork, map], [vcpuWrite, reclaim]);
