// What random runs come to beside what explore runs come to: a hole in what actors announce shows as an outcome that explore
// does not know.
import { expect } from 'vitest';
import type { ExploreOptions } from '../../../src/explore/search.ts';
import { Search } from '../../../src/explore/search.ts';
import type { Scenario, ScenarioCase } from '../../../src/scenario/file/scenario.ts';
import { searchStage } from '../../support/search-stage.ts';

/** What executions came to: state, findings, end. */
export function outcomes(
  scenario: Scenario,
  one: ScenarioCase,
  options: ExploreOptions,
): Map<string, readonly string[]> {
  const world = searchStage(scenario, one);
  const { sim, checkers } = world;
  sim.observer = checkers;
  const search = new Search(sim, { ...options, atEnd: () => checkers.atEnd() });
  const { scheduler, runner } = search;
  const found = new Map<string, readonly string[]>();
  // A search may try something out in the world as it ended.
  const ended = scheduler.executionEnded?.bind(scheduler);
  scheduler.executionEnded = (): void => {
    const findings = runner.findings.map(({ identity }) => identity).sort();
    found.set([sim.stateDigest, ...findings, runner.end].join(' '), findings);
    ended?.(sim);
  };
  while (search.next());
  if (scheduler.finished !== undefined) {
    expect(scheduler.finished).toBe(true);
    expect(search.blocked).toBe(0);
  }
  return found;
}

/** Throws when a sample comes to something that explore does not. What explore came to: findings by outcome. */
export function expectAllExplored(scenario: Scenario, one: ScenarioCase): Map<string, readonly string[]> {
  const explored = outcomes(scenario, one, { strategy: 'dpor', maxExecutions: 20_000 });
  for (const strategy of ['random', 'pct'] as const) {
    for (const [outcome] of outcomes(scenario, one, { strategy, seed: 'orders', runs: 600 }))
      expect([...explored.keys()]).toContain(outcome);
  }
  return explored;
}

/** Kinds of findings that some outcome has. */
export const kindsOf = (found: readonly (readonly string[])[]): ReadonlySet<string> =>
  new Set(found.flat().map((identity) => identity.split('|')[0]!));
