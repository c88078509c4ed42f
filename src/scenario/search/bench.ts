// A case, whole or with parts left out, on which schedules are tried one after the other: what replaying, shrinking and
// explaining share. Every step acted is known by the step of the script that it belongs to.
import type { Finding } from '../../engine/finding.ts';
import type { Process } from '../../engine/process.ts';
import type { StepObserver } from '../../engine/sim.ts';
import { type ExecutionEnd, Runner } from '../../explore/runner.ts';
import { type Budget, Trials, type Wanted } from '../../explore/shrink.ts';
import type { Scenario, ScenarioCase } from '../file/scenario.ts';
import type { ScriptStep } from '../file/step.ts';
import { omit } from './omit.ts';
import { Subject } from './subject.ts';

export interface BenchOptions {
  readonly seed: string;
  /** Actors and steps left out, as tokens name them. */
  readonly omitted: readonly string[];
  readonly wanted: Wanted;
  readonly budget: Budget;
  /** Findings tell their steps. */
  readonly stories: boolean;
}

export class Bench {
  readonly subject: Subject;
  readonly runner: Runner;
  readonly trials: Trials;
  /** Paths of `omitted` that the scenario does not have. */
  readonly unknown: readonly string[];
  /** By step of the last execution: the step of a script that it belongs to. */
  readonly owners: (ScriptStep | undefined)[] = [];
  /** Called after every step, with its number (from 0), when somebody wants to know. */
  listener: ((process: Process, changesFrom: number, step: number) => void) | null = null;
  /** Findings of the set-up. */
  readonly findingsBefore: number;

  /** Throws ScenarioError or KernelError when the world cannot be built. */
  constructor(scenario: Scenario, one: ScenarioCase, { seed, omitted, wanted, budget, stories }: BenchOptions) {
    const { scenario: smaller, unknown } = omit(scenario, omitted);
    this.unknown = unknown;
    this.subject = new Subject(smaller, one, { seed, checked: true, stories });
    const { sim } = this.subject;
    const inner = sim.observer!;
    const observer: StepObserver = {
      stepActed: (process, changesFrom) => {
        inner.stepActed(process, changesFrom);
        this.stepActed(process, changesFrom);
      },
    };
    sim.observer = observer;
    sim.onRewind(() => {
      this.owners.length = 0;
    });
    this.findingsBefore = sim.findings.length;
    this.runner = new Runner(sim, this.subject.limits);
    this.trials = new Trials(this.runner, wanted, budget);
  }

  /** Findings of the last execution. */
  get findings(): readonly Finding[] {
    return this.runner.findings;
  }

  get end(): ExecutionEnd {
    return this.runner.end;
  }

  private stepActed(process: Process, changesFrom: number): void {
    this.owners.push(this.subject.world.performing.actedFor(process));
    this.listener?.(process, changesFrom, this.owners.length - 1);
  }
}
