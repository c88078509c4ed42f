// The library's entry: set a program up once, run it under a strategy, and say what was found and what that proves.
import type { Sim } from '../engine/sim.ts';
import type { Program } from './program.ts';
import { type ExploreOptions, type ExploreResult, Search } from './search.ts';
import { checkCall, setUpWorld, withSetUp } from './set-up.ts';
import { parseToken } from './token.ts';
import { exploreWorlds } from './worlds.ts';

export type { Estimate } from './estimate.ts';
export type { ExploreOptions, ExploreResult, FoundFinding, Strategy } from './search.ts';

const OPTIONS: Readonly<Record<keyof ExploreOptions, true>> = {
  strategy: true,
  seed: true,
  runs: true,
  depth: true,
  horizon: true,
  bound: true,
  jitterPercent: true,
  token: true,
  maxExecutions: true,
  stopAtFinding: true,
  checked: true,
  maxSteps: true,
  gatesChecked: true,
  atEnd: true,
};

/**
 * Explore a program. `setup` builds it once; executions rewind it. Where the set-up itself chooses, an exhaustive search
 * builds and searches one world after the other, a sampler the one that its seed gives.
 * Throws Error when the set-up itself reports a failure, for options that cannot be, and for those that nobody knows.
 */
export function explore(setup: (sim: Program) => void, options: ExploreOptions = {}): ExploreResult {
  checkCall('explore', setup, options, OPTIONS);
  const { strategy = 'dpor', token } = options;
  const exhaustive = strategy === 'dpor' || strategy === 'bounded';
  const replayed = strategy === 'replay' && token !== undefined ? (parseToken(token).setUp ?? []) : null;
  const world = setUpWorld(setup, options, exhaustive ? [] : replayed);
  if (exhaustive) return exploreWorlds(setup, world, options);
  const result = exploreSim(world.sim, options);
  const chosen = world.choices.length;
  if (chosen === 0) return result;
  // One world was searched of several: what its choices would have given otherwise was not looked at.
  const limit = `${chosen} choice${chosen === 1 ? '' : 's'} made by the set-up, outside of actors: one value of each was searched`;
  const findings = result.findings.map((found) => ({ ...found, token: withSetUp(found.token, world.choices) }));
  return Object.defineProperties({} as ExploreResult, {
    ...Object.getOwnPropertyDescriptors(result),
    complete: { value: false, enumerable: true },
    findings: { value: findings, enumerable: true },
    limits: { value: [...result.limits, limit], enumerable: true },
  });
}

/** As `explore`, for a world that is already set up: its present state is where every execution starts. */
export function exploreSim(sim: Sim, options: ExploreOptions = {}): ExploreResult {
  const search = new Search(sim, options);
  while (search.next());
  return search.result();
}
