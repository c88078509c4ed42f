// /proc/vmstat counters: many add, few read, so they commute.
import { Tally } from '../../engine/cell.ts';
import type { Sim } from '../../engine/sim.ts';
import type { Announced, Step } from '../../engine/step.ts';
import type { Kernel } from '../../kernel/kernel.ts';

export const VMSTAT_NAMES = [
  'nr_foll_pin_acquired',
  'nr_foll_pin_released',
  'pgfault',
  'pgmajfault',
  'pswpin',
  'pswpout',
  'pgmigrate_success',
  'pgmigrate_fail',
  'thp_fault_alloc',
  'thp_collapse_alloc',
  'thp_split_page',
  'thp_split_page_failed',
  'thp_deferred_split_page',
  'thp_split_pmd',
  'pgscan',
  'pgsteal',
  'compact_migrate_scanned',
  'compact_success',
  'compact_fail',
  'ksm_merged',
  'oom_kill',
] as const;
export type VmstatName = (typeof VMSTAT_NAMES)[number];

export class Vmstat {
  private readonly tallies: ReadonlyMap<VmstatName, Tally>;

  /** The counters of pins came with FOLL_PIN (1970dc6f5226, 5.7). */
  private readonly countsPins: boolean;

  constructor(sim: Sim, kernel: Kernel) {
    this.countsPins = kernel.has('gup.foll-pin');
    this.tallies = new Map(VMSTAT_NAMES.map((name) => [name, new Tally(sim, `vmstat ${name}`)]));
  }

  private tally(name: VmstatName): Tally {
    return this.tallies.get(name)!;
  }

  willAdd(name: VmstatName, at: Step): Announced {
    return this.tally(name).willAdd(at);
  }

  add(name: VmstatName, amount: number): void {
    if (!this.countsPins && name.startsWith('nr_foll_pin')) return;
    this.tally(name).add(amount);
  }

  willRead(name: VmstatName, at: Step): Announced {
    return this.tally(name).willRead(at);
  }

  value(name: VmstatName): number {
    return this.tally(name).value;
  }

  peek(name: VmstatName): number {
    return this.tally(name).peek();
  }
}
