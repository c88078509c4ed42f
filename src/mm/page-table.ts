// The page table of one mm: PTE and PMD level. Levels above the PMD are one step everywhere and carry no bugs that the
// model needs (domain: gup "what can be merged"). Rows are page numbers (vpn) and, for PMDs, vpn / 512.
import { Column, type FieldOf } from '../engine/column.ts';
import { LockColumn } from '../engine/lock-column.ts';
import type { Sim } from '../engine/sim.ts';
import type { Announced, Step } from '../engine/step.ts';
import { PMD_PAGES } from '../hw/machine.ts';
import { PMD_LEAF, PMD_TABLE, PTE_PRESENT, type Pte, pteChangeText } from './pte.ts';

/** 48-bit virtual addresses. */
const VPN_ROWS = 2 ** 36;
const PMD_ROWS = VPN_ROWS / PMD_PAGES;

export function pmdOf(vpn: number): number {
  return Math.floor(vpn / PMD_PAGES);
}

export class PageTable {
  private readonly ptePfn: Column;
  private readonly pteBits: Column;
  private readonly pteGeneration: Column;
  private readonly pmdPfn: Column;
  private readonly pmdBits: Column;
  private readonly pmdGeneration: Column;
  /** Page-table locks: one per PMD row, covering the PMD entry and the PTE table below it. */
  readonly ptl: LockColumn;

  constructor(sim: Sim, owner: string) {
    const pte = {
      rows: VPN_ROWS,
      sparse: true,
      rowName: (vpn: number) => `PTE ${hex(vpn)} of ${owner}`,
      changeText: (was: FieldOf, is: FieldOf) => pteChangeText(this.pteIn(was), this.pteIn(is)),
    };
    this.pteBits = new Column(sim, `${owner}.pte.bits`, pte);
    this.ptePfn = new Column(sim, `${owner}.pte.pfn`, { ...pte, sameObjectAs: this.pteBits });
    this.pteGeneration = new Column(sim, `${owner}.pte.generation`, { ...pte, sameObjectAs: this.pteBits });
    const pmd = {
      rows: PMD_ROWS,
      sparse: true,
      rowName: (row: number) => `PMD ${hex(row * PMD_PAGES)} of ${owner}`,
      changeText: (was: FieldOf, is: FieldOf) => pteChangeText(this.pmdIn(was), this.pmdIn(is)),
    };
    this.pmdBits = new Column(sim, `${owner}.pmd.bits`, pmd);
    this.pmdPfn = new Column(sim, `${owner}.pmd.pfn`, { ...pmd, sameObjectAs: this.pmdBits });
    this.pmdGeneration = new Column(sim, `${owner}.pmd.generation`, { ...pmd, sameObjectAs: this.pmdBits });
    this.ptl = new LockColumn(sim, `page-table lock of ${owner}`, PMD_ROWS);
  }

  private pteIn(value: FieldOf): Pte {
    return { bits: value(this.pteBits), pfn: value(this.ptePfn), generation: value(this.pteGeneration) };
  }

  private pmdIn(value: FieldOf): Pte {
    return { bits: value(this.pmdBits), pfn: value(this.pmdPfn), generation: value(this.pmdGeneration) };
  }

  willReadPte(vpn: number, at: Step): Announced {
    return this.pteBits.willRead(vpn, at);
  }

  /** Range of entries, inclusive. */
  willReadPtes(from: number, to: number, at: Step): Announced {
    return this.pteBits.willReadRange(from, to, at);
  }

  willUpdatePte(vpn: number, at: Step): Announced {
    return this.pteBits.willUpdate(vpn, at);
  }

  willUpdatePtes(from: number, to: number, at: Step): Announced {
    return this.pteBits.willUpdateRange(from, to, at);
  }

  willReadPmd(row: number, at: Step): Announced {
    return this.pmdBits.willRead(row, at);
  }

  /** Is there a table of PMD entries that holds this row? Taken to be while one of them is used. Looks without a step. */
  peekPmdTable(row: number): boolean {
    const first = row - (row % PMD_PAGES);
    const filled = this.pmdBits.nextFilled(first);
    return filled >= 0 && filled < first + PMD_PAGES;
  }

  /** Range of PMD rows, inclusive. */
  willReadPmds(from: number, to: number, at: Step): Announced {
    return this.pmdBits.willReadRange(from, to, at);
  }

  /** Announce reading what leads from pages [vpn, vpn + pages) to frames, at whichever level it is. */
  willReadLeaves(vpn: number, pages: number, at: Step): Announced {
    this.willReadPmds(pmdOf(vpn), pmdOf(vpn + pages - 1), at);
    return this.willReadPtes(vpn, vpn + pages - 1, at);
  }

  /** Announce a walk over everything. */
  willReadAll(at: Step): Announced {
    return this.willReadLeaves(0, VPN_ROWS, at);
  }

  /** Rows of [from, to] whose entry is not none, ascending; in a step announced by `willReadPmds`. */
  populatedRows(from: number, to: number): number[] {
    const rows: number[] = [];
    for (let row = from; row <= to; row++) if (this.pmdBits.get(row) !== 0) rows.push(row);
    return rows;
  }

  willUpdatePmd(row: number, at: Step): Announced {
    return this.pmdBits.willUpdate(row, at);
  }

  pte(vpn: number): Pte {
    const bits = this.pteBits.get(vpn);
    return { bits, pfn: this.ptePfn.peek(vpn), generation: this.pteGeneration.peek(vpn) };
  }

  peekPte(vpn: number): Pte {
    return { bits: this.pteBits.peek(vpn), pfn: this.ptePfn.peek(vpn), generation: this.pteGeneration.peek(vpn) };
  }

  setPte(vpn: number, pfn: number, bits: number, generation: number): void {
    this.pteBits.set(vpn, bits);
    this.ptePfn.set(vpn, pfn);
    this.pteGeneration.set(vpn, generation);
  }

  clearPte(vpn: number): void {
    this.setPte(vpn, 0, 0, 0);
  }

  pmd(row: number): Pte {
    const bits = this.pmdBits.get(row);
    return { bits, pfn: this.pmdPfn.peek(row), generation: this.pmdGeneration.peek(row) };
  }

  peekPmd(row: number): Pte {
    return { bits: this.pmdBits.peek(row), pfn: this.pmdPfn.peek(row), generation: this.pmdGeneration.peek(row) };
  }

  /** For a table, `pfn` is the table's generation: it advances when a table is freed and another takes its place. */
  setPmd(row: number, pfn: number, bits: number, generation: number): void {
    this.pmdBits.set(row, bits);
    this.pmdPfn.set(row, pfn);
    this.pmdGeneration.set(row, generation);
  }

  clearPmd(row: number): void {
    this.setPmd(row, 0, 0, 0);
  }

  /** The entry that decides the translation of `vpn`, at whichever level it is. Looks without a step. */
  peekLeaf(vpn: number): { readonly pte: Pte; readonly huge: boolean } {
    const pmd = this.peekPmd(pmdOf(vpn));
    if ((pmd.bits & PMD_LEAF) !== 0) return { pte: pmd, huge: true };
    if ((pmd.bits & PMD_TABLE) === 0) return { pte: { pfn: 0, bits: 0, generation: 0 }, huge: false };
    return { pte: this.peekPte(vpn), huge: false };
  }

  /** The frame that `vpn` translates to right now, or 0. Looks without a step. */
  peekFrame(vpn: number): number {
    const { pte, huge } = this.peekLeaf(vpn);
    if ((pte.bits & 1) === 0) return 0;
    return huge ? pte.pfn + (vpn % PMD_PAGES) : pte.pfn;
  }

  /** How many pages from `vpn` on translate to `pfn`, `pfn + 1`, ...: at most `most`. Looks without a step. */
  peekRising(vpn: number, pfn: number, most: number): number {
    let done = 0;
    while (done < most) {
      const at = vpn + done;
      const row = pmdOf(at);
      const inRow = Math.min(most - done, (row + 1) * PMD_PAGES - at);
      const bits = this.pmdBits.peek(row);
      if ((bits & PMD_LEAF) !== 0) {
        if ((bits & PTE_PRESENT) === 0 || this.pmdPfn.peek(row) + (at % PMD_PAGES) !== pfn + done) return done;
        done += inRow;
        continue;
      }
      if ((bits & PMD_TABLE) === 0) return done;
      const frames = this.ptePfn.peek(at) === pfn + done ? this.ptePfn.endOfRise(at, at + inRow - 1) + 1 - at : 0;
      for (let i = 0; i < frames; i = this.pteBits.endOfRun(at + i, at + frames - 1) + 1 - at) {
        if ((this.pteBits.peek(at + i) & PTE_PRESENT) === 0) return done + i;
      }
      if (frames < inRow) return done + frames;
      done += inRow;
    }
    return done;
  }

  /** Direct columns, for bulk lanes over runs of entries. */
  get bulk(): { readonly bits: Column; readonly pfn: Column; readonly generation: Column } {
    return { bits: this.pteBits, pfn: this.ptePfn, generation: this.pteGeneration };
  }
}

export function hex(vpn: number): string {
  return `0x${(vpn * 4096).toString(16)}`;
}
