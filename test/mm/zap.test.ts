import { describe, expect, it } from 'vitest';
import { call } from '../../src/engine/process.ts';
import { runTimed } from '../../src/engine/timed.ts';
import { lruAddDrainAll } from '../../src/mm/lru.ts';
import { madviseDontneed } from '../../src/mm/madvise-zap.ts';
import { munmap } from '../../src/mm/mmap.ts';
import { pmdOf } from '../../src/mm/page-table.ts';
import { PMD_TABLE } from '../../src/mm/pte.ts';
import { Lab, RECORDED } from '../support/lab.ts';
import { actor } from '../support/world.ts';

function dontneed(lab: Lab, from = lab.vpn, pages = lab.pages): string {
  return lab.do(() => madviseDontneed(lab.core, lab.mm, lab.vma(from), from, from + pages, false));
}

describe.each(RECORDED)('MADV_DONTNEED on %s', (kernel) => {
  it('leaves the device on the old page of anonymous memory, and gives the CPU a new one', () => {
    const lab = new Lab({ kernel });
    lab.map();
    lab.touchAll('c');
    lab.pin();
    expect(dontneed(lab)).toBe('ok');
    expect(lab.pageState()).toEqual({ same_pfn: false, present_after: false, old_page_mapcount: 0 });
    expect(lab.deviceRead()).toBe('c');
    expect(lab.read()).toBe('zero');
    expect(lab.coherence()).toEqual({ dma_sees_new_cpu_write: false, cpu_sees_dma_write: false, coherent: false });
    lab.do(() => lruAddDrainAll(lab.core));
    expect(lab.refcount()).toBe(1024);
    lab.unpin();
    expect(lab.freed).toBe(true);
  });

  it('keeps device and CPU together on shared memory', () => {
    const lab = new Lab({ kernel });
    lab.map({ shared: true, file: lab.inode({ kind: 'shmem' }) });
    lab.touchAll('c');
    lab.pin();
    expect(dontneed(lab)).toBe('ok');
    expect(lab.pageState()).toEqual({ same_pfn: false, present_after: false, old_page_mapcount: 0 });
    expect(lab.read()).toBe('c');
    expect(lab.coherence()).toEqual({ dma_sees_new_cpu_write: true, cpu_sees_dma_write: true, coherent: true });
    lab.unpin();
    expect(lab.freed).toBe(false);
  });

  it('returns a private file mapping to the file, away from the pinned copy', () => {
    const lab = new Lab({ kernel });
    lab.map({ file: lab.inode({ kind: 'shmem' }) });
    lab.touchAll('c');
    lab.pin();
    expect(dontneed(lab)).toBe('ok');
    expect(lab.read()).toBe('zero');
    expect(lab.coherence()).toEqual({ dma_sees_new_cpu_write: false, cpu_sees_dma_write: false, coherent: false });
    lab.do(() => lruAddDrainAll(lab.core));
    lab.unpin();
    expect(lab.freed).toBe(true);
  });
});

describe('munmap', () => {
  it('frees what nobody else holds, with the page table', () => {
    const lab = new Lab();
    lab.map();
    lab.touchAll('c');
    lab.do(() => lruAddDrainAll(lab.core));
    const pfns = Array.from({ length: 8 }, (_, i) => lab.pfn(i));
    expect(lab.do(() => munmap(lab.core, lab.vpn, 8))).toBe('ok');
    expect(pfns.map((pfn) => lab.refcount(pfn))).toEqual(Array(8).fill(0));
    expect(lab.mm.pageTable.peekPmd(pmdOf(lab.vpn)).bits & PMD_TABLE).toBe(0);
    expect(lab.vmas).toEqual([]);
    expect(lab.read()).toBe('SIGSEGV');
  });

  it('keeps the table and the neighbours of a hole', () => {
    const lab = new Lab();
    lab.map();
    lab.touchAll('c');
    expect(lab.do(() => munmap(lab.core, lab.vpn + 2, 3))).toBe('ok');
    expect(lab.vmas.map((vma) => [vma.start - lab.vpn, vma.end - lab.vpn])).toEqual([
      [0, 2],
      [5, 8],
    ]);
    expect([1, 2, 4, 5].map((page) => lab.read(page))).toEqual(['c', 'SIGSEGV', 'SIGSEGV', 'c']);
  });

  it('leaves a pinned page to its pin', () => {
    const lab = new Lab();
    lab.map();
    lab.touchAll('c');
    lab.do(() => lruAddDrainAll(lab.core));
    lab.pin();
    lab.do(() => munmap(lab.core, lab.vpn, 8));
    expect(lab.refcount()).toBe(1024);
    expect(lab.deviceRead()).toBe('c');
    lab.unpin();
    expect(lab.freed).toBe(true);
  });

  it('refuses nothing and the beyond', () => {
    const lab = new Lab();
    expect(lab.do(() => munmap(lab.core, 16, 0))).toBe('EINVAL');
    expect(lab.do(() => munmap(lab.core, 2 ** 35, 1))).toBe('EINVAL');
    expect(lab.do(() => munmap(lab.core, 16, 1))).toBe('ok');
  });

  it('drops no page before every CPU of the address space has flushed', () => {
    const lab = new Lab();
    lab.map();
    lab.touchAll('c');
    lab.do(() => lruAddDrainAll(lab.core));
    const pfn = lab.pfn();
    const order: string[] = [];
    const { sim, core } = lab.world;
    sim.observer = {
      stepActed: (process) => {
        if (core.folios.refcount.peek(pfn) === 0 && !order.includes('free')) order.push('free');
        if (lab.mm.pageTable.peekFrame(lab.vpn) === 0 && !order.includes('clear')) order.push('clear');
        if (process.acted.step.label.startsWith('flush_tlb_mm_range')) order.push('flush');
      },
    };
    actor(lab.world, lab.task, 'other', function* () {
      yield sim.local({ label: 'idle', latency: 'none', latencyIndex: 0 });
    });
    actor(lab.world, lab.task, 'unmapper', function* () {
      yield* call(munmap(core, lab.vpn, 8));
    });
    expect(runTimed(sim).end).toBe('done');
    expect(order).toEqual(['clear', 'flush', 'flush', 'free']);
  });
});
