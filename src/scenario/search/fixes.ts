// What would have prevented a finding: the same schedule again on each kernel next to this one (alternatives.ts), and
// where the run parts from the one that went wrong. A behaviour is named only if the finding does not come back when
// the interleavings of the same workload are searched with it: a step more or less moves any race out of one schedule.
import type { Finding } from '../../engine/finding.ts';
import { UndeclaredAccess } from '../../engine/sim.ts';
import { NotRepeatable } from '../../explore/schedulers/scheduler.ts';
import { Budget } from '../../explore/shrink.ts';
import { parseToken } from '../../explore/token.ts';
import { alternatives, findBehaviour, KernelError } from '../../kernel/index.ts';
import { ScenarioError } from '../file/diagnostic.ts';
import type { Scenario, ScenarioCase } from '../file/scenario.ts';
import { Bench } from './bench.ts';
import { omit } from './omit.ts';
import { type Noted, type NotedRun, noteRun } from './recorder.ts';
import type { Fix, Story } from './result.ts';
import { CaseSearcher } from './search-case.ts';

/** Steps that must agree again before two runs are said to have met. */
const MEETING = 6;
/** How far a run looks for the other, and how many steps of the failing run may be missing. */
const WINDOW = 60;
const SKIPPED_MAX = 4;

export interface FixOptions {
  readonly seed: string;
  readonly omitted: readonly string[];
  /** Of the small counterexample, as the explorer prints it. */
  readonly schedule: string;
  /** Interleavings searched with each behaviour that prevents the finding in this schedule. */
  readonly searched: number;
}

/** The behaviours that prevent the finding, with what they do to the schedule that showed it. */
export function fixesOf(
  scenario: Scenario,
  one: ScenarioCase,
  bench: Bench,
  failing: NotedRun,
  finding: Finding,
  story: Story,
  options: FixOptions,
): readonly Fix[] {
  const fixes: Fix[] = [];
  for (const { argument, changes } of alternatives(bench.subject.world.kernel)) {
    const other = { ...one, with: changes.with ?? [], without: changes.without ?? [] };
    try {
      const fix = fixWith(scenario, other, failing, finding, story, options);
      if (fix !== undefined) fixes.push({ behaviour: argument, summary: summaryOf(argument), ...fix });
    } catch (error) {
      // Such a kernel cannot run the story at all, which prevents nothing.
      if (!(error instanceof ScenarioError || error instanceof KernelError)) throw error;
    }
  }
  return fixes;
}

function fixWith(
  scenario: Scenario,
  other: ScenarioCase,
  failing: NotedRun,
  finding: Finding,
  story: Story,
  { seed, omitted, schedule, searched }: FixOptions,
): Omit<Fix, 'behaviour' | 'summary'> | undefined {
  const budget = new Budget(Number.POSITIVE_INFINITY);
  const bench = new Bench(scenario, other, { seed, omitted, wanted: () => true, budget, stories: false });
  const run = noteRun(bench, () => bench.trials.run(parseToken(schedule), null));
  const shows = ({ kind }: Finding): boolean => kind === finding.kind;
  if (run === undefined || bench.end === 'cut' || run.findings.some(shows)) return undefined;
  const found = searchedFor(omit(scenario, omitted).scenario, other, seed, searched, shows);
  if (found === undefined) return undefined;
  const { step, instead } = parting(failing.steps, run.steps);
  const row = story.rows.find((told) => told.step > step);
  return {
    step: step + 1,
    ...(row === undefined ? {} : { row }),
    ...(instead === undefined ? {} : { instead: { actor: instead.actor, label: instead.label } }),
    searched: found,
  };
}

/** In words how many interleavings do not show it; undefined when one does. */
function searchedFor(
  scenario: Scenario,
  one: ScenarioCase,
  seed: string,
  maxExecutions: number,
  shows: (finding: Finding) => boolean,
): string | undefined {
  try {
    return searchedWith('dpor', scenario, one, seed, maxExecutions, shows);
  } catch (error) {
    // A model that breaks its own rules with that behaviour proves nothing.
    if (error instanceof UndeclaredAccess) return undefined;
    if (!(error instanceof NotRepeatable)) throw error;
    // What an exhaustive search refuses can still be sampled.
    return searchedWith('pos', scenario, one, seed, maxExecutions, shows);
  }
}

function searchedWith(
  strategy: 'dpor' | 'pos',
  scenario: Scenario,
  one: ScenarioCase,
  seed: string,
  maxExecutions: number,
  shows: (finding: Finding) => boolean,
): string | undefined {
  const searcher = new CaseSearcher(scenario, one, { strategy, seed, runs: maxExecutions, maxExecutions });
  const { search } = searcher;
  while (searcher.next()) if (search.runner.findings.some(shows)) return undefined;
  const complete = search.scheduler.finished === true && search.runner.limitsReached.size === 0;
  if (!complete) return `${search.executions} of its interleavings`;
  return search.executions === 1 ? 'its only interleaving' : `all ${search.executions} interleavings`;
}

interface Parting {
  /** Number (from 0) of the step of the failing run that does not happen any more. */
  readonly step: number;
  readonly instead: Noted | undefined;
}

/** Where the runs part for good; where they meet again each time, the place at which they go apart for longest. */
function parting(failing: readonly Noted[], other: readonly Noted[]): Parting {
  let longest: Parting | undefined;
  let length = 0;
  let at = 0;
  let there = 0;
  while (at < failing.length) {
    if (sameStep(failing[at], other[there])) {
      at++;
      there++;
      continue;
    }
    const here = { step: at, instead: other[there] };
    const met = nextMeeting(failing, at, other, there);
    if (met === undefined) return here;
    if (met.skipped + met.extra > length) {
      longest = here;
      length = met.skipped + met.extra;
    }
    at += met.skipped;
    there += met.extra;
  }
  return longest ?? { step: at, instead: other[there] };
}

/** After how few steps of both they go on alike; undefined when they do not. */
function nextMeeting(
  failing: readonly Noted[],
  at: number,
  other: readonly Noted[],
  there: number,
): { readonly skipped: number; readonly extra: number } | undefined {
  for (let sum = 1; sum <= WINDOW; sum++) {
    for (let skipped = 0; skipped <= Math.min(sum, SKIPPED_MAX); skipped++) {
      const extra = sum - skipped;
      let meets = at + skipped < failing.length;
      for (let i = 0; i < MEETING && at + skipped + i < failing.length && meets; i++)
        meets = sameStep(failing[at + skipped + i], other[there + extra + i]);
      if (meets) return { skipped, extra };
    }
  }
  return undefined;
}

function sameStep(a: Noted | undefined, b: Noted | undefined): boolean {
  return a !== undefined && b !== undefined && a.actor === b.actor && a.label === b.label;
}

function summaryOf(argument: string): string {
  const [id, way] = argument.split('=') as [string, string | undefined];
  const behaviour = findBehaviour(id);
  return (way === undefined ? behaviour?.summary : behaviour?.ways?.[way]?.summary) ?? '';
}
