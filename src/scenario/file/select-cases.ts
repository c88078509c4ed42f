// Which cases of a scenario a command line means: --case picks one by name, --kernel those of that kernel, or makes one;
// --with and --without change every case.
import { checkAsked, Kernel, KernelError } from '../../kernel/index.ts';
import { canonicalKernel } from '../catalogue.ts';
import { didYouMean, nameList, ScenarioError } from './diagnostic.ts';
import { kernelDiagnostic } from './load-cases.ts';
import type { Scenario, ScenarioCase } from './scenario.ts';

export interface CaseChanges {
  /** Name of one case, or the start of one name only. */
  readonly case?: string;
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
    const { kernel } = changes;
    const selected =
      changes.case !== undefined
        ? [caseNamed(scenario, changes.case, kernel)]
        : kernel === undefined
          ? scenario.cases
          : onKernel(scenario, kernel);
    return selected.map((one) => switched(one, changes.with ?? [], changes.without ?? []));
  } catch (error) {
    if (error instanceof KernelError) throw new ScenarioError([kernelDiagnostic(error)]);
    throw error;
  }
}

function onKernel(scenario: Scenario, asked: string): readonly ScenarioCase[] {
  const kernel = canonicalKernel(asked);
  const there = scenario.cases.filter((one) => canonicalKernel(one.kernel) === kernel);
  if (there.length > 0) return there;
  const { base, cases } = scenario;
  const own = { ...base, name: kernel, written: '', kernel };
  const listed = cases.some((one) => one.where.line !== base.where.line);
  return [listed ? { ...own, ...expectedOfAny([base, ...cases]), note: NOT_STATED } : own];
}

const NOT_STATED =
  'no case of this scenario is for this kernel: what any of its cases expects is allowed, nothing is demanded';

/** What a kernel may do of which the scenario says nothing: whatever one of its cases does. */
function expectedOfAny(cases: readonly ScenarioCase[]): Pick<ScenarioCase, 'expect' | 'steps'> {
  const possible = cases.flatMap((one) => [...one.expect.always, ...one.expect.possible]);
  const names = [...new Set(cases.flatMap((one) => Object.keys(one.steps)))];
  const steps = names.map((name) => {
    const outcomes = cases.flatMap((one) => one.steps[name]?.expect ?? ['ok']);
    return [name, { expect: [...new Set(outcomes)] }] as const;
  });
  return { expect: { always: [], possible }, steps: Object.fromEntries(steps) };
}

/** The case of that name; on `kernel` instead of its own when one is given. Throws ScenarioError. */
export function caseNamed(scenario: Scenario, name: string, kernel?: string): ScenarioCase {
  const { cases } = scenario;
  const starting = cases.filter((one) => one.name.startsWith(name));
  const found = cases.find((one) => one.name === name) ?? (starting.length === 1 ? starting[0] : undefined);
  if (found === undefined) {
    const names = cases.map((one) => one.name);
    const message =
      starting.length === 0 ? `there is no case \`${name}\`` : `${starting.length} cases begin with \`${name}\``;
    const expected = nameList(starting.length === 0 ? names : starting.map((one) => one.name));
    const hint = starting.length === 0 ? didYouMean(name, names) : undefined;
    const where = scenario.where;
    throw new ScenarioError([
      { where, message, ...(expected === undefined ? {} : { expected }), ...(hint === undefined ? {} : { hint }) },
    ]);
  }
  if (kernel === undefined || canonicalKernel(kernel) === canonicalKernel(found.kernel)) return found;
  const other = canonicalKernel(kernel);
  return { ...found, name: `${found.name}, on ${other}`, written: found.name, kernel: other };
}

/** The case with behaviours switched on and off beside its own. Throws KernelError when no kernel can be so. */
export function switched(one: ScenarioCase, on: readonly string[], off: readonly string[]): ScenarioCase {
  const idOf = (argument: string): string => argument.split('=')[0]!;
  const named = new Set([...on, ...off].map(idOf));
  const result = {
    ...one,
    name: [one.name, ...on.map((id) => `with ${id}`), ...off.map((id) => `without ${id}`)].join(', '),
    written: one.written ?? one.name,
    with: [...one.with.filter((id) => !named.has(idOf(id))), ...on],
    without: [...one.without.filter((id) => !named.has(idOf(id))), ...off],
  };
  // Throws when no kernel can be so; the loader has judged the case as written.
  const changes = { with: result.with, without: result.without, config: result.host.config ?? {} };
  new Kernel(result.kernel, changes);
  checkAsked(result.kernel, changes);
  return result;
}
