// Rewind and digest: whatever an execution did is undone, and the digest is a function of the state alone.
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { Cell, Tally } from '../../src/engine/cell.ts';
import { Column } from '../../src/engine/column.ts';
import { Mutex } from '../../src/engine/lock.ts';
import { OrderedTable } from '../../src/engine/ordered.ts';
import { Rcu } from '../../src/engine/rcu.ts';
import { RwSem } from '../../src/engine/rwsem.ts';
import { Sim } from '../../src/engine/sim.ts';
import { step } from '../../src/engine/step.ts';
import { runTimed } from '../../src/engine/timed.ts';

const OP = step('test:op');

/** One write to one of the stores of `makeStores`. */
const write = fc.oneof(
  fc.record({ store: fc.constant('cell' as const), row: fc.nat(2), value: fc.oneof(fc.integer(), fc.string()) }),
  fc.record({ store: fc.constant('tally' as const), row: fc.constant(0), value: fc.integer() }),
  fc.record({
    store: fc.constantFrom('i32' as const, 'u8' as const, 'f64' as const),
    // The first row of a chunk lives apart, so rows around chunk borders matter.
    row: fc.constantFrom(0, 1, 511, 512, 513, 1023, 1024, 1500),
    value: fc.nat(255),
  }),
  fc.record({ store: fc.constant('table' as const), row: fc.nat(5), value: fc.option(fc.nat(9)) }),
);
type Write = typeof write extends fc.Arbitrary<infer T> ? T : never;

function makeStores(sim: Sim) {
  const cells = [0, 1, 2].map((i) => new Cell<number | string>(sim, `cell${i}`, i));
  const tally = new Tally(sim, 'tally', 5);
  const columns = {
    i32: new Column(sim, 'i32', { rows: 2000, initial: 7 }),
    u8: new Column(sim, 'u8', { rows: 2000, width: 'u8' }),
    f64: new Column(sim, 'f64', { rows: 2000, width: 'f64', sparse: true }),
  };
  const table = new OrderedTable<number>(sim, 'table');
  const apply = (w: Write): void => {
    if (w.store === 'cell') cells[w.row]!.value = w.value;
    else if (w.store === 'tally') tally.add(w.value);
    else if (w.store !== 'table') columns[w.store].set(w.row, w.value);
    else if (w.value === null) table.delete(w.row);
    else table.set(w.row, w.value);
  };
  const look = (): unknown => ({
    cells: cells.map((cell) => cell.peek()),
    tally: tally.peek(),
    columns: Object.values(columns).map((c) => [0, 1, 511, 512, 513, 1023, 1024, 1500].map((row) => c.peek(row))),
    table: table.entries(),
  });
  const key = (w: Write) => `${w.store} ${w.row}`;
  return { apply, look, key };
}

describe('rewind', () => {
  test('any sequence of writes after the mark is undone, and so is the digest', () => {
    fc.assert(
      fc.property(fc.array(write), fc.array(write), (before, after) => {
        const sim = new Sim({ journaled: true, digested: true });
        const { apply, look } = makeStores(sim);
        before.forEach(apply);
        const state = look();
        const digest = sim.stateDigest;
        sim.mark();
        for (let round = 0; round < 2; round++) {
          after.forEach(apply);
          sim.rewind();
          expect(look()).toEqual(state);
          expect(sim.stateDigest).toBe(digest);
        }
      }),
    );
  });

  test('undoing to any point of the journal brings back the state of that point', () => {
    fc.assert(
      fc.property(fc.array(write, { minLength: 1 }), fc.nat(), (writes, at) => {
        const sim = new Sim({ journaled: true });
        const { apply, look } = makeStores(sim);
        const cut = at % writes.length;
        writes.slice(0, cut).forEach(apply);
        const state = look();
        const size = sim.journalSize;
        writes.slice(cut).forEach(apply);
        sim.undoTo(size);
        expect(look()).toEqual(state);
      }),
    );
  });

  test('the digest does not depend on the order of writes to different places', () => {
    fc.assert(
      fc.property(fc.array(write), fc.infiniteStream(fc.nat()), (writes, order) => {
        const digestOf = (sequence: readonly Write[]): string => {
          const sim = new Sim({ digested: true });
          const { apply } = makeStores(sim);
          sequence.forEach(apply);
          return sim.stateDigest;
        };
        // Shuffle, keeping the order of writes to one place.
        const { key } = makeStores(new Sim());
        const queues = new Map<string, Write[]>();
        for (const w of writes) queues.set(key(w), [...(queues.get(key(w)) ?? []), w]);
        const shuffled: Write[] = [];
        while (queues.size > 0) {
          const names = [...queues.keys()];
          const name = names[order.next().value % names.length]!;
          const queue = queues.get(name)!;
          shuffled.push(queue.shift()!);
          if (queue.length === 0) queues.delete(name);
        }
        expect(digestOf(shuffled)).toBe(digestOf(writes));
      }),
    );
  });

  test('different states have different digests', () => {
    fc.assert(
      fc.property(fc.array(write), write, (writes, last) => {
        const sim = new Sim({ digested: true });
        const { apply, look } = makeStores(sim);
        writes.forEach(apply);
        const [state, digest] = [JSON.stringify(look()), sim.stateDigest];
        apply(last);
        expect(sim.stateDigest === digest).toBe(JSON.stringify(look()) === state);
      }),
    );
  });

  test('processes start over from their first line, and those spawned since are gone', () => {
    const sim = new Sim({ journaled: true, digested: true });
    const x = new Cell(sim, 'x', 0);
    const lock = new Mutex(sim, 'lock');
    const sem = new RwSem(sim, 'sem');
    sim.spawn('parent', function* () {
      yield lock.lock();
      yield sem.write();
      yield x.willUpdate(OP);
      x.value += 1;
      sim.spawn('child', function* () {
        yield x.willUpdate(OP);
        x.value += 10;
      });
      // Ends holding both locks: the rewind frees them.
    });
    sim.mark();
    const digest = sim.stateDigest;
    for (let round = 0; round < 3; round++) {
      runTimed(sim);
      expect(x.peek()).toBe(11);
      expect(sim.processes.map((p) => p.name)).toEqual(['parent', 'parent/child.1']);
      sim.rewind();
      expect([x.peek(), lock.owner, sem.writeHeld]).toEqual([0, null, false]);
      expect(sim.processes.map((p) => [p.name, p.state])).toEqual([['parent', 'live']]);
      expect(sim.stateDigest).toBe(digest);
    }
  });

  test('actors started in code before the first step are started again, once', () => {
    const sim = new Sim({ journaled: true });
    const x = new Cell(sim, 'x', 0);
    let run = 0;
    sim.spawn('parent', function* () {
      const mine = ++run;
      sim.spawn('child', function* () {
        yield x.willWrite(OP);
        x.value = mine;
      });
      yield sim.local(OP);
    });
    sim.spawn('other', function* () {
      yield sim.local(OP);
    });
    sim.mark();
    const names = () => sim.processes.map((p) => `${p.slot} ${p.name} ${p.state}`);
    const before = names();
    for (let round = 2; round < 5; round++) {
      sim.rewind();
      expect(names()).toEqual(before);
      runTimed(sim);
      expect(x.peek()).toBe(round);
    }
  });

  test('findings, object ids and random streams come back as well', () => {
    const sim = new Sim({ journaled: true, seed: '7' });
    const drawn: number[] = [];
    const ids: number[] = [];
    sim.spawn('p', function* () {
      yield sim.local(OP);
      drawn.push(sim.choose(1000));
      ids.push(new Cell(sim, 'made on the way', 0).id);
      sim.fail('found');
    });
    sim.mark();
    runTimed(sim);
    sim.rewind();
    expect(sim.findings).toEqual([]);
    runTimed(sim);
    expect(drawn[1]).toBe(drawn[0]);
    expect(ids[1]).toBe(ids[0]);
    expect(sim.findings.length).toBe(1);
  });

  test('what an execution asks to be put back is put back once, what the set-up asks every time', () => {
    const sim = new Sim({ journaled: true });
    const told: string[] = [];
    sim.onRewind(() => told.push('outside'));
    sim.spawn('set-up', function* () {
      yield sim.local(OP);
      sim.onRewind(() => told.push('set-up'));
    });
    runTimed(sim);
    sim.finishSetUp();
    let run = 0;
    sim.spawn('p', function* () {
      yield sim.local(OP);
      const mine = ++run;
      sim.onRewind(() => told.push(`run ${mine}`));
    });
    sim.mark();
    for (let round = 0; round < 3; round++) {
      runTimed(sim);
      sim.rewind();
    }
    expect(told.join(', ')).toBe('outside, set-up, run 1, outside, set-up, run 2, outside, set-up, run 3');
  });

  test('a reader of a domain that an actor of the set-up made is a new object in every execution', () => {
    const sim = new Sim({ journaled: true });
    let domain: Rcu | undefined;
    sim.spawn('set-up', function* () {
      yield sim.local(OP);
      domain = new Rcu(sim, 'srcu');
    });
    runTimed(sim);
    sim.finishSetUp();
    const announced: string[] = [];
    sim.spawn('reader', function* () {
      yield sim.local(OP);
      // From the second execution on, something else is made first.
      const other = round > 0 ? new Cell(sim, 'other', 0) : undefined;
      yield domain!.readLock();
      domain!.enter();
      yield domain!.readUnlock();
      domain!.leave();
      if (other !== undefined) other.value = 1;
    });
    sim.observer = {
      stepActed: ({ acted: { step: acted, lo, count } }) => {
        if (acted.label === 'srcu_read_lock') announced.push(sim.describe(lo[count - 1]!));
      },
    };
    sim.mark();
    let round = 0;
    for (; round < 2; round++) {
      sim.rewind();
      runTimed(sim);
    }
    expect(announced).toEqual(['srcu section of reader', 'srcu section of reader']);
  });

  test('an actor numbers what it makes from 1 again', () => {
    const sim = new Sim({ journaled: true });
    const numbers: number[] = [];
    sim.spawn('p', function* () {
      yield sim.local(OP);
      numbers.push(sim.current!.nextNumber(), sim.current!.nextNumber());
    });
    sim.mark();
    runTimed(sim);
    sim.rewind();
    runTimed(sim);
    expect(numbers).toEqual([1, 2, 1, 2]);
  });

  test('a rewind without a mark is refused', () => {
    expect(() => new Sim({ journaled: true }).rewind()).toThrow('mark');
  });
});

describe('looking back', () => {
  test('shows the state before the given write, with chosen writes kept, and puts everything back', () => {
    const sim = new Sim({ journaled: true, digested: true });
    const { apply, look } = makeStores(sim);
    const writes: readonly Write[] = [
      { store: 'cell', row: 0, value: 'a' },
      { store: 'table', row: 3, value: 1 },
      { store: 'tally', row: 0, value: 10 },
      { store: 'i32', row: 511, value: 5 },
      { store: 'tally', row: 0, value: 100 },
      { store: 'table', row: 3, value: null },
    ];
    writes.slice(0, 2).forEach(apply);
    const from = sim.journalSize;
    const before = look() as { tally: number };
    writes.slice(2).forEach(apply);
    const after = look();
    const digest = sim.stateDigest;
    expect(sim.lookBack(from, [], look)).toEqual(before);
    // The second addition alone adds its own amount only.
    expect(sim.lookBack(from, [from + 2, from + 3], look)).toEqual({ ...before, tally: before.tally + 100 });
    expect(look()).toEqual(after);
    expect(sim.stateDigest).toBe(digest);
  });

  test('any writes, any cut: the past is shown, the present comes back', () => {
    fc.assert(
      fc.property(fc.array(write), fc.array(write), (before, later) => {
        const sim = new Sim({ journaled: true });
        const { apply, look } = makeStores(sim);
        before.forEach(apply);
        const from = sim.journalSize;
        const past = look();
        later.forEach(apply);
        const present = look();
        expect(sim.lookBack(from, [], look)).toEqual(past);
        expect(sim.lookBack(from, [from, sim.journalSize], look)).toEqual(present);
        expect(look()).toEqual(present);
      }),
    );
  });
});
