// Taking an entry out (vfio_iommu_type1.c vfio_unmap_unpin, vfio_remove_dma). The order is what keeps memory safe:
// clear in all other domains, clear in the first, invalidate, and only then unpin.
import { call, type Steps } from '../engine/process.ts';
import { step } from '../engine/step.ts';
import { Gather, iommuUnmap, iommuUnmapFast, iotlbSync } from '../iommu/map.ts';
import { OWNER_GONE } from '../mm/ledger.ts';
import { lockAcct } from './account.ts';
import type { VfioDma } from './dma.ts';
import type { VfioDomain, VfioIommu } from './iommu.ts';
import { putPfns } from './pin.ts';
import { removeViews, willLookAtViews } from './views.ts';

const VIEWS = step('vfio_unmap_unpin:begin', 'none');
const ERASE = step('vfio_remove_dma:erase', 'op');
const UNMAPPED = step('vfio_unmap_unpin:iommu_mapped', 'op');

/** VFIO_IOMMU_TLB_SYNC_MAX: runs unmapped between two invalidations. */
const TLB_SYNC_MAX = 512;

/** struct vfio_regions: unmapped, not yet unpinned. */
interface Region {
  readonly pfn: number;
  readonly pages: number;
}

/** vfio_unmap_unpin. Returns the pages unpinned; with `accounting` they are given back here. */
export function* unmapUnpin(iommu: VfioIommu, iova: number, accounting: boolean): Steps<number> {
  const dma = iommu.entry(iova);
  const [first, ...others] = iommu.domains.peek();
  if (dma.pages === 0 || first === undefined) return 0;
  yield willLookAtViews(iommu, dma, VIEWS);
  removeViews(iommu, dma);
  for (const { domain } of others) yield* call(iommuUnmap(domain, iova, dma.pages));
  const unpinned = yield* call(unmapFirst(iommu, dma, first));
  if (accounting) yield* call(lockAcct(iommu, iova, -unpinned, true));
  return unpinned;
}

/** The first domain is where the frames to unpin are found. */
function* unmapFirst(iommu: VfioIommu, dma: VfioDma, first: VfioDomain): Steps<number> {
  const { domain, fgsp } = first;
  const gather = new Gather();
  const regions: Region[] = [];
  let unpinned = 0;
  // A range that ends at 2^64 ends at 0: the loop is never entered and its pages stay pinned for good.
  const end = iommu.rangeEnd(dma.iova, dma.pages);
  for (let page = dma.iova; page < end; ) {
    const run = domain.table.peekRun(page, fgsp ? 1 : end - page);
    if (run.pfn < 0) {
      // WARN_ON(!phys): nothing is mapped where the entry says it is.
      page += run.pages;
      continue;
    }
    const gone = yield* call(iommuUnmapFast(domain, page, run.pages, gather));
    if (gone > 0) regions.push({ pfn: run.pfn, pages: gone });
    if (regions.length >= TLB_SYNC_MAX || gone === 0) {
      unpinned += yield* call(syncUnpin(iommu, dma, first, regions, gather));
    }
    if (gone > 0) {
      page += gone;
      continue;
    }
    const slowly = yield* call(iommuUnmap(domain, page, run.pages));
    // WARN_ON(!unmapped)
    if (slowly === 0) break;
    unpinned += yield* call(putPfns(iommu, dma, [{ pfn: run.pfn, pages: slowly }]));
    page += slowly;
  }
  yield iommu.will(UNMAPPED);
  iommu.dmaList.set(dma.iova, iommu.entry(dma.iova).with({ iommuMapped: false }));
  if (regions.length > 0) unpinned += yield* call(syncUnpin(iommu, dma, first, regions, gather));
  return unpinned;
}

/** vfio_sync_unpin: invalidate what was gathered, then unpin. */
function* syncUnpin(
  iommu: VfioIommu,
  dma: VfioDma,
  { domain }: VfioDomain,
  regions: Region[],
  gather: Gather,
): Steps<number> {
  yield* call(iotlbSync(domain, gather));
  return yield* call(putPfns(iommu, dma, regions.splice(0)));
}

/** vfio_remove_dma: unmap, unpin, give the charge back, forget. The caller holds iommu.lock. */
export function* removeDma(iommu: VfioIommu, iova: number): Steps<void> {
  yield* call(unmapUnpin(iommu, iova, true));
  yield iommu.will(ERASE);
  const dma = iommu.entry(iova);
  iommu.dmaList.delete(iova);
  if (dma.fields.vaddrInvalid) iommu.vaddrInvalidCount.value -= 1;
  iommu.dmaAvail.value += 1;
  const { sim } = iommu.core;
  if (sim.hears(OWNER_GONE)) sim.emit(OWNER_GONE, { owner: dma.fields.owner });
}
