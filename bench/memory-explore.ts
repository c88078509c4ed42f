// What a search costs on the memory model: three actors and one page, one takes it through GUP-fast and puts it back, one
// zaps it, one writes it. With get_user_pages_fast_only that is about 40 steps; with a pin that falls back to the slow
// path, and faults, some 50.
import { call, type Steps } from '../src/engine/process.ts';
import { Runner } from '../src/explore/runner.ts';
import { Dpor } from '../src/explore/schedulers/dpor.ts';
import { RandomWalk } from '../src/explore/schedulers/random.ts';
import type { Scheduler } from '../src/explore/schedulers/scheduler.ts';
import { tokenOf } from '../src/hw/token.ts';
import type { CoreMm } from '../src/mm/core.ts';
import { cpuAccess } from '../src/mm/fault/access.ts';
import { getUserPagesFastOnly, pinUserPagesFast } from '../src/mm/gup/gup-fast.ts';
import { putUserPages, unpinUserPages } from '../src/mm/gup/unpin.ts';
import { madvise } from '../src/mm/madvise/madvise.ts';
import { Lab } from '../test/support/lab.ts';
import { actor } from '../test/support/world.ts';
import { type Bench, cpuNsPer } from './measure.ts';

/** Executions per second to reach. */
const TARGET = 20_000;
const ROUNDS = 5;
/** Executions of a round. */
const RUNS = 16_000;

type Taking = (core: CoreMm, vpn: number) => Steps<void>;

function* fastOnly(core: CoreMm, vpn: number): Steps<void> {
  const { runs } = yield* call(getUserPagesFastOnly(core, vpn, 1, { owner: 'driver', write: true }));
  yield* call(putUserPages(core, runs, 'driver'));
}

function* withFallback(core: CoreMm, vpn: number): Steps<void> {
  const { runs } = yield* call(pinUserPagesFast(core, vpn, 1, { owner: 'driver', write: true }));
  yield* call(unpinUserPages(core, runs, { owner: 'driver', dirty: true }));
}

function world(taking: Taking): Lab {
  const lab = new Lab({ cpus: 4, sim: { checked: false, digested: false, journaled: true } });
  const { core, task } = lab;
  lab.map({ pages: 1 });
  lab.write('before');
  lab.world.sim.finishSetUp();
  const { vpn } = lab;
  actor(lab.world, task, 'taker', function* () {
    yield* call(taking(core, vpn));
  });
  actor(lab.world, task, 'zapper', function* () {
    yield* call(madvise(core, vpn, 1, 'DONTNEED'));
  });
  actor(lab.world, task, 'writer', function* () {
    yield* call(cpuAccess(core, vpn, { token: tokenOf('after') }));
  });
  return lab;
}

interface Case {
  readonly name: string;
  readonly taking: Taking;
  readonly make: (lab: Lab) => Scheduler;
  /** Executions per second to reach. */
  readonly target?: number;
}

const walk = () => new RandomWalk('bench', RUNS);
const dpor = (lab: Lab) => new Dpor(lab.world.sim);
const CASES: readonly Case[] = [
  { name: 'fast only, random walk', taking: fastOnly, make: walk },
  { name: 'fast only, DPOR', taking: fastOnly, make: dpor, target: TARGET },
  { name: 'with fallback, random walk', taking: withFallback, make: walk },
  { name: 'with fallback, DPOR', taking: withFallback, make: dpor },
];

export const memoryExplore: Bench = {
  name: 'memory-explore',
  about: 'executions per second of a search over a three-actor race on one page; x = speed relative to the target',
  run(print) {
    let reached = true;
    for (const { name, taking, make, target } of CASES) {
      const lab = world(taking);
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
      const verdict = target === undefined ? '' : `   ${rate >= target ? 'reached' : 'MISSED'}: at least ${target}/s`;
      if (target !== undefined) reached &&= rate >= target;
      print(
        `${name.padEnd(27)} ${Math.round(rate).toString().padStart(8)} /s ${(rate / TARGET).toFixed(2).padStart(6)} x` +
          `   ${(runner.totalSteps / done).toFixed(1)} steps each,` +
          ` ${Math.round((best * done) / runner.totalSteps)} ns per step${verdict}`,
      );
    }
    return reached;
  },
};
