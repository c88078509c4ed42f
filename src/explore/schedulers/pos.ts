// POS, partial order sampling (Yuan, Yang, Gu: "Partial order aware concurrency sampling", CAV 2018): every announced
// step has a random priority, the highest goes; steps that race with it draw again. Orders of racing steps come out more
// evenly than under a random walk, which spends its luck on orders that make no difference.
import type { Process } from '../../engine/process.ts';
import type { Sim } from '../../engine/sim.ts';
import { mayConflict } from '../../engine/step.ts';
import { Draws } from '../draws.ts';
import { highest } from './priorities.ts';
import type { Scheduler } from './scheduler.ts';

export class PartialOrderSampling implements Scheduler {
  private readonly seed: string;
  private readonly runs: number;
  private readonly draws = new Draws();
  // By slot: the priority of the announced step.
  private readonly priorities: number[] = [];

  constructor(seed: string, runs: number) {
    this.seed = seed;
    this.runs = runs;
  }

  newExecution(run: number): boolean {
    this.draws.restart(this.seed, run);
    this.priorities.length = 0;
    return run < this.runs;
  }

  nextActor(sim: Sim): Process | null {
    return highest(sim, this.priorities, this.draws);
  }

  choose(_process: Process | null, alternatives: number): number {
    return this.draws.below(alternatives);
  }

  acted(process: Process, sim: Sim): void {
    const { acted } = process;
    this.priorities[process.slot] = this.draws.fraction();
    for (const other of sim.processes) {
      if (other === process || other.slot >= this.priorities.length || other.state !== 'live') continue;
      if (mayConflict(acted, other.announced)) this.priorities[other.slot] = this.draws.fraction();
    }
  }
}
