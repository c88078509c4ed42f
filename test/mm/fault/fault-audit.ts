// The books at the end of a run: every reference of every page is explained by a mapping, a cache or a per-CPU batch, and
// nothing is left locked.
import type { CoreMm } from '../../../src/mm/core.ts';
import type { Inode } from '../../../src/mm/file/inode.ts';
import type { Mm } from '../../../src/mm/mm.ts';
import { PG_HUGETLB, PG_LOCKED, PG_PRIVATE, PG_RESERVED } from '../../../src/mm/page-flags.ts';
import { PMD_LEAF, PMD_TABLE, PTE_PRESENT } from '../../../src/mm/pte.ts';

export interface Owners {
  readonly mms: readonly Mm[];
  readonly inodes: readonly Inode[];
  /** Pages of address space to look at, from the lowest VMA on. */
  readonly pages: number;
  readonly from: number;
}

/** What does not add up, in words; empty when all does. */
export function audit(core: CoreMm, owners: Owners): string[] {
  const { folios, machine, perCpu } = core;
  const expected = new Map<number, number>();
  const mappings = new Map<number, number>();
  const explain = (head: number, count: number) => expected.set(head, (expected.get(head) ?? 0) + count);
  const wrong: string[] = [];

  for (const mm of owners.mms) {
    for (let vpn = owners.from; vpn < owners.from + owners.pages; vpn++) {
      const pmd = mm.pageTable.peekPmd(Math.floor(vpn / 512));
      const huge = (pmd.bits & PMD_LEAF) !== 0;
      if (huge && vpn % 512 !== 0) continue;
      const entry = huge ? pmd : (pmd.bits & PMD_TABLE) !== 0 ? mm.pageTable.peekPte(vpn) : pmd;
      if ((entry.bits & PTE_PRESENT) === 0) continue;
      if (entry.pfn === core.zeroPfn || entry.pfn === core.hugeZeroPfn || !machine.hasStructPage(entry.pfn)) continue;
      const head = folios.headOf(entry.pfn);
      explain(head, 1);
      mappings.set(head, (mappings.get(head) ?? 0) + 1);
      if (entry.generation !== core.frames.peekGeneration(entry.pfn)) {
        wrong.push(`${mm.name} maps pfn ${entry.pfn} at ${vpn} as it was before it was freed`);
      }
    }
    for (const row of [0, 1, 2].map((i) => Math.floor(owners.from / 512) + i)) {
      if (mm.pageTable.ptl.ownerOf(row) !== null) wrong.push(`the page-table lock of ${mm.name} is still held`);
    }
  }
  for (const inode of owners.inodes) {
    const step = inode.kind === 'hugetlb' ? 512 : 1;
    for (let index = 0; index < 1024; index += step) {
      const entry = inode.pages.peek(index);
      if (entry > 0 && machine.hasStructPage(entry - 1)) explain(entry - 1, 1);
    }
  }
  for (let slot = 0; slot < core.swap.slots; slot++) {
    const entry = core.swap.cache.peek(slot);
    if (entry > 0) explain(entry - 1, 1);
  }
  for (const cpu of perCpu) for (const head of cpu.lruAdd.peek()) explain(head, 1);

  for (let pfn = 0; pfn < machine.frames; pfn++) {
    if (!machine.hasStructPage(pfn) || pfn === core.hugeZeroPfn) continue;
    const flags = folios.flags.peek(pfn);
    if ((flags & PG_RESERVED) !== 0) continue;
    const references = folios.refcount.peek(pfn);
    const should = (expected.get(pfn) ?? 0) + ((flags & PG_PRIVATE) !== 0 ? 1 : 0);
    if (references !== should) wrong.push(`pfn ${pfn} has ${references} references, ${should} are explained`);
    if ((flags & PG_LOCKED) !== 0) wrong.push(`pfn ${pfn} is still locked`);
    const mapped = folios.peekMapcount(pfn);
    if (references > 0 && mapped !== (mappings.get(pfn) ?? 0)) wrong.push(`pfn ${pfn} counts ${mapped} mappings`);
    if (references === 0 && (flags & ~PG_HUGETLB) !== 0) wrong.push(`free pfn ${pfn} keeps flags ${flags}`);
  }
  return wrong;
}
