// What a search costs on the memory model: three actors and one page, about 40 steps. One pins it through GUP-fast and
// unpins it, one zaps it, one writes it.
import { call } from '../src/engine/process.ts';
import { Dpor } from '../src/explore/dpor.ts';
import { RandomWalk } from '../src/explore/random.ts';
import { Runner } from '../src/explore/runner.ts';
import type { Scheduler } from '../src/explore/scheduler.ts';
import { tokenOf } from '../src/hw/token.ts';
import { cpuAccess } from '../src/mm/access.ts';
import { pinUserPagesFast } from '../src/mm/gup-fast.ts';
import { madvise } from '../src/mm/madvise.ts';
import { unpinUserPages } from '../src/mm/unpin.ts';
import { Lab } from '../test/support/lab.ts';
import { actor } from '../test/support/world.ts';
import { type Bench, cpuNsPer } from './measure.ts';

/** Executions per second to reach, by strategy. */
const TARGET = 20_000;
const ROUNDS = 5;
/** Executions of a round. */
const RUNS = 4_000;

function world(): Lab {
  const lab = new Lab({ cpus: 4, sim: { checked: false, digested: false, journaled: true } });
  const { core, task } = lab;
  lab.map({ pages: 1 });
  lab.write('before');
  lab.world.sim.finishSetUp();
  const { vpn } = lab;
  actor(lab.world, task, 'pinner', function* () {
    const { runs } = yield* call(pinUserPagesFast(core, vpn, 1, { owner: 'driver', write: true }));
    yield* call(unpinUserPages(core, runs, { owner: 'driver', dirty: true }));
  });
  actor(lab.world, task, 'zapper', function* () {
    yield* call(madvise(core, vpn, 1, 'DONTNEED'));
  });
  actor(lab.world, task, 'writer', function* () {
    yield* call(cpuAccess(core, vpn, { token: tokenOf('after') }));
  });
  return lab;
}

const STRATEGIES: readonly { readonly name: string; readonly make: (lab: Lab) => Scheduler }[] = [
  { name: 'random walk', make: () => new RandomWalk('bench', RUNS) },
  { name: 'DPOR', make: (lab) => new Dpor(lab.world.sim) },
];

export const memoryExplore: Bench = {
  name: 'memory-explore',
  about: 'executions per second of a search over a three-actor race on one page; x = speed relative to the target',
  run(print) {
    let reached = true;
    for (const { name, make } of STRATEGIES) {
      const lab = world();
      const runner = new Runner(lab.world.sim);
      let best = Number.POSITIVE_INFINITY;
      let done = 0;
      for (let round = 0; round <= ROUNDS; round++) {
        const from = done;
        const ns = cpuNsPer(1, () => {
          // A search that is complete before the round is over starts again.
          while (done - from < RUNS) {
            const scheduler = make(lab);
            for (let run = 0; done - from < RUNS && runner.execute(scheduler, run); run++) done++;
          }
        });
        if (round > 0) best = Math.min(best, ns / (done - from));
      }
      const rate = 1e9 / best;
      if (rate < TARGET) reached = false;
      print(
        `${name.padEnd(14)} ${Math.round(rate).toString().padStart(8)} executions/s` +
          ` ${(rate / TARGET).toFixed(2).padStart(6)} x   ${(runner.totalSteps / done).toFixed(1)} steps each,` +
          ` ${Math.round((best * done) / runner.totalSteps)} ns per step` +
          `   ${rate >= TARGET ? 'reached' : `MISSED: ${TARGET}`}`,
      );
    }
    return reached;
  },
};
