// The laws of an event queue, for the engine's heap and for js-sdsl's behind the same interface.
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { SdslQueue } from '../../bench/sdsl-queue.ts';
import { LadderQueue } from '../../src/engine/ladder.ts';
import { EventHeap, type EventQueue } from '../../src/engine/queue.ts';

interface Event {
  timeNs: number;
  priority: number;
  seq: number;
  payload: number;
}

/** The queue as a sorted list, the obvious way. */
class ListQueue {
  private events: Event[] = [];
  push(event: Event): void {
    this.events.push(event);
    this.events.sort((a, b) => a.timeNs - b.timeNs || a.priority - b.priority || a.seq - b.seq);
  }
  pop(): Event | undefined {
    return this.events.shift();
  }
  first(): Event | undefined {
    return this.events[0];
  }
}

const queues: [string, () => EventQueue][] = [
  ['EventHeap', () => new EventHeap()],
  ['LadderQueue', () => new LadderQueue()],
  ['js-sdsl', () => new SdslQueue()],
];

// Few distinct times and priorities, so that ties are the rule; the large ones show that nothing is lost in doubles.
const times = fc.oneof(fc.nat(5), fc.constantFrom(2 ** 52, 2 ** 52 + 1));
const priorities = fc.oneof(fc.integer({ min: -2, max: 2 }), fc.constantFrom(-4095, 4095));
const operations = fc.array(
  fc.oneof(
    { weight: 3, arbitrary: fc.tuple(times, priorities) },
    { weight: 2, arbitrary: fc.constant('pop' as const) },
  ),
  {
    maxLength: 400,
  },
);

describe.each(queues)('%s', (_name, create) => {
  test('pops in the order (time, priority, sequence), whatever is pushed in between', () => {
    fc.assert(
      fc.property(operations, fc.constantFrom(0, 2 ** 40 - 500), (steps, firstSeq) => {
        const queue = create();
        const list = new ListQueue();
        let seq = firstSeq;
        let size = 0;
        for (const step of steps) {
          if (step === 'pop') {
            const event = list.pop();
            expect(queue.pop()).toBe(event?.payload ?? -1);
            if (event !== undefined) {
              size--;
              expect(queue.poppedTimeNs).toBe(event.timeNs);
            }
          } else {
            const event = { timeNs: step[0], priority: step[1], seq, payload: seq % 1000 };
            seq++;
            size++;
            queue.push(event.timeNs, event.priority, event.seq, event.payload);
            list.push(event);
          }
          expect(queue.size).toBe(size);
          expect(queue.peekTime()).toBe(list.first()?.timeNs ?? Infinity);
        }
        for (let event = list.pop(); event !== undefined; event = list.pop()) expect(queue.pop()).toBe(event.payload);
        expect(queue.pop()).toBe(-1);
      }),
    );
  });

  test('grows far past its first capacity and keeps every event', () => {
    const queue = create();
    const count = 10_000;
    for (let i = 0; i < count; i++) queue.push((i * 7919) % count, 0, i, i);
    for (let timeNs = 0; timeNs < count; timeNs++) {
      const payload = queue.pop();
      expect(queue.poppedTimeNs).toBe(timeNs);
      expect((payload * 7919) % count).toBe(timeNs);
    }
  });

  test('is empty after clear, and usable again', () => {
    const queue = create();
    queue.push(5, 0, 0, 1);
    queue.push(3, 0, 1, 2);
    queue.clear();
    expect(queue.size).toBe(0);
    expect(queue.peekTime()).toBe(Infinity);
    expect(queue.pop()).toBe(-1);
    queue.push(9, 0, 2, 3);
    expect(queue.pop()).toBe(3);
  });
});

describe('LadderQueue beside EventHeap, which knows no buckets', () => {
  // Delays of every scale, and none: one time for thousands, times far beyond all buckets, holds that grow and shrink.
  const phases = fc.array(
    fc.record({
      pushes: fc.integer({ min: 0, max: 3000 }),
      pops: fc.integer({ min: 0, max: 3000 }),
      holds: fc.integer({ min: 0, max: 3000 }),
      spreadNs: fc.constantFrom(0, 1, 7, 1000, 10 ** 6, 10 ** 12),
    }),
    { minLength: 1, maxLength: 8 },
  );
  test('pops the same events at the same times, thousands pending', { timeout: 60_000 }, () => {
    fc.assert(
      fc.property(phases, fc.integer({ min: 1, max: 2 ** 31 - 1 }), (plan, seed) => {
        const told = new Set<number>();
        const ladder = new LadderQueue((payloads, count) => {
          for (let i = 0; i < count; i++) told.add(payloads[i]!);
        });
        const heap = new EventHeap();
        let state = seed;
        const below = (limit: number): number => {
          state = (Math.imul(state, 1103515245) + 12345) >>> 0;
          return limit === 0 ? 0 : (state * 4093) % limit;
        };
        let seq = 0;
        let nowNs = 0;
        const push = (spreadNs: number): void => {
          const timeNs = nowNs + below(spreadNs);
          const priority = below(3) - 1;
          ladder.push(timeNs, priority, seq, seq);
          heap.push(timeNs, priority, seq, seq);
          seq++;
        };
        const pop = (): void => {
          const pending = heap.size;
          expect(ladder.peekTime()).toBe(heap.peekTime());
          const payload = heap.pop();
          if (ladder.pop() !== payload || ladder.size !== heap.size) throw new Error(`differ with ${pending} pending`);
          if (payload >= 0) nowNs = heap.poppedTimeNs;
        };
        for (const { pushes, pops, holds, spreadNs } of plan) {
          for (let i = 0; i < pushes; i++) push(spreadNs);
          for (let i = 0; i < holds; i++) {
            pop();
            push(spreadNs);
          }
          for (let i = 0; i < pops; i++) pop();
        }
        while (heap.size > 0) pop();
        expect(ladder.pop()).toBe(-1);
        for (const payload of told) expect(payload).toBeLessThan(seq);
      }),
      { numRuns: 60 },
    );
  });
});

describe('EventHeap refuses what it could not order exactly', () => {
  const bad: [string, number, number, number][] = [
    ['a time that is not a number', Number.NaN, 0, 0],
    ['an infinite time', Infinity, 0, 0],
    ['a priority too large', 1, 4096, 0],
    ['a priority too small', 1, -4096, 0],
    ['a negative sequence', 1, 0, -1],
    ['a sequence too large', 1, 0, 2 ** 40],
  ];
  test.each(bad)('%s', (_what, timeNs, priority, seq) => {
    expect(() => new EventHeap().push(timeNs, priority, seq, 0)).toThrow('out of range');
  });
});
