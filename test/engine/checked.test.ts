// Checked mode: what a step touches must be what it announced. A violation names both places.
import { describe, expect, test } from 'vitest';
import { Cell, Tally } from '../../src/engine/cell.ts';
import { Column } from '../../src/engine/column.ts';
import { OrderedTable } from '../../src/engine/ordered.ts';
import type { Steps } from '../../src/engine/process.ts';
import { Sim, UndeclaredAccess } from '../../src/engine/sim.ts';
import { step } from '../../src/engine/step.ts';
import { runTimed } from '../../src/engine/timed.ts';

const LOOK = step('gup_fast:read-pte');
const CHANGE = step('zap_pte_range:clear');

function run(body: (sim: Sim) => () => Steps<void>, checked = true): Sim {
  const sim = new Sim({ checked });
  sim.spawn('vcpu0', body(sim));
  runTimed(sim);
  return sim;
}

describe('checked mode', () => {
  test('touching an object that the step did not announce throws, with the object, the actor and the step named', () => {
    const attempt = () =>
      run((sim) => {
        const pte = new Cell(sim, 'pte 7', 0);
        const other = new Cell(sim, 'refcount of folio 3', 1);
        return function* () {
          yield pte.willRead(LOOK);
          other.value = 2;
        };
      });
    expect(attempt).toThrow(UndeclaredAccess);
    expect(attempt).toThrow(/refcount of folio 3 is written by vcpu0 .*'gup_fast:read-pte'.* read pte 7/);
  });

  test('an announced read does not allow a write', () => {
    const attempt = () =>
      run((sim) => {
        const pte = new Cell(sim, 'pte', 0);
        return function* () {
          yield pte.willRead(LOOK);
          pte.value = 1;
        };
      });
    expect(attempt).toThrow(/pte is written/);
  });

  test('an announced addition allows neither reading nor assigning', () => {
    const attempt = () =>
      run((sim) => {
        const free = new Tally(sim, 'NR_FREE_PAGES', 10);
        return function* () {
          yield free.willAdd(CHANGE);
          free.add(1);
          if (free.value > 3) free.add(1);
        };
      });
    expect(attempt).toThrow(/NR_FREE_PAGES is read/);
  });

  test('the announcement holds for one step only', () => {
    const attempt = () =>
      run((sim) => {
        const a = new Cell(sim, 'a', 0);
        const b = new Cell(sim, 'b', 0);
        return function* () {
          yield a.willUpdate(CHANGE);
          a.value += 1;
          yield b.willUpdate(CHANGE);
          a.value += 1;
        };
      });
    expect(attempt).toThrow(/a is read by vcpu0/);
  });

  test('a range covers its rows and no other', () => {
    const touch = (row: number) => () =>
      run((sim) => {
        const column = new Column(sim, 'refcount', { rows: 100 });
        return function* () {
          yield column.willUpdateRange(10, 19, CHANGE);
          column.set(row, 1);
        };
      });
    expect(touch(19)).not.toThrow();
    expect(touch(20)).toThrow(/refcount\[20\] is written/);
  });

  test('an ordered table is one object', () => {
    const attempt = () =>
      run((sim) => {
        const vmas = new OrderedTable<number>(sim, 'vmas of qemu');
        return function* () {
          yield vmas.willRead(LOOK);
          vmas.set(4, 1);
        };
      });
    expect(attempt).toThrow(/vmas of qemu is written/);
  });

  test('several objects announced together may all be touched', () => {
    const sim = run((world) => {
      const a = new Cell(world, 'a', 0);
      const b = new Cell(world, 'b', 0);
      return function* () {
        a.willUpdate(CHANGE);
        yield b.willRead(CHANGE);
        a.value = b.value + 1;
      };
    });
    expect(sim.processes[0]!.state).toBe('ended');
  });

  test('code before the first yield may touch nothing shared', () => {
    const sim = new Sim({ checked: true });
    const a = new Cell(sim, 'a', 0);
    const spawn = () =>
      sim.spawn('eager', function* () {
        a.value = 1;
      });
    expect(spawn).toThrow(UndeclaredAccess);
  });

  test('observers look without a step', () => {
    const sim = new Sim({ checked: true });
    const a = new Cell(sim, 'a', 0);
    const b = new Cell(sim, 'b', 5);
    const seen: number[] = [];
    sim.spawn('p', function* () {
      yield a.willWrite(CHANGE);
      a.value = 1;
      sim.unwatched(() => seen.push(b.value));
    });
    runTimed(sim);
    expect(seen).toEqual([5]);
  });

  test('without checks the same violation passes: the mode is what catches it', () => {
    const lax = () =>
      run((sim) => {
        const a = new Cell(sim, 'a', 0);
        return function* () {
          yield sim.local(LOOK);
          a.value = 1;
        };
      }, false);
    expect(lax).not.toThrow();
  });

  test('a step records what it did: an update that assigned nothing only read', () => {
    const sim = new Sim({ checked: true });
    sim.record(true);
    const x = new Cell(sim, 'x', 0);
    const process = sim.spawn('cas', function* () {
      yield x.willUpdate(CHANGE);
      if (x.value === 7) x.value = 8;
      yield x.willUpdate(CHANGE);
      if (x.value === 0) x.value = 8;
      yield sim.local(LOOK);
    });
    sim.act(process);
    expect(process.acted.did[0]).toBe(1);
    sim.act(process);
    expect(process.acted.did[0]).toBe(3);
  });
});
