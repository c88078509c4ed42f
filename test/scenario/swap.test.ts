// The swap test over the library: in random runs of every case, adjacent steps that announced nothing in common change
// places, and every run is repeated as it was. Neither may change the state, the findings or the end; a difference names
// the first step that differs, and is a bug of the model.
import { describe, expect, it } from 'vitest';
import { swapTest } from '../../src/explore/swap.ts';
import { libraryScenarios } from '../support/library.ts';
import { searchStage } from '../support/search-stage.ts';

/** Worlds of more memory take too long to set up, and their bulk steps are tested where they are made. */
const PAGES_MAX = 8192;
const RUNS = 3;

const SCENARIOS = libraryScenarios(PAGES_MAX);

describe('steps that have nothing in common commute', () => {
  it.each(SCENARIOS)('in $file', { timeout: 120_000 }, ({ scenario }) => {
    for (const one of scenario.cases) {
      const world = searchStage(scenario, one);
      world.sim.observer = world.checkers;
      const { failure } = swapTest(world.sim, {
        runs: RUNS,
        atEnd: () => world.checkers.atEnd(),
        maxSteps: 5000,
      });
      expect(failure?.message ?? 'no difference', one.name).toBe('no difference');
    }
  });

  it('is asked of most of the library', () => {
    expect(SCENARIOS.length).toBeGreaterThan(50);
  });
});
