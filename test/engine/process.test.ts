// Processes: names, streams and nesting that do not depend on who runs when.
import { describe, expect, test } from 'vitest';
import { Cell } from '../../src/engine/cell.ts';
import { call, type Steps } from '../../src/engine/process.ts';
import { Sim } from '../../src/engine/sim.ts';
import { mayConflict, step } from '../../src/engine/step.ts';
import { Stepper } from './stepper.ts';

const OP = step('test:op');

describe('names', () => {
  test('a child is named under its parent, whatever the interleaving', () => {
    const namesWhen = (order: readonly string[]): string[] => {
      const s = new Stepper();
      for (const name of ['a', 'b']) {
        s.spawn(name, function* () {
          for (let i = 0; i < 2; i++) {
            yield s.sim.local(OP);
            s.sim.spawn('worker', function* () {
              yield s.sim.local(OP);
            });
          }
        });
      }
      s.act(...order);
      return s.sim.processes.map((p) => p.name).sort();
    };
    expect(namesWhen(['a', 'b', 'a', 'b'])).toEqual(['a', 'a/worker.1', 'a/worker.2', 'b', 'b/worker.1', 'b/worker.2']);
    expect(namesWhen(['b', 'b', 'a', 'a'])).toEqual(namesWhen(['a', 'b', 'a', 'b']));
  });

  test('a child runs on the CPU of its parent unless told otherwise, whatever its slot', () => {
    const cpusWhen = (order: readonly string[]): number[] => {
      const s = new Stepper();
      for (const [name, cpu] of [
        ['a', 2],
        ['b', 3],
      ] as const) {
        s.sim.spawn(
          name,
          function* () {
            yield s.sim.local(OP);
            s.sim.spawn('child', function* () {});
          },
          { cpu },
        );
      }
      s.act(...order);
      return [s.named('a/child.1').cpu, s.named('b/child.1').cpu];
    };
    expect(cpusWhen(['a', 'b'])).toEqual([2, 3]);
    expect(cpusWhen(['b', 'a'])).toEqual([2, 3]);
  });
});

describe('random streams', () => {
  const draws = (names: readonly string[]): Map<string, number[]> => {
    const s = new Stepper({ seed: '42' });
    const drawn = new Map<string, number[]>();
    for (const name of names) {
      drawn.set(name, []);
      s.spawn(name, function* () {
        for (let i = 0; i < 3; i++) {
          yield s.sim.local(OP);
          drawn.get(name)!.push(s.sim.choose(1_000_000));
        }
      });
    }
    for (const name of names) s.finish(name);
    return drawn;
  };

  test("adding an actor does not shift another's numbers", () => {
    expect(draws(['other', 'a', 'b']).get('a')).toEqual(draws(['a']).get('a'));
    expect(draws(['a', 'b']).get('a')).not.toEqual(draws(['a', 'b']).get('b'));
  });

  test('a seed gives the same numbers on every platform and version', () => {
    expect(draws(['a']).get('a')).toEqual([997054, 909856, 827516]);
  });

  test('a search answers choices instead, and is told who asks', () => {
    const s = new Stepper();
    const asked: string[] = [];
    const got: number[] = [];
    s.sim.choices = {
      choose: (process, alternatives, label) => {
        asked.push(`${process?.name} ${alternatives} ${label}`);
        return alternatives - 1;
      },
    };
    s.spawn('p', function* () {
      yield s.sim.local(OP);
      got.push(s.sim.choose(4, 'which page'), s.sim.choose(1));
    });
    s.finish('p');
    expect(asked).toEqual(['p 4 which page']);
    expect(got).toEqual([3, 0]);
  });
});

describe('calls', () => {
  test('values come back through nested calls, and steps of any depth are announced one by one', () => {
    const s = new Stepper();
    const x = new Cell(s.sim, 'x', 0);
    function* sum(n: number): Steps<number> {
      yield x.willUpdate(OP);
      x.value += 1;
      return n === 0 ? 0 : n + (yield* call(sum(n - 1)));
    }
    let result = -1;
    s.spawn('p', function* () {
      result = yield* call(sum(10));
    });
    s.finish('p');
    expect([result, x.peek()]).toEqual([55, 11]);
  });

  test('a resume enters the innermost function only, however deep the calls are', () => {
    // Counted, not timed: the delegating frames of `yield*` would each be entered at every resume.
    const entered = (depth: number): number => {
      const s = new Stepper();
      let most = 0;
      function* leaf(): Steps<void> {
        for (let i = 0; i < 100; i++) {
          yield s.sim.local(OP);
          const frames = (new Error().stack ?? '').split('\n').filter((line) => /(leaf|nest) /.test(line));
          if (i > 0) most = Math.max(most, frames.length);
        }
      }
      function* nest(levels: number): Steps<void> {
        if (levels === 0) yield* call(leaf());
        else yield* call(nest(levels - 1));
      }
      s.spawn('p', function* () {
        yield* call(nest(depth));
      });
      s.finish('p');
      return most;
    };
    expect(entered(0)).toBe(1);
    expect(entered(8)).toBe(1);
  });

  test('an exception in a callee reaches whoever acts', () => {
    const s = new Stepper();
    function* broken(): Steps<void> {
      yield s.sim.local(OP);
      throw new Error('refcount below zero');
    }
    s.spawn('p', function* () {
      yield* call(broken());
    });
    expect(() => s.finish('p')).toThrow('refcount below zero');
  });
});

describe('announcements', () => {
  test('two reads commute, two additions commute, everything else on one object conflicts', () => {
    const sim = new Sim();
    const kinds = [1, 2, 3, 4] as const;
    const access = (kind: (typeof kinds)[number], lo: number, hi: number) => {
      const probe = sim.spawn('probe', function* () {
        yield sim.announce(lo, hi, kind, OP);
      });
      return probe.announced;
    };
    for (const a of kinds) {
      for (const b of kinds) {
        const commute = (a === 1 && b === 1) || (a === 4 && b === 4);
        expect(mayConflict(access(a, 5, 5), access(b, 5, 5))).toBe(!commute);
        expect(mayConflict(access(a, 5, 5), access(b, 6, 6))).toBe(false);
        expect(mayConflict(access(a, 1, 5), access(b, 5, 9))).toBe(!commute);
        expect(mayConflict(access(a, 1, 4), access(b, 5, 9))).toBe(false);
      }
    }
  });

  test('announcing outside a process is refused', () => {
    const sim = new Sim();
    const x = new Cell(sim, 'x', 0);
    expect(() => x.willRead(OP)).toThrow('outside a process');
  });

  test('an object id leads back to its name, also for objects made on the way', () => {
    const s = new Stepper();
    const x = new Cell(s.sim, 'x', 0);
    let made = -1;
    s.spawn('p', function* () {
      yield s.sim.local(OP);
      made = new Cell(s.sim, 'made on the way', 0).id;
      s.sim.spawn('child', function* () {});
    });
    s.finish('p');
    expect(s.sim.describe(x.id)).toBe('x');
    expect(s.sim.describe(made)).toBe('made on the way');
    expect(s.sim.describe(s.named('p/child.1').doneId)).toBe('end of p/child.1');
  });
});
