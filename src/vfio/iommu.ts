// struct vfio_iommu: the state of one type1 container (drivers/vfio/vfio_iommu_type1.c). One mutex serialises every
// operation on it for its full duration; all fields belong to that mutex.
import { Cell } from '../engine/cell.ts';
import { hashText, mix } from '../engine/hash.ts';
import { Mutex } from '../engine/lock.ts';
import { OrderedTable } from '../engine/ordered.ts';
import type { Steps } from '../engine/process.ts';
import { RwSem } from '../engine/rwsem.ts';
import type { Announced, Step } from '../engine/step.ts';
import type { IommuDomain } from '../iommu/domain.ts';
import type { IommuGroup } from '../iommu/group.ts';
import type { CoreMm } from '../mm/core.ts';
import type { VfioDma } from './dma.ts';

/** IOVA space of 64 bits, in pages: sums wrap here. */
export const IOVA_SPACE_PAGES = 2 ** 52;

/** struct vfio_domain. Immutable. */
export class VfioDomain {
  readonly domain: IommuDomain;
  readonly groups: readonly IommuGroup[];
  readonly enforceCacheCoherency: boolean;
  /** Fine-grained superpages: unmap need not look for runs (AMD). */
  readonly fgsp: boolean;

  constructor(fields: Pick<VfioDomain, 'domain' | 'groups' | 'enforceCacheCoherency' | 'fgsp'>) {
    this.domain = fields.domain;
    this.groups = fields.groups;
    this.enforceCacheCoherency = fields.enforceCacheCoherency;
    this.fgsp = fields.fgsp;
  }

  withGroups(groups: readonly IommuGroup[]): VfioDomain {
    return new VfioDomain({ ...this, groups });
  }

  get identity(): number {
    return this.groups.reduce((h, group) => mix(h, group.identity), mix(this.domain.identity, this.fgsp ? 1 : 0));
  }
}

/** struct vfio_iova: IOVA pages first..last that may be mapped. */
export class IovaWindow {
  readonly first: number;
  readonly last: number;

  constructor(first: number, last: number) {
    this.first = first;
    this.last = last;
  }

  get identity(): number {
    return mix(this.first | 0, this.last | 0);
  }
}

/** Who is asked to unpin before an entry goes: an open device of a driver that pins. */
export interface UnmapListener {
  readonly name: string;
  readonly identity: number;
  dmaUnmap(iommu: VfioIommu, iova: number, pages: number): Steps<void>;
}

export class VfioIommu {
  readonly core: CoreMm;
  readonly name: string;
  readonly identity: number;
  readonly v2: boolean;
  readonly nesting: boolean;
  /** dma_entry_limit as it stood at open. */
  readonly dmaEntryLimit: number;
  readonly lock: Mutex;
  /** dma_list, by first IOVA page. */
  readonly dmaList: OrderedTable<VfioDma>;
  /** Entries that can still be added. */
  readonly dmaAvail: Cell<number>;
  /** Hardware domains; a new one goes first. */
  readonly domains: Cell<readonly VfioDomain[]>;
  /** Groups of emulated devices: no domain. */
  readonly emulatedGroups: Cell<readonly IommuGroup[]>;
  /** Allowed windows, ascending; empty: everything is allowed. */
  readonly windows: Cell<readonly IovaWindow[]>;
  readonly vaddrInvalidCount: Cell<number>;
  /** Hardware groups that never declared their writes by pinning: with one of them, everything mapped is dirty. */
  readonly numNonPinnedGroups: Cell<number>;
  readonly dirtyPageTracking: Cell<boolean>;
  /** Open devices that pin: changed with both locks held, read with either. */
  readonly deviceList: Cell<readonly UnmapListener[]>;
  readonly deviceListLock: Mutex;
  /** Until 5.19: the rwsem of the notifier chain. */
  readonly notifierLock: RwSem;
  /** container_open (5.12 to 6.2): false wakes who waits for a valid address. */
  readonly containerOpen: Cell<boolean>;

  constructor(core: CoreMm, name: string, type: { v2: boolean; nesting: boolean }, dmaEntryLimit: number) {
    const { sim } = core;
    this.core = core;
    this.name = name;
    this.identity = mix(hashText(name), 0x76696f6d);
    this.v2 = type.v2;
    this.nesting = type.nesting;
    this.dmaEntryLimit = dmaEntryLimit;
    this.lock = new Mutex(sim, `iommu.lock of ${name}`);
    this.dmaList = new OrderedTable<VfioDma>(sim, `dma_list of ${name}`);
    this.dmaAvail = new Cell(sim, `dma_avail of ${name}`, dmaEntryLimit, this.lock);
    this.domains = new Cell<readonly VfioDomain[]>(sim, `domain_list of ${name}`, [], this.lock);
    this.emulatedGroups = new Cell<readonly IommuGroup[]>(sim, `emulated groups of ${name}`, [], this.lock);
    this.windows = new Cell<readonly IovaWindow[]>(sim, `iova_list of ${name}`, [], this.lock);
    this.vaddrInvalidCount = new Cell(sim, `vaddr_invalid_count of ${name}`, 0, this.lock);
    this.numNonPinnedGroups = new Cell(sim, `num_non_pinned_groups of ${name}`, 0, this.lock);
    this.dirtyPageTracking = new Cell(sim, `dirty_page_tracking of ${name}`, false, this.lock);
    this.deviceList = new Cell<readonly UnmapListener[]>(sim, `device_list of ${name}`, []);
    this.deviceListLock = new Mutex(sim, `device_list_lock of ${name}`);
    this.notifierLock = new RwSem(sim, `notifier of ${name}`);
    this.containerOpen = new Cell(sim, `container_open of ${name}`, true);
  }

  /** mutex_lock(&iommu->lock); the act may look at and change everything under it. */
  acquire(at: Step): Announced {
    this.dmaList.willUpdate(at);
    return this.lock.lock(at);
  }

  /** Announce a step under the lock, which may end with `releaseNow`. */
  will(at: Step): Announced {
    this.dmaList.willUpdate(at);
    return this.lock.willChange(at);
  }

  /** The entry with that first IOVA. The caller holds the lock, so that a look is enough. */
  entry(iova: number): VfioDma {
    const dma = this.core.sim.unwatched(() => this.dmaList.get(iova));
    if (dma === undefined) throw new Error(`${this.name} has no entry at IOVA page ${iova}`);
    return dma;
  }

  /** Entries and domains as they are; the caller holds the lock. */
  get held(): { readonly entries: readonly VfioDma[]; readonly domains: readonly VfioDomain[] } {
    const entries = this.core.sim.unwatched(() => this.dmaList.entries().map(([, dma]) => dma));
    return { entries, domains: this.domains.peek() };
  }

  /**
   * iova + pages as the kernel computes it: 64 bits wrap, so that a range ending at 2^64 ends at 0, until that was fixed
   * (ef270ec44637).
   */
  rangeEnd(iova: number, pages: number): number {
    const end = iova + pages;
    return end >= IOVA_SPACE_PAGES && !this.core.kernel.has('type1.end-of-space') ? end - IOVA_SPACE_PAGES : end;
  }

  /** vfio_find_dma: some entry that overlaps [iova, iova + pages), in a step that announced the table. */
  findDma(iova: number, pages: number): VfioDma | undefined {
    const end = this.rangeEnd(iova, pages);
    if (end <= iova) return undefined;
    const below = this.dmaList.floor(end - 1)?.[1];
    if (below === undefined || this.rangeEnd(below.iova, below.pages) <= iova) return undefined;
    return below;
  }

  /** vfio_find_dma_first_node and rb_next: entries that overlap the range, ascending, as the walk of UNMAP meets them. */
  entriesIn(iova: number, pages: number): readonly VfioDma[] {
    const end = this.rangeEnd(iova, pages);
    const first = this.dmaList.floor(iova)?.[1];
    const start = first !== undefined && this.rangeEnd(first.iova, first.pages) > iova ? first.iova : iova;
    return this.dmaList.range(start, end).map(([, dma]) => dma);
  }
}
