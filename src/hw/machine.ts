// The machine's physical memory: NUMA nodes and zones as ranges of page frame numbers (pages of 4 KiB).

export const PAGE_SHIFT = 12;
export const PAGE_SIZE = 4096;
/** Pages of a PMD leaf: 2 MiB on x86 with 4 KiB pages. */
export const PMD_PAGES = 512;
export const PMD_ORDER = 9;
/** Pages of a PUD leaf: 1 GiB. */
export const PUD_ORDER = 18;

/** Pages of a memory block (memory_block_size_bytes on x86 below 64 GiB): what goes online and offline as one. */
export const MEMORY_BLOCK_PAGES = 32768;

/** MOVABLE and CMA are where long-term pins must not stay; DEVICE frames have no struct page (BARs). */
export type ZoneKind = 'DMA32' | 'NORMAL' | 'MOVABLE' | 'CMA' | 'DEVICE';

export interface ZoneSpec {
  readonly kind: ZoneKind;
  readonly node: number;
  readonly pages: number;
  /** The first frame is a multiple of this; default: 2 MiB. */
  readonly align?: number;
}

export interface Zone extends ZoneSpec {
  readonly index: number;
  /** First frame; zones are 2 MiB aligned so that huge pages never straddle two. */
  readonly firstPfn: number;
  readonly name: string;
}

/** x86 with IPI shootdown, x86 with RCU-freed page tables (PARAVIRT), or s390 (flush without IPI, no page gather). */
export interface ArchTraits {
  readonly name: 'x86_64' | 's390x';
  readonly tlbFlushIsIpi: boolean;
  readonly rcuTableFree: boolean;
  /** MMU_GATHER_NO_GATHER: zapped pages are put at once, inside the notifier window. */
  readonly noGather: boolean;
  readonly thpMigration: boolean;
}

export const X86_64: ArchTraits = {
  name: 'x86_64',
  tlbFlushIsIpi: true,
  rcuTableFree: false,
  noGather: false,
  thpMigration: true,
};

export const S390X: ArchTraits = {
  name: 's390x',
  tlbFlushIsIpi: false,
  rcuTableFree: true,
  noGather: true,
  thpMigration: false,
};

export class Machine {
  readonly arch: ArchTraits;
  readonly zones: readonly Zone[];
  readonly nodes: number;
  /** One past the last frame. */
  readonly frames: number;

  constructor(arch: ArchTraits, specs: readonly ZoneSpec[]) {
    this.arch = arch;
    const zones: Zone[] = [];
    let next = PMD_PAGES; // frame 0 is never handed out: pfn 0 stands for "none" in tables
    for (const spec of specs) {
      const align = spec.align ?? PMD_PAGES;
      next = Math.ceil(next / align) * align;
      zones.push({ ...spec, index: zones.length, firstPfn: next, name: `node${spec.node}/${spec.kind}` });
      next = Math.ceil((next + spec.pages) / PMD_PAGES) * PMD_PAGES;
    }
    this.zones = zones;
    this.frames = next;
    this.nodes = specs.reduce((most, spec) => Math.max(most, spec.node + 1), 1);
  }

  /** The zone of a frame. */
  zoneOf(pfn: number): Zone | undefined {
    let low = 0;
    let high = this.zones.length - 1;
    while (low <= high) {
      const middle = (low + high) >> 1;
      const zone = this.zones[middle]!;
      if (pfn < zone.firstPfn) high = middle - 1;
      else if (pfn >= zone.firstPfn + zone.pages) low = middle + 1;
      else return zone;
    }
    return undefined;
  }

  /** pfn_valid: does a struct page stand for this frame? */
  hasStructPage(pfn: number): boolean {
    const zone = this.zoneOf(pfn);
    return zone !== undefined && zone.kind !== 'DEVICE';
  }
}
