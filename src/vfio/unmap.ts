// VFIO_IOMMU_UNMAP_DMA (vfio_iommu_type1.c vfio_iommu_type1_unmap_dma, vfio_dma_do_unmap). v2 refuses a range that cuts an
// entry; v1 removes an entry whole when its first page is asked for, and nothing when only a later one is.
import { call, type Steps } from '../engine/process.ts';
import { step } from '../engine/step.ts';
import type { Errno } from '../mm/errno.ts';
import { badBitmap, type DirtyRange, dirtyOf, type VfioBitmap } from './dirty.ts';
import type { VfioDma } from './dma.ts';
import { notifyDmaUnmap, tooManyRetries } from './external.ts';
import { IOVA_SPACE_PAGES, type VfioIommu } from './iommu.ts';
import { removeDma } from './unmap-unpin.ts';
import { removeViews, willLookAtViews } from './views.ts';

const LOCK = step('vfio_dma_do_unmap:lock', 'lock');
const NEXT = step('vfio_dma_do_unmap:next', 'op');
const VADDR = step('vfio_dma_do_unmap:invalidate-vaddr', 'none');
const UNLOCK = step('vfio_dma_do_unmap:unlock', 'lock');

export const VFIO_DMA_UNMAP_FLAG_GET_DIRTY_BITMAP = 1;
export const VFIO_DMA_UNMAP_FLAG_ALL = 2;
export const VFIO_DMA_UNMAP_FLAG_VADDR = 4;

/** UNMAP asks devices that pin the same entry again and again so often, and then stops the kernel. */
const MAX_RETRIES = 10;

/** sizeof(struct vfio_iommu_type1_dma_unmap), and of struct vfio_bitmap behind it. */
const UNMAP_ARGSZ = 24;
const BITMAP_ARGSZ = 24;

/** struct vfio_iommu_type1_dma_unmap, in bytes. */
export interface VfioDmaUnmap {
  readonly argsz?: number;
  readonly flags: number;
  readonly iova: bigint;
  readonly size: bigint;
  /** GET_DIRTY_BITMAP */
  readonly bitmap?: VfioBitmap;
}

export interface VfioUnmapped {
  readonly errno: Errno | null;
  /** The user's size field afterwards [bytes]: what was unmapped, or on error what was asked. */
  readonly size: bigint;
  /** GET_DIRTY_BITMAP */
  readonly dirty: readonly DirtyRange[];
}

/** vfio_iommu_type1_unmap_dma. `arg` null: a pointer that cannot be read. */
export function* vfioUnmapDma(iommu: VfioIommu, arg: VfioDmaUnmap | null): Steps<VfioUnmapped> {
  if (arg === null) return { errno: 'EFAULT', size: 0n, dirty: [] };
  const early = checkArguments(iommu, arg);
  if (early !== null) return { errno: early, size: arg.size, dirty: [] };
  yield iommu.acquire(LOCK);
  const bad = checkLocked(iommu, arg);
  if (bad !== null) {
    iommu.lock.releaseNow();
    return { errno: bad, size: arg.size, dirty: [] };
  }
  const all = (arg.flags & VFIO_DMA_UNMAP_FLAG_ALL) !== 0;
  const iova = Number(arg.iova >> 12n);
  const pages = all ? IOVA_SPACE_PAGES : Number(arg.size >> 12n);
  const removal = new Removal();
  for (let again = false; ; again = true) {
    const found = entriesOf(iommu, iova, pages, { all, again });
    if ((arg.flags & VFIO_DMA_UNMAP_FLAG_VADDR) !== 0) {
      for (const dma of found.entries) willLookAtViews(iommu, dma, VADDR);
      yield iommu.will(VADDR);
      removal.end(invalidateVaddrs(iommu, found));
    } else yield* call(removeAll(iommu, found, iova, arg, removal));
    if (!removal.again) break;
  }
  const { done } = removal;
  yield iommu.will(UNLOCK);
  iommu.lock.releaseNow();
  if (done.errno !== null) return { errno: done.errno, size: arg.size, dirty: done.dirty };
  return { errno: null, size: BigInt(done.pages) << 12n, dirty: done.dirty };
}

/** Before the lock: EINVAL. */
function checkArguments(iommu: VfioIommu, arg: VfioDmaUnmap): Errno | null {
  const { kernel } = iommu.core;
  const { flags, bitmap, size } = arg;
  let known = 0;
  if (kernel.has('type1.dirty-tracking')) known |= VFIO_DMA_UNMAP_FLAG_GET_DIRTY_BITMAP;
  if (kernel.has('type1.unmap-all')) known |= VFIO_DMA_UNMAP_FLAG_ALL;
  if (kernel.has('type1.vaddr-update')) known |= VFIO_DMA_UNMAP_FLAG_VADDR;
  const argsz = arg.argsz ?? (bitmap === undefined ? UNMAP_ARGSZ : UNMAP_ARGSZ + BITMAP_ARGSZ);
  if (argsz < UNMAP_ARGSZ || (flags & ~known) !== 0) return 'EINVAL';
  if ((flags & VFIO_DMA_UNMAP_FLAG_GET_DIRTY_BITMAP) === 0) return null;
  if ((flags & (VFIO_DMA_UNMAP_FLAG_ALL | VFIO_DMA_UNMAP_FLAG_VADDR)) !== 0) return 'EINVAL';
  if (argsz < UNMAP_ARGSZ + BITMAP_ARGSZ || bitmap === undefined) return 'EINVAL';
  return badBitmap(bitmap, size) ? 'EINVAL' : null;
}

/** Under the lock. EBUSY: an emulated device could pin through an address that is being replaced. */
function checkLocked(iommu: VfioIommu, { flags, iova, size, bitmap }: VfioDmaUnmap): Errno | null {
  const { kernel } = iommu.core;
  const vaddr = (flags & VFIO_DMA_UNMAP_FLAG_VADDR) !== 0;
  if (vaddr && iommu.emulatedGroups.value.length > 0 && kernel.way('type1.invalid-vaddr') === 'refuse') return 'EBUSY';
  if ((iova & 4095n) !== 0n) return 'EINVAL';
  if ((flags & VFIO_DMA_UNMAP_FLAG_ALL) !== 0) {
    if (iova !== 0n || size !== 0n) return 'EINVAL';
  } else if (size === 0n || (size & 4095n) !== 0n || iova + size - 1n >= 1n << 64n) return 'EINVAL';
  if ((flags & VFIO_DMA_UNMAP_FLAG_GET_DIRTY_BITMAP) !== 0) {
    if (!iommu.dirtyPageTracking.value || bitmap?.pgsize !== 4096n) return 'EINVAL';
  }
  return null;
}

interface Found {
  readonly errno: Errno | null;
  readonly entries: readonly VfioDma[];
}

/** `again`: after devices were told. A range that cuts an entry by then ends the call without an errno: ret is 0 already. */
function entriesOf(
  iommu: VfioIommu,
  iova: number,
  pages: number,
  { all, again }: { readonly all: boolean; readonly again: boolean },
): Found {
  if (iommu.v2 && !all) {
    const first = iommu.findDma(iova, 1);
    const last = iommu.findDma(iova + pages - 1, 1);
    const cut = (first !== undefined && first.iova !== iova) || (last !== undefined && last.end !== iova + pages);
    if (cut) return { errno: again ? null : 'EINVAL', entries: [] };
  }
  const entries = all ? allEntries(iommu) : iommu.entriesIn(iova, pages);
  // v1: a range that starts inside an entry removes nothing.
  const cutHead = !iommu.v2 && entries[0] !== undefined && entries[0].iova < iova;
  return { errno: null, entries: cutHead ? [] : entries };
}

/** The walk starts at the first entry whose end is beyond 0: one that ends at 2^64 is not found, unless another is. */
function allEntries(iommu: VfioIommu): readonly VfioDma[] {
  const entries = iommu.dmaList.entries().map(([, dma]) => dma);
  const first = entries.findIndex((dma) => iommu.rangeEnd(dma.iova, dma.pages) > 0);
  return first < 0 ? [] : entries.slice(first);
}

interface Done {
  readonly errno: Errno | null;
  readonly pages: number;
  readonly dirty: readonly DirtyRange[];
}

/** VADDR: DMA goes on, the address is void. Meeting an address that is void already undoes this call's marks. */
function invalidateVaddrs(iommu: VfioIommu, { errno, entries }: Found): Done {
  if (errno !== null || entries.some((dma) => dma.fields.vaddrInvalid)) return { errno: 'EINVAL', pages: 0, dirty: [] };
  for (const dma of entries) {
    removeViews(iommu, dma);
    iommu.dmaList.set(dma.iova, dma.with({ vaddrInvalid: true }));
  }
  iommu.vaddrInvalidCount.value += entries.length;
  return { errno: null, pages: entries.reduce((sum, dma) => sum + dma.pages, 0), dirty: [] };
}

/** Removing what a range covers: starts over after each time that devices were asked to unpin. */
class Removal {
  again = false;
  done: Done = { errno: null, pages: 0, dirty: [] };
  /** The entry whose pins were asked for last, and how often since. */
  private asked: string | null = null;
  private retries = 0;

  end(done: Done): void {
    this.done = done;
    this.again = false;
  }

  /** How often the devices have been asked for the pins of this entry before. */
  ask(dma: VfioDma): number {
    this.retries = this.asked === dma.fields.owner ? this.retries + 1 : 0;
    this.asked = dma.fields.owner;
    this.again = true;
    return this.retries;
  }
}

/** Entry by entry: dirty bits out, then remove. An error leaves those removed before it removed. */
function* removeAll(iommu: VfioIommu, found: Found, iova: number, arg: VfioDmaUnmap, removal: Removal): Steps<void> {
  const before = removal.done;
  if (found.errno !== null) {
    removal.end({ ...before, errno: found.errno });
    return;
  }
  const bitmap = (arg.flags & VFIO_DMA_UNMAP_FLAG_GET_DIRTY_BITMAP) !== 0 ? arg.bitmap : undefined;
  const dirty: DirtyRange[] = [...before.dirty];
  let { pages } = before;
  for (const { iova: at } of found.entries) {
    yield iommu.will(NEXT);
    const dma = iommu.entry(at);
    // Until some release before 6.1 only the address space that mapped could unmap; others got 0 bytes and no errno.
    const { current, kernel } = iommu.core;
    if (!kernel.has('type1.unmap-by-any-mm') && dma.fields.task.mm.peek() !== current.task.mm.peek()) break;
    if (dma.fields.pfnList.length > 0) {
      removal.done = { errno: null, pages, dirty };
      const retries = removal.ask(dma);
      if (retries > MAX_RETRIES) yield* call(tooManyRetries(iommu, dma, retries));
      yield* call(notifyDmaUnmap(iommu, dma));
      return;
    }
    if (bitmap !== undefined) {
      const answer = dirtyOf(iommu, dma, iova, bitmap);
      if ('errno' in answer) {
        removal.end({ errno: answer.errno, pages, dirty });
        return;
      }
      dirty.push(...answer.dirty);
    }
    pages += dma.pages;
    yield* call(removeDma(iommu, at));
  }
  removal.end({ errno: null, pages, dirty });
}
