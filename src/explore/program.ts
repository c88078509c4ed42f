// A small world for programs that are not about memory: cells, locks and actors with as few words as possible.
// `yield` announces, the code after it acts; what is held for several steps is taken with `yield lock.lock()`.
import { Cell, Tally } from '../engine/cell.ts';
import { Mutex } from '../engine/lock.ts';
import type { Loop } from '../engine/loop.ts';
import type { Process, SpawnOptions, Steps } from '../engine/process.ts';
import { Rcu } from '../engine/rcu.ts';
import { RwLock } from '../engine/rwlock.ts';
import { RwSem } from '../engine/rwsem.ts';
import type { Sim } from '../engine/sim.ts';
import { type Announced, type Step, step } from '../engine/step.ts';
import { Completion, join, until } from '../engine/wait.ts';
import { inWords } from '../engine/yielded.ts';
import { freezeKept } from './kept-values.ts';

const LOCAL = step('local');
const SLEEP = step('sleep');
const WAIT = step('wait');
const WAIT_COMPLETION = step('wait_for_completion');
const COMPLETE = step('complete');
const AGAIN = step('again');

/** For whoever wrote a loop that looks at the same things again and again. */
const LOOP_REMEDY =
  'declare the loop, and it waits for a write instead of spinning: const loop = sim.loop(name, bound) before it, ' +
  'loop.begin() at the start of each round, yield loop.again(sim.again) at its end, loop.end() after the loop';

/** A shared value whose steps need no label of their own. */
export class ProgramCell<T> extends Cell<T> {
  private readonly readStep: Step;
  private readonly writeStep: Step;
  private readonly updateStep: Step;

  constructor(sim: Sim, name: string, initial: T) {
    super(sim, name, initial);
    freezeKept(this, initial);
    this.readStep = step(`${name}:read`);
    this.writeStep = step(`${name}:write`);
    this.updateStep = step(`${name}:update`);
  }

  override willRead(at: Step = this.readStep): Announced {
    return super.willRead(at);
  }

  override willWrite(at: Step = this.writeStep): Announced {
    return super.willWrite(at);
  }

  /** A read-modify-write: a read when nothing gets assigned (a compare-and-swap that fails). */
  override willUpdate(at: Step = this.updateStep): Announced {
    return super.willUpdate(at);
  }
}

/** A counter whose additions commute. */
export class ProgramTally extends Tally {
  private readonly addStep: Step;
  private readonly readStep: Step;

  constructor(sim: Sim, name: string, initial: number) {
    super(sim, name, initial);
    this.addStep = step(`${name}:add`);
    this.readStep = step(`${name}:read`);
  }

  override willAdd(at: Step = this.addStep): Announced {
    return super.willAdd(at);
  }

  override willRead(at: Step = this.readStep): Announced {
    return super.willRead(at);
  }
}

/** A lock whose steps are labelled with its name. */
export class ProgramMutex extends Mutex {
  private readonly lockStep: Step;
  private readonly trylockStep: Step;
  private readonly unlockStep: Step;

  constructor(sim: Sim, name: string) {
    super(sim, name);
    this.lockStep = step(`${name}:lock`, 'lock');
    this.trylockStep = step(`${name}:trylock`, 'lock');
    this.unlockStep = step(`${name}:unlock`, 'lock');
  }

  override lock(at: Step = this.lockStep): Announced {
    return super.lock(at);
  }

  /** After resuming, `heldBy(sim.self)` tells whether it was got. */
  override trylock(at: Step = this.trylockStep): Announced {
    return super.trylock(at);
  }

  override unlock(at: Step = this.unlockStep): Announced {
    return super.unlock(at);
  }
}

/** struct completion, with labels of its own. */
export class ProgramCompletion extends Completion {
  override willComplete(at: Step = COMPLETE): Announced {
    return super.willComplete(at);
  }

  override wait(at: Step = WAIT_COMPLETION): Announced {
    return super.wait(at);
  }
}

/** A processor as far as interrupts go: off and on again, and requests that wait until they are on. */
export class ProgramCpu {
  private readonly sim: Sim;
  private readonly irqsOff: Cell<boolean>;
  private readonly offStep: Step;
  private readonly onStep: Step;
  private readonly ipiStep: Step;

  constructor(sim: Sim, name: string) {
    this.sim = sim;
    this.irqsOff = new Cell(sim, `interrupts of ${name}`, false);
    this.offStep = step(`${name}:local_irq_disable`);
    this.onStep = step(`${name}:local_irq_enable`);
    this.ipiStep = step(`${name}:ipi`);
  }

  /** `yield* call(cpu.irqDisable())`: from here on interrupts wait. For the actor that runs on this CPU. */
  *irqDisable(): Steps<void> {
    yield this.irqsOff.willWrite(this.offStep);
    this.irqsOff.value = true;
  }

  /** `yield* call(cpu.irqEnable())` */
  *irqEnable(): Steps<void> {
    yield this.irqsOff.willWrite(this.onStep);
    this.irqsOff.value = false;
  }

  /** `yield cpu.ipi()`: an interrupt that another CPU sends and waits for; what follows runs with it. */
  ipi(): Announced {
    return until(this.sim, [this.irqsOff], () => !this.irqsOff.peek(), this.ipiStep);
  }
}

/** What the set-up function of `explore` is given, and what its actors use. */
export class Program {
  readonly sim: Sim;

  constructor(sim: Sim) {
    this.sim = sim;
    sim.loopRemedy = LOOP_REMEDY;
    sim.stores = freezeKept;
  }

  /** A shared value: a primitive, a list or plain object, which is frozen, or an object with an `identity`. */
  cell<T>(name: string, initial: T): ProgramCell<T> {
    return new ProgramCell(this.sim, name, initial);
  }

  tally(name: string, initial = 0): ProgramTally {
    return new ProgramTally(this.sim, name, initial);
  }

  mutex(name: string): ProgramMutex {
    return new ProgramMutex(this.sim, name);
  }

  /** Fair reader-writer semaphore: `yield* call(s.read())` or plainly `yield s.read()`; `yield s.up()`. */
  rwsem(name: string): RwSem {
    return new RwSem(this.sim, name);
  }

  /** Spinning reader-writer lock: readers join readers even while a writer waits. */
  rwlock(name: string): RwLock {
    return new RwLock(this.sim, name);
  }

  /** Interrupts off and on, and IPIs that wait for them. */
  cpu(name: string): ProgramCpu {
    return new ProgramCpu(this.sim, name);
  }

  completion(name: string): ProgramCompletion {
    return new ProgramCompletion(this.sim, name);
  }

  rcu(name: string): Rcu {
    return new Rcu(this.sim, name);
  }

  /** Start an actor, at set-up or from within another one. Code before its first yield may touch nothing shared. */
  spawn(name: string, body: () => Steps<void>, options: SpawnOptions = {}): Process {
    return this.sim.spawn(name, body, options);
  }

  /** `yield sim.join(process)`: waits for its end. */
  join(process: Process): Announced {
    return join(this.sim, process);
  }

  /** `yield sim.until([x], () => x.peek() > 0)`. The predicate looks with `peek`, and only at the given objects. */
  until(
    objects: readonly { readonly id: number }[],
    predicate: () => boolean,
    options: { readonly name?: string; readonly update?: boolean; readonly lasting?: boolean; readonly at?: Step } = {},
  ): Announced {
    const example = 'as in sim.until([x], () => x.peek() > 0)';
    if (!Array.isArray(objects)) {
      throw new TypeError(`until expects an array of what the predicate looks at, ${example}, not ${inWords(objects)}`);
    }
    if (typeof predicate !== 'function') {
      throw new TypeError(`until expects a predicate, ${example}, not ${inWords(predicate)}`);
    }
    return until(this.sim, objects, predicate, options.at ?? WAIT, options);
  }

  /** `yield sim.local()`: a step that touches nothing shared. */
  local(at: Step = LOCAL): Announced {
    return this.sim.local(at);
  }

  /** `yield sim.sleep(ns)`: explored, acts at any later point. */
  sleep(delayNs: number, at: Step = SLEEP): Announced {
    checkDelay('sleep', delayNs);
    return this.sim.sleep(delayNs, at);
  }

  /** A timer armed now: an actor that runs `fire` once, `delayNs` later; explored, at any later point. */
  timer(name: string, delayNs: number, fire: () => Steps<void>): Process {
    checkDelay('timer', delayNs);
    const { sim } = this;
    return sim.spawn(name, function* () {
      yield sim.sleep(delayNs, SLEEP);
      yield fire();
    });
  }

  /** Track a retry loop of the current actor: `begin` each round, `yield loop.again(...)` between, `end` on leaving. */
  loop(name: string, bound: number): Loop {
    return this.sim.loop(name, bound);
  }

  /** The step of going round again, for `loop.again`. */
  readonly again: Step = AGAIN;

  /** One of 0 .. alternatives - 1, inside a step. */
  choose(alternatives: number, label?: string): number {
    return this.sim.choose(alternatives, label);
  }

  /** The program is wrong: a finding of kind `assertion`. The execution goes on. */
  fail(message: string): void {
    if (typeof message !== 'string' || message === '') {
      const given = message === '' ? 'an empty one' : inWords(message);
      throw new TypeError(`fail expects a text that says what is wrong, as in sim.fail('saw it'), not ${given}`);
    }
    this.sim.fail(message);
  }

  /** The actor that is stepping. */
  get self(): Process {
    if (this.sim.current === null) throw new Error('no actor is stepping');
    return this.sim.current;
  }
}

/** Throws TypeError for what is no time to wait. */
function checkDelay(called: string, delayNs: unknown): void {
  if (Number.isInteger(delayNs) && (delayNs as number) >= 0) return;
  throw new TypeError(`${called} expects whole nanoseconds, 0 or more, not ${inWords(delayNs)}`);
}
