// iommu_map and iommu_unmap (drivers/iommu/iommu.c): cut a range into the largest pages that fit, call the driver,
// collect what must be invalidated. Sizes and addresses in pages of 4 KiB; misaligned bytes cannot be said here.
import { call, type Steps } from '../engine/process.ts';
import { step } from '../engine/step.ts';
import type { Errno } from '../mm/errno.ts';
import type { IommuDomain } from './domain.ts';
import { IOMMU_CALL } from './events.ts';
import { invalidateTags } from './invalidate.ts';
import { mapPages } from './page-table-map.ts';
import { unmapPages } from './page-table-unmap.ts';

const SYNC_MAP = step('iotlb_sync_map', 'iotlb');

export interface IommuMapRequest {
  readonly page: number;
  readonly pfn: number;
  readonly pages: number;
  /** IO_READ | IO_WRITE */
  readonly prot: number;
  /** Generation of the frames when they were looked up, where nothing has kept them since (raw mappings). */
  readonly generation?: number;
}

/** iommu_pgsize: the largest page that divides both addresses and fits, and how many before a larger one could follow. */
export function choosePageSize(
  orders: readonly number[],
  page: number,
  pfn: number,
  pages: number,
): { readonly order: number; readonly count: number } {
  let at = 0;
  while (at + 1 < orders.length) {
    const size = 2 ** orders[at + 1]!;
    if (size > pages || page % size !== 0 || pfn % size !== 0) break;
    at++;
  }
  const order = orders[at]!;
  const size = 2 ** order;
  const next = orders[at + 1];
  let span = pages;
  if (next !== undefined) {
    const larger = 2 ** next;
    // A larger page can follow only where both addresses are equally far from its alignment.
    if (page % larger === pfn % larger) {
      const offset = larger - (page % larger);
      if (offset + larger <= pages) span = offset;
    }
  }
  return { order, count: Math.floor(span / size) };
}

/** iommu_map: the errno, or null. On error everything that this call mapped is unmapped again. */
export function* iommuMap(domain: IommuDomain, request: IommuMapRequest): Steps<Errno | null> {
  if (!domain.paging) return 'EINVAL';
  const { page, pfn, pages, prot, generation } = request;
  for (let done = 0; done < pages; ) {
    const { order, count } = choosePageSize(domain.driver.orders, page + done, pfn + done, pages - done);
    const mapped = yield* call(
      mapPages(domain, { page: page + done, pfn: pfn + done, order, count, prot, generation }),
    );
    done += mapped.pages;
    if (mapped.errno !== null) {
      if (done > 0) yield* call(iommuUnmap(domain, page, done));
      return mapped.errno;
    }
  }
  if (domain.driver.syncsMap) yield domain.tags.willRead(SYNC_MAP);
  tellCall(domain, 'map', page, pages);
  return null;
}

function tellCall(domain: IommuDomain, call: 'map' | 'unmap', page: number, pages: number): void {
  const { sim } = domain.core;
  if (sim.hears(IOMMU_CALL)) sim.emit(IOMMU_CALL, { call, domain: domain.name, page, pages });
}

/** What one unmap, or several fast ones, must invalidate before anything is freed: iommu_iotlb_gather. Local to its actor. */
export class Gather {
  from = Number.POSITIVE_INFINITY;
  to = 0;
  /** Size that the driver reported last, in pages; 0: none yet. */
  size = 0;
  /** The domain flushes late (DMA API): nothing is collected here. */
  readonly queued: boolean;

  constructor(queued = false) {
    this.queued = queued;
  }

  get empty(): boolean {
    return this.to === 0;
  }

  reset(): void {
    this.from = Number.POSITIVE_INFINITY;
    this.to = 0;
    this.size = 0;
  }
}

/** iommu_iotlb_sync: when it returns, no IOTLB holds anything of what was gathered (a failed flush is only logged). */
export function* iotlbSync(domain: IommuDomain, gather: Gather): Steps<void> {
  if (gather.empty) return;
  const { from, to } = gather;
  gather.reset();
  yield* call(invalidateTags(domain, from, to));
}

/** iommu_unmap: pages removed, which may be more than asked for, or less. Flushed when it returns. */
export function* iommuUnmap(domain: IommuDomain, page: number, pages: number): Steps<number> {
  const gather = new Gather();
  const unmapped = yield* call(iommuUnmapFast(domain, page, pages, gather));
  yield* call(iotlbSync(domain, gather));
  return unmapped;
}

/** iommu_unmap_fast: as iommu_unmap, but the caller flushes. */
export function* iommuUnmapFast(domain: IommuDomain, page: number, pages: number, gather: Gather): Steps<number> {
  if (!domain.paging) return 0;
  let done = 0;
  while (done < pages) {
    const at = page + done;
    const { order, count } = choosePageSize(domain.driver.orders, at, at, pages - done);
    const { pages: gone } = yield* call(unmapPages(domain, at, count * 2 ** order));
    if (gone === 0) break;
    if (!gather.queued) yield* call(gatherAdd(domain, gather, at, gone, 2 ** order));
    done += gone;
  }
  tellCall(domain, 'unmap', page, pages);
  return done;
}

/** iommu_domain_free: no device translates through the domain any more; what is mapped in the range goes with its tables. */
export function* iommuDomainFree(domain: IommuDomain, page: number, pages: number): Steps<void> {
  for (let done = 0; done < pages; ) {
    const at = page + done;
    const { order, count } = choosePageSize(domain.driver.orders, at, at, pages - done);
    const { pages: gone } = yield* call(unmapPages(domain, at, count * 2 ** order));
    if (gone === 0) return;
    done += gone;
  }
}

/** iommu_iotlb_gather_add_page and _add_range: what does not fit together is flushed first. */
function* gatherAdd(domain: IommuDomain, gather: Gather, page: number, pages: number, leaf: number): Steps<void> {
  const rule = domain.driver.gather;
  if (rule !== 'range') {
    const size = rule === 'call' ? pages : leaf;
    const disjoint = !gather.empty && (page > gather.to || page + pages < gather.from);
    if ((gather.size !== 0 && gather.size !== size) || disjoint) yield* call(iotlbSync(domain, gather));
    gather.size = size;
  }
  gather.from = Math.min(gather.from, page);
  gather.to = Math.max(gather.to, page + pages);
}
