// hugetlb_fault_mutex_table (mm/hugetlb.c): one fault at a time on a huge page of a file, so that two threads never take
// two pool pages for one address and the loser sees a false shortage. Hole punching and truncation take it too.

import { mix } from '../../engine/hash.ts';
import { LockColumn } from '../../engine/lock-column.ts';
import type { Announced, Step } from '../../engine/step.ts';
import type { CoreMm } from '../core.ts';
import type { Inode } from '../file/inode.ts';

/** The kernel hashes (mapping, index) into 8 mutexes per CPU; here enough that unrelated faults do not meet. */
const MUTEXES = 2 ** 20;

const tables = new WeakMap<CoreMm, LockColumn>();

function tableOf(core: CoreMm): LockColumn {
  let table = tables.get(core);
  if (table === undefined) {
    table = new LockColumn(core.sim, 'hugetlb fault mutex', MUTEXES);
    tables.set(core, table);
    // Made in an execution, its ids end with the execution.
    if (core.sim.executing) core.sim.onRewind(() => tables.delete(core));
  }
  return table;
}

/** hugetlb_fault_mutex_hash of the huge page that holds page `index`. */
function rowOf(inode: Inode, index: number): number {
  return mix(inode.identity, Math.floor(index / 2 ** inode.hugeOrder)) & (MUTEXES - 1);
}

/** Resumes with the mutex held. */
export function lockFaultMutex(core: CoreMm, inode: Inode, index: number, at: Step): Announced {
  return tableOf(core).lock(rowOf(inode, index), at);
}

export function unlockFaultMutex(core: CoreMm, inode: Inode, index: number, at: Step): Announced {
  return tableOf(core).unlock(rowOf(inode, index), at);
}
