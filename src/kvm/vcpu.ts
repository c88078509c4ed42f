// A virtual CPU as the memory model sees it (struct kvm_vcpu): the root it translates through, its TLB, and the request
// to load another root. While it runs in the guest it takes an exit between any two instructions, so that whoever kicks
// it and waits can be one step.
import { Cell } from '../engine/cell.ts';
import { hashText, mix } from '../engine/hash.ts';
import type { Sim } from '../engine/sim.ts';
import type { AsyncPf } from './async-pf.ts';
import type { TdpRoot } from './tdp-root.ts';

/** One cached guest-physical translation. Immutable. */
export class GuestTlbEntry {
  readonly gfn: number;
  readonly pages: number;
  readonly pfn: number;
  readonly write: boolean;
  readonly generation: number;
  readonly identity: number;

  constructor(e: Omit<GuestTlbEntry, 'identity' | 'covers' | 'pfnOf'>) {
    this.gfn = e.gfn;
    this.pages = e.pages;
    this.pfn = e.pfn;
    this.write = e.write;
    this.generation = e.generation;
    this.identity = mix(mix(mix(e.gfn | 0, e.pfn), e.pages), mix(e.generation, e.write ? 1 : 0));
  }

  covers(gfn: number): boolean {
    return gfn >= this.gfn && gfn < this.gfn + this.pages;
  }

  pfnOf(gfn: number): number {
    return this.pfn + (gfn - this.gfn);
  }
}

/** Entries kept; the oldest goes first. */
const TLB_ENTRIES = 64;

export class Vcpu {
  readonly name: string;
  readonly identity: number;
  readonly id: number;
  readonly tlb: Cell<readonly GuestTlbEntry[]>;
  /** KVM_REQ_MMU_FREE_OBSOLETE_ROOTS: load another root before the next entry. One object with the TLB. */
  readonly reload: Cell<boolean>;
  /** arch.mmu->root; only the vCPU's own thread changes it. One object with the TLB. */
  readonly root: Cell<TdpRoot | null>;

  /** is_guest_mode: runs a nested guest. One object with the TLB. */
  readonly nested: Cell<boolean>;
  /** Page-modification log: frames whose dirty bit the CPU set. Written out at exits. One object with the TLB. */
  readonly pmlBuffer: Cell<readonly number[]>;
  /** Asynchronous page faults under way, and those completed and not yet looked at. */
  readonly asyncQueue: Cell<readonly AsyncPf[]>;
  readonly asyncDone: Cell<readonly AsyncPf[]>;

  constructor(sim: Sim, vmName: string, id: number) {
    this.id = id;
    this.name = `vCPU ${id} of ${vmName}`;
    this.identity = mix(hashText(this.name), id);
    this.tlb = new Cell<readonly GuestTlbEntry[]>(sim, `TLB of ${this.name}`, []);
    this.reload = new Cell(sim, `requests of ${this.name}`, false, this.tlb);
    this.root = new Cell<TdpRoot | null>(sim, `root of ${this.name}`, null, this.tlb);
    this.nested = new Cell(sim, `guest mode of ${this.name}`, false, this.tlb);
    this.pmlBuffer = new Cell<readonly number[]>(sim, `PML buffer of ${this.name}`, [], this.tlb);
    this.asyncQueue = new Cell<readonly AsyncPf[]>(sim, `asynchronous page faults of ${this.name}`, []);
    this.asyncDone = new Cell<readonly AsyncPf[]>(sim, `completed page faults of ${this.name}`, []);
  }

  /** In a step that announced `tlb`. */
  lookup(gfn: number): GuestTlbEntry | undefined {
    return this.tlb.value.find((entry) => entry.covers(gfn));
  }

  /** Cache a translation, in a step that announced updating `tlb`. */
  fill(entry: GuestTlbEntry): void {
    const kept = this.tlb.value.filter((old) => !old.covers(entry.gfn));
    if (kept.length >= TLB_ENTRIES) kept.splice(0, kept.length - TLB_ENTRIES + 1);
    this.tlb.value = [...kept, entry];
  }

  /** Forget everything, in a step that announced updating `tlb`. */
  flush(): void {
    if (this.tlb.value.length > 0) this.tlb.value = [];
  }
}
