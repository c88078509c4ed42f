import { describe, expect, it } from 'vitest';
import { call, type Steps } from '../../../src/engine/process.ts';
import { allocFolio } from '../../../src/mm/alloc/page-alloc.ts';
import type { CoreMm } from '../../../src/mm/core.ts';
import { fork } from '../../../src/mm/process/fork.ts';
import { folioAddLru, lruAddDrainAll } from '../../../src/mm/reclaim/lru.ts';
import { makeTask, makeWorld, run } from '../../support/world.ts';

/** Puts a new page on its LRU list. */
function* add(core: CoreMm): Steps<number> {
  const head = (yield* call(allocFolio(core, { order: 0, movable: true, zero: true })))!;
  yield* call(folioAddLru(core, head));
  yield* call(lruAddDrainAll(core));
  return head;
}

describe('the order of an LRU list', () => {
  it('has pages of a forked child behind those that its parent put there before', () => {
    const world = makeWorld();
    const { core } = world;
    let last = 0;
    let first = 0;
    run(world, makeTask(world, 'parent'), function* () {
      for (let i = 0; i < 20; i++) last = yield* call(add(core));
      yield* call(
        fork(core, {}, function* () {
          first = yield* call(add(core));
        }),
      );
    });
    expect(first).not.toBe(0);
    expect(core.folios.lruAge.peek(first)).toBeGreaterThan(core.folios.lruAge.peek(last));
  });
});
