// A CPU: its TLB, and whether it takes interrupts. A shootdown by IPI is acknowledged only with interrupts on; that is
// what keeps page tables and pages alive under GUP-fast on x86.
import { Cell } from '../engine/cell.ts';
import { mix } from '../engine/hash.ts';
import type { Sim } from '../engine/sim.ts';
import { type Announced, READ, type Step, UPDATE } from '../engine/step.ts';
import { until } from '../engine/wait.ts';

/** One cached translation of one address space (`asid`). Immutable. */
export class TlbEntry {
  readonly asid: number;
  readonly vpn: number;
  readonly pages: number;
  readonly pfn: number;
  readonly write: boolean;
  /** Loaded from, or upgraded to, a dirty PTE: may write without another walk. */
  readonly dirty: boolean;
  readonly generation: number;
  readonly identity: number;

  constructor(e: Omit<TlbEntry, 'identity' | 'pfnOf' | 'covers'>) {
    this.asid = e.asid;
    this.vpn = e.vpn;
    this.pages = e.pages;
    this.pfn = e.pfn;
    this.write = e.write;
    this.dirty = e.dirty;
    this.generation = e.generation;
    this.identity = mix(mix(mix(e.asid, e.vpn | 0), e.pfn), mix(e.generation, (e.write ? 1 : 0) + (e.dirty ? 2 : 0)));
  }

  covers(asid: number, vpn: number): boolean {
    return asid === this.asid && vpn >= this.vpn && vpn < this.vpn + this.pages;
  }

  pfnOf(vpn: number): number {
    return this.pfn + (vpn - this.vpn);
  }
}

/** Entries a TLB keeps; the oldest goes first. Small: every stale entry that can matter is recent. */
const TLB_ENTRIES = 64;

export class Cpu {
  readonly sim: Sim;
  readonly number: number;
  readonly name: string;
  readonly identity: number;
  /** local_irq_save depth is at most one here: interrupts are off or on. */
  readonly irqsOff: Cell<boolean>;
  readonly tlb: Cell<readonly TlbEntry[]>;

  constructor(sim: Sim, number: number) {
    this.sim = sim;
    this.number = number;
    this.name = `cpu${number}`;
    this.identity = mix(number, 0x63707500);
    this.irqsOff = new Cell(sim, `interrupts of cpu${number}`, false);
    this.tlb = new Cell<readonly TlbEntry[]>(sim, `TLB of cpu${number}`, []);
  }

  /** The cached translation of `vpn`, in a step that announced `tlb`. */
  lookup(asid: number, vpn: number): TlbEntry | undefined {
    return this.tlb.value.find((entry) => entry.covers(asid, vpn));
  }

  /** Cache a translation; returns the entries that fell out, for the caller to uncount. */
  fill(entry: TlbEntry): readonly TlbEntry[] {
    const kept = this.tlb.value.filter((old) => !old.covers(entry.asid, entry.vpn));
    const gone = this.tlb.value.filter((old) => old.covers(entry.asid, entry.vpn));
    if (kept.length >= TLB_ENTRIES) gone.push(...kept.splice(0, kept.length - TLB_ENTRIES + 1));
    this.tlb.value = [...kept, entry];
    return gone;
  }

  /** Drop the entries of `asid` in [from, to); returns them. In a step that announced updating `tlb`. */
  flush(asid: number, from: number, to: number): readonly TlbEntry[] {
    const gone = this.tlb.value.filter((e) => e.asid === asid && e.vpn < to && e.vpn + e.pages > from);
    if (gone.length > 0) this.tlb.value = this.tlb.value.filter((e) => !gone.includes(e));
    return gone;
  }

  /** Does the TLB hold anything of this address space? Looks without a step. */
  caches(asid: number): boolean {
    return this.tlb.peek().some((entry) => entry.asid === asid);
  }

  /**
   * Announce running an interrupt on this CPU: disabled while it has interrupts off. The act may change the TLB.
   * With `waitForIrqs` false (s390, INVLPGB) the flush does not need the CPU's cooperation.
   */
  interrupt(at: Step, waitForIrqs: boolean): Announced {
    if (!waitForIrqs) return this.sim.announce(this.tlb.id, this.tlb.id, UPDATE, at);
    this.sim.announce(this.tlb.id, this.tlb.id, UPDATE, at);
    this.sim.announce(this.irqsOff.id, this.irqsOff.id, READ, at);
    return until(this.sim, [], () => !this.irqsOff.peek(), at, { name: `interrupts of ${this.name}` });
  }
}
