// Makes a counterexample of a case small: actors and steps of scripts that it does not need are left out, repetitions
// get fewer rounds, then the schedule loses preemptions; again, until nothing more can go or the budget is spent.
//   - The same finding (by identity) must stay. A finding that needed a certain interleaving must go on needing one, so
//     that a race does not turn into a mistake of what is left of the scripts.
//   - An expectation that does not hold goes on being one that can hold: where some run of the whole workload meets it,
//     some run of what is left does. Without that, the step on which it rests would be the first to go.
//   - So does a finding that every run must show and this one lacks: the run must come to the same end, and some run of
//     what is left must show the finding. Where none does, only the schedule is made small.
//   - `wait` stays: it says which orders the author allows (omit.ts). It is not counted as a step.
import type { Finding } from '../../engine/finding.ts';
import { choicesByActor, preemptionsOf, type RunSchedule } from '../../explore/attempt.ts';
import type { ExecutionEnd } from '../../explore/runner.ts';
import { PartialOrderSampling } from '../../explore/schedulers/pos.ts';
import { Budget, shrinkSchedule, withFewerPreemptions } from '../../explore/shrink.ts';
import { parseToken, printToken, type ScheduleToken } from '../../explore/token.ts';
import { KernelError } from '../../kernel/index.ts';
import { ScenarioError, type Where } from '../file/diagnostic.ts';
import { type FindingPattern, matchesFinding } from '../file/expectation.ts';
import type { Scenario, ScenarioCase } from '../file/scenario.ts';
import { Bench } from './bench.ts';
import { omit, placesOf, type ScriptPlace, scriptsOf, wordOf } from './omit.ts';
import type { ShrinkSize } from './result.ts';
import { without } from './without.ts';

/** Random schedules tried where the known one does not fit a smaller script. */
const SAMPLES = 4;
/** Random schedules of the whole workload among which one is looked for that meets the expectation. */
const MEETING_SAMPLES = 16;

interface StartingPoint {
  /** A schedule token, as the explorer prints it. */
  readonly schedule: string;
  readonly omitted: readonly string[];
  readonly seed: string;
}

/** `identity`: of the finding that is to stay. `lacks`: what every run must show, and this one goes on not showing. */
export type ShrinkStart = StartingPoint & ({ readonly identity: string } | { readonly lacks: FindingPattern });

export interface ShrunkCase {
  readonly schedule: string;
  readonly omitted: readonly string[];
  readonly before: ShrinkSize;
  readonly after: ShrinkSize;
  readonly executions: number;
  /** No further step, actor or preemption can go. False: the budget ended before that was known. */
  readonly minimal: boolean;
}

/** A run. */
interface Ran {
  readonly run: RunSchedule;
  /** By step of the run: where its step of a script was written. */
  readonly owners: readonly (Where | undefined)[];
}

/** What is known by now: what is left out, and a run that shows the finding all the same. */
interface Known extends Ran {
  readonly omitted: readonly string[];
  /** A run that meets the expectation which the finding is about; null: it is about none, or none was met. */
  readonly met: Ran | null;
}

/** Shrink one counterexample; undefined when its schedule does not show the finding (any more). */
export function shrinkCase(
  scenario: Scenario,
  one: ScenarioCase,
  start: ShrinkStart,
  limit: number,
): ShrunkCase | undefined {
  return new CaseShrinker(scenario, one, start, new Budget(limit)).shrink();
}

class CaseShrinker {
  private readonly scenario: Scenario;
  private readonly one: ScenarioCase;
  private readonly start: ShrinkStart;
  private readonly budget: Budget;
  private readonly places: readonly ScriptPlace[];
  /** Without any preemption the finding does not appear: it takes a race. */
  private isRace = false;
  /** How the run to shrink ended. */
  private end: ExecutionEnd = 'done';
  /** Where the step is written whose expectation does not hold, if the finding is about one. */
  private expecting: ReadonlySet<Where> = new Set();
  private known!: Known;

  constructor(scenario: Scenario, one: ScenarioCase, start: ShrinkStart, budget: Budget) {
    this.scenario = scenario;
    this.one = one;
    this.start = start;
    this.budget = budget;
    this.places = placesOf(scenario);
  }

  shrink(): ShrunkCase | undefined {
    const { budget, start } = this;
    const bench = this.bench(start.omitted);
    const run = bench.trials.run(parseToken(start.schedule), null);
    this.end = bench.end;
    if (run === undefined || !this.isShown(bench)) return undefined;
    const found = 'identity' in start ? bench.findings.find(({ identity }) => identity === start.identity)! : null;
    this.known = { omitted: start.omitted, run, owners: ownersOf(bench), met: null };
    const before = this.size();
    const straight = bench.trials.run(NO_GUIDE, null);
    this.isRace = !this.isShown(bench);
    if (found !== null) this.expecting = this.expectingSteps(found);
    const met = this.metIn(bench, straight) ?? this.meet(bench, null, MEETING_SAMPLES);
    this.known = { ...this.known, met: met ?? null };
    // Of a workload that never shows what it lacks, everything could go.
    const isWorkloadFree = found !== null || met !== undefined;
    for (let again = true; again && !budget.exhausted; ) {
      again = isWorkloadFree && this.dropActors();
      again = (isWorkloadFree && this.dropSteps()) || again;
      again = (isWorkloadFree && this.dropRounds()) || again;
      again = this.shrinkSchedule() || again;
      if (!again && !budget.exhausted) again = this.fewerPreemptions();
    }
    const { omitted, run: small } = this.known;
    return {
      schedule: printToken(small.token),
      omitted,
      before,
      after: this.size(),
      executions: budget.spent,
      minimal: !budget.exhausted,
    };
  }

  /** Does the run just made show what is to stay? */
  private isShown({ findings, end }: Bench): boolean {
    const { start } = this;
    if ('identity' in start) return findings.some(({ identity }) => identity === start.identity);
    return end === this.end && !findings.some((finding) => matchesFinding(start.lacks, finding));
  }

  private expectingSteps({ kind, details }: Finding): ReadonlySet<Where> {
    if (kind !== 'unexpected-outcome') return new Set();
    const steps = this.places.map(({ step }) => step).filter((step) => wordOf(step) === details.operation);
    return new Set(steps.map(({ where }) => where).filter(({ line }) => line === details.line));
  }

  /** The run just made, when it met the expectation. */
  private metIn(bench: Bench, run: RunSchedule | undefined): Ran | undefined {
    const { expecting, start } = this;
    if (run !== undefined && 'lacks' in start && bench.findings.some((finding) => matchesFinding(start.lacks, finding)))
      return { run, owners: ownersOf(bench) };
    if (run === undefined || bench.end !== 'done') return undefined;
    if (!bench.owners.some((owner) => owner !== undefined && expecting.has(owner.where))) return undefined;
    const lines = [...expecting].map(({ line }) => line);
    const failed = bench.findings.some(
      ({ kind, details }) => kind === 'unexpected-outcome' && lines.includes(Number(details.line)),
    );
    return failed ? undefined : { run, owners: ownersOf(bench) };
  }

  /** A run that meets the expectation: as `guide` goes, with everybody in turn, or a random one. */
  private meet(bench: Bench, guide: RunSchedule | null, samples: number): Ran | undefined {
    if (this.expecting.size === 0 && !('lacks' in this.start)) return undefined;
    const { trials } = bench;
    const tries = [
      ...(guide === null ? [] : [() => trials.run(guide.token, choicesByActor(guide.steps))]),
      () => trials.run(NO_GUIDE, null),
      ...Array.from({ length: samples }, (_, i) => () => trials.follow(new PartialOrderSampling(`meet ${i}`, 1))),
    ];
    for (const attempt of tries) {
      if (this.budget.exhausted) return undefined;
      const met = this.metIn(bench, attempt());
      if (met !== undefined) return met;
    }
    return undefined;
  }

  private bench(omitted: readonly string[]): Bench {
    const { scenario, one, budget, start } = this;
    // A world costs about as much as an execution.
    budget.spend(1);
    const wanted = (): boolean => this.isShown(bench);
    const bench = new Bench(scenario, one, { seed: start.seed, omitted, wanted, budget, stories: false });
    return bench;
  }

  private size(): ShrinkSize {
    const { omitted, run } = this.known;
    const { scenario } = omit(this.scenario, omitted);
    return {
      actors: scenario.actors.length,
      scriptSteps: placesOf(scenario).filter(({ step }) => step.kind !== 'wait').length,
      steps: run.steps.length,
      preemptions: preemptionsOf(run.token),
    };
  }

  private dropActors(): boolean {
    let dropped = false;
    const { actors } = omit(this.scenario, this.known.omitted).scenario;
    for (const { name } of [...actors].reverse())
      if (this.scenario.actors.some((actor) => actor.name === name)) dropped = this.leaveOut([name]) || dropped;
    return dropped;
  }

  /** Groups of steps, halving, then every single one. */
  private dropSteps(): boolean {
    let dropped = false;
    for (let size = Math.ceil(this.present().length / 2); size >= 1; size = size === 1 ? 0 : Math.ceil(size / 2)) {
      for (let from = 0; ; ) {
        const group = this.present().slice(from, from + size);
        if (group.length === 0) break;
        if (this.leaveOut(group.map(({ path }) => path))) dropped = true;
        else from += size;
      }
    }
    return dropped;
  }

  /** Steps that could still go, last ones first: what comes late is more often of no account. */
  private present(): readonly ScriptPlace[] {
    const there = new Set(placesOf(omit(this.scenario, this.known.omitted).scenario).map(({ step }) => step.where));
    const gone = new Set(this.known.omitted);
    return this.places
      .filter(({ step, path }) => step.kind !== 'wait' && there.has(step.where) && !gone.has(path))
      .reverse();
  }

  private dropRounds(): boolean {
    let dropped = false;
    for (const { path, step } of this.present()) {
      if (step.kind !== 'repeat') continue;
      for (let again = true; again; ) {
        const other = this.known.omitted.filter((known) => !known.startsWith(`${path}=`));
        const set = this.known.omitted.find((known) => known.startsWith(`${path}=`));
        const times = set === undefined ? step.times : Number(set.slice(path.length + 1));
        const fewer = [...new Set([1, Math.floor(times / 2), times - 1])].filter((n) => n >= 1 && n < times);
        again = fewer.some((n) => this.accept([...other, `${path}=${n}`], (known) => known.run));
        dropped ||= again;
      }
    }
    return dropped;
  }

  private shrinkSchedule(): boolean {
    const { known } = this;
    const bench = this.bench(known.omitted);
    const small = shrinkSchedule(bench.trials, known.run);
    if (small === known.run) return false;
    bench.trials.run(small.token, null);
    this.known = { ...known, run: small, owners: ownersOf(bench) };
    return true;
  }

  private fewerPreemptions(): boolean {
    const { known } = this;
    const bench = this.bench(known.omitted);
    const fewer = withFewerPreemptions(bench.trials, known.run);
    if (fewer === undefined) return false;
    bench.trials.run(fewer.token, null);
    this.known = { ...known, run: fewer, owners: ownersOf(bench) };
    return true;
  }

  /** Try without these actors or steps. True: the finding is still there. */
  private leaveOut(paths: readonly string[]): boolean {
    const gone = new Set<Where>();
    const goneActors = new Set(paths.filter((path) => !path.includes(':')));
    for (const { path, step } of this.places) if (paths.includes(path)) noteAll(step, gone);
    const keep = (actor: string, owner: Where | undefined): boolean =>
      !goneActors.has(actor.split('/')[0]!) && (owner === undefined || !gone.has(owner));
    return this.accept([...this.known.omitted, ...paths], ({ run, owners }) => without(run, owners, keep));
  }

  /** `adapt`: a run of what is known, made fit for what is left. */
  private accept(omitted: readonly string[], adapt: (ran: Ran) => RunSchedule): boolean {
    const { known } = this;
    if (this.budget.exhausted) return false;
    try {
      const bench = this.bench(tidied(omitted, this.scenario));
      if (this.isRace && (bench.trials.run(NO_GUIDE, null) === undefined || this.isShown(bench))) return false;
      const run = this.shown(bench, adapt(known));
      if (run === undefined) return false;
      const owners = ownersOf(bench);
      const samples = 'lacks' in this.start ? MEETING_SAMPLES : SAMPLES;
      const met = known.met === null ? null : this.meet(bench, adapt(known.met), samples);
      if (met === undefined) return false;
      this.known = { omitted: tidied(omitted, this.scenario), run, owners, met };
      return true;
    } catch (error) {
      // Without that step the world cannot be built, or not so.
      if (error instanceof ScenarioError || error instanceof KernelError) return false;
      throw error;
    }
  }

  /** The adapted schedule, or one of a few random ones. */
  private shown(bench: Bench, { token, steps }: RunSchedule): RunSchedule | undefined {
    const { trials } = bench;
    const fits = (): boolean => this.end === 'cut' || bench.end !== 'cut';
    const adapted = trials.show(token, choicesByActor(steps));
    if (adapted !== undefined && fits()) return adapted;
    if (trials.hasOneOrder) return undefined;
    const sampler = new PartialOrderSampling('shrink', SAMPLES);
    for (let run = 0; run < SAMPLES && !this.budget.exhausted; run++) {
      const sampled = trials.sample(sampler, run);
      if (sampled !== undefined && fits()) return sampled;
    }
    return undefined;
  }
}

function ownersOf({ owners }: Bench): readonly (Where | undefined)[] {
  return owners.map((owner) => owner?.where);
}

const NO_GUIDE: ScheduleToken = { initialChoices: [], segments: [] };

/** The places of a step and of all inside it. */
function noteAll(step: ScriptPlace['step'], into: Set<Where>): void {
  into.add(step.where);
  for (const script of scriptsOf(step)) for (const inner of script.steps) noteAll(inner, into);
}

/** Paths inside of what is left out anyway say nothing. */
function tidied(omitted: readonly string[], scenario: Scenario): readonly string[] {
  const inside = (path: string): boolean =>
    omitted.some((other) => other !== path && (path.startsWith(`${other}:`) || path.startsWith(`${other}/`)));
  const order = new Map(placesOf(scenario).map(({ path }, index) => [path, index]));
  const rank = (path: string): number => order.get(path.replace(/=\d+$/, '')) ?? -1;
  return [...new Set(omitted)].filter((path) => !inside(path)).sort((a, b) => rank(a) - rank(b));
}
