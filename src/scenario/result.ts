// The result of a run as plain data: what reports are made from, and what `--format json` prints. Nothing here knows
// the model.
import type { Finding } from '../engine/finding.ts';
import type { Where } from './file/diagnostic.ts';

export type { Finding, FindingStep, FindingValue } from '../engine/finding.ts';

/** Changes when a reader of the JSON would have to. */
export const RESULT_VERSION = 1;

/** `incomplete`: a limit was reached, so that nothing can be said. */
export type CaseStatus = 'as-expected' | 'not-as-expected' | 'incomplete';

/** A behaviour that would have prevented a finding: the same run with it switched does not show it. */
export interface Prevention {
  /** `id` or `id=way`, as `--with` takes it. */
  readonly behaviour: string;
  readonly summary: string;
}

export interface ReportedFinding {
  readonly finding: Finding;
  /** Which list of the scenario's `expect` has it. */
  readonly expected: 'always' | 'possible' | 'no';
  /** A command line that shows it again. */
  readonly replay: string;
  readonly preventedBy: readonly Prevention[];
  /** The line of the scenario that it belongs to: of the step that showed it, or of what the case expects. */
  readonly where?: Where;
}

/** An inline expectation of a step that did not hold. */
export interface FailedExpectation {
  readonly where: Where;
  readonly actor: string;
  readonly operation: string;
  readonly message: string;
}

/** A finding or a label that the scenario says must appear, and did not. */
export interface Missing {
  readonly what: string;
  readonly where: Where;
}

/** One step of a trace. */
export interface TraceLine {
  readonly timeNs: number;
  readonly actor: string;
  readonly label: string;
  readonly changed?: string;
}

export interface CaseResult {
  readonly name: string;
  readonly kernel: string;
  readonly with: readonly string[];
  readonly without: readonly string[];
  readonly seed: string;
  readonly status: CaseStatus;
  /** What a reader should know of the case itself. */
  readonly note?: string;
  /** Which limit was reached; present when incomplete. */
  readonly limit?: string;
  readonly findings: readonly ReportedFinding[];
  readonly failed: readonly FailedExpectation[];
  readonly missingFindings: readonly Missing[];
  readonly missingLabels: readonly Missing[];
  /** Simulated time at the end. */
  readonly timeNs: number;
  readonly steps: number;
  /** Of the final state and the path to it, in hexadecimal; equal for equal runs on every machine. */
  readonly digest: string;
  readonly trace?: readonly TraceLine[];
}

export interface ScenarioResult {
  readonly file: string;
  readonly title: string;
  readonly bug?: string;
  readonly cases: readonly CaseResult[];
}

export interface Tally {
  readonly scenarios: number;
  readonly cases: number;
  readonly asExpected: number;
  readonly notAsExpected: number;
  readonly incomplete: number;
}

/** Count cases by status. */
export function tallyOf(results: readonly { readonly cases: readonly { readonly status: CaseStatus }[] }[]): Tally {
  const cases = results.flatMap((result) => result.cases);
  const count = (status: CaseStatus): number => cases.filter((one) => one.status === status).length;
  return {
    scenarios: results.length,
    cases: cases.length,
    asExpected: count('as-expected'),
    notAsExpected: count('not-as-expected'),
    incomplete: count('incomplete'),
  };
}
