// The result of a search as plain data: what its reports are made from. Nothing here knows the model.
import type { Finding } from '../../engine/finding.ts';
import type { Where } from '../file/diagnostic.ts';
import type { CaseStatus, Missing, Prevention, ScenarioResult, Tally } from '../result.ts';
import type { FuzzCampaign } from './fuzz-result.ts';

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

/** A row of the table that tells a counterexample: one step that matters. */
export interface StoryRow {
  /** Number of the step in its run, from 1. */
  readonly step: number;
  readonly actor: string;
  readonly label: string;
  /** The operation of the script that it belongs to, and its line in the file. */
  readonly operation?: string;
  readonly line?: number;
  /** What it changed, in words, as far as it matters. */
  readonly changed: readonly string[];
  /** What it saw that matters later, or whose view it overturned. */
  readonly notes: readonly string[];
}

/** A switch away from an actor that could have gone on. */
export interface StorySwitch {
  /** Steps acted before it. */
  readonly after: number;
  readonly actor: string;
  /** The label before which it was stopped. */
  readonly before: string;
  /** Who went on instead. */
  readonly to: string;
}

/** What happened, as a table: a column per actor, time downwards. */
export interface Story {
  readonly actors: readonly string[];
  readonly rows: readonly StoryRow[];
  readonly switches: readonly StorySwitch[];
  /** Steps of the whole run. */
  readonly steps: number;
  /** The step that showed the finding; absent when the end of the run did. */
  readonly shownAt?: number;
}

/** What another kernel does with the same schedule. */
export interface Fix {
  /** As `--with` takes it. */
  readonly behaviour: string;
  readonly summary: string;
  /** The step of the story from which on the run differs, and the row that does not happen so any more. */
  readonly step: number;
  readonly row?: StoryRow;
  /** What its actor does there instead; absent: it waits or has ended. */
  readonly instead?: { readonly actor: string; readonly label: string };
  /** What the same workload does with it: `all 62 interleavings`, `200 of its interleavings`. */
  readonly searched: string;
}

/** The nearest interleaving that does not show the finding, beside the one that does. */
export interface Nearest {
  /** How it differs, in words. */
  readonly change: string;
  readonly token: string;
  /** Number of the first step that differs. */
  readonly differsAt: number;
  readonly failing: Story;
  readonly passing: Story;
}

/** What shrinking came to. */
export interface ShrinkReport {
  readonly before: ShrinkSize;
  readonly after: ShrinkSize;
  readonly executions: number;
  readonly minimal: boolean;
  readonly omitted: readonly string[];
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
  /** The line of the scenario that it belongs to: of the step that showed it, or of the case's `expect`. */
  readonly where?: Where;
  /** What shrinking came to; absent: it was not tried, or the finding does not come again. */
  readonly shrunk?: ShrinkReport;
  readonly story?: Story;
  readonly fixes?: readonly Fix[];
  readonly nearest?: Nearest;
}

/** An interleaving in which a finding that must always appear did not. */
export interface Absent {
  readonly missing: Missing;
  readonly executions: number;
  readonly token: string;
  /** What shrinking came to, if it was tried. */
  readonly shrunk?: ShrinkReport;
}

/** Which search, with its parameters in words: `dpor`, `bounded, 2 preemptions`, `pct, depth 3`. */
export interface SearchMethod {
  readonly strategy: string;
  /** It runs every interleaving, unless something stops it. */
  readonly exhaustive: boolean;
  readonly words: string;
}

/** Where a schedule first did not fit a world that has changed since. */
export interface ReplayDivergence {
  /** Steps acted before. */
  readonly steps: number;
  /** Which part of the schedule, from 1. */
  readonly segment: number;
  readonly actor: string;
  /** The label up to which the schedule runs the actor; null: until it ends or waits. */
  readonly label: string | null;
  readonly message: string;
  /** Where every actor stood. */
  readonly offers: readonly { readonly actor: string; readonly label: string; readonly waitsFor?: string }[];
}

/**
 * What a replay showed. `shown`: what the token was kept for. `nearby`: so does a schedule near it, which fits the world
 * as it is now. `other`: a finding of that kind, but of another cause. `gone`: no such finding. `appears`: the finding
 * that was absent is there.
 */
export interface ReplayReport {
  readonly verdict: 'shown' | 'nearby' | 'other' | 'gone' | 'appears';
  /** What the token was kept for; absent in tokens that do not say. */
  readonly kept?: { readonly kind: string; readonly absent: boolean };
  /** The scenario says something else than when the token was made. */
  readonly scenarioChanged: boolean;
  /** It was run on a kernel that is not the token's. */
  readonly otherKernel: boolean;
  readonly omitted: readonly string[];
  /** What the token leaves out and the scenario does not have any more. */
  readonly missing: readonly string[];
  readonly steps: number;
  readonly diverged?: ReplayDivergence;
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
  /** Executions that showed a finding, whatever its cause; absent: only known cause by cause. */
  readonly violating?: number;
  /** Executions that only repeated others. */
  readonly blocked: number;
  /** Steps of all executions. */
  readonly steps: number;
  /** How many executions a complete search makes: two standard errors; null: nobody knows. */
  readonly estimate: { readonly total: number; readonly error: number | null } | null;
  /** What kept the search from being complete, in words. */
  readonly limits: readonly string[];
  /** What `verified` rests on, in words. */
  readonly restsOn: readonly string[];
  readonly findings: readonly SearchFinding[];
  /** Findings listed as `possible` that no execution showed; as `always`, when none came to its end, either. */
  readonly missingFindings: readonly Missing[];
  /** Findings listed as `always` that some execution did not show. */
  readonly absent: readonly Absent[];
  readonly missingLabels: readonly Missing[];
  /** Only of a replay. */
  readonly replay?: ReplayReport;
}

export interface ScenarioSearch {
  readonly file: string;
  readonly title: string;
  readonly bug?: string;
  readonly cases: readonly CaseSearch[];
}

/** What ran: decides which shape the cases have. */
export type SearchCommand = 'explore' | 'fuzz' | 'replay' | 'shrink';

/** A whole report of `pinsim run`. */
export interface RunReport {
  readonly version: number;
  /** Version of the program. */
  readonly pinsim: string;
  readonly command: 'run';
  readonly tally: Tally;
  readonly scenarios: readonly ScenarioResult[];
}

/** A whole report of a search. */
export interface SearchReport {
  readonly version: number;
  readonly pinsim: string;
  readonly command: SearchCommand;
  readonly tally: Tally;
  readonly scenarios: readonly ScenarioSearch[];
  /** Only of fuzz. */
  readonly campaign?: FuzzCampaign;
}

/** What `--format json` prints, and what the other formats are made from. */
export type Report = RunReport | SearchReport;
