// Uniform random walk: at every step each enabled actor is equally likely, and so is each alternative of a choice.
import type { Process } from '../../engine/process.ts';
import type { Sim } from '../../engine/sim.ts';
import { Draws } from '../draws.ts';
import { enabledProcesses, type Scheduler } from './scheduler.ts';

export class RandomWalk implements Scheduler {
  private readonly seed: string;
  private readonly runs: number;
  private readonly draws = new Draws();
  private readonly enabled: Process[] = [];

  constructor(seed: string, runs: number) {
    this.seed = seed;
    this.runs = runs;
  }

  newExecution(run: number): boolean {
    this.draws.restart(this.seed, run);
    return run < this.runs;
  }

  nextActor(sim: Sim): Process | null {
    const enabled = enabledProcesses(sim, this.enabled);
    return enabled.length === 0 ? null : enabled[this.draws.below(enabled.length)]!;
  }

  choose(_process: Process | null, alternatives: number): number {
    return this.draws.below(alternatives);
  }
}
