// Waiting: conditions, joins, completions, grace periods and retry loops, stepped by hand.
import { describe, expect, test } from 'vitest';
import { Cell } from '../../src/engine/cell.ts';
import { deadlockFinding } from '../../src/engine/deadlock.ts';
import { LimitReached } from '../../src/engine/limit.ts';
import { call } from '../../src/engine/process.ts';
import { Rcu } from '../../src/engine/rcu.ts';
import { step } from '../../src/engine/step.ts';
import { Completion, join, until } from '../../src/engine/wait.ts';
import { Stepper } from './stepper.ts';

const OP = step('test:op');
const WAIT = step('test:wait');
const AGAIN = step('test:again');

describe('until', () => {
  test('a waiter is disabled while the predicate is false, even after it has been true', () => {
    const s = new Stepper();
    const x = new Cell(s.sim, 'x', 0);
    s.spawn('waiter', function* () {
      yield until(s.sim, [x], () => x.peek() === 1, WAIT);
    });
    s.spawn('setter', function* () {
      for (const value of [1, 0, 1]) {
        yield x.willWrite(OP);
        x.value = value;
      }
    });
    expect(s.enabled()).toEqual(['setter']);
    s.act('setter');
    expect(s.enabled()).toEqual(['waiter', 'setter']);
    s.act('setter');
    expect(s.enabled()).toEqual(['setter']);
    s.act('setter', 'waiter');
    expect(s.ended('waiter')).toBe(true);
  });

  test('with update, what was waited for is claimed in the same step', () => {
    const s = new Stepper();
    const token = new Cell(s.sim, 'token', true);
    for (const name of ['a', 'b']) {
      s.spawn(name, function* () {
        yield until(s.sim, [token], () => token.peek(), WAIT, { update: true });
        token.value = false;
      });
    }
    s.act('a');
    expect(s.enabled()).toEqual([]);
    expect(deadlockFinding(s.sim, [s.named('b')]).message).toBe('b waits and nobody can run');
  });

  test('without update, the act may read but not write', () => {
    const s = new Stepper();
    const x = new Cell(s.sim, 'x', 1);
    s.spawn('waiter', function* () {
      yield until(s.sim, [x], () => x.peek() === 1, WAIT);
      x.value = 2;
    });
    expect(() => s.act('waiter')).toThrow(/x is written/);
  });
});

describe('join and completion', () => {
  test('a join waits for the end, and an actor that never yields has ended when it is spawned', () => {
    const s = new Stepper();
    const worker = s.spawn('worker', function* () {
      yield s.sim.local(OP);
      yield s.sim.local(OP);
    });
    s.spawn('main', function* () {
      yield join(s.sim, worker);
      const empty = s.sim.spawn('empty', function* () {});
      yield join(s.sim, empty);
    });
    expect(s.enabled()).toEqual(['worker']);
    s.act('worker');
    expect(s.enabled()).toEqual(['worker']);
    s.act('worker');
    s.finish('main');
    expect(s.ended('main')).toBe(true);
  });

  test('a deadlock over joins names both ends', () => {
    const s = new Stepper();
    const cycle: [string, string] = ['a', 'b'];
    for (const name of cycle) {
      s.spawn(name, function* () {
        yield s.sim.local(OP);
        yield join(s.sim, s.named(name === 'a' ? 'b' : 'a'));
      });
    }
    s.act('a', 'b');
    expect(deadlockFinding(s.sim, s.sim.processes).message).toBe('a -> b -> a wait for each other');
  });

  test('one complete lets every waiter through', () => {
    const s = new Stepper();
    const done = new Completion(s.sim, 'io');
    for (const name of ['w1', 'w2']) {
      s.spawn(name, function* () {
        yield done.wait(WAIT);
      });
    }
    s.spawn('device', function* () {
      yield done.willComplete(OP);
      done.complete();
    });
    expect(s.enabled()).toEqual(['device']);
    s.act('device', 'w2', 'w1');
    expect(s.enabled()).toEqual([]);
  });
});

describe('RCU', () => {
  const world = () => {
    const s = new Stepper();
    const rcu = new Rcu(s.sim, 'srcu');
    const reader = (name: string) =>
      s.spawn(name, function* () {
        yield rcu.readLock();
        rcu.enter();
        yield rcu.readUnlock();
        rcu.leave();
      });
    s.spawn('sync', function* () {
      yield* call(rcu.synchronize());
    });
    return { s, rcu, reader };
  };

  test('a grace period waits for the readers inside when it looked, and not for later ones', () => {
    const { s, reader } = world();
    reader('inside');
    reader('later');
    s.act('inside', 'sync');
    s.act('later');
    expect(s.enabled()).toEqual(['inside', 'later']);
    s.act('inside');
    expect(s.enabled()).toEqual(['sync', 'later']);
  });

  test('a reader that entered between the announcement and the look is waited for', () => {
    const { s, reader } = world();
    // sync has announced its look before this reader was ever heard of.
    reader('late');
    s.act('late', 'sync');
    expect(s.enabled()).toEqual(['late']);
  });

  test('a reader that left and entered again does not hold the grace period up', () => {
    const { s, rcu } = world();
    s.spawn('r', function* () {
      for (let i = 0; i < 2; i++) {
        yield rcu.readLock();
        rcu.enter();
        yield rcu.readUnlock();
        rcu.leave();
      }
    });
    s.act('r', 'sync', 'r', 'r');
    expect(s.enabled()).toContain('sync');
  });

  test('only leaving the outermost section counts', () => {
    const { s, rcu } = world();
    s.spawn('r', function* () {
      for (let i = 0; i < 2; i++) {
        yield rcu.readLock();
        rcu.enter();
      }
      for (let i = 0; i < 2; i++) {
        yield rcu.readUnlock();
        rcu.leave();
      }
    });
    s.act('r', 'r', 'sync', 'r');
    expect(s.enabled()).toEqual(['r']);
    s.act('r');
    expect(s.enabled()).toEqual(['sync']);
  });

  test('without readers there is nothing to wait for', () => {
    const { s } = world();
    s.act('sync', 'sync');
    expect(s.ended('sync')).toBe(true);
  });

  test('the same world rewound behaves the same', () => {
    const { s, reader } = world();
    reader('inside');
    s.sim.mark();
    for (let round = 0; round < 3; round++) {
      s.act('inside', 'sync');
      expect(s.enabled()).toEqual(['inside']);
      s.act('inside', 'sync');
      s.sim.rewind();
    }
  });
});

describe('retry loops', () => {
  test('an iteration that wrote nothing waits until something it read is written by another', () => {
    const s = new Stepper();
    const seq = new Cell(s.sim, 'seq', 1);
    const other = new Cell(s.sim, 'other', 0);
    s.spawn('reader', function* () {
      const loop = s.sim.loop('read_seqretry', 3);
      for (;;) {
        loop.begin();
        yield seq.willRead(OP);
        if (seq.value % 2 === 0) break;
        yield loop.again(AGAIN);
      }
      loop.end();
    });
    s.spawn('writer', function* () {
      yield other.willWrite(OP);
      other.value = 1;
      yield seq.willWrite(OP);
      seq.value = 2;
    });
    s.act('reader');
    expect(s.enabled()).toEqual(['writer']);
    s.act('writer');
    expect(s.enabled()).toEqual(['writer']);
    s.act('writer');
    expect(s.enabled()).toEqual(['reader']);
    s.finish('reader');
    expect(s.ended('reader')).toBe(true);
  });

  test('a write between the read and going round again is not missed', () => {
    const s = new Stepper();
    const x = new Cell(s.sim, 'x', 0);
    s.spawn('reader', function* () {
      const loop = s.sim.loop('retry', 3);
      for (;;) {
        loop.begin();
        yield x.willRead(OP);
        if (x.value === 1) break;
        yield s.sim.local(OP);
        yield loop.again(AGAIN);
      }
      loop.end();
    });
    s.spawn('writer', function* () {
      yield x.willWrite(OP);
      x.value = 1;
    });
    s.act('reader', 'writer', 'reader');
    expect(s.enabled()).toEqual(['reader']);
  });

  test('an iteration that wrote, even for a moment, is unrolled to its bound and then says which loop', () => {
    const s = new Stepper();
    const refs = new Cell(s.sim, 'refcount', 0);
    let rounds = 0;
    s.spawn('gup', function* () {
      const loop = s.sim.loop('gup_fast retry', 3);
      for (;;) {
        loop.begin();
        yield refs.willUpdate(OP);
        refs.value += 1;
        rounds++;
        yield refs.willUpdate(OP);
        refs.value -= 1;
        yield loop.again(AGAIN);
      }
    });
    expect(() => s.finish('gup')).toThrow(LimitReached);
    expect(rounds).toBe(4);
  });

  test('an actor cut off at a limit neither steps nor counts as ended', () => {
    const s = new Stepper();
    const x = new Cell(s.sim, 'x', 0);
    const p = s.spawn('spinner', function* () {
      const loop = s.sim.loop('spin', 0);
      loop.begin();
      yield x.willUpdate(OP);
      x.value += 1;
      yield loop.again(AGAIN);
    });
    s.spawn('main', function* () {
      yield join(s.sim, p);
    });
    expect(() => s.act('spinner')).toThrow("spinner: the retry loop 'spin' went round 0 times");
    p.cut();
    expect(s.enabled()).toEqual([]);
    expect(p.acted.step).toBe(OP);
    expect(s.sim.current).toBeNull();
  });

  test('a rewind forgets loops that were being tracked', () => {
    const s = new Stepper({ checked: false });
    const x = new Cell(s.sim, 'x', 0);
    s.spawn('reader', function* () {
      yield s.sim.local(OP);
      const loop = s.sim.loop('wait for x', 3);
      loop.begin();
      yield x.willRead(OP);
      yield loop.again(AGAIN);
    });
    s.sim.mark();
    s.act('reader', 'reader');
    expect(s.sim.watching).toBe(true);
    s.sim.rewind();
    expect(s.sim.watching).toBe(false);
  });
});
