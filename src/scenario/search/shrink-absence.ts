// A run that lacks a finding which every run must show, made small like a counterexample (shrink-case.ts).
import { formatPattern } from '../file/expectation.ts';
import type { Scenario, ScenarioCase } from '../file/scenario.ts';
import type { Absent } from './result.ts';
import { shrinkCase } from './shrink-case.ts';
import { caseToken, hashOf, parseCaseToken, printCaseToken } from './token.ts';

/**
 * The run of `text`, a token of this case, in `limit` executions; undefined when it does not lack the finding (any more),
 * or when the scenario does not ask for it.
 */
export function shrinkAbsence(
  scenario: Scenario,
  one: ScenarioCase,
  text: string,
  limit: number,
): Required<Pick<Absent, 'token' | 'shrunk'>> | undefined {
  const { schedule, omitted, seed, shows } = parseCaseToken(text);
  const lacks = one.expect.always.find((pattern) => hashOf(formatPattern(pattern)) === shows?.hash);
  if (lacks === undefined || shows === undefined || limit === 0) return undefined;
  const small = shrinkCase(scenario, one, { schedule, omitted, seed, lacks }, limit);
  if (small === undefined) return undefined;
  const { before, after, executions, minimal } = small;
  const token = printCaseToken(caseToken(scenario, one, seed, small.schedule, { omitted: small.omitted, shows }));
  return { token, shrunk: { before, after, executions, minimal, omitted: small.omitted } };
}
