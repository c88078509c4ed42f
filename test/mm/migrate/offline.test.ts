import { describe, expect, it } from 'vitest';
import { step } from '../../../src/engine/step.ts';
import { allocContigRange, cmaAlloc, freeContigRange } from '../../../src/mm/alloc/contig-range.ts';
import { allocFolio } from '../../../src/mm/alloc/page-alloc.ts';
import { cpuAccess } from '../../../src/mm/fault/access.ts';
import { offlinePages, onlinePages } from '../../../src/mm/migrate/offline.ts';
import { PG_LRU } from '../../../src/mm/page-flags.ts';
import {
  anonArea,
  anonPage,
  cachedPage,
  hugePage,
  makeInode,
  mmOf,
  pinByHand,
  sharedArea,
} from '../../support/pages.ts';
import { actor, makeTask, makeWorld, run } from '../../support/world.ts';

const KERNELS = ['v6.1.192', 'v6.12.117'] as const;
const TICK = step('test:tick', 'none');

function movableWorld(kernel: string) {
  const world = makeWorld({
    kernel,
    zones: [
      { kind: 'NORMAL', node: 0, pages: 4096 },
      { kind: 'MOVABLE', node: 1, pages: 2048 },
    ],
  });
  const task = makeTask(world, 'a');
  const zone = world.core.zones[1]!;
  return { world, core: world.core, task, mm: mmOf(task), zone, first: zone.zone.firstPfn };
}

describe.each(KERNELS)('memory offline on %s', (kernel) => {
  it('moves what is there away, and nobody gets the frames any more (recorded: dimm_offline/movable/control)', () => {
    const { world, core, task, mm, zone, first } = movableWorld(kernel);
    const vma = anonArea(world, task, 1024, 1024);
    const small = anonPage(world, task, vma, 1025, { zone: 1, content: 'A' });
    const content = core.frames.content.peek(small);
    expect(small).toBeGreaterThanOrEqual(first);
    expect(run(world, task, () => offlinePages(core, first, 512))).toBe('ok');
    const moved = mm.pageTable.peekPte(1025).pfn;
    expect(core.machine.zoneOf(moved)?.node).toBe(0);
    expect(core.frames.content.peek(moved)).toBe(content);
    expect(zone.freePages.peek()).toBe(2048 - 512);
    expect(zone.isolated.peek()).toEqual([]);
    run(world, task, () => onlinePages(core, first, 512));
    expect(zone.freePages.peek()).toBe(2048);
  });

  it('goes on for ever with a pinned page in the block, until a signal ends it (R35, recorded)', () => {
    const { world, core, task, mm, zone, first } = movableWorld(kernel);
    const pfn = anonPage(world, task, anonArea(world, task, 1024, 8), 1024, { zone: 1 });
    pinByHand(core, pfn);
    const offliner = makeTask(world, 'echo');
    let rounds = 0;
    world.sim.observer = {
      stepActed: (process) => {
        if (process.acted.step.label === 'offline_pages:again') rounds++;
      },
    };
    actor(world, task, 'alarm', function* () {
      while (rounds < 20) yield world.sim.local(TICK);
      yield offliner.killed.willWrite(TICK);
      offliner.killed.value = true;
    });
    expect(run(world, offliner, () => offlinePages(core, first, 512))).toBe('EINTR');
    expect(rounds).toBeGreaterThanOrEqual(20);
    expect(mm.pageTable.peekPte(1024).pfn).toBe(pfn);
    expect(zone.isolated.peek()).toEqual([]);
  });

  it('ends as soon as the pin goes', () => {
    const { world, core, task, mm, first } = movableWorld(kernel);
    const pfn = anonPage(world, task, anonArea(world, task, 1024, 8), 1024, { zone: 1 });
    pinByHand(core, pfn);
    let rounds = 0;
    world.sim.observer = {
      stepActed: (process) => {
        if (process.acted.step.label === 'offline_pages:again') rounds++;
      },
    };
    actor(world, task, 'unpin', function* () {
      while (rounds < 3) yield world.sim.local(TICK);
      yield core.folios.refcount.willUpdate(pfn, TICK);
      core.folios.refcount.set(pfn, core.folios.refcount.get(pfn) - 1024);
    });
    expect(run(world, makeTask(world, 'echo'), () => offlinePages(core, first, 512))).toBe('ok');
    expect(core.machine.zoneOf(mm.pageTable.peekPte(1024).pfn)?.node).toBe(0);
  });

  it('is EBUSY at once for a page that can never move, outside ZONE_MOVABLE', () => {
    const world = makeWorld({ kernel, zones: [{ kind: 'NORMAL', node: 0, pages: 4096 }] });
    const task = makeTask(world, 'a');
    const { core } = world;
    const page = run(world, task, () => allocFolio(core, { order: 0, movable: false, zero: false }))!;
    expect(core.folios.has(page, PG_LRU)).toBe(false);
    expect(run(world, task, () => offlinePages(core, page - (page % 512), 512))).toBe('EBUSY');
    expect(core.zones[0]!.isolated.peek()).toEqual([]);
    expect(run(world, task, () => offlinePages(core, page - (page % 512) + 1, 512))).toBe('EINVAL');
    expect(run(world, task, () => offlinePages(core, 512, 8192))).toBe('EINVAL');
  });
});

describe.each(KERNELS)('alloc_contig_range and cma_alloc on %s', (kernel) => {
  function cmaWorld() {
    const world = makeWorld({
      kernel,
      zones: [
        { kind: 'NORMAL', node: 0, pages: 4096 },
        { kind: 'CMA', node: 0, pages: 1024 },
      ],
    });
    const task = makeTask(world, 'a');
    const zone = world.core.zones[1]!;
    return { world, core: world.core, task, mm: mmOf(task), zone, first: zone.zone.firstPfn };
  }

  it('empties an area of anonymous, shared and huge pages', () => {
    const { world, core, task, mm, first } = cmaWorld();
    const vma = anonArea(world, task, 1024, 1024);
    const inode = makeInode(world, { kind: 'shmem' });
    sharedArea(task, inode, 8192, 8);
    anonPage(world, task, vma, 1025, { zone: 1 });
    cachedPage(world, inode, 0, [[task, 8192]], { zone: 1 });
    const huge = hugePage(world, task, vma, 1536, { zone: 1 });
    expect(huge).toBe(first + 512);
    expect(run(world, task, () => allocContigRange(core, first, first + 1024))).toBe('ok');
    expect(core.machine.zoneOf(mm.pageTable.peekPte(1025).pfn)?.kind).toBe('NORMAL');
    expect(core.machine.zoneOf(mm.pageTable.peekPmd(3).pfn)?.kind).toBe('NORMAL');
    expect(core.machine.zoneOf(inode.pages.peek(0) - 1)?.kind).toBe('NORMAL');
    expect(core.folios.refcount.peek(first + 700)).toBe(1);
    run(world, task, () => freeContigRange(core, first, first + 1024));
    expect(core.zones[1]!.freePages.peek()).toBe(1024);
  });

  it.each(['anon', 'shmem'] as const)(
    'tries the next area when a pinned %s page holds the first, and succeeds after the unpin (R32)',
    (kind) => {
      const { world, core, task, zone, first } = cmaWorld();
      const inode = makeInode(world, { kind: 'shmem' });
      sharedArea(task, inode, 8192, 8);
      const pfn =
        kind === 'anon'
          ? anonPage(world, task, anonArea(world, task, 1024, 8), 1024, { zone: 1 })
          : cachedPage(world, inode, 0, [[task, 8192]], { zone: 1 });
      expect(pfn).toBe(first);
      pinByHand(core, pfn);
      expect(run(world, task, () => allocContigRange(core, first, first + 512))).toBe('EBUSY');
      expect(zone.isolated.peek()).toEqual([]);
      expect(run(world, task, () => cmaAlloc(core, zone, 512))).toBe(first + 512);
      expect(run(world, task, () => cmaAlloc(core, zone, 512))).toBe(null);
      core.folios.refcount.set(pfn, core.folios.refcount.peek(pfn) - 1024);
      expect(run(world, task, () => cmaAlloc(core, zone, 512))).toBe(first);
    },
  );

  it('gives a movable page five tries', () => {
    const { world, core, task, first } = cmaWorld();
    const inode = makeInode(world, { kind: 'shmem' });
    sharedArea(task, inode, 8192, 8);
    const pfn = cachedPage(world, inode, 0, [[task, 8192]], { zone: 1 });
    pinByHand(core, pfn);
    run(world, task, () => allocContigRange(core, first, first + 512));
    // One isolation, and migrate_pages until the fifth time.
    expect(core.vmstat.peek('pgmigrate_fail')).toBe(5);
  });

  it('drains what waits in LRU batches before it looks', () => {
    const { world, core, task, first } = cmaWorld();
    anonArea(world, task, 1024, 8);
    run(world, task, () => cpuAccess(core, 1024, { token: 1 }));
    const pfn = mmOf(task).pageTable.peekPte(1024).pfn;
    expect(core.machine.zoneOf(pfn)?.kind).toBe('CMA');
    expect(core.folios.has(pfn, PG_LRU)).toBe(false);
    expect(run(world, task, () => allocContigRange(core, first, first + 512))).toBe('ok');
  });
});
