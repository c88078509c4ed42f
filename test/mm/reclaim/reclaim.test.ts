// shrink_folio_list, folio by folio: what is reclaimed, kept or made active, and in which order that is decided.
//
// Over 400 lines: one list of verdicts, each case a few lines on the same page by hand.
import { describe, expect, it } from 'vitest';
import { call, type Steps } from '../../../src/engine/process.ts';
import { step } from '../../../src/engine/step.ts';
import type { Mm } from '../../../src/mm/mm.ts';
import {
  PG_ACTIVE,
  PG_DIRTY,
  PG_LOCKED,
  PG_LRU,
  PG_MLOCKED,
  PG_PRIVATE,
  PG_RECLAIM,
  PG_REFERENCED,
  PG_SWAPBACKED,
  PG_SWAPCACHE,
  PG_UNEVICTABLE,
  PG_WRITEBACK,
} from '../../../src/mm/page-flags.ts';
import { PTE_EXCLUSIVE, PTE_PRESENT, PTE_SWAP, PTE_YOUNG } from '../../../src/mm/pte.ts';
import { folioIsolateLru, lruAddDrainAll, moveFolioToLru } from '../../../src/mm/reclaim/lru.ts';
import { reclaimPages, shrinkFolioList } from '../../../src/mm/reclaim/reclaim.ts';
import type { ScanControl } from '../../../src/mm/reclaim/reclaim-folio.ts';
import { addToSwap } from '../../../src/mm/swap/swap-out.ts';
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
import { makeTask, makeWorld, run, type TestWorld } from '../../support/world.ts';

const DEACTIVATE = step('deactivate', 'op');

const KERNELS = ['v6.1.192', 'v6.12.117'] as const;
const SC: ScanControl = {
  node: 0,
  kswapd: false,
  mayUnmap: true,
  maySwap: true,
  mayWritepage: true,
  ignoreReferences: false,
  demotionNode: null,
  proactive: false,
  nodeDirty: false,
  nodeWriteback: false,
};

/** The folios that the last `shrink` made active: on a multi-gen list the flag does not say so any more. */
let activated: readonly number[] = [];

/** shrink_inactive_list of one folio. */
function* shrink(world: TestWorld, head: number, sc: ScanControl = SC): Steps<number> {
  const { core } = world;
  if (!(yield* call(folioIsolateLru(core, head)))) throw new Error(`${head} cannot be isolated`);
  yield core.folios.flags.willUpdate(head, DEACTIVATE);
  core.folios.change(head, 0, PG_ACTIVE);
  const result = yield* call(shrinkFolioList(core, [head], sc));
  activated = result.kept.filter((kept) => core.folios.has(kept, PG_ACTIVE));
  for (const kept of result.kept) yield* call(moveFolioToLru(core, kept));
  return result.reclaimed;
}

interface Seen {
  windows: number;
  young: number;
}

function witness(mm: Mm): Seen {
  const seen: Seen = { windows: 0, young: 0 };
  mm.notifiers.registerNow({
    name: 'witness',
    *invalidateRangeStart() {
      seen.windows++;
      return true;
    },
    *clearFlushYoung() {
      seen.young++;
      return false;
    },
  });
  return seen;
}

function world1(kernel: string, swapSlots = 64, without: readonly string[] = []) {
  const world = makeWorld({ kernel, changes: { without }, params: { swapSlots } });
  const task = makeTask(world, 'a');
  const vma = anonArea(world, task, 1000, 16);
  return { world, task, vma, mm: mmOf(task), folios: world.core.folios };
}

describe.each(KERNELS)('shrink_folio_list on %s', (kernel) => {
  it('keeps a pinned anonymous page without touching its entry; only the young callback runs (R1)', () => {
    const { world, task, vma, mm, folios } = world1(kernel);
    const pfn = anonPage(world, task, vma, 1001);
    pinByHand(world.core, pfn);
    const seen = witness(mm);
    const before = mm.pageTable.peekPte(1001);
    expect(run(world, task, () => shrink(world, pfn))).toBe(0);
    expect(mm.pageTable.peekPte(1001)).toEqual(before);
    expect(folios.refcount.peek(pfn)).toBe(1025);
    expect(activated).toEqual([]);
    expect(folios.has(pfn, PG_SWAPCACHE)).toBe(false);
    expect(seen).toEqual({ windows: 0, young: 1 });
  });

  it('restores the entry of a pinned page that is in the swap cache already, and activates it (R2)', () => {
    const { world, task, vma, mm, folios } = world1(kernel);
    const pfn = anonPage(world, task, vma, 1001);
    run(world, task, function* () {
      folios.flags.willUpdate(pfn, step('lock', 'none'));
      return yield* call(addToSwap(world.core, pfn));
    });
    pinByHand(world.core, pfn);
    const seen = witness(mm);
    const before = mm.pageTable.peekPte(1001);
    run(world, task, () => shrink(world, pfn));
    expect(mm.pageTable.peekPte(1001)).toEqual(before);
    expect(activated).toEqual([pfn]);
    expect(folios.has(pfn, PG_SWAPCACHE)).toBe(true);
    expect(seen.windows).toBe(1);
    expect(world.core.swap.map.peek(folios.swapEntry.peek(pfn) - 1)).toBe(0);
  });

  it('unmaps a page with a plain reference but cannot write it: it stays in the swap cache (R3)', () => {
    const { world, task, vma, mm, folios } = world1(kernel);
    const pfn = anonPage(world, task, vma, 1001);
    getByHand(world.core, pfn);
    run(world, task, () => shrink(world, pfn));
    const pte = mm.pageTable.peekPte(1001);
    expect(pte.bits & (PTE_SWAP | PTE_EXCLUSIVE)).toBe(PTE_SWAP | PTE_EXCLUSIVE);
    expect(folios.has(pfn, PG_SWAPCACHE)).toBe(true);
    expect(activated).toEqual([]);
    expect(world.core.swap.cache.peek(pte.pfn)).toBe(pfn + 1);
    expect(folios.refcount.peek(pfn)).toBe(2);
    expect(world.core.vmstat.peek('pswpout')).toBe(0);
  });

  it('swaps out an unused page: content in the slot, exclusive swap entry, frame free', () => {
    const { world, task, vma, mm, folios } = world1(kernel);
    const pfn = anonPage(world, task, vma, 1001, { content: 'A' });
    const content = world.core.frames.content.peek(pfn);
    expect(run(world, task, () => shrink(world, pfn))).toBe(1);
    const pte = mm.pageTable.peekPte(1001);
    expect(pte.bits & (PTE_PRESENT | PTE_SWAP | PTE_EXCLUSIVE)).toBe(PTE_SWAP | PTE_EXCLUSIVE);
    expect(world.core.swap.content.peek(pte.pfn)).toBe(content);
    expect(world.core.swap.map.peek(pte.pfn)).toBe(1);
    expect(world.core.swap.cache.peek(pte.pfn)).toBe(0);
    expect(folios.refcount.peek(pfn)).toBe(0);
    expect(world.core.vmstat.peek('pswpout')).toBe(1);
  });

  it('unmaps a pinned shmem page from every process and then activates it: it stays in the page cache (R5)', () => {
    const { world, task, folios } = world1(kernel);
    const inode = makeInode(world, { kind: 'shmem' });
    sharedArea(task, inode, 5000, 4);
    const pfn = cachedPage(world, inode, 1, [[task, 5001]]);
    pinByHand(world.core, pfn);
    const seen = witness(mmOf(task));
    expect(run(world, task, () => shrink(world, pfn))).toBe(0);
    expect(mmOf(task).pageTable.peekPte(5001).bits).toBe(0);
    expect(activated).toEqual([pfn]);
    expect(inode.pages.peek(1)).toBe(pfn + 1);
    expect(folios.refcount.peek(pfn)).toBe(1025);
    expect(seen.windows).toBe(1);
  });

  it('does not strip the buffers of a pinned clean file page (R6)', () => {
    const { world, task, folios } = world1(kernel);
    const inode = makeInode(world, { kind: 'file', fs: 'ext4' });
    sharedArea(task, inode, 5000, 4);
    const pfn = cachedPage(world, inode, 1, [[task, 5001]], { dirty: false });
    pinByHand(world.core, pfn);
    run(world, task, () => shrink(world, pfn));
    expect(mmOf(task).pageTable.peekPte(5001).bits).toBe(0);
    expect(folios.has(pfn, PG_PRIVATE)).toBe(true);
    expect(activated).toEqual([pfn]);
  });

  it('leaves a dirty file page to the flushers, marked for reclaim (R7, unpinned)', () => {
    const { world, task, folios } = world1(kernel);
    const inode = makeInode(world, { kind: 'file', fs: 'ext4' });
    sharedArea(task, inode, 5000, 4);
    const pinned = cachedPage(world, inode, 0, [[task, 5000]]);
    const free = cachedPage(world, inode, 1, [[task, 5001]]);
    pinByHand(world.core, pinned);
    run(world, task, () => shrink(world, pinned));
    run(world, task, () => shrink(world, free));
    expect(mmOf(task).pageTable.peekPte(5000).bits).toBe(0);
    expect(folios.has(pinned, PG_DIRTY)).toBe(true);
    expect(folios.has(pinned, PG_RECLAIM)).toBe(false);
    expect(folios.has(free, PG_DIRTY)).toBe(true);
    expect(folios.has(free, PG_RECLAIM)).toBe(true);
    expect(activated).toEqual([free]);
  });

  it('unmaps a clean file page with a plain reference, fails at the freeze, and keeps it inactive (R8)', () => {
    const { world, task } = world1(kernel);
    const inode = makeInode(world, { kind: 'file', fs: 'ext4' });
    sharedArea(task, inode, 5000, 4);
    const pfn = cachedPage(world, inode, 1, [[task, 5001]], { dirty: false });
    getByHand(world.core, pfn);
    expect(run(world, task, () => shrink(world, pfn))).toBe(0);
    expect(mmOf(task).pageTable.peekPte(5001).bits).toBe(0);
    expect(activated).toEqual([]);
    expect(inode.pages.peek(1)).toBe(pfn + 1);
  });

  it.each(['pin', 'get', 'dirty'] as const)(
    'puts a lazyfree page back in service when somebody has a %s (R9)',
    (why) => {
      const { world, task, vma, mm, folios } = world1(kernel);
      const pfn = anonPage(world, task, vma, 1001, { dirty: why === 'dirty' });
      folios.change(pfn, 0, PG_SWAPBACKED);
      if (why === 'pin') pinByHand(world.core, pfn);
      if (why === 'get') getByHand(world.core, pfn);
      const before = mm.pageTable.peekPte(1001);
      run(world, task, () => shrink(world, pfn));
      expect(mm.pageTable.peekPte(1001)).toEqual(before);
      expect(folios.has(pfn, PG_SWAPBACKED)).toBe(true);
      expect(activated).toEqual([pfn]);
    },
  );

  it('drops a clean lazyfree page without IO (R10)', () => {
    const { world, task, vma, mm, folios } = world1(kernel);
    const pfn = anonPage(world, task, vma, 1001, { dirty: false });
    folios.change(pfn, 0, PG_SWAPBACKED);
    expect(run(world, task, () => shrink(world, pfn))).toBe(1);
    expect(mm.pageTable.peekPte(1001).bits).toBe(0);
    expect(folios.refcount.peek(pfn)).toBe(0);
    expect(world.core.vmstat.peek('pswpout')).toBe(0);
  });

  it('moves an mlocked page to the unevictable list (R11)', () => {
    const { world, task, folios } = world1(kernel);
    const vma = anonArea(world, task, 3000, 4, { locked: true });
    const pfn = anonPage(world, task, vma, 3001);
    expect(folios.has(pfn, PG_MLOCKED)).toBe(true);
    const seen = witness(mmOf(task));
    run(world, task, () => shrink(world, pfn));
    expect(folios.has(pfn, PG_UNEVICTABLE)).toBe(true);
    expect(mmOf(task).pageTable.peekPte(3001).pfn).toBe(pfn);
    expect(seen).toEqual({ windows: 0, young: 0 });
  });

  it('finds an mlocked area only at its mapping, and restores the flag', () => {
    const { world, task, folios } = world1(kernel);
    const vma = anonArea(world, task, 3000, 4, { locked: true });
    const pfn = anonPage(world, task, vma, 3001);
    folios.change(pfn, 0, PG_MLOCKED);
    run(world, task, () => shrink(world, pfn));
    expect(folios.has(pfn, PG_MLOCKED)).toBe(true);
    expect(folios.has(pfn, PG_UNEVICTABLE)).toBe(true);
    expect(mmOf(task).pageTable.peekPte(3001).pfn).toBe(pfn);
  });

  it('never waits for a locked folio (R12)', () => {
    const { world, task, vma, folios } = world1(kernel);
    const pfn = anonPage(world, task, vma, 1001, { flags: PG_LOCKED });
    expect(run(world, task, () => shrink(world, pfn))).toBe(0);
    expect(folios.has(pfn, PG_LRU)).toBe(true);
    expect(activated).toEqual([]);
  });

  it('marks and activates a page under writeback (R13)', () => {
    const { world, task, folios } = world1(kernel);
    const inode = makeInode(world, { kind: 'file', fs: 'ext4' });
    sharedArea(task, inode, 5000, 4);
    const pfn = cachedPage(world, inode, 1, [], { flags: PG_WRITEBACK });
    run(world, task, () => shrink(world, pfn));
    expect(folios.has(pfn, PG_RECLAIM)).toBe(true);
    expect(activated).toEqual([pfn]);
  });

  it('keeps a page once for a young mapping and activates it the second time', () => {
    const { world, task, vma, folios, mm } = world1(kernel, 64, ['reclaim.multigen-lru']);
    const pfn = anonPage(world, task, vma, 1001, { young: true });
    run(world, task, () => shrink(world, pfn));
    expect(folios.has(pfn, PG_REFERENCED)).toBe(true);
    expect(activated).toEqual([]);
    const pte = mm.pageTable.peekPte(1001);
    expect(pte.bits & PTE_YOUNG).toBe(0);
    mm.pageTable.setPte(1001, pte.pfn, pte.bits | PTE_YOUNG, pte.generation);
    run(world, task, () => shrink(world, pfn));
    expect(activated).toEqual([pfn]);
  });

  it('activates a THP that somebody references and keeps one that is pinned; neither is split (R14, R15)', () => {
    const world = makeWorld({ kernel, params: { swapSlots: 2048 } });
    const task = makeTask(world, 'a');
    const vma = anonArea(world, task, 1024, 1024);
    const gotten = hugePage(world, task, vma, 1024);
    const pinned = hugePage(world, task, vma, 1536);
    getByHand(world.core, gotten + 5);
    pinByHand(world.core, pinned + 5);
    run(world, task, () => shrink(world, gotten));
    expect(activated).toEqual([gotten]);
    run(world, task, () => shrink(world, pinned));
    expect(activated).toEqual([]);
    const { folios } = world.core;
    for (const head of [gotten, pinned]) expect(folios.orderOf(head)).toBe(9);
    expect(mmOf(task).pageTable.peekPmd(2).pfn).toBe(gotten);
    expect(mmOf(task).pageTable.peekPmd(3).pfn).toBe(pinned);
  });

  it('swaps an unused THP out whole: 512 swap entries, one folio freed', () => {
    const world = makeWorld({ kernel, params: { swapSlots: 2048 } });
    const task = makeTask(world, 'a');
    const vma = anonArea(world, task, 1024, 1024);
    const head = hugePage(world, task, vma, 1024, { content: 'T' });
    expect(run(world, task, () => shrink(world, head))).toBe(512);
    const { pageTable } = mmOf(task);
    const first = pageTable.peekPte(1024);
    expect(first.bits & PTE_SWAP).toBe(PTE_SWAP);
    for (let i = 0; i < 512; i++) {
      expect(pageTable.peekPte(1024 + i).pfn).toBe(first.pfn + i);
      expect(world.core.swap.map.peek(first.pfn + i)).toBe(1);
    }
    expect(world.core.vmstat.peek('pswpout')).toBe(512);
    expect(world.core.folios.refcount.peek(head)).toBe(0);
  });

  it('splits a THP when swap has no room for all of it, and swaps out what fits', () => {
    const world = makeWorld({ kernel, params: { swapSlots: 100 } });
    const task = makeTask(world, 'a');
    const vma = anonArea(world, task, 1024, 1024);
    const head = hugePage(world, task, vma, 1024, { content: 'T' });
    expect(run(world, task, () => shrink(world, head))).toBe(100);
    expect(world.core.vmstat.peek('thp_split_page')).toBe(1);
    expect(world.core.folios.orderOf(head)).toBe(0);
    const entries = Array.from({ length: 512 }, (_, i) => mmOf(task).pageTable.peekPte(1024 + i).bits);
    expect(entries.filter((bits) => (bits & PTE_SWAP) !== 0)).toHaveLength(100);
    expect(entries.filter((bits) => (bits & PTE_PRESENT) !== 0)).toHaveLength(412);
  });

  it('tries to demote first, and keeps a pinned page after that failed (R16)', () => {
    const world = makeWorld({
      kernel,
      params: { swapSlots: 64 },
      zones: [
        { kind: 'NORMAL', node: 0, pages: 4096 },
        { kind: 'NORMAL', node: 1, pages: 4096 },
      ],
    });
    const task = makeTask(world, 'a');
    const vma = anonArea(world, task, 1000, 16);
    const pinned = anonPage(world, task, vma, 1001);
    const cold = anonPage(world, task, vma, 1002);
    pinByHand(world.core, pinned);
    const seen = witness(mmOf(task));
    const sc = { ...SC, demotionNode: 1 };
    expect(run(world, task, () => shrink(world, cold, sc))).toBe(1);
    expect(world.core.machine.zoneOf(mmOf(task).pageTable.peekPte(1002).pfn)?.node).toBe(1);
    expect(run(world, task, () => shrink(world, pinned, sc))).toBe(0);
    expect(mmOf(task).pageTable.peekPte(1001).pfn).toBe(pinned);
    expect(seen.windows).toBe(11);
  });

  it('keeps the orphan of a process that exited while its page was pinned, every time (R17)', () => {
    const { world, task, vma, mm, folios } = world1(kernel);
    const pfn = anonPage(world, task, vma, 1001);
    pinByHand(world.core, pfn);
    mm.pageTable.clearPte(1001);
    folios.removePteMapping(pfn, pfn);
    folios.refcount.set(pfn, folios.refcount.peek(pfn) - 1);
    for (let i = 0; i < 3; i++) {
      expect(run(world, task, () => shrink(world, pfn))).toBe(0);
      expect(folios.has(pfn, PG_LRU)).toBe(true);
      expect(activated).toEqual([]);
      expect(folios.has(pfn, PG_SWAPCACHE)).toBe(false);
    }
  });

  it('takes a thousand plain references for a pin (R97)', () => {
    const { world, task, vma, mm, folios } = world1(kernel);
    const pfn = anonPage(world, task, vma, 1001);
    folios.refcount.set(pfn, 1024);
    const before = mm.pageTable.peekPte(1001);
    run(world, task, () => shrink(world, pfn));
    expect(mm.pageTable.peekPte(1001)).toEqual(before);
    expect(folios.has(pfn, PG_SWAPCACHE)).toBe(false);
  });

  it('returns a shmem page to swap: the slot takes its place in the file', () => {
    const { world, task, folios } = world1(kernel);
    const inode = makeInode(world, { kind: 'shmem' });
    sharedArea(task, inode, 5000, 4);
    const pfn = cachedPage(world, inode, 1, [[task, 5001]], { content: 'S' });
    const content = world.core.frames.content.peek(pfn);
    expect(run(world, task, () => shrink(world, pfn))).toBe(1);
    const slot = -inode.pages.peek(1) - 1;
    expect(slot).toBeGreaterThanOrEqual(0);
    expect(world.core.swap.content.peek(slot)).toBe(content);
    expect(world.core.swap.map.peek(slot)).toBe(1);
    expect(mmOf(task).pageTable.peekPte(5001).bits).toBe(0);
    expect(folios.refcount.peek(pfn)).toBe(0);
  });
});

describe('shrink_folio_list', () => {
  it('put a pinned page into the swap cache before 5.11, and swapped it out from under the pin (B5)', () => {
    const { world, task, vma, mm, folios } = world1('v5.10');
    const pfn = anonPage(world, task, vma, 1001);
    pinByHand(world.core, pfn);
    run(world, task, () => shrink(world, pfn));
    expect(mm.pageTable.peekPte(1001).bits & PTE_SWAP).toBe(PTE_SWAP);
    expect(folios.has(pfn, PG_SWAPCACHE)).toBe(true);
  });

  it('stripped the buffers of a pinned page before 6.4 (B28)', () => {
    const world = makeWorld({ kernel: 'v6.1' });
    const task = makeTask(world, 'a');
    const inode = makeInode(world, { kind: 'file', fs: 'ext4' });
    sharedArea(task, inode, 5000, 4);
    const pfn = cachedPage(world, inode, 1, [[task, 5001]], { dirty: false });
    pinByHand(world.core, pfn);
    run(world, task, () => shrink(world, pfn));
    expect(world.core.folios.has(pfn, PG_PRIVATE)).toBe(false);
    expect(inode.pages.peek(1)).toBe(pfn + 1);
  });

  it('writes to a disk by an actor of its own: the page is freed in a later pass', () => {
    const world = makeWorld({ params: { swapSlots: 64, swapSynchronousIo: false } });
    const task = makeTask(world, 'a');
    const vma = anonArea(world, task, 1000, 16);
    const pfn = anonPage(world, task, vma, 1001, { content: 'A' });
    expect(run(world, task, () => shrink(world, pfn))).toBe(0);
    const { folios } = world.core;
    expect(folios.has(pfn, PG_SWAPCACHE)).toBe(true);
    expect(folios.has(pfn, PG_WRITEBACK)).toBe(false);
    expect(run(world, task, () => shrink(world, pfn))).toBe(1);
    expect(folios.refcount.peek(pfn)).toBe(0);
  });

  it('flushes deferred entries before a dirty page is written, and others before frames are freed', () => {
    const world = makeWorld({ params: { swapSlots: 64 } });
    const task = makeTask(world, 'a');
    const vma = anonArea(world, task, 1000, 16);
    const pfn = anonPage(world, task, vma, 1001);
    mmOf(task).cpumask.value = [world.core.cpus[1]!, world.core.cpus[2]!];
    const labels: string[] = [];
    world.sim.observer = { stepActed: (process) => labels.push(process.acted.step.label) };
    run(world, task, () => shrink(world, pfn));
    const at = (label: string) => labels.indexOf(label);
    expect(at('try_to_unmap_one:clear')).toBeGreaterThan(0);
    expect(at('flush_tlb_mm_range:ipi')).toBeGreaterThan(at('try_to_unmap_one:install'));
    expect(at('swap_writepage:bdev-sync')).toBeGreaterThan(at('flush_tlb_mm_range:ipi'));
    expect(at('free_unref_folios')).toBeGreaterThan(at('__remove_mapping'));
  });
});

describe.each(KERNELS)('reclaim_pages (MADV_PAGEOUT) on %s', (kernel) => {
  it('keeps a pinned page mapped and puts it back through the LRU batch (R18)', () => {
    const { world, task, vma, mm, folios } = world1(kernel);
    const pfn = anonPage(world, task, vma, 1001, { young: true });
    pinByHand(world.core, pfn);
    run(world, task, function* () {
      yield* call(folioIsolateLru(world.core, pfn));
      return yield* call(reclaimPages(world.core, [pfn]));
    });
    expect(mm.pageTable.peekPte(1001).pfn).toBe(pfn);
    // As recorded: neither on a list nor active yet.
    expect(folios.has(pfn, PG_LRU | PG_ACTIVE)).toBe(false);
    run(world, task, () => lruAddDrainAll(world.core));
    expect(folios.has(pfn, PG_LRU)).toBe(true);
    expect(folios.refcount.peek(pfn)).toBe(1025);
  });

  it('asks for references until 6.9, whose bits MADV_PAGEOUT clears itself', () => {
    const { world, task, vma, mm } = world1(kernel);
    const pfn = anonPage(world, task, vma, 1001, { young: true });
    const reclaimed = run(world, task, function* () {
      yield* call(folioIsolateLru(world.core, pfn));
      return yield* call(reclaimPages(world.core, [pfn]));
    });
    const asks = kernel === 'v6.1.192';
    expect(reclaimed).toBe(asks ? 0 : 1);
    expect(mm.pageTable.peekPte(1001).bits & PTE_SWAP).toBe(asks ? 0 : PTE_SWAP);
  });
});
