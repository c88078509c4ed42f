// A process is a generator that announces each shared access before it acts. Kernel functions nest through `call`,
// which puts the callee on the process's own stack, so that a resume costs the same at every depth.
import { hashText, mix } from './hash.ts';
import type { Sim } from './sim.ts';
import { Access, type Announced } from './step.ts';
import type { Turns } from './turns.ts';
import { notABody } from './yielded.ts';

/** The body of a process or of a kernel function called by one. */
export type Steps<R> = Generator<Yielded, R, unknown>;
export type Yielded = Announced | Generator<unknown, unknown, unknown>;

let callee: Steps<unknown> | null = null;

// `yield* call(gen)` hands `gen` to the driver once, and takes its return value when resumed. One generator runs at a
// time, so a single iterator serves every call site and nothing is allocated.
const callIterator = {
  result: { value: undefined as unknown, done: false },
  [Symbol.iterator]() {
    return this;
  },
  next(sent?: unknown) {
    const result = this.result;
    if (callee !== null) {
      result.value = callee;
      result.done = false;
      callee = null;
    } else {
      result.value = sent;
      result.done = true;
    }
    return result;
  },
};

/** Run a kernel function as part of this process: `const r = yield* call(f(args))`. */
export function call<R>(body: Steps<R>): Iterable<Yielded, R, unknown> {
  callee = body as Steps<unknown>;
  return callIterator as unknown as Iterable<Yielded, R, unknown>;
}

export interface SpawnOptions {
  /** CPU the actor runs on; default: its parent's, at set-up its slot. */
  readonly cpu?: number;
  /** Daemons wait, never poll; a run may end while they wait. */
  readonly daemon?: boolean;
  /** Tie-break among events of equal time; smaller first. */
  readonly priority?: number;
}

/** `cut`: stopped by an exception inside a step (a limit, a failed assertion); it never ended, and never will. */
export type ProcessState = 'live' | 'ended' | 'cut';

// Shared by actors that have not called anything yet; never pushed to.
const NO_CALLERS: Steps<unknown>[] = [];

/** One actor. Slots are dense; `identity` depends on the name only, so digests do not depend on spawn order. */
export class Process {
  readonly sim: Sim;
  /** The columns that hold what a turn needs, at `slot`. */
  private readonly turns: Turns;
  state: ProcessState = 'live';
  /** Place in `sim.processes`; only the end of a set-up changes it. */
  slot: number;
  readonly daemon: boolean;
  /** Who called the innermost function, outermost first. Only `called` adds to it. */
  callers: Steps<unknown>[] = NO_CALLERS;
  readonly cpu: number;
  /** Numbering of what this actor creates: content tokens, LRU ages, ids. Restarts with the process. */
  private numbers = 0;
  private spawned = 0;
  readonly name: string;
  readonly identity: number;
  readonly parent: Process | null;
  body: () => Steps<void>;
  /** The latency stream of this actor, opened at its first draw. */
  private latencies: (() => number) | null = null;
  /** Object id of the process's end: a join reads it. */
  readonly doneId: number;

  constructor(sim: Sim, name: string, slot: number, parent: Process | null, body: () => Steps<void>, o: SpawnOptions) {
    this.sim = sim;
    this.turns = sim.turns;
    this.name = name;
    this.slot = slot;
    this.parent = parent;
    // A child's slot depends on the interleaving, so it cannot name a CPU.
    this.cpu = o.cpu ?? parent?.cpu ?? slot;
    this.daemon = o.daemon ?? false;
    this.identity = mix(hashText(name), 0x70726f63);
    this.body = body;
    this.doneId = sim.allotIds(1, this);
    if (typeof body !== 'function') throw notABody(name, body);
    this.turns.add(new Access(), body() as Steps<unknown>, o.priority ?? 0);
  }

  /** The next step: announced, not yet acted. */
  get announced(): Access {
    return this.turns.announced[this.slot]!;
  }

  set announced(access: Access) {
    this.turns.announced[this.slot] = access;
  }

  /** Steps acted so far. */
  get stepCount(): number {
    return this.turns.stepCount[this.slot]!;
  }

  get priority(): number {
    return this.turns.priority[this.slot]!;
  }

  /** For object names in reports. */
  nameOf(): string {
    return `end of ${this.name}`;
  }

  /** Run to the first announcement. Code before the first yield may touch nothing shared. */
  prime(): void {
    const { sim } = this;
    const { sharing } = sim;
    // The clock has yet to ask when the first step is due.
    sim.sharing = false;
    this.turns.resume(this.slot);
    sim.sharing = sharing;
    this.turns.stepCount[this.slot] = 0;
  }

  /** Start over from the first line: a rewound world runs the same generator function again. */
  restart(): void {
    const { turns, slot } = this;
    if (this.callers.length > 0) this.callers.length = 0;
    turns.top[slot] = this.body() as Steps<unknown>;
    turns.stepCount[slot] = 0;
    this.state = 'live';
    this.numbers = 0;
    this.spawned = 0;
    this.latencies = null;
    turns.announced[slot]!.reset();
  }

  /** Uniform integer below `limit` from this actor's latency stream, which no other draw shares. */
  drawLatency(limit: number): number {
    this.latencies ??= this.sim.streams.open(`latency/${this.name}`);
    return this.latencies() % limit;
  }

  /** Next number of this actor: 1, 2, 3... Independent of what other actors do. */
  nextNumber(): number {
    return ++this.numbers;
  }

  nextChildNumber(): number {
    return ++this.spawned;
  }

  /** `caller` has called another function. */
  called(caller: Steps<unknown>): void {
    if (this.callers === NO_CALLERS) this.callers = [];
    this.callers.push(caller);
  }

  /** May it act now? */
  get enabled(): boolean {
    const gate = this.announced.gate;
    return gate === null || gate.ready(this);
  }

  /** Start over with the body that its parent, started over itself, gives it this time. */
  startAgain(body: () => Steps<void>): void {
    this.body = body;
    this.restart();
    this.prime();
  }

  /** Give up after an exception escaped from `resume`: the process stays where it is for the rest of the execution. */
  cut(): void {
    const acting = this.announced;
    this.announced = new Access();
    if (this.callers.length > 0) this.callers.length = 0;
    this.state = 'cut';
    this.turns.stepCount[this.slot]!++;
    this.sim.leave(acting);
  }

  /** The step acted by the last `resume`; only until anybody's next one. */
  get acted(): Access {
    return this.sim.acted;
  }
}
