// What the kernel keeps per CPU so that unrelated work does not meet: free page lists, LRU batches, deferred unmap
// flushes. Others touch them only to drain them.
import { Cell } from '../../engine/cell.ts';
import type { Sim } from '../../engine/sim.ts';
import type { Cpu } from '../../hw/cpu.ts';
import type { Mm } from '../mm.ts';

/** tlb_ubc: unmap flushes put off until before the page is written or freed. */
export interface DeferredFlush {
  readonly mms: readonly Mm[];
  /** Some unmapped PTE was dirty: flush before IO. */
  readonly writable: boolean;
}

export class PerCpu {
  readonly cpu: Cpu;
  /** pcp free list of order-0 pages, LIFO. */
  readonly freePages: Cell<readonly number[]>;
  /** pcp free list of 2 MiB blocks. */
  readonly freeBlocks: Cell<readonly number[]>;
  /** lru_add batch: heads that hold one reference each until drained. */
  readonly lruAdd: Cell<readonly number[]>;
  /** lru_activate batch: folios on a list that were used twice. */
  readonly lruActivate: Cell<readonly number[]>;
  /** lru_lazyfree batch of MADV_FREE. */
  readonly lruLazyfree: Cell<readonly number[]>;
  /** mlock/munlock folio batch. */
  readonly mlockBatch: Cell<readonly number[]>;
  readonly deferredFlush: Cell<DeferredFlush | null>;

  constructor(sim: Sim, cpu: Cpu) {
    this.cpu = cpu;
    const list = (what: string) => new Cell<readonly number[]>(sim, `${what} of ${cpu.name}`, []);
    this.freePages = list('free pages');
    this.freeBlocks = list('free 2 MiB blocks');
    this.lruAdd = list('lru_add batch');
    this.lruActivate = list('lru_activate batch');
    this.lruLazyfree = list('lru_lazyfree batch');
    this.mlockBatch = list('mlock batch');
    this.deferredFlush = new Cell<DeferredFlush | null>(sim, `deferred TLB flush of ${cpu.name}`, null);
  }
}
