// What KVM needs of a VFIO file: the KVM-VFIO device is handed descriptors of VFIO groups and devices, which implement
// this (virt/kvm/vfio.c vfio_file_is_valid, vfio_file_enforced_coherent, vfio_file_set_kvm).
import type { Identified } from '../engine/hash.ts';
import type { Step } from '../engine/step.ts';

/** The object behind an open VFIO group or device, as KVM sees it. */
export interface VfioFile {
  /** Marks the implementation; a plain file has no such field. */
  readonly kvmVfio: true;
  /** Does the IOMMU make all DMA of it snoop the CPU caches? */
  enforcedCoherent(): boolean;
  /** Announce `setKvm` as part of a step, with whatever it writes. */
  willSetKvm(at: Step): void;
  /** The VM it belongs to from now on; null: none. Kept for drivers that ask, never used here. */
  setKvm(vm: Identified | null): void;
}

export function isVfioFile(object: unknown): object is VfioFile {
  return typeof object === 'object' && object !== null && (object as Partial<VfioFile>).kvmVfio === true;
}
