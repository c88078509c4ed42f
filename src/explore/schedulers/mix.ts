// The strategies of a campaign, mixed: each run draws one from the campaign's seed and its own number. None of them is
// best everywhere: a bug behind a long prologue needs few, well-placed switches (PCT), one that needs many orders of
// racing steps needs them evenly (POS), and the clock finds what a machine would show (timed).
import type { Process } from '../../engine/process.ts';
import type { Sim } from '../../engine/sim.ts';
import { Draws } from '../draws.ts';
import { TimedJitter } from './jitter.ts';
import { Pct } from './pct.ts';
import { PartialOrderSampling } from './pos.ts';
import { RandomWalk } from './random.ts';
import { canStep, type Scheduler } from './scheduler.ts';

/** Strategies that a campaign can mix, as users name them. */
export const MIXED = ['random', 'pct', 'pos', 'timed'] as const;
export type Mixed = (typeof MIXED)[number];

/** One ingredient: a strategy with its parameters. */
interface Ingredient {
  readonly strategy: Mixed;
  /** In words, for reports. */
  readonly words: string;
  readonly weight: number;
  readonly make: (seed: string, horizon: number) => Scheduler;
}

const INGREDIENTS: readonly Ingredient[] = [
  { strategy: 'random', words: 'random walk', weight: 5, make: (seed) => new RandomWalk(seed, Infinity) },
  { strategy: 'pct', words: 'PCT depth 2', weight: 3, make: (seed, horizon) => new Pct(seed, Infinity, 2, horizon) },
  { strategy: 'pct', words: 'PCT depth 3', weight: 3, make: (seed, horizon) => new Pct(seed, Infinity, 3, horizon) },
  { strategy: 'pct', words: 'PCT depth 4', weight: 2, make: (seed, horizon) => new Pct(seed, Infinity, 4, horizon) },
  { strategy: 'pos', words: 'POS', weight: 5, make: (seed) => new PartialOrderSampling(seed, Infinity) },
  { strategy: 'timed', words: 'timed ±30%', weight: 1, make: (seed) => new TimedJitter(seed, Infinity, 30) },
  { strategy: 'timed', words: 'timed ±100%', weight: 1, make: (seed) => new TimedJitter(seed, Infinity, 100) },
];

/** Keeps the draw of a strategy apart from the draws that the strategy makes. */
const WHICH = 1;

/** The schedulers of one subject, made when first drawn. */
export class Mix {
  private readonly seed: string;
  private readonly horizon: number;
  private readonly choices: readonly Ingredient[];
  private readonly schedulers: (Scheduler | undefined)[] = [];
  private readonly draws = new Draws();

  /** `horizon`: steps of a run, roughly, for PCT. `allowed`: which strategies to mix. */
  constructor(seed: string, horizon: number, allowed: readonly Mixed[] = MIXED) {
    this.seed = seed;
    this.horizon = Math.max(1, horizon);
    this.choices = INGREDIENTS.filter(({ strategy }) => allowed.includes(strategy));
    if (this.choices.length === 0) throw new Error('a mix needs at least one strategy');
  }

  /** Does one of these runs need to know how long runs are? */
  needsHorizon(runs: readonly number[]): boolean {
    return runs.some((run) => this.choices[this.indexOf(run)]!.strategy === 'pct');
  }

  /** The scheduler of run `run`, and the strategy in words. */
  of(run: number): { readonly scheduler: Scheduler; readonly words: string } {
    const index = this.indexOf(run);
    const { make, words } = this.choices[index]!;
    const scheduler = this.schedulers[index] ?? make(this.seed, this.horizon);
    this.schedulers[index] = scheduler;
    return { scheduler, words };
  }

  private indexOf(run: number): number {
    const { choices, draws } = this;
    draws.restart(this.seed, run, WHICH);
    let left = draws.below(choices.reduce((sum, { weight }) => sum + weight, 0));
    return choices.findIndex(({ weight }) => {
      left -= weight;
      return left < 0;
    });
  }
}

/** Everybody in turn as far as it can go, always the first alternative: the run that tells how long runs are. */
export class InTurn implements Scheduler {
  newExecution(): boolean {
    return true;
  }

  nextActor(sim: Sim): Process | null {
    return sim.processes.find(canStep) ?? null;
  }

  choose(): number {
    return 0;
  }
}
