// Invalidating cached translations of a domain: one command per IOMMU that translates through it, then wait
// (intel/cache.c cache_tag_flush_range, amd domain_flush_pages). The result is ignored by every caller.
import type { Steps } from '../engine/process.ts';
import { step } from '../engine/step.ts';
import type { IommuDomain } from './domain.ts';

const FLUSH = step('iotlb_sync:invalidate', 'iotlb');
const FLUSH_ALL = step('flush_iotlb_all:invalidate', 'iotlb');

/** Invalidate pages [from, to) under every tag; the driver may round the range up. */
export function* invalidateTags(domain: IommuDomain, from: number, to: number): Steps<void> {
  const [lo, hi] = domain.driver.flushesPowerOfTwo ? roundToPowerOfTwo(from, to) : [from, to];
  // Tags are added under the locks that whoever unmaps holds (type1: iommu.lock; DMA API: before the first map).
  for (const tag of domain.tags.peek()) {
    yield tag.iotlb.willInvalidate(lo, hi, FLUSH);
    tag.iotlb.invalidate(lo, hi);
  }
}

/** flush_iotlb_all */
export function* invalidateDomain(domain: IommuDomain): Steps<void> {
  for (const tag of domain.tags.peek()) {
    yield tag.iotlb.willInvalidate(0, Number.POSITIVE_INFINITY, FLUSH_ALL);
    tag.iotlb.invalidate(0, Number.POSITIVE_INFINITY);
  }
}

/** The smallest aligned power-of-two block of pages that covers [from, to). */
export function roundToPowerOfTwo(from: number, to: number): readonly [number, number] {
  for (let size = 1; ; size *= 2) {
    const lo = from - (from % size);
    if (lo + size >= to) return [lo, lo + size];
  }
}
