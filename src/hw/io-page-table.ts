// An IO page table as the IOMMU walks it: four levels of 512 entries, leaves of every power of two (AMD repeats an
// entry to make a size between two levels). Each leaf remembers the generation of the frames it was made for. Two
// 32-bit numbers per entry: 8 bytes per 4 KiB page, 8 bytes per 2 MiB leaf.
import { Tally } from '../engine/cell.ts';
import { Column, type FieldOf } from '../engine/column.ts';
import type { Sim } from '../engine/sim.ts';
import { ADD, type Announced, type Step } from '../engine/step.ts';
import { countTranslations, type FolioHeads } from './folio-heads.ts';
import { type Frames, TRANSLATION_MADE, type TranslatingTable } from './frames.ts';
import {
  ENTRIES,
  GENERATION_SHIFT,
  type IoEntry,
  type IoLeaf,
  ioEntryText,
  ioLevelOf,
  ioSpan,
  LEVELS,
  MIXED,
  NO_ENTRY,
  ORDER_SHIFT,
  pageOf,
  rowAt,
  rowOf,
  smallLeaf,
  TABLE,
  TABLE_ENTRY,
  tagged,
  uniformGeneration,
  WINDOW_PAGES,
} from './io-entry.ts';

export class IoPageTable implements TranslatingTable {
  readonly sim: Sim;
  readonly name: string;
  readonly owner: string;
  readonly addresses = 'IOVA';
  readonly frames: Frames;
  /** Table pages below the root. */
  readonly tables: Tally;
  private readonly heads: FolioHeads;
  private readonly pfn: readonly Column[];
  private readonly meta: readonly Column[];

  /** `owner`: whose table it is, as in reports: a domain. */
  constructor(sim: Sim, owner: string, frames: Frames, heads: FolioHeads) {
    this.sim = sim;
    const name = `IO page table of ${owner}`;
    this.name = name;
    this.owner = name;
    this.frames = frames;
    this.heads = heads;
    this.tables = new Tally(sim, `table pages of ${name}`);
    const meta: Column[] = [];
    const pfn: Column[] = [];
    for (let level = 0; level < LEVELS; level++) {
      const span = ioSpan(level);
      const options = {
        rows: Math.ceil((2 * WINDOW_PAGES) / span),
        sparse: true,
        rowName: (row: number) =>
          `IO PTE 0x${(pageOf(row * span) * 4096).toString(16)}${level === 0 ? '' : ` (level ${level + 1})`} of ${owner}`,
        changeText: (was: FieldOf, is: FieldOf): string => {
          const [before, after] = [was, is].map((value) => ioEntryText(value(meta[level]!), value(pfn[level]!)));
          return before === after ? '' : `${before} -> ${after}`;
        },
      };
      const column = new Column(sim, `${name}.level${level + 1}.bits`, options);
      meta.push(column);
      pfn.push(new Column(sim, `${name}.level${level + 1}.pfn`, { ...options, sameObjectAs: column }));
    }
    this.meta = meta;
    this.pfn = pfn;
  }

  // ---- announcing -------------------------------------------------------------------------------------------------

  /** Announce a walk for `page`: hardware reads one entry per level. */
  willWalk(page: number, at: Step): Announced {
    return this.willWalkRange(page, 1, at);
  }

  /** Announce walks for `pages` pages from `page` (software: iova_to_phys). */
  willWalkRange(page: number, pages: number, at: Step): Announced {
    const row = rowOf(page);
    for (let level = LEVELS - 1; level > 0; level--) {
      this.meta[level]!.willReadRange(rowAt(row, level), rowAt(row + pages - 1, level), at);
    }
    return this.meta[0]!.willReadRange(row, row + pages - 1, at);
  }

  /** Announce changing entries of `pages` pages from `page`. Large leaves that reach out of the range are included. */
  willChange(page: number, pages: number, at: Step): Announced {
    let first = rowOf(page);
    let last = first + pages - 1;
    // Nobody else changes entries of a range that its owner works on, so a look tells how far a leaf reaches.
    const head = this.peekLeaf(page);
    if (head !== undefined) first = Math.min(first, rowOf(head.page));
    const tail = this.peekLeaf(page + pages - 1);
    if (tail !== undefined) last = Math.max(last, rowOf(tail.page) + tail.pages - 1);
    for (let level = LEVELS - 1; level > 0; level--) {
      this.meta[level]!.willUpdateRange(rowAt(first, level), rowAt(last, level), at);
    }
    this.tables.willAdd(at);
    return this.meta[0]!.willUpdateRange(first, last, at);
  }

  /** Announce that translations of `pages` frames from `pfn` come or go. */
  willCount(pfn: number, pages: number, at: Step): Announced {
    const { translations } = this.frames;
    const lo = translations.base + this.heads.headOf(pfn);
    return this.sim.announce(lo, translations.base + pfn + pages - 1, ADD, at);
  }

  /** Announce counting down whatever pages [page, page + pages) translate to now. */
  willUncount(page: number, pages: number, at: Step): void {
    const end = page + pages;
    for (let next = page; next < end; ) {
      const run = this.peekRun(next, end - next);
      if (run.pfn >= 0) this.willCount(run.pfn, run.pages, at);
      next += run.pages;
    }
  }

  // ---- reading ----------------------------------------------------------------------------------------------------

  /** The entry of `level` for `page`, in a step that announced it. */
  entry(page: number, level: number): IoEntry {
    const row = rowAt(rowOf(page), level);
    return this.decode(page, level, this.meta[level]!.get(row), row);
  }

  /** Walk from the top, in a step announced by `willWalk`. */
  walk(page: number): IoLeaf | undefined {
    for (let level = LEVELS - 1; level >= 0; level--) {
      const entry = this.entry(page, level);
      if (entry.kind === 'leaf') return entry.leaf;
      if (entry.kind === 'none') return undefined;
    }
    return undefined;
  }

  /** What the entry of `level` for `page` is. Looks without a step. */
  peekEntryKind(page: number, level: number): IoEntry['kind'] {
    const bits = this.meta[level]!.peek(rowAt(rowOf(page), level));
    if (bits === 0) return 'none';
    return (bits & TABLE) !== 0 ? 'table' : 'leaf';
  }

  /** Look without a step. */
  peekLeaf(page: number): IoLeaf | undefined {
    const row = rowOf(page);
    for (let level = LEVELS - 1; level >= 0; level--) {
      const at = rowAt(row, level);
      const bits = this.meta[level]!.peek(at);
      if (bits === 0) return undefined;
      if ((bits & TABLE) === 0) return this.leafAt(page, level, bits, at);
    }
    return undefined;
  }

  /**
   * The longest run from `page`, at most `most` pages, that is contiguous in frames; or, with pfn -1, the longest run
   * of pages without translation up to the end of the missing entry. Looks without a step.
   */
  peekRun(page: number, most: number): { readonly pfn: number; readonly pages: number } {
    const first = this.peekLeaf(page);
    if (first === undefined) return { pfn: -1, pages: Math.min(most, this.holeAt(page)) };
    const pfn = first.pfn + (page - first.page);
    let pages = first.page + first.pages - page;
    while (pages < most) {
      const next = page + pages;
      const more = this.smallRun(next, pfn + pages, most - pages);
      if (more > 0) {
        pages += more;
        continue;
      }
      const leaf = this.peekLeaf(next);
      if (leaf === undefined || leaf.pfn + (next - leaf.page) !== pfn + pages) break;
      pages = leaf.page + leaf.pages - page;
    }
    return { pfn, pages: Math.min(pages, most) };
  }

  /** Small leaves from `page` over consecutive frames, within one table, at most `most`; undefined: no small leaf. */
  peekSmallRun(page: number, most: number): { readonly pfn: number; readonly pages: number } | undefined {
    const row = rowOf(page);
    for (let level = LEVELS - 1; level > 0; level--) {
      if ((this.meta[level]!.peek(rowAt(row, level)) & TABLE) === 0) return undefined;
    }
    if (!smallLeaf(this.meta[0]!.peek(row))) return undefined;
    const pfn = this.pfn[0]!.peek(row);
    return { pfn, pages: this.smallRun(page, pfn, most) };
  }

  /** How many 4 KiB leaves from `page`, within one table, map pfn, pfn + 1...: the inner loop of long scans. */
  private smallRun(page: number, pfn: number, most: number): number {
    const row = rowOf(page);
    for (let level = LEVELS - 1; level > 0; level--) {
      if ((this.meta[level]!.peek(rowAt(row, level)) & TABLE) === 0) return 0;
    }
    const bits = this.meta[0]!;
    const frames = this.pfn[0]!;
    if (frames.peek(row) !== pfn) return 0;
    const room = Math.min(most, ENTRIES - (row % ENTRIES));
    const end = frames.endOfRise(row, row + room - 1);
    // Entries of one run mostly have the same bits: then one look tells for all of them.
    let at = row;
    while (at <= end && smallLeaf(bits.peek(at))) at = bits.endOfRun(at, end) + 1;
    return at - row;
  }

  /** Pages from `page`, which has no translation, to the next entry in its table, or to the end of a missing table. */
  private holeAt(page: number): number {
    for (let level = LEVELS - 1; level > 0; level--) {
      if (this.meta[level]!.peek(rowAt(rowOf(page), level)) === 0) return ioSpan(level) - (page % ioSpan(level));
    }
    const row = rowOf(page);
    return this.meta[0]!.endOfRun(row, row - (row % ENTRIES) + ENTRIES - 1) + 1 - row;
  }

  /** No entry at all in 4 KiB rows [page, page + pages), and no large leaf above them: room for small leaves. */
  emptyBelow(page: number, pages: number): boolean {
    const row = rowOf(page);
    for (let level = LEVELS - 1; level > 0; level--) {
      const bits = this.meta[level]!.peek(rowAt(row, level));
      if (bits === 0) return true;
      if ((bits & TABLE) === 0) return false;
    }
    const last = row + pages - 1;
    return this.meta[0]!.peek(row) === 0 && this.meta[0]!.endOfRun(row, last) === last;
  }

  /** The generation for which the leaf's entry of `page` was made. */
  madeFor(leaf: IoLeaf, page: number): number {
    const level = ioLevelOf(leaf.order);
    const row = rowOf(page);
    const bits = this.meta[level]!.peek(rowAt(row, level));
    return ((bits & MIXED) === 0 ? bits : this.meta[0]!.peek(row)) >>> GENERATION_SHIFT;
  }

  private decode(page: number, level: number, bits: number, row: number): IoEntry {
    if (bits === 0) return NO_ENTRY;
    if ((bits & TABLE) !== 0) return TABLE_ENTRY;
    return { kind: 'leaf', leaf: this.leafAt(page, level, bits, row) };
  }

  private leafAt(page: number, level: number, bits: number, row: number): IoLeaf {
    const order = (bits >> ORDER_SHIFT) & 63;
    const pages = 2 ** order;
    return {
      page: page - (page % pages),
      pages,
      order,
      pfn: this.pfn[level]!.peek(row),
      prot: bits & 3,
      mixed: (bits & MIXED) !== 0,
    };
  }

  // ---- writing ----------------------------------------------------------------------------------------------------

  /** Make the entry of `level` for `page` point to an empty table. */
  setTable(page: number, level: number): void {
    this.put(level, rowAt(rowOf(page), level), 0, TABLE);
    this.tables.add(1);
  }

  /** Unlink the (empty) table below the entry of `level` for `page`. */
  dropTable(page: number, level: number): void {
    this.put(level, rowAt(rowOf(page), level), 0, 0);
    this.tables.add(-1);
  }

  /** Write one leaf of 2^order pages. `generation`: the one to remember, instead of the frames' present ones. */
  setLeaf(page: number, order: number, pfn: number, prot: number, generation?: number): void {
    const level = ioLevelOf(order);
    const pages = 2 ** order;
    const row = rowOf(page);
    const uniform = generation ?? uniformGeneration(this.frames, pfn, pages);
    let bits = prot | (order << ORDER_SHIFT);
    if (uniform !== undefined) bits |= tagged(uniform);
    else {
      bits |= MIXED;
      for (let i = 0; i < pages; i++) this.meta[0]!.set(row + i, tagged(this.frames.peekGeneration(pfn + i)));
    }
    const first = rowAt(row, level);
    for (let copy = 0; copy < 2 ** (order % 9); copy++) this.put(level, first + copy, pfn, bits);
    this.count(pfn, pages, 1);
    this.tellMade(page, pfn, pages);
  }

  /** Write 4 KiB leaves of one table for a contiguous run of frames. */
  setSmallRun(page: number, pages: number, pfn: number, prot: number, generation?: number): void {
    const row = rowOf(page);
    const last = row + pages - 1;
    const uniform = generation ?? uniformGeneration(this.frames, pfn, pages);
    this.pfn[0]!.fillRising(row, last, pfn);
    if (uniform !== undefined) this.meta[0]!.fill(row, last, prot | tagged(uniform));
    else {
      for (let i = 0; i < pages; i++) this.meta[0]!.set(row + i, prot | tagged(this.frames.peekGeneration(pfn + i)));
    }
    this.count(pfn, pages, 1);
    this.tellMade(page, pfn, pages);
  }

  /** Clear one leaf. */
  clearLeaf(leaf: IoLeaf): void {
    const level = ioLevelOf(leaf.order);
    const row = rowOf(leaf.page);
    const first = rowAt(row, level);
    if ((this.meta[level]!.peek(first) & MIXED) !== 0) this.meta[0]!.fill(row, row + leaf.pages - 1, 0);
    for (let copy = 0; copy < 2 ** (leaf.order % 9); copy++) this.put(level, first + copy, 0, 0);
    this.count(leaf.pfn, leaf.pages, -1);
  }

  /** Clear `pages` 4 KiB leaves of one table that map the run from `pfn`. */
  clearSmallRun(page: number, pages: number, pfn: number): void {
    const row = rowOf(page);
    this.meta[0]!.fill(row, row + pages - 1, 0);
    this.pfn[0]!.fill(row, row + pages - 1, 0);
    this.count(pfn, pages, -1);
  }

  /**
   * Clear all leaves of the lowest-level table that holds `page` (512 entries). `pfn`: frame of the first entry, when
   * the caller knows that all 512 are leaves of one page that map consecutive frames.
   */
  clearTable(page: number, pfn?: number): void {
    const first = rowOf(page - (page % ENTRIES));
    const bits = this.meta[0]!;
    const frames = this.pfn[0]!;
    if (pfn !== undefined) this.count(pfn, ENTRIES, -1);
    else {
      for (let row = first; row < first + ENTRIES; ) {
        const seen = bits.peek(row);
        const last = first + ENTRIES - 1;
        if (seen === 0) {
          row = bits.endOfRun(row, last) + 1;
          continue;
        }
        const order = (seen >> ORDER_SHIFT) & 63;
        // Neighbours with equal bits over consecutive frames are counted together.
        const end = order > 0 ? row + 2 ** order - 1 : Math.min(bits.endOfRun(row, last), frames.endOfRise(row, last));
        this.count(frames.peek(row), end + 1 - row, -1);
        row = end + 1;
      }
    }
    bits.fill(first, first + ENTRIES - 1, 0);
    frames.fill(first, first + ENTRIES - 1, 0);
  }

  private tellMade(page: number, pfn: number, pages: number): void {
    if (this.sim.hears(TRANSLATION_MADE)) this.sim.emit(TRANSLATION_MADE, { table: this, page, pfn, pages });
  }

  leadsTo(page: number): number {
    return this.peekRun(page, 1).pfn;
  }

  private put(level: number, row: number, pfn: number, bits: number): void {
    this.meta[level]!.set(row, bits);
    this.pfn[level]!.set(row, pfn);
  }

  /** Count translations on the folio heads of a run. */
  private count(pfn: number, pages: number, by: 1 | -1): void {
    countTranslations(this.frames, this.heads, pfn, pages, by);
  }

  /** Leaves of [page, page + pages), ascending. Looks without a step. */
  *peekLeaves(page: number, pages: number): Generator<IoLeaf> {
    for (let at = page; at < page + pages; ) {
      const leaf = this.peekLeaf(at);
      if (leaf === undefined) at += this.holeAt(at);
      else {
        yield leaf;
        at = leaf.page + leaf.pages;
      }
    }
  }
}
