// One call of `pinsim fuzz`: replay the corpus, run the campaign until it or its time is over, tell what was found.
import { performance } from 'node:perf_hooks';
import type { Scenario } from '../../scenario/file/scenario.ts';
import { type CaseChanges, selectCases } from '../../scenario/file/select-cases.ts';
import type { CorpusReplay, FuzzAbsence, FuzzCampaign, FuzzFinding } from '../../scenario/search/fuzz-result.ts';
import type { Absent, ScenarioSearch, SearchFinding } from '../../scenario/search/result.ts';
import { scenarioDigest } from '../../scenario/search/token.ts';
import { readText } from '../files.ts';
import type { Io } from '../io.ts';
import { programVersion } from '../version.ts';
import { Campaign } from './campaign.ts';
import {
  type CorpusEntry,
  entryName,
  entryOf,
  entryOfAbsence,
  isAsFound,
  keep,
  keepSmall,
  type NewEntry,
  readCorpus,
  smallEntryOf,
  smallEntryOfAbsence,
} from './corpus.ts';
import type { FuzzOptions } from './options.ts';
import { campaignOf, plainFinding, searchesOf } from './outcome.ts';
import { defaultJobs, type Pool, threadPool } from './pool.ts';
import { FuzzProgress } from './progress.ts';
import { type Identity, StateFile } from './state.ts';
import { casesOf, type FuzzCase } from './subjects.ts';
import { causeOf, hashOfCause, lackOf } from './tally.ts';

export interface FuzzSetting {
  readonly options: FuzzOptions;
  /** Executions to spend on shrinking each finding. */
  readonly shrink: number;
  readonly changes: CaseChanges;
  readonly labelsKnown: ReadonlySet<string>;
  /** When the command began, by `performance.now()`: from there on `--for` counts. */
  readonly startMs: number;
}

export interface FuzzRun {
  readonly campaign: FuzzCampaign;
  readonly scenarios: readonly ScenarioSearch[];
  /** Stopped by Ctrl-C. */
  readonly interrupted: boolean;
}

/** Findings told in full; of the others there is what the run said, and the token. */
const TOLD_MAX = 20;
/** Kept back of the time that `--for` gives, to tell what was found [ms]; less than the second that it promises. */
const TELLING_MS = 800;
/** Consecutive runs on one made-up workload. */
const RUNS_PER_WORKLOAD = 16;

/** Throws UsageError and ScenarioError before anything has run, and ScenarioError when a world cannot be built. */
export async function fuzz(scenarios: readonly Scenario[], setting: FuzzSetting, io: Io): Promise<FuzzRun> {
  const { options, changes } = setting;
  const endMs = options.forMs === undefined ? Number.POSITIVE_INFINITY : setting.startMs + options.forMs;
  const cases = casesOf(scenarios, (scenario) => selectCases(scenario, changes));
  const entries = options.corpus === undefined ? [] : readCorpus(io, options.corpus);
  const { state: file } = options;
  const files = scenarios.map(({ file: name }) => ({ file: name, text: readText(io, name) }));
  const state = file === undefined ? null : new StateFile(io, file, programVersion(), identityOf(cases, options));
  const { seed, strategies, possible } = options;
  try {
    const pool = await threadPool({ seed, strategies, possible, changes, files }, options.jobs ?? defaultJobs());
    try {
      return await new FuzzCall(cases, setting, io, pool, state, endMs).run(entries);
    } finally {
      await pool.close();
    }
  } finally {
    state?.close();
  }
}

/** A campaign that went on with another seed, or with other files, would be neither the one nor the other. */
function identityOf(cases: readonly FuzzCase[], options: FuzzOptions): Identity {
  const { seed, shard, mutate, strategies, possible } = options;
  return {
    seed,
    shard: `${shard.index}/${shard.count}`,
    mutate,
    strategies,
    possible,
    cases: cases.map(({ scenario, one }) => [
      scenario.file,
      one.name,
      one.kernel,
      ...one.with.map((id) => `+${id}`),
      ...one.without.map((id) => `-${id}`),
      scenarioDigest(scenario, one),
    ]),
  };
}

class FuzzCall {
  private readonly cases: readonly FuzzCase[];
  private readonly setting: FuzzSetting;
  private readonly io: Io;
  private readonly pool: Pool;
  private readonly endMs: number;
  private readonly campaign: Campaign;
  private readonly progress: FuzzProgress;
  /** By cause: the making small of what the corpus folder keeps, done or under way. */
  private readonly small = new Map<string, Promise<void>>();
  /** By token as found. */
  private readonly smallAbsences = new Map<string, Pick<Absent, 'token' | 'shrunk'>>();
  private stopped: string | undefined;
  private interrupted = false;
  /** Resolved when the campaign is to stop. */
  private readonly stop: Promise<void>;
  private stopNow: () => void = () => {};

  constructor(
    cases: readonly FuzzCase[],
    setting: FuzzSetting,
    io: Io,
    pool: Pool,
    state: StateFile | null,
    endMs: number,
  ) {
    this.cases = cases;
    this.setting = setting;
    this.io = io;
    this.pool = pool;
    this.endMs = endMs;
    const { runs, seed, mutate, shard } = setting.options;
    const plan = {
      subjects: cases,
      runs,
      runsPerSlot: mutate ? RUNS_PER_WORKLOAD : 1,
      shard: shard.index - 1,
      shards: shard.count,
      unitPerSlot: mutate,
    };
    const found = (finding: FuzzFinding): void => {
      if (finding.expected === 'no') this.keepFound(finding);
    };
    const lacked = (absence: FuzzAbsence): void => this.keepLacked(absence);
    this.campaign = new Campaign({ seed, mutate, plan, cases, found, lacked }, pool, state);
    const goal = { runs: runs / shard.count, endMs };
    this.progress = new FuzzProgress(io, goal, () => ({
      runs: this.campaign.runsDone,
      coverage: this.campaign.coverage,
      findings: this.campaign.tally.found.size,
      unexpected: this.campaign.tally.unexpected,
      absent: this.campaign.tally.lacked.size,
    }));
    this.stop = new Promise((resolve) => {
      this.stopNow = resolve;
    });
  }

  async run(entries: readonly CorpusEntry[]): Promise<FuzzRun> {
    const { campaign, progress, io, endMs } = this;
    const forget = io.onInterrupt?.(() => {
      this.interrupted = true;
      this.end('interrupted');
    });
    const timer = Number.isFinite(endMs)
      ? setTimeout(() => this.end('the time was up (--for)'), Math.max(0, endMs - TELLING_MS - performance.now()))
      : null;
    progress.start();
    const corpus: CorpusReplay[] = [];
    try {
      const work = async (): Promise<void> => {
        await this.replayAll(entries, corpus);
        this.keepRestored();
        if (this.stopped === undefined) await campaign.run();
      };
      const working = work();
      await Promise.race([working, this.stop]);
      // Whoever still waits for a thread that is about to be ended is not to be heard any more.
      working.catch(() => {});
    } finally {
      if (timer !== null) clearTimeout(timer);
      progress.end();
      forget?.();
    }
    if (this.stopped !== undefined) campaign.countPartial();
    for (const entry of entries.slice(corpus.length))
      corpus.push({ ...aboutEntry(entry), outcome: 'broken', note: 'there was no time to replay it' });
    return this.outcome(corpus, await this.tellAll());
  }

  private end(why: string): void {
    this.stopped ??= why;
    this.campaign.stop();
    this.stopNow();
  }

  private async replayAll(entries: readonly CorpusEntry[], into: CorpusReplay[]): Promise<void> {
    const replays = entries.map((entry) => this.replay(entry));
    for (const replay of replays) into.push(await replay);
  }

  private async replay(kept: CorpusEntry): Promise<CorpusReplay> {
    const { token, text } = kept;
    const entry = aboutEntry(kept);
    const task = { kind: 'replay', token, ...(text === undefined ? {} : { text }) } as const;
    const answer = await this.pool.do(task).catch(() => undefined);
    if (answer?.kind !== 'replay')
      return { ...entry, outcome: 'broken', note: answer?.kind === 'broken' ? answer.why : 'stopped' };
    const { verdict, expected, case: one, where, diverged } = answer.result;
    const shown = verdict === 'shown' || verdict === 'nearby';
    const outcome = !shown ? 'gone' : expected ? 'expected' : 'shows';
    return {
      ...entry,
      case: one,
      outcome,
      ...(shown && where !== undefined ? { where } : {}),
      ...(diverged === undefined ? {} : { note: diverged }),
    };
  }

  /** A new case for the corpus folder, the moment it is found. */
  private keep(entry: NewEntry, cause: string): void {
    const { corpus } = this.setting.options;
    if (corpus === undefined) return;
    keep(this.io, corpus, entryName(entry, hashOfCause(cause)), entry, programVersion());
  }

  /** Keep a finding, and make it small while the campaign goes on: there may be no time for that when it has ended. */
  private keepFound(found: FuzzFinding): void {
    const cause = causeOf(found);
    this.keep(entryOf(found), cause);
    const { options, shrink } = this.setting;
    if (options.corpus === undefined || shrink === 0 || this.small.has(cause)) return;
    const small = this.tell(found, false).then((story) => this.keepSmall(found, story));
    // A folder that cannot be written to is told of at the end, with the stories.
    small.catch(() => {});
    this.small.set(cause, small);
  }

  /** What the state file brought along and an earlier call had no time to keep, or to make small. */
  private keepRestored(): void {
    const { options } = this.setting;
    const { corpus } = options;
    if (corpus === undefined || this.stopped !== undefined) return;
    const { found, lacked } = this.campaign.tally;
    const isSmall = (entry: NewEntry, cause: string): boolean => {
      this.keep(entry, cause);
      return !isAsFound(this.io, corpus, entryName(entry, hashOfCause(cause)), entry.token);
    };
    for (const one of lacked.all) if (!isSmall(entryOfAbsence(one), lackOf(one))) this.keepLacked(one);
    for (const one of found.all) if (one.expected === 'no' && !isSmall(entryOf(one), causeOf(one))) this.keepFound(one);
  }

  /** The same of a run that lacks a finding. */
  private keepLacked(absence: FuzzAbsence): void {
    const cause = lackOf(absence);
    this.keep(entryOfAbsence(absence), cause);
    const { options, shrink } = this.setting;
    if (options.corpus === undefined || shrink === 0 || this.small.has(cause)) return;
    const small = this.shrinkAbsence(absence).then(() => {});
    small.catch(() => {});
    this.small.set(cause, small);
  }

  private async shrinkAbsence(absence: FuzzAbsence): Promise<void> {
    const { token } = absence;
    const { shrink, options } = this.setting;
    const answer = await this.pool.do({ kind: 'absence', token, shrink }).catch(() => undefined);
    if (answer?.kind !== 'absence' || answer.result === undefined) return;
    this.smallAbsences.set(token, answer.result);
    if (options.corpus === undefined) return;
    const entry = smallEntryOfAbsence(absence, answer.result.token);
    keepSmall(this.io, options.corpus, entryName(entry, hashOfCause(lackOf(absence))), entry, programVersion());
  }

  private keepSmall(found: FuzzFinding, story: SearchFinding | undefined): void {
    const { corpus } = this.setting.options;
    if (corpus === undefined || story?.shrunk === undefined) return;
    const entry = smallEntryOf(found, story);
    keepSmall(this.io, corpus, entryName(entry, hashOfCause(causeOf(found))), entry, programVersion());
  }

  /** Stories of what was not expected: shrunk, with what would have prevented it. */
  private async tellAll(): Promise<ReadonlyMap<string, SearchFinding>> {
    const told = new Map<string, SearchFinding>();
    if (this.interrupted) return told;
    const unexpected = this.campaign.tally.found.all.filter(({ expected }) => expected === 'no');
    const stories = unexpected.slice(0, TOLD_MAX).map(async (found) => {
      const story = await this.tell(found, true);
      this.keepSmall(found, story);
      if (story !== undefined) told.set(found.token, story);
    });
    const absences = this.campaign.tally.lacked.all
      .filter(({ token }) => this.setting.shrink > 0 && !this.smallAbsences.has(token))
      .slice(0, TOLD_MAX)
      .map((absence) => this.shrinkAbsence(absence));
    const whole = Promise.all([...stories, ...absences, ...this.small.values()]).then(() => {});
    if (!Number.isFinite(this.endMs)) await whole;
    else {
      let timer: NodeJS.Timeout | undefined;
      const leftMs = Math.max(this.endMs - performance.now(), 0);
      await Promise.race([whole, new Promise<void>((resolve) => (timer = setTimeout(resolve, leftMs)))]);
      clearTimeout(timer);
    }
    return told;
  }

  /** The finding made small and told; `fixes`: with what would have prevented it. */
  private async tell(found: FuzzFinding, fixes: boolean): Promise<SearchFinding | undefined> {
    const options = { shrink: this.setting.shrink, fixes, nearest: false };
    const text = found.workload?.text;
    const task = {
      kind: 'tell',
      found: plainFinding(found),
      options,
      ...(text === undefined ? {} : { text }),
    } as const;
    const answer = await this.pool.do(task).catch(() => undefined);
    return answer?.kind === 'tell' ? answer.result : undefined;
  }

  private outcome(corpus: readonly CorpusReplay[], told: ReadonlyMap<string, SearchFinding>): FuzzRun {
    const { campaign, cases, setting, stopped } = this;
    const { seed, shard, mutate, strategies } = setting.options;
    const { tally, feedback } = campaign;
    const features = feedback.size;
    const { labelsKnown } = setting;
    const known = {
      seed,
      shard,
      mutate,
      strategies,
      stopped,
      corpus,
      features,
      labelsKnown,
      told,
      small: this.smallAbsences,
    };
    return {
      campaign: campaignOf(tally, cases, known),
      scenarios: searchesOf(tally, cases, known),
      interrupted: this.interrupted,
    };
  }
}

/** What is known of a case of the corpus before it is replayed. */
function aboutEntry({ name, path, token, says, kind, cause, scenario }: CorpusEntry) {
  return { entry: name, path, token, says, kind, cause, scenario };
}
