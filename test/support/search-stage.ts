// A case set up as a search has it: checked, to be rewound, its state in a digest after every step.
import type { Scenario, ScenarioCase } from '../../src/scenario/file/scenario.ts';
import { setStage } from '../../src/scenario/world/setup.ts';
import type { World } from '../../src/scenario/world/world.ts';

export function searchStage(scenario: Scenario, one: ScenarioCase): World {
  const { world } = setStage(scenario, one, {
    seed: scenario.seed,
    checked: true,
    rewindable: true,
    digested: true,
    stories: false,
    failuresAreFindings: true,
  });
  return world;
}
