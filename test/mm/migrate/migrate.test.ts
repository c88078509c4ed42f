import { describe, expect, it } from 'vitest';
import { call, type Steps } from '../../../src/engine/process.ts';
import { step } from '../../../src/engine/step.ts';
import { runTimed } from '../../../src/engine/timed.ts';
import { waitUnlocked } from '../../../src/mm/folio-lock.ts';
import {
  type Migrated,
  type MigrateRequest,
  migratePages,
  putbackMovablePages,
} from '../../../src/mm/migrate/migrate.ts';
import type { Mm } from '../../../src/mm/mm.ts';
import { PG_LOCKED, PG_LRU, PG_WRITEBACK } from '../../../src/mm/page-flags.ts';
import { PMD_LEAF, PTE_MIGRATION, PTE_PRESENT, PTE_WRITE } from '../../../src/mm/pte.ts';
import { folioIsolateLru, lruAddDrainAll } from '../../../src/mm/reclaim/lru.ts';
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
import { actor, makeTask, makeWorld, run, type TestWorld } from '../../support/world.ts';

const SYNC: MigrateRequest = { mode: 'sync', reason: 'syscall', target: { movable: true, zero: false } };
const KERNELS = ['v6.1.192', 'v6.12.117'] as const;

function* migrateOne(world: TestWorld, head: number, request = SYNC): Steps<Migrated> {
  const { core } = world;
  if (!(yield* call(folioIsolateLru(core, head)))) throw new Error(`${head} cannot be isolated`);
  const result = yield* call(migratePages(core, [head], request));
  yield* call(putbackMovablePages(core, result.failed));
  yield* call(lruAddDrainAll(core));
  return result;
}

function windows(mm: Mm): { count: number } {
  const seen = { count: 0 };
  mm.notifiers.registerNow({
    name: 'witness',
    *invalidateRangeStart() {
      seen.count++;
      return true;
    },
  });
  return seen;
}

describe.each(KERNELS)('migrate_pages on %s', (kernel) => {
  it('moves an exclusive anonymous page with its contents and gives it back writable and exclusive', () => {
    const world = makeWorld({ kernel });
    const task = makeTask(world, 'a');
    const vma = anonArea(world, task, 1000, 4);
    const old = anonPage(world, task, vma, 1001, { content: 'A' });
    const content = world.core.frames.content.peek(old);
    const result = run(world, task, () => migrateOne(world, old));
    const pte = mmOf(task).pageTable.peekPte(1001);
    expect(result).toMatchObject({ failed: [], notMoved: 0, moved: 1 });
    expect(pte.pfn).not.toBe(old);
    expect(pte.bits & (PTE_PRESENT | PTE_WRITE)).toBe(PTE_PRESENT | PTE_WRITE);
    const { folios, frames } = world.core;
    expect(frames.content.peek(pte.pfn)).toBe(content);
    expect(folios.anonExclusive.peek(pte.pfn)).toBe(1);
    expect(folios.refcount.peek(pte.pfn)).toBe(1);
    expect(folios.mapcount.peek(pte.pfn)).toBe(1);
    expect(folios.has(pte.pfn, PG_LRU)).toBe(true);
    expect(folios.refcount.peek(old)).toBe(0);
    expect(world.core.vmstat.peek('pgmigrate_success')).toBe(1);
  });

  it('refuses a pinned anonymous page: its entry is restored, and secondary MMUs were told (R20)', () => {
    const world = makeWorld({ kernel });
    const task = makeTask(world, 'a');
    const vma = anonArea(world, task, 1000, 4);
    const pfn = anonPage(world, task, vma, 1001);
    pinByHand(world.core, pfn);
    const seen = windows(mmOf(task));
    const before = mmOf(task).pageTable.peekPte(1001);
    const result = run(world, task, () => migrateOne(world, pfn));
    expect(result).toMatchObject({ failed: [pfn], notMoved: 1, moved: 0 });
    expect(mmOf(task).pageTable.peekPte(1001)).toEqual(before);
    expect(world.core.folios.anonExclusive.peek(pfn)).toBe(1);
    expect(world.core.folios.refcount.peek(pfn)).toBe(1025);
    expect(seen.count).toBe(10);
    expect(world.core.vmstat.peek('pgmigrate_fail')).toBe(1);
  });

  it('finds a plain reference only by the count, and puts the mapping back as it was (R21)', () => {
    const world = makeWorld({ kernel });
    const task = makeTask(world, 'a');
    const vma = anonArea(world, task, 1000, 4);
    const pfn = anonPage(world, task, vma, 1001);
    getByHand(world.core, pfn);
    const seen = windows(mmOf(task));
    const before = mmOf(task).pageTable.peekPte(1001);
    const result = run(world, task, () => migrateOne(world, pfn));
    expect(result).toMatchObject({ failed: [pfn], notMoved: 1 });
    expect(mmOf(task).pageTable.peekPte(1001)).toEqual(before);
    expect(world.core.folios.anonExclusive.peek(pfn)).toBe(1);
    // 6.1 unmaps and restores in each of ten passes; 6.12 stays unmapped over the passes of a batch.
    expect(seen.count).toBe(kernel === 'v6.1.192' ? 10 : 2);
  });

  it('refuses a pinned shmem page by the count, in every mapping (R22)', () => {
    const world = makeWorld({ kernel });
    const [a, b] = [makeTask(world, 'a'), makeTask(world, 'b')];
    const inode = makeInode(world, { kind: 'shmem' });
    sharedArea(a, inode, 1000, 4);
    sharedArea(b, inode, 5000, 4);
    const pfn = cachedPage(world, inode, 2, [
      [a, 1002],
      [b, 5002],
    ]);
    pinByHand(world.core, pfn);
    const result = run(world, a, () => migrateOne(world, pfn));
    expect(result).toMatchObject({ failed: [pfn], notMoved: 1 });
    expect(mmOf(a).pageTable.peekPte(1002).pfn).toBe(pfn);
    expect(mmOf(b).pageTable.peekPte(5002).pfn).toBe(pfn);
    expect(world.core.folios.refcount.peek(pfn)).toBe(1024 + 1 + 2);
    expect(inode.pages.peek(2)).toBe(pfn + 1);
  });

  it('moves a page-cache page in the cache and in every mapping, private data included', () => {
    const world = makeWorld({ kernel });
    const [a, b] = [makeTask(world, 'a'), makeTask(world, 'b')];
    const inode = makeInode(world, { kind: 'file', fs: 'ext4' });
    sharedArea(a, inode, 1000, 4);
    sharedArea(b, inode, 5000, 4);
    const old = cachedPage(world, inode, 2, [
      [a, 1002],
      [b, 5002],
    ]);
    run(world, a, () => migrateOne(world, old));
    const moved = inode.pages.peek(2) - 1;
    expect(moved).not.toBe(old);
    expect(mmOf(a).pageTable.peekPte(1002).pfn).toBe(moved);
    expect(mmOf(b).pageTable.peekPte(5002).pfn).toBe(moved);
    expect(world.core.folios.refcount.peek(moved)).toBe(4);
    expect(world.core.folios.refcount.peek(old)).toBe(0);
  });

  it('moves a THP whole, and refuses a pinned one without splitting it (R24)', () => {
    const world = makeWorld({ kernel });
    const task = makeTask(world, 'a');
    const vma = anonArea(world, task, 1024, 1024);
    const free = hugePage(world, task, vma, 1024, { content: 'T' });
    const pinned = hugePage(world, task, vma, 1536);
    pinByHand(world.core, pinned + 3);
    const moved = run(world, task, () => migrateOne(world, free));
    expect(moved).toMatchObject({ failed: [], moved: 512 });
    const leaf = mmOf(task).pageTable.peekPmd(2);
    expect(leaf.pfn).not.toBe(free);
    expect(leaf.bits & (PMD_LEAF | PTE_PRESENT | PTE_WRITE)).toBe(PMD_LEAF | PTE_PRESENT | PTE_WRITE);
    expect(world.core.frames.content.peek(leaf.pfn + 511)).not.toBe(0);
    const refused = run(world, task, () => migrateOne(world, pinned));
    expect(refused).toMatchObject({ failed: [pinned], notMoved: 1, moved: 0 });
    expect(mmOf(task).pageTable.peekPmd(3)).toMatchObject({ pfn: pinned });
    expect(world.core.folios.orderOf(pinned)).toBe(9);
  });

  it('gives up on a page under writeback unless it may wait (R31)', () => {
    const world = makeWorld({ kernel });
    const task = makeTask(world, 'a');
    const inode = makeInode(world, { kind: 'file', fs: 'ext4' });
    sharedArea(task, inode, 1000, 4);
    const pfn = cachedPage(world, inode, 0, [[task, 1000]], { flags: PG_WRITEBACK });
    const seen = windows(mmOf(task));
    const refused = run(world, task, () => migrateOne(world, pfn, { ...SYNC, mode: 'async' }));
    expect(refused).toMatchObject({ failed: [pfn], notMoved: 1 });
    expect(seen.count).toBe(0);
    const END = step('end_page_writeback');
    actor(world, task, 'disk', function* () {
      yield world.sim.sleep(1_000_000, END);
      yield world.core.folios.flags.willUpdate(pfn, END);
      world.core.folios.change(pfn, 0, PG_WRITEBACK);
    });
    const moved = run(world, task, () => migrateOne(world, pfn));
    expect(moved).toMatchObject({ failed: [], moved: 1 });
    expect(world.sim.nowNs).toBeGreaterThanOrEqual(1_000_000);
  });

  it('succeeds in a later pass when a short reference goes away (R23)', () => {
    const world = makeWorld({ kernel });
    const task = makeTask(world, 'a');
    const vma = anonArea(world, task, 1000, 4);
    const pfn = anonPage(world, task, vma, 1001);
    getByHand(world.core, pfn);
    const PUT = step('gup_put_folio', 'none');
    actor(world, task, 'gup', function* () {
      // Drops its reference as soon as a migration has had to leave the entry in place.
      yield world.core.folios.refcount.willUpdate(pfn, PUT);
      for (let i = 0; i < 40; i++) yield world.sim.local(PUT);
      yield world.core.folios.refcount.willUpdate(pfn, PUT);
      world.core.folios.refcount.set(pfn, world.core.folios.refcount.get(pfn) - 1);
    });
    const result = run(world, task, () => migrateOne(world, pfn));
    expect(result).toMatchObject({ failed: [], moved: 1 });
  });

  it('keeps the old folio locked while entries point to it: who waits wakes after the new mapping stands (R25)', () => {
    const world = makeWorld({ kernel });
    const task = makeTask(world, 'a');
    const vma = anonArea(world, task, 1000, 4);
    const pfn = anonPage(world, task, vma, 1001);
    const { pageTable } = mmOf(task);
    const FAULT = step('migration_entry_wait');
    let woken: number | undefined;
    world.sim.observer = {
      stepActed() {
        const entry = pageTable.peekPte(1001);
        if ((entry.bits & PTE_MIGRATION) !== 0) expect(world.core.folios.has(entry.pfn, PG_LOCKED)).toBe(true);
      },
    };
    actor(world, task, 'fault', function* () {
      for (;;) {
        yield pageTable.willReadPte(1001, FAULT);
        if ((pageTable.pte(1001).bits & PTE_MIGRATION) !== 0) break;
      }
      yield waitUnlocked(world.core, pfn, FAULT);
      yield pageTable.willReadPte(1001, FAULT);
      woken = pageTable.pte(1001).pfn;
    });
    run(world, task, () => migrateOne(world, pfn));
    expect(woken).toBe(pageTable.peekPte(1001).pfn);
    expect(woken).not.toBe(pfn);
  });
});

describe('migrate_pages', () => {
  it('copies before the freeze since 6.11 and after it before', () => {
    const orders = KERNELS.map((kernel) => {
      const world = makeWorld({ kernel });
      const task = makeTask(world, 'a');
      const vma = anonArea(world, task, 1000, 4);
      const pfn = anonPage(world, task, vma, 1001);
      const labels: string[] = [];
      world.sim.observer = { stepActed: (process) => labels.push(process.acted.step.label) };
      run(world, task, () => migrateOne(world, pfn));
      return labels.filter((label) => label === 'folio_mc_copy' || label === '__folio_migrate_mapping');
    });
    expect(orders).toEqual([
      ['__folio_migrate_mapping', 'folio_mc_copy'],
      ['folio_mc_copy', '__folio_migrate_mapping'],
    ]);
  });

  it('reports -ENOMEM when there is nowhere to go', () => {
    const world = makeWorld({
      zones: [
        { kind: 'NORMAL', node: 0, pages: 2048 },
        { kind: 'MOVABLE', node: 0, pages: 1024 },
      ],
    });
    const task = makeTask(world, 'a');
    const vma = anonArea(world, task, 1000, 4);
    const pfn = anonPage(world, task, vma, 1001, { zone: 1 });
    for (const state of world.core.zones.slice(0, 1)) state.freeRuns.value = [];
    const result = run(world, task, () =>
      migrateOne(world, pfn, { ...SYNC, reason: 'longterm-pin', target: { movable: false, zero: false } }),
    );
    expect(result).toMatchObject({ failed: [pfn], errno: 'ENOMEM' });
    expect(runTimed(world.sim).end).toBe('done');
  });
});
