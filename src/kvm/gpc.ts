// gfn_to_pfn_cache (virt/kvm/pfncache.c): a kernel mapping of one guest page, without a reference, that notifiers
// invalidate. Users hold the lock for read and check before they touch the page.
import { Cell } from '../engine/cell.ts';
import { hashText, mix } from '../engine/hash.ts';
import { Mutex } from '../engine/lock.ts';
import { RwLock } from '../engine/rwlock.ts';
import type { Sim } from '../engine/sim.ts';

interface GpcFields {
  readonly active: boolean;
  readonly valid: boolean;
  /** Guest frame; null for a cache by host address. */
  readonly gfn: number | null;
  /** Host page; null: none (KVM_HVA_ERR_BAD). */
  readonly vpn: number | null;
  /** Memslot generation that the host page was computed for. */
  readonly slotGeneration: number;
  /** Frame mapped, or 0, and its generation then. */
  readonly pfn: number;
  readonly generation: number;
}

/** What a cache holds. Immutable. */
export class GpcState implements GpcFields {
  readonly active: boolean;
  readonly valid: boolean;
  readonly gfn: number | null;
  readonly vpn: number | null;
  readonly slotGeneration: number;
  readonly pfn: number;
  readonly generation: number;
  readonly identity: number;

  constructor(f: GpcFields) {
    this.active = f.active;
    this.valid = f.valid;
    this.gfn = f.gfn;
    this.vpn = f.vpn;
    this.slotGeneration = f.slotGeneration;
    this.pfn = f.pfn;
    this.generation = f.generation;
    const flags = (f.active ? 1 : 0) + (f.valid ? 2 : 0);
    this.identity = mix(mix(mix(flags, f.gfn ?? -1), mix(f.vpn ?? -1, f.slotGeneration | 0)), mix(f.pfn, f.generation));
  }

  with(changes: Partial<GpcFields>): GpcState {
    return new GpcState({ ...this, ...changes });
  }
}

export class GfnToPfnCache {
  readonly name: string;
  readonly identity: number;
  /** gpc->lock. Reset by kernels that set it up at each activation. */
  readonly lock: RwLock;
  /** The frame that kernels hold which keep a reference of what they cache; 0: none. */
  readonly heldPfn: Cell<number>;
  /** Refreshes exclude each other (since 5.19). */
  readonly refreshLock: Mutex;
  readonly state: Cell<GpcState>;

  constructor(sim: Sim, name: string) {
    this.name = name;
    this.identity = hashText(name);
    this.lock = new RwLock(sim, `lock of ${name}`);
    this.heldPfn = new Cell(sim, `page held by ${name}`, 0);
    this.refreshLock = new Mutex(sim, `refresh_lock of ${name}`);
    this.state = new Cell(
      sim,
      name,
      new GpcState({
        active: false,
        valid: false,
        gfn: null,
        vpn: null,
        slotGeneration: 0,
        pfn: 0,
        generation: 0,
      }),
    );
  }
}
