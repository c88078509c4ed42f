import { describe, expect, it } from 'vitest';
import { giveBack } from '../../../src/mm/alloc/free-runs.ts';
import { allocFolio } from '../../../src/mm/alloc/page-alloc.ts';
import { compactMemory, compactZone } from '../../../src/mm/migrate/compaction.ts';
import { PG_DIRTY } from '../../../src/mm/page-flags.ts';
import { startReclaim } from '../../../src/mm/reclaim/kswapd.ts';
import { anonArea, anonPage, cachedPage, makeInode, mmOf, pinByHand, sharedArea } from '../../support/pages.ts';
import { makeTask, makeWorld, run } from '../../support/world.ts';

const KERNELS = ['v6.1.192', 'v6.12.117'] as const;

/** A zone of which 1024 pages are taken at boot and every fourth of the rest is used. */
function fragmented(kernel: string, free = 256) {
  const world = makeWorld({ kernel, zones: [{ kind: 'NORMAL', node: 0, pages: 1024 + free }] });
  const { core } = world;
  const task = makeTask(world, 'a');
  const vma = anonArea(world, task, 10000, 1024);
  const zone = core.zones[0]!;
  const pfns = Array.from({ length: free }, (_, i) => anonPage(world, task, vma, 10000 + i));
  const mm = mmOf(task);
  const kept: number[] = [];
  for (let i = 0; i < free; i++) {
    if (i % 4 === 0) {
      kept.push(pfns[i]!);
      continue;
    }
    const pfn = pfns[i]!;
    mm.pageTable.clearPte(10000 + i);
    core.folios.removePteMapping(pfn, pfn);
    core.folios.refcount.set(pfn, 0);
    core.folios.flags.set(pfn, 0);
    core.folios.mapping.set(pfn, 0);
    core.lru.add(-1);
    giveBack(core, pfn, 1);
  }
  return { world, core, task, mm, zone, kept };
}

describe.each(KERNELS)('compaction on %s', (kernel) => {
  it('moves pages up until the scanners meet, and makes large free blocks', () => {
    const { world, core, task, mm, zone, kept } = fragmented(kernel);
    const result = run(world, task, () => compactMemory(core));
    expect(result.failed).toBe(0);
    expect(result.migrated).toBeGreaterThan(30);
    const after = Array.from({ length: 64 }, (_, i) => mm.pageTable.peekPte(10000 + 4 * i).pfn);
    expect(after.filter((pfn, i) => pfn !== kept[i]).length).toBe(result.migrated);
    expect(new Set(after).size).toBe(64);
    expect(zone.freePages.peek() + core.perCpu.reduce((sum, c) => sum + c.freePages.peek().length, 0)).toBe(192);
  });

  it('passes over a pinned anonymous page without isolating it (R29, recorded: compact_memory)', () => {
    const { world, core, task, mm, kept } = fragmented(kernel);
    pinByHand(core, kept[0]!);
    let windows = 0;
    mm.notifiers.registerNow({
      name: 'witness',
      *invalidateRangeStart(range) {
        if (range.start === 10000) windows++;
        return true;
      },
    });
    const result = run(world, task, () => compactMemory(core));
    expect(mm.pageTable.peekPte(10000).pfn).toBe(kept[0]);
    expect(mm.pageTable.peekPte(10004).pfn).not.toBe(kept[1]);
    expect(result.failed).toBe(0);
    expect(windows).toBe(0);
  });

  it('isolates a pinned shmem page, unmaps and restores it (R30)', () => {
    const { world, core, task } = fragmented(kernel);
    const inode = makeInode(world, { kind: 'shmem' });
    sharedArea(task, inode, 5000, 8);
    const pfn = cachedPage(world, inode, 0, [[task, 5000]]);
    pinByHand(core, pfn);
    let windows = 0;
    mmOf(task).notifiers.registerNow({
      name: 'witness',
      *invalidateRangeStart(range) {
        if (range.start === 5000) windows++;
        return true;
      },
    });
    run(world, task, () => compactMemory(core));
    expect(mmOf(task).pageTable.peekPte(5000).pfn).toBe(pfn);
    expect(windows).toBeGreaterThan(0);
  });

  it('without waiting, leaves dirty file pages alone', () => {
    const { world, core, task, zone } = fragmented(kernel);
    const inode = makeInode(world, { kind: 'file', fs: 'ext4' });
    sharedArea(task, inode, 5000, 8);
    const pfn = cachedPage(world, inode, 0, [[task, 5000]], { flags: PG_DIRTY });
    run(world, task, () => compactZone(core, zone, { mode: 'async', order: null, direct: true }));
    expect(inode.pages.peek(0)).toBe(pfn + 1);
  });

  it('lets an allocation of a huge page succeed in fragmented memory', () => {
    const { world, core, task } = fragmented(kernel, 1024);
    startReclaim(core);
    const huge = (noReclaim: boolean) =>
      run(world, task, () => allocFolio(core, { order: 9, movable: true, zero: false, noReclaim }));
    expect(huge(true)).toBeUndefined();
    const head = huge(false);
    expect(head).toBeDefined();
    expect(core.folios.orderOf(head!)).toBe(9);
  });
});
