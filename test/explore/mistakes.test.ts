// What somebody who writes the first program gets wrong, and what he is told.
import { describe, expect, test } from 'vitest';
import { call, explore, NotAStep, type Process, type Steps, shrink } from '../../src/index.ts';

type World = Parameters<Parameters<typeof explore>[0]>[0];

/** Explore one actor `p` with a cell `x`; TypeScript would refuse most of these bodies. */
const exploring = (body: (sim: World, x: ReturnType<World['cell']>) => unknown) => () =>
  explore((sim) => {
    const x = sim.cell('x', 0);
    sim.spawn('p', body(sim, x) as () => Steps<void>);
  });

describe('yielding what is no step', () => {
  test.each([
    ['a number', () => 42, 'p yielded 42 first of all; expected an announcement such as x.willRead()'],
    ['a text', () => 'x', 'p yielded "x" first of all; expected an announcement'],
    ['a truth', () => true, 'p yielded true first of all; expected an announcement'],
    ['null', () => null, 'p yielded null first of all; expected an announcement'],
    ['a list', () => [1], 'p yielded an object (Array) first of all; expected an announcement'],
    ['nothing', () => undefined, 'p yielded nothing (undefined) first of all; expected an announcement'],
    ['a cell', (sim: World) => sim.cell('y', 0), 'p yielded an object (ProgramCell) first of all; expected'],
    ['a function', () => function* inner() {}, 'p yielded the function inner first of all; expected'],
  ])('%s', (_, made, message) => {
    const attempt = exploring(
      (sim) =>
        function* () {
          yield made(sim);
        },
    );
    expect(attempt).toThrow(message);
  });

  test('a call that announces nothing is called, and that is said; the step before is named', () => {
    const attempt = exploring(
      (sim, x) =>
        function* () {
          yield x.willRead();
          yield sim.fail('wrong');
        },
    );
    expect(attempt).toThrow(
      'p yielded nothing (undefined) after x:read; expected an announcement such as x.willRead() ' +
        '(sim.fail(...), and whatever else announces nothing, is called, not yielded)',
    );
  });

  test('in a function that the actor has called, and under every strategy', () => {
    function* deep(x: ReturnType<World['cell']>): Steps<void> {
      yield x.willWrite();
      yield 7 as never;
    }
    for (const strategy of ['dpor', 'bounded', 'random', 'pct', 'pos', 'timed'] as const) {
      const attempt = () =>
        explore(
          (sim) => {
            const x = sim.cell('x', 0);
            sim.spawn('p', function* () {
              yield* call(deep(x));
            });
          },
          { strategy, runs: 2 },
        );
      expect(attempt).toThrow('p yielded 7 after x:write; expected an announcement');
    }
  });

  test('a TypeError of the actor itself stays what it is', () => {
    const result = exploring(
      (_, x) =>
        function* () {
          yield x.willRead();
          (x.value as unknown as { grow(): void }).grow();
        },
    )();
    expect(result.findings.map(({ message }) => message)).toEqual([
      'p threw at x:read: x.value.grow is not a function',
    ]);
  });
});

describe('announcing without yielding', () => {
  test('and then ending: what was announced would never be done', () => {
    const attempt = () =>
      explore((sim) => {
        const m = sim.mutex('m');
        sim.spawn('p', function* () {
          yield m.lock();
          m.unlock();
        });
      });
    expect(attempt).toThrow('p announces m:unlock and ends: it is never done; expected yield before the announcement');
  });

  test('and then announcing another wait: a step waits once, and the first would be lost', () => {
    const announcing = (both: (sim: World, x: ReturnType<World['cell']>) => unknown) =>
      exploring(
        (sim, x) =>
          function* () {
            yield both(sim, x);
          },
      );
    const expected = 'as one step, which can wait for one only; expected yield before each';
    const locks = announcing((sim) => {
      sim.mutex('m').lock();
      return sim.mutex('k').lock();
    });
    expect(locks).toThrow(`p announces m:lock and k:lock ${expected}`);
    const condition = announcing((sim, x) => {
      sim.until([x], () => x.peek() === 0, { name: 'x to be 0' });
      return sim.mutex('k').trylock();
    });
    expect(condition).toThrow(`p announces wait (x to be 0) and k:trylock ${expected}`);
    expect(locks).toThrow(NotAStep);
  });
});

describe('spawning what is no generator function', () => {
  test.each([
    ['a plain function', () => () => {}, 'the function that p is spawned with is no generator function; expected'],
    [
      'an async function',
      () => async () => {},
      'the function that p is spawned with is no generator function; expected',
    ],
    [
      'an async generator',
      (sim: World) =>
        async function* () {
          yield sim.local();
        },
      'p runs an async function; expected a generator function without async',
    ],
    ['nothing', () => undefined, 'p is spawned with nothing (undefined); expected a generator function: function* ()'],
    [
      'a generator',
      (sim: World) =>
        (function* () {
          yield sim.local();
        })(),
      'p is spawned with a generator; it is run anew in every execution: pass the function, without calling it; expected',
    ],
  ])('%s', (_, body, message) => {
    expect(exploring(body)).toThrow(message);
  });

  test('by an actor: the child is named', () => {
    const attempt = exploring(
      (sim) =>
        function* () {
          yield sim.local();
          sim.spawn('child', (() => {}) as never);
        },
    );
    expect(attempt).toThrow('the function that p/child.1 is spawned with is no generator function');
  });
});

describe('joining', () => {
  test('a variable that is not set yet: the first step is announced while the actor is spawned', () => {
    const attempt = () =>
      explore((sim) => {
        const held: { me?: Process } = {};
        held.me = sim.spawn('p', function* () {
          yield sim.join(held.me!);
        });
      });
    expect(attempt).toThrow(
      "p joins undefined; expected the actor that sim.spawn(...) has returned. An actor's first step is announced while",
    );
  });

  test('oneself is a deadlock, under whichever name', () => {
    const bySelf = explore((sim) => {
      sim.spawn('p', function* () {
        yield sim.join(sim.self);
      });
    });
    const held: { me?: Process } = {};
    const byVariable = explore((sim) => {
      held.me = sim.spawn('p', function* () {
        yield sim.local();
        yield sim.join(held.me!);
      });
    });
    for (const { findings, complete } of [bySelf, byVariable]) {
      expect(complete).toBe(true);
      expect(findings.map(({ kind, message }) => [kind, message])).toEqual([['deadlock', 'p waits for itself']]);
      expect(findings[0]!.finding.reasons).toEqual(['p waits for end of p at join']);
    }
  });

  test('what is no actor is named', () => {
    const attempt = exploring(
      (sim) =>
        function* () {
          yield sim.join('q' as never);
        },
    );
    expect(attempt).toThrow('p joins q; expected the actor that sim.spawn(...) has returned');
  });
});

describe('what cannot be', () => {
  type X = ReturnType<World['cell']>;
  test.each<[string, (sim: World, x: X) => unknown, string]>([
    [
      'until with a cell',
      (sim, x) => sim.until(x as never, () => true),
      'until expects an array of what the predicate looks at, as in sim.until([x], () => x.peek() > 0), not an object (ProgramCell)',
    ],
    [
      'until without a predicate',
      (sim, x) => sim.until([x], undefined as never),
      'until expects a predicate, as in sim.until([x], () => x.peek() > 0), not nothing (undefined)',
    ],
    [
      'half an alternative',
      (sim) => sim.choose(1.5),
      "'choose' expects a whole number of alternatives to choose from, not 1.5",
    ],
    [
      'a text of alternatives',
      (sim) => sim.choose('2' as never, 'way'),
      `'way' expects a whole number of alternatives to choose from, not "2"`,
    ],
    ['to sleep back', (sim) => sim.sleep(-5), 'sleep expects whole nanoseconds, 0 or more, not -5'],
    [
      'to sleep for no time known',
      (sim) => sim.sleep(Number.NaN),
      'sleep expects whole nanoseconds, 0 or more, not NaN',
    ],
    [
      'a timer without a delay',
      (sim) => sim.timer('t', undefined as never, function* () {}),
      'timer expects whole nanoseconds, 0 or more, not nothing (undefined)',
    ],
    [
      'to fail without a word',
      (sim) => sim.fail(undefined as never),
      "fail expects a text that says what is wrong, as in sim.fail('saw it'), not nothing (undefined)",
    ],
  ])('%s', (_, wrong, message) => {
    const first = exploring(
      (sim, x) =>
        function* () {
          yield wrong(sim, x);
        },
    );
    expect(first).toThrow(TypeError);
    expect(first).toThrow(message);
    // Later on it is the actor that threw.
    const later = exploring(
      (sim, x) =>
        function* () {
          yield x.willRead();
          yield wrong(sim, x);
        },
    )();
    expect(later.findings.map((found) => found.message)).toEqual([`p threw at x:read: ${message}`]);
  });
});

describe('calling shrink', () => {
  const failing = (sim: World) => {
    sim.spawn('a', function* () {
      yield sim.local();
      sim.fail('always');
    });
  };

  test('with options that nobody knows, or a set-up that is none', () => {
    const { token } = explore(failing).findings[0]!;
    expect(shrink(failing, token, { budget: 5 }).minimal).toBe(true);
    expect(() => shrink(failing, token, { buget: 5 } as never)).toThrow(
      "there is no option 'buget': expected budget, identity, seed, maxSteps, gatesChecked, atEnd",
    );
    expect(() => shrink(undefined as never, token)).toThrow('shrink expects a function that sets the program up');
    expect(() => shrink(failing, token, { atEnd: true } as never)).toThrow('atEnd expects a function');
  });
});

describe('calling explore', () => {
  const writer = (sim: World) => {
    const x = sim.cell('x', 0);
    sim.spawn('a', function* () {
      yield x.willWrite();
      x.value = 1;
    });
  };

  test.each([
    ['a set-up that is async', () => explore(async (sim) => writer(sim)), 'the set-up has not run to its end'],
    [
      'a set-up that is a generator',
      () =>
        explore(function* (sim: World) {
          yield writer(sim);
        } as never),
      'the set-up has not run to its end when it returns (async, or a generator)',
    ],
    ['no set-up', () => explore(undefined as never), 'explore expects a function that sets the program up'],
    ['options that are a text', () => explore(writer, 'dpor' as never), 'not dpor'],
    ['options that are null', () => explore(writer, null as never), 'the options of explore are an object'],
    [
      'an end that is not looked at',
      () => explore(writer, { atEnd: 'x' } as never),
      'atEnd expects a function that looks at the end of an execution, as in { atEnd: (sim) => { ... } }, not "x"',
    ],
    ['an option that nobody knows', () => explore(writer, { strat: 'pct' } as never), "there is no option 'strat'"],
  ])('%s', (_, attempt, message) => {
    expect(attempt).toThrow(message);
  });

  test('an actor called as those that actors start', () => {
    const attempt = () => explore((sim) => void sim.spawn('a/c.1', function* () {}));
    expect(attempt).toThrow('an actor cannot be called a/c.1: actors started by actors are');
  });
});

describe('changing what a cell holds', () => {
  const tells = (initial: unknown, change: (x: { value: never }) => void) => {
    const { findings } = explore((sim) => {
      const x = sim.cell<unknown>('x', initial);
      sim.spawn('p', function* () {
        yield x.willUpdate();
        change(x as never);
      });
    });
    return findings.map(({ message }) => message);
  };
  const frozen = ' (what a cell holds is frozen: assign a changed copy, as in x.value = [...x.value, 4])';

  test.each<[string, unknown, (x: { value: never }) => void, string]>([
    ['a list', [1], (x: { value: number[] }) => x.value.push(2), 'Cannot add property 1, object is not extensible'],
    [
      'an object',
      { v: 0 },
      (x: { value: { v: number } }) => {
        x.value.v = 1;
      },
      "Cannot assign to read only property 'v' of object '#<Object>'",
    ],
    [
      'a list in an object that was assigned before',
      0,
      (x: { value: unknown }) => {
        const list = [1];
        x.value = { list };
        list.push(2);
      },
      'Cannot add property 1, object is not extensible',
    ],
    [
      'a list in one that the program has frozen itself',
      Object.freeze([[1]]),
      (x: { value: number[][] }) => x.value[0]!.push(2),
      'Cannot add property 1, object is not extensible',
    ],
    [
      'an object without prototype',
      Object.assign(Object.create(null), { v: 0 }),
      (x: { value: { v: number } }) => {
        x.value.v = 1;
      },
      "Cannot assign to read only property 'v' of object '[object Object]'",
    ],
  ])('%s: a search could not undo it, so it fails where it happens', (_, initial, change, message) => {
    expect(tells(initial, change)).toEqual([`p threw at x:update: ${message}${frozen}`]);
  });

  test('what cannot be frozen is refused', () => {
    const told =
      /x cannot hold an object \(Map\), as a search could not undo what is changed in it; expected a primitive/;
    expect(() => tells(new Map(), () => {})).toThrow(told);
    expect(() => tells(Object.freeze(new Map()), () => {})).toThrow(told);
    expect(tells(0, (x: { value: unknown }) => (x.value = [new Map()]))).toEqual([expect.stringMatching(told)]);
  });

  test('changed copies are fine, and belong to the state', () => {
    const { executions, complete, findings } = explore((sim) => {
      const x = sim.cell<{ readonly list: readonly number[] }>('x', { list: [] });
      for (const n of [1, 2]) {
        sim.spawn('p', function* () {
          // More steps than an execution may take before its state is watched.
          for (let i = 0; i < 600; i++) yield sim.local();
          yield x.willUpdate();
          x.value = { list: [...x.value.list, n] };
        });
      }
    });
    expect([executions, complete, findings]).toEqual([2, true, []]);
  });
});
