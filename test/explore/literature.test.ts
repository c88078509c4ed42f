// Optimal DPOR against exact counts of the literature (Nidhugg, GenMC, Concuerror, brute force): every trace once,
// nothing blocked, complete.
import { describe, expect, test } from 'vitest';
import { type ExploreOptions, explore } from '../../src/explore/explore.ts';
import type { Program } from '../../src/explore/program.ts';
import * as programs from './programs.ts';

type Build = (sim: Program) => void;

function count(build: Build, options: ExploreOptions = {}): number {
  const result = explore(build, { strategy: 'dpor', ...options });
  expect(result.blocked).toBe(0);
  expect(result.complete).toBe(true);
  return result.executions;
}

/** [name, program by its parameter, first parameter, counts from there on] */
const tables: readonly [string, (n: number) => Build, number, readonly number[]][] = [
  ['readers', programs.readers, 2, [4, 8, 16, 32, 64, 128, 256]],
  ['readers', programs.readers, 13, [8192]],
  ['filesystem', programs.filesystem, 14, [2, 4, 8, 16, 32, 64, 128]],
  ['filesystem', programs.filesystem, 22, [512]],
  ['indexer', programs.indexer, 12, [8, 64, 512, 4096, 32768]],
  ['lastwrite', programs.lastwrite, 2, [2, 6, 24, 120, 720, 5040]],
  ['ainc', programs.ainc, 5, [120, 720, 5040, 40320]],
  ['binc', programs.binc, 2, [4, 36, 576, 14400]],
  ['lockinc', programs.lockinc, 2, [2, 6, 24, 120, 720, 5040]],
  ['cas', programs.cas, 2, [2, 3, 4, 5]],
  ['casrot', programs.casrot, 2, [2, 5, 14, 43, 144, 523, 2048, 8597, 38486]],
  ['wcas', programs.wcas, 2, [5, 13, 33, 81, 193, 449, 1025, 2305]],
  ['fib', programs.fib, 2, [140, 1698, 19605, 218243]],
  ['fib2', programs.fib2, 2, [19, 141, 1107]],
  ['optlock', programs.optlock, 1, [10, 42, 126, 346, 922, 2430]],
  ['sigma', programs.sigma, 2, [3, 15, 105, 945, 10395]],
  ['expbug', programs.expbug, 1, [1955, 9326, 36570, 120600]],
];

describe('optimal DPOR counts', () => {
  for (const [name, program, from, counts] of tables) {
    test.each(counts.map((expected, i) => [from + i, expected]))(`${name}(%i): %i`, (n, expected) => {
      expect(count(program(n))).toBe(expected);
    });
  }

  test.each([
    ['SB', ['Wx Ry', 'Wy Rx'], 3],
    ['MP', ['Wx Wy', 'Ry Rx'], 3],
    ['LB', ['Rx Wy', 'Ry Wx'], 3],
    ['2+2W', ['Wx Wy', 'Wy Wx'], 3],
    ['S', ['Wx Wy', 'Ry Wx'], 3],
    ['R', ['Wx Wy', 'Wy Rx'], 3],
    ['CoRR', ['Wx Wx', 'Rx Rx'], 6],
    ['WRC', ['Wx', 'Rx Wy', 'Ry Rx'], 7],
    ['ISA2', ['Wx Wy', 'Ry Wz', 'Rz Rx'], 7],
    ['IRIW', ['Wx', 'Wy', 'Rx Ry', 'Ry Rx'], 15],
  ])('%s', (_, threads, expected) => {
    expect(count(programs.litmus(...threads))).toBe(expected);
  });

  test('actors that only allocate from lists of their own have one trace', () => {
    const allocators = (lists: number) => (sim: Program) => {
      const free = Array.from({ length: lists }, (_, i) => sim.cell(`free list ${i}`, 0));
      for (let i = 0; i < 3; i++) {
        const list = free[i % lists]!;
        sim.spawn(`cpu${i}`, function* () {
          for (let k = 0; k < 4; k++) {
            yield list.willUpdate();
            list.value += 1;
          }
        });
      }
    };
    expect(count(allocators(3))).toBe(1);
    expect(count(allocators(1))).toBe(34650);
  });
});
