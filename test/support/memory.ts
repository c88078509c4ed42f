// Memory laid out by hand for tests that want a certain state without going through faults: VMAs, present anonymous
// pages and huge pages. Called while the world is built, outside any actor.

import type { CoreMm } from '../../src/mm/core.ts';
import { Vma, type VmaFields } from '../../src/mm/mapping/vma.ts';
import type { Mm } from '../../src/mm/mm.ts';
import { PG_ANON, PG_DIRTY, PG_LRU, PG_SWAPBACKED, PG_UPTODATE } from '../../src/mm/page-flags.ts';
import { pmdOf } from '../../src/mm/page-table.ts';
import { PMD_LEAF, PMD_TABLE, PTE_DIRTY, PTE_PRESENT, PTE_WRITE, PTE_YOUNG } from '../../src/mm/pte.ts';
import { AnonVma } from '../../src/mm/rmap/anon-vma.ts';

/** Put a VMA of `pages` pages at `vpn`. */
export function placeVma(mm: Mm, vpn: number, pages: number, fields: Partial<VmaFields> = {}): Vma {
  const vma = new Vma({ start: vpn, end: vpn + pages, pgoff: vpn, name: `mem@${vpn}`, ...fields });
  mm.vmas.set(vpn, vma);
  return vma;
}

/** A private anonymous VMA with an anon_vma. */
export function placeAnonVma(core: CoreMm, mm: Mm, vpn: number, pages: number, fields: Partial<VmaFields> = {}): Vma {
  const anonVma = core.addAnonVma(new AnonVma(core.sim, `${mm.name}@${vpn}`));
  anonVma.mms.value = [mm];
  return placeVma(mm, vpn, pages, { anonVma, ...fields });
}

/** Map exclusive, dirty, writable anonymous pages `pfn`.. at `vpn`..; one reference each, on the LRU. */
export function placeAnonPages(core: CoreMm, mm: Mm, vma: Vma, vpn: number, pfn: number, pages: number): void {
  const { folios, frames } = core;
  for (let i = 0; i < pages; i++) {
    const row = pmdOf(vpn + i);
    if (mm.pageTable.peekPmd(row).bits === 0) mm.pageTable.setPmd(row, 1, PMD_TABLE, 0);
    const bits = PTE_PRESENT | PTE_WRITE | PTE_DIRTY | PTE_YOUNG;
    mm.pageTable.setPte(vpn + i, pfn + i, bits, frames.peekGeneration(pfn + i));
    folios.refcount.set(pfn + i, 1);
    folios.mapcount.set(pfn + i, 1);
    folios.anonExclusive.set(pfn + i, 1);
    folios.flags.set(pfn + i, PG_ANON | PG_SWAPBACKED | PG_UPTODATE | PG_DIRTY | PG_LRU);
    folios.mapping.set(pfn + i, vma.fields.anonVma?.id ?? 0);
    folios.index.set(pfn + i, vma.indexOf(vpn + i));
  }
}

/** Map a 2 MiB anonymous page by its PMD. */
export function placeHugePage(core: CoreMm, mm: Mm, vma: Vma, vpn: number, pfn: number): void {
  const { folios, frames } = core;
  const bits = PMD_LEAF | PTE_PRESENT | PTE_WRITE | PTE_DIRTY | PTE_YOUNG;
  mm.pageTable.setPmd(pmdOf(vpn), pfn, bits, frames.peekGeneration(pfn));
  folios.order.set(pfn, 9);
  folios.refcount.set(pfn, 1);
  folios.addPmdMapping(pfn, 1);
  folios.anonExclusive.set(pfn, 1);
  folios.flags.set(pfn, PG_ANON | PG_SWAPBACKED | PG_UPTODATE | PG_DIRTY | PG_LRU);
  folios.mapping.set(pfn, vma.fields.anonVma?.id ?? 0);
  folios.index.set(pfn, vma.indexOf(vpn));
}

/** Take a run of frames out of the zone's free lists, so that nobody else gets them. */
export function reserveFrames(core: CoreMm, zone: number, pages: number, align = 1): number {
  const state = core.zones[zone]!;
  const [first, count] = state.freeRuns.value[0]!;
  const start = Math.ceil((first + count - pages) / align) * align - (align === 1 ? 0 : align);
  const begin = align === 1 ? first + count - pages : start;
  state.freeRuns.value = [[first, begin - first]];
  state.freePages.add(-(first + count - begin));
  return begin;
}
