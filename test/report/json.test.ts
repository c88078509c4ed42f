// Reports for programs.
import { expect, it } from 'vitest';
import { renderJson } from '../../src/report/json.ts';
import { caseResult, pinFailure, scenarioResult } from './sample.ts';

it('has a version, the tally and every case', () => {
  const report = JSON.parse(renderJson([scenarioResult(caseResult())], { version: '0.1.0' }));
  expect(report).toMatchObject({
    version: 1,
    pinsim: '0.1.0',
    tally: { scenarios: 1, cases: 1, asExpected: 1, notAsExpected: 0, incomplete: 0 },
  });
  expect(report.scenarios[0].cases[0]).toMatchObject({ kernel: 'v5.15', status: 'as-expected', digest: '00c0ffee' });
});

it('keeps integers exact: as numbers where that is safe, as text beyond', () => {
  const finding = { ...pinFailure, details: { small: 4096n, large: 0xffff_ffff_ffff_f000n } };
  const result = scenarioResult(caseResult({ findings: [{ finding, expected: 'no', replay: 'r', preventedBy: [] }] }));
  const [one] = JSON.parse(renderJson([result], { version: '0' })).scenarios[0].cases[0].findings;
  expect(one.finding.details).toEqual({ small: 4096, large: '18446744073709547520' });
});
