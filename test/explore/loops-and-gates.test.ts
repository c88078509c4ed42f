// Executions that need not end: retry loops declared and undeclared, livelocks told apart from bounds, and gates held to
// what they promise.
//
// Over 400 lines: what is called a livelock, a bound or a wait is told apart by cases that stand side by side.
import { describe, expect, test } from 'vitest';
import { Cell } from '../../src/engine/cell.ts';
import { BrokenPromise, explore, exploreSim, Sim, step } from '../../src/index.ts';

describe('going round', () => {
  type Setup = Parameters<typeof explore>[0];

  /** Take `first`, try `second`, give up and try again: both may do so for ever. */
  const polite =
    (bound: number): Setup =>
    (sim) => {
      const a = sim.mutex('a');
      const b = sim.mutex('b');
      for (const [name, first, second] of [
        ['p', a, b],
        ['q', b, a],
      ] as const) {
        sim.spawn(name, function* () {
          const loop = sim.loop(`${name} backs off`, bound);
          for (;;) {
            loop.begin();
            yield first.lock();
            yield second.trylock();
            if (second.heldBy(sim.self)) break;
            yield first.unlock();
            yield loop.again(sim.again);
          }
          loop.end();
          yield second.unlock();
          yield first.unlock();
        });
      }
    };

  test('a livelock: the state comes back and everybody has stepped', () => {
    for (const strategy of ['dpor', 'bounded'] as const) {
      const result = explore(polite(2), { strategy, bound: 20 });
      expect(result.findings.map(({ kind, message }) => [kind, message])).toEqual([
        ['livelock', expect.stringMatching(/^[pq], [pq] can go round for ever: the state is as it was/)],
      ]);
      expect(result.findings[0]!.finding.reasons).toContain("p goes round the retry loop 'p backs off'");
      const { token } = result.findings[0]!;
      expect(explore(polite(2), { strategy: 'replay', token }).findings[0]!.kind).toBe('livelock');
      // Other rounds were cut off at the bound, which is said besides.
      expect(result.limits.some((limit) => limit.includes("the retry loop 'p backs off' went round 2 times"))).toBe(
        true,
      );
      expect(result.complete).toBe(false);
    }
  });

  test('without a second round, no state can come back', () => {
    const result = explore(polite(0));
    expect(result.findings).toEqual([]);
    expect(result.limits.length).toBeGreaterThan(0);
  });

  test('going round alone while another could step is not fair', () => {
    const result = explore((sim) => {
      const x = sim.cell('x', 0);
      const stop = sim.cell('stop', false);
      sim.spawn('spinner', function* () {
        const loop = sim.loop('spin', 3);
        for (;;) {
          loop.begin();
          yield x.willWrite();
          x.value = 0;
          yield stop.willRead();
          if (stop.value) break;
          yield loop.again(sim.again);
        }
        loop.end();
      });
      sim.spawn('stopper', function* () {
        yield stop.willWrite();
        stop.value = true;
      });
    });
    expect(result.findings).toEqual([]);
    expect(result.limits).toEqual(["spinner: the retry loop 'spin' went round 3 times (1 times)"]);
  });

  test('going round while everybody else waits for ever is', () => {
    const result = explore((sim) => {
      const x = sim.cell('x', 0);
      const stop = sim.cell('stop', false);
      sim.spawn('spinner', function* () {
        const loop = sim.loop('spin', 3);
        for (;;) {
          loop.begin();
          yield x.willUpdate();
          x.value = 0;
          yield stop.willRead();
          if (stop.value) break;
          yield loop.again(sim.again);
        }
        loop.end();
      });
      sim.spawn('stopper', function* () {
        yield sim.until([x], () => x.peek() === 1);
        yield stop.willWrite();
        stop.value = true;
      });
    });
    expect(result.findings.map(({ kind, message }) => [kind, message])).toEqual([
      ['livelock', 'spinner can go round for ever: the state is as it was, and whoever could step has stepped'],
    ]);
  });

  test('a loop that counts its rounds does not come back to the same state', () => {
    const result = explore((sim) => {
      const tries = sim.cell('tries', 0);
      sim.spawn('spinner', function* () {
        const loop = sim.loop('spin', 3);
        for (;;) {
          loop.begin();
          yield tries.willUpdate();
          tries.value += 1;
          if (tries.value === 100) break;
          yield loop.again(sim.again);
        }
        loop.end();
      });
    });
    expect(result.findings).toEqual([]);
    expect(result.limits).toEqual(["spinner: the retry loop 'spin' went round 3 times (1 times)"]);
  });
});

describe('loops that nobody declared', () => {
  type Setup = Parameters<typeof explore>[0];

  const politeUndeclared: Setup = (sim) => {
    const a = sim.mutex('a');
    const b = sim.mutex('b');
    for (const [name, first, second] of [
      ['p', a, b],
      ['q', b, a],
    ] as const) {
      sim.spawn(name, function* () {
        for (;;) {
          yield first.lock();
          yield second.trylock();
          if (second.heldBy(sim.self)) break;
          yield first.unlock();
        }
        yield second.unlock();
        yield first.unlock();
      });
    }
  };

  const flipping: Setup = (sim) => {
    const x = sim.cell('x', 0);
    for (const [name, value] of [
      ['up', 1],
      ['down', 0],
    ] as const) {
      sim.spawn(name, function* () {
        for (;;) {
          yield x.willUpdate();
          x.value = value;
        }
      });
    }
  };

  test('a state that comes back a thousand times is a livelock, and ends the search', () => {
    const result = explore(flipping);
    expect(result.findings.map(({ kind }) => kind)).toEqual(['livelock']);
    expect(result.findings[0]!.message).toContain('the same state came back 1000 times');
    expect([result.executions, result.complete]).toEqual([1, false]);
    expect(result.limits).toEqual(['the search ended at a livelock: its interleavings have no end (1 times)']);
  });

  test('samplers find it, too, and go on', () => {
    const result = explore(flipping, { strategy: 'random', runs: 3 });
    expect(result.findings.map(({ kind, executions }) => [kind, executions])).toEqual([['livelock', 3]]);
    // A random walk leaves this one soon.
    expect(explore(politeUndeclared, { strategy: 'random', runs: 100 }).findings).toEqual([]);
  });

  test.each(['random', 'pos', 'timed'] as const)('is one cause, whenever it is noticed: %s', (strategy) => {
    const taking: Setup = (sim) => {
      const x = sim.cell('x', 0);
      const m = sim.mutex('m');
      for (const name of ['p', 'q']) {
        sim.spawn(name, function* () {
          for (;;) {
            yield m.lock();
            yield x.willUpdate();
            x.value = 1 - x.value;
            yield m.unlock();
            yield x.willRead();
          }
        });
      }
    };
    const updating: Setup = (sim) => {
      const x = sim.cell('x', 0);
      for (const name of ['p', 'q']) {
        sim.spawn(name, function* () {
          for (;;) {
            yield x.willUpdate();
            x.value = 1 - x.value;
            yield x.willRead();
          }
        });
      }
    };
    for (const program of [taking, updating]) {
      const { findings } = explore(program, { strategy, runs: 8 });
      expect(findings.map(({ kind, executions }) => [kind, executions])).toEqual([['livelock', 8]]);
    }
  });

  test('reading again and again is unrolled to a bound that is named', () => {
    const result = explore((sim) => {
      const flag = sim.cell('flag', 0);
      sim.spawn('reader', function* () {
        do {
          yield flag.willRead();
        } while (flag.value === 0);
      });
      sim.spawn('writer', function* () {
        yield flag.willWrite();
        flag.value = 1;
      });
    }, {});
    expect(result.findings).toEqual([]);
    expect(result.limits).toEqual([
      'reader goes round flag:read while nobody writes: given up after 32 rounds; declare the loop, and it waits for a ' +
        'write instead of spinning: const loop = sim.loop(name, bound) before it, loop.begin() at the start of each ' +
        'round, yield loop.again(sim.again) at its end, loop.end() after the loop (1 times)',
    ]);
    expect(result.complete).toBe(false);
    expect(result.executions).toBeLessThan(200);
  });

  test('done as that limit says, the search is complete', () => {
    const result = explore((sim) => {
      const flag = sim.cell('flag', 0);
      sim.spawn('reader', function* () {
        const loop = sim.loop('wait for the flag', 1);
        do {
          loop.begin();
          yield flag.willRead();
          if (flag.value === 0) yield loop.again(sim.again);
        } while (flag.value === 0);
        loop.end();
      });
      sim.spawn('writer', function* () {
        yield flag.willWrite();
        flag.value = 1;
      });
    });
    expect([result.limits, result.complete]).toEqual([[], true]);
  });

  test("where the loop is a model's, its user is not told to declare it", () => {
    const sim = new Sim({ checked: true, journaled: true });
    const flag = new Cell(sim, 'flag', 0);
    const look = step('test:look');
    sim.spawn('kernel', function* () {
      do {
        yield flag.willRead(look);
      } while (flag.value === 0);
    });
    sim.spawn('writer', function* () {
      yield flag.willWrite(look);
      flag.value = 1;
    });
    expect(exploreSim(sim).limits).toEqual([
      'kernel goes round test:look while nobody writes: given up after 32 rounds (1 times)',
    ]);
  });

  test('two that take one lock by test and set end, and exclude each other', () => {
    const result = explore((sim) => {
      const lock = sim.cell('lock', 0);
      const inside = sim.cell('inside', 0);
      for (let i = 0; i < 2; i++) {
        sim.spawn('taker', function* () {
          do {
            yield lock.willUpdate();
          } while (lock.value === 1);
          lock.value = 1;
          yield inside.willUpdate();
          if (inside.value !== 0) sim.fail('both are inside');
          inside.value = 1;
          yield inside.willWrite();
          inside.value = 0;
          yield lock.willWrite();
          lock.value = 0;
        });
      }
    });
    expect(result.findings).toEqual([]);
    expect(result.limits).toHaveLength(2);
  });

  test('a spin that nobody can end is a livelock, and hides no other finding', () => {
    const result = explore((sim) => {
      const never = sim.cell('never', 0);
      const y = sim.cell('y', 0);
      sim.spawn('spinner', function* () {
        for (;;) {
          yield never.willRead();
          if (never.value === 1) return;
        }
      });
      sim.spawn('a', function* () {
        yield y.willWrite();
        y.value = 1;
      });
      sim.spawn('b', function* () {
        yield y.willRead();
        if (y.value === 1) sim.fail('a race');
      });
    });
    const kinds = result.findings.map(({ kind }) => kind);
    expect(kinds).toContain('assertion');
    expect(result.complete).toBe(false);
  });

  test('a spin is one cause, wherever in its round it is given up', () => {
    const result = explore((sim) => {
      const x = sim.cell('x', 0);
      const y = sim.cell('y', 0);
      sim.spawn('spinner', function* () {
        for (;;) {
          yield x.willRead();
          yield y.willRead();
        }
      });
      sim.spawn('writer', function* () {
        yield x.willWrite();
        x.value = 1;
      });
    });
    expect(result.findings.map(({ message }) => message)).toEqual([
      'spinner goes round x:read, y:read for ever: nobody is left who could change what it looks at',
    ]);
    // Given up sooner while the writer can still step.
    expect(result.limits.map((limit) => limit.slice(0, limit.indexOf(';')))).toEqual([
      'spinner goes round x:read, y:read while nobody writes: given up after 32 rounds',
      'spinner goes round x:read, y:read while nobody writes: given up after 1000 rounds',
    ]);
  });

  test('counting where nobody sees it is no livelock', () => {
    const looking = explore((sim) => {
      const x = sim.cell('x', 0);
      for (const name of ['a', 'b']) {
        sim.spawn(name, function* () {
          for (let i = 0; i < 900; i++) {
            yield x.willRead();
            if (x.value !== 0) return;
          }
        });
      }
    });
    const working = explore((sim) => {
      const x = sim.cell('x', 0);
      for (const name of ['a', 'b', 'c']) {
        sim.spawn(name, function* () {
          for (let i = 0; i < 100; i++) yield sim.local();
          yield x.willWrite();
          x.value = 1;
        });
      }
    });
    expect([looking.findings, working.findings]).toEqual([[], []]);
    // Of two that only look, one is never alone while the other could step, yet it has not gone round often by then.
    expect([looking.executions, working.executions, working.complete]).toEqual([1, 6, true]);
  });

  test('a spin that is alone is a livelock', () => {
    const result = explore((sim) => {
      const never = sim.cell('never', 0);
      sim.spawn('spinner', function* () {
        for (;;) {
          yield never.willRead();
          if (never.value === 1) return;
        }
      });
    });
    expect(result.findings.map(({ kind }) => kind)).toEqual(['livelock']);
  });
});

describe('what gates promise', () => {
  test('is checked: a condition that was to last and does not', () => {
    const attempt = () =>
      explore((sim) => {
        const x = sim.cell('x', 1);
        sim.spawn('waiter', function* () {
          yield sim.until([x], () => x.peek() === 1, { lasting: true, name: 'one' });
        });
        sim.spawn('writer', function* () {
          yield x.willWrite();
          x.value = 0;
        });
      });
    expect(attempt).toThrow(BrokenPromise);
    expect(attempt).toThrow("the gate 'one' at which waiter waits (wait) promises that it stays open once it is");
  });

  test('is not mistaken for broken: an actor comes to a gate at which another waited in the execution before', () => {
    const { executions, complete, findings } = explore((sim) => {
      const m = sim.mutex('m');
      sim.spawn('a', function* () {
        yield sim.local();
        if (sim.choose(2) === 0) yield m.lock();
        yield sim.local();
        sim.spawn('c', function* () {
          yield m.lock();
        });
      });
    });
    expect([executions, complete]).toEqual([2, true]);
    expect(findings.map(({ message }) => message)).toEqual(['a/c.1 waits and nobody can run']);
  });

  test('is checked: a condition that looks at what it does not announce', () => {
    const attempt = () =>
      explore((sim) => {
        const x = sim.cell('x', 0);
        const y = sim.cell('y', 0);
        sim.spawn('waiter', function* () {
          yield sim.until([x], () => y.peek() === 1);
        });
        sim.spawn('writer', function* () {
          yield y.willWrite();
          y.value = 1;
        });
      });
    expect(attempt).toThrow('was opened by writer: y:write, which wrote nothing that it announced');
  });
});

describe('an actor that takes a lock time and again while another waits for it', () => {
  const contended: Parameters<typeof explore>[0] = (sim) => {
    const x = sim.cell('x', 0);
    const m = sim.mutex('m');
    sim.spawn('spinner', function* () {
      for (;;) {
        yield m.lock();
        yield x.willRead();
        const over = x.value === 1;
        yield m.unlock();
        if (over) return;
      }
    });
    sim.spawn('setter', function* () {
      yield m.lock();
      yield x.willWrite();
      x.value = 1;
      yield m.unlock();
    });
  };

  test.each(['dpor', 'bounded'] as const)('is no livelock to %s, which ends there and says so', (strategy) => {
    const result = explore(contended, { strategy });
    expect(result.findings).toEqual([]);
    expect(result.complete).toBe(false);
    expect(result.limits.join()).toMatch(/can go round for ever while others wait for their turn/);
  });

  test.each(['random', 'pct', 'pos', 'timed'] as const)('comes to its end under %s', (strategy) => {
    expect(explore(contended, { strategy, runs: 50 }).findings).toEqual([]);
  });
});
