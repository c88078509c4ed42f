import { describe, expect, it } from 'vitest';
import { call } from '../../../src/engine/process.ts';
import { join } from '../../../src/engine/wait.ts';
import { mlock } from '../../../src/mm/mapping/mlock.ts';
import { munmap } from '../../../src/mm/mapping/mmap.ts';
import { mprotect, type Protection } from '../../../src/mm/mapping/mprotect.ts';
import { exit } from '../../../src/mm/process/exit.ts';
import { fork } from '../../../src/mm/process/fork.ts';
import { PTE_WRITE } from '../../../src/mm/pte.ts';
import { Lab, RECORDED } from '../../support/lab.ts';

const RW = { read: true, write: true };
const RO = { read: true };

function protect(lab: Lab, protection: Protection, pages = lab.pages, vpn = lab.vpn): string {
  return lab.do(() => mprotect(lab.core, vpn, pages, protection));
}

function writable(lab: Lab, page = 0): boolean {
  return (lab.mm.pageTable.peekLeaf(lab.vpn + page).pte.bits & PTE_WRITE) !== 0;
}

describe.each(RECORDED)('mprotect of pinned memory on %s', (kernel) => {
  it.each(['anon_rw_touched', 'anon_thp', 'hugetlb_2m', 'memfd_shared_rw_touched'])(
    'PROT_NONE does not stop the device, and %s is the same page afterwards',
    (type) => {
      const lab = new Lab({ kernel, params: { hugePages: { 9: 2 } } });
      const huge = type === 'anon_thp' || type === 'hugetlb_2m';
      const file = type.startsWith('memfd')
        ? { shared: true, file: lab.inode({ kind: 'shmem' }) }
        : type === 'hugetlb_2m'
          ? { file: lab.inode({ kind: 'hugetlb', sizePages: 512, hugeOrder: 9 }) }
          : {};
      lab.map({ pages: huge ? 512 : 8, ...file });
      lab.write('c');
      lab.pin(true, 8);
      expect(protect(lab, {})).toBe('ok');
      expect(lab.read()).toBe('SIGSEGV');
      lab.deviceWrite('D');
      expect(protect(lab, RW)).toBe('ok');
      expect(lab.read()).toBe('D');
      expect(lab.pageState()).toEqual({ same_pfn: true, present_after: true, old_page_mapcount: 1 });
      expect(lab.coherence()).toEqual({ dma_sees_new_cpu_write: true, cpu_sees_dma_write: true, coherent: true });
    },
  );

  it('PROT_READ of a pinned hugetlb page and back keeps page and pin together', () => {
    const lab = new Lab({ kernel, params: { hugePages: { 9: 2 } } });
    lab.map({ pages: 512, file: lab.inode({ kind: 'hugetlb', sizePages: 512, hugeOrder: 9 }) });
    lab.write('c');
    lab.pin(true, 8);
    expect(protect(lab, RO)).toBe('ok');
    expect(lab.write('x')).toBe('SIGSEGV');
    expect(lab.coherence(false)).toEqual({ cpu_sees_dma_write: true, coherent: true });
    expect(protect(lab, RW)).toBe('ok');
    lab.write('M');
    expect(lab.deviceRead()).toBe('M');
  });

  it('a part of a pinned THP splits the mapping, not the folio', () => {
    const lab = new Lab({ kernel });
    lab.map({ pages: 512 });
    lab.write('c');
    lab.pin();
    expect(protect(lab, RO, 256, lab.vpn + 256)).toBe('ok');
    expect(lab.core.folios.orderOf(lab.f0)).toBe(9);
    expect([writable(lab, 0), writable(lab, 300)]).toEqual([true, false]);
    expect(lab.coherence()).toEqual({ dma_sees_new_cpu_write: true, cpu_sees_dma_write: true, coherent: true });
  });
});

describe('mprotect', () => {
  it('maps exclusive anonymous pages writable again without a fault', () => {
    const lab = new Lab();
    lab.map();
    lab.touchAll('c');
    protect(lab, RO);
    expect(writable(lab)).toBe(false);
    protect(lab, RW);
    expect(writable(lab)).toBe(true);
  });

  it('leaves that to the write fault before 6.0, which keeps the exclusive page', () => {
    const lab = new Lab({ changes: { without: ['mprotect.restores-exclusive-write'] } });
    lab.map();
    lab.touchAll('c');
    lab.pin();
    protect(lab, RO);
    protect(lab, RW);
    expect(writable(lab)).toBe(false);
    lab.write('x');
    expect(lab.deviceRead()).toBe('x');
  });

  it('does not make a page writable that a child shares', () => {
    const lab = new Lab();
    lab.map();
    lab.touchAll('c');
    lab.do(function* () {
      const child = yield* call(fork(lab.core, {}, () => exit(lab.core)));
      if ('process' in child) yield join(lab.world.sim, child.process);
      yield* call(mprotect(lab.core, lab.vpn, 8, RO));
      yield* call(mprotect(lab.core, lab.vpn, 8, RW));
    });
    expect(writable(lab)).toBe(false);
  });

  it('maps shared memory writable at once, and a file page only if it was dirty', () => {
    const lab = new Lab();
    lab.map({ shared: true, file: lab.inode({ kind: 'file', fs: 'ext4' }) });
    lab.read(0);
    lab.write('x', 1);
    protect(lab, RO);
    protect(lab, RW);
    expect([writable(lab, 0), writable(lab, 1)]).toEqual([false, true]);
  });

  it('refuses rights that the mapping may not have, after changing the VMAs before it', () => {
    const lab = new Lab();
    lab.map({ write: false });
    const first = lab.vpn;
    lab.map({ at: first + 8, shared: true, write: false, readOnlyFd: true, file: lab.inode({ kind: 'shmem' }) });
    expect(lab.vpn).toBe(first + 8);
    expect(protect(lab, RW, 16, first)).toBe('EACCES');
    expect(lab.vma(first).fields.write).toBe(true);
  });

  it('refuses holes, at the start with nothing changed and later with what came before changed', () => {
    const lab = new Lab();
    lab.map();
    expect(protect(lab, RO, 8, lab.vpn - 4)).toBe('ENOMEM');
    expect(lab.vma().fields.write).toBe(true);
    lab.do(() => munmap(lab.core, lab.vpn + 4, 1));
    expect(protect(lab, RO)).toBe('ENOMEM');
    expect([lab.vma().fields.write, lab.vma(lab.vpn + 5).fields.write]).toEqual([false, true]);
    expect(protect(lab, RO, 0)).toBe('ok');
  });

  it('splits and merges VMAs', () => {
    const lab = new Lab();
    lab.map();
    protect(lab, RO, 2, lab.vpn + 3);
    expect(lab.vmas.length).toBe(3);
    protect(lab, RW, 2, lab.vpn + 3);
    expect(lab.vmas.length).toBe(1);
  });

  it('gives a private locked VMA that becomes writable its own pages', () => {
    const lab = new Lab();
    lab.map({ write: false });
    lab.do(() => mlock(lab.core, lab.vpn, 8));
    expect(lab.pfn()).toBe(lab.core.zeroPfn);
    protect(lab, RW);
    expect(lab.pfn()).not.toBe(lab.core.zeroPfn);
  });

  it.each(['v6.1.192', 'v6.12.117'])('opens its window at the first populated entry (%s)', (kernel) => {
    const lab = new Lab({ kernel });
    lab.map({ pages: 1024 + 8 });
    const start = Math.ceil(lab.vpn / 512) * 512;
    lab.world.sim.unwatched(() => lab.mm.vmas.set(lab.vpn, lab.vma().with({ hugepage: 'never' })));
    for (let i = 0; i < 8; i++) lab.write('c', start - lab.vpn + i);
    const seen: string[] = [];
    lab.mm.notifiers.registerNow({
      name: 'secondary',
      *invalidateRangeStart(range) {
        seen.push(`${range.start - start}-${range.end - start}`);
        return true;
      },
    });
    // The first is that of the border (vma_adjust_trans_huge), which a huge page might lie across.
    protect(lab, RO, 8, start);
    expect(seen).toEqual(['0-512', '0-8']);
    protect(lab, RW, 8, start + 512);
    expect(seen).toEqual(['0-512', '0-8']);
  });
});
