// Runs a campaign on a pool: hands out units in the order of the plan, takes what comes back in any order, and counts
// epoch by epoch. Whoever started it may stop it at any moment.
import { type CampaignOptions, type Epoch, epochsOf, type Unit } from '../../explore/campaign.ts';
import { Draws } from '../../explore/draws.ts';
import { Feedback, type Lesson } from '../../explore/feedback.ts';
import { ScenarioError } from '../../scenario/file/diagnostic.ts';
import type { UnitTask } from '../../scenario/search/fuzz-bench.ts';
import type { FuzzAbsence, FuzzFinding, UnitResult } from '../../scenario/search/fuzz-result.ts';
import type { Pool } from './pool.ts';
import type { EpochRecord, StateFile } from './state.ts';
import { type FuzzCase, LARGE_STRIDE } from './subjects.ts';
import { addAll, Tally } from './tally.ts';

/** Epochs begun before the oldest of them is finished: a slow case must not hold the others up. */
const EPOCHS_AHEAD = 64;
/** Steps after which a run is given up: an unfair schedule can keep a retry loop going for ever. */
const STEPS_MAX = 30_000;
const LARGE_STEPS_MAX = 300_000;
/** Sets the draws of parents apart from all others. */
const PARENTS = 3;

export interface CampaignSettings {
  readonly seed: string;
  readonly mutate: boolean;
  readonly plan: CampaignOptions;
  readonly cases: readonly FuzzCase[];
  /** Told of every cause when it is first met. */
  readonly found: (finding: FuzzFinding) => void;
  readonly lacked: (absence: FuzzAbsence) => void;
}

/** An epoch under way. */
interface OpenEpoch {
  readonly epoch: Epoch;
  readonly results: Map<number, UnitResult>;
  next: number;
}

export class Campaign {
  /** What finished epochs gave, and the units of those under way. */
  readonly tally = new Tally();
  readonly feedback = new Feedback();
  private readonly settings: CampaignSettings;
  private readonly pool: Pool;
  private readonly state: StateFile | null;
  private readonly epochs: Iterator<Epoch, void>;
  private readonly finished = new Map<number, number>();
  private readonly open: OpenEpoch[] = [];
  /** Of units that came back, learned from or not. */
  private readonly arrivedFeatures = new Set<number>();
  private exhausted = false;
  private stopped = false;
  private waiting: (() => void)[] = [];
  private readonly draws = new Draws();

  constructor(settings: CampaignSettings, pool: Pool, state: StateFile | null) {
    this.settings = settings;
    this.pool = pool;
    this.state = state;
    this.epochs = epochsOf(settings.plan);
    this.restore();
  }

  /** Take up what the state file has. */
  private restore(): void {
    const { tally, feedback } = this;
    const latest = new Map<number, EpochRecord>();
    for (const record of this.state?.records ?? []) {
      if ('finding' in record) tally.found.add(record.finding, 0);
      else if ('absence' in record) tally.lacked.add(record.absence, 0);
      else latest.set(record.epoch, record);
    }
    for (const record of latest.values()) {
      // Of an epoch that was cut short and shall be longer now, nothing counts.
      if (this.settings.plan.runs > record.to && record.cut) continue;
      this.finished.set(record.epoch, record.to);
      tally.runs += record.runs;
      tally.steps += record.steps;
      tally.workloads += record.workloads;
      addAll(tally.runsBy, Object.entries(record.runsBy));
      addAll(tally.limits, Object.entries(record.limits));
      for (const [index, runs, steps] of record.cases) {
        addAll(tally.cases, [[index, runs]]);
        addAll(tally.caseSteps, [[index, steps]]);
      }
      tally.cover(record.labels, record.asked);
      feedback.restore(record.features, record.kept);
      for (const feature of record.features) this.arrivedFeatures.add(feature);
      for (const [index, labels] of record.reached) tally.reach(index, labels);
      for (const [cause, runs] of record.shown) tally.found.addRuns(cause, runs);
      for (const [cause, runs] of record.lacked) tally.lacked.addRuns(cause, runs);
    }
  }

  /** Run to the end of the plan, or until stopped. */
  async run(): Promise<void> {
    // One more than there are threads, so that none waits for this one.
    await Promise.all(Array.from({ length: this.pool.jobs + 1 }, () => this.lane()));
  }

  /** Hand out nothing more; what is under way need not come back. */
  stop(): void {
    this.stopped = true;
    this.wake();
  }

  private async lane(): Promise<void> {
    for (;;) {
      const unit = await this.nextUnit();
      if (unit === null) return;
      const answer = await this.pool.do(this.taskOf(unit)).catch((error: unknown) => {
        if (this.stopped) return null;
        this.stop();
        throw error;
      });
      if (answer === null || this.stopped) return;
      if (answer.kind === 'mistake') {
        this.stop();
        throw new ScenarioError(answer.diagnostics);
      }
      if (answer.kind === 'unit') this.arrived(unit, answer.result);
    }
  }

  private async nextUnit(): Promise<Unit | null> {
    for (;;) {
      if (this.stopped) return null;
      const begun = this.open.find(({ next, epoch }) => next < epoch.units.length);
      if (begun !== undefined) return begun.epoch.units[begun.next++]!;
      if (this.mayBegin()) this.begin();
      else if (this.open.length === 0) return null;
      else await new Promise<void>((resolve) => this.waiting.push(resolve));
    }
  }

  /** With feedback an epoch begins when the one before has been learned from. */
  private mayBegin(): boolean {
    return !this.exhausted && this.open.length < (this.settings.mutate ? 1 : EPOCHS_AHEAD);
  }

  private begin(): void {
    const { value, done } = this.epochs.next();
    if (done === true || value === undefined) this.exhausted = true;
    else if (!this.finished.has(value.number)) {
      this.open.push({ epoch: value, results: new Map(), next: 0 });
      this.finish();
    }
  }

  private taskOf({ number, subject, runs }: Unit): UnitTask {
    const { cases, mutate, seed } = this.settings;
    const { file, index, stride } = cases[subject]!;
    const large = stride >= LARGE_STRIDE;
    const maxSteps = large ? LARGE_STEPS_MAX : STEPS_MAX;
    const task = { kind: 'unit', unit: number, file, case: index, runs, maxSteps } as const;
    if (!mutate || large) return task;
    const { draws, feedback } = this;
    draws.restart(seed, runs[0]!, PARENTS);
    // The author's workload keeps its turn.
    if (draws.below(8) === 0) return task;
    const family = String(file);
    return { ...task, mutate: { parent: feedback.pick(family, draws), donor: feedback.pick(family, draws) } };
  }

  private arrived(unit: Unit, result: UnitResult): void {
    const open = this.open.find(({ epoch }) => epoch.number === unit.epoch)!;
    open.results.set(unit.number, result);
    for (const feature of result.features) this.arrivedFeatures.add(feature);
    for (const finding of result.findings) {
      if (!this.tally.found.add(finding, 0)) continue;
      this.state?.add({ finding });
      this.settings.found(finding);
    }
    for (const absence of result.absences) {
      if (!this.tally.lacked.add(absence, 0)) continue;
      this.state?.add({ absence });
      this.settings.lacked(absence);
    }
    this.finish();
  }

  /** Count the epochs that are complete, in their order. */
  private finish(): void {
    for (;;) {
      const first = this.open[0];
      if (first === undefined || first.results.size < first.epoch.units.length) break;
      this.open.shift();
      const before = { labels: new Set(this.tally.labels), asked: this.answers() };
      const own = new Tally();
      for (const unit of first.epoch.units) {
        const result = first.results.get(unit.number)!;
        own.count(unit.subject, result);
        this.tally.count(unit.subject, result);
      }
      const { features, kept } = this.feedback.learn(this.lessons(first));
      this.state?.add({
        epoch: first.epoch.number,
        to: first.epoch.to,
        cut: first.epoch.to === this.settings.plan.runs,
        runs: own.runs,
        steps: own.steps,
        runsBy: Object.fromEntries(own.runsBy),
        limits: Object.fromEntries(own.limits),
        cases: [...own.cases].map(([index, runs]) => [index, runs, own.caseSteps.get(index)!] as const),
        workloads: own.workloads,
        features,
        labels: [...own.labels].filter((label) => !before.labels.has(label)),
        asked: pairsOf(own).filter(([id, answer]) => !before.asked.has(`${id}=${answer}`)),
        kept: this.settings.mutate ? kept : [],
        reached: [...own.caseLabels].flatMap(([index, labels]) => {
          const wanted = this.settings.cases[index]!.scenario.reaches.filter(({ label }) => labels.has(label));
          return wanted.length === 0 ? [] : [[index, wanted.map(({ label }) => label)] as const];
        }),
        shown: own.found.counts,
        lacked: own.lacked.counts,
      });
    }
    this.wake();
  }

  /** Count what has come back of epochs that will not be finished: for a report, not for the state. */
  countPartial(): void {
    for (const { epoch, results } of this.open) {
      for (const unit of epoch.units) {
        const result = results.get(unit.number);
        if (result !== undefined) this.tally.count(unit.subject, result);
      }
    }
    for (const one of this.open) this.feedback.learn(this.lessons(one));
    this.open.length = 0;
  }

  /** Features covered by all that has come back. */
  get coverage(): number {
    return this.arrivedFeatures.size;
  }

  /** Runs that have come back, counted or not. */
  get runsDone(): number {
    return this.open.reduce(
      (sum, { results }) => [...results.values()].reduce((inner, { runs }) => inner + runs, sum),
      this.tally.runs,
    );
  }

  private lessons({ epoch, results }: OpenEpoch): readonly Lesson[] {
    return epoch.units.flatMap(({ number, subject }): readonly Lesson[] => {
      const result = results.get(number);
      if (result === undefined) return [];
      const { features, workload } = result;
      return [{ unit: number, family: String(this.settings.cases[subject]!.file), workload, features }];
    });
  }

  private answers(): ReadonlySet<string> {
    return new Set(pairsOf(this.tally).map(([id, answer]) => `${id}=${answer}`));
  }

  private wake(): void {
    const { waiting } = this;
    this.waiting = [];
    for (const resolve of waiting) resolve();
  }
}

function pairsOf(tally: Tally): readonly (readonly [string, string])[] {
  return [...tally.asked].flatMap(([id, answers]) => [...answers].map((answer) => [id, answer] as const));
}
