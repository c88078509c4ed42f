// Mapping what a container has mapped already into a new domain (vfio_iommu_type1.c vfio_iommu_replay). Entries that
// hardware maps already lend their frames; others are pinned now, through the address space of whoever attaches.
import { call, type Steps } from '../engine/process.ts';
import { step } from '../engine/step.ts';
import { until } from '../engine/wait.ts';
import type { IommuDomain } from '../iommu/domain.ts';
import type { IommuGroup } from '../iommu/group.ts';
import { iommuMap, iommuUnmap } from '../iommu/map.ts';
import type { Errno } from '../mm/errno.ts';
import { refuse } from '../mm/gup/gup-flags.ts';
import type { Refusal } from '../mm/ledger.ts';
import type { VfioDma } from './dma.ts';
import type { VfioIommu } from './iommu.ts';
import type { VfioModule } from './module.ts';
import { pinPagesRemote, putPfns, unpinPagesRemote, VfioBatch } from './pin.ts';
import { explainLimit, tellAttach } from './refusal.ts';
import { addView, willAddViews } from './views.ts';

const START = step('vfio_iommu_replay:start', 'op');
const MAPPED = step('vfio_iommu_replay:iommu_mapped', 'op');
const SLEEP = step('vfio_wait_all_valid', 'none');

/** vfio_iommu_replay: the errno, or null. On error the new domain is empty again and all else as before. */
export function* replay(
  iommu: VfioIommu,
  module: VfioModule,
  domain: IommuDomain,
  group: IommuGroup,
): Steps<Errno | null> {
  const { core } = iommu;
  const { task } = core.current;
  if (core.kernel.way('type1.invalid-vaddr') === 'sleep' && !(yield* call(waitAllValid(iommu)))) return 'EFAULT';
  module.disableHugepages.willRead(START);
  task.memlockBytes.willRead(START);
  yield iommu.will(START);
  const limitPages = Math.floor(task.memlockBytes.value / 4096);
  const batch = new VfioBatch(core, module.disableHugepages.value);
  const { entries } = iommu.held;
  for (const [i, dma] of entries.entries()) {
    const refused = yield* call(replayEntry(iommu, domain, dma, limitPages, batch));
    if (refused === null) continue;
    tellAttach(iommu, group, dma, refused);
    if (core.kernel.has('type1.replay-unwinds')) {
      for (const done of entries.slice(0, i + 1).reverse()) yield* call(unwindEntry(iommu, domain, done));
    }
    return refused.errno;
  }
  for (const dma of entries) willAddViews(iommu, dma, MAPPED);
  yield iommu.will(MAPPED);
  for (const { iova } of entries) {
    const dma = iommu.entry(iova).with({ iommuMapped: true });
    iommu.dmaList.set(iova, dma);
    addView(iommu, domain, dma);
  }
  return null;
}

function* replayEntry(
  iommu: VfioIommu,
  domain: IommuDomain,
  dma: VfioDma,
  limitPages: number,
  batch: VfioBatch,
): Steps<Refusal | null> {
  const { prot, iommuMapped } = dma.fields;
  const noMap = (errno: Errno, pages: number) =>
    refuse(errno, `iommu_map of ${pages} pages into ${domain.name}`, 'an IOMMU domain that can hold the mappings');
  for (let page = dma.iova; page < dma.end; ) {
    if (iommuMapped) {
      const run = iommu.domains.peek()[0]!.domain.table.peekRun(page, dma.end - page);
      if (run.pfn >= 0) {
        const errno = yield* call(iommuMap(domain, { page, pfn: run.pfn, pages: run.pages, prot }));
        if (errno !== null) return noMap(errno, run.pages);
      }
      page += run.pages;
      continue;
    }
    const pinned = yield* call(pinPagesRemote(iommu, dma, page - dma.iova, dma.end - page, limitPages, batch));
    if ('errno' in pinned) return explainLimit(iommu, dma, dma.pages, page - dma.iova, pinned);
    const { pfn, pages, generation } = pinned;
    const made = generation === undefined ? {} : { generation };
    const errno = yield* call(iommuMap(domain, { page, pfn, pages, prot, ...made }));
    if (errno !== null) {
      yield* call(unpinPagesRemote(iommu, dma, page, pinned));
      yield* call(putPfns(iommu, dma, batch.runs));
      batch.runs = [];
      return noMap(errno, pages);
    }
    page += pages;
  }
  return null;
}

/** Take one entry out of the new domain again; what was pinned for it is found there. */
function* unwindEntry(iommu: VfioIommu, domain: IommuDomain, dma: VfioDma): Steps<void> {
  if (dma.fields.iommuMapped) {
    yield* call(iommuUnmap(domain, dma.iova, dma.pages));
    return;
  }
  for (let page = dma.iova; page < dma.end; ) {
    const run = domain.table.peekRun(page, dma.end - page);
    if (run.pfn >= 0) {
      yield* call(iommuUnmap(domain, page, run.pages));
      yield* call(unpinPagesRemote(iommu, dma, page, run));
    }
    page += run.pages;
  }
}

/**
 * vfio_wait_all_valid (5.12 to 6.2): sleep, without the lock, until every address is valid again. False: killed, or the
 * container is being closed.
 */
function* waitAllValid(iommu: VfioIommu): Steps<boolean> {
  const { sim, current } = iommu.core;
  const { killed } = current.task;
  while (iommu.vaddrInvalidCount.peek() > 0) {
    yield iommu.lock.unlock();
    const ready = () => iommu.vaddrInvalidCount.peek() === 0 || killed.peek() || !iommu.containerOpen.peek();
    yield until(sim, [iommu.vaddrInvalidCount, iommu.containerOpen, killed], ready, SLEEP, {
      name: `valid addresses of all mappings of ${iommu.name}`,
    });
    const over = killed.value || !iommu.containerOpen.value;
    yield iommu.acquire(START);
    if (over) return false;
  }
  return true;
}
