// The finding that the README shows is what the tool prints.
import { readFileSync } from 'node:fs';
import { expect, it } from 'vitest';
import { renderScenario } from '../../src/report/text.ts';
import { loadScenario } from '../../src/scenario/file/load.ts';
import { OPERATIONS } from '../../src/scenario/operations/index.ts';
import { runScenario } from '../../src/scenario/run.ts';

it('the README shows what the tool prints', () => {
  const file = 'scenarios/reports/memlock-q35-4gib-97-percent.yaml';
  const scenario = loadScenario(file, readFileSync(file, 'utf8'), OPERATIONS);
  const cases = runScenario(scenario, { explain: 'all' });
  const printed = renderScenario({ file, title: scenario.title, cases }, { verbose: true, width: 100 });
  expect(readFileSync('README.md', 'utf8')).toContain(printed.trim());
});
