import { describe, expect, it } from 'vitest';
import { madvise } from '../../../src/mm/madvise/madvise.ts';
import { mlock } from '../../../src/mm/mapping/mlock.ts';
import { munmap } from '../../../src/mm/mapping/mmap.ts';
import { kpagecount, kpageflags, memoryStatus, mincore, pagemap } from '../../../src/mm/proc/pagemap.ts';
import { lruAddDrainAll } from '../../../src/mm/reclaim/lru.ts';
import { Lab } from '../../support/lab.ts';

describe('what /proc tells', () => {
  it('shows a pinned page of a munmapped area as before: anonymous, exclusive, unmapped', () => {
    const lab = new Lab({ kernel: 'v6.1.192' });
    lab.map();
    lab.touchAll('c');
    lab.pin();
    lab.do(() => lruAddDrainAll(lab.core));
    lab.do(() => munmap(lab.core, lab.vpn, 8));
    const flags = kpageflags(lab.core, lab.f0);
    for (const name of ['UPTODATE', 'LRU', 'ANON', 'SWAPBACKED', 'MAPPEDTODISK']) expect(flags).toContain(name);
    expect(flags).not.toContain('MMAP');
    expect(flags).not.toContain('KSM');
    expect(kpagecount(lab.core, lab.f0)).toBe(0);
  });

  it('reports KSM for every anonymous page on 6.12', () => {
    const lab = new Lab();
    lab.map();
    lab.touchAll('c');
    expect(kpageflags(lab.core, lab.pfn())).toContain('KSM');
  });

  it('tells the zero page, huge pages and their tails', () => {
    const lab = new Lab({ params: { hugePages: { 9: 1 } } });
    lab.map();
    lab.read();
    expect(kpageflags(lab.core, lab.pfn())).toEqual(expect.arrayContaining(['ZERO_PAGE', 'RESERVED']));
    lab.map({ pages: 512 });
    lab.write('c');
    expect(kpageflags(lab.core, lab.pfn())).toEqual(expect.arrayContaining(['HEAD', 'THP']));
    expect(kpageflags(lab.core, lab.pfn(3))).toContain('TAIL');
    lab.map({ pages: 512, file: lab.inode({ kind: 'hugetlb', sizePages: 512, hugeOrder: 9 }), name: 'huge' });
    lab.write('c');
    expect(kpageflags(lab.core, lab.pfn())).toEqual(expect.arrayContaining(['HEAD', 'HUGE']));
  });

  it('counts locked, resident and huge memory', () => {
    const lab = new Lab();
    lab.map();
    lab.do(() => mlock(lab.core, lab.vpn, 8));
    lab.map({ pages: 512, name: 'thp' });
    lab.write('c');
    lab.map({ shared: true, file: lab.inode({ kind: 'shmem' }) });
    lab.touchAll('c');
    expect(memoryStatus(lab.core, lab.mm)).toMatchObject({
      lockedKb: 32,
      residentKb: (8 + 512 + 8) * 4,
      anonKb: 520 * 4,
      fileKb: 32,
      anonHugeKb: 2048,
    });
  });

  it('shows present, frame and exclusiveness in pagemap', () => {
    const lab = new Lab();
    lab.map();
    lab.write('c');
    expect(pagemap(lab.core, lab.mm, lab.vpn)).toMatchObject({ present: true, pfn: lab.pfn(), exclusive: true });
    expect(pagemap(lab.core, lab.mm, lab.vpn + 1)).toMatchObject({ present: false, swapped: false, pfn: 0 });
  });

  it('mincore sees the page cache behind an unmapped page, and refuses holes', () => {
    const lab = new Lab();
    lab.map({ shared: true, file: lab.inode({ kind: 'shmem' }) });
    lab.write('c', 2);
    lab.do(() => madvise(lab.core, lab.vpn, 8, 'DONTNEED'));
    expect(lab.do(() => mincore(lab.core, lab.vpn, 4))).toEqual([false, false, true, false]);
    expect(lab.do(() => mincore(lab.core, lab.vpn + 4, 8))).toBe('ENOMEM');
  });
});
