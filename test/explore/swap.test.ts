// The swap test passes honest programs and catches state that two actors share without announcing it.
import { describe, expect, test } from 'vitest';
import { Cell, Tally } from '../../src/engine/cell.ts';
import { Mutex } from '../../src/engine/lock.ts';
import { Sim } from '../../src/engine/sim.ts';
import { step } from '../../src/engine/step.ts';
import { join, until } from '../../src/engine/wait.ts';
import { swapTest } from '../../src/explore/swap.ts';

const OP = step('test:op');
const WORK = step('test:work');

const world = () => new Sim({ checked: true, journaled: true, digested: true });

describe('swap test', () => {
  test('a program that announces what it touches passes, and pairs were really swapped', () => {
    const sim = world();
    const x = new Cell(sim, 'x', 0);
    const y = new Cell(sim, 'y', 0);
    const total = new Tally(sim, 'total');
    const lock = new Mutex(sim, 'lock');
    for (const [name, cell] of [
      ['a', x],
      ['b', y],
      ['c', x],
    ] as const) {
      sim.spawn(name, function* () {
        yield cell.willUpdate(OP);
        cell.value += 1;
        yield total.willAdd(OP);
        total.add(1);
        yield lock.lock();
        yield lock.unlock();
        yield sim.local(WORK);
        if (sim.choose(2) === 1) sim.fail('chose one');
      });
    }
    const result = swapTest(sim, { runs: 200 });
    expect(result.failure).toBeNull();
    expect(result.runs).toBe(200);
    expect(result.swaps).toBeGreaterThan(200);
  });

  test('a program is tested as a search sets it up', () => {
    let hidden = 0;
    const { failure } = swapTest((sim) => {
      const x = sim.cell('x', 0);
      sim.spawn('writer', function* () {
        hidden = 0;
        yield x.willWrite();
        hidden = 1;
      });
      sim.spawn('reader', function* () {
        yield sim.local();
        if (hidden === 1) sim.fail('saw it');
      });
    });
    expect(failure).toMatchObject({ kind: 'order', message: expect.stringMatching(/writer.*reader|reader.*writer/) });
    expect(swapTest((sim) => void sim.cell('x', { list: [1] })).failure).toBeNull();
  });

  test('a JavaScript variable shared by two actors is caught, and both steps are named', () => {
    const sim = world();
    const x = new Cell(sim, 'x', 0);
    const y = new Cell(sim, 'y', 0);
    let hidden = 0;
    sim.onRewind(() => {
      hidden = 0;
    });
    sim.spawn('writer', function* () {
      yield x.willWrite(step('test:write-x'));
      hidden = 1;
      x.value = 1;
    });
    sim.spawn('reader', function* () {
      yield y.willWrite(step('test:write-y'));
      y.value = hidden;
    });
    const { failure } = swapTest(sim);
    expect(failure?.kind).toBe('order');
    expect([failure?.first.label, failure?.second?.label].sort()).toEqual(['test:write-x', 'test:write-y']);
    expect(failure?.message).toContain('announced nothing in common');
  });

  test('a store looked at without a step is caught when only a finding shows it', () => {
    const sim = world();
    const x = new Cell(sim, 'x', 0);
    sim.spawn('writer', function* () {
      yield x.willWrite(OP);
      x.value = 1;
    });
    sim.spawn('peeker', function* () {
      yield sim.local(WORK);
      if (x.peek() === 1) sim.fail('saw it');
    });
    const { failure } = swapTest(sim);
    expect(failure?.kind).toBe('order');
    expect(failure?.message).toContain('the findings differ');
  });

  test('state that outlives a rewind is told apart', () => {
    const sim = world();
    const x = new Cell(sim, 'x', 0);
    let runs = 0;
    sim.spawn('counter', function* () {
      yield x.willWrite(OP);
      x.value = ++runs;
    });
    expect(swapTest(sim).failure?.kind).toBe('not-repeatable');
  });

  test('a wait whose predicate looks at more than it announced is caught', () => {
    const sim = world();
    const seen = new Cell(sim, 'seen', 0);
    const unseen = new Cell(sim, 'unseen', 0);
    sim.spawn('waiter', function* () {
      yield until(sim, [seen], () => unseen.peek() === 1, WORK);
    });
    sim.spawn('setter', function* () {
      yield unseen.willWrite(OP);
      unseen.value = 1;
    });
    expect(swapTest(sim).failure?.kind).toBe('enabling');
  });

  test('joins, and actors started by actors, order steps without a common object', () => {
    const sim = world();
    const x = new Cell(sim, 'x', 0);
    sim.spawn('other', function* () {
      for (let i = 0; i < 3; i++) {
        yield sim.local(WORK);
      }
    });
    sim.spawn('parent', function* () {
      yield sim.local(WORK);
      const child = sim.spawn('child', function* () {
        yield x.willWrite(OP);
        x.value = 1;
      });
      yield join(sim, child);
      yield x.willRead(OP);
      if (x.value !== 1) sim.fail('not seen');
    });
    expect(swapTest(sim, { runs: 50 }).failure).toBeNull();
  });

  test('the first choice may come before the first step', () => {
    const sim = world();
    const x = new Cell(sim, 'x', 0);
    for (const name of ['a', 'b']) {
      sim.spawn(name, function* () {
        const value = sim.choose(5);
        yield x.willWrite(OP);
        x.value = value;
      });
    }
    expect(swapTest(sim, { runs: 50 }).failure).toBeNull();
  });

  test('a world without a digest is refused', () => {
    expect(() => swapTest(new Sim({ journaled: true }))).toThrow('digest');
  });
});
