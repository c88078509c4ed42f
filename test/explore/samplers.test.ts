// Samplers against exact hit probabilities: within three standard deviations over 10^5 runs of a fixed seed.
import { describe, expect, test } from 'vitest';
import { LatencyModel } from '../../src/engine/latency.ts';
import { Sim } from '../../src/engine/sim.ts';
import { step } from '../../src/engine/step.ts';
import { type ExploreOptions, explore, exploreSim } from '../../src/explore/explore.ts';
import { Program } from '../../src/explore/program.ts';

const RUNS = 100_000;

/** Two threads read and then write x; hit when one update is lost. */
const lostUpdate = {
  horizon: 4,
  setup: (sim: Program) => {
    const x = sim.cell('x', 0);
    for (const name of ['a', 'b']) {
      sim.spawn(name, function* () {
        yield x.willRead();
        const v = x.value;
        yield x.willWrite();
        x.value = v + 1;
      });
    }
    sim.sim.onDrain(() => {
      if (x.peek() !== 2) sim.fail('lost update');
    });
  },
};

/** Two locks taken in opposite order; hit when it deadlocks. */
const abba = {
  horizon: 8,
  setup: (sim: Program) => {
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
  },
};

/** Six private steps, two reads of g that must agree, against one write of g. */
const window = {
  horizon: 10,
  setup: (sim: Program) => {
    const g = sim.cell('g', 0);
    sim.spawn('t1', function* () {
      for (let i = 0; i < 6; i++) {
        yield sim.local();
      }
      yield g.willRead();
      const first = g.value;
      yield g.willRead();
      if (g.value === first) return;
      yield sim.local();
      sim.fail('differ');
    });
    sim.spawn('t2', function* () {
      yield g.willWrite();
      g.value = 1;
    });
  },
};

function hits(program: typeof abba, options: ExploreOptions): number {
  const result = explore(program.setup, { runs: RUNS, seed: 'samplers', horizon: program.horizon, ...options });
  expect(result.executions).toBe(RUNS);
  expect(result.findings.length).toBeLessThanOrEqual(1);
  return result.findings[0]?.executions ?? 0;
}

function expectProbability(count: number, p: number): void {
  const sigma = Math.sqrt(RUNS * p * (1 - p));
  expect(Math.abs(count - RUNS * p)).toBeLessThanOrEqual(3 * sigma);
}

describe('exact hit probabilities', () => {
  test.each([
    ['lost update', lostUpdate, 1 / 2],
    ['ABBA deadlock', abba, 1 / 2],
    ['window', window, 2 ** -8],
  ])('random walk, %s', (_, program, p) => {
    expectProbability(hits(program, { strategy: 'random' }), p);
  });

  test.each([
    ['lost update', lostUpdate, 1, 0],
    ['lost update', lostUpdate, 2, 1 / 4],
    ['lost update', lostUpdate, 3, 14 / 32],
    ['ABBA deadlock', abba, 1, 0],
    ['ABBA deadlock', abba, 2, 1 / 8],
    ['ABBA deadlock', abba, 3, 30 / 128],
    ['window', window, 1, 0],
    ['window', window, 2, 1 / 20],
    ['window', window, 3, 7 / 200],
  ])('PCT, %s, depth %#', (_, program, depth, p) => {
    expectProbability(hits(program, { strategy: 'pct', depth }), p);
  });

  // By hand: the first locks do not race, so whoever comes second keeps its priority, the smaller of two draws. It takes
  // its lock before the other's second step if that one draws less still: 1/3.
  test('partial order sampling, ABBA deadlock', () => {
    expectProbability(hits(abba, { strategy: 'pos' }), 1 / 3);
  });

  test('partial order sampling finds the window far more often than a random walk', () => {
    expect(hits(window, { strategy: 'pos' })).toBeGreaterThan(10 * RUNS * 2 ** -8);
  });

  test('a uniform choice is uniform, and a run is a function of seed and number alone', () => {
    const counts = [0, 0, 0];
    const result = explore(
      (sim) => {
        sim.spawn('p', function* () {
          yield sim.local();
          counts[sim.choose(3)]!++;
        });
      },
      { strategy: 'random', runs: 30_000 },
    );
    expect(result.executions).toBe(30_000);
    for (const count of counts) expect(Math.abs(count - 10_000)).toBeLessThan(3 * Math.sqrt(30_000 * (2 / 9)));
  });
});

describe('timed with jitter', () => {
  const FAST = step('fast', 'fast');
  const SLOW = step('slow', 'slow');

  /** A write after 1000 ns races a read after 5 × 180 ns: close, so that jitter decides. */
  function race(jitterPercent: number): number {
    const sim = new Sim({ journaled: true, latencies: new LatencyModel({ fast: 180, slow: 1000 }) });
    const program = new Program(sim);
    const x = program.cell('x', 0);
    sim.spawn('reader', function* () {
      for (let i = 0; i < 4; i++) {
        yield sim.local(FAST);
      }
      yield x.willRead(FAST);
      if (x.value === 1) sim.fail('the write came first');
    });
    sim.spawn('writer', function* () {
      yield x.willWrite(SLOW);
      x.value = 1;
    });
    return exploreSim(sim, { strategy: 'timed', runs: 1000, jitterPercent }).findings[0]?.executions ?? 0;
  }

  test('without jitter time decides, with jitter both orders come up', () => {
    expect(race(0)).toBe(0);
    expect(race(30)).toBeGreaterThan(100);
    expect(race(30)).toBeLessThan(900);
  });

  test('simulated time goes on, and a wait ends when it is let through', () => {
    const sim = new Sim({ journaled: true, latencies: new LatencyModel({ fast: 100, slow: 1000 }) });
    const program = new Program(sim);
    const x = program.cell('x', 0);
    const times: number[] = [];
    sim.spawn('waiter', function* () {
      yield program.until([x], () => x.peek() === 1, { at: FAST });
      times.push(sim.nowNs);
      yield sim.local(FAST);
      times.push(sim.nowNs);
    });
    sim.spawn('setter', function* () {
      yield x.willWrite(SLOW);
      x.value = 1;
    });
    exploreSim(sim, { strategy: 'timed', runs: 1, jitterPercent: 0 });
    expect(times).toEqual([1000, 1100]);
  });
});

describe('the same seed', () => {
  test.each(['random', 'pct', 'pos', 'timed'] as const)(
    'gives the same runs with %s, another seed others',
    (strategy) => {
      const trail = (seed: number): string => {
        const lines: string[] = [];
        explore(
          (sim) => {
            const x = sim.cell('x', 0);
            for (const name of ['a', 'b', 'c']) {
              sim.spawn(name, function* () {
                for (let i = 0; i < 3; i++) {
                  yield x.willUpdate();
                  lines.push(name);
                  x.value = sim.choose(100);
                }
              });
            }
          },
          { strategy, seed, runs: 20 },
        );
        return lines.join('');
      };
      expect(trail(1)).toBe(trail(1));
      expect(trail(1)).not.toBe(trail(2));
    },
  );
});
