import { describe, expect, it } from 'vitest';
import { mlock } from '../../../src/mm/mapping/mlock.ts';
import { mprotect } from '../../../src/mm/mapping/mprotect.ts';
import { type MremapRequest, mremap } from '../../../src/mm/mapping/mremap.ts';
import { Lab, RECORDED } from '../../support/lab.ts';

function move(lab: Lab, request: Partial<MremapRequest>) {
  const base = { at: lab.vpn, pages: lab.pages, newPages: lab.pages };
  const result = lab.do(() => mremap(lab.core, { ...base, ...request }));
  if ('vpn' in result) lab.vpn = result.vpn;
  return result;
}

function make(lab: Lab, type: string): void {
  if (type === 'anon_rw_touched') lab.map();
  else if (type === 'anon_thp') lab.map({ pages: 512 });
  else if (type === 'memfd_shared_rw_touched') lab.map({ shared: true, file: lab.inode({ kind: 'shmem' }) });
  else if (type === 'ext4_shared_rw_touched') lab.map({ shared: true, file: lab.inode({ kind: 'file', fs: 'ext4' }) });
  else lab.map({ pages: 512, file: lab.inode({ kind: 'hugetlb', sizePages: 512, hugeOrder: 9 }) });
  if (lab.pages > 8) lab.write('c');
  else lab.touchAll('c');
}

describe.each(RECORDED)('mremap of pinned memory on %s', (kernel) => {
  const types = ['anon_rw_touched', 'anon_thp', 'hugetlb_2m', 'memfd_shared_rw_touched', 'ext4_shared_rw_touched'];

  it.each(types.filter((type) => !(type.startsWith('ext4') && kernel === 'v6.12.117')))(
    'moves %s with its page and pin',
    (type) => {
      const lab = new Lab({ kernel, params: { hugePages: { 9: 2 } } });
      make(lab, type);
      expect(lab.pin()).toBe('ok');
      const old = lab.vpn;
      // Down, so that rmap walks, which go up, would miss the page without the rmap locks.
      expect(move(lab, { mayMove: true, fixedAt: 0x100000 })).toEqual({ vpn: 0x100000 });
      expect(lab.pageState()).toEqual({ same_pfn: true, present_after: true, old_page_mapcount: 1 });
      expect(lab.mm.pageTable.peekFrame(old)).toBe(0);
      expect(lab.coherence()).toEqual({ dma_sees_new_cpu_write: true, cpu_sees_dma_write: true, coherent: true });
    },
  );

  it.each(['anon_rw_touched', 'memfd_shared_rw_touched'])(
    'MREMAP_DONTUNMAP takes the pinned page of %s along and leaves the old place empty',
    (type) => {
      const lab = new Lab({ kernel });
      make(lab, type);
      lab.pin();
      const old = lab.vpn;
      expect(move(lab, { mayMove: true, dontUnmap: true })).toHaveProperty('vpn');
      expect(lab.pfn()).toBe(lab.f0);
      const there = lab.vpn;
      lab.vpn = old;
      expect(lab.read()).toBe(type === 'anon_rw_touched' ? 'zero' : 'c');
      lab.vpn = there;
      expect(lab.coherence()).toEqual({ dma_sees_new_cpu_write: true, cpu_sees_dma_write: true, coherent: true });
    },
  );

  it('a part of a pinned THP splits the mapping and keeps the folio', () => {
    const lab = new Lab({ kernel });
    make(lab, 'anon_thp');
    lab.pin();
    const old = lab.vpn;
    expect(move(lab, { at: old + 256, pages: 256, newPages: 256, mayMove: true, fixedAt: 0x100100 })).toHaveProperty(
      'vpn',
    );
    expect(lab.pfn()).toBe(lab.f0 + 256);
    lab.vpn = old;
    expect([lab.pfn(), lab.pfn(256)]).toEqual([lab.f0, 0]);
    expect(lab.core.folios.orderOf(lab.f0)).toBe(9);
  });
});

describe('mremap', () => {
  it('keeps the page writable, exclusive and findable by rmap at its new place', () => {
    const lab = new Lab();
    make(lab, 'anon_rw_touched');
    const pfn = lab.pfn();
    move(lab, { mayMove: true, fixedAt: 0x100000 });
    expect(lab.vma().addressOf(lab.core.folios.index.peek(pfn))).toBe(0x100000);
    expect(lab.core.folios.anonExclusive.peek(pfn)).toBe(1);
    expect(lab.write('x')).toBe('ok');
    expect(lab.pfn()).toBe(pfn);
  });

  it('grows in place where it can, moves where it may, and fails otherwise', () => {
    const lab = new Lab();
    lab.map({ at: 0x5000 });
    lab.touchAll('c');
    expect(move(lab, { newPages: 16 })).toEqual({ vpn: 0x5000 });
    expect(lab.vma().pages).toBe(16);
    lab.map({ at: 0x5010, name: 'wall' });
    lab.vpn = 0x5000;
    expect(move(lab, { pages: 16, newPages: 32 })).toEqual({ errno: 'ENOMEM' });
    expect(move(lab, { pages: 16, newPages: 32, mayMove: true })).toHaveProperty('vpn');
    expect(lab.vpn).not.toBe(0x5000);
    expect(lab.read(7)).toBe('c');
    expect(lab.vma().pages).toBe(32);
  });

  it('shrinks by unmapping the tail', () => {
    const lab = new Lab();
    make(lab, 'anon_rw_touched');
    expect(move(lab, { newPages: 3 })).toEqual({ vpn: lab.vpn });
    expect([lab.read(2), lab.read(3)]).toEqual(['c', 'SIGSEGV']);
  });

  it('moves locked memory with its charge, and leaves an unlocked shell with MREMAP_DONTUNMAP', () => {
    const lab = new Lab();
    lab.map();
    lab.do(() => mlock(lab.core, lab.vpn, 8));
    const old = lab.vpn;
    move(lab, { mayMove: true, dontUnmap: true });
    expect(lab.mm.lockedVm.peek()).toBe(8);
    expect([lab.vma(old).fields.locked, lab.vma().fields.locked]).toEqual([false, true]);
    move(lab, { newPages: 12, mayMove: true });
    expect(lab.mm.lockedVm.peek()).toBe(12);
    expect(lab.pfn(11)).not.toBe(0);
  });

  it.each([
    ['MREMAP_FIXED without MAYMOVE', { fixedAt: 0x100000 }, 'EINVAL'],
    ['MREMAP_DONTUNMAP with another length', { dontUnmap: true, mayMove: true, newPages: 9 }, 'EINVAL'],
    ['length 0', { newPages: 0 }, 'EINVAL'],
    ['a range that overlaps its target', { mayMove: true, fixedAt: 0x5004 }, 'EINVAL'],
    ['growing over the end of the VMA', { pages: 9, newPages: 10 }, 'EFAULT'],
    ['a hole', { at: 0x9000 }, 'EFAULT'],
    ['duplicating private memory', { pages: 0, newPages: 8, mayMove: true }, 'EINVAL'],
  ])('refuses %s', (_what, request, errno) => {
    const lab = new Lab();
    lab.map({ at: 0x5000 });
    expect(move(lab, request)).toEqual({ errno });
  });

  it('duplicates shared memory when the old length is 0', () => {
    const lab = new Lab();
    make(lab, 'memfd_shared_rw_touched');
    const old = lab.vpn;
    expect(move(lab, { pages: 0, newPages: 8, mayMove: true })).toHaveProperty('vpn');
    expect(lab.vpn).not.toBe(old);
    expect(lab.read()).toBe('c');
  });

  it('never grows hugetlb memory, and refuses raw frames that would grow', () => {
    const lab = new Lab({ params: { hugePages: { 9: 1 } } });
    make(lab, 'hugetlb_2m');
    expect(move(lab, { newPages: 1024, mayMove: true })).toEqual({ errno: 'EINVAL' });
    lab.map({ pfnMapping: { name: 'bar', writable: true, eager: false, frameAt: () => undefined }, shared: true });
    expect(move(lab, { newPages: 16, mayMove: true })).toEqual({ errno: 'EFAULT' });
    expect(move(lab, { mayMove: true, dontUnmap: true })).toEqual({ errno: 'EINVAL' });
  });

  it('flushes the old address before it drops the page-table locks; without the fix after', () => {
    for (const without of [[], ['mremap.flush-before-unlock']]) {
      const lab = new Lab({ changes: { without } });
      make(lab, 'anon_rw_touched');
      const order: string[] = [];
      lab.world.sim.observer = {
        stepActed: (process) => {
          const { label } = process.acted.step;
          if (label.startsWith('move_ptes:unlock-old') || label.startsWith('flush_tlb_mm_range')) order.push(label);
        },
      };
      move(lab, { mayMove: true, fixedAt: 0x100000 });
      const flush = order.findIndex((label) => label.startsWith('flush'));
      const unlock = order.indexOf('move_ptes:unlock-old');
      expect(flush < unlock).toBe(without.length === 0);
    }
  });

  it('moves what mprotect made unreadable', () => {
    const lab = new Lab();
    make(lab, 'anon_rw_touched');
    const pfn = lab.pfn();
    lab.do(() => mprotect(lab.core, lab.vpn, 8, {}));
    move(lab, { mayMove: true, fixedAt: 0x100000 });
    lab.do(() => mprotect(lab.core, lab.vpn, 8, { read: true, write: true }));
    expect(lab.read()).toBe('c');
    expect(lab.pfn()).toBe(pfn);
  });
});
