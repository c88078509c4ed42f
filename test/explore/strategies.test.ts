// What holds for every strategy: its tokens replay, the shortest schedule is kept, memory stays flat.
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { describe, expect, test } from 'vitest';
import { Sim } from '../../src/engine/sim.ts';
import { Program } from '../../src/explore/program.ts';
import { Search, type Strategy } from '../../src/explore/search.ts';
import { explore } from '../../src/index.ts';
import * as programs from './programs.ts';

type Build = (sim: Program) => void;

const STRATEGIES: readonly Exclude<Strategy, 'replay'>[] = ['dpor', 'bounded', 'random', 'pct', 'pos', 'timed'];

/** An actor started by an actor, a choice, a lock and a trylock; wrong in several ways. */
const wrong: Build = (sim) => {
  const x = sim.cell('x', 0);
  const m = sim.mutex('m');
  sim.spawn('parent', function* () {
    const child = sim.spawn('child', function* () {
      yield m.trylock();
      if (!m.heldBy(sim.self)) sim.fail('the lock was taken');
      else yield m.unlock();
      yield x.willUpdate();
      x.value += 1 + sim.choose(2);
    });
    yield sim.join(child);
    yield x.willRead();
    if (x.value > 2) sim.fail('more than two');
  });
  sim.spawn('other', function* () {
    yield m.lock();
    yield x.willRead();
    const seen = x.value;
    yield x.willWrite();
    x.value = seen + 1;
    yield m.unlock();
    yield x.willRead();
    if (x.value !== seen + 1) sim.fail('an update between');
  });
};

describe('tokens', () => {
  test.each(STRATEGIES)('of %s replay', (strategy) => {
    const { findings } = explore(wrong, { strategy, runs: 300, bound: 3, jitterPercent: 100 });
    expect(findings.length).toBeGreaterThanOrEqual(2);
    for (const { message, token, schedule } of findings) {
      const again = explore(wrong, { strategy: 'replay', token });
      expect(again.limits).toEqual([]);
      const found = again.findings.find((finding) => finding.message === message)!;
      expect(found.schedule).toEqual(schedule);
      expect(found.token).toBe(token);
    }
  });
});

describe('the schedule of a finding', () => {
  test('is the one with fewest preemptions, then fewest steps, that was met', () => {
    const shortest = (strategy: Strategy, maxExecutions: number) =>
      explore(wrong, { strategy, seed: 3, runs: maxExecutions, maxExecutions }).findings.map(
        ({ message, preemptions, schedule }) => ({ message, preemptions, steps: schedule.length }),
      );
    const few = new Map(shortest('random', 8).map((one) => [one.message, one]));
    const many = shortest('random', 2000);
    for (const { message, preemptions, steps } of many) {
      const before = few.get(message);
      if (before === undefined) continue;
      expect(preemptions).toBeLessThanOrEqual(before.preemptions);
      if (preemptions === before.preemptions) expect(steps).toBeLessThanOrEqual(before.steps);
    }
    const least = new Map(many.map(({ message, preemptions }) => [message, preemptions]));
    // By hand: the child comes while the other holds the lock; the other's update falls in between; a choice alone.
    expect(Object.fromEntries(least)).toEqual({ 'the lock was taken': 1, 'an update between': 1, 'more than two': 0 });
  });
});

describe('memory', () => {
  setFlagsFromString('--expose-gc');
  const collect = runInNewContext('gc') as () => void;
  const heapBytes = (): number => {
    collect();
    return process.memoryUsage().heapUsed;
  };

  test.each<[string, Build, number, Strategy]>([
    ['casrot(10)', programs.casrot(10), 38_486, 'dpor'],
    ['fib(4)', programs.fib(4), 19_605, 'dpor'],
    ['indexer(15)', programs.indexer(15), 4096, 'dpor'],
    ['readers(4)', programs.readers(4), 20_000, 'random'],
    ['readers(4)', programs.readers(4), 20_000, 'pos'],
  ])('does not grow with the executions of %s', (_, program, executions, strategy) => {
    const sim = new Sim({ checked: true, journaled: true });
    program(new Program(sim));
    const search = new Search(sim, { strategy, runs: executions });
    while (search.executions < executions / 4) search.next();
    const early = heapBytes();
    while (search.next());
    expect(search.executions).toBe(executions);
    // Less than ten bytes an execution: what is kept, is kept per step of the program.
    expect(heapBytes() - early).toBeLessThan(10 * executions + 200_000);
  });
});
