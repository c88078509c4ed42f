import { describe, expect, it } from 'vitest';
import { call, type Steps } from '../../../src/engine/process.ts';
import { step } from '../../../src/engine/step.ts';
import type { Errno } from '../../../src/mm/errno.ts';
import { cpuAccess } from '../../../src/mm/fault/access.ts';
import { tryLockNow, unlockNow, willTryLock, willUnlock } from '../../../src/mm/folio-lock.ts';
import { mlock } from '../../../src/mm/mapping/mlock.ts';
import type { Vma } from '../../../src/mm/mapping/vma.ts';
import type { Mm } from '../../../src/mm/mm.ts';
import { PG_PARTIALLY_MAPPED } from '../../../src/mm/page-flags.ts';
import type { Task } from '../../../src/mm/process/task.ts';
import { PMD_LEAF, PMD_TABLE, PTE_PRESENT, PTE_SPECIAL, PTE_WRITE } from '../../../src/mm/pte.ts';
import { folioIsolateLru, lruAddDrainAll } from '../../../src/mm/reclaim/lru.ts';
import { reclaimPages } from '../../../src/mm/reclaim/reclaim.ts';
import { khugepagedScanMm, madviseCollapse } from '../../../src/mm/thp/collapse.ts';
import { splitHugePmd } from '../../../src/mm/thp/huge-pmd.ts';
import { deferredSplit, type SplitResult, splitFolio } from '../../../src/mm/thp/split-folio.ts';
import {
  anonArea,
  anonPage,
  cachedPage,
  getByHand,
  hugePage,
  makeInode,
  mmOf,
  pinByHand,
  sharedArea,
} from '../../support/pages.ts';
import { tokenOf } from '../../support/tokens.ts';
import { makeTask, makeWorld, run, type TestWorld } from '../../support/world.ts';

const KERNELS = ['v6.1.192', 'v6.12.117'] as const;
const LOCK = step('test:folio_lock', 'none');

/** What debugfs split_huge_pages does with one folio. */
function* split(world: TestWorld, head: number): Steps<SplitResult> {
  const { core } = world;
  core.folios.refcount.willUpdate(head, LOCK);
  yield willTryLock(core, head, LOCK);
  core.folios.refcount.set(head, core.folios.refcount.get(head) + 1);
  tryLockNow(core, head);
  const result = yield* call(splitFolio(core, head));
  core.folios.refcount.willUpdate(head, LOCK);
  yield willUnlock(core, head, LOCK);
  unlockNow(core, head);
  core.folios.refcount.set(head, core.folios.refcount.get(head) - 1);
  return result;
}

function thpWorld(kernel: string) {
  const world = makeWorld({ kernel });
  const task = makeTask(world, 'a');
  const vma = anonArea(world, task, 1024, 1024);
  return { world, task, vma, mm: mmOf(task), folios: world.core.folios };
}

describe.each(KERNELS)('splitting a THP on %s', (kernel) => {
  it('splits a free one into 512 exclusive pages with their contents (recorded: thp_debugfs_split)', () => {
    const { world, task, vma, mm, folios } = thpWorld(kernel);
    const head = hugePage(world, task, vma, 1024, { content: 'T' });
    expect(run(world, task, () => split(world, head))).toBe('ok');
    for (const i of [0, 1, 511]) {
      const pte = mm.pageTable.peekPte(1024 + i);
      expect(pte.pfn).toBe(head + i);
      expect(pte.bits & (PTE_PRESENT | PTE_WRITE)).toBe(PTE_PRESENT | PTE_WRITE);
      expect(folios.orderOf(head + i)).toBe(0);
      expect(folios.refcount.peek(head + i)).toBe(1);
      expect(folios.mapcount.peek(head + i)).toBe(1);
      expect(folios.anonExclusive.peek(head + i)).toBe(1);
      expect(folios.headOf(head + i)).toBe(head + i);
    }
    expect(folios.largeMapcount.peek(head)).toBe(0);
    expect(world.core.vmstat.peek('thp_split_page')).toBe(1);
  });

  it.each(['pin', 'get'] as const)('refuses one with a %s before it unmaps anything (R40)', (how) => {
    const { world, task, vma, mm, folios } = thpWorld(kernel);
    const head = hugePage(world, task, vma, 1024);
    if (how === 'pin') pinByHand(world.core, head + 7);
    else getByHand(world.core, head + 7);
    let windows = 0;
    mm.notifiers.registerNow({
      name: 'witness',
      *invalidateRangeStart() {
        windows++;
        return true;
      },
    });
    const before = mm.pageTable.peekPmd(2);
    expect(run(world, task, () => split(world, head))).toBe('EAGAIN');
    expect(mm.pageTable.peekPmd(2)).toEqual(before);
    expect(folios.orderOf(head)).toBe(9);
    expect(windows).toBe(0);
  });

  it('leaves a folio whole but mapped by PTEs when the pin comes after the first look (R41)', () => {
    const { world, task, vma, mm, folios } = thpWorld(kernel);
    const head = hugePage(world, task, vma, 1024);
    const CAN_SPLIT = 'can_split_folio';
    let pinned = false;
    world.sim.observer = {
      stepActed(process) {
        if (process.acted.step.label !== CAN_SPLIT || pinned) return;
        pinned = true;
        world.sim.unwatched(() => pinByHand(world.core, head));
      },
    };
    expect(run(world, task, () => split(world, head))).toBe('EAGAIN');
    expect(folios.orderOf(head)).toBe(9);
    expect(mm.pageTable.peekPmd(2).bits & PMD_TABLE).toBe(PMD_TABLE);
    for (const i of [0, 511]) {
      const pte = mm.pageTable.peekPte(1024 + i);
      expect(pte.pfn).toBe(head + i);
      expect(pte.bits & (PTE_PRESENT | PTE_WRITE)).toBe(PTE_PRESENT | PTE_WRITE);
      expect(folios.anonExclusive.peek(head + i)).toBe(1);
    }
    expect(folios.largeMapcount.peek(head)).toBe(512);
    expect(folios.refcount.peek(head)).toBe(513);
  });

  it.each([1, 0])('of a VMA that is split there is mapped by pages, so that fork copies it once: huge %d', (huge) => {
    const { world, task, vma, mm, folios } = thpWorld(kernel);
    const head = huge === 1 ? hugePage(world, task, vma, 1024) : anonPage(world, task, vma, 1025);
    const windows: string[] = [];
    mm.notifiers.registerNow({
      name: 'witness',
      *invalidateRangeStart({ start, end }) {
        windows.push(`${start}..${end}`);
        return true;
      },
    });
    run(world, task, () => mlock(world.core, 1024, 1, false));
    expect(mm.pageTable.peekPmd(2).bits).toBe(PMD_TABLE);
    expect(windows).toContain('1024..1536');
    expect(folios.mapcount.peek(head)).toBe(1);
  });

  it('splits the PMD of a pinned one: same frames, still one folio (R42, recorded: thp_partial_mprotect)', () => {
    const { world, task, vma, mm, folios } = thpWorld(kernel);
    const head = hugePage(world, task, vma, 1024);
    pinByHand(world.core, head);
    run(world, task, () => splitHugePmd(world.core, mm, vma, 2));
    expect(mm.pageTable.peekPmd(2).bits & PMD_TABLE).toBe(PMD_TABLE);
    expect(mm.pageTable.peekPte(1024 + 100).pfn).toBe(head + 100);
    expect(folios.orderOf(head)).toBe(9);
    expect(folios.refcount.peek(head)).toBe(513);
    folios.change(head, PG_PARTIALLY_MAPPED);
    expect(run(world, task, () => deferredSplit(world.core, head))).toBe(false);
    expect(world.core.vmstat.peek('thp_split_page')).toBe(0);
  });
});

function* collapse(world: TestWorld, mm: Mm, vma: Vma, from = 1024, to = 1536): Steps<'ok' | Errno> {
  yield* call(mm.mmapLock.read());
  const result = yield* call(madviseCollapse(world.core, mm, vma, from, to));
  yield mm.mmapLock.up();
  return result;
}

function fill(world: TestWorld, task: Task, vma: Vma, count = 512): number[] {
  return Array.from({ length: count }, (_, i) =>
    anonPage(world, task, vma, 1024 + i, { content: `c${i}`, young: true }),
  );
}

describe.each(KERNELS)('collapsing anonymous memory on %s', (kernel) => {
  it('makes a huge page with the contents of the small ones, and frees those', () => {
    const { world, task, vma, mm, folios } = thpWorld(kernel);
    const old = fill(world, task, vma);
    expect(run(world, task, () => collapse(world, mm, vma))).toBe('ok');
    const pmd = mm.pageTable.peekPmd(2);
    expect(pmd.bits & (PMD_LEAF | PTE_PRESENT | PTE_WRITE)).toBe(PMD_LEAF | PTE_PRESENT | PTE_WRITE);
    expect(folios.orderOf(pmd.pfn)).toBe(9);
    expect(world.core.frames.content.peek(pmd.pfn + 300)).toBe(tokenOf('c300'));
    expect(mm.pageTable.peekPte(1024).bits).toBe(0);
    expect(old.slice(0, 480).every((pfn) => folios.refcount.peek(pfn) === 0)).toBe(true);
    expect(world.core.vmstat.peek('thp_collapse_alloc')).toBe(1);
    const read = run(world, task, () => cpuAccess(world.core, 1024 + 5, null));
    expect(read).toEqual({ token: tokenOf('c5') });
  });

  it('is EAGAIN with eight pinned pages, and nothing changes (R43, recorded: madv_collapse)', () => {
    const { world, task, vma, mm } = thpWorld(kernel);
    const old = fill(world, task, vma);
    for (let i = 0; i < 8; i++) pinByHand(world.core, old[i]!);
    let windows = 0;
    mm.notifiers.registerNow({
      name: 'witness',
      *invalidateRangeStart() {
        windows++;
        return true;
      },
    });
    expect(run(world, task, () => collapse(world, mm, vma))).toBe('EAGAIN');
    expect(mm.pageTable.peekPte(1024).pfn).toBe(old[0]);
    expect(windows).toBe(0);
  });

  it('puts the page table back when a reference comes after the scan (R43 in the collapse phase)', () => {
    const { world, task, vma, mm, folios } = thpWorld(kernel);
    const old = fill(world, task, vma);
    let windows = 0;
    mm.notifiers.registerNow({
      name: 'witness',
      *invalidateRangeStart() {
        windows++;
        return true;
      },
    });
    let done = false;
    world.sim.observer = {
      stepActed(process) {
        if (process.acted.step.label !== 'hpage_collapse_scan_pmd:unlock' || done) return;
        done = true;
        world.sim.unwatched(() => getByHand(world.core, old[200]!));
      },
    };
    expect(run(world, task, () => collapse(world, mm, vma))).toBe('EAGAIN');
    expect(windows).toBe(1);
    expect(mm.pageTable.peekPmd(2).bits & PMD_TABLE).toBe(PMD_TABLE);
    for (const i of [0, 200, 511]) expect(mm.pageTable.peekPte(1024 + i).pfn).toBe(old[i]);
    expect(folios.refcount.peek(old[200]!)).toBe(2);
  });

  it('waits for GUP-fast on other CPUs before it looks at the pages (R45)', () => {
    const { world, task, vma, mm } = thpWorld(kernel);
    fill(world, task, vma);
    const walker = makeTask(world, 'walker');
    const { irqsOff } = world.core.cpus[3]!;
    const IRQ = step('test:local_irq', 'none');
    const order: string[] = [];
    world.sim.observer = { stepActed: (process) => order.push(process.acted.step.label) };
    const process = world.sim.spawn(
      'gup',
      function* () {
        yield irqsOff.willWrite(IRQ);
        irqsOff.value = true;
        yield world.sim.sleep(1_000_000, step('test:walking', 'none'));
        yield irqsOff.willWrite(step('test:local_irq_restore', 'none'));
        irqsOff.value = false;
      },
      { cpu: 3 },
    );
    world.core.runAs(process, walker);
    run(world, task, () => collapse(world, mm, vma));
    expect(order.indexOf('__collapse_huge_page_isolate')).toBeGreaterThan(order.indexOf('test:local_irq_restore'));
    expect(order.indexOf('pmdp_collapse_flush')).toBeLessThan(order.indexOf('test:local_irq_restore'));
  });

  it('khugepaged takes holes, MADV_NOHUGEPAGE keeps it away', () => {
    const { world, task, vma, mm } = thpWorld(kernel);
    fill(world, task, vma, 3);
    const never = anonArea(world, task, 4096, 512, { hugepage: 'never' });
    anonPage(world, task, never, 4096, { young: true });
    expect(run(world, task, () => khugepagedScanMm(world.core, mm))).toBe(1);
    expect(mm.pageTable.peekPmd(2).bits & PMD_LEAF).toBe(PMD_LEAF);
    expect(world.core.frames.content.peek(mm.pageTable.peekPmd(2).pfn + 400)).toBe(0);
    expect(run(world, task, () => collapse(world, mm, never, 4096, 4608))).toBe('EINVAL');
  });
});

describe.each(KERNELS)('collapsing shmem on %s', (kernel) => {
  function shmemWorld() {
    const world = makeWorld({ kernel, params: { swapSlots: 2048 } });
    const [a, b] = [makeTask(world, 'a'), makeTask(world, 'b')];
    const inode = makeInode(world, { kind: 'shmem', sizePages: 512 });
    const vma = sharedArea(a, inode, 1024, 512);
    sharedArea(b, inode, 2048, 512);
    const pages = Array.from({ length: 512 }, (_, i) =>
      cachedPage(world, inode, i, [[a, 1024 + i], ...(i < 4 ? [[b, 2048 + i] as const] : [])], { content: `s${i}` }),
    );
    return { world, a, b, inode, vma, pages };
  }

  it('puts one huge page in the file and maps it; others fault it in page by page', () => {
    const { world, a, b, inode, vma, pages } = shmemWorld();
    expect(run(world, a, () => collapse(world, mmOf(a), vma))).toBe('ok');
    const huge = inode.pages.peek(0) - 1;
    expect(world.core.folios.orderOf(huge)).toBe(9);
    expect(mmOf(a).pageTable.peekPmd(2)).toMatchObject({ pfn: huge });
    expect(pages.every((pfn) => world.core.folios.refcount.peek(pfn) === 0)).toBe(true);
    expect(run(world, b, () => cpuAccess(world.core, 2048 + 77, null))).toEqual({ token: tokenOf('s77') });
    expect(run(world, a, () => cpuAccess(world.core, 1024 + 78, { token: 5 }))).toEqual({ token: 5 });
    expect(run(world, b, () => cpuAccess(world.core, 2048 + 78, null))).toEqual({ token: 5 });
  });

  it('takes away a table that maps the huge page piece by piece, and its references with it', () => {
    const { world, a, b, inode, vma } = shmemWorld();
    run(world, a, () => collapse(world, mmOf(a), vma));
    const huge = inode.pages.peek(0) - 1;
    // The table of b outlived the collapse of a, and is filled again by single entries.
    run(world, b, () => cpuAccess(world.core, 2048, null));
    run(world, b, () => cpuAccess(world.core, 2048 + 100, null));
    expect(mmOf(b).pageTable.peekPmd(4).bits & PMD_TABLE).toBe(PMD_TABLE);
    expect(run(world, b, () => khugepagedScanMm(world.core, mmOf(b)))).toBe(1);
    expect(mmOf(b).pageTable.peekPmd(4).bits).toBe(0);
    expect(mmOf(b).pageTable.peekPte(2048 + 100).bits).toBe(0);
    expect(world.core.folios.mapcount.peek(huge + 100)).toBe(0);
    run(world, b, () => lruAddDrainAll(world.core));
    // 512 of the page cache and one of the PMD of a.
    expect(world.core.folios.refcount.peek(huge)).toBe(513);
    expect(run(world, b, () => cpuAccess(world.core, 2048 + 100, null))).toEqual({ token: tokenOf('s100') });
  });

  it('is swapped out in 512 slots, whole or in pieces, with no reference left', () => {
    const { world, a, inode, vma } = shmemWorld();
    run(world, a, () => collapse(world, mmOf(a), vma));
    const huge = inode.pages.peek(0) - 1;
    // Up to 6.9 a page that was used since the last look stays once.
    for (let round = 0; inode.pages.peek(0) > 0 && round < 2; round++) {
      run(world, a, function* () {
        yield* call(lruAddDrainAll(world.core));
        if (!(yield* call(folioIsolateLru(world.core, huge)))) throw new Error('the huge page is on no list');
        yield* call(reclaimPages(world.core, [huge]));
      });
    }
    expect(world.core.vmstat.peek('thp_split_page')).toBe(kernel === 'v6.1.192' ? 1 : 0);
    for (const index of [0, 1, 511]) {
      const slot = -inode.pages.peek(index) - 1;
      expect(world.core.swap.content.peek(slot)).toBe(tokenOf(`s${index}`));
      expect(world.core.swap.map.peek(slot)).toBe(1);
      expect(world.core.folios.refcount.peek(huge + index)).toBe(0);
    }
    expect(run(world, a, () => cpuAccess(world.core, 1024 + 511, null))).toEqual({ token: tokenOf('s511') });
  });

  it('is EAGAIN for a pinned page seen by the scan; one that comes later costs mappings, not data (R44)', () => {
    const seen = shmemWorld();
    pinByHand(seen.world.core, seen.pages[9]!);
    expect(run(seen.world, seen.a, () => collapse(seen.world, mmOf(seen.a), seen.vma))).toBe('EAGAIN');
    expect(mmOf(seen.a).pageTable.peekPte(1024).pfn).toBe(seen.pages[0]);

    const late = shmemWorld();
    let done = false;
    late.world.sim.observer = {
      stepActed(process) {
        if (process.acted.step.label !== 'collapse_file:folio_trylock' || done) return;
        done = true;
        late.world.sim.unwatched(() => pinByHand(late.world.core, late.pages[9]!));
      },
    };
    expect(run(late.world, late.a, () => collapse(late.world, mmOf(late.a), late.vma))).toBe('EAGAIN');
    const { pageTable } = mmOf(late.a);
    // Unmapped as far as it came, and still the same pages of the file.
    expect(pageTable.peekPte(1024).bits).toBe(0);
    expect(pageTable.peekPte(1024 + 100).pfn).toBe(late.pages[100]);
    expect(late.inode.pages.peek(0)).toBe(late.pages[0]! + 1);
    run(late.world, late.a, () => lruAddDrainAll(late.world.core));
    expect(late.world.core.folios.refcount.peek(late.pages[9]!)).toBe(1 + 1024);
    expect(run(late.world, late.a, () => cpuAccess(late.world.core, 1024, null))).toEqual({ token: tokenOf('s0') });
    expect(pageTable.peekPte(1024).pfn).toBe(late.pages[0]);
    expect(pageTable.peekPte(1024).bits & PTE_SPECIAL).toBe(0);
  });
});
