// The timed clock: when steps act, and in which order those of one time do.
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { Cell } from '../../src/engine/cell.ts';
import { LatencyModel } from '../../src/engine/latency.ts';
import { Mutex } from '../../src/engine/lock.ts';
import { Sim } from '../../src/engine/sim.ts';
import { step } from '../../src/engine/step.ts';
import { runTimed } from '../../src/engine/timed.ts';
import { until } from '../../src/engine/wait.ts';

const OP = step('test:op', 'test-op');
const FREE = step('test:free', 'none');

const latencies = new LatencyModel({ 'test-op': 100, none: 0, lock: 10 });

describe('timed clock', () => {
  test('a step acts at its announce time plus its cost', () => {
    const sim = new Sim({ latencies });
    const times: number[] = [];
    sim.spawn('p', function* () {
      for (let i = 0; i < 3; i++) {
        yield sim.local(OP);
        times.push(sim.nowNs);
      }
      yield sim.local(OP, 5);
      times.push(sim.nowNs);
      yield sim.sleep(1000, OP);
      times.push(sim.nowNs);
    });
    expect(runTimed(sim)).toEqual({ steps: 5, timeNs: 1900, end: 'done' });
    expect(times).toEqual([100, 200, 300, 800, 1900]);
  });

  test('events leave in the order of (time, priority, sequence)', () => {
    const actors = fc.array(fc.record({ delay: fc.nat(3), priority: fc.integer({ min: -2, max: 2 }) }), {
      minLength: 1,
    });
    fc.assert(
      fc.property(actors, (list) => {
        const sim = new Sim();
        const order: number[] = [];
        list.forEach(({ delay, priority }, i) => {
          sim.spawn(
            `p${i}`,
            function* () {
              yield sim.sleep(delay, FREE);
              order.push(i);
            },
            { priority },
          );
        });
        runTimed(sim);
        const expected = list
          .map((actor, i) => ({ ...actor, i }))
          .sort((a, b) => a.delay - b.delay || a.priority - b.priority || a.i - b.i);
        expect(order).toEqual(expected.map((actor) => actor.i));
      }),
    );
  });

  test('the same seed gives the same timeline, and another actor does not change it', () => {
    const tables = new LatencyModel({ 'test-op': [10, 20, 30, 40, 1000], none: 0 });
    const timeline = (extra: boolean): number[] => {
      const sim = new Sim({ latencies: tables, seed: 'a' });
      const times: number[] = [];
      if (extra) {
        sim.spawn('extra', function* () {
          for (let i = 0; i < 5; i++) {
            yield sim.local(OP);
          }
        });
      }
      sim.spawn('p', function* () {
        for (let i = 0; i < 20; i++) {
          yield sim.local(OP);
          times.push(sim.nowNs);
        }
      });
      runTimed(sim);
      return times;
    };
    expect(timeline(false)).toEqual(timeline(false));
    expect(timeline(true)).toEqual(timeline(false));
    expect(new Set(timeline(false).map((t, i, all) => t - (all[i - 1] ?? 0))).size).toBeGreaterThan(2);
  });

  test('a waiter goes on at the time of the write that lets it through', () => {
    const sim = new Sim({ latencies });
    const x = new Cell(sim, 'x', 0);
    let resumed = -1;
    sim.spawn('waiter', function* () {
      yield until(sim, [x], () => x.peek() === 2, FREE);
      resumed = sim.nowNs;
    });
    sim.spawn('writer', function* () {
      for (let i = 1; i <= 3; i++) {
        yield x.willWrite(OP);
        x.value = i;
      }
    });
    runTimed(sim);
    expect(resumed).toBe(200);
  });

  test('of those who wait for a lock, whoever waited longest comes first', () => {
    const sim = new Sim({ latencies });
    const m = new Mutex(sim, 'm');
    const order: string[] = [];
    for (const [name, delay] of [
      ['holder', 0],
      ['second', 20],
      ['first', 15],
    ] as const) {
      sim.spawn(name, function* () {
        yield sim.sleep(delay, FREE);
        yield m.lock();
        order.push(name);
        yield sim.local(OP);
        yield m.unlock();
      });
    }
    runTimed(sim);
    expect(order).toEqual(['holder', 'first', 'second']);
  });

  test('a run stops at its limits and says so', () => {
    const world = () => {
      const sim = new Sim({ latencies });
      sim.spawn('p', function* () {
        for (;;) {
          yield sim.local(OP);
        }
      });
      return sim;
    };
    expect(runTimed(world(), { maxSteps: 7 })).toEqual({ steps: 7, timeNs: 700, end: 'step-limit' });
    expect(runTimed(world(), { maxTimeNs: 1000 })).toEqual({ steps: 10, timeNs: 1000, end: 'time-limit' });
  });

  test('the end completes deferred work in order of registration, and a cut run does not', () => {
    const done: string[] = [];
    const sim = new Sim({ latencies });
    sim.onDrain(() => done.push('per-CPU batches'));
    sim.onDrain(() => done.push('RCU callbacks'));
    sim.spawn('p', function* () {
      yield sim.local(OP);
      yield sim.local(OP);
    });
    runTimed(sim, { maxSteps: 1 });
    expect(done).toEqual([]);
    const whole = new Sim({ latencies });
    whole.onDrain(() => done.push('per-CPU batches'));
    whole.onDrain(() => done.push('RCU callbacks'));
    runTimed(whole);
    expect(done).toEqual(['per-CPU batches', 'RCU callbacks']);
  });

  test('an actor started on the way is scheduled from then on', () => {
    const sim = new Sim({ latencies });
    let childAt = -1;
    sim.spawn('parent', function* () {
      yield sim.local(OP);
      sim.spawn('child', function* () {
        yield sim.local(OP);
        childAt = sim.nowNs;
      });
    });
    runTimed(sim);
    expect(childAt).toBe(200);
  });
});
