// A case set up once to be run many times: what every strategy, replay and campaign starts from.
import type { Process } from '../../engine/process.ts';
import type { Sim, StepObserver } from '../../engine/sim.ts';
import type { Step } from '../../engine/step.ts';
import type { RunLimits } from '../../explore/runner.ts';
import type { Scenario, ScenarioCase } from '../file/scenario.ts';
import { setStage } from '../world/setup.ts';
import type { World } from '../world/world.ts';

export interface SubjectOptions {
  readonly seed: string;
  /** Throw when a step touches what it did not announce. */
  readonly checked: boolean;
  /** Findings tell their steps. Costs time at every step: for replays. */
  readonly stories: boolean;
}

export class Subject {
  readonly scenario: Scenario;
  readonly one: ScenarioCase;
  readonly world: World;
  /** Steps that somebody acted, in any execution. */
  readonly acted = new Set<Step>();
  /** Labels that somebody acted in a search that this one goes on with. */
  readonly reached = new Set<string>();

  /** Throws ScenarioError when the world cannot be built as described. */
  constructor(scenario: Scenario, one: ScenarioCase, options: SubjectOptions) {
    this.scenario = scenario;
    this.one = one;
    const { world } = setStage(scenario, one, {
      ...options,
      rewindable: true,
      digested: false,
      failuresAreFindings: true,
    });
    this.world = world;
    const { checkers } = world;
    const { acted } = this;
    let last: Step | null = null;
    const observer: StepObserver = {
      stepActed(process: Process, changesFrom: number): void {
        const { step } = process.acted;
        if (step !== last) {
          acted.add(step);
          last = step;
        }
        checkers.stepActed(process, changesFrom);
      },
    };
    world.sim.observer = observer;
  }

  get sim(): Sim {
    return this.world.sim;
  }

  /** For the explorer: the end checkers look at every execution that ended by itself. */
  get limits(): RunLimits {
    return { atEnd: () => this.world.checkers.atEnd() };
  }

  /** Labels acted so far. */
  labels(): ReadonlySet<string> {
    return new Set([...this.reached, ...[...this.acted].map(({ label }) => label)]);
  }
}
