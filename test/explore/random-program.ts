// Random small programs that use everything an explored program may use. A program is data first, so that a failing one
// can be printed; `build` turns it into actors.
//
// Over 400 lines: the generator and the builder speak one language of ops, and a new op needs both.

import { Column } from '../../src/engine/column.ts';
import { LockColumn } from '../../src/engine/lock-column.ts';
import { call, type Process, type Steps } from '../../src/engine/process.ts';
import { step } from '../../src/engine/step.ts';
import { Draws } from '../../src/explore/draws.ts';
import type { Program } from '../../src/explore/program.ts';

export type Op =
  | { do: 'read'; cell: number }
  | { do: 'write'; cell: number; value: number }
  | { do: 'increment'; cell: number }
  | { do: 'cas'; cell: number; from: number; to: number }
  | { do: 'ifzero'; cell: number; zero: Op[]; other: Op[] }
  | { do: 'both'; read: number; update: number }
  | { do: 'range'; from: number; to: number; write: boolean }
  | { do: 'row'; row: number; write: boolean }
  | { do: 'add' }
  | { do: 'total' }
  | { do: 'locked'; lock: number; body: Op[] }
  | { do: 'trylocked'; lock: number; body: Op[] }
  | { do: 'rowlocked'; row: number; cell: number; body: Op[] }
  | { do: 'pass'; row: number; cell: number }
  | { do: 'shared'; body: Op[] }
  | { do: 'exclusive'; body: Op[] }
  | { do: 'killable'; write: boolean }
  | { do: 'kill' }
  | { do: 'trysem'; write: boolean }
  | { do: 'wait'; cell: number; value: number; claim: boolean }
  | { do: 'wait2'; a: number; b: number; how: 'and' | 'or' | 'differ'; claim: boolean }
  | { do: 'irqsoff'; cpu: number; body: Op[] }
  | { do: 'ipi'; cpu: number; cell: number }
  | { do: 'complete' }
  | { do: 'completion' }
  | { do: 'join'; process: number }
  | { do: 'spawn'; body: Op[]; join: boolean }
  | { do: 'timer'; body: Op[] }
  | { do: 'family'; a: Op[]; b: Op[] }
  | { do: 'own'; write: boolean }
  | { do: 'choose'; cell: number; alternatives: number; mode: 'write' | 'maybe' | 'branch' }
  | { do: 'rcuread'; body: Op[] }
  | { do: 'synchronize' }
  | { do: 'retry'; cell: number; value: number }
  | { do: 'spin'; cell: number }
  | { do: 'assert'; cell: number; value: number };

export type RandomProgram = readonly (readonly Op[])[];

const CELLS = 2;

/** Program number `n` of a seed: `size` bounds the operations in all. */
export function randomProgram(seed: string, n: number, size = 7): RandomProgram {
  const draws = new Draws();
  draws.restart(seed, n);
  const processes = 2 + draws.below(3);
  let left = processes + draws.below(size - processes + 1);
  // Each program uses a few kinds of operation only, so that they meet.
  const kinds = Array.from({ length: 2 + draws.below(4) }, () => KINDS[draws.below(KINDS.length)]!);
  const body = (most: number): Op[] => {
    const ops: Op[] = [];
    while (ops.length < most && left > 0 && (ops.length === 0 || draws.below(3) > 0)) ops.push(op());
    return ops;
  };
  const cell = () => draws.below(CELLS);
  const bit = () => draws.below(2) === 1;
  const op = (): Op => {
    left--;
    const kind = draws.below(3) === 0 ? KINDS[draws.below(PLAIN)]! : kinds[draws.below(kinds.length)]!;
    switch (kind) {
      case 'read':
        return { do: kind, cell: cell() };
      case 'write':
        return { do: kind, cell: cell(), value: draws.below(3) };
      case 'increment':
        return { do: kind, cell: cell() };
      case 'cas':
        return { do: kind, cell: cell(), from: draws.below(2), to: draws.below(3) };
      case 'ifzero':
        return { do: kind, cell: cell(), zero: body(1), other: body(1) };
      case 'both':
        return { do: kind, read: 0, update: 1 };
      case 'range': {
        const from = draws.below(3);
        return { do: kind, from, to: from + draws.below(3 - from), write: bit() };
      }
      case 'row':
        return { do: kind, row: draws.below(3), write: bit() };
      case 'add':
      case 'total':
      case 'kill':
      case 'complete':
      case 'completion':
      case 'synchronize':
        return { do: kind };
      case 'locked':
      case 'trylocked':
        return { do: kind, lock: draws.below(2), body: body(2) };
      case 'rowlocked':
        return { do: kind, row: draws.below(2), cell: cell(), body: body(1) };
      case 'pass':
        return { do: kind, row: draws.below(2), cell: cell() };
      case 'shared':
      case 'exclusive':
      case 'rcuread':
      case 'timer':
        return { do: kind, body: body(1) };
      case 'killable':
      case 'trysem':
      case 'own':
        return { do: kind, write: bit() };
      case 'wait':
        return { do: kind, cell: cell(), value: draws.below(2), claim: bit() };
      case 'wait2':
        return { do: kind, a: 0, b: 1, how: (['and', 'or', 'differ'] as const)[draws.below(3)]!, claim: bit() };
      case 'irqsoff':
        return { do: kind, cpu: draws.below(2), body: body(1) };
      case 'ipi':
        return { do: kind, cpu: draws.below(2), cell: cell() };
      case 'join':
        return { do: kind, process: draws.below(processes) };
      case 'spawn':
        return { do: kind, body: body(2), join: bit() };
      case 'family':
        return { do: kind, a: body(1), b: body(1) };
      case 'choose':
        return {
          do: kind,
          cell: cell(),
          alternatives: 2 + draws.below(2),
          mode: (['write', 'maybe', 'branch'] as const)[draws.below(3)]!,
        };
      case 'retry':
      case 'assert':
        return { do: kind, cell: cell(), value: draws.below(2) };
      case 'spin':
        return { do: kind, cell: cell() };
    }
  };
  return Array.from({ length: processes }, () => body(3));
}

const KINDS: readonly Op['do'][] = [
  'read',
  'write',
  'increment',
  'cas',
  'ifzero',
  'both',
  'range',
  'row',
  'add',
  'total',
  'locked',
  'trylocked',
  'rowlocked',
  'pass',
  'shared',
  'exclusive',
  'killable',
  'kill',
  'trysem',
  'wait',
  'wait2',
  'irqsoff',
  'ipi',
  'complete',
  'completion',
  'join',
  'spawn',
  'timer',
  'family',
  'own',
  'choose',
  'rcuread',
  'synchronize',
  'retry',
  'spin',
  'assert',
];
const PLAIN = 5;

const TRYSEM = step('sem:trylock');
const CHANGE = step('both:change');
const IPI = step('ipi');
const KILL = step('kill');
const ROW = step('row');

/** Make the program's world and actors. */
export function build(program: RandomProgram): (sim: Program) => void {
  return (sim) => {
    const cells = Array.from({ length: CELLS }, (_, i) => sim.cell(`c${i}`, 0));
    const locks = [sim.mutex('m0'), sim.mutex('m1')];
    const rows = new LockColumn(sim.sim, 'rowlock', 2);
    const column = new Column(sim.sim, 'column', { rows: 3 });
    const total = sim.tally('total');
    const sem = sim.rwsem('sem');
    const signal = sim.cell('signal', false);
    const irqs = [sim.cell('irqs0', false), sim.cell('irqs1', false)];
    const done = sim.completion('done');
    const rcu = sim.rcu('rcu');
    const processes: Process[] = [];

    function* run(ops: readonly Op[], own: ReturnType<Program['cell']> | null): Steps<void> {
      for (const op of ops) yield* call(one(op, own));
    }

    function* one(op: Op, own: ReturnType<Program['cell']> | null): Steps<void> {
      switch (op.do) {
        case 'read':
          yield cells[op.cell]!.willRead();
          break;
        case 'write':
          yield cells[op.cell]!.willWrite();
          cells[op.cell]!.value = op.value;
          break;
        case 'increment':
          yield cells[op.cell]!.willUpdate();
          cells[op.cell]!.value += 1;
          break;
        case 'cas':
          yield cells[op.cell]!.willUpdate();
          if (cells[op.cell]!.value === op.from) cells[op.cell]!.value = op.to;
          break;
        case 'ifzero':
          yield cells[op.cell]!.willRead();
          yield* call(run(cells[op.cell]!.value === 0 ? op.zero : op.other, own));
          break;
        case 'both':
          cells[op.read]!.willRead(CHANGE);
          yield cells[op.update]!.willPerhaps(CHANGE);
          if (cells[op.read]!.value === 0) cells[op.update]!.value = 2;
          break;
        case 'range':
          if (op.write) {
            yield column.willUpdateRange(op.from, op.to, ROW);
            if (column.get(op.from) === 0) column.fill(op.from, op.to, 1);
          } else yield column.willReadRange(op.from, op.to, ROW);
          break;
        case 'row':
          yield op.write ? column.willUpdate(op.row, ROW) : column.willRead(op.row, ROW);
          if (op.write) column.set(op.row, column.get(op.row) + 1);
          break;
        case 'add':
          yield total.willAdd();
          total.add(1);
          break;
        case 'total':
          yield total.willRead();
          break;
        case 'locked':
          yield locks[op.lock]!.lock();
          yield* call(run(op.body, own));
          yield locks[op.lock]!.unlock();
          break;
        case 'trylocked': {
          const lock = locks[op.lock]!;
          const mine = lock.heldBy(sim.self);
          yield lock.trylock();
          if (mine || !lock.heldBy(sim.self)) break;
          yield* call(run(op.body, own));
          yield lock.unlock();
          break;
        }
        case 'rowlocked':
          cells[op.cell]!.willRead();
          yield rows.lock(op.row);
          yield* call(run(op.body, own));
          cells[op.cell]!.willUpdate();
          yield rows.unlock(op.row);
          if (cells[op.cell]!.value === 1) cells[op.cell]!.value = 0;
          break;
        case 'pass':
          cells[op.cell]!.willUpdate();
          yield rows.pass(op.row, ROW);
          cells[op.cell]!.value += 1;
          break;
        case 'shared':
        case 'exclusive':
          yield* call(op.do === 'shared' ? sem.read() : sem.write());
          yield* call(run(op.body, own));
          yield sem.up();
          break;
        case 'killable':
          if (yield* call(sem.killable(op.write, signal))) yield sem.up();
          break;
        case 'kill':
          yield signal.willWrite(KILL);
          signal.value = true;
          break;
        case 'trysem':
          yield sem.willChange(TRYSEM);
          if (sem.holds(sim.self)) break;
          if (sem.tryNow(op.write)) yield sem.up();
          break;
        case 'wait': {
          const cell = cells[op.cell]!;
          yield sim.until([cell], () => cell.peek() === op.value, { update: op.claim });
          if (op.claim) cell.value = 2;
          break;
        }
        case 'wait2': {
          const a = cells[op.a]!;
          const b = cells[op.b]!;
          const holds = {
            and: () => a.peek() === 0 && b.peek() === 0,
            or: () => a.peek() === 1 || b.peek() === 1,
            differ: () => a.peek() > 0 !== b.peek() > 0,
          }[op.how];
          yield sim.until([a, b], holds, { update: op.claim });
          if (op.claim) b.value = 1;
          break;
        }
        case 'irqsoff':
          yield irqs[op.cpu]!.willWrite();
          irqs[op.cpu]!.value = true;
          yield* call(run(op.body, own));
          yield irqs[op.cpu]!.willWrite();
          irqs[op.cpu]!.value = false;
          break;
        case 'ipi': {
          const off = irqs[op.cpu]!;
          cells[op.cell]!.willUpdate(IPI);
          yield sim.until([off], () => !off.peek(), { at: IPI });
          if (cells[op.cell]!.value !== 0) cells[op.cell]!.value = 0;
          break;
        }
        case 'complete':
          yield done.willComplete();
          done.complete();
          break;
        case 'completion':
          yield done.wait();
          break;
        case 'join':
          // The first announcement is made before all actors are there.
          yield sim.local();
          yield sim.join(processes[op.process]!);
          break;
        case 'spawn': {
          yield sim.local();
          const child = sim.spawn('child', () => run(op.body, own));
          if (op.join) yield sim.join(child);
          break;
        }
        case 'timer':
          yield sim.local();
          sim.timer('timer', 100, () => run(op.body, own));
          break;
        case 'family': {
          // Two children share a cell that their parent made on the way.
          yield sim.local();
          const shared = sim.cell<unknown>('shared', 0);
          for (const [name, ops] of [
            ['left', op.a],
            ['right', op.b],
          ] as const) {
            sim.spawn(name, function* () {
              yield shared.willUpdate();
              if (shared.value === 0) shared.value = name;
              yield* call(run(ops, shared));
            });
          }
          break;
        }
        case 'own':
          if (own === null) break;
          yield op.write ? own.willWrite() : own.willRead();
          if (op.write) own.value = 'own';
          break;
        case 'choose': {
          const cell = cells[op.cell]!;
          if (op.mode === 'write') {
            yield cell.willWrite();
            cell.value = sim.choose(op.alternatives);
          } else if (op.mode === 'maybe') {
            yield cell.willUpdate();
            const chosen = sim.choose(op.alternatives);
            if (chosen > 0) cell.value = chosen - 1 + sim.choose(chosen);
          } else {
            yield sim.local();
            if (sim.choose(op.alternatives) > 0) yield cell.willRead();
          }
          break;
        }
        case 'rcuread':
          yield rcu.readLock();
          rcu.enter();
          yield* call(run(op.body, own));
          yield rcu.readUnlock();
          rcu.leave();
          break;
        case 'synchronize':
          yield* call(rcu.synchronize());
          break;
        case 'retry': {
          const loop = sim.loop('retry', 3);
          for (;;) {
            loop.begin();
            yield cells[op.cell]!.willRead();
            if (cells[op.cell]!.value !== op.value) break;
            yield loop.again(sim.again);
          }
          loop.end();
          break;
        }
        case 'spin': {
          const loop = sim.loop('spin', 1);
          for (;;) {
            loop.begin();
            yield cells[op.cell]!.willUpdate();
            if (cells[op.cell]!.value > 1) break;
            cells[op.cell]!.value = 1;
            yield loop.again(sim.again);
          }
          loop.end();
          break;
        }
        case 'assert':
          yield cells[op.cell]!.willRead();
          if (cells[op.cell]!.value === op.value) sim.fail(`c${op.cell} is ${op.value}`);
          break;
      }
    }

    program.forEach((ops, i) => {
      processes.push(sim.spawn(`p${i}`, () => run(ops, null)));
    });
  };
}
