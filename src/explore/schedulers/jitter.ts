// The clock as a search: every step takes its latency, stretched or shrunk at random, and whoever is due first goes.
// Stays near the timelines that a machine would show, where the other samplers treat all orders alike.
import type { Process } from '../../engine/process.ts';
import type { Sim } from '../../engine/sim.ts';
import { Draws } from '../draws.ts';
import { canStep, type Scheduler } from './scheduler.ts';

const PERCENT = 100;

export class TimedJitter implements Scheduler {
  private readonly seed: string;
  private readonly runs: number;
  private readonly jitterPercent: number;
  private readonly draws = new Draws();
  // By slot: when the announced step is due [ns], and a number that decides between steps due together.
  private readonly dueNs: number[] = [];
  private readonly tie: number[] = [];

  /** Each latency is scaled by 100 ± `jitterPercent` percent. */
  constructor(seed: string, runs: number, jitterPercent = 50) {
    this.seed = seed;
    this.runs = runs;
    this.jitterPercent = Math.min(Math.max(Math.floor(jitterPercent), 0), PERCENT);
  }

  newExecution(run: number): boolean {
    this.draws.restart(this.seed, run);
    this.dueNs.length = 0;
    return run < this.runs;
  }

  nextActor(sim: Sim): Process | null {
    const { processes } = sim;
    while (this.dueNs.length < processes.length) this.price(processes[this.dueNs.length]!, sim);
    let best: Process | null = null;
    for (const process of processes)
      if (canStep(process) && (best === null || this.goesFirst(process, best))) best = process;
    if (best !== null) sim.nowNs = Math.max(sim.nowNs, this.dueNs[best.slot]!);
    return best;
  }

  private goesFirst(a: Process, b: Process): boolean {
    const difference = this.dueNs[a.slot]! - this.dueNs[b.slot]!;
    return difference !== 0 ? difference < 0 : this.tie[a.slot]! < this.tie[b.slot]!;
  }

  /** When will the step that `process` has announced be due? */
  private price(process: Process, sim: Sim): void {
    const nominalNs = sim.latencies.durationNs(process, process.announced);
    const percent = PERCENT - this.jitterPercent + this.draws.below(2 * this.jitterPercent + 1);
    this.dueNs[process.slot] = sim.nowNs + Math.floor((nominalNs * percent) / PERCENT);
    this.tie[process.slot] = this.draws.bits();
  }

  choose(_process: Process | null, alternatives: number): number {
    return this.draws.below(alternatives);
  }

  acted(process: Process, sim: Sim): void {
    this.price(process, sim);
  }
}
