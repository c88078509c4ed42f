import { describe, expect, it } from 'vitest';
import { call } from '../../../src/engine/process.ts';
import { step } from '../../../src/engine/step.ts';
import { allocFolio } from '../../../src/mm/alloc/page-alloc.ts';
import { cpuAccess } from '../../../src/mm/fault/access.ts';
import { PG_LRU, PG_SWAPCACHE } from '../../../src/mm/page-flags.ts';
import { PTE_SWAP } from '../../../src/mm/pte.ts';
import { startReclaim } from '../../../src/mm/reclaim/kswapd.ts';
import { anonArea, anonPage, mmOf, pinByHand } from '../../support/pages.ts';
import { tokenOf } from '../../support/tokens.ts';
import { actor, makeTask, makeWorld, run } from '../../support/world.ts';

const KERNELS = ['v6.1.192', 'v6.12.117'] as const;

/** 8 MiB, of which the zero pages take 4. */
function smallWorld(kernel: string, swapSlots: number) {
  const world = makeWorld({
    kernel,
    zones: [{ kind: 'NORMAL', node: 0, pages: 2048 }],
    params: { swapSlots, thp: 'never', stepPages: 1 },
    sim: { journaled: false, digested: false, checked: false },
  });
  startReclaim(world.core);
  return world;
}

describe.each(KERNELS)('memory pressure on %s', (kernel) => {
  it('swaps out what a hog pushes aside, and every page comes back with its contents', () => {
    const world = smallWorld(kernel, 4096);
    const { core } = world;
    const task = makeTask(world, 'hog');
    const pages = 2000;
    anonArea(world, task, 10000, pages);
    run(world, task, function* () {
      for (let i = 0; i < pages; i++) {
        const result = yield* call(cpuAccess(core, 10000 + i, { token: tokenOf(`page ${i}`) }));
        if ('signal' in result) throw new Error(`page ${i}: ${result.signal}`);
      }
    });
    expect(core.vmstat.peek('pswpout')).toBeGreaterThan(800);
    let wrong = 0;
    run(world, task, function* () {
      for (let i = 0; i < pages; i++) {
        const result = yield* call(cpuAccess(core, 10000 + i, null));
        if (!('token' in result) || result.token !== tokenOf(`page ${i}`)) wrong++;
      }
    });
    expect(wrong).toBe(0);
  });

  it('leaves a pinned page where it is while everything else goes to swap', () => {
    const world = smallWorld(kernel, 4096);
    const { core } = world;
    const victim = makeTask(world, 'victim');
    const vma = anonArea(world, victim, 1000, 16);
    const pinned = anonPage(world, victim, vma, 1000);
    const free = anonPage(world, victim, vma, 1001);
    pinByHand(core, pinned);
    const hog = makeTask(world, 'hog');
    anonArea(world, hog, 10000, 2000);
    run(world, hog, function* () {
      for (let i = 0; i < 2000; i++) yield* call(cpuAccess(core, 10000 + i, { token: 1 }));
    });
    expect(mmOf(victim).pageTable.peekPte(1000).pfn).toBe(pinned);
    expect(mmOf(victim).pageTable.peekPte(1001).bits & PTE_SWAP).toBe(PTE_SWAP);
    expect(core.folios.refcount.peek(free)).not.toBe(1025);
    expect(core.folios.has(pinned, PG_SWAPCACHE)).toBe(false);
  });

  it('gives up when only pinned pages are left: kswapd stops after 16 runs, the allocation fails (R19)', () => {
    const world = smallWorld(kernel, 4096);
    const { core } = world;
    const task = makeTask(world, 'pinner');
    const vma = anonArea(world, task, 10000, 4000);
    for (let i = 0; ; i++) {
      if (core.zones[0]!.freePages.peek() === 0) break;
      pinByHand(core, anonPage(world, task, vma, 10000 + i));
    }
    const kswapd = world.sim.processes.find(({ name }) => name === 'kswapd0')!;
    const stepsOfRuns: number[] = [];
    for (let i = 0; i < 3; i++) {
      const before = kswapd.stepCount;
      const got = run(world, task, () => allocFolio(core, { order: 0, movable: true, zero: false }));
      expect(got).toBeUndefined();
      stepsOfRuns.push(kswapd.stepCount - before);
    }
    expect(core.vmstat.peek('pswpout')).toBe(0);
    // An allocation tries 16 times over, and so does kswapd, which nobody wakes after that.
    expect(stepsOfRuns[0]).toBeGreaterThan(0);
    expect(stepsOfRuns.slice(1)).toEqual([0, 0]);
    expect(core.folios.has(mmOf(task).pageTable.peekPte(10000).pfn, PG_LRU)).toBe(true);
  });
});

describe('kswapd', () => {
  it('sleeps until it is woken, and the run ends while it sleeps', () => {
    const world = makeWorld();
    startReclaim(world.core);
    const kswapd = world.sim.processes.find(({ name }) => name === 'kswapd0');
    actor(world, makeTask(world, 'idle'), 'idle', function* () {
      yield world.sim.sleep(1_000_000, step('idle', 'none'));
    });
    run(world, makeTask(world, 'other'), function* () {
      yield world.sim.local(step('x', 'none'));
    });
    expect(kswapd?.state).toBe('live');
    expect(kswapd?.stepCount).toBe(0);
  });

  it.each([[[]], [[{ kind: 'CMA', node: 0, pages: 1024 } as const]]])(
    'works for who may not use ZONE_MOVABLE, however much is free there, and gives up for them (%j)',
    (more) => {
      const world = makeWorld({
        zones: [{ kind: 'NORMAL', node: 0, pages: 2048 }, { kind: 'MOVABLE', node: 0, pages: 4096 }, ...more],
        params: { swapSlots: 0, thp: 'never' },
      });
      const { core } = world;
      startReclaim(core);
      const kswapd = world.sim.processes.find(({ name }) => name === 'kswapd0')!;
      const task = makeTask(world, 'pinner');
      const allocate = () => run(world, task, () => allocFolio(core, { order: 0, movable: false, zero: false }));
      // Before, the allocation that found none waited for a kswapd that saw nothing to do: a deadlock.
      while (allocate() !== undefined);
      const zone = core.zones.find((state) => state.zone.kind === 'NORMAL')!;
      expect(zone.freePages.peek()).toBe(0);
      expect(kswapd.stepCount).toBeGreaterThan(0);
    },
  );
});
