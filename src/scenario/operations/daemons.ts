// What kernel threads and files of /sys and /proc do to the memory of others: khugepaged, LRU drains, THP splits.
import * as z from 'zod';
import { call } from '../../engine/process.ts';
import { step } from '../../engine/step.ts';
import { lruAddDrainAll } from '../../mm/reclaim/lru.ts';
import { khugepagedScanMm } from '../../mm/thp/collapse.ts';
import { splitHugePagesPid } from '../../mm/thp/split-huge-pages.ts';
import { zRef } from '../file/reference.ts';
import { defineOperation } from '../operation.ts';
import { mustRange, processOf, zWhere } from './place.ts';

const SLOT = step('khugepaged_scan_mm_slot', 'none');

export const daemonOperations = [
  defineOperation({
    name: 'khugepaged',
    summary: 'khugepaged scans the address space of a process once and collapses what it may.',
    on: ['process', 'kernel'],
    args: z.strictObject({ process: zRef('process').optional().describe('Default: the process that acts.') }),
    shows: { collapsed: 'How many huge pages it made.' },
    *run(context, args) {
      const { world } = context.performance;
      const task = world.task(args.process?.name ?? processOf(context));
      // Its mm_slot keeps the address space findable, and no more than that.
      if (task !== world.core.current.task) yield task.mm.willRead(SLOT);
      const mm = task.mm.peek();
      if (mm === null) return { errno: 'ESRCH' };
      return { returns: 0, shows: { collapsed: yield* call(khugepagedScanMm(world.core, mm)) } };
    },
  }),
  defineOperation({
    name: 'split_huge_pages',
    summary: 'debugfs split_huge_pages: splits the huge pages that a process has mapped in a range.',
    on: ['process'],
    args: zWhere,
    shows: { split: 'How many were split.' },
    *run(context, args) {
      const { vpn, pages, task } = mustRange(context, args);
      const mm = task.mm.peek();
      if (mm === null) return { errno: 'ESRCH' };
      const split = yield* call(splitHugePagesPid(context.performance.world.core, mm, vpn, pages));
      return { returns: 0, shows: { split } };
    },
  }),
  defineOperation({
    name: 'lru_add_drain',
    summary: 'lru_add_drain_all: pages leave the per-CPU batches in which they wait for the LRU lists.',
    args: z.strictObject({}),
    *run(context) {
      yield* call(lruAddDrainAll(context.performance.world.core));
      return { returns: 0 };
    },
  }),
];
