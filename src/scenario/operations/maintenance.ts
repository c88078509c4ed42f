// What an administrator or the kernel does to memory at large: KSM, compaction, taking memory blocks offline, CMA.
import * as z from 'zod';
import { call } from '../../engine/process.ts';
import { PMD_PAGES } from '../../hw/machine.ts';
import { compactMemory } from '../../mm/compaction.ts';
import { offlinePages } from '../../mm/offline.ts';
import { defineOperation } from '../operation.ts';
import { zCount } from '../scalar.ts';
import { outcome } from './mapping.ts';
import { mustRange, WHERE } from './place.ts';

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
      const { task, vpn } = mustRange(context, args);
      const pfn = task.mm.peek()?.pageTable.peekFrame(vpn) ?? 0;
      if (pfn === 0) return { errno: 'EINVAL' };
      const options = args.rounds === undefined ? {} : { roundsMax: args.rounds };
      return outcome(yield* call(offlinePages(core, pfn - (pfn % PMD_PAGES), PMD_PAGES, options)));
    },
  }),
];
