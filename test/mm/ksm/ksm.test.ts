import { describe, expect, it } from 'vitest';
import { call } from '../../../src/engine/process.ts';
import { cpuAccess } from '../../../src/mm/fault/access.ts';
import { Ksm } from '../../../src/mm/ksm/ksm.ts';
import { migratePages } from '../../../src/mm/migrate/migrate.ts';
import { PG_KSM } from '../../../src/mm/page-flags.ts';
import { PTE_SWAP, PTE_WRITE } from '../../../src/mm/pte.ts';
import { folioIsolateLru, lruAddDrainAll } from '../../../src/mm/reclaim/lru.ts';
import { reclaimPages } from '../../../src/mm/reclaim/reclaim.ts';
import { anonArea, anonPage, getByHand, hugePage, mmOf, pinByHand } from '../../support/pages.ts';
import { tokenOf } from '../../support/tokens.ts';
import { makeTask, makeWorld, run } from '../../support/world.ts';

const KERNELS = ['v6.1.192', 'v6.12.117'] as const;

/** As the recorded case: two areas of eight pages with the same contents. */
function ksmWorld(kernel: string) {
  const world = makeWorld({ kernel, params: { swapSlots: 64 } });
  const task = makeTask(world, 'a');
  const mm = mmOf(task);
  const [one, two] = [1000, 2000].map((at) => anonArea(world, task, at, 8, { mergeable: true }));
  const pages = [one!, two!].flatMap((vma) =>
    Array.from({ length: 8 }, (_, i) => anonPage(world, task, vma, vma.start + i, { content: 'K' })),
  );
  const ksm = new Ksm(world.core);
  ksm.mms.value = [mm];
  const scan = () => run(world, task, () => ksm.scan());
  return { world, task, mm, pages, ksm, scan, folios: world.core.folios };
}

describe.each(KERNELS)('KSM on %s', (kernel) => {
  it('merges identical pages in the second pass: 15 of 16 share (recorded: ksm/control)', () => {
    const { mm, ksm, scan, folios } = ksmWorld(kernel);
    expect(scan()).toBe(0);
    scan();
    expect(ksm.pagesSharing).toBe(15);
    const first = mm.pageTable.peekPte(1000);
    for (const vpn of [1001, 1007, 2000, 2007]) expect(mm.pageTable.peekPte(vpn).pfn).toBe(first.pfn);
    expect(first.bits & PTE_WRITE).toBe(0);
    expect(folios.has(first.pfn, PG_KSM)).toBe(true);
    expect(folios.mapcount.peek(first.pfn)).toBe(16);
    expect(folios.refcount.peek(first.pfn)).toBe(16);
  });

  it.each(['pin', 'get'] as const)('leaves a page with a %s alone, writable and exclusive as it was (R70)', (how) => {
    const { world, mm, pages, ksm, scan, folios } = ksmWorld(kernel);
    const held = pages[15]!;
    if (how === 'pin') pinByHand(world.core, held);
    else getByHand(world.core, held);
    const before = mm.pageTable.peekPte(2007);
    let windows = 0;
    mm.notifiers.registerNow({
      name: 'witness',
      *invalidateRangeStart(range) {
        if (range.start === 2007) windows++;
        return true;
      },
    });
    scan();
    scan();
    expect(mm.pageTable.peekPte(2007)).toEqual(before);
    expect(folios.anonExclusive.peek(held)).toBe(1);
    expect(ksm.pagesSharing).toBe(14);
    expect(windows).toBeGreaterThan(0);
  });

  it('merges nothing while the page that comes first in the unstable tree is pinned', () => {
    const { world, pages, ksm, scan } = ksmWorld(kernel);
    pinByHand(world.core, pages[0]!);
    for (let i = 0; i < 3; i++) scan();
    expect(ksm.pagesSharing).toBe(0);
  });

  it('does not merge what changes between the passes, and a write takes its own copy of a merged page', () => {
    const { world, task, mm, ksm, scan } = ksmWorld(kernel);
    scan();
    run(world, task, () => cpuAccess(world.core, 1003, { token: tokenOf('new') }));
    scan();
    expect(ksm.pagesSharing).toBe(14);
    const shared = mm.pageTable.peekPte(1000).pfn;
    run(world, task, () => cpuAccess(world.core, 1000, { token: tokenOf('mine') }));
    expect(mm.pageTable.peekPte(1000).pfn).not.toBe(shared);
    expect(run(world, task, () => cpuAccess(world.core, 1001, null))).toEqual({ token: tokenOf('K') });
  });

  it('gives every address its own page again when the area is unmerged', () => {
    const { world, task, mm, ksm, scan, folios } = ksmWorld(kernel);
    scan();
    scan();
    const result = run(world, task, function* () {
      yield* call(mm.mmapLock.read());
      const done = yield* call(ksm.unmerge(mm, 1000, 1008));
      yield mm.mmapLock.up();
      return done;
    });
    expect(result).toBe('ok');
    const pfns = Array.from({ length: 8 }, (_, i) => mm.pageTable.peekPte(1000 + i).pfn);
    expect(new Set(pfns).size).toBe(8);
    expect(pfns.some((pfn) => folios.has(pfn, PG_KSM))).toBe(false);
  });

  it('finds every mapping of a merged page for migration and swap-out', () => {
    const { world, task, mm, scan, folios } = ksmWorld(kernel);
    scan();
    scan();
    const { core } = world;
    const before = mm.pageTable.peekPte(1000).pfn;
    const moved = run(world, task, function* () {
      yield* call(folioIsolateLru(core, before));
      return yield* call(
        migratePages(core, [before], { mode: 'sync', reason: 'syscall', target: { movable: true, zero: false } }),
      );
    });
    expect(moved.failed).toEqual([]);
    const after = mm.pageTable.peekPte(1000).pfn;
    expect(after).not.toBe(before);
    expect(mm.pageTable.peekPte(2007).pfn).toBe(after);
    expect(folios.mapcount.peek(after)).toBe(16);
    // Before 6.9 reclaim_pages keeps a page with a referenced bit once, and clears the bit.
    for (let turn = 0; turn < 2 && (mm.pageTable.peekPte(1000).bits & PTE_SWAP) === 0; turn++) {
      run(world, task, function* () {
        yield* call(lruAddDrainAll(core));
        yield* call(folioIsolateLru(core, after));
        return yield* call(reclaimPages(core, [after]));
      });
    }
    expect(mm.pageTable.peekPte(1000).bits & PTE_SWAP).toBe(PTE_SWAP);
    expect(mm.pageTable.peekPte(2007).pfn).toBe(mm.pageTable.peekPte(1000).pfn);
  });

  it('splits a THP to merge a page of it, and cannot when the THP is pinned', () => {
    for (const pinned of [false, true]) {
      const world = makeWorld({ kernel });
      const task = makeTask(world, 'a');
      const mm = mmOf(task);
      const head = hugePage(world, task, anonArea(world, task, 1024, 512, { mergeable: true }), 1024, { content: 'K' });
      if (pinned) pinByHand(world.core, head);
      const ksm = new Ksm(world.core);
      ksm.mms.value = [mm];
      for (let i = 0; i < 3; i++) run(world, task, () => ksm.scan());
      expect(ksm.pagesSharing).toBe(pinned ? 0 : 511);
      expect(world.core.folios.orderOf(head)).toBe(pinned ? 9 : 0);
    }
  });
});
