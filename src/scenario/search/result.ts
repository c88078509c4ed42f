// The result of a search as plain data: what its reports are made from. Nothing here knows the model.
import type { Finding } from '../../engine/finding.ts';
import type { CaseStatus, Missing, Prevention } from '../result.ts';

/** Changes when a reader of the JSON would have to. */
export const SEARCH_VERSION = 1;

/**
 * What a search may say, and never more. `verified`: every interleaving was run to its end and none shows anything.
 * `violated`: something was found. `no-finding`: a sampler met nothing, which proves nothing. `incomplete`: an
 * exhaustive search was stopped before its end, or ran into a bound.
 */
export type Verdict = 'verified' | 'violated' | 'no-finding' | 'incomplete';

/** How big a counterexample is. */
export interface ShrinkSize {
  readonly actors: number;
  /** Steps of scripts, `wait` aside. */
  readonly scriptSteps: number;
  /** Steps of the run. */
  readonly steps: number;
  /** Switches away from an actor that could have gone on. */
  readonly preemptions: number;
}

/** One step of a schedule. */
export interface SearchStep {
  readonly actor: string;
  readonly label: string;
  readonly choices: readonly number[];
}

export interface SearchFinding {
  readonly finding: Finding;
  /** Which list of the scenario's `expect` has it. */
  readonly expected: 'always' | 'possible' | 'no';
  /** One line for `pinsim replay`. */
  readonly token: string;
  readonly schedule: readonly SearchStep[];
  /** Number (from 0) of the execution that showed it first, and how many did. */
  readonly firstExecution: number;
  readonly executions: number;
  readonly preventedBy: readonly Prevention[];
}

/** An interleaving in which a finding that must always appear did not. */
export interface Absent {
  readonly missing: Missing;
  readonly executions: number;
  readonly token: string;
}

/** Which search, with its parameters in words: `dpor`, `bounded, 2 preemptions`, `pct, depth 3`. */
export interface SearchMethod {
  readonly strategy: string;
  /** It runs every interleaving, unless something stops it. */
  readonly exhaustive: boolean;
  readonly words: string;
}

export interface CaseSearch {
  readonly name: string;
  readonly kernel: string;
  readonly with: readonly string[];
  readonly without: readonly string[];
  readonly seed: string;
  readonly method: SearchMethod;
  readonly status: CaseStatus;
  readonly verdict: Verdict;
  readonly executions: number;
  /** Executions that only repeated others. */
  readonly blocked: number;
  /** Steps of all executions. */
  readonly steps: number;
  /** What kept the search from being complete, in words. */
  readonly limits: readonly string[];
  /** What `verified` rests on, in words. */
  readonly restsOn: readonly string[];
  readonly findings: readonly SearchFinding[];
  /** Findings listed as `possible` or `always` that no execution showed. */
  readonly missingFindings: readonly Missing[];
  /** Findings listed as `always` that some execution did not show. */
  readonly absent: readonly Absent[];
  readonly missingLabels: readonly Missing[];
}

export interface ScenarioSearch {
  readonly file: string;
  readonly title: string;
  readonly bug?: string;
  readonly cases: readonly CaseSearch[];
}
  /** How many executions a complete search makes: two standard errors; null: nobody knows. */
  readonly estimate: { readonly total: number; readonly error: number | null } | null;
