// Parameters of the vfio and vfio_iommu_type1 modules, writable at run time.
import { Cell } from '../engine/cell.ts';
import type { Sim } from '../engine/sim.ts';

export interface VfioModuleOptions {
  /** Mappings per container, sampled when the container gets its IOMMU driver. */
  readonly dmaEntryLimit?: number;
  readonly disableHugepages?: boolean;
  readonly allowUnsafeInterrupts?: boolean;
}

export class VfioModule {
  readonly dmaEntryLimit: Cell<number>;
  readonly disableHugepages: Cell<boolean>;
  readonly allowUnsafeInterrupts: Cell<boolean>;

  constructor(sim: Sim, options: VfioModuleOptions = {}) {
    this.dmaEntryLimit = new Cell(sim, 'vfio_iommu_type1.dma_entry_limit', options.dmaEntryLimit ?? 65535);
    this.disableHugepages = new Cell(sim, 'vfio_iommu_type1.disable_hugepages', options.disableHugepages ?? false);
    this.allowUnsafeInterrupts = new Cell(
      sim,
      'vfio_iommu_type1.allow_unsafe_interrupts',
      options.allowUnsafeInterrupts ?? false,
    );
  }
}
