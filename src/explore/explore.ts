// The library's entry: set a program up once, run it under a strategy, and say what was found and what that proves.
import { Sim } from '../engine/sim.ts';
import { Program } from './program.ts';
import { type ExploreOptions, type ExploreResult, Search } from './search.ts';

export type { Estimate } from './estimate.ts';
export type { ExploreOptions, ExploreResult, FoundFinding, Strategy } from './search.ts';

/** Explore a program. `setup` builds it once; executions rewind it. */
export function explore(setup: (sim: Program) => void, options: ExploreOptions = {}): ExploreResult {
  const sim = new Sim({ seed: String(options.seed ?? '0'), checked: options.checked ?? true, journaled: true });
  setup(new Program(sim));
  return exploreSim(sim, options);
}

/** As `explore`, for a world that is already set up: its present state is where every execution starts. */
export function exploreSim(sim: Sim, options: ExploreOptions = {}): ExploreResult {
  const search = new Search(sim, options);
  while (search.next());
  return search.result();
}
