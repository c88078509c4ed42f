// Telling the checkers which IOVAs their owner believes to be the same bytes as which addresses of a process.
import type { Announced, Step } from '../engine/step.ts';
import { IO_WRITE } from '../hw/io-entry.ts';
import type { IommuDomain } from '../iommu/domain.ts';
import { VIEW_ADDED, VIEW_REMOVED, type View } from '../mm/ledger.ts';
import type { Mm } from '../mm/mm.ts';
import { willLookAtProcess } from '../mm/view-look.ts';
import type { VfioDma } from './dma.ts';
import type { VfioIommu } from './iommu.ts';
import { isInvalidReserved } from './pin.ts';

/** Announce what whoever hears of a new view looks at. */
export function willAddViews(iommu: VfioIommu, dma: VfioDma, at: Step, mm: Mm = dma.fields.mm): Announced {
  willJudgeWrites(iommu, dma, at);
  return mm.vmas.willRead(at);
}

/**
 * Writes by the device count from the moment a view is added until it is removed: these steps are ordered with writes to
 * raw frames. Of other memory the device can write nothing that its process may not (pin_user_pages with FOLL_WRITE).
 */
function willJudgeWrites(iommu: VfioIommu, { iova, pages, fields }: VfioDma, at: Step): void {
  const { core } = iommu;
  if ((fields.prot & IO_WRITE) === 0) return;
  for (const { domain } of iommu.domains.peek()) {
    for (let page = iova; page < iova + pages; ) {
      const run = domain.table.peekRun(page, iova + pages - page);
      if (run.pfn >= 0 && isInvalidReserved(core, run.pfn)) {
        core.frames.content.willReadRange(run.pfn, run.pfn + run.pages - 1, at);
      }
      page += run.pages;
    }
  }
}

/** `mm`: whose addresses they are, when the entry does not know it. */
export function addViews(iommu: VfioIommu, dma: VfioDma, mm: Mm = dma.fields.mm): void {
  const { sim } = iommu.core;
  if (!sim.hears(VIEW_ADDED)) return;
  for (const { domain } of iommu.domains.peek()) sim.emit(VIEW_ADDED, { ...viewOf(domain, dma), mm });
}

/** One domain more (replay). */
export function addView(iommu: VfioIommu, domain: IommuDomain, dma: VfioDma): void {
  const { sim } = iommu.core;
  if (sim.hears(VIEW_ADDED)) sim.emit(VIEW_ADDED, viewOf(domain, dma));
}

/** Announce what comparing the entry with its process looks at: with `removeViews`, under the lock of the container. */
export function willLookAtViews(iommu: VfioIommu, dma: VfioDma, at: Step): Announced {
  willJudgeWrites(iommu, dma, at);
  return dma.fields.vaddrInvalid
    ? iommu.core.sim.local(at)
    : willLookAtProcess(iommu.core, { mm: dma.fields.mm, vpn: dma.fields.vaddr, pages: dma.pages }, at);
}

/** Before the entry leaves its domains, or loses its address: until it has another, it is nobody's view. */
export function removeViews(iommu: VfioIommu, dma: VfioDma): void {
  const { sim } = iommu.core;
  if (!sim.hears(VIEW_REMOVED) || dma.pages === 0 || dma.fields.vaddrInvalid) return;
  for (const { domain } of iommu.domains.peek()) sim.emit(VIEW_REMOVED, viewOf(domain, dma));
}

/** One domain less, with what is mapped in it: the caller has announced what `willLookAtViews` does. */
export function removeView(iommu: VfioIommu, domain: IommuDomain, dma: VfioDma): void {
  const { sim } = iommu.core;
  if (sim.hears(VIEW_REMOVED) && !dma.fields.vaddrInvalid) sim.emit(VIEW_REMOVED, viewOf(domain, dma));
}

function viewOf(domain: IommuDomain, dma: VfioDma): View {
  const { iova, vaddr, pages, mm } = dma.fields;
  return {
    kind: 'dma',
    holder: domain.name,
    page: iova,
    mm,
    vpn: vaddr,
    pages,
    runAt: (offset) => {
      const leaf = domain.table.peekLeaf(iova + offset);
      if (leaf === undefined) return { pfn: 0, pages: 1 };
      const within = iova + offset - leaf.page;
      return { pfn: leaf.pfn + within, pages: Math.min(leaf.pages - within, pages - offset) };
    },
  };
}
