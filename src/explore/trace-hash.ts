// A number for the partial order of a trace: equal for equivalent traces, whatever order their steps were run in, and
// different for others (64 bits, so by all odds). Kept up step by step.
import { mix } from '../engine/hash.ts';
import type { Trace, TraceEvent } from './trace.ts';

export class TraceHash {
  private readonly trace: Trace;
  // By index of step: hash of the step together with all that happened before it, and the sums up to it.
  private readonly low: number[] = [];
  private readonly high: number[] = [];
  private readonly lowSum: number[] = [0];
  private readonly highSum: number[] = [0];
  private length = 0;

  constructor(trace: Trace) {
    this.trace = trace;
  }

  /** The step added to the trace last. */
  add(event: TraceEvent): void {
    const { trace, low, high } = this;
    const at = this.length++;
    let a = mix(event.actor, event.number);
    let b = mix(event.number, event.actor ^ 0x5bd1e995);
    for (const choice of event.choices) {
      a = mix(a, choice);
      b = mix(b, ~choice);
    }
    // The steps that this one directly depends on: a set, so their order must not show.
    let before = 0;
    let beforeToo = 0;
    for (let i = 0; i < trace.raceCount; i++) {
      before = (before + low[trace.racing[i]!]!) | 0;
      beforeToo = (beforeToo + high[trace.racing[i]!]!) | 0;
    }
    if (event.previous >= 0) {
      a = mix(a, low[event.previous]!);
      b = mix(b, high[event.previous]!);
    }
    low[at] = mix(a, before) | 0;
    high[at] = mix(b, beforeToo) | 0;
    this.lowSum[at + 1] = (this.lowSum[at]! + low[at]!) | 0;
    this.highSum[at + 1] = (this.highSum[at]! + high[at]!) | 0;
  }

  truncate(length: number): void {
    this.length = Math.min(this.length, length);
  }

  get value(): string {
    return `${this.highSum[this.length]! >>> 0}.${this.lowSum[this.length]! >>> 0}`;
  }
}
