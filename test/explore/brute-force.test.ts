// The brute-force enumerator against the counts of the literature: interleavings and Mazurkiewicz classes.
import { describe, expect, test } from 'vitest';
import { type Build, bruteForce } from './brute-force.ts';
import * as programs from './programs.ts';

const classes = (build: Build) => bruteForce(build).traces.size;

describe('brute force', () => {
  test.each([
    ['SB', ['Wx Ry', 'Wy Rx'], 3, 6],
    ['MP', ['Wx Wy', 'Ry Rx'], 3, 6],
    ['LB', ['Rx Wy', 'Ry Wx'], 3, 6],
    ['2+2W', ['Wx Wy', 'Wy Wx'], 3, 6],
    ['S', ['Wx Wy', 'Ry Wx'], 3, 6],
    ['R', ['Wx Wy', 'Wy Rx'], 3, 6],
    ['CoRR', ['Wx Wx', 'Rx Rx'], 6, 6],
    ['WRC', ['Wx', 'Rx Wy', 'Ry Rx'], 7, 30],
    ['ISA2', ['Wx Wy', 'Ry Wz', 'Rz Rx'], 7, 90],
    ['IRIW', ['Wx', 'Wy', 'Rx Ry', 'Ry Rx'], 15, 180],
  ])('%s', (_, threads, count, interleavings) => {
    const result = bruteForce(programs.litmus(...threads));
    expect(result.traces.size).toBe(count);
    expect(result.interleavings).toBe(interleavings);
  });

  test.each([
    ['readers', programs.readers(6), 64],
    ['lastwrite', programs.lastwrite(5), 120],
    ['ainc', programs.ainc(5), 120],
    ['binc', programs.binc(3), 36],
    ['lockinc', programs.lockinc(4), 24],
    ['cas', programs.cas(5), 5],
    ['casrot', programs.casrot(5), 43],
    ['wcas', programs.wcas(5), 81],
    ['fib', programs.fib(2), 140],
    ['fib2', programs.fib2(2), 19],
    ['optlock', programs.optlock(2), 42],
    ['sigma', programs.sigma(3), 15],
    ['filesystem, 2 threads, 2 blocks', programs.filesystem(2, 2, 2), 2],
    ['filesystem, 3 threads, 4 blocks', programs.filesystem(3, 4, 4), 2],
    ['filesystem, 3 threads on 1 inode', programs.filesystem(3, 1, 26), 6],
  ])('%s', (_, build, count) => {
    expect(classes(build)).toBe(count);
  });

  test('choices multiply traces, and a deadlock is seen', () => {
    const result = bruteForce((sim) => {
      const a = sim.mutex('a');
      const b = sim.mutex('b');
      for (const [name, first, second] of [
        ['p', a, b],
        ['q', b, a],
      ] as const) {
        sim.spawn(name, function* () {
          yield first.lock();
          yield second.lock();
          yield second.unlock();
          yield first.unlock();
        });
      }
      sim.spawn('c', function* () {
        yield sim.local();
        if (sim.choose(3) === 2) sim.choose(2);
      });
    });
    expect(result.traces.size).toBe(3 * 4);
    expect(result.deadlocks).toBe(4);
  });
});
