// Which cases of a scenario a command line means: --kernel picks the cases of that kernel, or makes one; --with and
// --without change every case.
import { Kernel, KernelError } from '../kernel/index.ts';
import { canonicalKernel } from './catalogue.ts';
import { ScenarioError } from './diagnostic.ts';
import { kernelDiagnostic } from './load-cases.ts';
import type { Scenario, ScenarioCase } from './scenario.ts';

export interface CaseChanges {
  readonly kernel?: string;
  readonly with?: readonly string[];
  readonly without?: readonly string[];
}

/**
 * The cases to run. A kernel that no case names gives one case, the scenario itself on that kernel.
 * What is switched here wins over what the case switches. Throws ScenarioError for kernels and behaviours that cannot be.
 */
export function selectCases(scenario: Scenario, changes: CaseChanges): readonly ScenarioCase[] {
  try {
    const selected = changes.kernel === undefined ? scenario.cases : onKernel(scenario, changes.kernel);
    return selected.map((one) => changed(one, changes.with ?? [], changes.without ?? []));
  } catch (error) {
    if (error instanceof KernelError) throw new ScenarioError([kernelDiagnostic(error)]);
    throw error;
  }
}

function onKernel(scenario: Scenario, asked: string): readonly ScenarioCase[] {
  const kernel = canonicalKernel(asked);
  const there = scenario.cases.filter((one) => canonicalKernel(one.kernel) === kernel);
  return there.length > 0 ? there : [{ ...scenario.base, name: kernel, kernel }];
}

function changed(one: ScenarioCase, on: readonly string[], off: readonly string[]): ScenarioCase {
  const idOf = (argument: string): string => argument.split('=')[0]!;
  const switched = new Set([...on, ...off].map(idOf));
  const result = {
    ...one,
    name: [one.name, ...on.map((id) => `with ${id}`), ...off.map((id) => `without ${id}`)].join(', '),
    with: [...one.with.filter((id) => !switched.has(idOf(id))), ...on],
    without: [...one.without.filter((id) => !switched.has(idOf(id))), ...off],
  };
  // Throws when no kernel can be so; the loader has judged the case as written.
  new Kernel(result.kernel, { with: result.with, without: result.without, config: result.host.config ?? {} });
  return result;
}
