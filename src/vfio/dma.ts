// struct vfio_dma: one MAP_DMA. Immutable values in a table ordered by IOVA; changing an entry replaces it. All of it is
// under iommu.lock. Addresses and sizes in pages.
import { hashText, mix } from '../engine/hash.ts';
import type { Mm } from '../mm/mm.ts';
import type { Task } from '../mm/process/task.ts';

/** Dirty pages of an entry: all of them, or their offsets. */
export type DirtyBits = 'all' | readonly number[];

/** struct vfio_pfn: a page pinned by an emulated driver. */
export interface VfioPfn {
  readonly iova: number;
  readonly pfn: number;
  readonly refCount: number;
}

export interface VfioDmaFields {
  readonly iova: number;
  readonly vaddr: number;
  /** Grows from 0 while the range is mapped; in the table it is 0 until it is mapped whole. */
  readonly pages: number;
  /** IO_READ | IO_WRITE, from the device's view. */
  readonly prot: number;
  /** Mapped in every hardware domain, or in none. */
  readonly iommuMapped: boolean;
  /** CAP_IPC_LOCK when it was mapped. */
  readonly lockCap: boolean;
  readonly vaddrInvalid: boolean;
  /** The thread group whose limit counts, and the address space that is charged. */
  readonly task: Task;
  readonly mm: Mm;
  /** Pages charged by this entry. */
  readonly lockedVm: number;
  /** Pages pinned by emulated drivers, ascending. */
  readonly pfnList: readonly VfioPfn[];
  /** Only while dirty tracking is on. */
  readonly bitmap: DirtyBits | null;
  /** Holder of its pins and charges, for the ledger. */
  readonly owner: string;
}

export class VfioDma {
  readonly fields: VfioDmaFields;

  constructor(fields: VfioDmaFields) {
    this.fields = fields;
  }

  with(changes: Partial<VfioDmaFields>): VfioDma {
    return new VfioDma({ ...this.fields, ...changes });
  }

  get iova(): number {
    return this.fields.iova;
  }

  get pages(): number {
    return this.fields.pages;
  }

  /** One past the last page. */
  get end(): number {
    return this.fields.iova + this.fields.pages;
  }

  /** Pages of [iova, iova + pages) that emulated drivers have pinned. */
  externalPins(iova: number, pages: number): number {
    const { pfnList } = this.fields;
    if (pfnList.length === 0) return 0;
    return pfnList.filter((pin) => pin.iova >= iova && pin.iova < iova + pages).length;
  }

  get identity(): number {
    const f = this.fields;
    let h = mix(mix(f.iova | 0, f.vaddr | 0), mix(f.pages | 0, f.lockedVm));
    h = mix(h, (f.prot << 3) + (f.iommuMapped ? 1 : 0) + (f.lockCap ? 2 : 0) + (f.vaddrInvalid ? 4 : 0));
    h = mix(h, mix(f.task.identity, f.mm.identity));
    for (const pin of f.pfnList) h = mix(h, mix(pin.iova | 0, mix(pin.pfn, pin.refCount)));
    return mix(h, f.bitmap === null ? 0 : f.bitmap === 'all' ? 1 : hashText(f.bitmap.join()));
  }
}
