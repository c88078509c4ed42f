// Retry loops. A loop whose iteration wrote nothing, not even for a moment, would do the same again: it counts as
// blocked until something it read is written by another. One that wrote is unrolled to a stated bound.
//
// A retry loop carries nothing from one round to the next but what is in stores. So when the shared state is the same
// after a round as after an earlier one, and every actor that can step has gone round a loop of its own in between, it
// can go on like that for ever: a livelock, which is more than a bound that was reached.
import { type Finding, findingIdentity } from './finding.ts';
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
  private readonly rounds: Round[] = [];

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
    if (this.wrote && this.sim.journaled) this.lookForCycle();
    if (this.wrote && ++this.unrolled > this.bound) {
      throw new LimitReached(`${this.process.name}: the retry loop '${this.name}' went round ${this.bound} times`);
    }
    if (!this.wrote) {
      const access = this.sim.gated(step, this);
      for (const id of this.read) access.add(id, id, READ);
    }
    return this.sim.local(step);
  }

  /** A round that wrote is over: was everything like this before? Only in worlds that can be rewound: searches. */
  private lookForCycle(): void {
    const { sim, tracker, process } = this;
    sim.keepDigest();
    const now = roundOf(sim, tracker, process);
    for (const before of this.rounds) {
      const turning = cycle(before, now);
      if (turning === null) continue;
      const finding = livelock(sim, [process, ...turning], tracker);
      if (sim.findings.every(({ identity }) => identity !== finding.identity)) sim.report(finding);
      break;
    }
    this.rounds.push(now);
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

/** Where another actor is. */
interface Place {
  readonly process: Process;
  readonly step: Step;
  readonly stepCount: number;
  /** It is within a retry loop. */
  readonly looping: boolean;
}

/** What is after a round: the shared state, and where everybody else is. */
interface Round {
  readonly digest: string;
  readonly places: readonly Place[];
}

function roundOf(sim: Sim, tracker: LoopTracker, acting: Process): Round {
  const places: Place[] = [];
  for (const process of sim.processes) {
    if (process === acting || process.state !== 'live') continue;
    const { announced, stepCount } = process;
    places.push({ process, step: announced.step, stepCount, looping: tracker.of(process) !== null });
  }
  return { digest: sim.stateDigest, places };
}

/** Who else has gone round between two rounds after which all is the same; null when it is not, or not fairly so. */
function cycle(before: Round, now: Round): readonly Process[] | null {
  if (before.digest !== now.digest || before.places.length !== now.places.length) return null;
  const turning: Process[] = [];
  for (let i = 0; i < now.places.length; i++) {
    const then = before.places[i]!;
    const { process, step, stepCount, looping } = now.places[i]!;
    if (then.process !== process || then.step !== step) return null;
    if (then.stepCount === stepCount) {
      if (process.enabled) return null;
      continue;
    }
    // What it keeps to itself may have changed, unless it goes round a retry loop.
    if (!looping || !then.looping) return null;
    turning.push(process);
  }
  return turning;
}

function livelock(sim: Sim, turning: readonly Process[], tracker: LoopTracker): Finding {
  const names = turning.map(({ name }) => name).join(', ');
  const loops = turning.map((process) => tracker.of(process)?.name ?? '');
  const steps = turning.map(({ name, announced }) => ({ actor: name, label: announced.step.label, timeNs: sim.nowNs }));
  return {
    kind: 'livelock',
    message: `${names} can go round for ever: the state is as it was, and whoever could step has stepped`,
    reasons: turning.map(({ name }, i) => `${name} goes round the retry loop '${loops[i]}'`),
    actors: turning.map(({ name }) => name),
    objects: [],
    steps,
    details: {},
    identity: findingIdentity('livelock', 'retry loops', [...new Set(loops)].sort()),
  };
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

  /** The innermost loop that `process` is in; null: none. */
  of(process: Process): Loop | null {
    return this.loops.findLast((loop) => loop.process === process) ?? null;
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
