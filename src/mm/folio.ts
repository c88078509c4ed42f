// Folios: struct folio / struct page as columns over page frame numbers. A large folio is the row of its head until it
// is split. Counters are encoded as the kernel encodes them (include/linux/mm.h, mm/gup.c, mm/rmap.c).
import { type ChangeText, Column, type FieldOf } from '../engine/column.ts';
import type { Sim } from '../engine/sim.ts';
import type { Announced, Step } from '../engine/step.ts';
import type { Frames } from '../hw/frames.ts';
import { PMD_ORDER, PMD_PAGES, PUD_ORDER } from '../hw/machine.ts';

import { flagChangeText, PG_ANON, PG_KSM, PG_PRIVATE, PG_SWAPCACHE } from './page-flags.ts';

export const PUD_PAGES = 2 ** PUD_ORDER;

/** GUP_PIN_COUNTING_BIAS: what a FOLL_PIN adds to the refcount of a small folio. */
export const GUP_PIN_COUNTING_BIAS = 1024;

/** Kernel counters are 32-bit signed; a refcount beyond this has wrapped. */
export const REFCOUNT_MAX = 2 ** 31 - 1;

export class Folios {
  readonly sim: Sim;
  readonly frames: Frames;
  /** `_refcount` of the head. 0: free or frozen. Object: count of pfn. */
  readonly refcount: Column;
  /** `_pincount` of a large folio's head; same object as refcount. */
  readonly pincount: Column;
  /** PTE mappings of each page (kernel: `_mapcount` + 1). Object: map of pfn. */
  readonly mapcount: Column;
  /** PMD/PUD mappings of a large folio (kernel: `_entire_mapcount` + 1); same object as mapcount. */
  readonly entireMapcount: Column;
  /** All mappings of a large folio (kernel: `_large_mapcount` + 1); same object as mapcount. */
  readonly largeMapcount: Column;
  /** Page flags of the head. Object: flags of pfn. */
  readonly flags: Column;
  /** `mapping`: 0 none, else the id of an anon_vma (PG_ANON) or inode. Object: mapping of pfn. */
  readonly mapping: Column;
  /** `index`: page offset in the mapping (anon: linear page index); same object as mapping. */
  readonly index: Column;
  /** `private`: swap slot + 1 when in the swap cache; same object as mapping. */
  readonly swapEntry: Column;
  /** PageAnonExclusive, per page (0 or 1). */
  readonly anonExclusive: Column;
  /** Order of the folio, on its head. Changes only at allocation, split and free. */
  readonly order: Column;
  /** When it was put on its LRU list, numbered by the actor that put it. Same object as flags. */
  readonly lruAge: Column;

  constructor(sim: Sim, frames: Frames) {
    this.sim = sim;
    this.frames = frames;
    const rows = frames.machine.frames;
    const column = (
      what: string,
      sameObjectAs?: Column,
      width: 'u8' | 'i32' | 'f64' = 'i32',
      changeText?: ChangeText,
    ): Column =>
      new Column(sim, `folio.${what}`, {
        rows,
        width,
        rowName: (pfn) => `${what} of pfn ${pfn}`,
        ...(sameObjectAs === undefined ? {} : { sameObjectAs }),
        ...(changeText === undefined ? {} : { changeText }),
      });
    this.refcount = column('refcount');
    this.pincount = column('pincount', this.refcount);
    this.mapcount = column('mapcount');
    this.entireMapcount = column('entire_mapcount', this.mapcount);
    this.largeMapcount = column('large_mapcount', this.mapcount);
    this.flags = column('flags', undefined, 'i32', (was, is) => flagChangeText(was(this.flags), is(this.flags)));
    this.lruAge = column('lru_age', this.flags);
    this.mapping = column('mapping', undefined, 'i32', (was, is) => {
      const [before, after] = [this.placeText(was), this.placeText(is)];
      return before === after ? '' : `${before} -> ${after}`;
    });
    this.index = column('index', this.mapping, 'f64');
    this.swapEntry = column('swap_entry', this.mapping);
    this.anonExclusive = column('anon_exclusive', undefined, 'u8');
    this.order = column('order', undefined, 'u8');
  }

  /** `mapping`, `index` and `private` together. */
  private placeText(value: FieldOf): string {
    const words = value(this.mapping) === 0 ? [] : [`page 0x${value(this.index).toString(16)}`];
    if (value(this.swapEntry) !== 0) words.push(`swap slot ${value(this.swapEntry) - 1}`);
    return words.length === 0 ? 'none' : words.join(', ');
  }

  /** compound_head: the head of the folio that holds `pfn`. Looks without a step: see `willReadHead`. */
  headOf(pfn: number): number {
    // mTHP orders are not modelled: a large folio is a THP or hugetlb page of 2 MiB, or a hugetlb page of 1 GiB.
    const { order } = this;
    const pmdHead = pfn - (pfn % PMD_PAGES);
    if (order.peek(pmdHead) >= PMD_ORDER) return pmdHead;
    const pudHead = pfn - (pfn % PUD_PAGES);
    if (pudHead !== pmdHead && order.peek(pudHead) >= PUD_ORDER) return pudHead;
    return pfn;
  }

  /** Announce reading which folio `pfn` belongs to (splits and frees change it). */
  willReadHead(pfn: number, at: Step): Announced {
    return this.order.willRead(this.headOf(pfn), at);
  }

  orderOf(head: number): number {
    return this.order.peek(head);
  }

  /** folio_nr_pages */
  pagesOf(head: number): number {
    return 2 ** this.order.peek(head);
  }

  isLarge(head: number): boolean {
    return this.order.peek(head) > 0;
  }

  /** Looks without a step. */
  has(head: number, flag: number): boolean {
    const { sim, base } = this.flags;
    if (sim.watching) sim.noteLook(base + head);
    return (this.flags.peek(head) & flag) !== 0;
  }

  /** Set and clear flags, in a step that announced updating `flags` of the head. */
  change(head: number, set: number, clear = 0): void {
    this.flags.set(head, (this.flags.get(head) & ~clear) | set);
  }

  /** folio_mapcount: all mappings of the folio. */
  mapcountOf(head: number): number {
    return this.isLarge(head) ? this.largeMapcount.get(head) : this.mapcount.get(head);
  }

  peekMapcount(head: number): number {
    return this.isLarge(head) ? this.largeMapcount.peek(head) : this.mapcount.peek(head);
  }

  /** One more PTE mapping of page `pfn`; in a step that announced `map` of page and head. */
  addPteMapping(head: number, pfn: number): void {
    this.mapcount.set(pfn, this.mapcount.get(pfn) + 1);
    if (this.isLarge(head)) this.largeMapcount.set(head, this.largeMapcount.get(head) + 1);
  }

  removePteMapping(head: number, pfn: number): void {
    this.mapcount.set(pfn, this.mapcount.get(pfn) - 1);
    if (this.isLarge(head)) this.largeMapcount.set(head, this.largeMapcount.get(head) - 1);
  }

  /** One more (or less: -1) PMD mapping. */
  addPmdMapping(head: number, by: 1 | -1): void {
    this.entireMapcount.set(head, this.entireMapcount.get(head) + by);
    this.largeMapcount.set(head, this.largeMapcount.get(head) + by);
  }

  /** Announce changing mappings of page `pfn` of the folio `head`. */
  willMap(head: number, pfn: number, at: Step): Announced {
    if (pfn !== head) this.mapcount.willUpdate(pfn, at);
    return this.mapcount.willUpdate(head, at);
  }

  /**
   * folio_maybe_dma_pinned: exact for large folios; for small ones refcount >= 1024, so that many plain references are
   * a false positive.
   */
  maybeDmaPinned(head: number): boolean {
    const references = this.refcount.get(head);
    return this.isLarge(head) ? this.pincount.get(head) > 0 : references >= GUP_PIN_COUNTING_BIAS || references < 0;
  }

  peekMaybeDmaPinned(head: number): boolean {
    if (this.isLarge(head)) return this.pincount.peek(head) > 0;
    const references = this.refcount.peek(head);
    return references >= GUP_PIN_COUNTING_BIAS || references < 0;
  }

  /**
   * folio_expected_ref_count (6.12 include/linux/mm.h): references explained by mappings, page or swap cache and
   * private data. Looks at map, flags and mapping: announce all three.
   */
  expectedRefs(head: number): number {
    const flags = this.flags.get(head);
    let expected = this.mapcountOf(head);
    const pages = this.pagesOf(head);
    if ((flags & PG_SWAPCACHE) !== 0) expected += pages;
    if ((flags & PG_ANON) === 0) {
      if (this.mapping.get(head) !== 0) expected += pages;
      if ((flags & PG_PRIVATE) !== 0) expected += 1;
    }
    return expected;
  }

  /** Announce everything `expectedRefs` and a refcount comparison look at. */
  willCompareRefs(head: number, at: Step): Announced {
    this.mapcount.willRead(head, at);
    this.flags.willRead(head, at);
    this.mapping.willRead(head, at);
    return this.refcount.willUpdate(head, at);
  }

  isAnon(head: number): boolean {
    return this.has(head, PG_ANON);
  }

  isKsm(head: number): boolean {
    return this.has(head, PG_KSM);
  }
}
