import { describe, expect, it } from 'vitest';
import { ResvMap } from '../../../src/mm/hugetlb/resv-map.ts';
import { PMD_LEAF, PMD_TABLE, PTE_WRITE } from '../../../src/mm/pte.ts';
import { tokenOf } from '../../support/tokens.ts';
import type { WorldOptions } from '../../support/world.ts';
import { BASE, bench, family, frameAt, inode, mapped, mappedFamily, other, present, touch } from './fault-bench.ts';

const A = tokenOf('A');
const B = tokenOf('B');
const ROW = BASE / 512;

function thp(options: WorldOptions = {}) {
  const b = bench(options);
  mapped(b, { hugepage: 'always' }, 512);
  return b;
}

describe('a fault in an aligned 2 MiB area of anonymous memory', () => {
  it('maps a huge page on a write: one reference, one mapping, the flag on its head', () => {
    const b = thp();
    expect(touch(b, BASE + 5, A)).toEqual({ token: A });
    const head = frameAt(b);
    const { folios } = b.core;
    expect(present(b, 512)).toBe(512);
    expect(b.mm.pageTable.peekPmd(ROW).bits & (PMD_LEAF | PTE_WRITE)).toBe(PMD_LEAF | PTE_WRITE);
    // The LRU batch is drained at once for a large folio.
    expect(folios.refcount.peek(head)).toBe(1);
    expect(folios.mapcountOf(head)).toBe(1);
    expect(folios.anonExclusive.peek(head)).toBe(1);
    expect(folios.anonExclusive.peek(head + 1)).toBe(0);
    expect(touch(b, BASE + 6)).toEqual({ token: 0 });
  });

  it('maps the huge zero page on a read', () => {
    const b = thp();
    expect(touch(b, BASE)).toEqual({ token: 0 });
    expect(frameAt(b)).toBe(b.core.hugeZeroPfn);
    expect(present(b, 512)).toBe(512);
  });

  it.each(['v6.1.192', 'v6.12.117'])('splits the huge zero page on a write and copies one page (%s)', (kernel) => {
    const b = thp({ kernel });
    touch(b, BASE);
    touch(b, BASE + 3, A);
    expect(b.mm.pageTable.peekPmd(ROW).bits & PMD_TABLE).toBe(PMD_TABLE);
    expect(present(b, 512)).toBe(512);
    expect(b.core.folios.isAnon(frameAt(b, BASE + 3))).toBe(true);
    expect(frameAt(b, BASE + 4)).toBe(b.core.zeroPfn);
  });

  it('replaces the huge zero page by a huge page where the kernel does so', () => {
    const b = thp({ changes: { with: ['thp.zero-page-write-allocates'] } });
    touch(b, BASE);
    touch(b, BASE + 3, A);
    expect(b.mm.pageTable.peekPmd(ROW).bits & PMD_LEAF).toBe(PMD_LEAF);
    expect(b.core.folios.isAnon(frameAt(b))).toBe(true);
  });

  it('keeps to small pages where the area does not hold a whole huge page, is advised against, or sysfs says never', () => {
    const short = bench();
    mapped(short, { hugepage: 'always' }, 511);
    touch(short, BASE, A);
    expect(present(short, 512)).toBe(1);
    const advised = bench();
    mapped(advised, { hugepage: 'never' }, 512);
    touch(advised, BASE, A);
    expect(present(advised, 512)).toBe(1);
    const never = thp({ params: { thp: 'never' } });
    touch(never, BASE, A);
    expect(present(never, 512)).toBe(1);
    const unadvised = bench({ params: { thp: 'madvise' } });
    mapped(unadvised, { hugepage: null }, 512);
    touch(unadvised, BASE, A);
    expect(present(unadvised, 512)).toBe(1);
  });

  it('falls back to a small page when there is no free block', () => {
    const b = thp({ zones: [{ kind: 'NORMAL', node: 0, pages: 1024 + 400 }] });
    touch(b, BASE, A);
    expect(present(b, 512)).toBe(1);
  });
});

describe('a write to a read-only huge page', () => {
  it('splits and copies one page when somebody else holds a reference', () => {
    const b = thp();
    touch(b, BASE, A);
    const head = frameAt(b);
    const { folios } = b.core;
    const { pfn, bits, generation } = b.mm.pageTable.peekPmd(ROW);
    folios.refcount.set(head, 2);
    folios.anonExclusive.set(head, 0);
    b.mm.pageTable.setPmd(ROW, pfn, bits & ~PTE_WRITE, generation);
    for (const cpu of b.core.cpus) cpu.tlb.value = [];
    touch(b, BASE + 1, B);
    expect(b.mm.pageTable.peekPmd(ROW).bits & PMD_TABLE).toBe(PMD_TABLE);
    expect(frameAt(b, BASE)).toBe(head);
    expect(frameAt(b, BASE + 1)).not.toBe(head + 1);
    // 511 page-table entries and the other's reference.
    expect(folios.refcount.peek(head)).toBe(512);
    expect(folios.mapcountOf(head)).toBe(511);
  });

  it('keeps it when the mapping is the only user', () => {
    const b = thp();
    touch(b, BASE, A);
    const head = frameAt(b);
    const { pfn, bits, generation } = b.mm.pageTable.peekPmd(ROW);
    b.core.folios.anonExclusive.set(head, 0);
    b.mm.pageTable.setPmd(ROW, pfn, bits & ~PTE_WRITE, generation);
    for (const cpu of b.core.cpus) cpu.tlb.value = [];
    touch(b, BASE + 1, B);
    expect(frameAt(b)).toBe(head);
    expect(b.core.folios.anonExclusive.peek(head)).toBe(1);
  });
});

describe('a fault on hugetlb memory', () => {
  const pool = (pages: number): WorldOptions => ({ params: { hugePages: { 9: pages } } });
  const file = { kind: 'hugetlb', hugeOrder: 9, sizePages: 512 } as const;

  it('gives a private page from the pool, already on a read', () => {
    const b = bench(pool(1));
    mapped(b, { file: inode(b, file) }, 512);
    expect(touch(b, BASE)).toEqual({ token: 0 });
    expect(present(b, 512)).toBe(512);
    const head = frameAt(b);
    expect(b.core.folios.isAnon(head)).toBe(true);
    expect(b.core.folios.refcount.peek(head)).toBe(1);
    expect(touch(b, BASE, A)).toEqual({ token: A });
    expect(frameAt(b)).toBe(head);
  });

  it('shares a page of the file, which the page cache holds once for each of its 512 small pages', () => {
    const b = bench(pool(1));
    const shared = inode(b, file);
    mapped(b, { file: shared, shared: true }, 512);
    touch(b, BASE + 7, A);
    const head = frameAt(b);
    expect(shared.pages.peek(3)).toBe(head + 1);
    expect(b.core.folios.refcount.peek(head)).toBe(513);
    const second = other(b, 'second');
    mapped(second, { file: shared, shared: true }, 512);
    expect(touch(second, BASE + 7)).toEqual({ token: A });
    expect(b.core.folios.refcount.peek(head)).toBe(514);
  });

  it('is SIGBUS when the pool is empty', () => {
    const b = bench(pool(0));
    mapped(b, { file: inode(b, file) }, 512);
    expect(touch(b, BASE, A)).toEqual({ signal: 'SIGBUS' });
  });

  it('copies a page shared since fork; with an empty pool the owner takes it from the child', () => {
    const b = bench(pool(1));
    const shared = inode(b, file);
    const anonVma = family(b);
    // hugetlb_reserve_pages of the one page.
    const reservation = new ResvMap(b.sim, 'reservation');
    b.core.hugeReserved.get(9)!.value = 1;
    mappedFamily(b, anonVma, { file: shared, reservation }, 512);
    touch(b, BASE, A);
    expect(b.core.hugeReserved.get(9)!.peek()).toBe(0);
    const head = frameAt(b);
    const child = other(b, 'child');
    mappedFamily(child, anonVma, { file: shared }, 512);
    const { pfn, bits, generation } = b.mm.pageTable.peekPmd(ROW);
    b.mm.pageTable.setPmd(ROW, pfn, bits & ~PTE_WRITE, generation);
    child.mm.pageTable.setPmd(ROW, pfn, bits & ~PTE_WRITE, generation);
    const { folios } = b.core;
    folios.refcount.set(head, 2);
    folios.addPmdMapping(head, 1);
    folios.anonExclusive.set(head, 0);
    for (const cpu of b.core.cpus) cpu.tlb.value = [];
    // The child cannot copy: it owns no reservation.
    expect(touch(child, BASE, B)).toEqual({ signal: 'SIGBUS' });
    expect(touch(b, BASE, B)).toEqual({ token: B });
    expect(frameAt(b)).toBe(head);
    expect(folios.refcount.peek(head)).toBe(1);
    expect(touch(child, BASE)).toEqual({ signal: 'SIGBUS' });
  });
});
