// What /proc/meminfo says of memory as a whole (fs/proc/meminfo.c, mm/show_mem.c si_mem_available). There is no slab here.
import type { Announced, Step } from '../../engine/step.ts';
import type { CoreMm } from '../core.ts';
import { PG_LRU, PG_SWAPBACKED, PG_UNEVICTABLE } from '../page-flags.ts';

export interface MemInfo {
  /** In pages. */
  readonly free: number;
  /** What could be had without swapping: free memory above the reserves, and half of the page cache at least. */
  readonly available: number;
}

/** Announce reading the counters; free pages of per-CPU lists are free as well, looked at without a step. */
export function willReadMemInfo(core: CoreMm, at: Step): Announced {
  for (const zone of core.zones) zone.freePages.willRead(at);
  return core.lru.willRead(at);
}

/** In a step announced by `willReadMemInfo`. */
export function memInfo(core: CoreMm): MemInfo {
  void core.lru.value;
  let free = 0;
  let reserve = 0;
  let low = 0;
  let cached = 0;
  for (const { zone, freePages, lowPages, highPages } of core.zones) {
    if (zone.kind === 'DEVICE') continue;
    free += freePages.value;
    reserve += highPages;
    low += lowPages;
    cached += filePages(core, zone.firstPfn, zone.firstPfn + zone.pages);
  }
  const available = free - reserve + cached - Math.min(Math.floor(cached / 2), low);
  return { free, available: Math.max(available, 0) };
}

/** Pages on the file LRU lists. */
function filePages(core: CoreMm, first: number, end: number): number {
  const { flags } = core.folios;
  let pages = 0;
  for (let pfn = first; pfn < end; ) {
    const bits = flags.peek(pfn);
    const last = flags.endOfRun(pfn, end - 1);
    if ((bits & (PG_LRU | PG_SWAPBACKED | PG_UNEVICTABLE)) === PG_LRU) {
      for (let at = pfn; at <= last; at++) pages += core.folios.pagesOf(at);
    }
    pfn = last + 1;
  }
  return pages;
}
