// The DMA API over an IOMMU (drivers/iommu/dma-iommu.c): host drivers map pages for one transfer each. Strict domains
// flush at every unmap; lazy ones queue. No pin: the driver owns the page until it calls unmap, and not a moment longer.
import { Cell } from '../engine/cell.ts';
import { call, type Steps } from '../engine/process.ts';
import { step } from '../engine/step.ts';
import type { Kernel } from '../kernel/kernel.ts';
import type { Errno } from '../mm/errno.ts';
import type { DomainType, IommuDomain } from './domain.ts';
import { FlushQueue } from './flush-queue.ts';
import { Gather, iommuMap, iommuUnmapFast, iotlbSync } from './map.ts';

const ALLOC = step('iommu_dma_alloc_iova', 'alloc');
const FREE = step('iommu_dma_free_iova', 'op');

/** What iommu_def_domain_type is: lazy on x86 and s390 unless configured or asked otherwise. */
export function defaultDomainType(kernel: Kernel): DomainType {
  return kernel.has('iommu.dma-api-lazy') ? 'dma-fq' : 'dma';
}

/** A free range of IOVAs: first page and number. */
type Range = readonly [number, number];

/** iommu_dma_cookie: the IOVA space and flush queue of one DMA domain. */
export class DmaCookie {
  readonly domain: IommuDomain;
  readonly queue: FlushQueue | null;
  private readonly free: Cell<readonly Range[]>;

  /**
   * For a domain of type `dma` or `dma-fq`. `sharedQueue`: one ring for all CPUs, where the driver asks for it (s390
   * under a hypervisor with shadow tables).
   */
  constructor(domain: IommuDomain, options: { readonly sharedQueue?: boolean } = {}) {
    const { sim, kernel } = domain.core;
    this.domain = domain;
    const reserved = domain.driver.reserved.filter(({ kind }) => kind !== 'direct-relaxable');
    // Page 0 is never handed out, so that no driver mistakes a bus address for NULL.
    const end = Math.min(domain.endPage, 2 ** 20);
    let free: Range[] = [[1, end - 1]];
    for (const { firstPage, pages } of reserved) free = free.flatMap((range) => without(range, firstPage, pages));
    this.free = new Cell<readonly Range[]>(sim, `free IOVAs of ${domain.name}`, free);
    const shared = options.sharedQueue === true && kernel.has('iommu.shared-flush-queue');
    this.queue =
      domain.type === 'dma-fq' ? new FlushQueue(domain, shared, (page, pages) => this.freeIova(page, pages)) : null;
  }

  /** dma_map_page of consecutive frames: the IOVA page; ENOSPC when there is none, else as iommu_map. */
  *map(pfn: number, pages: number, prot: number): Steps<{ readonly page: number } | { readonly errno: Errno }> {
    yield this.free.willUpdate(ALLOC);
    const page = this.take(pages);
    if (page === undefined) return { errno: 'ENOSPC' };
    const errno = yield* call(iommuMap(this.domain, { page, pfn, pages, prot }));
    if (errno === null) return { page };
    yield* call(this.freeIova(page, pages));
    return { errno };
  }

  /** dma_unmap_page: when it returns the driver believes the page to be its own. Only strict domains make it so. */
  *unmap(page: number, pages: number): Steps<void> {
    const gather = new Gather(this.queue !== null);
    yield* call(iommuUnmapFast(this.domain, page, pages, gather));
    if (this.queue !== null) {
      yield* call(this.queue.queue(page, pages));
      return;
    }
    yield* call(iotlbSync(this.domain, gather));
    yield* call(this.freeIova(page, pages));
  }

  /** alloc_iova: from the top, aligned to its size. */
  private take(pages: number): number | undefined {
    const ranges = this.free.value;
    let align = 1;
    while (align < pages) align *= 2;
    for (let i = ranges.length - 1; i >= 0; i--) {
      const [first, count] = ranges[i]!;
      const page = first + count - pages - ((first + count - pages) % align);
      if (page < first) continue;
      this.free.value = [...ranges.slice(0, i), ...without(ranges[i]!, page, pages), ...ranges.slice(i + 1)];
      return page;
    }
    return undefined;
  }

  private *freeIova(page: number, pages: number): Steps<void> {
    yield this.free.willUpdate(FREE);
    const ranges: Range[] = [];
    for (const range of [...this.free.value, [page, pages] as const].sort((a, b) => a[0] - b[0])) {
      const last = ranges[ranges.length - 1];
      if (last !== undefined && last[0] + last[1] === range[0])
        ranges[ranges.length - 1] = [last[0], last[1] + range[1]];
      else ranges.push(range);
    }
    this.free.value = ranges;
  }
}

function without([first, count]: Range, page: number, pages: number): Range[] {
  const end = first + count;
  if (page >= end || page + pages <= first) return [[first, count]];
  const parts: Range[] = [];
  if (page > first) parts.push([first, page - first]);
  if (page + pages < end) parts.push([page + pages, end - page - pages]);
  return parts;
}
