// Every trace that has some linearization with at most `bound` preemptions (switches away from an actor that could have
// gone on: Musuvathi and Qadeer, "Iterative context bounding", PLDI 2007). Depth first over schedules; of schedules that
// led to the same partial order and stopped at the same actor, only one with fewer preemptions is followed again. That
// remembers what was seen, so unlike DPOR memory grows with the search, and nothing is claimed about runs per trace.
//
// A preemption before a step that touches nothing shared is never needed: the step may as well come before it.
import type { Process } from '../../engine/process.ts';
import type { Sim } from '../../engine/sim.ts';
import { NO_CHOICES } from '../action.ts';
import { nextChoices } from '../choices.ts';
import { Identity } from '../identity.ts';
import type { SavedBounded, SavedBranch } from '../saved.ts';
import { Trace } from '../trace.ts';
import { TraceHash } from '../trace-hash.ts';
import { actAgain, canStep, mustStep, type Scheduler } from './scheduler.ts';

/** A way to go on from a node: who steps, with which choices, and how many preemptions that makes. */
interface Branch {
  readonly actor: number;
  readonly choices: readonly number[];
  readonly preemptions: number;
}

export class Bounded implements Scheduler {
  /** The last execution repeated another, or was given up because it would have. */
  redundant = false;
  /** Every trace within the bound was run. */
  finished = false;
  /** Switches that the bound forbade, over all nodes. When 0, nothing was left out. */
  leftOut = 0;
  private readonly sim: Sim;
  private readonly bound: number;
  private readonly identity: Identity;
  private readonly trace: Trace;
  private readonly hash: TraceHash;
  // By depth: what has not been tried there yet, and what is being run.
  private readonly untried: Branch[][] = [];
  // By depth: how many ways to go on there are in all.
  private readonly ways: number[] = [];
  private readonly chosen: Branch[] = [];
  // By trace so far and actor that stepped last: fewest preemptions that it was reached with.
  private readonly reached = new Map<string, number>();
  private readonly ended = new Set<string>();
  private branch = 0;
  private depth = 0;
  private gaveUp = false;
  private rewinding = true;
  private initial: readonly number[] = NO_CHOICES;
  private initialAlternatives: readonly number[] = NO_CHOICES;
  private choices: number[] = [];
  private alternatives: number[] = [];

  constructor(sim: Sim, bound: number) {
    if (!(bound >= 0)) throw new Error(`a preemption bound is at least 0, not ${bound}`);
    this.sim = sim;
    this.bound = bound;
    this.identity = new Identity(sim);
    this.trace = new Trace(this.identity);
    this.hash = new TraceHash(this.trace);
  }

  newExecution(): boolean {
    if (this.finished) return false;
    this.depth = 0;
    this.gaveUp = false;
    this.rewinding = true;
    this.choices = [];
    this.alternatives = [];
    this.identity.restart();
    this.sim.allotted = this.identity.allotted;
    this.sim.record(true);
    return true;
  }

  nextActor(sim: Sim): Process | null {
    if (this.rewinding) {
      this.initial = this.choices;
      this.initialAlternatives = this.alternatives;
      this.rewinding = false;
    }
    this.choices = [];
    this.alternatives = [];
    const { depth } = this;
    if (depth > this.branch || (depth === this.branch && this.untried[depth] === undefined)) {
      if (!this.enter(sim)) return null;
    }
    if (depth >= this.branch) {
      const next = this.untried[depth]!.pop();
      if (next === undefined) return null;
      this.chosen[depth] = next;
    }
    const { actor } = this.chosen[depth]!;
    return mustStep(this.identity.processes[actor], this.identity.nameOf(actor));
  }

  /** A node not seen before on this path: who could go on from here? False when that was tried already. */
  private enter(sim: Sim): boolean {
    const { depth, identity } = this;
    const before = depth === 0 ? null : this.chosen[depth - 1]!;
    const used = before?.preemptions ?? 0;
    const key = `${this.initial.join()}|${this.hash.value}|${before?.actor ?? -1}`;
    const fewest = this.reached.get(key);
    if (fewest !== undefined && fewest <= used) {
      this.gaveUp = true;
      return false;
    }
    this.reached.set(key, used);
    const current = before === null ? undefined : identity.processes[before.actor]!;
    const goesOn = current !== undefined && canStep(current);
    const branches: Branch[] = [];
    this.untried[depth] = branches;
    for (const process of sim.processes) {
      if (process === current || !canStep(process)) continue;
      if (goesOn && current.announced.count === 0) continue;
      if (goesOn && used >= this.bound) this.leftOut++;
      else
        branches.unshift({
          actor: identity.numberOf(process),
          choices: NO_CHOICES,
          preemptions: used + (goesOn ? 1 : 0),
        });
    }
    if (goesOn) branches.push({ actor: before!.actor, choices: NO_CHOICES, preemptions: used });
    this.ways[depth] = branches.length;
    return true;
  }

  /**
   * Between executions: which part of the search is done, if what is below each way to go on from a node weighs the same
   * (Kilby, Slaney, Thiebaux, Walsh: "Estimating search tree size", AAAI 2006). Rough: it does not.
   */
  get fractionDone(): number {
    let done = 0;
    let part = 1;
    for (let at = 0; at <= this.branch && at < this.untried.length; at++) {
      const left = this.untried[at]!.length + (at < this.branch ? 1 : 0);
      const ways = this.ways[at]!;
      done += (part * (ways - left)) / ways;
      part /= ways;
    }
    return done;
  }

  choose(_process: Process | null, alternatives: number): number {
    const script = this.rewinding ? this.initial : this.chosen[this.depth]!.choices;
    const value = script[this.choices.length] ?? 0;
    this.choices.push(value);
    this.alternatives.push(alternatives);
    return value;
  }

  acted(process: Process): void {
    const { depth, trace, identity } = this;
    while (identity.news) {
      const child = identity.meetNext();
      if (depth >= this.branch) trace.started(child, depth);
    }
    if (depth >= this.branch) {
      this.hash.add(trace.add(identity.numberOf(process), process, this.choices, this.alternatives));
      this.branchChoices(this.chosen[depth]!);
    }
    this.depth++;
  }

  /** The same step with its choices counted on: each vector of choices is made from exactly one other. */
  private branchChoices(taken: Branch): void {
    for (let i = taken.choices.length; i < this.choices.length; i++) {
      for (let other = 1; other < this.alternatives[i]!; other++) {
        this.untried[this.depth]!.push({ ...taken, choices: [...this.choices.slice(0, i), other] });
        this.ways[this.depth]!++;
      }
    }
  }

  executionEnded(): void {
    const key = `${this.initial.join()}|${this.hash.value}`;
    this.redundant = this.gaveUp || this.ended.has(key);
    if (!this.gaveUp) this.ended.add(key);
    for (let at = this.depth; at >= 0; at--) {
      const untried = this.untried[at];
      if (untried !== undefined && untried.length > 0) {
        this.cutBack(at);
        return;
      }
    }
    this.cutBack(0);
    this.untried.length = 0;
    this.initial = nextChoices(this.initial, this.initialAlternatives) ?? NO_CHOICES;
    this.finished = this.initial.length === 0;
  }

  private cutBack(at: number): void {
    this.branch = at;
    this.untried.length = Math.min(this.untried.length, at + 1);
    this.hash.truncate(at);
    this.trace.truncate(at);
  }

  /** Between executions: all that the rest of the search depends on. */
  save(): SavedBounded {
    const saved = (branches: readonly Branch[]): SavedBranch[] =>
      branches.map(({ actor, choices, preemptions }) => [actor, [...choices], preemptions]);
    return {
      identity: this.identity.save(),
      initial: [...this.initial],
      initialAlternatives: [...this.initialAlternatives],
      path: saved(this.chosen.slice(0, this.branch)),
      untried: this.untried.map(saved),
      ways: this.ways.slice(0, this.untried.length),
      reached: [...this.reached],
      ended: [...this.ended],
      leftOut: this.leftOut,
      finished: this.finished,
    };
  }

  /** Before the first execution: go on where another search of the same world was saved. */
  restore(saved: SavedBounded): void {
    const restored = ([actor, choices, preemptions]: SavedBranch): Branch => ({ actor, choices, preemptions });
    this.identity.restore(saved.identity);
    this.initial = saved.initial;
    this.initialAlternatives = saved.initialAlternatives;
    this.leftOut = saved.leftOut;
    this.finished = saved.finished;
    for (const [key, preemptions] of saved.reached) this.reached.set(key, preemptions);
    for (const key of saved.ended) this.ended.add(key);
    saved.untried.forEach((branches, at) => {
      this.untried[at] = branches.map(restored);
      this.ways[at] = saved.ways[at]!;
    });
    this.chosen.push(...saved.path.map(restored));
    this.walk();
  }

  /** Run the steps to the node at hand again, to know their partial order. */
  private walk(): void {
    const { sim, identity } = this;
    if (this.chosen.length === 0) return;
    sim.choices = this;
    this.branch = this.chosen.length;
    this.newExecution();
    sim.rewind();
    for (let at = 0; at < this.chosen.length; at++) {
      const process = this.nextActor(sim)!;
      actAgain(sim, process);
      while (identity.news) this.trace.started(identity.meetNext(), at);
      this.hash.add(this.trace.add(identity.numberOf(process), process, this.choices, this.alternatives));
      this.depth++;
    }
    sim.choices = null;
  }
}
