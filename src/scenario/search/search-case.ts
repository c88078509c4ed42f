// The search of one case: a strategy over its interleavings, judged against what the scenario expects.
import type { Finding } from '../../engine/finding.ts';
import { type ExploreOptions, type FoundFinding, Search, type Strategy, tokenOf } from '../../explore/search.ts';
import { canonicalKernel } from '../catalogue.ts';
import { type FindingPattern, formatPattern, matchesFinding } from '../file/expectation.ts';
import type { Scenario, ScenarioCase } from '../file/scenario.ts';
import type { CaseStatus, Missing } from '../result.ts';
import { checkSame, fingerprint, type SavedCase, type SearchIdentity } from './frontier.ts';
import { replayCase } from './replay-case.ts';
import type { Absent, CaseSearch, SearchFinding, SearchMethod, Verdict } from './result.ts';
import { Subject } from './subject.ts';
import { caseToken, printCaseToken, type Shown, scenarioDigest, shownAbsence, shownFinding } from './token.ts';

export interface SearchOptions extends Pick<ExploreOptions, 'runs' | 'depth' | 'bound' | 'maxExecutions' | 'maxSteps'> {
  readonly strategy: Exclude<Strategy, 'replay'>;
  /** Default: the scenario's. */
  readonly seed?: string;
  readonly stopAtFinding?: boolean;
  /** Default true: no search is sound that touches what it did not announce. */
  readonly checked?: boolean;
}

/** What `verified` rests on, whatever the scenario. */
const RESTS_ON: readonly string[] = [
  'sequential consistency: no weak memory order',
  'steps as the model cuts them: what happens within one is not interrupted',
  'timers may fire at any time after they are armed',
  'a retry loop carries nothing from one round to the next but what others can see',
];

/** Checkers of these kinds see the same in all linearizations of a trace. */
const SOUND_KINDS: readonly string[] = ['step', 'end', 'relation'];

/** An absence in the making. */
interface Unmet {
  executions: number;
  token: string;
}

/** A search that its caller drives: `next` until false, or until it has had enough. */
export class CaseSearcher {
  readonly subject: Subject;
  readonly search: Search;
  readonly method: SearchMethod;
  /** The method, however long it goes on. */
  private readonly words: string;
  private readonly seed: string;
  /** By pattern of `always`: executions that did not show it. */
  private readonly unmet = new Map<FindingPattern, Unmet>();
  /** Executions that showed a finding, whatever its cause. */
  private violating = 0;

  /** Throws ScenarioError when the world cannot be built. */
  constructor(scenario: Scenario, one: ScenarioCase, options: SearchOptions) {
    const { strategy, runs, depth, bound, maxExecutions, maxSteps, stopAtFinding } = options;
    this.seed = options.seed ?? scenario.seed;
    this.method = methodOf(options);
    this.words = methodOf({
      strategy,
      ...(depth === undefined ? {} : { depth }),
      ...(bound === undefined ? {} : { bound }),
    }).words;
    this.subject = new Subject(scenario, one, {
      seed: this.seed,
      checked: options.checked ?? true,
      stories: false,
    });
    this.search = new Search(this.subject.sim, {
      strategy,
      seed: this.seed,
      ...this.subject.limits,
      ...(runs === undefined ? {} : { runs }),
      ...(depth === undefined ? {} : { depth }),
      ...(bound === undefined ? {} : { bound }),
      ...(maxExecutions === undefined ? {} : { maxExecutions }),
      ...(maxSteps === undefined ? {} : { maxSteps }),
      ...(stopAtFinding === undefined ? {} : { stopAtFinding }),
    });
  }

  /** One more execution. False: there is none, or none is wanted. */
  next(): boolean {
    const { search } = this;
    const before = search.executions;
    const more = search.next();
    if (search.executions > before) {
      if (search.runner.findings.length > 0) this.violating++;
      this.noteAbsences();
    }
    return more;
  }

  private noteAbsences(): void {
    const { always } = this.subject.one.expect;
    if (always.length === 0) return;
    const { runner } = this.search;
    if (runner.end !== 'done' && runner.end !== 'deadlock') return;
    const { findings } = runner;
    const missing = always.filter((pattern) => !findings.some((finding) => matchesFinding(pattern, finding)));
    for (const pattern of missing) {
      const unmet = this.unmet.get(pattern);
      if (unmet !== undefined) unmet.executions++;
      else {
        const shows = shownAbsence(pattern.kind, formatPattern(pattern));
        this.unmet.set(pattern, { executions: 1, token: this.token(tokenOf(runner, runner.schedule()), shows) });
      }
    }
  }

  /** What this search is, for another to go on with it. */
  get identity(): SearchIdentity {
    const { scenario, one } = this.subject;
    const { expect } = one;
    const reaches = scenario.reaches.map(({ label }) => label);
    return {
      file: scenario.file,
      case: one.name,
      scenario: scenarioDigest(scenario, one),
      expects: JSON.stringify([expect.always.map(formatPattern), expect.possible.map(formatPattern), reaches]),
      kernel: canonicalKernel(one.kernel),
      with: one.with,
      without: one.without,
      seed: this.seed,
      strategy: this.words,
      model: fingerprint(this.search.runner),
    };
  }

  /** Between executions: all that another process needs to go on. */
  save(): SavedCase {
    return {
      identity: this.identity,
      search: this.search.save(),
      violating: this.violating,
      labels: [...this.subject.labels()],
      absent: [...this.unmet].map(([pattern, { executions, token }]) => [formatPattern(pattern), executions, token]),
    };
  }

  /** Before the first execution: go on with a saved search. Throws FrontierError when it is one of something else. */
  restore(saved: SavedCase): void {
    checkSame(saved.identity, this.identity);
    this.search.restore(saved.search);
    this.violating = saved.violating;
    for (const label of saved.labels) this.subject.reached.add(label);
    for (const [text, executions, token] of saved.absent) {
      const pattern = this.subject.one.expect.always.find((other) => formatPattern(other) === text);
      if (pattern !== undefined) this.unmet.set(pattern, { executions, token });
    }
  }

  private token(schedule: string, shows: Shown): string {
    const { scenario, one } = this.subject;
    return printCaseToken(caseToken(scenario, one, this.seed, schedule, { shows }));
  }

  /** What can be said by now. `stopped`: why the caller stops before the end, in words. */
  result(stopped?: string): CaseSearch {
    const { scenario, one } = this.subject;
    const explored = this.search.result();
    const doubts = this.doubts();
    const limits = [...explored.limits, ...doubts, ...(stopped === undefined ? [] : [stopped])];
    const findings = explored.findings.map((found) => this.told(found));
    const seen = (pattern: FindingPattern): boolean =>
      explored.findings.some(({ finding }) => matchesFinding(pattern, finding));
    const missing = (what: string): Missing => ({ what, where: one.expectWhere });
    const missingFindings = [...one.expect.always, ...one.expect.possible]
      .filter((pattern) => !seen(pattern) && !this.unmet.has(pattern))
      .map((pattern) => missing(formatPattern(pattern)));
    // One execution without it is enough: no further one can make up for that.
    const absent = [...this.unmet].map(
      ([pattern, unmet]): Absent => ({ missing: missing(formatPattern(pattern)), ...unmet }),
    );
    const labels = this.subject.labels();
    const missingLabels = scenario.reaches
      .filter(({ label }) => !labels.has(label))
      .map(({ label, where }): Missing => ({ what: label, where }));
    const complete = explored.complete && doubts.length === 0 && stopped === undefined;
    return {
      name: one.name,
      kernel: one.kernel,
      with: one.with,
      without: one.without,
      seed: this.seed,
      method: this.method,
      status: statusOf({
        complete,
        method: this.method,
        findings,
        missingFindings,
        absent,
        missingLabels,
      }),
      verdict: verdictOf(complete, this.method, findings),
      executions: explored.executions,
      violating: this.violating,
      blocked: explored.blocked,
      steps: explored.steps,
      estimate: explored.estimate,
      limits,
      restsOn: RESTS_ON,
      findings,
      missingFindings,
      absent,
      missingLabels,
    };
  }

  /** Why running every interleaving would prove nothing here, in words. */
  private doubts(): readonly string[] {
    if (!this.method.exhaustive) return [];
    return this.subject.world.checkers.all
      .filter(({ kind }) => !SOUND_KINDS.includes(kind))
      .map(({ name }) => `the checker '${name}' sweeps the state: orders that only it tells apart were not all run`);
  }

  /** A finding with its story: the schedule run again with the log on. */
  private told({ finding, schedule, token, firstExecution, executions }: FoundFinding): SearchFinding {
    const { scenario, one } = this.subject;
    const again = replayCase(scenario, one, token, this.seed);
    const story = again.findings.find(({ identity }) => identity === finding.identity);
    return {
      finding: story ?? finding,
      expected: expectedAs(one, finding),
      token: this.token(token, shownFinding(finding)),
      schedule,
      firstExecution,
      executions,
      preventedBy: [],
    };
  }
}

function expectedAs(one: ScenarioCase, finding: Finding): 'always' | 'possible' | 'no' {
  if (one.expect.always.some((pattern) => matchesFinding(pattern, finding))) return 'always';
  return one.expect.possible.some((pattern) => matchesFinding(pattern, finding)) ? 'possible' : 'no';
}

function verdictOf(complete: boolean, method: SearchMethod, findings: readonly unknown[]): Verdict {
  if (findings.length > 0) return 'violated';
  if (!method.exhaustive) return 'no-finding';
  return complete ? 'verified' : 'incomplete';
}

interface Judged {
  readonly complete: boolean;
  readonly method: SearchMethod;
  readonly findings: readonly SearchFinding[];
  readonly missingFindings: readonly Missing[];
  readonly absent: readonly Absent[];
  readonly missingLabels: readonly Missing[];
}

/** Relative to what the scenario expects. What a search that is not complete did not see, it may yet see. */
function statusOf({ complete, method, findings, missingFindings, absent, missingLabels }: Judged): CaseStatus {
  if (findings.some(({ expected }) => expected === 'no') || absent.length > 0) return 'not-as-expected';
  const unseen = missingFindings.length > 0 || missingLabels.length > 0;
  if (unseen) return complete ? 'not-as-expected' : 'incomplete';
  return complete || !method.exhaustive ? 'as-expected' : 'incomplete';
}

function methodOf({ strategy, runs, depth, bound }: SearchOptions): SearchMethod {
  const sampled = runs === undefined ? '' : `, ${runs} runs`;
  switch (strategy) {
    case 'dpor':
      return { strategy, exhaustive: true, words: 'every inequivalent interleaving (optimal DPOR)' };
    case 'bounded':
      return {
        strategy,
        exhaustive: true,
        words: `every interleaving with at most ${bound ?? 2} preemption${bound === 1 ? '' : 's'}`,
      };
    case 'pct':
      return { strategy, exhaustive: false, words: `random priorities (PCT, depth ${depth ?? 3})${sampled}` };
    case 'pos':
      return { strategy, exhaustive: false, words: `partial order sampling${sampled}` };
    case 'random':
      return { strategy, exhaustive: false, words: `random walk${sampled}` };
    case 'timed':
      return { strategy, exhaustive: false, words: `latencies with jitter${sampled}` };
  }
}
