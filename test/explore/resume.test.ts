// A search that was stopped and went on in another process: the same executions, findings and verdict.
import { describe, expect, test } from 'vitest';
import { Sim } from '../../src/engine/sim.ts';
import { Program } from '../../src/explore/program.ts';
import { NotRepeatable } from '../../src/explore/schedulers/scheduler.ts';
import { type ExploreOptions, type ExploreResult, type SavedSearch, Search } from '../../src/explore/search.ts';
import * as programs from './programs.ts';
import { build, randomProgram } from './random-program.ts';

type Build = (sim: Program) => void;

function searchOf(program: Build, options: ExploreOptions): Search {
  const sim = new Sim({ checked: true, journaled: true });
  program(new Program(sim));
  return new Search(sim, options);
}

/** Every schedule and the result, stopped and saved as text after each of the given numbers of executions. */
function run(
  program: Build,
  options: ExploreOptions,
  cuts: readonly number[],
): { trail: string[]; result: ExploreResult } {
  const trail: string[] = [];
  let search = searchOf(program, options);
  for (let n = 0; ; n++) {
    if (cuts.includes(n)) {
      const text = JSON.stringify(search.save());
      search = searchOf(program, options);
      search.restore(JSON.parse(text) as SavedSearch);
    }
    if (!search.next()) break;
    trail.push(JSON.stringify(search.runner.schedule()));
  }
  return { trail, result: search.result() };
}

function expectSame(program: Build, options: ExploreOptions, cuts: readonly number[]): void {
  const { trail, result } = run(program, options, []);
  const cut = run(program, options, cuts);
  expect(cut.trail).toEqual(trail);
  expect(cut.result).toEqual(result);
}

describe('a search that was cut goes on as if it had not been', () => {
  test.each<[string, Build]>([
    ['readers(7)', programs.readers(7)],
    ['filesystem(16)', programs.filesystem(16)],
    ['indexer(13)', programs.indexer(13)],
    ['casrot(6)', programs.casrot(6)],
    ['wcas(6)', programs.wcas(6)],
    ['fib(2)', programs.fib(2)],
    ['optlock(4)', programs.optlock(4)],
    ['sigma(4)', programs.sigma(4)],
    ['expbug(1)', programs.expbug(1)],
    ['lockinc(5)', programs.lockinc(5)],
  ])('%s', (_, program) => {
    expectSame(program, { strategy: 'dpor' }, [0]);
    expectSame(program, { strategy: 'dpor' }, [1]);
    expectSame(program, { strategy: 'dpor' }, [1, 2, 3, 5, 8, 13, 21, 34, 55, 89]);
    expectSame(program, { strategy: 'dpor' }, [7, 100_000]);
  });

  test('random programs with everything in them, cut after every execution', () => {
    for (let n = 0; n < 300; n++) {
      const program = build(randomProgram('resume', n, 8));
      const options = { strategy: 'dpor', maxExecutions: 200 } as const;
      expectSame(program, options, n % 2 === 0 ? Array.from({ length: 60 }, (_, i) => i) : [1 + (n % 13), 40]);
    }
  }, 120_000);

  test.each([0, 1, 2])('under a bound of %i preemptions', (bound) => {
    for (const program of [programs.fib2(2), programs.casrot(4), programs.lockinc(3)]) {
      expectSame(program, { strategy: 'bounded', bound }, [1, 4, 9, 20]);
    }
    for (let n = 0; n < 60; n++) {
      expectSame(build(randomProgram('resume bounded', n, 6)), { strategy: 'bounded', bound }, [0, 1, 3, 7, 20, 60]);
    }
  });

  test.each(['random', 'pct', 'pos', 'timed'] as const)('%s', (strategy) => {
    expectSame(programs.casrot(5), { strategy, runs: 50 }, [1, 10, 30]);
  });

  test('when it is over, it stays over', () => {
    const search = searchOf(programs.casrot(4), {});
    while (search.next());
    const again = searchOf(programs.casrot(4), {});
    again.restore(JSON.parse(JSON.stringify(search.save())) as SavedSearch);
    expect(again.next()).toBe(false);
    expect(again.result()).toEqual(search.result());
  });

  test('another program is refused where that shows', () => {
    const search = searchOf(programs.casrot(5), {});
    for (let i = 0; i < 10; i++) search.next();
    const other = searchOf(programs.cas(2), {});
    expect(() => other.restore(search.save())).toThrow(NotRepeatable);
    expect(() => searchOf(programs.casrot(5), { strategy: 'pos' }).restore(search.save())).toThrow(
      'cannot go on as pos',
    );
  });
});
