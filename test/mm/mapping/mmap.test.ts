import { describe, expect, it } from 'vitest';
import { call } from '../../../src/engine/process.ts';
import { step } from '../../../src/engine/step.ts';
import { runTimed } from '../../../src/engine/timed.ts';
import { brk, mmap, munmap } from '../../../src/mm/mapping/mmap.ts';
import { Lab } from '../../support/lab.ts';
import { actor } from '../../support/world.ts';

describe('mmap', () => {
  it('places mappings top down and merges alike neighbours', () => {
    const lab = new Lab();
    const high = lab.map({ pages: 8 });
    const low = lab.map({ pages: 8 });
    expect(low).toBe(high - 8);
    expect(lab.vmas.length).toBe(1);
    lab.map({ pages: 8, name: 'other' });
    expect(lab.vmas.length).toBe(2);
  });

  it('takes a hint when it is free and ignores it when it is not', () => {
    const lab = new Lab();
    expect(lab.map({ at: 0x5000 })).toBe(0x5000);
    expect(lab.map({ at: 0x5004 })).not.toBe(0x5004);
  });

  it('replaces with MAP_FIXED, and refuses to with MAP_FIXED_NOREPLACE', () => {
    const lab = new Lab();
    const at = lab.map();
    lab.touchAll('c');
    const map = (options: object) => lab.do(() => mmap(lab.core, { name: 'new', pages: 4, at, ...options }));
    expect(map({ noReplace: true })).toEqual({ errno: 'EEXIST' });
    expect(map({ fixed: true })).toEqual({ vpn: at });
    expect([lab.read(0), lab.read(4)]).toEqual(['zero', 'c']);
  });

  it('leaves the device on the old page when memory is mapped over it', () => {
    const lab = new Lab();
    const at = lab.map({ pages: 512 });
    lab.write('c');
    lab.pin();
    lab.do(() => munmap(lab.core, at, 512));
    lab.map({ at, fixed: true });
    lab.write('n');
    expect(lab.pageState()).toMatchObject({ same_pfn: false, present_after: true, old_page_mapcount: 0 });
    expect(lab.deviceRead()).toBe('c');
    expect(lab.coherence()).toEqual({ dma_sees_new_cpu_write: false, cpu_sees_dma_write: false, coherent: false });
  });

  it('populates: private writable memory with its own pages, shared memory by reading', () => {
    const lab = new Lab();
    lab.map({ populate: true });
    expect(lab.pfn(7)).not.toBe(0);
    expect(lab.pfn(7)).not.toBe(lab.core.zeroPfn);
    lab.map({ populate: true, write: false, name: 'ro' });
    expect(lab.pfn(7)).toBe(lab.core.zeroPfn);
  });

  it('refuses nothing, too much, write through a read-only descriptor, and a sealed memfd', () => {
    const lab = new Lab();
    const file = lab.inode({ kind: 'shmem' });
    const sealed = lab.inode({ kind: 'shmem', name: 'sealed', seals: ['write'] });
    const map = (options: object) => lab.do(() => mmap(lab.core, { name: 'mem', pages: 8, ...options }));
    expect(map({ pages: 0 })).toEqual({ errno: 'EINVAL' });
    expect(map({ pages: 2 ** 36 })).toEqual({ errno: 'ENOMEM' });
    expect(map({ fixed: true, at: 2 ** 35 })).toEqual({ errno: 'ENOMEM' });
    expect(map({ file, shared: true, readOnlyFd: true })).toEqual({ errno: 'EACCES' });
    expect(map({ file, readOnlyFd: true })).toHaveProperty('vpn');
    expect(map({ file: sealed, shared: true })).toEqual({ errno: 'EPERM' });
    expect(map({ file: sealed, shared: true, write: false })).toHaveProperty('vpn');
    expect(map({ file: sealed })).toHaveProperty('vpn');
  });

  it('aligns hugetlb memory and refuses odd lengths', () => {
    const lab = new Lab({ params: { hugePages: { 9: 1 } } });
    const file = lab.inode({ kind: 'hugetlb', sizePages: 512, hugeOrder: 9 });
    lab.map();
    expect(lab.map({ file, pages: 512 }) % 512).toBe(0);
    expect(lab.do(() => mmap(lab.core, { name: 'mem', file, pages: 8 }))).toEqual({ errno: 'EINVAL' });
    expect(lab.do(() => munmap(lab.core, lab.vpn, 8))).toBe('EINVAL');
  });

  it('maps the frames of a driver at once when they are eager, as they are now', () => {
    const lab = new Lab();
    const frameAt = (offset: number) => (offset === 3 ? undefined : 700 + offset);
    lab.map({ pfnMapping: { name: 'vvar', writable: false, eager: true, frameAt } });
    expect([lab.pfn(0), lab.pfn(3), lab.pfn(7)]).toEqual([700, 0, 707]);
  });

  it('gives up when the task is killed while it waits for mmap_lock', () => {
    const lab = new Lab();
    lab.world.sim.unwatched(() => {
      lab.task.killed.value = true;
    });
    const { sim } = lab.world;
    let result = '';
    actor(lab.world, lab.task, 'holder', function* () {
      yield* call(lab.mm.mmapLock.read());
      yield sim.sleep(1_000_000, step('hold', 'none'));
      expect(result).toBe('EINTR');
      yield lab.mm.mmapLock.up();
    });
    actor(lab.world, lab.task, 'unmapper', function* () {
      yield sim.sleep(1_000, step('later', 'none'));
      result = yield* call(munmap(lab.core, 16, 1));
    });
    expect(runTimed(sim).end).toBe('done');
    expect(result).toBe('EINTR');
  });

  it('grows and shrinks the heap', () => {
    const lab = new Lab();
    const steps = lab.do(function* () {
      const grown = yield* call(brk(lab.core, 0x1000, 0, 16));
      const shrunk = yield* call(brk(lab.core, 0x1000, 16, 4));
      return [grown, shrunk];
    });
    expect(steps).toEqual([16, 4]);
    expect(lab.vmas.map((vma) => vma.pages)).toEqual([4]);
  });
});
