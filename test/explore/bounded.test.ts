// The preemption-bounded search: exactly the traces that some linearization with few enough preemptions shows.
import { describe, expect, test } from 'vitest';
import { Sim } from '../../src/engine/sim.ts';
import { explore } from '../../src/explore/explore.ts';
import { Program } from '../../src/explore/program.ts';
import { Runner } from '../../src/explore/runner.ts';
import { Bounded } from '../../src/explore/schedulers/bounded.ts';
import { type Build, leastPreemptions, traceKey } from './brute-force.ts';
import * as programs from './programs.ts';
import { build, randomProgram } from './random-program.ts';

/** The traces that a bounded search counts, and whether it says that it left something out. */
function bounded(program: Build, bound: number): { traces: string[]; leftOut: boolean } {
  const sim = new Sim({ checked: true, journaled: true });
  program(new Program(sim));
  const runner = new Runner(sim);
  const search = new Bounded(sim, bound);
  const traces: string[] = [];
  for (let run = 0; runner.execute(search, run); run++) {
    if (!search.redundant) traces.push(traceKey(program, runner.initialChoices, runner.schedule()));
  }
  return { traces, leftOut: search.leftOut > 0 };
}

function expectExact(program: Build, bounds: readonly number[]): void {
  const least = leastPreemptions(program);
  for (const bound of bounds) {
    const { traces, leftOut } = bounded(program, bound);
    const within = [...least].filter(([, preemptions]) => preemptions <= bound).map(([key]) => key);
    expect([...traces].sort()).toEqual(within.sort());
    if (within.length < least.size) expect(leftOut).toBe(true);
  }
}

describe('preemption bound', () => {
  test.each([
    ['SB', programs.litmus('Wx Ry', 'Wy Rx')],
    ['IRIW', programs.litmus('Wx', 'Wy', 'Rx Ry', 'Ry Rx')],
    ['lastwrite(4)', programs.lastwrite(4)],
    ['casrot(4)', programs.casrot(4)],
    ['lockinc(3)', programs.lockinc(3)],
    ['fib2(2)', programs.fib2(2)],
    ['readers(4)', programs.readers(4)],
  ])('%s: each trace within the bound once, no other', (_, program) => {
    expectExact(program, [0, 1, 2, 3]);
  });

  test('random programs with everything in them', () => {
    let compared = 0;
    for (let n = 0; compared < 60; n++) {
      const program = build(randomProgram('bounded', n, 6));
      expectExact(program, [0, 1, 2]);
      compared++;
    }
  }, 120_000);

  test('a deadlock of two locks needs one preemption', () => {
    const abba = (sim: Program) => {
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
    };
    const none = explore(abba, { strategy: 'bounded', bound: 0 });
    expect([none.executions, none.findings.length, none.complete]).toEqual([2, 0, false]);
    expect(none.limits[0]).toMatch(/the bound of 0 preemptions left out \d+ switches/);
    const one = explore(abba, { strategy: 'bounded', bound: 1 });
    expect(one.findings.map((f) => f.kind)).toEqual(['deadlock']);
  });

  test('a bound that forbids nothing is a complete search', () => {
    const result = explore(programs.casrot(5), { strategy: 'bounded', bound: 100 });
    expect([result.executions, result.complete, result.limits]).toEqual([43, true, []]);
  });
});
