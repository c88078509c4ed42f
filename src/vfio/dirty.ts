// Dirty page tracking (VFIO_IOMMU_DIRTY_PAGES; vfio_iommu_type1.c update_user_bitmap, vfio_iova_dirty_bitmap). The IOMMU
// reports nothing: with a hardware group in the container everything that is mapped counts as dirty.
import type { Steps } from '../engine/process.ts';
import { step } from '../engine/step.ts';
import type { Errno } from '../mm/errno.ts';
import type { DirtyBits, VfioDma } from './dma.ts';
import type { VfioIommu } from './iommu.ts';

const LOCK = step('vfio_iommu_type1_dirty_pages', 'lock');

export const VFIO_IOMMU_DIRTY_PAGES_FLAG_START = 1;
export const VFIO_IOMMU_DIRTY_PAGES_FLAG_STOP = 2;
export const VFIO_IOMMU_DIRTY_PAGES_FLAG_GET_BITMAP = 4;

/** DIRTY_BITMAP_PAGES_MAX and DIRTY_BITMAP_SIZE_MAX */
const BITMAP_PAGES_MAX = 2 ** 31 - 1;
const BITMAP_BYTES_MAX = 256n << 20n;

/** struct vfio_bitmap: sizes in bytes. */
export interface VfioBitmap {
  readonly pgsize: bigint;
  readonly size: bigint;
  /** The user's buffer can be written up to here; default: all of `size`. */
  readonly writableBytes?: number;
  /** Not a user address at all (access_ok fails). */
  readonly badAddress?: boolean;
}

export interface VfioDirtyPages {
  /** sizeof the header, or with the range: 8 and 48. */
  readonly argsz?: number;
  readonly flags: number;
  /** GET_BITMAP only. Bytes. */
  readonly iova?: bigint;
  readonly size?: bigint;
  readonly bitmap?: VfioBitmap;
}

/** A run of dirty pages by IOVA. */
export interface DirtyRange {
  readonly iova: number;
  readonly pages: number;
}

export type DirtyAnswer = { readonly dirty: readonly DirtyRange[] } | { readonly errno: Errno };

/** vfio_dma_bitmap_alloc */
export function allocBitmap(dma: VfioDma): DirtyBits | 'EINVAL' {
  return dma.pages > BITMAP_PAGES_MAX ? 'EINVAL' : [];
}

/** vfio_dma_populate_bitmap: pages pinned by emulated drivers are always dirty. */
export function pinnedBits(dma: VfioDma): DirtyBits {
  return dma.fields.pfnList.map((pin) => pin.iova - dma.iova);
}

/** verify_bitmap_size and access_ok, before the lock is taken. */
export function badBitmap(bitmap: VfioBitmap, size: bigint): boolean {
  if (bitmap.badAddress === true || bitmap.pgsize === 0n) return true;
  const lowest = bitmap.pgsize & -bitmap.pgsize;
  const bits = size / lowest;
  const bytes = bitmapBytes(bits);
  return bits === 0n || bitmap.size === 0n || bitmap.size > BITMAP_BYTES_MAX || bitmap.size < bytes;
}

/** DIRTY_BITMAP_BYTES: whole 64-bit words. */
function bitmapBytes(bits: bigint): bigint {
  return ((bits + 63n) / 64n) * 8n;
}

/** update_user_bitmap: the dirty pages of one entry, or EFAULT when its words do not fit the user's buffer. */
export function dirtyOf(iommu: VfioIommu, dma: VfioDma, base: number, bitmap: VfioBitmap): DirtyAnswer {
  const offset = dma.iova - base;
  const shift = offset % 64;
  const end = Math.floor(offset / 64) * 8 + Number(bitmapBytes(BigInt(dma.pages + shift)));
  if (end > (bitmap.writableBytes ?? Number(bitmap.size))) return { errno: 'EFAULT' };
  const { iommuMapped, bitmap: bits } = dma.fields;
  if ((iommu.numNonPinnedGroups.value > 0 && iommuMapped) || bits === 'all') {
    return { dirty: [{ iova: dma.iova, pages: dma.pages }] };
  }
  return { dirty: (bits ?? []).map((at) => ({ iova: dma.iova + at, pages: 1 })) };
}

/** vfio_iommu_type1_dirty_pages */
export function* vfioDirtyPages(iommu: VfioIommu, arg: VfioDirtyPages | null): Steps<DirtyAnswer> {
  if (!iommu.v2) return { errno: 'EACCES' };
  if (arg === null) return { errno: 'EFAULT' };
  const { flags } = arg;
  const get = flags === VFIO_IOMMU_DIRTY_PAGES_FLAG_GET_BITMAP;
  if ((arg.argsz ?? (get ? 48 : 8)) < 8 || (flags & ~7) !== 0) return { errno: 'EINVAL' };
  if (flags === VFIO_IOMMU_DIRTY_PAGES_FLAG_START || flags === VFIO_IOMMU_DIRTY_PAGES_FLAG_STOP) {
    yield iommu.acquire(LOCK);
    const errno = flags === VFIO_IOMMU_DIRTY_PAGES_FLAG_START ? startTracking(iommu) : stopTracking(iommu);
    iommu.lock.releaseNow();
    return errno === null ? { dirty: [] } : { errno };
  }
  // Exactly one flag (and not none).
  if (!get) return { errno: 'EINVAL' };
  const { iova = 0n, size = 0n, bitmap } = arg;
  if ((arg.argsz ?? 48) < 48 || bitmap === undefined) return { errno: 'EINVAL' };
  if (iova + size >= 1n << 64n || badBitmap(bitmap, size)) return { errno: 'EINVAL' };
  yield iommu.acquire(LOCK);
  const answer = getBitmap(iommu, iova, size, bitmap);
  iommu.lock.releaseNow();
  return answer;
}

function startTracking(iommu: VfioIommu): Errno | null {
  if (iommu.dirtyPageTracking.value) return null;
  const entries = iommu.dmaList.entries().map(([, dma]) => dma);
  // All or nothing: what was allocated before the failure is freed again (until 4518e5a60c7f another entry's, too).
  if (entries.some((dma) => allocBitmap(dma) === 'EINVAL')) return 'EINVAL';
  for (const dma of entries) iommu.dmaList.set(dma.iova, dma.with({ bitmap: pinnedBits(dma) }));
  iommu.dirtyPageTracking.value = true;
  return null;
}

function stopTracking(iommu: VfioIommu): null {
  if (!iommu.dirtyPageTracking.value) return null;
  iommu.dirtyPageTracking.value = false;
  for (const [, dma] of iommu.dmaList.entries()) iommu.dmaList.set(dma.iova, dma.with({ bitmap: null }));
  return null;
}

/** vfio_iova_dirty_bitmap: the range must not cut an entry. What was reported is clean again, but for pinned pages. */
function getBitmap(iommu: VfioIommu, iova: bigint, size: bigint, bitmap: VfioBitmap): DirtyAnswer {
  if (bitmap.pgsize !== 4096n || (iova & 4095n) !== 0n || size === 0n || (size & 4095n) !== 0n)
    return { errno: 'EINVAL' };
  if (!iommu.dirtyPageTracking.value) return { errno: 'EINVAL' };
  const from = Number(iova >> 12n);
  const to = from + Number(size >> 12n);
  const first = iommu.findDma(from, 1);
  const last = iommu.findDma(to - 1, 1);
  if ((first !== undefined && first.iova !== from) || (last !== undefined && last.end !== to))
    return { errno: 'EINVAL' };
  const dirty: DirtyRange[] = [];
  for (const [, dma] of iommu.dmaList.range(from, to)) {
    const answer = dirtyOf(iommu, dma, from, bitmap);
    if ('errno' in answer) return answer;
    dirty.push(...answer.dirty);
    iommu.dmaList.set(dma.iova, dma.with({ bitmap: pinnedBits(dma) }));
  }
  return { dirty };
}

/** A group that may have written anything leaves: everything is dirty (d0a78f91761f). */
export function dirtyAll(iommu: VfioIommu): void {
  for (const [, dma] of iommu.dmaList.entries()) iommu.dmaList.set(dma.iova, dma.with({ bitmap: 'all' }));
}
