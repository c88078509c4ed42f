// A world that was rewound is as good as one just set up, over the library: the same random run takes the same steps over
// the same objects (under the same ids) to the same state, findings and end. A difference names the first step that
// differs: something that executions share and the rewind does not put back, which is a bug of the model.
import { describe, expect, it } from 'vitest';
import { UndeclaredAccess } from '../../src/engine/sim.ts';
import { Runner } from '../../src/explore/runner.ts';
import { Mix } from '../../src/explore/schedulers/mix.ts';
import type { Scenario, ScenarioCase } from '../../src/scenario/file/scenario.ts';
import { libraryScenarios } from '../support/library.ts';
import { searchStage } from '../support/search-stage.ts';

/** Worlds of more memory take too long to set up. */
const PAGES_MAX = 2048;
/** Runs in the world that is rewound; the last one is run in a new world, too. */
const RUNS = 4;

const SCENARIOS = libraryScenarios(PAGES_MAX);

/** A case set up, and a way to do its random runs: each as lines, the state after every step among them. */
function runsOf(scenario: Scenario, one: ScenarioCase): (run: number) => readonly string[] {
  const world = searchStage(scenario, one);
  const { sim, checkers } = world;
  let lines: string[] = [];
  sim.observer = {
    stepActed: (process, changesFrom) => {
      const { step, count, kind, did, lo, hi } = process.acted;
      const touched = Array.from(
        { length: count },
        (_, i) => `${kind[i]}/${did[i]} ${lo[i]}-${hi[i]} ${sim.describe(lo[i]!)}`,
      );
      lines.push(`${process.name} ${step.label}: ${touched.join(', ')}; then ${sim.stateDigest}`);
      checkers.stepActed(process, changesFrom);
    },
  };
  const runner = new Runner(sim, { atEnd: () => checkers.atEnd(), maxSteps: 2000 });
  const mix = new Mix('rewind', 100);
  return (run) => {
    lines = [];
    runner.limitsReached.clear();
    try {
      runner.execute(mix.of(run).scheduler, run);
    } catch (error) {
      if (error instanceof UndeclaredAccess) return [...lines, error.message];
      throw error;
    }
    const found = runner.findings.map(({ identity, message }) => `${identity}: ${message}`);
    return [...lines, runner.end, ...found, ...runner.limitsReached.keys(), sim.stateDigest];
  };
}

describe('a rewound world', () => {
  it.each(SCENARIOS)('does the same as a new one in $file', { timeout: 120_000 }, ({ scenario }) => {
    for (const one of scenario.cases) {
      const rewound = runsOf(scenario, one);
      for (let run = 0; run < RUNS - 1; run++) rewound(run);
      const again = rewound(RUNS - 1);
      const fresh = runsOf(scenario, one)(RUNS - 1);
      const at = fresh.findIndex((line, index) => line !== again[index]);
      expect(again[at], `${one.name}, step ${at}`).toBe(fresh[at]);
      expect(again.length).toBe(fresh.length);
    }
  });

  it('is compared for most of the library', () => {
    expect(SCENARIOS.length).toBeGreaterThan(50);
  });
});
