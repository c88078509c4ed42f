// What an administrator or the kernel does to memory at large: KSM, compaction, taking memory blocks offline, CMA.
import * as z from 'zod';
import { call, type Steps } from '../../engine/process.ts';
import { step } from '../../engine/step.ts';
import { MEMORY_BLOCK_PAGES, PMD_PAGES } from '../../hw/machine.ts';
import { compactMemory } from '../../mm/migrate/compaction.ts';
import { offlinePages, onlinePages } from '../../mm/migrate/offline.ts';
import { zCount } from '../file/scalar.ts';
import { defineOperation } from '../operation.ts';
import type { OperationContext } from '../world/context.ts';
import { outcome } from './mapping.ts';
import { mustRange, WHERE, type WhereArgs } from './place.ts';

const FRAME = step('pagemap_read:frame', 'none');

/** The frame that a page has now, as the administrator reads it from pagemap; 0: none. */
function* frameOf(context: OperationContext, args: WhereArgs): Steps<number> {
  const { task, vpn } = mustRange(context, args);
  const mm = task.mm.peek();
  if (mm === null) return 0;
  yield mm.pageTable.willReadLeaves(vpn, 1, FRAME);
  return mm.pageTable.peekFrame(vpn);
}

export const maintenanceOperations = [
  defineOperation({
    name: 'ksm.scan',
    summary: 'ksmd scans every registered address space once and merges equal pages.',
    args: z.strictObject({}),
    shows: { merged: 'Addresses merged in this pass.', sharing: '/sys/kernel/mm/ksm/pages_sharing.' },
    *run(context) {
      const { ksm } = context.performance.world.scanners!;
      const merged = yield* call(ksm.scan());
      return { returns: 0, shows: { merged, sharing: ksm.pagesSharing } };
    },
  }),
  defineOperation({
    name: 'compact_memory',
    summary: '/proc/sys/vm/compact_memory: every zone is compacted.',
    on: ['process', 'kernel'],
    args: z.strictObject({}),
    *run(context) {
      yield* call(compactMemory(context.performance.world.core));
      return { returns: 0 };
    },
  }),
  defineOperation({
    name: 'offline',
    summary: 'Takes the 2 MiB pageblock that holds a page of the process offline (memoryN/state, in small).',
    on: ['process'],
    args: z.strictObject({ ...WHERE, rounds: zCount(1).optional().describe('Give up after so many rounds.') }),
    *run(context, args) {
      const { core } = context.performance.world;
      const pfn = yield* call(frameOf(context, args));
      if (pfn === 0) return { errno: 'EINVAL' };
      const options = args.rounds === undefined ? {} : { roundsMax: args.rounds };
      return outcome(yield* call(offlinePages(core, pfn - (pfn % PMD_PAGES), PMD_PAGES, options)));
    },
  }),
  defineOperation({
    name: 'memory_block.offline',
    summary:
      '/sys/devices/system/memory/memoryN/state: takes a memory block of 128 MiB offline. EINVAL: not all of it is memory of one zone; EBUSY: a page that can never move; EINTR: killed while a page would not move.',
    on: ['process', 'kernel'],
    args: z.strictObject({
      ...WHERE,
      block: zCount().optional().describe('N; default: the block that holds the page.'),
    }),
    shows: { block: 'N.' },
    *run(context, args) {
      const { core } = context.performance.world;
      const pfn = args.block === undefined ? yield* call(frameOf(context, args)) : null;
      if (pfn === 0) return { errno: 'EINVAL' };
      const block = args.block ?? Math.floor(pfn! / MEMORY_BLOCK_PAGES);
      const result = yield* call(offlinePages(core, block * MEMORY_BLOCK_PAGES, MEMORY_BLOCK_PAGES));
      return { ...outcome(result), shows: { block } };
    },
  }),
  defineOperation({
    name: 'memory_block.online',
    summary: '/sys/devices/system/memory/memoryN/state: a memory block that is offline is free memory again. EINVAL.',
    on: ['process', 'kernel'],
    args: z.strictObject({ block: zCount().describe('N of memoryN: 128 MiB each.') }),
    *run(context, args) {
      const { core } = context.performance.world;
      return outcome(yield* call(onlinePages(core, args.block * MEMORY_BLOCK_PAGES, MEMORY_BLOCK_PAGES)));
    },
  }),
];
