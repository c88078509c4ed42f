// A case set up once and run under many strategies: the innermost loop of a campaign. What run i does depends on the
// campaign's seed and i alone.
import type { Finding } from '../../engine/finding.ts';
import { hashText } from '../../engine/hash.ts';
import type { Process } from '../../engine/process.ts';
import { UndeclaredAccess } from '../../engine/sim.ts';
import { featureOf, StepCoverage } from '../../explore/coverage.ts';
import { Runner } from '../../explore/runner.ts';
import { InTurn, Mix, type Mixed } from '../../explore/schedulers/mix.ts';
import { NotRepeatable } from '../../explore/schedulers/scheduler.ts';
import { tokenOf } from '../../explore/search.ts';
import { parseToken, printToken, type ScheduleToken, type Segment } from '../../explore/token.ts';
import type { Kernel } from '../../kernel/index.ts';
import { type FindingPattern, formatPattern, matchesFinding } from '../file/expectation.ts';
import type { Scenario, ScenarioCase } from '../file/scenario.ts';
import type { FuzzAbsence, FuzzFinding, UnitResult } from './fuzz-result.ts';
import { Subject } from './subject.ts';
import { caseToken, printCaseToken, type Shown, shownAbsence, shownFinding } from './token.ts';

export interface FuzzSettings {
  /** Of the campaign. */
  readonly seed: string;
  readonly strategies: readonly Mixed[];
  /** Kinds of findings that are no failure wherever they appear. */
  readonly possible: readonly string[];
}

const BEHAVIOUR = 0x62656861;

/** What a made-up workload is refused for, or does not do as its author meant, is an answer and no failure. */
const ANSWERS = ['pin-failure', 'unexpected-outcome'];
/** Steps at which a script waits because it says so: who waits there for ever is not the kernel's fault. */
const OWN_WAITS = /^(script:|do_wait$|pause$|mdev:wait-unpinned$)/;
/** Steps that wait for what a script would have to do: when all who are left wait there, none was left to do it. */
const LEFT_WAITING = /^(sb_start_write|handle_userfault:wait)$/;
/** The script itself has a driver write what it had it pin for reading. */
const OWN_BREACH = 'isolation-breach|read-only pin|gup-user:copy-to-page';

/** A finding in the making. */
interface Found {
  readonly finding: Finding;
  readonly schedule: string;
  readonly firstRun: number;
  readonly strategy: string;
  runs: number;
}

/** An absence in the making: what every run must show, and runs that came to their end without it. */
type Lacked = Omit<Found, 'finding'>;

export class FuzzSubject {
  readonly scenario: Scenario;
  readonly one: ScenarioCase;
  private readonly settings: FuzzSettings;
  private readonly maxSteps: number;
  private readonly mutated: boolean;
  private readonly coverage = new StepCoverage();
  private subject: Subject;
  private runner: Runner;
  /** What the set-up asked its kernel. */
  private asked: ReturnType<Kernel['asked']>;
  /** The strategies, once somebody needed to know how long runs are. */
  private mix: Mix | null = null;
  /** Steps in worlds that were given up. */
  private stepsElsewhere = 0;

  /**
   * Runs are given up after `maxSteps`. `mutated`: the workload is not its author's. Throws ScenarioError when the world
   * cannot be built.
   */
  constructor(scenario: Scenario, one: ScenarioCase, settings: FuzzSettings, maxSteps: number, mutated: boolean) {
    this.scenario = scenario;
    this.one = one;
    this.settings = settings;
    this.maxSteps = maxSteps;
    this.mutated = mutated;
    this.subject = this.setUp();
    this.runner = this.ready();
    this.asked = this.subject.world.kernel.asked();
  }

  private setUp(): Subject {
    return new Subject(this.scenario, this.one, { seed: this.scenario.seed, checked: true, stories: false });
  }

  /** The strategies of these runs. PCT must know how long runs are, roughly: as the one that takes everybody in turn. */
  private mixFor(runs: readonly number[]): Mix {
    if (this.mix !== null) return this.mix;
    const { seed, strategies } = this.settings;
    const mix = new Mix(seed, 1, strategies);
    if (!mix.needsHorizon(runs)) return mix;
    try {
      this.runner.execute(new InTurn(), 0);
    } catch (error) {
      if (!(error instanceof UndeclaredAccess)) throw error;
      this.startOver();
    }
    // It is no run of the campaign.
    this.coverage.take();
    this.runner.limitsReached.clear();
    this.mix = new Mix(seed, Math.max(this.runner.steps, 1), strategies);
    return this.mix;
  }

  private ready(): Runner {
    this.observe();
    return new Runner(this.subject.sim, { ...this.subject.limits, maxSteps: this.maxSteps });
  }

  private observe(): void {
    const { sim } = this.subject;
    const { coverage } = this;
    const inner = sim.observer;
    sim.observer = {
      stepActed(process: Process, changesFrom: number): void {
        coverage.stepActed(process);
        inner?.stepActed(process, changesFrom);
      },
    };
  }

  /** Run these numbers of the campaign. The result does not depend on what was performed before. */
  perform(unit: number, runs: readonly number[]): UnitResult {
    const found = new Map<string, Found>();
    const lacked = new Map<FindingPattern, Lacked>();
    const runsBy: Record<string, number> = {};
    const mix = this.mixFor(runs);
    this.subject.world.kernel.recordAnew(this.asked);
    const stepsBefore = this.steps;
    for (const run of runs) {
      const { scheduler, words } = mix.of(run);
      this.coverage.newExecution();
      runsBy[words] = (runsBy[words] ?? 0) + 1;
      try {
        this.runner.execute(scheduler, run);
        const schedule = (): string => tokenOf(this.runner, this.runner.schedule());
        this.note(this.runner.findings, found, run, words, schedule);
        this.noteAbsences(lacked, run, words, schedule);
      } catch (error) {
        if (!(error instanceof UndeclaredAccess) && !(error instanceof NotRepeatable)) throw error;
        const finding = brokenStep(error, this.subject.sim.current);
        this.note([finding], found, run, words, () => this.brokenSchedule());
        this.startOver();
      }
    }
    const limits: Record<string, number> = {};
    for (const [limit, times] of this.runner.limitsReached) {
      // Who went round in a run of many steps differs from run to run; how many runs did does not.
      const what = limit.replace(/^(an execution reached \d+ steps): .*$/s, '$1');
      limits[what] = (limits[what] ?? 0) + times;
    }
    this.runner.limitsReached.clear();
    const asked = [...this.subject.world.kernel.asked()].map(([id, answer]) => [id, String(answer)] as const);
    const { features, labels } = this.coverage.take();
    const behaviours = asked.map(([id, answer]) => featureOf(BEHAVIOUR, hashText(id), hashText(answer)));
    return {
      unit,
      runs: runs.length,
      steps: this.steps - stepsBefore,
      runsBy,
      limits: this.mutated ? {} : limits,
      features: Uint32Array.from([...features, ...behaviours]),
      labels,
      asked,
      findings: [...found.values()].map((one) => this.told(one)),
      absences: [...lacked].map(([pattern, one]) => this.toldAbsence(pattern, one)),
      workload: null,
    };
  }

  /** Of a run that was cut short nobody knows what it would have shown, nor of a made-up workload what it must show. */
  private noteAbsences(
    lacked: Map<FindingPattern, Lacked>,
    run: number,
    strategy: string,
    schedule: () => string,
  ): void {
    const { always } = this.one.expect;
    const { findings, end } = this.runner;
    if (always.length === 0 || this.mutated || (end !== 'done' && end !== 'deadlock')) return;
    for (const pattern of always) {
      if (findings.some((finding) => matchesFinding(pattern, finding))) continue;
      const known = lacked.get(pattern);
      if (known !== undefined) known.runs++;
      else lacked.set(pattern, { schedule: schedule(), firstRun: run, strategy, runs: 1 });
    }
  }

  private toldAbsence(pattern: FindingPattern, { schedule, ...counted }: Lacked): FuzzAbsence {
    const words = formatPattern(pattern);
    const token = this.token(schedule, shownAbsence(pattern.kind, words));
    return { file: this.scenario.file, case: this.one.name, pattern: words, kind: pattern.kind, token, ...counted };
  }

  private token(schedule: string, shows: Shown): string {
    const { scenario, one } = this;
    return printCaseToken(caseToken(scenario, one, scenario.seed, schedule, { shows }));
  }

  private note(
    findings: readonly Finding[],
    found: Map<string, Found>,
    run: number,
    strategy: string,
    schedule: () => string,
  ): void {
    if (findings.length === 0) return;
    const seen = new Set<string>();
    let text: string | null = null;
    for (const finding of [...findings]) {
      const { identity } = finding;
      if (seen.has(identity) || (this.mutated && this.isAnswer(finding))) continue;
      seen.add(identity);
      const known = found.get(identity);
      if (known !== undefined) {
        known.runs++;
        continue;
      }
      text ??= schedule();
      found.set(identity, { finding, schedule: text, firstRun: run, strategy, runs: 1 });
    }
  }

  private told({ finding, schedule, firstRun, strategy, runs }: Found): FuzzFinding {
    return {
      file: this.scenario.file,
      case: this.one.name,
      finding,
      expected: this.expected(finding),
      token: this.token(schedule, shownFinding(finding)),
      firstRun,
      strategy,
      runs,
    };
  }

  private expected(finding: Finding): 'always' | 'possible' | 'no' {
    const { always, possible } = this.one.expect;
    if (this.settings.possible.includes(finding.kind)) return 'possible';
    // A made-up workload has other actors and addresses: what its original expects of a kind is all that applies.
    if (this.mutated) return [...always, ...possible].some(({ kind }) => kind === finding.kind) ? 'possible' : 'no';
    if (always.some((pattern) => matchesFinding(pattern, finding))) return 'always';
    return possible.some((pattern) => matchesFinding(pattern, finding)) ? 'possible' : 'no';
  }

  /** Is it no more than what a script that nobody thought of brings upon itself? */
  private isAnswer({ kind, steps, details, identity }: Finding): boolean {
    if (ANSWERS.includes(kind) || identity === OWN_BREACH) return true;
    // Pages that the script took under a name, and never gave back.
    if (kind === 'refcount-leak') return this.subject.world.holds.has(String(details.owner).split(' of ')[0]!);
    if (kind !== 'deadlock') return false;
    return steps.some(({ label }) => OWN_WAITS.test(label)) || steps.every(({ label }) => LEFT_WAITING.test(label));
  }

  private get steps(): number {
    return this.stepsElsewhere + this.runner.totalSteps;
  }

  /** A step broke off in the middle of the model: that world is of no more use. */
  private startOver(): void {
    const { limitsReached } = this.runner;
    this.stepsElsewhere = this.steps;
    this.subject = this.setUp();
    this.runner = this.ready();
    for (const [limit, times] of limitsReached) this.runner.limitsReached.set(limit, times);
  }

  /** A schedule whose last step never ended: what came before it, and then that actor. */
  private brokenSchedule(): string {
    const { runner } = this;
    const actor = this.subject.sim.current?.name;
    let token: ScheduleToken;
    try {
      token = parseToken(tokenOf(runner, runner.schedule()));
    } catch (error) {
      // A world that does not repeat has no schedule that could be told.
      if (!(error instanceof NotRepeatable)) throw error;
      return printToken({ initialChoices: [], segments: [] });
    }
    if (actor === undefined || token.segments.at(-1)?.actor === actor) return printToken(token);
    const last: Segment = { actor, until: null, occurrence: 1, choices: [] };
    return printToken({ ...token, segments: [...token.segments, last] });
  }
}

/** What checked mode or a search objects to is a bug of the model, and reported as one. */
function brokenStep(error: Error, process: Process | null): Finding {
  const label = process?.announced.step.label ?? 'no step';
  return {
    kind: 'model-bug',
    message: error.message,
    reasons: ['the model is at fault, not the kernel: please report it'],
    actors: process === null ? [] : [process.name],
    objects: [],
    steps: [],
    details: { error: error.name },
    identity: `model-bug|${error.name}|${label}`,
  };
}
