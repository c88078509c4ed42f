import { describe, expect, it } from 'vitest';
import { step } from '../../../src/engine/step.ts';
import { PG_LRU } from '../../../src/mm/page-flags.ts';
import { memInfo, willReadMemInfo } from '../../../src/mm/proc/meminfo.ts';
import { anonArea, anonPage, cachedPage, makeInode } from '../../support/pages.ts';
import { makeTask, makeWorld, run } from '../../support/world.ts';

const LOOK = step('test:meminfo', 'none');

function look(fill: (world: ReturnType<typeof makeWorld>) => void) {
  const world = makeWorld({ zones: [{ kind: 'NORMAL', node: 0, pages: 16384 }] });
  const { core } = world;
  fill(world);
  return run(world, makeTask(world, 'reader'), function* () {
    yield willReadMemInfo(core, LOOK);
    return memInfo(core);
  });
}

describe('memInfo', () => {
  it('keeps the reserve out of what is available', () => {
    const { free, available } = look(() => {});
    expect(available).toBeLessThan(free);
    expect(available).toBeGreaterThan(free / 2);
  });

  it('counts at least half of the page cache as available, and no anonymous memory', () => {
    const nothing = look(() => {});
    const anon = look((world) => {
      const task = makeTask(world, 'a');
      const vma = anonArea(world, task, 1000, 64);
      for (let i = 0; i < 64; i++) world.core.folios.change(anonPage(world, task, vma, 1000 + i), PG_LRU);
    });
    const cached = look((world) => {
      const inode = makeInode(world, { kind: 'file' });
      for (let i = 0; i < 64; i++) world.core.folios.change(cachedPage(world, inode, i, []), PG_LRU);
    });
    expect(anon.available).toBe(nothing.available - (nothing.free - anon.free));
    expect(cached.available).toBeGreaterThanOrEqual(nothing.available - (nothing.free - cached.free) + 32);
  });
});
