// What would have prevented a finding: the same run again with each behaviour switched that this kernel was asked about
// and answered no. Never a table: a behaviour is named because the finding went away.
import type { Finding } from '../engine/finding.ts';
import { alternatives, findBehaviour, KernelError } from '../kernel/index.ts';
import type { Kernel } from '../kernel/kernel.ts';
import { ScenarioError } from './file/diagnostic.ts';
import type { Scenario, ScenarioCase } from './file/scenario.ts';
import type { Prevention } from './result.ts';
import { type CaseRun, runToEnd } from './run-case.ts';

/** Longer runs are not repeated: their findings are about sizes, not behaviours. */
const REPEATABLE_STEPS = 20_000;

/** The behaviours that prevent each finding of `run` that `told` selects. */
export function preventions(
  scenario: Scenario,
  one: ScenarioCase,
  kernel: Kernel,
  run: CaseRun,
  seed: string,
  told: (finding: Finding) => boolean,
): ReadonlyMap<Finding, readonly Prevention[]> {
  const prevented = new Map<Finding, Prevention[]>();
  for (const finding of run.findings) if (told(finding)) prevented.set(finding, []);
  if (prevented.size === 0 || run.steps > REPEATABLE_STEPS) return prevented;
  for (const { argument, changes } of alternatives(kernel)) {
    const kinds = findingsWith(scenario, { ...one, with: changes.with ?? [], without: changes.without ?? [] }, seed);
    if (kinds === undefined) continue;
    for (const [finding, by] of prevented) {
      if (kinds.has(finding.kind)) continue;
      const [id, way] = argument.split('=') as [string, string | undefined];
      const behaviour = findBehaviour(id);
      const summary = way === undefined ? behaviour?.summary : behaviour?.ways?.[way]?.summary;
      by.push({ behaviour: argument, summary: summary ?? '' });
    }
  }
  return prevented;
}

/** Kinds of findings of another run; undefined when the switch makes the script impossible, which prevents nothing. */
function findingsWith(scenario: Scenario, one: ScenarioCase, seed: string): ReadonlySet<string> | undefined {
  try {
    const again = runToEnd(scenario, one, { seed });
    if (again.stage.failed.length > 0 || again.limit !== undefined) return undefined;
    return new Set(again.findings.map(({ kind }) => kind));
  } catch (error) {
    if (error instanceof ScenarioError || error instanceof KernelError) return undefined;
    throw error;
  }
}
