// VFIO_CHECK_EXTENSION and VFIO_IOMMU_GET_INFO of type1.
import type { Steps } from '../engine/process.ts';
import { step } from '../engine/step.ts';
import type { Kernel } from '../kernel/kernel.ts';
import type { Errno } from '../mm/errno.ts';
import type { IovaWindow, VfioIommu } from './iommu.ts';

const INFO = step('vfio_iommu_type1_get_info', 'lock');
const CHECK = step('vfio_iommu_type1_check_extension', 'lock');

export const VFIO_TYPE1_IOMMU = 1;
export const VFIO_TYPE1v2_IOMMU = 3;
export const VFIO_DMA_CC_IOMMU = 4;
export const VFIO_TYPE1_NESTING_IOMMU = 6;
export const VFIO_NOIOMMU_IOMMU = 8;
export const VFIO_UNMAP_ALL = 9;
export const VFIO_UPDATE_VADDR = 10;

/** vfio_iommu_type1_check_extension; `iommu` null: no container asks yet. 1 or 0. */
export function* checkExtension(kernel: Kernel, iommu: VfioIommu | null, extension: number): Steps<number> {
  switch (extension) {
    case VFIO_TYPE1_IOMMU:
    case VFIO_TYPE1v2_IOMMU:
      return 1;
    case VFIO_TYPE1_NESTING_IOMMU:
      return kernel.has('type1.nesting') ? 1 : 0;
    case VFIO_UNMAP_ALL:
      return kernel.has('type1.unmap-all') ? 1 : 0;
    case VFIO_UPDATE_VADDR:
      if (!kernel.has('type1.vaddr-update')) return 0;
      if (kernel.way('type1.invalid-vaddr') === 'sleep') return 1;
      if (iommu === null) return 0;
      yield iommu.acquire(CHECK);
      iommu.lock.releaseNow();
      return iommu.emulatedGroups.value.length === 0 ? 1 : 0;
    case VFIO_DMA_CC_IOMMU:
      if (iommu === null) return 0;
      yield iommu.acquire(CHECK);
      iommu.lock.releaseNow();
      return iommu.domains.value.every((domain) => domain.enforceCacheCoherency) ? 1 : 0;
    default:
      return 0;
  }
}

/** struct vfio_iommu_type1_info with its capabilities, as far as they fit. */
export interface VfioIommuInfo {
  /** What all of it takes: the argsz field afterwards, when the user's was too small for the capabilities. */
  readonly argsz: number;
  /** PGSIZES (1) and CAPS (2). */
  readonly flags: number;
  readonly iovaPgsizes: bigint;
  /** Allowed IOVAs in bytes, inclusive; empty: no such capability. */
  readonly iovaRanges: readonly (readonly [bigint, bigint])[];
  readonly migrationPgsizes: bigint;
  readonly maxDirtyBitmap: number;
  /** Undefined before 5.10. */
  readonly dmaAvail: number | undefined;
}

/** sizeof(struct vfio_iommu_type1_info) up to iova_pgsizes, and whole; its capabilities come behind it. */
const INFO_ARGSZ = 16;
const INFO_BYTES = 24;
const MIGRATION_BYTES = 32;
const DMA_AVAIL_BYTES = 12;
const RANGES_BYTES = 16;
const RANGE_BYTES = 16;

/** vfio_iommu_type1_get_info */
export function* vfioIommuGetInfo(
  iommu: VfioIommu,
  arg: { readonly argsz?: number } | null,
): Steps<VfioIommuInfo | { readonly errno: Errno }> {
  if (arg === null) return { errno: 'EFAULT' };
  if ((arg.argsz ?? INFO_ARGSZ) < INFO_ARGSZ) return { errno: 'EINVAL' };
  yield iommu.acquire(INFO);
  const { kernel } = iommu.core;
  // The migration capability came with VFIO_IOMMU_DIRTY_PAGES; 0 and 0: there is none.
  const tracks = kernel.has('type1.dirty-tracking');
  const info = {
    iovaPgsizes: pgsizeBitmap(iommu),
    iovaRanges: iommu.windows.value.map(bytesOf),
    migrationPgsizes: tracks ? 0x1000n : 0n,
    maxDirtyBitmap: tracks ? 256 << 20 : 0,
    dmaAvail: kernel.has('type1.dma-avail') ? iommu.dmaAvail.value : undefined,
  };
  iommu.lock.releaseNow();
  const argsz = bytesOfInfo(info, kernel.has('vfio.capabilities-aligned'));
  const flags = argsz > INFO_BYTES ? 3 : 1;
  if (arg.argsz === undefined || arg.argsz >= argsz) return { ...info, flags, argsz };
  return { ...info, flags, argsz, iovaRanges: [], migrationPgsizes: 0n, maxDirtyBitmap: 0, dmaAvail: undefined };
}

/** `aligned`: vfio_info_cap_add rounds up to 8 bytes, which only the capability of dma_avail is no multiple of. */
function bytesOfInfo(
  { iovaRanges, migrationPgsizes, dmaAvail }: Omit<VfioIommuInfo, 'argsz' | 'flags'>,
  aligned: boolean,
): number {
  const ranges = iovaRanges.length === 0 ? 0 : RANGES_BYTES + iovaRanges.length * RANGE_BYTES;
  const migration = migrationPgsizes === 0n ? 0 : MIGRATION_BYTES;
  const avail = dmaAvail === undefined ? 0 : aligned ? Math.ceil(DMA_AVAIL_BYTES / 8) * 8 : DMA_AVAIL_BYTES;
  return INFO_BYTES + migration + avail + ranges;
}

/** vfio_update_pgsize_bitmap: what all domains can do; without any, every size from 4 KiB. */
function pgsizeBitmap(iommu: VfioIommu): bigint {
  const all = 0xfffffffffffff000n;
  const exact = iommu.core.kernel.has('iommu.vtd-reports-page-sizes');
  return iommu.domains.value.reduce((bits, { domain: { driver } }) => {
    return driver.name === 'vtd' && !exact ? bits : bits & driver.pgsizeBitmap;
  }, all);
}

function bytesOf(window: IovaWindow): readonly [bigint, bigint] {
  return [BigInt(window.first) << 12n, ((BigInt(window.last) + 1n) << 12n) - 1n];
}
