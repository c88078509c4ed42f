// pg_data_t, as far as reclaim keeps state there, and the wake-up of its kswapd (mm/vmscan.c).
import { Cell } from '../../engine/cell.ts';
import type { Steps } from '../../engine/process.ts';
import type { Sim } from '../../engine/sim.ts';
import { step } from '../../engine/step.ts';
import type { CoreMm, ZoneState } from '../core.ts';
import type { Task } from '../process/task.ts';

const WAKE = step('wakeup_kswapd', 'none');

/** MAX_RECLAIM_RETRIES: runs without progress after which kswapd is hopeless, and rounds of an allocation. */
export const MAX_RECLAIM_RETRIES = 16;

export interface ReclaimOptions {
  /** Where a node's cold pages are demoted to, by node (memory tiers with demotion enabled). */
  readonly demotion?: Readonly<Record<number, number>>;
  /** vm.swappiness, 0 to 200. */
  readonly swappiness?: number;
  /** CPU of a node's kswapd; default: the first. */
  readonly cpuOfNode?: Readonly<Record<number, number>>;
  /** for_each_process, for the OOM killer; without it allocations fail when memory is out. */
  readonly tasks?: () => Iterable<Task>;
}

/** kswapd_highest_zoneidx: what kind of memory is short. Whoever may not use ZONE_MOVABLE is not helped by free pages there. */
export type Highest = 'NORMAL' | 'MOVABLE';

/** gfp_zone of an allocation, as far as kswapd is concerned. */
export function highestOf(gfp: { readonly movable: boolean }): Highest {
  return gfp.movable ? 'MOVABLE' : 'NORMAL';
}

/** One node. */
export class Pgdat {
  readonly node: number;
  readonly zones: readonly ZoneState[];
  /** kswapd has been asked to run, for these zones. */
  readonly wanted: Cell<Highest | null>;
  readonly failures: Cell<number>;
  /** PGDAT_DIRTY, PGDAT_WRITEBACK */
  readonly dirty: Cell<boolean>;
  readonly writeback: Cell<boolean>;

  constructor(sim: Sim, node: number, zones: readonly ZoneState[]) {
    this.node = node;
    this.zones = zones;
    this.wanted = new Cell<Highest | null>(sim, `wake-up of kswapd${node}`, null);
    this.failures = new Cell(sim, `kswapd_failures of node ${node}`, 0);
    this.dirty = new Cell(sim, `PGDAT_DIRTY of node ${node}`, false);
    this.writeback = new Cell(sim, `PGDAT_WRITEBACK of node ${node}`, false);
  }
}

/** Reclaim of one world. */
export class Reclaimer {
  readonly nodes: readonly Pgdat[];
  readonly options: ReclaimOptions;

  constructor(core: CoreMm, options: ReclaimOptions) {
    this.options = options;
    const zonesOf = (node: number) => core.zones.filter((z) => z.zone.node === node && z.zone.kind !== 'DEVICE');
    this.nodes = Array.from({ length: core.machine.nodes }, (_, node) => node)
      .filter((node) => zonesOf(node).length > 0)
      .map((node) => new Pgdat(core.sim, node, zonesOf(node)));
  }

  /** can_reclaim_anon_pages: a racy look at the free swap in the kernel as well. */
  maySwap({ swap }: CoreMm, pgdat: Pgdat): boolean {
    return swap.slots > swap.usedSlots || this.options.demotion?.[pgdat.node] !== undefined;
  }

  pgdatOf(zone: ZoneState): Pgdat {
    return this.nodes.find(({ node }) => node === zone.zone.node)!;
  }
}

/** wakeup_kswapd: nothing for a node that is balanced, or hopeless. */
export function* wakeKswapd(pgdat: Pgdat, highest: Highest): Steps<void> {
  for (const zone of pgdat.zones) zone.freePages.willRead(WAKE);
  pgdat.failures.willRead(WAKE);
  yield pgdat.wanted.willUpdate(WAKE);
  const { failures, wanted } = pgdat;
  if (failures.value >= MAX_RECLAIM_RETRIES || wanted.value === highest || wanted.value === 'MOVABLE') return;
  if (!balanced(pgdat, highest)) wanted.value = highest;
}

/** Those up to `highest`: what kswapd reclaims from then. */
export function zonesUpTo(pgdat: Pgdat, highest: Highest): readonly ZoneState[] {
  return highest === 'MOVABLE' ? pgdat.zones : pgdat.zones.filter(({ zone }) => zone.kind !== 'MOVABLE');
}

/**
 * pgdat_balanced: one zone above its high watermark is enough; a node without such zones needs none. Free pages of CMA
 * are no help to who may not use them. Reads the free counts.
 */
export function balanced(pgdat: Pgdat, highest: Highest): boolean {
  const zones = zonesUpTo(pgdat, highest).filter(({ zone }) => highest === 'MOVABLE' || zone.kind !== 'CMA');
  return zones.length === 0 || zones.some((zone) => zone.freePages.value >= zone.highPages);
}
