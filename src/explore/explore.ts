// The library's entry: set a program up once, run it under a strategy, and say what was found and what that proves.
import { Sim } from '../engine/sim.ts';
import { Program } from './program.ts';
import { type ExploreOptions, type ExploreResult, Search } from './search.ts';

export type { Estimate } from './estimate.ts';
export type { ExploreOptions, ExploreResult, FoundFinding, Strategy } from './search.ts';

/**
 * Explore a program. `setup` builds it once; executions rewind it.
 * Throws Error when the set-up itself reports a failure, and for options that cannot be.
 */
export function explore(setup: (sim: Program) => void, options: ExploreOptions = {}): ExploreResult {
  const sim = new Sim({ seed: String(options.seed ?? '0'), checked: options.checked ?? true, journaled: true });
  setup(new Program(sim));
  const broken = sim.findings[0];
  if (broken !== undefined) throw new Error(`the set-up itself fails, before any actor steps: ${broken.message}`);
  const chosen = sim.setUpChoices;
  const result = exploreSim(sim, options);
  if (chosen === 0) return result;
  // One world was searched of several: what its choices would have given otherwise was not looked at.
  const limit = `${chosen} choice${chosen === 1 ? '' : 's'} made by the set-up, outside of actors: one value of each was searched`;
  return Object.defineProperties({} as ExploreResult, {
    ...Object.getOwnPropertyDescriptors(result),
    complete: { value: false, enumerable: true },
    limits: { value: [...result.limits, limit], enumerable: true },
  });
}

/** As `explore`, for a world that is already set up: its present state is where every execution starts. */
export function exploreSim(sim: Sim, options: ExploreOptions = {}): ExploreResult {
  const search = new Search(sim, options);
  while (search.next());
  return search.result();
}
