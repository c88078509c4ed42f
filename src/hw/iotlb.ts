// The IOTLB of one IOMMU for one domain: cached translations under one tag, which every device of the domain shares.
// An entry outlives the page-table entry that it was made from until an invalidation removes it.
import { Cell } from '../engine/cell.ts';
import { hashText, mix } from '../engine/hash.ts';
import type { Sim } from '../engine/sim.ts';
import { ADD, type Announced, READ, type Step, UPDATE } from '../engine/step.ts';
import { until } from '../engine/wait.ts';
import { countTranslations, type FolioHeads } from './folio-heads.ts';
import type { Frames } from './frames.ts';

/** Entries kept per tag; the oldest goes first. A stale entry that can matter is a recent one. */
const IOTLB_ENTRIES = 64;

/** A device that translates through an IOTLB: what invalidation needs to know of it. */
export interface TranslatingDevice {
  readonly identity: number;
  readonly inFlight: { readonly id: number };
  /** Is a translated access to pages [from, to) of this tag under way? Looks without a step. */
  translating(iotlb: Iotlb, from: number, to: number): boolean;
  /** What a walk under way has found in pages [from, to) and will cache. Looks without a step. */
  fillUnderWay(iotlb: Iotlb, from: number, to: number): IotlbEntry | null;
  /** An invalidation overtook its walk, in a step that announced `inFlight`. */
  strikeFill(iotlb: Iotlb, from: number, to: number): void;
}

/** One cached translation. Immutable. */
export class IotlbEntry {
  readonly page: number;
  readonly pages: number;
  readonly pfn: number;
  readonly prot: number;
  /** Page that was translated when it was filled: large leaves are counted once, on the head of this frame. */
  readonly filledFor: number;
  readonly generation: number;
  readonly identity: number;

  constructor(e: Omit<IotlbEntry, 'identity' | 'covers' | 'pfnOf'>) {
    this.page = e.page;
    this.pages = e.pages;
    this.pfn = e.pfn;
    this.prot = e.prot;
    this.filledFor = e.filledFor;
    this.generation = e.generation;
    this.identity = mix(mix(mix(e.page | 0, e.pfn), mix(e.pages, e.prot)), mix(e.generation, e.filledFor | 0));
  }

  covers(page: number): boolean {
    return page >= this.page && page < this.page + this.pages;
  }

  pfnOf(page: number): number {
    return this.pfn + (page - this.page);
  }
}

export class Iotlb {
  readonly sim: Sim;
  readonly name: string;
  readonly identity: number;
  readonly entries: Cell<readonly IotlbEntry[]>;
  /** Devices whose translations are cached under this tag. */
  readonly devices: Cell<readonly TranslatingDevice[]>;
  /** Invalidations wait until translated accesses in flight have reached memory (VT-d DMA draining). */
  private readonly drains: boolean;
  private readonly frames: Frames;
  private readonly heads: FolioHeads;

  constructor(sim: Sim, name: string, frames: Frames, heads: FolioHeads, drains: boolean) {
    this.sim = sim;
    this.name = name;
    this.identity = hashText(name);
    this.frames = frames;
    this.heads = heads;
    this.drains = drains;
    this.entries = new Cell<readonly IotlbEntry[]>(sim, name, []);
    this.devices = new Cell<readonly TranslatingDevice[]>(sim, `devices of ${name}`, []);
  }

  /** The newest entry that allows the access, in a step that announced `entries`. */
  lookup(page: number, prot: number): IotlbEntry | undefined {
    const entries = this.entries.value;
    for (let i = entries.length - 1; i >= 0; i--) {
      const entry = entries[i]!;
      if (entry.covers(page) && (entry.prot & prot) === prot) return entry;
    }
    return undefined;
  }

  /** Announce caching `entry`; `crowded`: it may push another out, on any frame. */
  willFill(entry: IotlbEntry, crowded: boolean, at: Step): Announced {
    if (crowded) this.willCountAny(at);
    else this.willCount(entry, at);
    return this.entries.willUpdate(at);
  }

  /** Could fills until the next step of a device make it full? Looks without a step, so it asks long before it is. */
  get crowded(): boolean {
    return this.entries.peek().length >= IOTLB_ENTRIES / 2;
  }

  /** Cache `entry`, in a step announced by `willFill`. Which entry goes for it is decided in the act. */
  fill(entry: IotlbEntry, crowded: boolean): void {
    let kept = this.entries.value;
    for (; crowded && kept.length >= IOTLB_ENTRIES; kept = kept.slice(1)) this.count(kept[0]!, -1);
    this.entries.value = [...kept, entry];
    this.count(entry, 1);
  }

  /**
   * Announce invalidating pages [from, to) ([0, ∞): the whole domain). The step waits for accesses in flight when the
   * hardware drains them.
   */
  willInvalidate(from: number, to: number, at: Step): Announced {
    const { sim, entries } = this;
    if (to === Number.POSITIVE_INFINITY) {
      // Pages outside a range just cleared may be cached meanwhile, on any frame.
      this.willCountAny(at);
    } else {
      // The page-table entries are gone already: all that can be cached before the act is what walks have found by now.
      for (const entry of entries.peek()) if (overlaps(entry, from, to)) this.willCount(entry, at);
      for (const device of this.devices.peek()) {
        const filling = device.fillUnderWay(this, from, to);
        if (filling !== null) this.willCount(filling, at);
      }
    }
    sim.announce(entries.id, entries.id, UPDATE, at);
    sim.announce(this.devices.id, this.devices.id, READ, at);
    const devices = this.devices.peek();
    for (const device of devices) {
      sim.announce(device.inFlight.id, device.inFlight.id, this.drains ? READ : UPDATE, at);
    }
    if (!this.drains) return sim.local(at);
    const drained = () => this.devices.peek().every((device) => !device.translating(this, from, to));
    return until(sim, [], drained, at, { name: `DMA through ${this.name}` });
  }

  /** Drop the entries of pages [from, to), in a step announced by `willInvalidate`. */
  invalidate(from: number, to: number): void {
    const entries = this.entries.value;
    const gone = entries.filter((entry) => overlaps(entry, from, to));
    if (gone.length > 0) {
      this.entries.value = entries.filter((entry) => !gone.includes(entry));
      for (const entry of gone) this.count(entry, -1);
    }
    if (this.drains) return;
    for (const device of this.devices.value) device.strikeFill(this, from, to);
  }

  private willCount(entry: IotlbEntry, at: Step): Announced {
    return this.frames.translations.willAdd(this.heads.headOf(entry.pfnOf(entry.filledFor)), at);
  }

  private willCountAny(at: Step): void {
    const { translations, machine } = this.frames;
    if (machine.frames > 0) this.sim.announce(translations.base, translations.base + machine.frames - 1, ADD, at);
  }

  private count(entry: IotlbEntry, by: 1 | -1): void {
    countTranslations(this.frames, this.heads, entry.pfnOf(entry.filledFor), 1, by);
  }
}

function overlaps(entry: IotlbEntry, from: number, to: number): boolean {
  return entry.page < to && entry.page + entry.pages > from;
}
