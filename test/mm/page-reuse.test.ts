// host.reuse: whether an allocation may get a page that another CPU has freed.
import { describe, expect, it } from 'vitest';
import { call } from '../../src/engine/process.ts';
import { allocFolio } from '../../src/mm/alloc/page-alloc.ts';
import type { CoreMmParams } from '../../src/mm/core.ts';
import { folioPut } from '../../src/mm/refcount.ts';
import { makeTask, makeWorld, run } from '../support/world.ts';

const GFP = { order: 0, movable: true, zero: true };

/** One actor frees a page, then another, on a CPU of its own, allocates: among how many it chose, and whether it has that page. */
function freeAndAllocate(reuse: CoreMmParams['reuse'], choice: number) {
  const world = makeWorld({ params: { reuse } });
  const { sim, core } = world;
  const task = makeTask(world, 't');
  const choices: number[] = [];
  sim.choices = {
    choose: (_process, alternatives) => {
      choices.push(alternatives);
      return choice;
    },
  };
  const freed = run(world, task, function* () {
    const pfn = (yield* call(allocFolio(core, GFP)))!;
    yield* call(folioPut(core, pfn, 1, 'test'));
    return pfn;
  });
  const got = run(world, task, () => allocFolio(core, GFP));
  return { choices, same: got === freed };
}

describe('an allocation', () => {
  it('never gets what another CPU freed, unless the host says so', () => {
    expect(freeAndAllocate('own', 1)).toEqual({ choices: [], same: false });
  });

  it('gets it or not, as a choice', () => {
    expect(freeAndAllocate('choose', 0)).toEqual({ choices: [2], same: false });
    expect(freeAndAllocate('choose', 1)).toEqual({ choices: [2], same: true });
  });

  it('leaves pages alone that nobody has had yet', () => {
    const world = makeWorld({ params: { reuse: 'choose' } });
    const task = makeTask(world, 't');
    world.sim.choices = { choose: () => expect.unreachable('nothing was freed') };
    // The first refills the list of its CPU; the second, on another, has to go to the zone as well.
    const pages = [0, 1].map(() => run(world, task, () => allocFolio(world.core, GFP)));
    expect(Math.abs(pages[0]! - pages[1]!)).toBeGreaterThan(1);
  });
});
