// iommu_domain: one address space for devices. Paging domains own a page table, and one IOTLB tag per IOMMU that
// translates through it (drivers/iommu/iommu.c, intel/cache.c).
import { Cell } from '../engine/cell.ts';
import { hashText, mix } from '../engine/hash.ts';
import type { Steps } from '../engine/process.ts';
import { step } from '../engine/step.ts';
import { IoPageTable } from '../hw/io-page-table.ts';
import type { IommuUnit, Translation } from '../hw/iommu-unit.ts';
import type { CoreMm } from '../mm/core.ts';
import type { IommuDriver } from './driver.ts';

const TAG = step('cache_tag_assign_domain', 'op');

/**
 * `unmanaged` domains (VFIO, iommufd) and `dma` domains flush at every unmap; `dma-fq` domains flush late. `identity`
 * and `blocked` have no page table and cannot be mapped into.
 */
export type DomainType = 'unmanaged' | 'dma' | 'dma-fq' | 'identity' | 'blocked';

export interface DomainOptions {
  readonly name: string;
  readonly type: DomainType;
  readonly driver: IommuDriver;
  /** The IOMMU that the domain was allocated for. */
  readonly unit: IommuUnit;
  /** Table pages that may be allocated before -ENOMEM (memory cgroup); undefined: no limit. */
  readonly tablePages?: number;
}

export class IommuDomain {
  readonly core: CoreMm;
  readonly name: string;
  readonly identity: number;
  readonly type: DomainType;
  readonly driver: IommuDriver;
  readonly table: IoPageTable;
  /** First page past the aperture. */
  readonly endPage: number;
  readonly tablePages: number;
  /** One per IOMMU with a device in the domain. */
  readonly tags: Cell<readonly Translation[]>;
  private readonly units: Cell<readonly IommuUnit[]>;

  constructor(core: CoreMm, options: DomainOptions) {
    const { unit, name } = options;
    this.core = core;
    this.name = name;
    this.identity = mix(hashText(name), 0x646f6d61);
    this.type = options.type;
    this.driver = options.driver;
    this.endPage = options.driver.aperturePages(unit.addressBits);
    this.tablePages = options.tablePages ?? Number.POSITIVE_INFINITY;
    this.table = new IoPageTable(core.sim, name, unit.frames, unit.heads);
    this.tags = new Cell<readonly Translation[]>(core.sim, `cache tags of ${name}`, []);
    this.units = new Cell<readonly IommuUnit[]>(core.sim, `IOMMUs of ${name}`, [], this.tags);
  }

  /** __IOMMU_DOMAIN_PAGING */
  get paging(): boolean {
    return this.type !== 'identity' && this.type !== 'blocked';
  }

  /** The tag under which `unit` caches this domain's translations, made at its first device. */
  *tagFor(unit: IommuUnit): Steps<Translation> {
    yield this.tags.willUpdate(TAG);
    return this.tagNow(unit);
  }

  /** As `tagFor`, in a step that announced `tags`, or while the world is built. */
  tagNow(unit: IommuUnit): Translation {
    const at = this.units.value.indexOf(unit);
    if (at >= 0) return this.tags.value[at]!;
    const tag = unit.newTranslation(this.name, this.table);
    this.units.value = [...this.units.value, unit];
    this.tags.value = [...this.tags.value, tag];
    return tag;
  }

  /** iommu_iova_to_phys: the frame behind an IOVA page, or undefined. Looks without a step: its callers own the range. */
  peekFrame(page: number): number | undefined {
    if (this.type === 'identity') return page;
    if (this.type === 'blocked' || page >= this.endPage) return undefined;
    const leaf = this.table.peekLeaf(page);
    return leaf === undefined ? undefined : leaf.pfn + (page - leaf.page);
  }
}
