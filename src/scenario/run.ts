// Runs the cases of a scenario under the timed clock. The signature is what the command line and tests rely on.
import type { CaseResult, TraceLine } from './result.ts';
import type { Scenario } from './scenario.ts';
import type { CaseChanges } from './select-cases.ts';

/** How far a run has come, for people who watch. */
export interface Progress {
  readonly caseName: string;
  readonly steps: number;
  readonly timeNs: number;
}

export interface RunOptions extends CaseChanges {
  /** Default: the scenario's. */
  readonly seed?: string;
  /** Called for every step acted, in order; nobody listening costs nothing. */
  readonly trace?: (line: TraceLine) => void;
  /** Keep the trace in the results, for reports that are made at the end. */
  readonly keepTrace?: boolean;
  /** Called now and then during a run, never at a time that depends on the clock of this machine. */
  readonly progress?: (progress: Progress) => void;
}

export type RunScenario = (scenario: Scenario, options: RunOptions) => readonly CaseResult[];

/**
 * Run the selected cases (see `selectCases`) one after the other.
 * Throws ScenarioError for what only shows when the world is built, such as a memory that does not fit the host.
 */
export const runScenario: RunScenario = (scenario) => {
  throw new Error(`${scenario.file}: scenarios are not wired to the model yet`);
};
