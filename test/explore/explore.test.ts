// The library's entry: the program of the README, what a result says, limits told apart.
import { describe, expect, test } from 'vitest';
import { call, explore, NotRepeatable, type Program, UndeclaredAccess } from '../../src/index.ts';

/** Two actors that choose between three, and from the third execution on between fewer: state outside of the stores. */
function forgetful(later: number): (sim: Program) => void {
  let runs = 0;
  return (sim) => {
    const x = sim.cell('x', 0);
    for (const name of ['a', 'b']) {
      sim.spawn(name, function* () {
        yield x.willWrite();
        if (name === 'a') runs++;
        x.value = sim.choose(runs > 2 ? later : 3);
      });
    }
  };
}

describe('explore', () => {
  test('a program of cells, locks, choices and actors started by actors', () => {
    const ended: string[] = [];
    const result = explore(
      (sim) => {
        const x = sim.cell('x', 0);
        const m = sim.mutex('m');
        sim.spawn('a', function* () {
          yield x.willWrite();
          x.value = 1;
        });
        sim.spawn('b', function* () {
          yield x.willRead();
          if (x.value === 1) sim.fail('saw it');
        });
        sim.spawn('c', function* () {
          yield x.willUpdate();
          if (x.value === 0) x.value = 2;
        });
        sim.spawn('d', function* () {
          yield m.lock();
          yield m.unlock();
          const k = sim.choose(3);
          ended.push(`d chose ${k}`);
        });
        sim.spawn('e', function* () {
          const q = sim.spawn('f', function* () {});
          yield sim.join(q);
        });
      },
      { strategy: 'dpor' },
    );
    // x: a writes, c swaps if it comes before a; b anywhere: a b c, a c b (same: c only reads), b a c, c a b, c b a, b c a.
    expect(result.executions).toBe(3 * 5);
    expect([result.blocked, result.complete, result.limits]).toEqual([0, true, []]);
    expect(new Set(ended)).toEqual(new Set(['d chose 0', 'd chose 1', 'd chose 2']));
    expect(result.findings.map((f) => [f.kind, f.message])).toEqual([['assertion', 'saw it']]);
  });

  test('choices before the first step are part of schedule and search', () => {
    const program = (sim: Parameters<Parameters<typeof explore>[0]>[0]) => {
      for (const name of ['a', 'b']) {
        sim.spawn(name, function* () {
          const k = sim.choose(3);
          yield sim.local();
          if (k === 2 && name === 'b') sim.fail('b chose two');
        });
      }
    };
    const result = explore(program);
    expect([result.executions, result.blocked, result.complete]).toEqual([9, 0, true]);
    expect(result.findings[0]!.token).toBe('s1;=0,2;a;b');
    expect(explore(program, { strategy: 'replay', token: 's1;=0,2;a;b' }).findings.length).toBe(1);
    expect(explore(program, { strategy: 'bounded' }).executions).toBe(9);
  });

  test('the same cause is one finding, with the number of executions that show it', () => {
    const result = explore((sim) => {
      const x = sim.cell('x', 0);
      sim.spawn('writer', function* () {
        yield x.willWrite();
        x.value = 1;
      });
      for (const name of ['r1', 'r2']) {
        sim.spawn(name, function* () {
          yield x.willRead();
          if (x.value === 1) sim.fail('late');
        });
      }
    });
    expect(result.executions).toBe(4);
    expect(result.findings.map((f) => f.executions)).toEqual([3]);
  });

  test('a touch that was not announced ends the search: its result would mean nothing', () => {
    const attempt = () =>
      explore((sim) => {
        const x = sim.cell('x', 0);
        sim.spawn('a', function* () {
          yield sim.local();
          x.value = 1;
        });
      });
    expect(attempt).toThrow(UndeclaredAccess);
  });

  test('state outside of the stores ends the search as well', () => {
    expect(() => explore(forgetful(1))).toThrow(NotRepeatable);
  });

  test('and that says who, where, and what is likely to be the cause', () => {
    let runs = 0;
    const attempt = (strategy: 'dpor' | 'bounded') => () => {
      runs = 0;
      explore(
        (sim) => {
          const x = sim.cell('x', 0);
          sim.spawn('a', function* () {
            yield x.willUpdate();
            x.value++;
            if (runs++ === 0)
              sim.spawn('c', function* () {
                yield x.willUpdate();
                x.value++;
              });
          });
          sim.spawn('b', function* () {
            yield x.willWrite();
            x.value = 1;
          });
        },
        { strategy },
      );
    };
    for (const strategy of ['dpor', 'bounded'] as const) {
      expect(attempt(strategy)).toThrow(
        'a/c.1 cannot step where it could before: it has not been started (after 1 step: a at x:update).',
      );
      expect(attempt(strategy)).toThrow('Likely causes: Math.random or Date, a variable, array or Map of JavaScript');
    }
  });

  test('fewer alternatives than there were are told as well', () => {
    expect(() => explore(forgetful(2))).toThrow(
      'b has 2 alternatives at choose where it took number 2 before (after 1 step: a at x:write).',
    );
  });

  test('an exception in a step is a finding with its schedule, and the other actors go on', () => {
    const result = explore((sim) => {
      const x = sim.cell('x', 0);
      sim.spawn('a', function* () {
        yield x.willRead();
        if (x.value === 1) throw new Error('refcount below zero');
      });
      sim.spawn('b', function* () {
        yield x.willWrite();
        x.value = 1;
        yield x.willWrite();
        x.value = 2;
      });
    });
    expect([result.executions, result.complete]).toEqual([3, true]);
    expect(result.findings.map((f) => [f.kind, f.message])).toEqual([
      ['model-bug', 'a threw at x:read: refcount below zero'],
    ]);
  });

  test.each([
    ['a text', 'out of memory', 'out of memory'],
    ['nothing', undefined, 'nothing (undefined)'],
    ['an object', { errno: 12 }, 'an object (Object)'],
  ])('so is what is thrown and no Error: %s', (_, thrown, told) => {
    const result = explore((sim) => {
      const x = sim.cell('x', 0);
      for (const name of ['a', 'b']) {
        sim.spawn(name, function* () {
          yield x.willUpdate();
          if (x.value === 1) throw thrown;
          x.value = 1;
        });
      }
    });
    expect([result.executions, result.complete]).toEqual([2, true]);
    expect(result.findings.map((f) => [f.message, f.executions])).toEqual([[`b threw at x:update: ${told}`, 2]]);
  });

  test('a retry loop unrolled to its bound is told apart from a livelock, and nothing is called complete', () => {
    const result = explore((sim) => {
      const refs = sim.cell('refs', 0);
      sim.spawn('gup', function* () {
        const loop = sim.loop('gup_fast', 2);
        for (;;) {
          loop.begin();
          yield refs.willUpdate();
          if (refs.value >= 100) break;
          refs.value += 1;
          yield loop.again(sim.again);
        }
        loop.end();
      });
      sim.spawn('other', function* () {
        yield refs.willWrite();
        refs.value = 100;
      });
    });
    expect(result.complete).toBe(false);
    expect(result.limits).toEqual(["gup: the retry loop 'gup_fast' went round 2 times (1 times)"]);
    // The other's write comes before, between or after the three rounds.
    expect(result.executions).toBe(4);
  });

  test('a retry loop that only reads waits for a write instead of spinning', () => {
    const result = explore((sim) => {
      const seq = sim.cell('seq', 1);
      sim.spawn('reader', function* () {
        const loop = sim.loop('read_seqbegin', 0);
        for (;;) {
          loop.begin();
          yield seq.willRead();
          if (seq.value % 2 === 0) break;
          yield loop.again(sim.again);
        }
        loop.end();
      });
      sim.spawn('writer', function* () {
        yield seq.willWrite();
        seq.value = 2;
      });
    });
    expect([result.executions, result.complete, result.findings.length]).toEqual([2, true, 0]);
  });

  test('an execution that does not end is cut off and said so', () => {
    const result = explore(
      (sim) => {
        sim.spawn('spinner', function* () {
          for (;;) {
            yield sim.local();
          }
        });
      },
      { maxSteps: 50 },
    );
    expect(result.complete).toBe(false);
    expect(result.limits).toEqual(['an execution reached 50 steps: spinner goes round local (1 times)']);
  });

  test('a deadlock is found with its cycle, daemons may wait for ever', () => {
    const result = explore((sim) => {
      const a = sim.mutex('a');
      const b = sim.mutex('b');
      const wake = sim.cell('wake', false);
      sim.spawn('p', function* () {
        yield a.lock();
        yield b.lock();
        yield b.unlock();
        yield a.unlock();
      });
      sim.spawn('q', function* () {
        yield b.lock();
        yield a.lock();
        yield a.unlock();
        yield b.unlock();
      });
      sim.spawn(
        'kswapd',
        function* () {
          for (;;) {
            yield sim.until([wake], () => wake.peek());
          }
        },
        { daemon: true },
      );
    });
    expect([result.executions, result.complete]).toEqual([3, true]);
    expect(result.findings.map((f) => [f.kind, f.message, f.token])).toEqual([
      ['deadlock', 'p -> q -> p wait for each other', 's1;p@b:lock;q'],
    ]);
  });

  test('what is deferred to the end is done before the end is looked at', () => {
    const seen: number[] = [];
    explore(
      (sim) => {
        const freed = sim.cell('freed', 0);
        sim.sim.onDrain(() => {
          freed.value = 7;
        });
        sim.spawn('p', function* () {
          yield freed.willRead();
          seen.push(freed.value);
        });
      },
      { atEnd: (sim) => seen.push(sim.processes.length) },
    );
    expect(seen).toEqual([0, 1]);
  });

  test('actors of one name are told apart', () => {
    const result = explore((sim) => {
      const x = sim.cell('x', 0);
      for (let i = 0; i < 3; i++) {
        sim.spawn('r', function* () {
          yield x.willUpdate();
          x.value++;
        });
      }
    });
    expect([result.executions, result.complete]).toEqual([6, true]);
  });

  test('a failure of the set-up is thrown', () => {
    expect(() => explore((sim) => sim.fail('broken'))).toThrow(
      'the set-up itself fails, before any actor steps: broken',
    );
  });

  test.each([
    [{ strategy: 'foo' }, "there is no strategy 'foo'"],
    [{ strategy: 'random', runs: -1 }, 'runs cannot be -1'],
    [{ strategy: 'bounded', bound: 0.5 }, 'bound cannot be 0.5'],
  ])('options that cannot be are refused: %o', (options, message) => {
    const attempt = () => explore((sim) => void sim.cell('x', 0), options as Parameters<typeof explore>[1]);
    expect(attempt).toThrow(message);
  });

  test('a search that stopped early is incomplete, and why is among its limits', () => {
    const program = (sim: Parameters<Parameters<typeof explore>[0]>[0]) => {
      const x = sim.cell('x', 0);
      for (const name of ['a', 'b', 'c']) {
        sim.spawn(name, function* () {
          yield x.willUpdate();
          x.value++;
          if (x.value === 3) sim.fail('three');
        });
      }
    };
    const short = explore(program, { maxExecutions: 2 });
    expect([short.executions, short.complete]).toEqual([2, false]);
    expect(short.limits).toEqual(['stopped after 2 executions (maxExecutions)']);
    for (const strategy of ['random', 'pct', 'pos', 'timed'] as const) {
      const limits = (runs: number, maxExecutions: number) =>
        explore(program, { strategy, runs, maxExecutions }).limits;
      expect(limits(3, 2)).toEqual(['stopped after 2 executions (maxExecutions)']);
      expect([limits(2, 2), limits(2, 3)]).toEqual([[], []]);
    }
    const first = explore(program, { stopAtFinding: true });
    expect([first.findings.length, first.complete]).toEqual([1, false]);
    expect(first.limits).toEqual(['stopped at the first finding (stopAtFinding)']);
  });

  test('an IPI waits until interrupts are on: what is read with them off stays', () => {
    const program = (withIpi: boolean) => (sim: Parameters<Parameters<typeof explore>[0]>[0]) => {
      const table = sim.cell('table', 'there');
      const cpu = sim.cpu('cpu0');
      sim.spawn('walker', function* () {
        yield* call(cpu.irqDisable());
        yield table.willRead();
        const first = table.value;
        yield table.willRead();
        if (table.value !== first) sim.fail('the table went away under the walk');
        yield* call(cpu.irqEnable());
      });
      sim.spawn('freer', function* () {
        if (withIpi) yield cpu.ipi();
        yield table.willWrite();
        table.value = 'gone';
      });
    };
    expect(explore(program(false)).findings).toHaveLength(1);
    const guarded = explore(program(true));
    // The interrupt may come before the walk begins, and the table goes during it all the same.
    expect(guarded.complete).toBe(true);
    expect(guarded.executions).toBeLessThan(explore(program(false)).executions + 3);
  });
});
