import { describe, expect, it } from 'vitest';
import { mlock, munlock } from '../../../src/mm/mapping/mlock.ts';
import { mmap, munmap } from '../../../src/mm/mapping/mmap.ts';
import { PG_MLOCKED, PG_UNEVICTABLE } from '../../../src/mm/page-flags.ts';
import { lruAddDrainAll } from '../../../src/mm/reclaim/lru.ts';
import { Lab } from '../../support/lab.ts';
import { makeTask, makeWorld, type WorldOptions } from '../../support/world.ts';

/** A process of uid 1000 with room for 16 locked pages. */
function user(memlockPages = 16, options: WorldOptions = {}): Lab {
  const world = makeWorld({ cpus: 2, ...options });
  return new Lab({}, makeTask(world, 'user', { uid: 1000, memlockBytes: memlockPages * 4096 }), world);
}

const locked = (lab: Lab) => lab.mm.lockedVm.peek();

describe('mlock', () => {
  it('populates, charges and marks what it locks', () => {
    const lab = new Lab();
    lab.map();
    expect(lab.do(() => mlock(lab.core, lab.vpn, 8))).toBe('ok');
    expect(locked(lab)).toBe(8);
    expect(lab.pfn(7)).not.toBe(0);
    lab.do(() => lruAddDrainAll(lab.core));
    expect(lab.core.folios.has(lab.pfn(), PG_MLOCKED | PG_UNEVICTABLE)).toBe(true);
    expect(lab.do(() => munlock(lab.core, lab.vpn, 8))).toBe('ok');
    expect(locked(lab)).toBe(0);
    expect(lab.core.folios.flags.peek(lab.pfn()) & (PG_MLOCKED | PG_UNEVICTABLE)).toBe(0);
  });

  it('is refused with ENOMEM beyond RLIMIT_MEMLOCK, and fits exactly up to it', () => {
    const lab = user();
    lab.map({ pages: 17 });
    expect(lab.do(() => mlock(lab.core, lab.vpn, 17))).toBe('ENOMEM');
    expect(locked(lab)).toBe(0);
    expect(lab.do(() => mlock(lab.core, lab.vpn, 16))).toBe('ok');
    expect(lab.do(() => mlock(lab.core, lab.vpn + 16, 1))).toBe('ENOMEM');
  });

  it('does not count again what is locked already', () => {
    const lab = user();
    lab.map({ pages: 16 });
    lab.do(() => mlock(lab.core, lab.vpn, 12));
    expect(lab.do(() => mlock(lab.core, lab.vpn, 16))).toBe('ok');
    expect(locked(lab)).toBe(16);
  });

  it('is refused with EPERM when the limit is 0, unless CAP_IPC_LOCK', () => {
    const lab = user(0);
    lab.map();
    expect(lab.do(() => mlock(lab.core, lab.vpn, 1))).toBe('EPERM');
    lab.world.sim.unwatched(() => {
      lab.task.capabilities.value = ['CAP_IPC_LOCK'];
    });
    expect(lab.do(() => mlock(lab.core, lab.vpn, 8))).toBe('ok');
  });

  it('locks up to a hole and then says ENOMEM', () => {
    const lab = new Lab();
    lab.map();
    lab.do(() => munmap(lab.core, lab.vpn + 4, 1));
    expect(lab.do(() => mlock(lab.core, lab.vpn, 8))).toBe('ENOMEM');
    expect(locked(lab)).toBe(4);
  });

  it('is ENOMEM on PROT_NONE memory, which it cannot populate, and leaves it locked', () => {
    const lab = new Lab();
    lab.map({ read: false, write: false });
    expect(lab.do(() => mlock(lab.core, lab.vpn, 8))).toBe('ENOMEM');
    expect(locked(lab)).toBe(8);
  });

  it('locks on fault without populating', () => {
    const lab = new Lab();
    lab.map();
    expect(lab.do(() => mlock(lab.core, lab.vpn, 8, true))).toBe('ok');
    expect([locked(lab), lab.pfn()]).toEqual([8, 0]);
    lab.write('c');
    expect(lab.core.folios.has(lab.pfn(), PG_MLOCKED)).toBe(true);
  });

  it('passes over hugetlb memory', () => {
    const lab = user(16, { params: { hugePages: { 9: 1 } } });
    lab.map({ pages: 512, file: lab.inode({ kind: 'hugetlb', sizePages: 512, hugeOrder: 9 }) });
    expect(lab.do(() => mlock(lab.core, lab.vpn, 1))).toBe('ok');
    expect(locked(lab)).toBe(0);
  });

  it('gives its charge back on munmap', () => {
    const lab = new Lab();
    lab.map();
    lab.do(() => mlock(lab.core, lab.vpn, 8));
    lab.do(() => munmap(lab.core, lab.vpn + 2, 3));
    expect(locked(lab)).toBe(5);
  });
});

describe('mmap(MAP_LOCKED)', () => {
  it('is refused with EAGAIN over the limit and EPERM at limit 0', () => {
    const lab = user();
    const map = (pages: number) => lab.do(() => mmap(lab.core, { name: 'mem', pages, locked: true }));
    expect(map(17)).toEqual({ errno: 'EAGAIN' });
    expect(map(16)).toHaveProperty('vpn');
    expect(map(1)).toEqual({ errno: 'EAGAIN' });
    const none = user(0);
    expect(none.do(() => mmap(none.core, { name: 'mem', pages: 1, locked: true }))).toEqual({ errno: 'EPERM' });
  });

  it('locks memfd_secret always, and refuses it over the limit', () => {
    const lab = user();
    const file = lab.inode({ kind: 'secret', sizePages: 32 });
    const map = (pages: number) => lab.do(() => mmap(lab.core, { name: 'mem', pages, shared: true, file }));
    expect(map(17)).toEqual({ errno: 'EAGAIN' });
    expect(map(8)).toHaveProperty('vpn');
    expect(locked(lab)).toBe(8);
  });
});
