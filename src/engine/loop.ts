// Retry loops. A loop whose iteration wrote nothing, not even for a moment, would do the same again: it counts as
// blocked until something it read is written by another. One that wrote is unrolled to a stated bound.
import type { Gate } from './gate.ts';
import { LimitReached } from './limit.ts';
import type { Process } from './process.ts';
import type { Sim } from './sim.ts';
import { type Announced, DID_READ, READ, type Step } from './step.ts';

/** One retry loop of one process. `begin` each iteration, `yield again(STEP)` before the next, `end` on leaving. */
export class Loop implements Gate {
  readonly name: string;
  readonly promise = 'lasting';
  private readonly sim: Sim;
  private readonly tracker: LoopTracker;
  readonly process: Process;
  private readonly bound: number;
  private readonly read = new Set<number>();
  private wrote = false;
  private changed = false;
  private unrolled = 0;

  constructor(sim: Sim, tracker: LoopTracker, process: Process, name: string, bound: number) {
    this.sim = sim;
    this.tracker = tracker;
    this.process = process;
    this.name = name;
    this.bound = bound;
  }

  /** A new iteration starts: forget what the last one read. */
  begin(): void {
    this.read.clear();
    this.wrote = false;
    this.changed = false;
  }

  /** Announce going round again. Throws LimitReached (in the step) past the bound of writing iterations. */
  again(step: Step): Announced {
    if (this.wrote && ++this.unrolled > this.bound) {
      throw new LimitReached(`${this.process.name}: the retry loop '${this.name}' went round ${this.bound} times`);
    }
    const access = this.sim.announcing(step);
    if (!this.wrote) {
      for (const id of this.read) access.add(id, id, READ);
      access.gate = this;
    }
    return this.sim.local(step);
  }

  end(): void {
    this.tracker.stop(this);
    this.sim.loopEnded();
  }

  /** Only for LoopTracker. */
  note(process: Process, id: number, did: number): void {
    if (process === this.process) {
      if (did === DID_READ) this.read.add(id);
      else this.wrote = true;
    } else if (did !== DID_READ && this.read.has(id)) this.changed = true;
  }

  ready(): boolean {
    return this.changed;
  }

  take(): void {}

  waitsFor(): readonly Process[] {
    return [];
  }
}

/** The loops being tracked now. */
export class LoopTracker {
  private loops: Loop[] = [];

  get active(): number {
    return this.loops.length;
  }

  start(sim: Sim, name: string, bound: number): Loop {
    if (sim.current === null) throw new Error(`loop '${name}' outside a process`);
    const loop = new Loop(sim, this, sim.current, name, bound);
    this.loops.push(loop);
    return loop;
  }

  stop(loop: Loop): void {
    this.loops = this.loops.filter((other) => other !== loop);
  }

  note(process: Process, id: number, did: number): void {
    for (const loop of this.loops) loop.note(process, id, did);
  }

  clear(): void {
    if (this.loops.length > 0) this.loops = [];
  }
}
