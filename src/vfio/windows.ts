// Which IOVAs a container may use (vfio_iommu_type1.c vfio_iommu_aper_conflict, _aper_resize, _resv_conflict,
// _resv_exclude, _aper_expand, _resv_refresh): the intersection of all apertures, less all reserved windows. Pages.
import type { ReservedRegion } from '../iommu/driver.ts';
import type { VfioDma } from './dma.ts';
import { IovaWindow, type VfioDomain, type VfioIommu } from './iommu.ts';

/** An existing entry that an aperture of pages 0..end - 1 leaves outside; `disjoint`: it meets no window at all. */
export function apertureConflict(iommu: VfioIommu, endPage: number): VfioDma | 'disjoint' | null {
  const windows = iommu.windows.value;
  const last = windows[windows.length - 1];
  if (windows[0] === undefined || last === undefined) return null;
  if (endPage - 1 < windows[0].first) return 'disjoint';
  if (endPage - 1 >= last.last) return null;
  return iommu.findDma(endPage, last.last - endPage + 1) ?? null;
}

/** The first reserved window that covers an existing entry, and that entry. */
export function reservedConflict(
  iommu: VfioIommu,
  regions: readonly ReservedRegion[],
): { readonly region: ReservedRegion; readonly dma: VfioDma } | null {
  for (const region of regions) {
    if (region.kind === 'direct-relaxable') continue;
    const dma = iommu.findDma(region.firstPage, region.pages);
    if (dma !== undefined) return { region, dma };
  }
  return null;
}

/** vfio_iommu_aper_resize: the windows cut to pages 0..end - 1. */
export function resizeAperture(windows: readonly IovaWindow[], endPage: number): readonly IovaWindow[] {
  if (windows.length === 0) return [new IovaWindow(0, endPage - 1)];
  return windows
    .filter((window) => window.first < endPage)
    .map((window) => (window.last < endPage ? window : new IovaWindow(window.first, endPage - 1)));
}

/** vfio_iommu_resv_exclude: the windows less reserved regions. */
export function excludeReserved(
  windows: readonly IovaWindow[],
  regions: readonly ReservedRegion[],
): readonly IovaWindow[] {
  let left = windows;
  for (const region of regions) {
    if (region.kind === 'direct-relaxable') continue;
    const first = region.firstPage;
    const last = region.firstPage + region.pages - 1;
    left = left.flatMap((window) => {
      if (first > window.last || last < window.first) return [window];
      const parts: IovaWindow[] = [];
      if (first > window.first) parts.push(new IovaWindow(window.first, first - 1));
      if (last < window.last) parts.push(new IovaWindow(last + 1, window.last));
      return parts;
    });
  }
  return left;
}

/** After a group left: the aperture of the domains that remain, less their reserved windows; null: keep the old list. */
export function refreshedWindows(
  windows: readonly IovaWindow[],
  domains: readonly VfioDomain[],
  domainGone: boolean,
): readonly IovaWindow[] | null {
  const last = windows[windows.length - 1];
  if (windows[0] === undefined || last === undefined) return null;
  const end = domainGone ? Math.min(2 ** 52, ...domains.map(({ domain }) => domain.endPage)) : last.last + 1;
  const start = domainGone ? 0 : windows[0].first;
  const regions = domains.flatMap(({ groups }) => groups.flatMap((group) => group.reserved));
  const left = excludeReserved([new IovaWindow(start, end - 1)], regions);
  return left.length === 0 ? null : left;
}
