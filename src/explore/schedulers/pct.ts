// PCT, probabilistic concurrency testing (Burckhardt, Kothari, Musuvathi, Nagarakatte: "A randomized scheduler with
// probabilistic guarantees of finding bugs", ASPLOS 2010): always the actor of highest priority; at depth - 1 steps drawn
// beforehand, whoever stepped falls below everybody. Finds a bug of depth d with probability >= 1 / (n * k^(d-1)).
//
// Departure: actors started on the way draw their priority among the initial ones, so that n need not be known.
import type { Process } from '../../engine/process.ts';
import type { Sim } from '../../engine/sim.ts';
import { Draws } from '../draws.ts';
import { highest } from './priorities.ts';
import type { Scheduler } from './scheduler.ts';

export class Pct implements Scheduler {
  private readonly seed: string;
  private readonly runs: number;
  private readonly depth: number;
  /** Steps among which change points are drawn; 0 until run 0, which has none, has told. */
  horizon: number;
  private readonly draws = new Draws();
  // By slot. Initial priorities are fractions; those of change point i (from 0) are i - depth, below all of them.
  private readonly priorities: number[] = [];
  private readonly changeAt: number[] = [];
  private steps = 0;

  /** `horizon`: steps of the longest run, when known; otherwise that of run 0 is taken. */
  constructor(seed: string, runs: number, depth: number, horizon = 0) {
    if (!(depth >= 1)) throw new Error(`a PCT depth is at least 1, not ${depth}`);
    this.seed = seed;
    this.runs = runs;
    this.depth = depth;
    this.horizon = horizon;
  }

  newExecution(run: number): boolean {
    this.draws.restart(this.seed, run);
    this.priorities.length = 0;
    this.changeAt.length = 0;
    this.steps = 0;
    if (this.horizon > 0) {
      for (let i = 1; i < this.depth; i++) this.changeAt.push(1 + this.draws.below(this.horizon));
    }
    return run < this.runs;
  }

  nextActor(sim: Sim): Process | null {
    return highest(sim, this.priorities, this.draws);
  }

  choose(_process: Process | null, alternatives: number): number {
    return this.draws.below(alternatives);
  }

  acted(process: Process): void {
    this.steps++;
    for (let i = 0; i < this.changeAt.length; i++) {
      if (this.changeAt[i] === this.steps) this.priorities[process.slot] = i - this.depth;
    }
  }

  executionEnded(): void {
    if (this.horizon === 0) this.horizon = Math.max(this.steps, 1);
  }
}
