// Invalidating cached translations of a domain: one command per IOMMU that translates through it, then wait
// (intel/cache.c cache_tag_flush_range, intel/dmar.c qi_submit_sync, amd/iommu.c domain_flush_pages and
// iommu_completion_wait). An IOMMU without a queue is invalidated in one step. The result is ignored by every caller.
import { call, type Steps } from '../engine/process.ts';
import { step } from '../engine/step.ts';
import { QueueCommand } from '../hw/iommu-queue.ts';
import type { Translation } from '../hw/iommu-unit.ts';
import type { IommuDomain } from './domain.ts';

const FLUSH = step('iotlb_sync:invalidate', 'iotlb');
const FLUSH_ALL = step('flush_iotlb_all:invalidate', 'iotlb');
const SUBMIT = step('qi_submit_sync:queue', 'op');
const SPIN = step('qi_submit_sync:wait', 'none');
const QUEUE = step('iommu_queue_command:queue', 'op');
const COMPLETION = step('iommu_completion_wait', 'op');
const SEMAPHORE = step('wait_on_sem', 'none');

/** Invalidate pages [from, to) under every tag; the driver may round the range up. */
export function* invalidateTags(domain: IommuDomain, from: number, to: number): Steps<void> {
  const [lo, hi] = domain.driver.flushesPowerOfTwo ? roundToPowerOfTwo(from, to) : [from, to];
  // Tags are added under the locks that whoever unmaps holds (type1: iommu.lock; DMA API: before the first map).
  for (const tag of domain.tags.peek()) yield* call(invalidateTag(domain, tag, lo, hi));
}

/** flush_iotlb_all */
export function* invalidateDomain(domain: IommuDomain): Steps<void> {
  for (const tag of domain.tags.peek()) yield* call(invalidateTag(domain, tag, 0, Number.POSITIVE_INFINITY));
}

function* invalidateTag(domain: IommuDomain, { iotlb, queue }: Translation, from: number, to: number): Steps<void> {
  if (queue === null) {
    yield iotlb.willInvalidate(from, to, to === Number.POSITIVE_INFINITY ? FLUSH_ALL : FLUSH);
    iotlb.invalidate(from, to);
    return;
  }
  if (domain.driver.name !== 'amd') {
    // The wait descriptor is queued with the invalidation, under the queue's lock.
    yield queue.willAppend(SUBMIT);
    queue.append(QueueCommand.invalidate(iotlb, from, to));
    const sequence = queue.appendWait();
    yield queue.wait(sequence, SPIN);
    return;
  }
  yield queue.willAppend(QUEUE);
  queue.append(QueueCommand.invalidate(iotlb, from, to));
  queue.needSync.value = true;
  yield queue.willAppend(COMPLETION);
  let { value: sequence } = queue.sequence;
  if (queue.needSync.value) {
    sequence = queue.appendWait();
    queue.needSync.value = false;
  } else if (!domain.core.kernel.has('iommu.amd-waits-for-covering-sync')) {
    // Another CPU's wait command covers this invalidation, but has not been executed yet (CVE-2026-68329).
    return;
  }
  yield queue.wait(sequence, SEMAPHORE);
}

/** The smallest aligned power-of-two block of pages that covers [from, to). */
export function roundToPowerOfTwo(from: number, to: number): readonly [number, number] {
  for (let size = 1; ; size *= 2) {
    const lo = from - (from % size);
    if (lo + size >= to) return [lo, lo + size];
  }
}
