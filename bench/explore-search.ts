// What an exhaustive search costs over just running: readers(13) and the file system of the literature, set-up included,
// beside the same world rewound and run without a search, both in processor time. Memory is compared early and late in one search.
import { Sim } from '../src/engine/sim.ts';
import { explore } from '../src/explore/explore.ts';
import { Program } from '../src/explore/program.ts';
import { Runner } from '../src/explore/runner.ts';
import { Dpor } from '../src/explore/schedulers/dpor.ts';
import { fib, indexer, readers } from '../test/explore/programs.ts';
import { type Bench, type Contender, cpuNsPer } from './measure.ts';

const PER_SECOND = 1e9;
const TARGET = 100_000;
const ROUNDS = 12;

/**
 * Best of `rounds` for each contender, in turns. No collection is forced in between: it would throw away the code that
 * was compiled for the last round's world, and every round would measure the compiler.
 */
function bestOf(contenders: readonly Contender[], rounds: number): number[] {
  const best = contenders.map(() => Number.POSITIVE_INFINITY);
  for (let round = 0; round < rounds; round++) {
    contenders.forEach((contender, i) => {
      best[i] = Math.min(best[i]!, contender.run());
    });
  }
  return best;
}

/** Rewind and run in slot order, nothing recorded, nothing checked. */
function bare(setup: (sim: Program) => void, name: string, runs: number): Contender {
  const sim = new Sim({ journaled: true });
  setup(new Program(sim));
  sim.mark();
  const work = (): void => {
    for (let i = 0; i < runs; i++) {
      sim.rewind();
      for (const process of sim.processes) while (process.state === 'live' && process.enabled) sim.act(process);
    }
  };
  return { name, run: () => cpuNsPer(runs, work) };
}

function search(setup: (sim: Program) => void, name: string, executions: number): Contender {
  const work = (): void => {
    const result = explore(setup, { strategy: 'dpor' });
    if (result.executions !== executions || !result.complete)
      throw new Error(`${name}: ${result.executions} executions`);
  };
  return { name, run: () => cpuNsPer(executions, work) };
}

/** Bytes on the heap after 10,000 executions and at the end. */
function heap(setup: (sim: Program) => void): { early: number; late: number; executions: number } {
  const sim = new Sim({ journaled: true });
  setup(new Program(sim));
  const runner = new Runner(sim);
  const dpor = new Dpor(sim);
  const used = (): number => {
    globalThis.gc?.();
    return process.memoryUsage().heapUsed;
  };
  let early = 0;
  let run = 0;
  for (; runner.execute(dpor, run); run++) if (run === 10_000) early = used();
  return { early, late: used(), executions: run };
}

export const exploreSearch: Bench = {
  name: 'explore',
  about: 'optimal DPOR, executions per second with set-up; x = speed relative to rewinding and running alone',
  run(print) {
    let reached = true;
    const cases: readonly [string, (sim: Program) => void, number, number?][] = [
      ['readers(13)', readers(13), 8192, TARGET],
      ['indexer(14)', indexer(14), 512],
      ['fib(4)', fib(4), 19605],
    ];
    for (const [name, setup, executions, target] of cases) {
      const contenders = [bare(setup, name, executions), search(setup, name, executions)];
      const [bareNs, searchNs] = bestOf(contenders, ROUNDS);
      const perSecond = PER_SECOND / searchNs!;
      const verdict =
        target === undefined ? '' : `   ${perSecond >= target ? 'reached' : 'MISSED'}: at least ${target}/s`;
      const ratio = (bareNs! / searchNs!).toFixed(2);
      print(`${name.padEnd(38)} ${Math.round(perSecond).toString().padStart(9)} /s ${ratio.padStart(7)} x${verdict}`);
      if (target !== undefined) reached &&= perSecond >= target;
    }
    const { early, late, executions } = heap(fib(5));
    const grown = (late - early) / executions;
    print(
      `fib(5): ${executions} executions, heap ${(early / 1e6).toFixed(1)} MB early, ${(late / 1e6).toFixed(1)} MB late`,
    );
    return reached && grown < 1;
  },
};
