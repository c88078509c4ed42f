// Optimal dynamic partial-order reduction (Abdulla, Aronis, Jonsson, Sagonas, POPL 2014 and JACM 2017): every
// Mazurkiewicz trace exactly once, nothing given up halfway. Source sets come from reversing races at the end of each
// execution, wakeup trees keep what is still to be run, sleep sets what need not be.
//
// Two steps depend on each other by what they did; the last step of a reversed pair is judged by what it announced. Where
// that leaves open whether a sequence is needed, the sequence is run once to see what the step does there.
import type { Process } from '../../engine/process.ts';
import type { Sim } from '../../engine/sim.ts';
import { type Action, Actions, COMMUTE, NO_CHOICES, relation, sameChoices } from '../action.ts';
import { nextChoices, untaken } from '../choices.ts';
import type { Explored } from '../estimate.ts';
import { Identity } from '../identity.ts';
import { NOT_RANKED, Order } from '../order.ts';
import { IMPOSSIBLE, type Reversal, Reversals, SURE, TO_BE_TRIED } from '../reversal.ts';
import { restoreStep, restoreTrees, type SavedDpor, StepTable } from '../saved.ts';
import { BLOCKED, type Coverage, Sequence, UNDECIDED } from '../sequence.ts';
import { Trace } from '../trace.ts';
import { Trials } from '../trials.ts';
import { Undecided, WakeupForest, WakeupNode } from '../wakeup.ts';
import { actAgain, canStep, fewerAlternatives, mustStep, NotRepeatable, type Scheduler } from './scheduler.ts';

export class Dpor implements Scheduler {
  /** The last execution ran into a sleep set: never, unless the model breaks its promises. */
  redundant = false;
  /** Every trace was run. */
  finished = false;
  /** Partial executions, to see how a step turns out in another order. */
  readonly trials: Trials;
  private readonly sim: Sim;
  private readonly identity: Identity;
  private readonly trace: Trace;
  private readonly reversals: Reversals;
  private readonly actions = new Actions();
  private readonly forest = new WakeupForest();
  private readonly order: Order;
  private readonly sequence: Sequence;
  // By depth: what is still to be run from that node, and which part of `sleep` belongs to it.
  private readonly pending: (WakeupNode | null)[] = [null];
  private readonly sleepFrom: number[] = [0];
  private readonly sleepTo: number[] = [0];
  private readonly sleep: Action[] = [];
  // The execution at hand.
  private depth = 0;
  private branch = 0;
  private script: readonly number[] = NO_CHOICES;
  private choices: number[] | null = null;
  private alternatives: number[] | null = null;
  private running: WakeupNode | null = null;
  private rewinding = true;
  // Choices made before the first step.
  private initial: readonly number[] = [];
  private initialAlternatives: readonly number[] = [];

  constructor(sim: Sim) {
    this.sim = sim;
    this.identity = new Identity(sim);
    this.trace = new Trace(this.identity);
    this.order = new Order(this.identity);
    this.sequence = new Sequence(this.trace, this.actions);
    this.trials = new Trials(sim, this.identity, this.trace, this.actions);
    this.reversals = new Reversals(sim, this.identity, this.trace, this.actions);
  }

  /** Between executions: what has been run, and how many sequences are known to be left at least. */
  get explored(): Explored {
    const { trace, identity, branch } = this;
    let leastRest = 0;
    for (let at = 0; at <= branch; at++) leastRest += WakeupNode.leaves(this.pending[at] ?? null);
    return {
      initial: this.initial,
      path: trace.events.slice(0, branch),
      left: (at) => this.sleepersAt(at),
      nameOf: (actor) => identity.nameOf(actor),
      leastRest,
    };
  }

  newExecution(): boolean {
    if (this.finished) return false;
    this.redundant = false;
    this.restartWorld();
    return true;
  }

  private restartWorld(): void {
    this.depth = 0;
    this.rewinding = true;
    this.script = this.initial;
    this.choices = null;
    this.alternatives = null;
    this.identity.restart();
    this.sim.allotted = this.identity.allotted;
    this.sim.record(false);
  }

  nextActor(sim: Sim): Process | null {
    const { depth } = this;
    if (this.rewinding) this.worldRestarted();
    if (depth < this.branch) {
      const event = this.trace.events[depth]!;
      this.script = event.choices;
      const process = this.identity.processes[event.actor];
      return process ?? mustStep(process, this.identity.nameOf(event.actor));
    }
    if (depth === this.branch) {
      sim.record(true);
      this.order.restart();
    }
    const node = this.pending[depth]!;
    if (node !== null) {
      this.pending[depth] = node.next;
      this.running = node;
      this.script = node.step.choices;
      const { actor } = node.step;
      return mustStep(this.identity.processes[actor], this.identity.nameOf(actor));
    }
    return this.anyAwake(sim);
  }

  private worldRestarted(): void {
    this.rewinding = false;
    if (this.choices !== null) {
      this.initial = this.choices;
      this.initialAlternatives = this.alternatives!;
    }
    this.choices = null;
    this.alternatives = null;
    this.trace.journalStart = this.sim.journalSize;
    if (this.branch === 0) {
      for (const process of this.sim.processes) this.reversals.consider(process);
      this.reversals.noteGates(0);
    } else if (this.sim.loops.active === 0) {
      // What the common prefix touches was checked when it ran first.
      this.sim.watching = false;
    }
  }

  /** Somebody who can step and whose step is not asleep; null at the end. Whom is a matter of speed only. */
  private anyAwake(sim: Sim): Process | null {
    const { order } = this;
    const { processes } = sim;
    let asleep = false;
    let best: Process | null = null;
    let bestRank = NOT_RANKED;
    for (let n = processes.length, i = order.cursor % n; n > 0 && bestRank > order.goodEnough; n--) {
      const process = processes[i]!;
      i = i + 1 === processes.length ? 0 : i + 1;
      if (process.state !== 'live') continue;
      const rank = order.rankOf(process);
      if (rank >= bestRank || !process.enabled) continue;
      const awake = this.awakeChoices(this.identity.numberOf(process));
      if (awake === null) {
        asleep = true;
        continue;
      }
      this.script = awake;
      best = process;
      bestRank = rank;
    }
    if (best === null) this.redundant = asleep;
    else order.picked(best, bestRank);
    return best;
  }

  /** Choices with which the actor's next step is not asleep; null when there are none. */
  private awakeChoices(actor: number): readonly number[] | null {
    let sleepers: Action[] | null = null;
    for (let i = this.sleepFrom[this.depth]!; i < this.sleepTo[this.depth]!; i++) {
      const sleeper = this.sleep[i]!;
      if (sleeper.actor !== actor) continue;
      if (sleeper.alternatives.length === 0) return null;
      sleepers ??= [];
      sleepers.push(sleeper);
    }
    return sleepers === null ? NO_CHOICES : untaken(sleepers, []);
  }

  choose(process: Process | null, alternatives: number, label: string): number {
    this.choices ??= [];
    this.alternatives ??= [];
    const value = this.script[this.choices.length] ?? 0;
    if (value >= alternatives) throw fewerAlternatives(process, alternatives, label, value);
    this.choices.push(value);
    this.alternatives.push(alternatives);
    return value;
  }

  acted(process: Process): void {
    const { depth, trace, identity } = this;
    while (identity.news) {
      const child = identity.meetNext();
      if (depth < this.branch) continue;
      trace.started(child, depth);
      this.reversals.consider(identity.processes[child]!);
    }
    this.depth++;
    const choices = this.choices ?? NO_CHOICES;
    const alternatives = this.alternatives ?? NO_CHOICES;
    this.choices = null;
    this.alternatives = null;
    if (depth < this.branch) return;
    const event = trace.add(identity.numberOf(process), process, choices, alternatives);
    this.order.acted(event, process);
    this.reversals.collect(depth, process);
    this.enterNode(depth + 1, event);
  }

  /** The node after `event`: what stays asleep, and what the wakeup tree says about it. */
  private enterNode(at: number, event: Action): void {
    const from = this.sleepTo[at - 1]!;
    let to = from;
    for (let i = this.sleepFrom[at - 1]!; i < from; i++) {
      const sleeper = this.sleep[i]!;
      if (sleeper.actor === event.actor) {
        if (sameChoices(sleeper.choices, event.choices))
          throw new NotRepeatable(
            `${this.identity.nameOf(event.actor)} took a step again that was to come out otherwise`,
          );
      } else if (relation(sleeper, event) === COMMUTE) this.sleep[to++] = sleeper;
    }
    this.sleepFrom[at] = from;
    this.sleepTo[at] = to;
    const node = this.running;
    this.running = null;
    if (node === null) {
      this.pending[at] = null;
      return;
    }
    this.pending[at] = node.firstChild;
    for (let child = node.firstChild; child !== null; child = child.next) child.parent = null;
    this.forest.release(node);
  }

  executionEnded(): void {
    const { trace, reversals } = this;
    this.trials.initial = this.initial;
    reversals.collectEnd();
    for (let at = 0; at <= trace.length; at++) {
      const count = reversals.count(at);
      for (let i = 0; i < count; i++) this.reverse(reversals.get(at, i));
    }
    this.sequence.forget();
    this.backtrack();
  }

  /** See to it that something equivalent to the reversed pair is run from the node before its first step. */
  private reverse(reversal: Reversal): void {
    if (reversal.state === IMPOSSIBLE) return;
    const { first, coverage } = reversal;
    if (coverage.holds(this.trace, first, this.branch)) return;
    const { sequence } = this;
    this.reversals.sequence(reversal, sequence);
    if (reversal.state === TO_BE_TRIED) {
      reversal.state = this.trials.canRun(first, sequence.steps, sequence.length - 1, reversal.last)
        ? SURE
        : IMPOSSIBLE;
      if (reversal.state === IMPOSSIBLE) return;
    }
    for (;;) {
      const asleep = this.coveredBySleep(first, sequence, coverage);
      if (asleep === UNDECIDED) {
        this.tryLast(reversal);
        continue;
      }
      if (asleep !== BLOCKED) return;
      const result = this.forest.insert(this.pending[first]!, sequence, coverage);
      if (!(result instanceof Undecided)) {
        this.pending[first] = result;
        return;
      }
      if (result.node === null) this.tryLast(reversal);
      else this.tryNode(first, result.node);
    }
  }

  /** What does the last step of the sequence do there? */
  private tryLast(reversal: Reversal): void {
    const { steps, length } = this.sequence;
    reversal.last = this.trials.tryOut(reversal.first, steps, length - 1, reversal.last);
    this.sequence.replaceLast(reversal.last);
  }

  /** BLOCKED when the sequence leads to something that no sleeping step covers. */
  private coveredBySleep(at: number, sequence: Sequence, coverage: Coverage): number {
    for (let i = this.sleepFrom[at]!; i < this.sleepTo[at]!; i++) {
      const place = sequence.place(this.sleep[i]!);
      if (place !== BLOCKED) {
        if (place !== UNDECIDED) {
          coverage.begin();
          coverage.restOn(this.sleep[i]!, place, sequence);
        }
        return place;
      }
      sequence.need(sequence.blockedAt);
    }
    return BLOCKED;
  }

  /** What does a step of a wakeup tree do once everything before it has been done? */
  private tryNode(at: number, node: WakeupNode): void {
    const path: Action[] = [];
    for (let above = node.parent; above !== null; above = above.parent) path.unshift(above.step);
    node.step = this.trials.tryOut(at, path, path.length, node.step);
  }

  /** To the deepest node with something left to run; what was just explored from it goes to sleep. */
  private backtrack(): void {
    const { trace, pending, sleepTo } = this;
    for (let at = trace.length - 1; at >= 0; at--) {
      if (pending[at] !== null) {
        this.sleep[sleepTo[at]!] = this.actions.share(trace.events[at]!);
        sleepTo[at] = sleepTo[at]! + 1;
        trace.truncate(at);
        this.reversals.cutBack(at);
        this.branch = at;
        return;
      }
    }
    trace.truncate(0);
    this.reversals.cutBack(-1);
    this.branch = 0;
    this.finished = !this.nextInitialChoices();
  }

  /** Choices made before any step are a search of their own each. */
  private nextInitialChoices(): boolean {
    const next = nextChoices(this.initial, this.initialAlternatives);
    if (next !== null) this.initial = next;
    return next !== null;
  }

  /** Between executions: all that the rest of the search depends on. */
  save(): SavedDpor {
    const { trace, branch, actions } = this;
    const table = new StepTable();
    const depths = Array.from({ length: branch + 1 }, (_, at) => at);
    return {
      identity: this.identity.save(),
      owners: this.order.save(),
      steps: table.steps,
      initial: [...this.initial],
      initialAlternatives: [...this.initialAlternatives],
      path: depths.slice(0, branch).map((at) => table.numberOf(actions.share(trace.events[at]!))),
      sleep: depths.map((at) => this.sleepersAt(at).map((step) => table.numberOf(step))),
      pending: depths.map((at) => table.trees(this.pending[at] ?? null)),
      finished: this.finished,
    };
  }

  /** Before the first execution: go on where another search of the same world was saved. */
  restore(saved: SavedDpor): void {
    this.identity.restore(saved.identity);
    this.order.restoreOwners(saved.owners);
    this.initial = saved.initial;
    this.initialAlternatives = saved.initialAlternatives;
    this.finished = saved.finished;
    const steps = saved.steps.map((step) => this.actions.share(restoreStep(step, this.identity)));
    this.walk(saved.path.map((number) => steps[number]!));
    this.branch = saved.path.length;
    let from = 0;
    for (let at = 0; at <= this.branch; at++) {
      this.sleepFrom[at] = from;
      for (const number of saved.sleep[at]!) this.sleep[from++] = steps[number]!;
      this.sleepTo[at] = from;
      this.pending[at] = restoreTrees(saved.pending[at]!, steps);
    }
  }

  /** Run the first steps of an execution again and look at them as when they were new. */
  private walk(path: readonly Action[]): void {
    const { sim, identity, trace } = this;
    sim.choices = this;
    this.restartWorld();
    sim.rewind();
    this.worldRestarted();
    sim.record(true);
    for (const step of path) {
      let process = identity.processes[step.actor];
      if (process === undefined || !canStep(process)) {
        const steps = trace.events.slice(0, trace.length).map(({ actor }) => identity.nameOf(actor));
        process = mustStep(process, identity.nameOf(step.actor), steps);
      }
      this.script = step.choices;
      actAgain(sim, process);
      this.acted(process);
    }
    sim.choices = null;
  }

  private sleepersAt(at: number): readonly Action[] {
    return this.sleep.slice(this.sleepFrom[at], this.sleepTo[at]);
  }
}
