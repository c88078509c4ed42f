// The estimate of how many interleavings there are: near the exact counts of the literature before anything was run,
// nearer while the search goes on, exact at its end.
import { describe, expect, test } from 'vitest';
import { Sim } from '../../src/engine/sim.ts';
import { Program } from '../../src/explore/program.ts';
import { Search } from '../../src/explore/search.ts';
import * as programs from './programs.ts';
import { build, randomProgram } from './random-program.ts';

type Build = (sim: Program) => void;

function searchOf(program: Build, options: ConstructorParameters<typeof Search>[1] = {}): Search {
  const sim = new Sim({ checked: true, journaled: true });
  program(new Program(sim));
  return new Search(sim, options);
}

describe('estimated number of interleavings', () => {
  test.each<[string, Build, number]>([
    ['readers(13)', programs.readers(13), 8192],
    ['filesystem(22)', programs.filesystem(22), 512],
    ['indexer(13)', programs.indexer(13), 64],
    ['binc(5)', programs.binc(5), 14400],
    ['casrot(9)', programs.casrot(9), 8597],
    ['wcas(9)', programs.wcas(9), 2305],
    ['fib(4)', programs.fib(4), 19605],
    ['fib2(4)', programs.fib2(4), 1107],
    ['sigma(6)', programs.sigma(6), 10395],
    ['optlock(3)', programs.optlock(3), 126],
    ['IRIW', programs.litmus('Wx', 'Wy', 'Rx Ry', 'Ry Rx'), 15],
  ])('%s is within the error, before and during the search', (_, program, exact) => {
    const search = searchOf(program);
    for (const part of [0, 0.1, 0.5, 0.9]) {
      while (search.executions < exact * part) search.next();
      const { total, error } = search.estimate(4000)!;
      expect(Math.abs(total - exact)).toBeLessThanOrEqual(1.5 * error! + 1);
    }
    while (search.next());
    expect(search.estimate()).toEqual({ total: exact, error: 0 });
  });

  test.each<[string, Build, number]>([
    ['lastwrite(7)', programs.lastwrite(7), 5040],
    ['ainc(8)', programs.ainc(8), 40320],
    ['lockinc(7)', programs.lockinc(7), 5040],
    ['cas(5)', programs.cas(5), 5],
  ])('%s: every walk stands for all', (_, program, exact) => {
    expect(searchOf(program).estimate()).toEqual({ total: exact, error: 0 });
  });

  test('rare traces make it too small at first; the search corrects it as it goes', () => {
    const search = searchOf(programs.expbug(2));
    const off: number[] = [];
    for (const executions of [1, 4000, 8400, 9200]) {
      while (search.executions < executions) search.next();
      off.push(Math.abs(search.estimate(4000)!.total - 9326));
    }
    expect(off[0]).toBeGreaterThan(off[1]!);
    expect(off[1]).toBeGreaterThan(off[2]!);
    expect(off[3]).toBeLessThan(600);
  });

  test('the mean over many random programs is unbiased', () => {
    let ratios = 0;
    let count = 0;
    for (let n = 0; count < 100; n++) {
      const program = build(randomProgram('estimate', n, 7));
      const search = searchOf(program, { seed: n });
      const first = search.estimate(500)!;
      while (search.executions < 2000 && search.next());
      if (search.scheduler.finished !== true) continue;
      count++;
      ratios += first.total / search.executions;
    }
    expect(ratios / count).toBeGreaterThan(0.96);
    expect(ratios / count).toBeLessThan(1.04);
  });

  test('asked for late, it says the same', () => {
    for (const program of [programs.sigma(4), programs.fib2(3)]) {
      const early = searchOf(program);
      early.estimate();
      const late = searchOf(program);
      for (let i = 0; i < 50; i++) {
        early.next();
        late.next();
      }
      expect(late.estimate()).toEqual(early.estimate());
    }
  });

  test('an estimate leaves the search alone', () => {
    const trail = (estimating: boolean): string[] => {
      const search = searchOf(programs.fib2(3));
      const tokens: string[] = [];
      while (search.next()) {
        tokens.push(JSON.stringify(search.runner.schedule()));
        if (estimating) search.estimate();
      }
      return tokens;
    };
    expect(trail(true)).toEqual(trail(false));
  });

  test('under a bound it is rough, for samplers it is the number of runs', () => {
    const bounded = searchOf(programs.fib2(3), { strategy: 'bounded', bound: 2 });
    expect(bounded.estimate()).toBeNull();
    for (let i = 0; i < 20; i++) bounded.next();
    expect(bounded.estimate()!.error).toBeNull();
    expect(bounded.estimate()!.total).toBeGreaterThan(20);
    while (bounded.next());
    expect(bounded.estimate()).toEqual({ total: bounded.executions, error: 0 });
    expect(searchOf(programs.fib2(3), { strategy: 'pct', runs: 77 }).estimate()).toEqual({ total: 77, error: 0 });
  });
});
