// What a step changed, as reports say it: entries of page tables whole, flags by name.
import { describe, expect, it } from 'vitest';
import { changesSince } from '../../src/check/changes.ts';
import { Cell } from '../../src/engine/cell.ts';
import { Sim } from '../../src/engine/sim.ts';
import { ioEntryText } from '../../src/hw/io-entry.ts';
import { SPTE_DIRTY, SPTE_MMIO, SPTE_PRESENT, SPTE_TABLE, SPTE_WRITE, spteChangeText } from '../../src/kvm/spte.ts';
import { PageTable } from '../../src/mm/page-table.ts';
import * as pte from '../../src/mm/pte.ts';

const { PTE_DIRTY, PTE_MIGRATION, PTE_PRESENT, PTE_SOFT_DIRTY, PTE_SWAP, PTE_WRITE, PTE_YOUNG } = pte;
const RW = PTE_PRESENT | PTE_WRITE | PTE_YOUNG;

function told(change: (table: PageTable) => void): readonly string[] {
  const sim = new Sim({ journaled: true });
  const table = new PageTable(sim, 'app');
  table.setPte(5, 1536, RW, 1);
  const from = sim.journalSize;
  change(table);
  return changesSince(sim, from).changes.map(({ text }) => text);
}

describe('a change of', () => {
  it('a page-table entry leaves the frame out where it stays', () => {
    expect(told((table) => table.setPte(5, 1536, PTE_PRESENT | PTE_DIRTY, 1))).toEqual([
      'PTE 0x5000 of app: rw -> ro old dirty',
    ]);
    expect(told((table) => table.setPte(5, 1537, RW, 1))).toEqual(['PTE 0x5000 of app: pfn 1536 rw -> pfn 1537 rw']);
  });

  it('a page-table entry says what is there instead of a frame', () => {
    expect(told((table) => table.setPte(5, 7, PTE_SWAP, 0))).toEqual(['PTE 0x5000 of app: pfn 1536 rw -> swap slot 7']);
    expect(told((table) => table.setPte(5, 1536, PTE_MIGRATION, 0))).toEqual([
      'PTE 0x5000 of app: pfn 1536 rw -> migration entry of pfn 1536',
    ]);
    expect(told((table) => table.setPte(5, 0, 0, 0))).toEqual(['PTE 0x5000 of app: pfn 1536 rw -> none']);
  });

  it('a page-table entry tells of the soft-dirty bit where nothing else is new', () => {
    expect(told((table) => table.setPte(5, 1536, RW | PTE_SOFT_DIRTY, 1))).toEqual(['PTE 0x5000 of app: +soft-dirty']);
    expect(told((table) => table.setPte(5, 1537, RW | PTE_SOFT_DIRTY, 1))).toEqual([
      'PTE 0x5000 of app: pfn 1536 rw -> pfn 1537 rw',
    ]);
  });

  it('a page-table entry that only we can see is no more than said', () => {
    expect(told((table) => table.setPte(5, 1536, RW, 2))).toEqual(['PTE 0x5000 of app changes']);
  });

  it('an SPTE and an IO page-table entry is told in the words of their MMU', () => {
    const spte = (bits: number, pfn: number) => ({ bits, pfn, generation: 3, large: false, table: false });
    const present = spte(SPTE_PRESENT | SPTE_WRITE | SPTE_DIRTY, 9);
    expect(spteChangeText(spte(0, 0), present)).toBe('none -> pfn 9 rw dirty');
    expect(spteChangeText(present, spte(SPTE_PRESENT | SPTE_DIRTY, 9))).toBe('rw dirty -> ro dirty');
    expect(spteChangeText(spte(SPTE_PRESENT | SPTE_TABLE, 0), spte(SPTE_MMIO, 0))).toBe(
      'table -> MMIO of generation 3',
    );
    expect([ioEntryText(0, 5), ioEntryText(4, 5), ioEntryText(1, 5)]).toEqual(['none', 'table', 'pfn 5 r']);
    expect([ioEntryText(3 | (9 << 4), 512), ioEntryText(2 | (18 << 4), 0)]).toEqual(['pfn 512 rw 2M', 'pfn 0 w 1G']);
  });

  it('a list says how many it holds', () => {
    const sim = new Sim({ journaled: true });
    const list = new Cell<readonly number[]>(sim, 'TLB of cpu0', []);
    const from = sim.journalSize;
    list.value = [1, 2];
    expect(changesSince(sim, from).changes.map(({ text }) => text)).toEqual(['TLB of cpu0: empty -> 2 items']);
  });
});
