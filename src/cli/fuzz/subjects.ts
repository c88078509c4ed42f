// The cases of a campaign, and how often each is due. Known before anything runs: the plan must not depend on what a
// machine measured.
import type { Scenario, ScenarioCase } from '../../scenario/file/scenario.ts';
import type { ScriptStep } from '../../scenario/file/step.ts';

/** A case with its place among the files of the campaign. */
export interface FuzzCase {
  readonly scenario: Scenario;
  readonly one: ScenarioCase;
  readonly file: number;
  readonly index: number;
  readonly stride: number;
}

const PAGE = 4096;
/** Pages of memory, or steps of scripts, that make a case one degree larger. */
const LARGE_PAGES = 8192;
const LARGE_OPERATIONS = 500;
const STRIDE_MAX = 1024;
/** From this stride on a case is large: its workload is left alone. */
export const LARGE_STRIDE = 16;

/** Every case with its stride; the smallest case is always due. */
export function casesOf(
  scenarios: readonly Scenario[],
  select: (scenario: Scenario) => readonly ScenarioCase[],
): readonly FuzzCase[] {
  const cases = scenarios.flatMap((scenario, file) => {
    const stride = strideOf(scenario);
    return select(scenario).map((one, index): FuzzCase => ({ scenario, one, file, index, stride }));
  });
  const least = Math.min(...cases.map(({ stride }) => stride));
  return cases.map((one) => ({ ...one, stride: one.stride / least }));
}

/** A power of two that grows with the memory of a scenario and the length of its scripts. */
function strideOf(scenario: Scenario): number {
  const pages = scenario.memory.reduce((sum, { spec }) => sum + Number(spec.size) / PAGE, 0);
  const operations = scenario.actors.reduce((sum, { script }) => sum + operationsIn(script.steps), 0);
  const weight = Math.max(pages / LARGE_PAGES, operations / LARGE_OPERATIONS);
  let stride = 1;
  while (stride < weight && stride < STRIDE_MAX) stride *= 2;
  return stride;
}

function operationsIn(steps: readonly ScriptStep[]): number {
  return steps.reduce((sum, step) => {
    if (step.kind === 'repeat') return sum + step.times * operationsIn(step.script.steps);
    if (step.kind === 'choose') return sum + Math.max(...step.scripts.map(({ steps: inner }) => operationsIn(inner)));
    return sum + 1;
  }, 0);
}
