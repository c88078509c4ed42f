// Runs a marked world under a scheduler, execution after execution: rewind, step until nobody can, look at the end.
// Model code cannot tell it from the timed clock.
import { deadlockFinding } from '../engine/deadlock.ts';
import { type Finding, findingIdentity } from '../engine/finding.ts';
import { mix } from '../engine/hash.ts';
import { LimitReached } from '../engine/limit.ts';
import { LivelockWatch } from '../engine/livelock.ts';
import type { Process } from '../engine/process.ts';
import type { Sim } from '../engine/sim.ts';
import type { Step } from '../engine/step.ts';
import { inWords } from '../engine/yielded.ts';
import { frozenRemedy } from './kept-values.ts';
import { GatePromises } from './promises.ts';
import { actAgain, canStep, endsSearch, NotRepeatable, type Scheduler } from './schedulers/scheduler.ts';

/** One step of a schedule: who acted, at which label, and what the choices inside the step gave. */
export interface ScheduledStep {
  readonly actor: string;
  readonly label: string;
  readonly choices: readonly number[];
}

export interface RunLimits {
  /** Steps after which an execution is cut off. Default 100,000. */
  readonly maxSteps?: number;
  /** Throw when a gate breaks a promise that searches rely on. Default: in checked worlds. */
  readonly gatesChecked?: boolean;
  /** Looks at the end of every execution that ended by itself, after deferred work is done. */
  readonly atEnd?: (sim: Sim) => void;
}

/**
 * `done`: every actor but idle daemons ended. `deadlock`: an actor waits for ever. `cut`: an actor hit a limit or threw.
 * `long`: the step limit. `stopped`: the scheduler stopped while somebody could still step.
 */
export type ExecutionEnd = 'done' | 'deadlock' | 'cut' | 'long' | 'stopped';

const MAX_STEPS = 100_000;
/** Steps after which an execution is watched for states that come back. */
const LONG = 1000;
/** Steps after which actors are watched for going round without writing; rounds after which such an actor is given up. */
const SPIN_FROM = 128;
const SPIN_ROUNDS = 32;
/** The same where no other order of its rounds matters: as many as a state comes back before that is a livelock. */
const SPIN_ROUNDS_ALONE = 1000;
/** Of an execution that is cut off: steps that are looked at, actors and labels that are told. */
const LAST = 1000;
const SHOWN = 4;
const NONE: readonly Finding[] = [];

/** How often an actor came to each place since step `from`, when `writes` steps had written. */
interface Rounds {
  readonly writes: number;
  readonly from: number;
  readonly times: Map<number, number>;
}

export class Runner {
  readonly sim: Sim;
  /** Steps of the last execution. */
  steps = 0;
  /** Times that the last execution switched away from an actor that could have gone on. */
  preemptions = 0;
  /** Steps of all executions. */
  totalSteps = 0;
  end: ExecutionEnd = 'done';
  /** The last execution was given up: it would go on for ever. */
  livelocked = false;
  /** The last execution was given up: it kept one from stepping who could have. */
  unfair = false;
  /** Findings of the last execution. */
  findings: readonly Finding[] = NONE;
  /** Limits that executions ran into: message by message, how often. */
  readonly limitsReached = new Map<string, number>();
  /** Steps after which an execution is cut off. */
  readonly maxSteps: number;
  private readonly atEnd: ((sim: Sim) => void) | null;
  private readonly findingsBefore: number;
  private readonly actors: Process[] = [];
  private readonly labels: Step[] = [];
  private readonly choiceAt: number[] = [];
  private readonly choiceValue: number[] = [];
  private readonly promises: GatePromises | null;
  // Steps that wrote; by actor, how often it came to each place since the last of them.
  private writes = 0;
  private readonly rounds = new Map<Process, Rounds>();
  private livelocks: LivelockWatch | null = null;
  private scheduler: Scheduler | null = null;

  /** `sim` is set up and nothing has acted yet; its present state becomes the mark. */
  constructor(sim: Sim, limits: RunLimits = {}) {
    if (!sim.journaled) throw new Error('a search rewinds the world: the sim must keep its journal');
    const { atEnd } = limits;
    if (atEnd !== undefined && typeof atEnd !== 'function') {
      throw new TypeError(
        `atEnd expects a function that looks at the end of an execution, as in { atEnd: (sim) => { ... } }, not ${inWords(atEnd)}`,
      );
    }
    this.sim = sim;
    this.maxSteps = limits.maxSteps ?? MAX_STEPS;
    this.atEnd = atEnd ?? null;
    this.promises = (limits.gatesChecked ?? sim.checked) ? new GatePromises(sim) : null;
    sim.mark();
    this.findingsBefore = sim.findings.length;
  }

  /** One execution from the mark. False when the scheduler has nothing left to run. */
  execute(scheduler: Scheduler, run: number): boolean {
    if (!scheduler.newExecution(run)) return false;
    const sim = this.sim;
    this.scheduler = scheduler;
    if (this.choiceAt.length > 0) {
      this.choiceAt.length = 0;
      this.choiceValue.length = 0;
    }
    this.steps = -1;
    sim.choices = this.choices;
    try {
      sim.rewind();
      this.steps = 0;
      const cut = this.stepOn(scheduler);
      this.end = this.judge(cut);
      const all = sim.findings;
      this.findings = all.length === this.findingsBefore ? NONE : all.slice(this.findingsBefore);
      // What could have come in another order has no end, either: an exhaustive search is over.
      const endless = this.livelocked || this.unfair;
      if (!endless || scheduler.finished === undefined) scheduler.executionEnded?.(sim);
    } catch (error) {
      if (!(error instanceof NotRepeatable)) throw error;
      throw error.after(this.schedule().map(({ actor, label }) => `${actor} at ${label}`));
    } finally {
      sim.choices = null;
    }
    this.totalSteps += this.steps;
    return true;
  }

  /** Another run between executions, for a look at how one went: leaves counts, schedule and verdict alone. */
  retrace(scheduler: Scheduler): void {
    const { sim } = this;
    scheduler.newExecution(0);
    sim.choices = scheduler;
    try {
      sim.rewind();
      for (let step = 0; step < this.maxSteps; step++) {
        const process = scheduler.nextActor(sim);
        if (process === null) break;
        actAgain(sim, process);
        scheduler.acted?.(process, sim);
      }
    } finally {
      sim.choices = null;
    }
  }

  /** Step until nobody can. Returns whether an actor was cut off. */
  private stepOn(scheduler: Scheduler): boolean {
    const sim = this.sim;
    let cut = false;
    let last: Process | null = null;
    const { promises } = this;
    this.livelocked = false;
    this.unfair = false;
    promises?.forget();
    this.preemptions = 0;
    this.writes = 0;
    if (this.rounds.size > 0) this.rounds.clear();
    for (;;) {
      const process = scheduler.nextActor(sim);
      if (process === null) return cut;
      if (this.steps >= this.maxSteps) {
        this.note(`an execution reached ${this.maxSteps} steps: ${this.whoGoesRound()}`);
        return cut;
      }
      if (process !== last) {
        if (last !== null && canStep(last)) this.preemptions++;
        last = process;
      }
      if (this.steps >= SPIN_FROM && this.spins(process)) {
        this.giveUp(process);
        scheduler.acted?.(process, sim);
        cut = true;
        continue;
      }
      const journal = sim.journalSize;
      const { progress } = sim;
      // What was checked when it ran first is not watched.
      if (promises !== null && sim.watching) promises.look();
      this.actors[this.steps] = process;
      this.labels[this.steps] = process.announced.step;
      try {
        sim.act(process);
      } catch (error) {
        this.cutOff(process, error);
        cut = true;
      }
      this.steps++;
      if (sim.journalSize !== journal) this.writes++;
      // Who gets something done does it again because it was told to.
      if (sim.progress !== progress && this.rounds.size > 0) this.rounds.delete(process);
      if (promises !== null && sim.watching) promises.check(process);
      if (this.steps >= LONG && this.comesBack(process)) return cut;
      scheduler.acted?.(process, sim);
    }
  }

  /**
   * Is `process` about to do once more what it has done time and again since anybody wrote? A loop that nobody declared:
   * every further round would be an interleaving of its own.
   */
  private spins(process: Process): boolean {
    const { announced } = process;
    // All that it is about to touch: a walk comes to the same lock with every entry.
    let place = announced.step.hash;
    for (let i = 0; i < announced.count; i++) place = mix(place, announced.lo[i]! | 0);
    let rounds = this.rounds.get(process);
    if (rounds === undefined || rounds.writes !== this.writes) {
      rounds = { writes: this.writes, from: this.steps, times: new Map() };
      this.rounds.set(process, rounds);
    }
    const times = (rounds.times.get(place) ?? 0) + 1;
    rounds.times.set(place, times);
    return times > SPIN_ROUNDS && (times > SPIN_ROUNDS_ALONE || this.roundsAllowed(process) === SPIN_ROUNDS);
  }

  /**
   * An actor may count its rounds where nobody sees it. While others can step, each round in which it looks at something
   * is an interleaving more; otherwise letting it count costs no more than steps.
   */
  private roundsAllowed(process: Process): number {
    return process.announced.count > 0 && !this.isAlone(process) ? SPIN_ROUNDS : SPIN_ROUNDS_ALONE;
  }

  private isAlone(process: Process): boolean {
    return !this.sim.processes.some((other) => other !== process && canStep(other));
  }

  /** Ends a spinning actor: its loop has reached the bound, or is a livelock when nobody is left who could end it. */
  private giveUp(process: Process): void {
    const { sim } = this;
    const { step } = process.announced;
    const loop = this.roundsOf(process);
    const round = `${process.name} goes round ${loop.join(', ')}`;
    const rounds = this.roundsAllowed(process);
    if (this.isAlone(process)) {
      sim.report({
        kind: 'livelock',
        message: `${round} for ever: nobody is left who could change what it looks at`,
        reasons: [`it came to ${step.label} ${rounds} times since anybody wrote`],
        actors: [process.name],
        objects: [],
        steps: [{ actor: process.name, label: step.label, timeNs: 0 }],
        details: { rounds },
        identity: findingIdentity('livelock', 'spin', loop),
      });
    }
    const remedy = sim.loopRemedy === null ? '' : `; ${sim.loopRemedy}`;
    const limit = `${round} while nobody writes: given up after ${rounds} rounds${remedy}`;
    this.actors[this.steps] = process;
    this.labels[this.steps++] = step;
    this.cutOff(process, new LimitReached(limit));
  }

  /** The labels that `process` comes to in every round of its spin: sorted, as it may be noticed at any of them. */
  private roundsOf(process: Process): string[] {
    const times = new Map<string, number>();
    for (let at = this.rounds.get(process)!.from; at < this.steps; at++) {
      const { label } = this.labels[at]!;
      if (this.actors[at] === process) times.set(label, (times.get(label) ?? 0) + 1);
    }
    return [...times.keys()].filter((label) => times.get(label)! >= SPIN_ROUNDS).sort();
  }

  /** After many steps: has the state come back again and again, with everybody taking part? */
  private comesBack(process: Process): boolean {
    const { sim } = this;
    if (this.steps === LONG) {
      sim.keepDigest();
      this.livelocks = new LivelockWatch(sim);
    }
    const finding = this.livelocks!.stepActed(process);
    if (finding === null) {
      // A sampler lets the others on some time; an exhaustive search would go on with one order after the other.
      this.unfair = this.livelocks!.unfair && this.scheduler?.finished !== undefined;
      if (this.unfair) this.note(`${process.name} can go round for ever while others wait for their turn`);
      return this.unfair;
    }
    sim.report(finding);
    this.livelocked = true;
    return true;
  }

  /** The actors of the last steps, and where they are time and again. */
  private whoGoesRound(): string {
    const steps = new Map<Process, Set<string>>();
    for (let at = Math.max(0, this.steps - LAST); at < this.steps; at++) {
      const labels = steps.get(this.actors[at]!);
      if (labels === undefined) steps.set(this.actors[at]!, new Set([this.labels[at]!.label]));
      else labels.add(this.labels[at]!.label);
    }
    const told = [...steps].map(([{ name }, labels]) => `${name} goes round ${[...labels].slice(0, SHOWN).join(', ')}`);
    return told.slice(0, SHOWN).join('; ');
  }

  /** Something thrown escaped from a step: a limit ends the actor, anything else is a finding; a wrong program aborts. */
  private cutOff(process: Process, error: unknown): void {
    if (endsSearch(error)) throw error;
    const { label } = process.announced.step;
    process.cut();
    if (error instanceof LimitReached) {
      this.note(error.message);
      return;
    }
    const said = error instanceof Error ? error.message : typeof error === 'string' ? error : inWords(error);
    const thrown = this.sim.stores === null ? said : said + frozenRemedy(error);
    this.sim.report({
      kind: 'model-bug',
      message: `${process.name} threw at ${label}: ${thrown}`,
      reasons: [],
      actors: [process.name],
      objects: [],
      steps: [],
      details: {},
      identity: `model-bug|${label}|${thrown}`,
    });
  }

  private note(limit: string): void {
    this.limitsReached.set(limit, (this.limitsReached.get(limit) ?? 0) + 1);
  }

  private judge(cut: boolean): ExecutionEnd {
    const sim = this.sim;
    const waiting: Process[] = [];
    for (const process of sim.processes) {
      if (process.state !== 'live') continue;
      if (process.enabled) return this.steps >= this.maxSteps ? 'long' : 'stopped';
      if (!process.daemon) waiting.push(process);
    }
    if (cut) return 'cut';
    if (waiting.length > 0) {
      sim.report(deadlockFinding(sim, waiting));
      return 'deadlock';
    }
    sim.drain();
    this.atEnd?.(sim);
    return 'done';
  }

  /** Choices made before anybody stepped: in code that runs up to a first announcement. */
  get initialChoices(): readonly number[] {
    const count = this.choiceAt.findIndex((at) => at >= 0);
    return this.choiceValue.slice(0, count < 0 ? this.choiceValue.length : count);
  }

  /** The schedule of the last execution. */
  schedule(): ScheduledStep[] {
    const steps: ScheduledStep[] = [];
    let choice = this.initialChoices.length;
    for (let i = 0; i < this.steps; i++) {
      const choices: number[] = [];
      while (choice < this.choiceAt.length && this.choiceAt[choice] === i) choices.push(this.choiceValue[choice++]!);
      steps.push({ actor: this.actors[i]!.name, label: this.labels[i]!.label, choices });
    }
    return steps;
  }

  private readonly choices = {
    choose: (process: Process | null, alternatives: number, label: string): number => {
      const value = this.scheduler!.choose(process, alternatives, label);
      this.choiceAt.push(this.steps);
      this.choiceValue.push(value);
      return value;
    },
  };
}
