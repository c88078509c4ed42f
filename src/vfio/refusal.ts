// Why a type1 operation was refused, in words and numbers: what was asked, how far it got, which check said no, and what
// would have passed.
import { PAGE_SIZE } from '../hw/machine.ts';
import type { IommuGroup } from '../iommu/group.ts';
import { within } from '../mm/gup/gup-flags.ts';
import { type FrameRun, PIN_REFUSED, type Refusal } from '../mm/ledger.ts';
import type { VfioDma } from './dma.ts';
import type { VfioIommu } from './iommu.ts';

/** What MAP_DMA was asked for, and how far it got. */
export interface MapAttempt {
  readonly iova: bigint;
  readonly vaddr: bigint;
  readonly size: bigint;
}

export function hexBytes(value: bigint | number): string {
  return `0x${BigInt(value).toString(16)}`;
}

/** `VFIO_IOMMU_MAP_DMA(iova 0x.., vaddr 0x.., size 0x..) of container0 by qemu` */
export function asked(iommu: VfioIommu, attempt: MapAttempt): string {
  const { iova, vaddr, size } = attempt;
  const who = iommu.core.current.task.name;
  return `VFIO_IOMMU_MAP_DMA(iova ${hexBytes(iova)}, vaddr ${hexBytes(vaddr)}, size ${hexBytes(size)}) of ${iommu.name} by ${who}`;
}

/** Tell whoever listens that a map was refused. */
export function tellRefused(iommu: VfioIommu, attempt: MapAttempt, refusal: Refusal): void {
  const { sim, current } = iommu.core;
  if (!sim.hears(PIN_REFUSED)) return;
  sim.emit(PIN_REFUSED, {
    ...within(asked(iommu, attempt), refusal),
    who: `VFIO_IOMMU_MAP_DMA by ${current.task.name}`,
    vpn: Number(attempt.vaddr / 4096n),
    pages: Number(attempt.size / 4096n),
  });
}

/** A group could not join because of an entry that is mapped already. */
export function tellAttach(iommu: VfioIommu, group: IommuGroup, dma: VfioDma, refusal: Refusal): void {
  const { sim, current } = iommu.core;
  if (!sim.hears(PIN_REFUSED)) return;
  const { iova, vaddr, pages } = dma.fields;
  const entry = `its mapping of ${hexBytes(BigInt(iova) << 12n)} (${pages} pages)`;
  sim.emit(PIN_REFUSED, {
    ...within(`${group.name} joins ${iommu.name}, asked by ${current.task.name}: ${entry}`, refusal),
    who: `vfio_iommu_type1_attach_group by ${current.task.name}`,
    vpn: vaddr,
    pages,
  });
}

/**
 * A refusal for the memlock limit, with the numbers of the whole request: the limit that would have sufficed for it, and
 * what the container charges apart from the pages that it really holds (a page mapped twice is charged twice).
 */
export function explainLimit(iommu: VfioIommu, dma: VfioDma, pages: number, done: number, refusal: Refusal): Refusal {
  if (refusal.errno !== 'ENOMEM' || refusal.details['limit-bytes'] === undefined) return refusal;
  const limit = Number(refusal.details['limit-bytes']);
  const ours = iommu.entry(dma.iova).fields.lockedVm;
  const charged = dma.fields.mm.lockedVm.peek() * PAGE_SIZE;
  const others = charged - ours * PAGE_SIZE;
  const pending = refusal.details['pending-bytes'];
  const needed = others + pages * PAGE_SIZE;
  const container = iommu.held.entries.reduce((sum, entry) => sum + entry.fields.lockedVm, 0) - ours;
  return {
    ...refusal,
    remedy: `RLIMIT_MEMLOCK of at least ${needed} bytes, ${needed - limit} more than now, or CAP_IPC_LOCK`,
    details: {
      'limit-bytes': limit,
      // locked_vm as the check saw it; what this call had charged by then is part of it.
      'charged-bytes': charged,
      ...(ours === 0 ? {} : { 'charged-by-this-call-bytes': ours * PAGE_SIZE }),
      ...(pending === undefined ? {} : { 'pending-bytes': pending }),
      'asked-bytes': pages * PAGE_SIZE,
      'done-bytes': done * PAGE_SIZE,
      'container-charged-bytes': container * PAGE_SIZE,
      'container-unique-bytes': uniquePages(iommu) * PAGE_SIZE,
      'needed-bytes': needed,
      'short-by': needed - limit,
    },
  };
}

/** Frames that the container's finished entries reach, each counted once. Looks without a step. */
function uniquePages(iommu: VfioIommu): number {
  const { entries, domains } = iommu.held;
  const first = domains[0]?.domain;
  if (first === undefined) return 0;
  const runs: FrameRun[] = [];
  for (const dma of entries) {
    for (let page = dma.iova; page < dma.end; ) {
      const run = first.table.peekRun(page, dma.end - page);
      if (run.pfn >= 0) runs.push(run);
      page += run.pages;
    }
  }
  runs.sort((a, b) => a.pfn - b.pfn);
  let pages = 0;
  let end = 0;
  for (const run of runs) {
    const from = Math.max(run.pfn, end);
    const to = run.pfn + run.pages;
    if (to > from) pages += to - from;
    end = Math.max(end, to);
  }
  return pages;
}
