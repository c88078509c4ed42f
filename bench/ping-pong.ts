// Two actors that wake each other through a shared cell: what waiting and waking cost, with no time passing.
import { PriorityQueue } from 'js-sdsl';
import { Cell } from '../src/engine/cell.ts';
import { Sim, type SimOptions } from '../src/engine/sim.ts';
import { step } from '../src/engine/step.ts';
import { runTimed } from '../src/engine/timed.ts';
import { until } from '../src/engine/wait.ts';
import { type Bench, type Contender, nsPer, race, row } from './measure.ts';
import { byTimePrioritySequence, type Event } from './sdsl-queue.ts';
import { simpyPingPong } from './simpy.ts';

const MOVES = 500_000;
const MOVE = step('bench:move', 'none');

/** The same traffic on a bare queue: one event is pending when the other is pushed. */
function bare(): Contender {
  const queue = new PriorityQueue<Event>([], byTimePrioritySequence, false);
  let seq = 0;
  queue.push({ timeNs: 0, priority: 0, seq: seq++, payload: 0 });
  queue.push({ timeNs: 0, priority: 0, seq: seq++, payload: 1 });
  const work = (): void => {
    for (let i = 0; i < MOVES; i++) {
      const event = queue.pop()!;
      queue.push({ timeNs: event.timeNs + 1, priority: 0, seq: seq++, payload: event.payload });
    }
  };
  return { name: 'js-sdsl, bare, 2 pending', run: () => nsPer(MOVES, work) };
}

function engine(name: string, options: SimOptions): Contender {
  const sim = new Sim(options);
  const turn = new Cell(sim, 'turn', 0);
  const player = (me: number) =>
    function* () {
      const mine = () => turn.peek() % 2 === me;
      for (;;) {
        yield until(sim, [turn], mine, MOVE, { update: true });
        // Counted on: a state that came back would be a livelock, and end the run.
        turn.value++;
      }
    };
  sim.spawn('ping', player(0));
  sim.spawn('pong', player(1));
  const work = (): void => {
    const { steps, end } = runTimed(sim, { maxSteps: MOVES });
    if (steps < MOVES) throw new Error(`${name} ended after ${steps} of ${MOVES} moves: ${end}`);
    sim.dropJournal();
  };
  return { name, run: () => nsPer(MOVES, work) };
}

export const pingPong: Bench = {
  name: 'ping-pong',
  about: 'two actors wake each other through a cell; x = speed relative to the bare queue of this run',
  run(print) {
    const contenders = [
      bare(),
      engine('engine', {}),
      engine('engine, checked', { checked: true }),
      engine('engine, checked, journal and digest', { checked: true, journaled: true, digested: true }),
    ];
    const ns = race(contenders, 3);
    for (const [i, contender] of contenders.entries()) print(row(contender.name, ns[i]!, ns[0]! / ns[i]!));
    const simpyNs = simpyPingPong();
    if (simpyNs === null) return true;
    print(row('SimPy', simpyNs, ns[0]! / simpyNs));
    print(row('engine against SimPy', ns[1]!, simpyNs / ns[1]!, 4));
    return simpyNs / ns[1]! >= 4;
  },
};
