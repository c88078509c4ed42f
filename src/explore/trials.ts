// Partial executions that a search makes between those that count: to see how a step turns out in another order. The
// world is rewound and left as the trial ends.
import type { Process } from '../engine/process.ts';
import type { ChoiceSource, Sim } from '../engine/sim.ts';
import { Action, type Actions, NO_CHOICES } from './action.ts';
import type { Identity } from './identity.ts';
import { actAgain, canStep, fewerAlternatives, mustStep } from './schedulers/scheduler.ts';
import type { Trace } from './trace.ts';

export class Trials implements ChoiceSource {
  /** How many were made. */
  count = 0;
  /** Choices before the first step. */
  initial: readonly number[] = NO_CHOICES;
  private readonly sim: Sim;
  private readonly identity: Identity;
  private readonly trace: Trace;
  private readonly actions: Actions;
  private readonly tried = new Action();
  private script: readonly number[] = NO_CHOICES;
  private made = 0;
  // The steps of this trial.
  private readonly path: Action[] = [];
  private done = 0;

  constructor(sim: Sim, identity: Identity, trace: Trace, actions: Actions) {
    this.sim = sim;
    this.identity = identity;
    this.trace = trace;
    this.actions = actions;
  }

  choose(process: Process | null, alternatives: number, label: string): number {
    const value = this.script[this.made++] ?? 0;
    if (value >= alternatives) throw fewerAlternatives(process, alternatives, label, value).after(this.stepsSoFar());
    return value;
  }

  /** Could `last` be run after the first `at` steps of the trace and then `steps`? */
  canRun(at: number, steps: readonly Action[], count: number, last: Action): boolean {
    const process = this.run(at, steps, count, last.actor);
    return process !== undefined && canStep(process);
  }

  /** Run the first `at` steps of the trace, `steps` and `last`: the last step as it really turns out. */
  tryOut(at: number, steps: readonly Action[], count: number, last: Action): Action {
    const found = this.run(at, steps, count, last.actor);
    const process = found !== undefined && canStep(found) ? found : this.must(found, last.actor);
    this.sim.record(true);
    this.act(last);
    this.tried.copy(last);
    this.tried.setAccesses(process.acted, this.identity, true);
    return this.actions.share(this.tried);
  }

  private run(at: number, steps: readonly Action[], count: number, actor: number): Process | undefined {
    const { sim, identity, trace } = this;
    this.count++;
    this.done = 0;
    sim.choices = this;
    this.script = this.initial;
    this.made = 0;
    identity.restart();
    sim.allotted = identity.allotted;
    sim.record(false);
    sim.rewind();
    for (let i = 0; i < at; i++) this.act(trace.events[i]!);
    for (let i = 0; i < count; i++) this.act(steps[i]!);
    while (identity.news) identity.meetNext();
    return identity.processes[actor];
  }

  private act(step: Action): void {
    const { identity } = this;
    while (identity.news) identity.meetNext();
    this.script = step.choices;
    this.made = 0;
    const process = identity.processes[step.actor];
    actAgain(this.sim, process ?? this.must(process, step.actor));
    this.path[this.done++] = step;
  }

  private must(process: Process | undefined, actor: number): Process {
    return mustStep(process, this.identity.nameOf(actor), this.stepsSoFar());
  }

  private stepsSoFar(): string[] {
    return this.path.slice(0, this.done).map(({ actor }) => this.identity.nameOf(actor));
  }
}
