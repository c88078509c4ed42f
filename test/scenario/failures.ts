// A scenario written in a test: what in it was not as expected.
import { expect } from 'vitest';
import { loadScenario } from '../../src/scenario/file/load.ts';
import { OPERATIONS } from '../../src/scenario/operations/index.ts';
import { runScenario } from '../../src/scenario/run.ts';
import { CaseSearcher } from '../../src/scenario/search/search-case.ts';

/** Steps, findings and milestones that were not as the scenario expects; it must come to its end. */
export function failures(text: string): readonly string[] {
  const scenario = loadScenario('test.yaml', text, OPERATIONS);
  const [result] = runScenario(scenario, { checked: true });
  const { status, failed, findings, missingFindings } = result!;
  expect(status).not.toBe('incomplete');
  return [
    ...failed.map(({ operation, message }) => `${operation}: ${message}`),
    ...findings.filter(({ expected }) => expected === 'no').map(({ finding }) => finding.message),
    ...missingFindings.map(({ what }) => `missing: ${what}`),
  ];
}

/** What any interleaving shows that the scenario does not expect; all of them must have been run. */
export function everyOrder(text: string): readonly string[] {
  const scenario = loadScenario('test.yaml', text, OPERATIONS);
  const searcher = new CaseSearcher(scenario, scenario.cases[0]!, { strategy: 'dpor', maxExecutions: 20_000 });
  while (searcher.next());
  const { verdict, findings } = searcher.result();
  const shown = findings.filter(({ expected }) => expected === 'no').map(({ finding }) => finding.message);
  return verdict === 'incomplete' ? [...shown, 'incomplete'] : shown;
}
