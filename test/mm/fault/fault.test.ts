import { describe, expect, it } from 'vitest';
import { PG_ANON, PG_DIRTY, PG_LRU, PG_PRIVATE } from '../../../src/mm/page-flags.ts';
import { PTE_DIRTY, PTE_PRESENT, PTE_WRITE } from '../../../src/mm/pte.ts';
import { tokenOf } from '../../support/tokens.ts';
import { BASE, bench, fault, inode, mapped, other, present, shareAsForkDoes, touch } from './fault-bench.ts';

const A = tokenOf('A');

describe('a fault on private anonymous memory', () => {
  it('maps the zero page on a read and counts nothing', () => {
    const b = bench();
    mapped(b);
    expect(touch(b, BASE)).toEqual({ token: 0 });
    expect(b.mm.pageTable.peekFrame(BASE)).toBe(b.core.zeroPfn);
    expect(b.core.folios.refcount.peek(b.core.zeroPfn)).toBe(1);
    expect(present(b)).toBe(1);
  });

  it('gives a fresh exclusive page on a write', () => {
    const b = bench();
    mapped(b);
    expect(touch(b, BASE, A)).toEqual({ token: A });
    const pfn = b.mm.pageTable.peekFrame(BASE);
    const { folios } = b.core;
    // One reference of the mapping, one of the LRU batch.
    expect(folios.refcount.peek(pfn)).toBe(2);
    expect(folios.mapcount.peek(pfn)).toBe(1);
    expect(folios.anonExclusive.peek(pfn)).toBe(1);
    expect(folios.has(pfn, PG_ANON)).toBe(true);
    expect(b.core.rmapAnon(pfn)?.mms.peek()).toEqual([b.mm]);
  });

  it('replaces the zero page by a page of zeros on the first write', () => {
    const b = bench();
    mapped(b);
    touch(b, BASE);
    touch(b, BASE, A);
    const pfn = b.mm.pageTable.peekFrame(BASE);
    expect(pfn).not.toBe(b.core.zeroPfn);
    expect(touch(b, BASE)).toEqual({ token: A });
    expect(b.core.folios.refcount.peek(b.core.zeroPfn)).toBe(1);
  });
});

describe('a fault on shmem', () => {
  it('maps a shared page writable from the first read', () => {
    const b = bench();
    const file = inode(b, {});
    mapped(b, { file, shared: true });
    expect(touch(b, BASE)).toEqual({ token: 0 });
    expect(present(b)).toBe(1);
    const { bits, pfn } = b.mm.pageTable.peekPte(BASE);
    expect(bits & (PTE_PRESENT | PTE_WRITE | PTE_DIRTY)).toBe(PTE_PRESENT | PTE_WRITE);
    // Page cache, mapping, LRU batch.
    expect(b.core.folios.refcount.peek(pfn)).toBe(3);
  });

  it('copies a private page at the first write and leaves the file alone', () => {
    const b = bench();
    const file = inode(b, {});
    mapped(b, { file });
    touch(b, BASE, A);
    const pfn = b.mm.pageTable.peekFrame(BASE);
    expect(b.core.folios.isAnon(pfn)).toBe(true);
    const cached = file.pages.peek(0) - 1;
    expect(b.core.frames.content.peek(cached)).toBe(0);
    expect(b.core.folios.mapcount.peek(cached)).toBe(0);
  });
});

describe('a fault on an ext4 file', () => {
  it('reads the page and maps its cached neighbours with it', () => {
    const b = bench();
    const file = inode(b, { kind: 'file', fs: 'ext4' });
    for (let i = 0; i < 8; i++) file.disk.set(i, tokenOf('f'));
    mapped(b, { file, shared: true });
    expect(touch(b, BASE)).toEqual({ token: tokenOf('f') });
    expect(present(b)).toBe(8);
    expect(b.mm.pageTable.peekPte(BASE).bits & PTE_WRITE).toBe(0);
  });

  it('asks the filesystem before a shared page is written, and marks it dirty after', () => {
    const b = bench();
    const file = inode(b, { kind: 'file', fs: 'ext4' });
    mapped(b, { file, shared: true });
    touch(b, BASE);
    touch(b, BASE, A);
    const { pfn, bits } = b.mm.pageTable.peekPte(BASE);
    expect(bits & (PTE_WRITE | PTE_DIRTY)).toBe(PTE_WRITE | PTE_DIRTY);
    expect(b.core.folios.has(pfn, PG_DIRTY)).toBe(true);
    expect(b.core.folios.has(pfn, PG_PRIVATE)).toBe(true);
    expect(pfn).toBe(file.pages.peek(0) - 1);
  });

  it('is SIGBUS past the end of the file', () => {
    const b = bench();
    const file = inode(b, { kind: 'file', fs: 'ext4', sizePages: 1 });
    mapped(b, { file, shared: true });
    expect(touch(b, BASE + 1)).toEqual({ signal: 'SIGBUS' });
    expect(touch(b, BASE + 1, A)).toEqual({ signal: 'SIGBUS' });
  });
});

describe('an unshare fault', () => {
  it('gives a copy that is exclusive but not writable', () => {
    const b = bench();
    mapped(b);
    touch(b, BASE, A);
    const old = b.mm.pageTable.peekPte(BASE);
    shareAsForkDoes(b, other(b, 'child'), BASE);
    expect(fault(b, BASE, { unshare: true })).toBe('ok');
    const now = b.mm.pageTable.peekPte(BASE);
    const { folios } = b.core;
    expect(now.pfn).not.toBe(old.pfn);
    expect(now.bits & PTE_WRITE).toBe(0);
    expect(folios.anonExclusive.peek(now.pfn)).toBe(1);
    expect(b.core.frames.content.peek(now.pfn)).toBe(A);
    expect(folios.mapcount.peek(old.pfn)).toBe(1);
    expect(folios.has(now.pfn, PG_LRU)).toBe(false);
  });
});
