// What commands that work on scenario files share: loading them all, and which of their cases are meant.
import type { Argv } from 'yargs';
import type { Scenario } from '../scenario/file/scenario.ts';
import type { CaseChanges } from '../scenario/file/select-cases.ts';
import { listOption, type Parts, textOption } from './command.ts';
import type { Io } from './io.ts';

/** Load all files; throws one ScenarioError with the mistakes of all. */
export async function loadScenarios(paths: readonly string[], io: Io, parts: Parts): Promise<readonly Scenario[]> {
  const { findScenarios, readText } = await import('./files.ts');
  const { loadScenario } = await import('../scenario/file/load.ts');
  const { ScenarioError } = await import('../scenario/file/diagnostic.ts');
  const registry = await parts.registry();
  const diagnostics = [];
  const scenarios: Scenario[] = [];
  for (const file of findScenarios(io, paths)) {
    try {
      scenarios.push(loadScenario(file, readText(io, file), registry));
    } catch (error) {
      if (!(error instanceof ScenarioError)) throw error;
      diagnostics.push(...error.diagnostics);
    }
  }
  if (diagnostics.length > 0) throw new ScenarioError(diagnostics);
  return scenarios;
}

/** The options that say which cases are meant, and on which kernel; by name, for suggestions. */
export const CASE_OPTIONS = ['case', 'kernel', 'with', 'without'] as const;

/** Declares them; `kernel`: what --kernel is for. */
export function declareCaseOptions(yargs: Argv, kernel: string): Argv {
  return yargs
    .option('case', { type: 'string', requiresArg: true, describe: 'Only the case of this name (or start of one)' })
    .option('kernel', { type: 'string', requiresArg: true, describe: `${kernel}, such as v6.1` })
    .option('with', { type: 'string', array: true, nargs: 1, describe: 'Switch a behaviour on (id, or id=way)' })
    .option('without', { type: 'string', array: true, nargs: 1, describe: 'Switch a behaviour off' });
}

/** What they say. */
export function caseChanges(args: Readonly<Record<string, unknown>>): CaseChanges {
  const kernel = textOption(args, 'kernel');
  const name = textOption(args, 'case');
  return {
    ...(name === undefined ? {} : { case: name }),
    ...(kernel === undefined ? {} : { kernel }),
    with: listOption(args, 'with'),
    without: listOption(args, 'without'),
  };
}
