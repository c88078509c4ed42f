// folio_is_longterm_pinnable (include/linux/mm.h): memory that must stay movable is no place for a long-term pin.

import { PMD_PAGES } from '../../hw/machine.ts';
import type { CoreMm } from '../core.ts';

/** Also looks at isolated pageblocks: a lockless look in the kernel as well, so it announces nothing. */
export function isLongtermPinnable(core: CoreMm, pfn: number): boolean {
  return pfn === core.zeroPfn || whyUnpinnable(core, pfn) === null;
}

/** `ZONE_MOVABLE`, `CMA`, `MIGRATE_ISOLATE`, or null when a long-term pin may stay. */
export function whyUnpinnable(core: CoreMm, pfn: number): string | null {
  const { kernel } = core;
  const zone = core.machine.zoneOf(pfn);
  if (zone === undefined) return null;
  if (zone.kind === 'MOVABLE') return kernel.has('gup.longterm.migrate-movable') ? 'ZONE_MOVABLE' : null;
  if (zone.kind === 'CMA') return 'CMA';
  const blocks = core.zones[zone.index]!.isolated.peek();
  if (blocks.length > 0 && blocks.includes(pfn - (pfn % PMD_PAGES))) return 'MIGRATE_ISOLATE';
  return null;
}

/** One past the last frame, at most `end`, to which the same answer applies as to `pfn`. */
export function sameAnswerUntil(core: CoreMm, pfn: number, end: number): number {
  const zone = core.machine.zoneOf(pfn);
  if (zone === undefined) return Math.min(end, pfn + 1);
  const zoneEnd = Math.min(end, zone.firstPfn + zone.pages);
  const blocks = core.zones[zone.index]!.isolated.peek();
  return blocks.length === 0 ? zoneEnd : Math.min(zoneEnd, pfn - (pfn % PMD_PAGES) + PMD_PAGES);
}
