// Optimal DPOR where it is easy to lose traces or to run them twice: waits that come and go, failed attempts, choices
// that decide what a step touches, objects made on the way. Each program is also enumerated by brute force.
//
// Over 400 lines: one list of small programs, each with the reason for which it is there.
import { describe, expect, test } from 'vitest';
import { LockColumn } from '../../src/engine/lock-column.ts';
import { call, type Steps } from '../../src/engine/process.ts';
import { RwLock } from '../../src/engine/rwlock.ts';
import { Sim } from '../../src/engine/sim.ts';
import { step } from '../../src/engine/step.ts';
import { explore } from '../../src/explore/explore.ts';
import { Program, type ProgramCell } from '../../src/explore/program.ts';
import { Runner } from '../../src/explore/runner.ts';
import { Dpor } from '../../src/explore/schedulers/dpor.ts';
import { compare } from './against-brute-force.ts';

const OP = step('test:op');

/** As many traces as said, the same as by brute force. */
function expectTraces(build: (sim: Program) => void, traces: number, deadlocks = 0): void {
  const result = compare(build, 20_000);
  expect(result.differences).toEqual([]);
  expect([result.traces, result.deadlocks]).toEqual([traces, deadlocks]);
}

describe('waits', () => {
  /** Values that a setter gives x in turn, while waiters wait for a value. */
  const toggled =
    (values: readonly number[], waitedFor: readonly number[], initial = 0) =>
    (sim: Program) => {
      const x = sim.cell('x', initial);
      waitedFor.forEach((value, i) => {
        sim.spawn(`waiter${i}`, function* () {
          yield sim.until([x], () => x.peek() === value);
        });
      });
      sim.spawn('setter', function* () {
        for (const value of values) {
          yield x.willWrite();
          x.value = value;
        }
      });
    };

  test('a wait that turns true, false and true again can end in either window', () => {
    expectTraces(toggled([1, 0, 1], [1]), 2);
  });

  test('a wait that is open at first and is shut for good may be missed', () => {
    expectTraces(toggled([1], [0]), 2, 1);
  });

  test('two waiters in two windows', () => {
    expectTraces(toggled([1, 0, 1], [1, 1]), 4);
  });

  test('a waiter that arrives late may find the gate shut already', () => {
    expectTraces(
      (sim) => {
        const x = sim.cell('x', 1);
        const y = sim.cell('y', 0);
        sim.spawn('shutter', function* () {
          yield x.willWrite();
          x.value = 0;
        });
        sim.spawn('late', function* () {
          yield y.willWrite();
          y.value = 1;
          yield sim.until([x], () => x.peek() === 1);
        });
      },
      2,
      1,
    );
  });

  test('a wait over two cells, shut by either and opened by either', () => {
    expectTraces((sim) => {
      const a = sim.cell('a', 1);
      const b = sim.cell('b', 0);
      sim.spawn('waiter', function* () {
        yield sim.until([a, b], () => a.peek() === 1 || b.peek() === 1);
      });
      sim.spawn('shutter', function* () {
        yield a.willWrite();
        a.value = 0;
      });
      sim.spawn('opener', function* () {
        yield b.willWrite();
        b.value = 1;
      });
    }, 3);
  });

  test('a wait for both of two cells, both shut by others', () => {
    expectTraces(
      (sim) => {
        const a = sim.cell('a', 1);
        const b = sim.cell('b', 1);
        sim.spawn('waiter', function* () {
          yield sim.until([a, b], () => a.peek() === 1 && b.peek() === 1);
        });
        for (const [name, cell] of [
          ['p', a],
          ['q', b],
        ] as const) {
          sim.spawn(name, function* () {
            yield cell.willWrite();
            cell.value = 0;
          });
        }
      },
      2,
      1,
    );
  });

  test('an interrupt waits for CPUs with interrupts off, and changes what they see', () => {
    expectTraces((sim) => {
      const off = sim.cell('interrupts off', false);
      const tlb = sim.cell('tlb', 1);
      sim.spawn('gup_fast', function* () {
        yield off.willWrite();
        off.value = true;
        yield tlb.willRead();
        yield tlb.willRead();
        yield off.willWrite();
        off.value = false;
      });
      sim.spawn('ipi', function* () {
        tlb.willUpdate(OP);
        yield sim.until([off], () => !off.peek(), { at: OP });
        tlb.value = 0;
      });
    }, 2);
  });

  test('claiming what was waited for excludes the other waiter', () => {
    expectTraces((sim) => {
      const token = sim.cell('token', 1);
      for (const name of ['a', 'b', 'c']) {
        sim.spawn(name, function* () {
          yield sim.until([token], () => token.peek() > 0, { update: true });
          token.value -= 1;
          yield token.willUpdate();
          token.value += 1;
        });
      }
    }, 6);
  });
});

describe('locks', () => {
  test('a trylock fails, or succeeds before or after', () => {
    expectTraces((sim) => {
      const m = sim.mutex('m');
      sim.spawn('holder', function* () {
        yield m.lock();
        yield m.unlock();
      });
      sim.spawn('trier', function* () {
        yield m.trylock();
        if (m.heldBy(sim.self)) yield m.unlock();
      });
    }, 3);
  });

  test('a trylock that a deadlock hangs on', () => {
    expectTraces(
      (sim) => {
        const m = sim.mutex('m');
        sim.spawn('trier', function* () {
          yield m.trylock();
        });
        sim.spawn('locker', function* () {
          yield m.lock();
          yield m.unlock();
        });
      },
      3,
      1,
    );
  });

  test('locks announced with the first access under them', () => {
    expectTraces((sim) => {
      const ptl = new LockColumn(sim.sim, 'ptl', 2);
      const pte = sim.cell('pte', 0);
      for (const name of ['a', 'b']) {
        sim.spawn(name, function* () {
          pte.willRead(OP);
          yield ptl.lock(0, OP);
          pte.willUpdate(OP);
          yield ptl.unlock(0, OP);
          pte.value += 1;
        });
      }
      sim.spawn('lockless', function* () {
        yield pte.willRead();
      });
      sim.spawn('passer', function* () {
        yield ptl.pass(0, OP);
      });
    }, 18);
  });

  test('a reader-writer spinlock lets readers join, a writer wait', () => {
    expectTraces((sim) => {
      const lock = new RwLock(sim.sim, 'mmu_lock');
      for (const name of ['r1', 'r2']) {
        sim.spawn(name, function* () {
          yield lock.read();
          yield lock.unlock();
        });
      }
      sim.spawn('w', function* () {
        yield lock.write();
        yield lock.unlock();
      });
      // Readers commute with each other; the writer comes before or after each of them.
    }, 4);
  });

  test('a fair rwsem deadlocks when a reader reads again behind a waiting writer', () => {
    expectTraces(
      (sim) => {
        const sem = sim.rwsem('mmap_lock');
        sim.spawn('reader', function* () {
          yield* call(sem.read());
          yield* call(sem.read());
          yield sem.up();
          yield sem.up();
        });
        sim.spawn('writer', function* () {
          yield* call(sem.write());
          yield sem.up();
        });
      },
      6,
      1,
    );
  });
});

describe('outcomes', () => {
  test('a step whose outcome turns around when it comes earlier', () => {
    // A swap 0 -> 1 and a swap 1 -> 2 besides a reader: judged by what it did, the second would be a read that need not
    // be moved.
    expectTraces((sim) => {
      const x = sim.cell('x', 0);
      for (const [name, from] of [
        ['first', 0],
        ['second', 1],
      ] as const) {
        sim.spawn(name, function* () {
          yield x.willUpdate();
          if (x.value === from) x.value = from + 1;
        });
      }
      sim.spawn('reader', function* () {
        yield x.willRead();
      });
    }, 5);
  });

  test('two steps that only one order makes meet a third', () => {
    // Where x has been explored and sleeps, nobody sees a and b race: the sequence has to be remembered in full.
    expectTraces((sim) => {
      const a = sim.cell('a', 0);
      const b = sim.cell('b', 0);
      const c = sim.cell('c', 0);
      sim.spawn('x', function* () {
        a.willWrite(OP);
        yield b.willWrite(OP);
        a.value = 1;
        b.value = 1;
      });
      for (const [name, cell] of [
        ['a', a],
        ['b', b],
      ] as const) {
        sim.spawn(name, function* () {
          yield sim.local();
          yield c.willUpdate();
          if (c.value !== 0) return;
          c.value = 1;
          yield cell.willRead();
        });
      }
    }, 4);
  });

  test('a choice that decides whether the step writes', () => {
    expectTraces(
      (sim) => {
        const x = sim.cell('x', 0);
        sim.spawn('chooser', function* () {
          yield x.willUpdate();
          if (sim.choose(3) > 0) x.value = sim.choose(2);
        });
        sim.spawn('reader', function* () {
          yield x.willRead();
        });
        // Reading: one trace. Writing, in four ways: before or after the reader.
      },
      1 + 2 * 4,
    );
  });

  test('how many alternatives there are may depend on who came before', () => {
    expectTraces((sim) => {
      const x = sim.cell('x', 2);
      sim.spawn('chooser', function* () {
        yield x.willRead();
        sim.choose(x.value);
      });
      sim.spawn('writer', function* () {
        yield x.willWrite();
        x.value = 4;
      });
    }, 2 + 4);
  });

  test('several choices in one step, of which the outcome decides, among others that race', () => {
    expectTraces((sim) => {
      const x = sim.cell('x', 0);
      sim.spawn('chooser', function* () {
        yield x.willUpdate();
        if (sim.choose(3) === 2) sim.choose(2);
        else if (sim.choose(2) === 1) x.value = 7;
      });
      for (const value of [8, 9]) {
        sim.spawn(`writer ${value}`, function* () {
          yield x.willWrite();
          x.value = value;
        });
      }
      // Six ways to choose, and an order of three that all conflict.
    }, 6 * 6);
  });

  test('two that choose whether to write, and one goes on: other choices count before and after all that they may meet', () => {
    expectTraces((sim) => {
      const [shared, first, second] = [sim.cell('shared', 0), sim.cell('first', 0), sim.cell('second', 1)];
      function* choosing(own: ProgramCell<number>): Steps<void> {
        own.willUpdate();
        yield shared.willUpdate();
        const way = sim.choose(3);
        if (way === 1) own.value += 1;
        if (way === 2 && shared.value === 0 && sim.choose(2) === 1) shared.value = 2;
      }
      sim.spawn('one', () => choosing(second));
      sim.spawn('other', function* () {
        yield* call(choosing(first));
        second.willRead();
        yield shared.willWrite();
        shared.value = second.value;
        yield shared.willRead();
      });
      sim.spawn('reader', function* () {
        yield shared.willRead();
      });
      // A search that runs another choice in one order only, as nothing conflicts with what that does there, loses traces.
    }, 81);
  });

  test('thousands of alternatives take no time to speak of', () => {
    const alone = explore((sim) => {
      sim.spawn('chooser', function* () {
        yield sim.local();
        sim.choose(3000);
      });
    });
    const raced = explore((sim) => {
      const x = sim.cell('x', 0);
      sim.spawn('chooser', function* () {
        yield x.willUpdate();
        if (sim.choose(700) % 2 === 1) x.value = 1;
      });
      sim.spawn('reader', function* () {
        yield x.willRead();
      });
    });
    expect([alone.executions, alone.blocked, alone.complete]).toEqual([3000, 0, true]);
    expect([raced.executions, raced.blocked, raced.complete]).toEqual([350 + 2 * 350, 0, true]);
  });
});

describe('what is made on the way', () => {
  test('objects and actors keep their identity when they are made in another order', () => {
    expectTraces((sim) => {
      const log = sim.tally('made');
      for (const name of ['p', 'q']) {
        sim.spawn(name, function* () {
          yield log.willAdd();
          log.add(1);
          const own = sim.cell('own', 0);
          for (const child of ['a', 'b']) {
            sim.spawn(child, function* () {
              yield own.willUpdate();
              own.value += 1;
            });
          }
        });
      }
    }, 4);
  });

  test('additions commute, a reading of the sum does not', () => {
    expectTraces((sim) => {
      const total = sim.tally('total');
      for (const name of ['a', 'b', 'c']) {
        sim.spawn(name, function* () {
          yield total.willAdd();
          total.add(1);
        });
      }
      sim.spawn('reader', function* () {
        yield total.willRead();
      });
    }, 8);
  });
});

describe('resources', () => {
  test('memory does not grow with the number of executions', () => {
    const sim = new Sim({ journaled: true });
    const program = new Program(sim);
    const x = program.cell('x', 0);
    for (let i = 0; i < 8; i++) {
      sim.spawn(`t${i}`, function* () {
        yield x.willWrite();
        x.value = i;
      });
    }
    const runner = new Runner(sim);
    const dpor = new Dpor(sim);
    const sizes = (): number => JSON.stringify(dpor, sizeOf()).length;
    let run = 0;
    for (; run < 2000; run++) runner.execute(dpor, run);
    const early = sizes();
    for (; runner.execute(dpor, run); run++) if (run === 38_000) expect(sizes()).toBeLessThan(1.5 * early);
    expect(run).toBe(40_320);
  });
});

/** A replacer that walks the search's own data once, and leaves the world it searches out. */
function sizeOf(): (key: string, value: unknown) => unknown {
  const seen = new Set<unknown>();
  return (key, value) => {
    if (key === 'sim' || key === 'processes' || key === 'byName') return undefined;
    if (typeof value !== 'object' || value === null) return value;
    if (seen.has(value)) return undefined;
    seen.add(value);
    return ArrayBuffer.isView(value) ? value.byteLength : value;
  };
}

describe('what a step touches only if it turns out so', () => {
  const OP = step('op');

  /** Each drops a reference; the last one frees, which writes the flag. */
  const putters = (count: number) => (sim: Program) => {
    const references = sim.cell('references', count);
    const flag = sim.cell('flag', 0);
    for (let i = 0; i < count; i++) {
      sim.spawn(`p${i}`, function* () {
        flag.willPerhaps(OP);
        yield references.willUpdate(OP);
        references.value = references.value - 1;
        if (references.value === 0) flag.value = 1;
      });
    }
    sim.spawn('reader', function* () {
      yield flag.willRead(OP);
      if (flag.value === 1) yield references.willRead(OP);
    });
  };

  test('puts that are not the last commute with a look at what the last one changes', () => {
    // Two orders of the puts, and the look before or after the last of them.
    expectTraces(putters(2), 4);
  });

  test('three puts', () => {
    expectTraces(putters(3), 12);
  });
});

describe('a lock that is taken and let go in one step', () => {
  test('comes before or after one that is held for longer', () => {
    expectTraces((sim) => {
      const lock = sim.mutex('m');
      const x = sim.cell('x', 0);
      sim.spawn('short', function* () {
        yield x.willWrite();
        x.value = 1;
        yield lock.lock();
        lock.releaseNow();
      });
      sim.spawn('long', function* () {
        yield lock.lock();
        yield x.willRead();
        yield lock.unlock();
      });
    }, 3);
  });

  test('by a trylock', () => {
    expectTraces((sim) => {
      const lock = sim.mutex('m');
      sim.spawn('short', function* () {
        yield lock.trylock();
        if (lock.heldBy(sim.sim.current)) lock.releaseNow();
      });
      sim.spawn('long', function* () {
        yield lock.lock();
        yield lock.unlock();
      });
    }, 3);
  });
});
