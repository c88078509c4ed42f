// One root of the TDP MMU (arch/x86/kvm/mmu/tdp_mmu.c) with everything below it: 4 KiB and 2 MiB entries over guest
// frame numbers. Levels above 2 MiB are one step everywhere; 1 GiB leaves are not modelled.
import { Cell } from '../engine/cell.ts';
import { Column, type FieldOf } from '../engine/column.ts';
import { hashText, mix } from '../engine/hash.ts';
import type { RwLock } from '../engine/rwlock.ts';
import type { Sim } from '../engine/sim.ts';
import type { Announced, Step } from '../engine/step.ts';
import { TRANSLATION_MADE, type TranslatingTable } from '../hw/frames.ts';
import { PMD_PAGES } from '../hw/machine.ts';
import { SPTE_LARGE, SPTE_TABLE, type Spte, spteChangeText, sptePresent } from './spte.ts';

/** kvm_mmu_max_gfn + 1: the machine has 44 physical address bits. */
export const MAX_GFNS = 2 ** 32;

export function rowOf(gfn: number): number {
  return Math.floor(gfn / PMD_PAGES);
}

/** Entries of one level. */
class Level {
  readonly bits: Column;
  readonly pfn: Column;
  readonly generation: Column;

  constructor(sim: Sim, name: string, rows: number, scale: number) {
    const rowName = (row: number) => `SPTE 0x${(row * scale * 4096).toString(16)} of ${name}`;
    const changeText = (was: FieldOf, is: FieldOf) => spteChangeText(this.entryIn(was), this.entryIn(is));
    const options = { rows, sparse: true, rowName, changeText };
    this.bits = new Column(sim, `${name}.bits`, options);
    this.pfn = new Column(sim, `${name}.pfn`, { ...options, sameObjectAs: this.bits });
    this.generation = new Column(sim, `${name}.generation`, { ...options, sameObjectAs: this.bits });
  }

  private entryIn(value: FieldOf): Spte {
    const bits = value(this.bits);
    return decode(bits, value(this.pfn), value(this.generation), (bits & SPTE_TABLE) !== 0);
  }

  at(row: number, bits: number, table: boolean): Spte {
    return decode(bits, this.pfn.peek(row), this.generation.peek(row), table);
  }

  set(row: number, bits: number, pfn: number, generation: number): void {
    this.bits.set(row, bits);
    this.pfn.set(row, pfn);
    this.generation.set(row, generation);
  }
}

function decode(bits: number, pfn: number, generation: number, table: boolean): Spte {
  return { bits, pfn, generation, large: (bits & SPTE_LARGE) !== 0, table };
}

export class TdpRoot implements TranslatingTable {
  readonly name: string;
  /** The VM. */
  readonly owner: string;
  readonly addresses = 'gfn';
  readonly identity: number;
  /** Address space: 0, or 1 for system management mode. */
  readonly asId: number;
  /** role.guest_mode: used while a vCPU runs a nested guest; the CPU does not log dirty pages then. */
  readonly nested: boolean;
  /** role.invalid: written under mmu_lock held for write; a step that reads it announces mmu_lock or holds it. */
  readonly invalid: Cell<boolean>;
  /** tdp_mmu_root_count; part of the list of roots: users and, while it is valid or being zapped, the MMU itself. */
  readonly references: Cell<number>;
  private readonly small: Level;
  private readonly big: Level;

  constructor(
    sim: Sim,
    role: { readonly name: string; readonly owner: string; readonly asId: number; readonly nested: boolean },
    mmuLock: RwLock,
    list: { readonly id: number },
  ) {
    const { name } = role;
    this.name = name;
    this.owner = role.owner;
    this.asId = role.asId;
    this.nested = role.nested;
    this.identity = mix(hashText(name), 0x726f6f74);
    this.invalid = new Cell(sim, `role.invalid of ${name}`, false, mmuLock);
    this.references = new Cell(sim, `references of ${name}`, 1, list);
    this.small = new Level(sim, `${name} 4K`, MAX_GFNS, 1);
    this.big = new Level(sim, `${name} 2M`, MAX_GFNS / PMD_PAGES, PMD_PAGES);
  }

  /** Announce reading the entries that decide `gfn`. */
  willRead(gfn: number, at: Step): Announced {
    this.big.bits.willRead(rowOf(gfn), at);
    return this.small.bits.willRead(gfn, at);
  }

  /** Announce changing the 4 KiB entry of `gfn` or the 2 MiB entry above it. */
  willUpdate(gfn: number, at: Step): Announced {
    this.big.bits.willUpdate(rowOf(gfn), at);
    return this.small.bits.willUpdate(gfn, at);
  }

  /** Announce changing 4 KiB entries of one table, inclusive. */
  willUpdateLeafs(from: number, to: number, at: Step): Announced {
    return this.small.bits.willUpdateRange(from, to, at);
  }

  /** Announce changing a 2 MiB entry and everything below it. */
  willUpdateTable(row: number, at: Step): Announced {
    this.big.bits.willUpdate(row, at);
    return this.small.bits.willUpdateRange(row * PMD_PAGES, (row + 1) * PMD_PAGES - 1, at);
  }

  /** Announce changing a 2 MiB entry alone. */
  willUpdateRow(row: number, at: Step): Announced {
    return this.big.bits.willUpdate(row, at);
  }

  /** Bits of a 2 MiB entry. */
  rowBits(row: number): number {
    return this.big.bits.get(row);
  }

  peekRowBits(row: number): number {
    return this.big.bits.peek(row);
  }

  peekLeafBits(gfn: number): number {
    return this.small.bits.peek(gfn);
  }

  /** The last-level entry of `gfn`, in a step that announced it. */
  read(gfn: number): Spte {
    const row = rowOf(gfn);
    const table = (this.big.bits.get(row) & SPTE_TABLE) !== 0;
    const level = table ? this.small : this.big;
    const at = table ? gfn : row;
    return level.at(at, level.bits.get(at), table);
  }

  /** A 2 MiB entry, in a step that announced it. */
  readRow(row: number): Spte {
    const bits = this.big.bits.get(row);
    return this.big.at(row, bits, (bits & SPTE_TABLE) !== 0);
  }

  leadsTo(gfn: number): number {
    const spte = this.peek(gfn);
    if (!sptePresent(spte.bits)) return -1;
    return spte.large ? spte.pfn + (gfn % PMD_PAGES) : spte.pfn;
  }

  /** Tell who listens that entries from `gfn` on lead to frames from `pfn` on now. */
  tellMade(gfn: number, pfn: number, pages: number): void {
    const { sim } = this.small.bits;
    if (sim.hears(TRANSLATION_MADE)) sim.emit(TRANSLATION_MADE, { table: this, page: gfn, pfn, pages });
  }

  /** As `read`, without a step. */
  peek(gfn: number): Spte {
    const row = rowOf(gfn);
    const table = (this.big.bits.peek(row) & SPTE_TABLE) !== 0;
    const level = table ? this.small : this.big;
    const at = table ? gfn : row;
    return level.at(at, level.bits.peek(at), table);
  }

  /** Write a 4 KiB entry; links the table above it if there is none. */
  setSmall(gfn: number, bits: number, pfn: number, generation: number): void {
    const row = rowOf(gfn);
    if ((this.big.bits.peek(row) & SPTE_TABLE) === 0) this.big.set(row, SPTE_TABLE, 0, 0);
    this.small.set(gfn, bits, pfn, generation);
  }

  /** Write a 2 MiB entry. */
  setRow(row: number, bits: number, pfn: number, generation: number): void {
    this.big.set(row, bits, pfn, generation);
  }

  /** Change bits of the entry that decides `gfn`. */
  setBits(gfn: number, spte: Spte, bits: number): void {
    if (spte.large) this.big.bits.set(rowOf(gfn), bits);
    else this.small.bits.set(gfn, bits);
  }

  /** Every entry that maps memory, ascending within each level. Looks without a step. */
  *peekAll(): Generator<{ readonly gfn: number; readonly spte: Spte }> {
    for (const row of this.big.bits.filled()) {
      if ((this.big.bits.peek(row) & SPTE_LARGE) !== 0)
        yield { gfn: row * PMD_PAGES, spte: this.peek(row * PMD_PAGES) };
    }
    for (const gfn of this.small.bits.filled()) {
      if ((this.small.bits.peek(gfn) & 1) !== 0) yield { gfn, spte: this.peek(gfn) };
    }
  }

  /** Does it map nothing? Looks without a step. */
  get peekEmpty(): boolean {
    for (const _ of this.peekAll()) return false;
    return true;
  }

  /** Announce a walk over everything. */
  willReadAll(at: Step): Announced {
    this.big.bits.willReadRange(0, MAX_GFNS / PMD_PAGES - 1, at);
    return this.small.bits.willReadRange(0, MAX_GFNS - 1, at);
  }

  /** Announce a walk over guest frames [from, to). */
  willReadRange(from: number, to: number, at: Step): Announced {
    this.big.bits.willReadRange(rowOf(from), rowOf(to - 1), at);
    return this.small.bits.willReadRange(from, to - 1, at);
  }

  /** Leaves that map memory of [from, to), ascending, in a step announced by `willReadRange`. */
  readRange(from: number, to: number): readonly { readonly gfn: number; readonly spte: Spte }[] {
    this.big.bits.get(rowOf(from));
    this.small.bits.get(from);
    const found: { gfn: number; spte: Spte }[] = [];
    for (let gfn = from; gfn < to; ) {
      const spte = this.peek(gfn);
      const next = (rowOf(gfn) + 1) * PMD_PAGES;
      if ((spte.bits & 1) !== 0) found.push({ gfn, spte });
      gfn = spte.table ? gfn + 1 : next;
    }
    return found;
  }

  /** Every entry that maps memory, in a step announced by `willReadAll`. */
  readAll(): readonly { readonly gfn: number; readonly spte: Spte }[] {
    this.big.bits.get(0);
    this.small.bits.get(0);
    return [...this.peekAll()];
  }
}
