// The result of a campaign as plain data: what its reports are made from, and what its workers send. Nothing here knows
// the model.
import type { Finding } from '../../engine/finding.ts';
import type { Where } from '../file/diagnostic.ts';

/** A cause met by some runs: findings of one identity in one case. */
export interface FuzzFinding {
  readonly file: string;
  readonly case: string;
  readonly finding: Finding;
  /** Which list of the scenario's `expect` has it; `possible` also when the command line allows it. */
  readonly expected: 'always' | 'possible' | 'no';
  /** One line for `pinsim replay`. */
  readonly token: string;
  /** The run (by its number in the campaign) that showed it first, its strategy, and how many did. */
  readonly firstRun: number;
  readonly strategy: string;
  readonly runs: number;
  /** The scenario that showed it, when the campaign made one up; the token calls it by the name given here. */
  readonly workload?: { readonly file: string; readonly text: string };
}

/** A finding that must appear in every run of a case, and did not appear in some that came to their end. */
export interface FuzzAbsence {
  readonly file: string;
  readonly case: string;
  /** The entry of `always`, in words, and its kind of finding. */
  readonly pattern: string;
  readonly kind: string;
  /** One line for `pinsim replay`. */
  readonly token: string;
  /** The run that lacked it first, its strategy, and how many did. */
  readonly firstRun: number;
  readonly strategy: string;
  readonly runs: number;
}

/** What became of a case of the corpus folder. */
export interface CorpusReplay {
  /** The file in the folder, and with the folder. */
  readonly entry: string;
  readonly path: string;
  readonly token: string;
  /** What it found when it was kept, of which kind, by which cause, in which scenario. */
  readonly says: string;
  readonly kind: string;
  readonly cause: string;
  readonly scenario: string;
  /** The case of the scenario, and its line that the finding belongs to; absent: it could not be replayed, or not shown. */
  readonly case?: string;
  readonly where?: Where;
  /** `shows`: still found. `expected`: found, as the scenario says. `gone`: not found. `broken`: cannot be replayed. */
  readonly outcome: 'shows' | 'expected' | 'gone' | 'broken';
  /** Where the schedule no longer fits, or why there is nothing to replay. */
  readonly note?: string;
}

/** What was covered, of what there is. */
export interface FuzzCoverage {
  readonly labelsReached: number;
  readonly labelsKnown: number;
  readonly behavioursAsked: number;
  readonly behavioursBothWays: number;
  readonly behavioursKnown: number;
  /** Labels, answers of behaviours and pairs of dependent steps: what new coverage is counted in. */
  readonly features: number;
  readonly labelsNever: readonly string[];
  readonly behavioursNever: readonly string[];
  /** Asked, but answered only one way; with that answer. */
  readonly behavioursOneWay: readonly { readonly behaviour: string; readonly answer: string }[];
}

/** What a campaign did as a whole. What it found stands case by case beside it. */
export interface FuzzCampaign {
  readonly seed: string;
  /** Which part of the campaign this is, from 1; absent: all of it. */
  readonly shard?: { readonly index: number; readonly count: number };
  readonly mutate: boolean;
  readonly scenarios: number;
  readonly cases: number;
  readonly runs: number;
  readonly steps: number;
  /** Runs by strategy, in words. */
  readonly runsBy: Readonly<Record<string, number>>;
  /** Workloads made up. */
  readonly workloads: number;
  /** Runs that did not come to their end, by what stopped them. */
  readonly limits: Readonly<Record<string, number>>;
  /** Why it ended before its last run; absent when it did not. */
  readonly stopped?: string;
  /** Causes that no scenario expects, and causes that one does. */
  readonly unexpected: number;
  readonly expected: number;
  /** Findings that every run of a case must show, and that some run did not. */
  readonly absent: number;
  /** Cases that have not had a turn. */
  readonly notYet: readonly string[];
  readonly corpus: readonly CorpusReplay[];
  readonly coverage: FuzzCoverage;
}

/** What one unit of a campaign gave. */
export interface UnitResult {
  readonly unit: number;
  readonly runs: number;
  readonly steps: number;
  readonly runsBy: Readonly<Record<string, number>>;
  readonly limits: Readonly<Record<string, number>>;
  readonly features: Uint32Array;
  readonly labels: readonly string[];
  /** Behaviours asked, with their answers. */
  readonly asked: readonly (readonly [string, string])[];
  readonly findings: readonly FuzzFinding[];
  readonly absences: readonly FuzzAbsence[];
  /** The workload that was run instead of the author's; null: the author's. */
  readonly workload: string | null;
}
