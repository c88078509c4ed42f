// js-sdsl's PriorityQueue behind the engine's queue interface: what the engine's own heap is measured against.
import { PriorityQueue } from 'js-sdsl';
import type { EventQueue } from '../src/engine/queue.ts';

export interface Event {
  readonly timeNs: number;
  readonly priority: number;
  readonly seq: number;
  readonly payload: number;
}

export const byTimePrioritySequence = (a: Event, b: Event): number =>
  a.timeNs - b.timeNs || a.priority - b.priority || a.seq - b.seq;

export class SdslQueue implements EventQueue {
  poppedTimeNs = 0;
  private readonly events = new PriorityQueue<Event>([], byTimePrioritySequence, false);

  get size(): number {
    return this.events.size();
  }

  push(timeNs: number, priority: number, seq: number, payload: number): void {
    this.events.push({ timeNs, priority, seq, payload });
  }

  pop(): number {
    const event = this.events.pop();
    if (event === undefined) return -1;
    this.poppedTimeNs = event.timeNs;
    return event.payload;
  }

  peekTime(): number {
    return this.events.top()?.timeNs ?? Infinity;
  }

  clear(): void {
    this.events.clear();
  }
}
