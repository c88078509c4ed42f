import { describe, expect, it } from 'vitest';
import { call } from '../../../src/engine/process.ts';
import { step } from '../../../src/engine/step.ts';
import { runTimed } from '../../../src/engine/timed.ts';
import { madvise } from '../../../src/mm/madvise/madvise.ts';
import { madviseDontneed } from '../../../src/mm/madvise/madvise-zap.ts';
import { munmap } from '../../../src/mm/mapping/mmap.ts';
import { pmdOf } from '../../../src/mm/page-table.ts';
import { PMD_TABLE } from '../../../src/mm/pte.ts';
import { lruAddDrainAll } from '../../../src/mm/reclaim/lru.ts';
import { Lab, RECORDED } from '../../support/lab.ts';
import { actor } from '../../support/world.ts';

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
      yield sim.local(step('idle', 'none'));
    });
    actor(lab.world, lab.task, 'unmapper', function* () {
      yield* call(munmap(core, lab.vpn, 8));
    });
    expect(runTimed(sim).end).toBe('done');
    expect(order).toEqual(['clear', 'flush', 'flush', 'free']);
  });
});

describe('the gather', () => {
  const order = (options: ConstructorParameters<typeof Lab>[0]) => {
    const lab = new Lab(options);
    lab.map();
    lab.touchAll('c');
    lab.do(() => lruAddDrainAll(lab.core));
    const pfn = lab.pfn();
    const events: string[] = [];
    lab.mm.notifiers.registerNow({
      name: 'secondary',
      *invalidateRangeStart() {
        events.push('start');
        return true;
      },
      *invalidateRangeEnd() {
        events.push(lab.refcount(pfn) === 0 ? 'end after free' : 'end before free');
      },
    });
    dontneed(lab);
    expect(lab.refcount(pfn)).toBe(0);
    return events;
  };

  it('frees after the notifier window on x86', () => {
    expect(order({})).toEqual(['start', 'end before free']);
  });

  it('frees inside the window on s390, where the entry is flushed by the instruction that clears it', () => {
    expect(order({ kernel: 'v6.12+s390x', arch: 's390x' })).toEqual(['start', 'end after free']);
  });

  it('flushes and frees inside the window when it holds a batch of pages, or dirty file pages', () => {
    const lab = new Lab({
      params: { stepPages: 512, thp: 'never' },
      zones: [{ kind: 'NORMAL', node: 0, pages: 32768 }],
      sim: { checked: false, journaled: false, digested: false },
    });
    lab.map({ pages: 12288 });
    lab.do(() => madvise(lab.core, lab.vpn, 12288, 'POPULATE_WRITE'));
    lab.do(() => lruAddDrainAll(lab.core));
    const [first, last] = [lab.pfn(0), lab.pfn(12287)];
    let seen: number[] = [];
    lab.mm.notifiers.registerNow({
      name: 'secondary',
      *invalidateRangeEnd() {
        seen = [lab.refcount(first), lab.refcount(last)];
      },
    });
    dontneed(lab);
    expect(seen).toEqual([0, 1]);
    const shared = new Lab();
    shared.map({ shared: true, file: shared.inode({ kind: 'shmem' }) });
    shared.touchAll('c');
    shared.do(() => lruAddDrainAll(shared.core));
    const page = shared.pfn();
    let mapped = 9;
    shared.mm.notifiers.registerNow({
      name: 'secondary',
      *invalidateRangeEnd() {
        mapped = shared.refcount(page);
      },
    });
    dontneed(shared);
    expect(mapped).toBe(1);
  });
});
