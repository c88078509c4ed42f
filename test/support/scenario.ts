// Scenarios written in tests: loaded with every operation, run checked.
import { loadScenario } from '../../src/scenario/file/load.ts';
import { OPERATIONS } from '../../src/scenario/operations/index.ts';
import type { CaseResult } from '../../src/scenario/result.ts';
import { runScenario } from '../../src/scenario/run.ts';

/** The result of the first case. */
export function resultOf(text: string): CaseResult {
  const [result] = runScenario(loadScenario('test.yaml', text, OPERATIONS), { checked: true, explain: 'none' });
  return result!;
}

/** Kinds of what is found in the first case, in order; throws when a step did not end as it says. */
export function findingsOf(text: string): readonly string[] {
  const { status, failed, findings } = resultOf(text);
  if (status === 'incomplete' || failed.length > 0)
    throw new Error(failed.map(({ operation, message }) => `${operation}: ${message}`).join('; ') || status);
  return findings.map(({ finding }) => finding.kind);
}
