// Every race of the library, and every hypothesis: with the fix off the search alone finds what the story says, with the
// fix on it runs every interleaving and finds nothing else.
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { matchesFinding } from '../../src/scenario/file/expectation.ts';
import { loadScenario } from '../../src/scenario/file/load.ts';
import type { Scenario, ScenarioCase } from '../../src/scenario/file/scenario.ts';
import { OPERATIONS } from '../../src/scenario/operations/index.ts';
import type { CaseSearch } from '../../src/scenario/search/result.ts';
import { CaseSearcher } from '../../src/scenario/search/search-case.ts';

const LIBRARY = fileURLToPath(new URL('../../scenarios/', import.meta.url));
const FOLDERS = ['bugs', 'hypotheses'];
/** No case of the library needs more. */
const EXECUTIONS = 20_000;

function load(file: string): Scenario {
  return loadScenario(file, readFileSync(join(LIBRARY, file), 'utf8'), OPERATIONS);
}

/** Files with a case that shows something only in some orders, and all hypotheses. */
const RACES = FOLDERS.flatMap((folder) => readdirSync(join(LIBRARY, folder)).map((name) => `${folder}/${name}`))
  .filter((file) => file.endsWith('.yaml'))
  .filter((file) => file.startsWith('hypotheses/') || load(file).cases.some((one) => one.expect.possible.length > 0))
  .sort((a, b) => (a < b ? -1 : 1));

/** Every interleaving; or, with `early`, until all that may be found was. */
function search(scenario: Scenario, one: ScenarioCase, early: boolean): CaseSearch {
  const searcher = new CaseSearcher(scenario, one, { strategy: 'dpor', maxExecutions: EXECUTIONS });
  const wanted = new Set(one.expect.possible);
  let known = 0;
  while (searcher.next()) {
    const { findings } = searcher.search;
    if (!early || findings.length === known) continue;
    known = findings.length;
    for (const pattern of wanted) {
      if (findings.some(({ finding }) => matchesFinding(pattern, finding))) wanted.delete(pattern);
    }
    if (wanted.size === 0) return searcher.result('all that may be found was');
  }
  return searcher.result();
}

describe('the races of the library', () => {
  it('are at least fifteen', () => {
    expect(RACES.filter((file) => file.startsWith('bugs/')).length).toBeGreaterThanOrEqual(15);
  });

  it.each(RACES)('%s holds no order by hand', (file) => {
    const text = readFileSync(join(LIBRARY, file), 'utf8');
    expect(text).not.toMatch(/hold:|label:|sleep:/);
  });

  it.each(RACES)('%s is found by the search alone, and verified where it is fixed', { timeout: 120_000 }, (file) => {
    const scenario = load(file);
    for (const one of scenario.cases) {
      const racing = one.expect.possible.length > 0;
      const result = search(scenario, one, racing);
      expect(result.missingFindings, one.name).toEqual([]);
      const unexpected = result.findings.filter(({ expected }) => expected === 'no');
      expect(
        unexpected.map(({ finding }) => `${finding.kind}: ${finding.message}`),
        one.name,
      ).toEqual([]);
      if (racing) continue;
      expect(result.status, `${one.name}: ${result.limits.join()}`).toBe('as-expected');
      if (one.expect.always.length === 0) expect(result.verdict, one.name).toBe('verified');
    }
  });
});
