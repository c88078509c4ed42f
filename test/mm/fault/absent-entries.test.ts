// Entries that map no page: what fork, mprotect, mremap and zap make of swap and migration entries (conformance rows 27,
// 28, 72 and 74 of reclaim and migration).
import { describe, expect, it } from 'vitest';
import { call } from '../../../src/engine/process.ts';
import { join } from '../../../src/engine/wait.ts';
import { madvise } from '../../../src/mm/madvise/madvise.ts';
import { munmap } from '../../../src/mm/mapping/mmap.ts';
import { mprotect } from '../../../src/mm/mapping/mprotect.ts';
import { mremap } from '../../../src/mm/mapping/mremap.ts';
import { mincore, pagemap } from '../../../src/mm/proc/pagemap.ts';
import { exit } from '../../../src/mm/process/exit.ts';
import { fork } from '../../../src/mm/process/fork.ts';
import { PTE_EXCLUSIVE, PTE_MIGRATION, PTE_SWAP, PTE_WRITE } from '../../../src/mm/pte.ts';
import { lruAddDrainAll } from '../../../src/mm/reclaim/lru.ts';
import { makeKind } from '../../support/kinds.ts';
import { Lab } from '../../support/lab.ts';

const entry = (lab: Lab, page = 0, mm = lab.mm) => mm.pageTable.peekPte(lab.vpn + page);

/** A page being migrated by somebody who has it locked: its entry is a migration entry of the given kind. */
function migrating(kind: number): Lab {
  const lab = new Lab();
  lab.map();
  lab.touchAll('c');
  lab.do(() => lruAddDrainAll(lab.core));
  const { pfn } = entry(lab);
  lab.world.sim.unwatched(() => {
    lab.mm.pageTable.setPte(lab.vpn, pfn, PTE_MIGRATION | kind, 0);
    lab.core.folios.removePteMapping(pfn, pfn);
    lab.core.folios.refcount.set(pfn, lab.refcount(pfn) - 1);
  });
  lab.f0 = pfn;
  return lab;
}

describe('a swapped-out page', () => {
  it('is shared by fork with a second reference of its slot, no longer exclusive', () => {
    const lab = makeKind('swapped_out');
    expect(entry(lab).bits & (PTE_SWAP | PTE_EXCLUSIVE)).toBe(PTE_SWAP | PTE_EXCLUSIVE);
    const slot = entry(lab).pfn;
    lab.do(function* () {
      const child = yield* call(fork(lab.core, {}, () => exit(lab.core)));
      if (!('task' in child)) throw new Error(child.errno);
      const mm = child.task.mm.peek()!;
      expect(entry(lab, 0, mm)).toMatchObject({ pfn: slot });
      expect((entry(lab).bits | entry(lab, 0, mm).bits) & PTE_EXCLUSIVE).toBe(0);
      expect(lab.core.swap.map.peek(slot)).toBe(2);
      yield join(lab.world.sim, child.process);
    });
    expect(lab.core.swap.map.peek(slot)).toBe(1);
    expect(lab.read()).toBe('c');
  });

  it.each(['DONTNEED', 'FREE'] as const)('is dropped by MADV_%s without being read back', (advice) => {
    const lab = makeKind('swapped_out');
    const used = lab.core.swap.usedSlots;
    const reads = lab.core.vmstat.peek('pswpin');
    expect(lab.do(() => madvise(lab.core, lab.vpn, lab.pages, advice))).toBe('ok');
    expect(lab.core.swap.usedSlots).toBe(used - lab.pages);
    expect(lab.core.vmstat.peek('pswpin')).toBe(reads);
    expect(lab.read()).toBe('zero');
  });

  it('gives its slot and its copy in the swap cache back on munmap', () => {
    const lab = makeKind('swapped_out');
    lab.do(() => madvise(lab.core, lab.vpn, lab.pages, 'WILLNEED'));
    const slot = entry(lab).pfn;
    const head = lab.core.swap.cache.peek(slot) - 1;
    expect(head).toBeGreaterThan(0);
    expect(pagemap(lab.core, lab.mm, lab.vpn).swapped).toBe(true);
    expect(lab.do(() => mincore(lab.core, lab.vpn, 1))).toEqual([true]);
    lab.do(() => munmap(lab.core, lab.vpn, lab.pages));
    expect(lab.core.swap.usedSlots).toBe(0);
    expect(lab.core.swap.cache.peek(slot)).toBe(0);
  });

  it('moves with mremap and comes back at its new place', () => {
    const lab = makeKind('swapped_out');
    const moved = lab.do(() =>
      mremap(lab.core, { at: lab.vpn, pages: 8, newPages: 8, mayMove: true, fixedAt: 0x100000 }),
    );
    expect(moved).toEqual({ vpn: 0x100000 });
    lab.vpn = 0x100000;
    expect(entry(lab).bits & PTE_SWAP).toBe(PTE_SWAP);
    expect(lab.read()).toBe('c');
  });
});

describe('a migration entry', () => {
  it('becomes readable and not exclusive in parent and child at fork', () => {
    const lab = migrating(PTE_WRITE);
    lab.do(function* () {
      const child = yield* call(fork(lab.core, {}, () => exit(lab.core)));
      if (!('task' in child)) throw new Error(child.errno);
      for (const mm of [lab.mm, child.task.mm.peek()!]) {
        expect(entry(lab, 0, mm)).toMatchObject({ pfn: lab.f0 });
        expect(entry(lab, 0, mm).bits & (PTE_MIGRATION | PTE_WRITE | PTE_EXCLUSIVE)).toBe(PTE_MIGRATION);
      }
    });
  });

  it('stays exclusive when mprotect takes the right to write', () => {
    const lab = migrating(PTE_WRITE);
    lab.do(() => mprotect(lab.core, lab.vpn, 8, { read: true }));
    expect(entry(lab).bits & (PTE_WRITE | PTE_EXCLUSIVE)).toBe(PTE_EXCLUSIVE);
  });

  it('is cleared by MADV_DONTNEED, which leaves the page to the migrator', () => {
    const lab = migrating(PTE_WRITE);
    const references = lab.refcount();
    lab.do(() => madvise(lab.core, lab.vpn, 1, 'DONTNEED'));
    expect(entry(lab).bits).toBe(0);
    expect(lab.refcount()).toBe(references);
  });
});
