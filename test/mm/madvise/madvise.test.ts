import { describe, expect, it } from 'vitest';
import { call } from '../../../src/engine/process.ts';
import { type Advice, madvise } from '../../../src/mm/madvise/madvise.ts';
import { mlock } from '../../../src/mm/mapping/mlock.ts';
import { munmap } from '../../../src/mm/mapping/mmap.ts';
import { PG_LRU, PG_SWAPBACKED } from '../../../src/mm/page-flags.ts';
import { PTE_DIRTY } from '../../../src/mm/pte.ts';
import { lruAddDrainAll } from '../../../src/mm/reclaim/lru.ts';
import { Lab, RECORDED } from '../../support/lab.ts';
import { makeTask, makeWorld } from '../../support/world.ts';

function advise(lab: Lab, advice: Advice, pages = lab.pages, vpn = lab.vpn): string {
  return lab.do(() => madvise(lab.core, vpn, pages, advice));
}

/** Memory types of the recorded programs. */
function make(lab: Lab, type: string): void {
  if (type === 'anon_rw_touched') lab.map();
  else if (type === 'anon_mlocked') lab.map();
  else if (type === 'anon_thp') lab.map({ pages: 512 });
  else if (type === 'shared_anon') lab.map({ shared: true, file: lab.inode({ kind: 'shmem' }) });
  else if (type === 'memfd_shared_rw_touched') lab.map({ shared: true, file: lab.inode({ kind: 'shmem' }) });
  else if (type === 'memfd_private_rw_touched') lab.map({ file: lab.inode({ kind: 'shmem' }) });
  else if (type === 'ext4_shared_rw_touched') lab.map({ shared: true, file: lab.inode({ kind: 'file', fs: 'ext4' }) });
  else if (type === 'ext4_private_rw_touched') lab.map({ file: lab.inode({ kind: 'file', fs: 'ext4' }) });
  else if (type === 'hugetlb_2m') {
    lab.map({ pages: 512, file: lab.inode({ kind: 'hugetlb', sizePages: 512, hugeOrder: 9 }) });
  } else if (type === 'memfd_hugetlb') {
    lab.map({ pages: 512, shared: true, file: lab.inode({ kind: 'hugetlb', sizePages: 512, hugeOrder: 9 }) });
  } else throw new Error(type);
  if (type === 'anon_mlocked') lab.do(() => mlock(lab.core, lab.vpn, lab.pages));
  else if (type === 'anon_thp' || type.includes('huge')) lab.write('c');
  else if (type !== 'shared_anon') lab.touchAll('c');
}

interface Case {
  advice: Advice;
  type: string;
  result: string;
  /** same_pfn, present_after and old_page_mapcount before anything touches the memory again. */
  same: boolean;
  mapcount: number;
  kept: boolean;
  coherent: boolean;
  /** Only on this kernel could it be pinned at all. */
  only?: string;
}

const gone = { result: 'ok', same: false, mapcount: 0, kept: false, coherent: false };
const refault = { result: 'ok', same: false, mapcount: 0, kept: true, coherent: true };
const stays = { same: true, mapcount: 1, kept: true, coherent: true };

const CASES: readonly Case[] = [
  { advice: 'DONTNEED', type: 'anon_rw_touched', ...gone },
  { advice: 'DONTNEED', type: 'anon_thp', ...gone },
  { advice: 'DONTNEED', type: 'anon_mlocked', result: 'EINVAL', ...stays },
  { advice: 'DONTNEED', type: 'shared_anon', ...refault },
  { advice: 'DONTNEED', type: 'memfd_shared_rw_touched', ...refault },
  { advice: 'DONTNEED', type: 'memfd_private_rw_touched', ...gone },
  { advice: 'DONTNEED', type: 'hugetlb_2m', ...gone },
  { advice: 'DONTNEED', type: 'memfd_hugetlb', ...refault },
  { advice: 'DONTNEED', type: 'ext4_private_rw_touched', ...gone },
  { advice: 'DONTNEED', type: 'ext4_shared_rw_touched', ...refault, only: 'v6.1.192' },
  // The mlocked pages were never written: zero before and after, but not the same page.
  { advice: 'DONTNEED_LOCKED', type: 'anon_mlocked', ...gone, kept: true },
  { advice: 'FREE', type: 'anon_rw_touched', result: 'ok', ...stays },
  { advice: 'FREE', type: 'anon_thp', result: 'ok', ...stays },
  { advice: 'REMOVE', type: 'memfd_shared_rw_touched', ...gone },
  { advice: 'REMOVE', type: 'anon_rw_touched', result: 'EINVAL', ...stays },
  { advice: 'REMOVE', type: 'ext4_shared_rw_touched', ...gone, only: 'v6.1.192' },
  { advice: 'COLD', type: 'anon_rw_touched', result: 'ok', ...stays },
  { advice: 'PAGEOUT', type: 'anon_rw_touched', result: 'ok', ...stays },
  { advice: 'PAGEOUT', type: 'anon_mlocked', result: 'EINVAL', ...stays },
  { advice: 'PAGEOUT', type: 'memfd_private_rw_touched', result: 'ok', ...stays },
];

describe.each(RECORDED)('madvise on pinned memory, as recorded on %s', (kernel) => {
  it.each(CASES.filter((c) => c.only === undefined || c.only === kernel))('$advice of $type', (c) => {
    const lab = new Lab({ kernel, params: { hugePages: { 9: 3 } } });
    make(lab, c.type);
    expect(lab.pin()).toBe('ok');
    const before = lab.read();
    expect(advise(lab, c.advice)).toBe(c.result);
    expect(lab.pageState()).toMatchObject({ same_pfn: c.same, old_page_mapcount: c.mapcount });
    expect(lab.deviceRead()).toBe(before);
    expect(lab.read() === before).toBe(c.kept);
    const coherence = lab.coherence();
    expect(coherence).toEqual({
      dma_sees_new_cpu_write: c.coherent,
      cpu_sees_dma_write: c.coherent,
      coherent: c.coherent,
    });
    lab.unpin();
  });

  it('DONTNEED of the first 16 kB of a pinned THP splits its mapping and leaves the device behind', () => {
    const lab = new Lab({ kernel });
    make(lab, 'anon_thp');
    lab.pin();
    expect(advise(lab, 'DONTNEED', 4)).toBe('ok');
    expect(lab.pfn()).toBe(0);
    expect(lab.pfn(4)).toBe(lab.f0 + 4);
    expect(lab.core.folios.orderOf(lab.f0)).toBe(9);
    expect(lab.coherence()).toEqual({ dma_sees_new_cpu_write: false, cpu_sees_dma_write: false, coherent: false });
  });

  it('returns 0 for MADV_PAGEOUT of a pinned THP and keeps it', () => {
    const lab = new Lab({ kernel });
    make(lab, 'anon_thp');
    lab.pin();
    expect(advise(lab, 'PAGEOUT')).toBe('ok');
    expect(lab.pageState()).toEqual({ same_pfn: true, present_after: true, old_page_mapcount: 1 });
  });
});

describe('madvise', () => {
  it('advises what is mapped and reports the hole at the end', () => {
    const lab = new Lab();
    lab.map();
    lab.touchAll('c');
    lab.do(() => munmap(lab.core, lab.vpn + 3, 1));
    expect(advise(lab, 'DONTNEED')).toBe('ENOMEM');
    expect([2, 4].map((page) => lab.pfn(page))).toEqual([0, 0]);
  });

  it('cuts a hugetlb range to whole pages and refuses one that starts inside', () => {
    const lab = new Lab({ params: { hugePages: { 9: 2 } } });
    make(lab, 'hugetlb_2m');
    expect(advise(lab, 'DONTNEED', 8, lab.vpn + 1)).toBe('EINVAL');
    expect(advise(lab, 'DONTNEED', 8)).toBe('ok');
    expect(lab.pfn()).not.toBe(0);
  });

  it('makes anonymous pages lazyfree: clean, old, and without PG_swapbacked once drained', () => {
    const lab = new Lab();
    make(lab, 'anon_rw_touched');
    lab.do(() => lruAddDrainAll(lab.core));
    expect(advise(lab, 'FREE')).toBe('ok');
    expect(lab.mm.pageTable.peekPte(lab.vpn).bits & PTE_DIRTY).toBe(0);
    lab.do(() => lruAddDrainAll(lab.core));
    const flags = lab.core.folios.flags.peek(lab.pfn());
    expect(flags & (PG_LRU | PG_SWAPBACKED)).toBe(PG_LRU);
  });

  it('refuses MADV_FREE and MADV_WIPEONFORK for shared memory, and MADV_DOFORK for raw frames', () => {
    const lab = new Lab();
    make(lab, 'memfd_shared_rw_touched');
    expect(advise(lab, 'FREE')).toBe('EINVAL');
    expect(advise(lab, 'WIPEONFORK')).toBe('EINVAL');
    lab.map({ pfnMapping: { name: 'bar', writable: true, eager: false, frameAt: () => undefined }, shared: true });
    expect(advise(lab, 'DOFORK')).toBe('EINVAL');
    expect(advise(lab, 'DONTNEED')).toBe('EINVAL');
  });

  it('refuses MADV_REMOVE of a mapping through a read-only descriptor with EACCES', () => {
    const lab = new Lab();
    lab.map({ shared: true, write: false, readOnlyFd: true, file: lab.inode({ kind: 'shmem' }) });
    expect(advise(lab, 'REMOVE')).toBe('EACCES');
  });

  it('splits the VMA for advice on a part and merges it again when the advice is taken back', () => {
    const lab = new Lab();
    lab.map();
    expect(advise(lab, 'DONTFORK', 2, lab.vpn + 2)).toBe('ok');
    expect(lab.vmas.map((vma) => vma.fields.dontFork)).toEqual([false, true, false]);
    expect(advise(lab, 'DOFORK', 2, lab.vpn + 2)).toBe('ok');
    expect(lab.vmas.length).toBe(1);
  });

  it('populates for reading with the zero page and for writing with pages', () => {
    const lab = new Lab();
    lab.map();
    expect(advise(lab, 'POPULATE_READ')).toBe('ok');
    expect(lab.pfn()).toBe(lab.core.zeroPfn);
    expect(advise(lab, 'POPULATE_WRITE')).toBe('ok');
    expect(lab.pfn(7)).not.toBe(lab.core.zeroPfn);
    expect(advise(lab, 'POPULATE_WRITE', 16)).toBe('ENOMEM');
  });

  it('does not know MADV_DONTNEED_LOCKED and MADV_COLLAPSE before their releases', () => {
    const lab = new Lab({ kernel: 'v5.10' });
    lab.map();
    expect(advise(lab, 'DONTNEED_LOCKED')).toBe('EINVAL');
    expect(advise(lab, 'COLLAPSE')).toBe('EINVAL');
  });

  it('lets only CAP_SYS_ADMIN poison pages', () => {
    const world = makeWorld({ cpus: 2 });
    const lab = new Lab({}, makeTask(world, 'user', { uid: 1000 }), world);
    lab.map();
    expect(advise(lab, 'HWPOISON')).toBe('EPERM');
  });

  it('opens one notifier window per VMA around MADV_DONTNEED, closed before the flush', () => {
    const lab = new Lab();
    make(lab, 'anon_rw_touched');
    const events: string[] = [];
    lab.mm.notifiers.registerNow({
      name: 'secondary',
      *invalidateRangeStart(range) {
        events.push(`start ${range.event} ${range.start - lab.vpn}-${range.end - lab.vpn} ${lab.pfn() !== 0}`);
        return true;
      },
      *invalidateRangeEnd() {
        events.push(`end ${lab.pfn() !== 0}`);
      },
    });
    lab.world.sim.observer = {
      stepActed: (process) => {
        if (process.acted.step.label.startsWith('flush_tlb_mm_range') && !events.includes('flush')) {
          events.push('flush');
        }
      },
    };
    lab.do(function* () {
      yield* call(madvise(lab.core, lab.vpn, 8, 'DONTNEED'));
    });
    expect(events).toEqual(['start CLEAR 0-8 true', 'end false', 'flush']);
  });
});
