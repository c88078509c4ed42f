// The hold model (Jones 1986): N events pending; take the first, put it back later. What an event queue alone costs,
// and what the engine makes of it with a process behind every event.
import { PriorityQueue } from 'js-sdsl';
import { LadderQueue } from '../src/engine/ladder.ts';
import { EventHeap, type EventQueue } from '../src/engine/queue.ts';
import { Sim } from '../src/engine/sim.ts';
import { step } from '../src/engine/step.ts';
import { runTimed } from '../src/engine/timed.ts';
import { type Bench, type Contender, delays, nsPer, race, row } from './measure.ts';
import { byTimePrioritySequence, type Event, SdslQueue } from './sdsl-queue.ts';
import { simpyHold } from './simpy.ts';

const DELAYS = delays();
const MASK = DELAYS.length - 1;
const HOLD = step('bench:hold', 'none');

/** js-sdsl's queue as its documentation shows it: an object per event, nothing of ours around it. */
function bare(pending: number, holds: number): Contender {
  const queue = new PriorityQueue<Event>([], byTimePrioritySequence, false);
  let seq = 0;
  for (; seq < pending; seq++) queue.push({ timeNs: DELAYS[seq & MASK]!, priority: 0, seq, payload: seq });
  const work = (): void => {
    for (let i = 0; i < holds; i++) {
      const event = queue.pop()!;
      queue.push({ timeNs: event.timeNs + DELAYS[i & MASK]!, priority: 0, seq: seq++, payload: event.payload });
    }
  };
  return { name: 'js-sdsl, bare', run: () => nsPer(holds, work) };
}

// Each queue class gets a loop of its own: in one shared loop every call would be polymorphic, which the engine's is not.
function ladderLoop(queue: LadderQueue, seq: number, holds: number): void {
  for (let i = 0; i < holds; i++) {
    const payload = queue.pop();
    queue.push(queue.poppedTimeNs + DELAYS[i & MASK]!, 0, seq + i, payload);
  }
}

function heapLoop(queue: EventHeap, seq: number, holds: number): void {
  for (let i = 0; i < holds; i++) {
    const payload = queue.pop();
    queue.push(queue.poppedTimeNs + DELAYS[i & MASK]!, 0, seq + i, payload);
  }
}

function sdslLoop(queue: SdslQueue, seq: number, holds: number): void {
  for (let i = 0; i < holds; i++) {
    const payload = queue.pop();
    queue.push(queue.poppedTimeNs + DELAYS[i & MASK]!, 0, seq + i, payload);
  }
}

function queueAlone<Q extends EventQueue>(
  name: string,
  queue: Q,
  loop: (queue: Q, seq: number, holds: number) => void,
  pending: number,
  holds: number,
): Contender {
  let seq = 0;
  for (; seq < pending; seq++) queue.push(DELAYS[seq & MASK]!, 0, seq, seq);
  const run = (): number => {
    const ns = nsPer(holds, () => loop(queue, seq, holds));
    seq += holds;
    return ns;
  };
  return { name, run };
}

function engine(pending: number, holds: number): Contender {
  const sim = new Sim();
  let next = 0;
  const body = function* () {
    for (;;) yield sim.sleep(DELAYS[next++ & MASK]!, HOLD);
  };
  for (let i = 0; i < pending; i++) sim.spawn(`p${i}`, body);
  const work = (): void => {
    const { steps } = runTimed(sim, { maxSteps: holds });
    if (steps < holds) throw new Error(`${steps} of ${holds} holds`);
  };
  return { name: 'engine with processes', run: () => nsPer(holds, work) };
}

/** Targets of the engine against the bare queue, by events pending. */
const TARGETS = new Map([
  [16, 0.5],
  [50_000, 1],
]);
const TARGET_SIMPY = 4;

export const hold: Bench = {
  name: 'hold',
  about:
    'pop the first of N pending events and push it back; x = speed relative to bare js-sdsl (or SimPy) of this run',
  run(print) {
    let reached = true;
    for (const pending of [16, 1_000, 50_000]) {
      const holds = pending > 10_000 ? 3_200_000 : 1_000_000;
      const contenders = [
        bare(pending, holds),
        queueAlone('js-sdsl behind EventQueue', new SdslQueue(), sdslLoop, pending, holds),
        queueAlone('EventHeap', new EventHeap(), heapLoop, pending, holds),
        queueAlone('LadderQueue', new LadderQueue(), ladderLoop, pending, holds),
        engine(pending, holds),
      ];
      const ns = race(contenders);
      const engineNs = ns.at(-1)!;
      const target = TARGETS.get(pending);
      for (const [i, contender] of contenders.entries()) {
        const judged = i === contenders.length - 1 ? target : undefined;
        print(row(`${pending} pending: ${contender.name}`, ns[i]!, ns[0]! / ns[i]!, judged));
      }
      if (target !== undefined && ns[0]! / engineNs < target) reached = false;

      const simpyNs = simpyHold(pending);
      if (simpyNs === null) print(`${pending} pending: SimPy is not installed (Debian: python3-simpy3)`);
      else {
        print(row(`${pending} pending: SimPy`, simpyNs, ns[0]! / simpyNs));
        print(row(`${pending} pending: engine against SimPy`, engineNs, simpyNs / engineNs, TARGET_SIMPY));
        if (simpyNs / engineNs < TARGET_SIMPY) reached = false;
      }
    }
    return reached;
  },
};
