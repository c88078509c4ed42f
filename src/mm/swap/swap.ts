// Swap: slots with a use count per slot (swap_map) and the swap cache (slot -> head pfn). One device; zram or a disk.
import { Cell } from '../../engine/cell.ts';
import { Column } from '../../engine/column.ts';
import type { Sim } from '../../engine/sim.ts';

export class Swap {
  readonly sim: Sim;
  readonly slots: number;
  /** References of PTEs (and shmem) to a slot. Object: swap slot. */
  readonly map: Column;
  /** Swap cache: head pfn + 1, or 0; same object. */
  readonly cache: Column;
  /** What was written to the slot, as a content token; same object. */
  readonly content: Column;
  /** SWP_STABLE_WRITES: pages under writeback must not change. */
  readonly stableWrites: boolean;
  /** SWP_SYNCHRONOUS_IO: zram; a sole reader may bypass the swap cache. */
  readonly synchronousIo: boolean;
  private readonly nextSlot: Cell<number>;
  readonly freeSlots: Cell<readonly number[]>;

  constructor(
    sim: Sim,
    slots: number,
    options: { readonly stableWrites?: boolean; readonly synchronousIo?: boolean } = {},
  ) {
    this.sim = sim;
    this.slots = slots;
    this.stableWrites = options.stableWrites ?? false;
    this.synchronousIo = options.synchronousIo ?? true;
    const rows = Math.max(slots, 1);
    this.map = new Column(sim, 'swap.map', { rows, rowName: (slot) => `swap slot ${slot}` });
    this.cache = new Column(sim, 'swap.cache', { rows, sameObjectAs: this.map });
    this.content = new Column(sim, 'swap.content', { rows, sameObjectAs: this.map, width: 'f64' });
    this.nextSlot = new Cell(sim, 'next swap slot', 0);
    this.freeSlots = new Cell<readonly number[]>(sim, 'free swap slots', [], this.nextSlot);
  }

  /** Object to announce when taking or freeing slots. */
  get allocator(): Cell<number> {
    return this.nextSlot;
  }

  /** Take a free slot, or undefined when swap is full. In a step that announced updating `allocator`. */
  take(): number | undefined {
    const free = this.freeSlots.value;
    if (free.length > 0) {
      this.freeSlots.value = free.slice(0, -1);
      return free[free.length - 1];
    }
    const slot = this.nextSlot.value;
    if (slot >= this.slots) return undefined;
    this.nextSlot.value = slot + 1;
    return slot;
  }

  giveBack(slot: number): void {
    this.freeSlots.value = [...this.freeSlots.value, slot];
  }

  get usedSlots(): number {
    return this.nextSlot.peek() - this.freeSlots.peek().length;
  }
}
