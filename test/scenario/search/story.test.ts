// The story of a finding: which steps of its run are told, and what is said of them.
import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { loadScenario } from '../../../src/scenario/file/load.ts';
import { OPERATIONS } from '../../../src/scenario/operations/index.ts';
import { CaseSearcher } from '../../../src/scenario/search/search-case.ts';
import { tellFinding } from '../../../src/scenario/search/tell.ts';

describe('the story of a deadlock', () => {
  it('tells who took which lock before whom, and who waited then', () => {
    const file = 'scenarios/hypotheses/type1-h1-unmap-vs-unmap.yaml';
    const scenario = loadScenario(file, readFileSync(file, 'utf8'), OPERATIONS);
    const one = scenario.cases[0]!;
    const searcher = new CaseSearcher(scenario, one, { strategy: 'dpor' });
    while (searcher.next());
    const found = searcher.result().findings.find(({ finding }) => finding.kind === 'deadlock')!;
    const { story } = tellFinding(scenario, one, found, { shrink: 100, fixes: false, nearest: false });
    expect(story!.rows.flatMap(({ actor, notes }) => notes.map((note) => `${actor} ${note}`))).toEqual([
      'first takes device_list_lock of container of vmm, for which second waits',
      'first then waits for iommu.lock of container of vmm',
      'second takes iommu.lock of container of vmm, for which first waits',
      'second then waits for device_list_lock of container of vmm',
    ]);
  });
});
