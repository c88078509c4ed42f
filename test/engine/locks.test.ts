// Locks: who may step while somebody else holds them.
import { describe, expect, test } from 'vitest';
import { Cell } from '../../src/engine/cell.ts';
import { cycleOf, deadlockFinding } from '../../src/engine/deadlock.ts';
import { Mutex } from '../../src/engine/lock.ts';
import { LockColumn } from '../../src/engine/lock-column.ts';
import { call } from '../../src/engine/process.ts';
import { RwSem } from '../../src/engine/rwsem.ts';
import { step } from '../../src/engine/step.ts';
import { runTimed } from '../../src/engine/timed.ts';
import { Stepper } from './stepper.ts';

const OP = step('test:op');

describe('mutex', () => {
  test('others are disabled while it is held, and any of them may win when it is free', () => {
    const s = new Stepper();
    const m = new Mutex(s.sim, 'm');
    for (const name of ['a', 'b', 'c']) {
      s.spawn(name, function* () {
        yield m.lock();
        yield m.unlock();
      });
    }
    s.act('b');
    expect(s.enabled()).toEqual(['b']);
    expect(m.owner?.name).toBe('b');
    s.act('b');
    expect(s.enabled()).toEqual(['a', 'c']);
    s.act('c');
    expect(m.heldBy(s.named('c'))).toBe(true);
    expect(s.enabled()).toEqual(['c']);
  });

  test('a trylock never waits, and says afterwards whether it was got', () => {
    const s = new Stepper();
    const m = new Mutex(s.sim, 'm');
    const got: boolean[] = [];
    s.spawn('holder', function* () {
      yield m.lock();
      yield m.unlock();
    });
    for (const name of ['t', 'u']) {
      s.spawn(name, function* () {
        yield m.trylock();
        got.push(m.heldBy(s.sim.current));
      });
    }
    s.act('holder', 't', 'holder', 'u');
    expect(got).toEqual([false, true]);
  });

  test('a failed trylock did nothing but read', () => {
    const s = new Stepper();
    const m = new Mutex(s.sim, 'm');
    s.spawn('holder', function* () {
      yield m.lock();
      yield m.unlock();
    });
    const t = s.spawn('t', function* () {
      yield m.trylock();
      yield m.trylock();
    });
    s.act('holder', 't');
    expect(t.acted.did[0]).toBe(1);
    s.act('holder', 't');
    expect(t.acted.did[0]).toBe(3);
  });

  test('unlocking what another holds is a bug of the model', () => {
    const s = new Stepper();
    const m = new Mutex(s.sim, 'm');
    s.spawn('a', function* () {
      yield m.lock();
      yield m.unlock();
    });
    s.spawn('b', function* () {
      yield m.unlock();
    });
    s.act('a');
    expect(() => s.act('b')).toThrow('b unlocks m, held by a');
  });

  test('locks addressed by row exclude per row', () => {
    const s = new Stepper();
    const locks = new LockColumn(s.sim, 'ptl', 1000);
    for (const [name, row] of [
      ['a', 5],
      ['b', 5],
      ['c', 6],
    ] as const) {
      s.spawn(name, function* () {
        yield locks.lock(row);
        yield locks.unlock(row);
      });
    }
    s.act('a', 'c');
    expect(s.enabled()).toEqual(['a', 'c']);
    s.act('a');
    expect(s.enabled()).toEqual(['b', 'c']);
    expect(locks.ownerOf(6)?.name).toBe('c');
  });
});

describe('rwsem', () => {
  const world = () => {
    const s = new Stepper();
    const sem = new RwSem(s.sim, 'mmap_lock');
    const actor = (name: string, write: boolean) =>
      s.spawn(name, function* () {
        if (write) yield* call(sem.write());
        else yield* call(sem.read());
        yield s.sim.local(OP);
        yield sem.up();
      });
    return { s, sem, actor };
  };

  test('readers share it', () => {
    const { s, sem, actor } = world();
    actor('r1', false);
    actor('r2', false);
    s.act('r1', 'r2');
    expect(sem.holds(s.named('r1')) && sem.holds(s.named('r2'))).toBe(true);
  });

  test('a waiting writer stops later readers, and comes first', () => {
    const { s, sem, actor } = world();
    actor('early', false);
    actor('writer', true);
    actor('late', false);
    s.act('early', 'writer', 'late');
    // writer and late have queued, and neither may own it yet.
    expect(s.enabled()).toEqual(['early']);
    s.act('early', 'early');
    expect(s.enabled()).toEqual(['writer']);
    s.act('writer');
    expect(sem.writeHeld).toBe(true);
    expect(s.enabled()).toEqual(['writer']);
    s.act('writer', 'writer');
    expect(s.enabled()).toEqual(['late']);
  });

  test('readers queued behind a writer all come in together after it', () => {
    const { s, actor } = world();
    actor('writer', true);
    actor('r1', false);
    actor('r2', false);
    s.act('writer', 'r1', 'r2', 'writer', 'writer');
    expect(s.enabled()).toEqual(['r1', 'r2']);
    s.act('r2');
    expect(s.enabled()).toEqual(['r1', 'r2']);
  });

  test('a killable waiter gives up when a signal comes, and leaves the queue', () => {
    const s = new Stepper();
    const sem = new RwSem(s.sim, 'mmap_lock');
    const signal = new Cell(s.sim, 'SIGKILL of victim', false);
    const got: boolean[] = [];
    s.spawn('holder', function* () {
      yield* call(sem.write());
      yield sem.up();
    });
    s.spawn('victim', function* () {
      got.push(yield* call(sem.killable(true, signal)));
    });
    s.spawn('behind', function* () {
      yield* call(sem.read());
    });
    s.spawn('killer', function* () {
      yield signal.willWrite(OP);
      signal.value = true;
    });
    s.act('holder', 'victim', 'behind');
    expect(s.enabled()).toEqual(['holder', 'killer']);
    s.act('killer');
    expect(s.enabled()).toEqual(['holder', 'victim']);
    s.act('victim');
    expect(got).toEqual([false]);
    s.act('holder');
    expect(s.enabled()).toEqual(['behind']);
  });

  test('a killable waiter whose turn it is gets the lock even with a signal pending', () => {
    const s = new Stepper();
    const sem = new RwSem(s.sim, 'mmap_lock');
    const signal = new Cell(s.sim, 'signal', true);
    const got: boolean[] = [];
    s.spawn('p', function* () {
      got.push(yield* call(sem.killable(true, signal)));
    });
    s.finish('p');
    expect(got).toEqual([true]);
  });

  test('a trylock in passing takes it only when it is free, and a downgrade lets readers in', () => {
    const s = new Stepper();
    const sem = new RwSem(s.sim, 'mmap_lock');
    const got: boolean[] = [];
    s.spawn('w', function* () {
      yield sem.willChange(OP);
      got.push(sem.tryNow(true));
      yield sem.willChange(OP);
      sem.downgradeNow();
      yield sem.up();
    });
    s.spawn('r', function* () {
      yield sem.willChange(OP);
      got.push(sem.tryNow(false));
      yield sem.willChange(OP);
      got.push(sem.tryNow(false));
    });
    s.act('w', 'r', 'w', 'r');
    expect(got).toEqual([true, false, true]);
  });
});

describe('deadlock', () => {
  test('the cycle of waiters is named, in order, with what each waits for', () => {
    const s = new Stepper();
    const a = new Mutex(s.sim, 'mmap_lock');
    const b = new Mutex(s.sim, 'i_mmap_rwsem');
    const actor = (name: string, first: Mutex, second: Mutex) =>
      s.spawn(name, function* () {
        yield first.lock(step(`${name}:first`));
        yield second.lock(step(`${name}:second`));
      });
    actor('fault', a, b);
    actor('truncate', b, a);
    s.spawn('bystander', function* () {
      yield a.lock();
    });
    s.act('fault', 'truncate');
    expect(s.enabled()).toEqual([]);
    const finding = deadlockFinding(s.sim, s.sim.processes);
    expect(finding.message).toBe('fault -> truncate -> fault wait for each other');
    expect(finding.reasons).toEqual([
      'fault waits for i_mmap_rwsem at fault:second',
      'truncate waits for mmap_lock at truncate:second',
    ]);
  });

  test('a rwsem names itself, and readers behind a waiting writer can close a cycle', () => {
    const s = new Stepper();
    const sem = new RwSem(s.sim, 'mmap_lock');
    const m = new Mutex(s.sim, 'lock');
    s.spawn('reader', function* () {
      yield* call(sem.read());
      yield m.lock();
      yield* call(sem.read());
    });
    s.spawn('writer', function* () {
      yield* call(sem.write());
    });
    s.act('reader', 'writer', 'reader', 'reader');
    expect(s.enabled()).toEqual([]);
    const cycle = cycleOf(s.sim.processes).map((p) => p.name);
    expect(cycle.sort()).toEqual(['reader', 'writer']);
    expect(deadlockFinding(s.sim, s.sim.processes).reasons[0]).toContain('waits for mmap_lock');
  });

  test('under the clock it is a finding too, and a daemon that only waits is none', () => {
    const s = new Stepper();
    const m = new Mutex(s.sim, 'm');
    s.sim.spawn(
      'kswapd',
      function* () {
        yield m.lock();
        yield m.lock();
      },
      { daemon: true },
    );
    expect(runTimed(s.sim).end).toBe('done');
    s.spawn('p', function* () {
      yield m.lock();
    });
    expect(runTimed(s.sim).end).toBe('deadlock');
    expect(s.sim.findings.map((f) => f.kind)).toEqual(['deadlock']);
  });
});
