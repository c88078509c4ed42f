// A counterexample made fit to read: shrunk, told as a table of the steps that matter, with what would have prevented
// it and, on request, the nearest interleaving that passes. For every finding, whoever found it.
import type { Finding } from '../../engine/finding.ts';
import { Budget } from '../../explore/shrink.ts';
import { parseToken, printToken } from '../../explore/token.ts';
import type { Where } from '../file/diagnostic.ts';
import { matchesFinding } from '../file/expectation.ts';
import type { Scenario, ScenarioCase } from '../file/scenario.ts';
import { Bench } from './bench.ts';
import { fixesOf } from './fixes.ts';
import { type NearestRun, nearestPassing } from './nearest.ts';
import { type NotedRun, noteRun } from './recorder.ts';
import type { Nearest, SearchFinding, ShrinkReport } from './result.ts';
import { shrinkCase } from './shrink-case.ts';
import { tellStory } from './story.ts';
import { caseToken, parseCaseToken, printCaseToken, shownFinding } from './token.ts';

/** Executions spent on shrinking one finding, unless told otherwise. */
export const SHRINK_BUDGET = 300;
/** Interleavings searched with each behaviour that prevents the finding, and the steps that they may take in all. */
const FIX_SEARCH = 200;
const FIX_SEARCH_LEAST = 20;
const FIX_SEARCH_STEPS = 200_000;

export interface TellOptions {
  /** Executions to spend on shrinking; 0: leave the counterexample as it was found. */
  readonly shrink: number;
  /** Say what would have prevented it. */
  readonly fixes: boolean;
  /** Find the nearest interleaving that passes. */
  readonly nearest: boolean;
}

/** What a schedule on a case shows. */
export interface Shows {
  readonly schedule: string;
  readonly omitted: readonly string[];
  readonly seed: string;
  readonly finding: Finding;
}

/** Everything that is told of a finding beside itself. */
export type Told = Pick<SearchFinding, 'finding' | 'token' | 'schedule' | 'preventedBy'> &
  Partial<Pick<SearchFinding, 'where' | 'shrunk' | 'story' | 'fixes' | 'nearest'>>;

/** A finding of a search, told. Its token must be one of this case. */
export function tellFinding(
  scenario: Scenario,
  one: ScenarioCase,
  found: SearchFinding,
  options: TellOptions,
): SearchFinding {
  const { schedule, omitted, seed } = parseCaseToken(found.token);
  const told = tell(scenario, one, { schedule, omitted, seed, finding: found.finding }, options);
  return told === undefined ? found : { ...found, ...told };
}

/** Shrink and tell one counterexample; undefined when the schedule does not show the finding. */
export function tell(scenario: Scenario, one: ScenarioCase, shows: Shows, options: TellOptions): Told | undefined {
  const { seed, finding } = shows;
  let { schedule, omitted } = shows;
  let shrunk: ShrinkReport | undefined;
  if (options.shrink > 0) {
    const small = shrinkCase(scenario, one, { schedule, omitted, seed, identity: finding.identity }, options.shrink);
    if (small === undefined) return undefined;
    ({ schedule, omitted } = small);
    const { before, after, executions, minimal } = small;
    shrunk = { before, after, executions, minimal, omitted };
  }
  const budget = new Budget(Number.POSITIVE_INFINITY);
  const bench = new Bench(scenario, one, { seed, omitted, wanted: () => true, budget, stories: true });
  const noted = noteRun(bench, () => bench.trials.run(parseToken(schedule), null));
  const again = noted?.findings.find(({ identity }) => identity === finding.identity);
  if (noted === undefined || again === undefined) return undefined;
  const story = tellStory(noted, again);
  const where = whereShown(noted, again, scenario, one);
  const affordable = Math.floor(FIX_SEARCH_STEPS / Math.max(1, noted.steps.length));
  const searched = Math.max(FIX_SEARCH_LEAST, Math.min(FIX_SEARCH, affordable));
  const fixOptions = { seed, omitted, schedule, searched };
  const fixes = options.fixes ? fixesOf(scenario, one, bench, noted, again, story, fixOptions) : undefined;
  const passing = options.nearest ? nearestPassing(bench, noted, again, story) : undefined;
  const token = (text: string, shown: boolean): string => {
    const notes = { omitted, ...(shown ? { shows: shownFinding(again) } : {}) };
    return printCaseToken(caseToken(scenario, one, seed, text, notes));
  };
  return {
    finding: again,
    token: token(printToken(noted.run.token), true),
    schedule: noted.run.steps,
    preventedBy: (fixes ?? []).map(({ behaviour, summary }) => ({ behaviour, summary })),
    where,
    story,
    ...(shrunk === undefined ? {} : { shrunk }),
    ...(fixes === undefined ? {} : { fixes }),
    ...(passing === undefined ? {} : { nearest: nearestOf(passing, token(passing.schedule, false)) }),
  };
}

function nearestOf({ schedule: _, ...passing }: NearestRun, token: string): Nearest {
  return { ...passing, token };
}

/** The line of the script that the finding belongs to; else where the case says what it expects. */
function whereShown(noted: NotedRun, finding: Finding, scenario: Scenario, one: ScenarioCase): Where {
  const at = noted.shownAt.get(finding.identity);
  const owner = at === undefined ? undefined : noted.steps[at]?.owner;
  if (owner !== undefined) return owner.where;
  const expected = [...one.expect.always, ...one.expect.possible].some((pattern) => matchesFinding(pattern, finding));
  if (expected) return one.expectWhere;
  const last = noted.steps.findLast((step) => finding.actors.includes(step.actor) && step.owner !== undefined);
  return last?.owner?.where ?? scenario.actors.find(({ name }) => finding.actors.includes(name))?.where ?? one.where;
}
