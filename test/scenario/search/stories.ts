// Small stories for the tests of shrinking and replay, and a search that tells their findings.
import { loadScenario } from '../../../src/scenario/file/load.ts';
import type { Scenario, ScenarioCase } from '../../../src/scenario/file/scenario.ts';
import { OPERATIONS } from '../../../src/scenario/operations/index.ts';
import type { SearchFinding } from '../../../src/scenario/search/result.ts';
import { CaseSearcher, type SearchOptions } from '../../../src/scenario/search/search-case.ts';

/** A reader that must not see B, a writer of B, and much that has nothing to do with it. */
export const NOISY = `title: a race with much around it
host: {memory: {normal: 64MiB}}
memory:
  ram: {kind: anon, size: 4KiB, content: A}
  other: {kind: anon, size: 16KiB, populate: write}
processes:
  app: {maps: {ram: {}, other: {}}}
actors:
  idle:
    on: app
    do:
      - touch: {memory: other}
      - sleep: 1ms
  writer:
    on: app
    do:
      - touch: {memory: other}       # noise
      - repeat:
          times: 5
          do:
            - cpu.read: {memory: other}
      - cpu.write: {memory: ram, value: B}
        as: written
      # after it
      - cpu.read: {memory: other}
  reader:
    on: app
    do:
      - cpu.read: {memory: other}
      - wait: idle
      - cpu.read: {memory: ram}
        as: look
        shows: {value: A}
      - cpu.read: {memory: other}
expect: {possible: [unexpected-outcome]}
`;

export function load(text: string, file = 'a.yaml'): Scenario {
  return loadScenario(file, text, OPERATIONS);
}

/** The first finding that a search meets. */
export function firstFinding(
  scenario: Scenario,
  one: ScenarioCase = scenario.cases[0]!,
  options: SearchOptions = { strategy: 'random', runs: 200, seed: 'noise', stopAtFinding: true },
): SearchFinding {
  const searcher = new CaseSearcher(scenario, one, options);
  while (searcher.next());
  const [found] = searcher.result().findings;
  if (found === undefined) throw new Error('nothing was found');
  return found;
}
