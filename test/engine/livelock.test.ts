// Livelock under the clock: told when nobody gets anywhere for ever, and not told of long or bounded work.
import { describe, expect, it } from 'vitest';
import { Cell } from '../../src/engine/cell.ts';
import { LatencyModel } from '../../src/engine/latency.ts';
import { Mutex } from '../../src/engine/lock.ts';
import { Sim } from '../../src/engine/sim.ts';
import { step } from '../../src/engine/step.ts';
import { runTimed } from '../../src/engine/timed.ts';

const TRY = step('test:trylock');
const BACK_OFF = step('test:back-off');
const LOOK = step('test:look');

function sim(): Sim {
  return new Sim({ checked: true, digested: true, latencies: new LatencyModel({ op: 50 }) });
}

/** Takes `first`, tries `second`, and backs off when it is taken; `patient`: a round more or less changes nothing. */
function* polite(world: Sim, first: Mutex, second: Mutex, rounds: number) {
  for (let round = 0; round < rounds; round++) {
    yield first.lock();
    yield second.trylock(TRY);
    const got = second.heldBy(world.current!);
    if (got) yield second.unlock();
    yield first.unlock();
    if (got) return;
    yield world.local(BACK_OFF);
  }
}

describe('livelock', () => {
  it('is two actors that step back for each other for ever', () => {
    const world = sim();
    const [a, b] = [new Mutex(world, 'a'), new Mutex(world, 'b')];
    world.spawn('one', () => polite(world, a, b, Number.POSITIVE_INFINITY));
    world.spawn('two', () => polite(world, b, a, Number.POSITIVE_INFINITY));
    const { end } = runTimed(world, { maxSteps: 100_000 });
    expect(end).toBe('livelock');
    expect(world.findings.map(({ kind, actors }) => [kind, actors])).toEqual([['livelock', ['one', 'two']]]);
  });

  it('is not a retry that gives up', () => {
    const world = sim();
    const [a, b] = [new Mutex(world, 'a'), new Mutex(world, 'b')];
    world.spawn('one', () => polite(world, a, b, 100));
    world.spawn('two', () => polite(world, b, a, 100));
    expect(runTimed(world).end).toBe('done');
    expect(world.findings).toEqual([]);
  });

  it('is not somebody who spins until another, who is still asleep, has written', () => {
    const world = sim();
    const flag = new Cell(world, 'flag', 0);
    world.spawn('spinner', function* () {
      for (;;) {
        yield flag.willRead(LOOK);
        if (flag.value === 1) return;
      }
    });
    world.spawn('writer', function* () {
      yield world.sleep(10_000_000, BACK_OFF);
      yield flag.willWrite(LOOK);
      flag.value = 1;
    });
    expect(runTimed(world, { maxSteps: 1_000_000 }).end).toBe('done');
    expect(world.findings).toEqual([]);
  });

  it('is not long work that leaves no trace in shared state', () => {
    const world = sim();
    const cells = Array.from({ length: 5000 }, (_, i) => new Cell(world, `cell ${i}`, 0));
    world.spawn('reader', function* () {
      for (const cell of cells) yield cell.willRead(LOOK);
    });
    expect(runTimed(world).end).toBe('done');
    expect(world.findings).toEqual([]);
  });
});
