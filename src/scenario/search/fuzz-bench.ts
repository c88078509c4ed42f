// What one worker of a campaign works at: it holds the scenarios and worlds set up once, and does units, replays and
// stories. It keeps nothing that a result could depend on: a rewound world does what a new one does.
import { Draws } from '../../explore/draws.ts';
import { ScenarioError, type Where } from '../file/diagnostic.ts';
import { formatPattern } from '../file/expectation.ts';
import { loadScenario } from '../file/load.ts';
import type { Scenario, ScenarioCase } from '../file/scenario.ts';
import { type CaseChanges, selectCases } from '../file/select-cases.ts';
import type { OperationRegistry } from '../operation.ts';
import type { UnitResult } from './fuzz-result.ts';
import { type FuzzSettings, FuzzSubject } from './fuzz-subject.ts';
import { Mutator } from './mutate.ts';
import { caseOfToken, replayToken } from './replay-token.ts';
import type { ReplayReport, SearchFinding } from './result.ts';
import { shrinkAbsence } from './shrink-absence.ts';
import { type TellOptions, tellFinding } from './tell.ts';
import { type CaseToken, hashOf, parseCaseToken } from './token.ts';

/** What a worker is started with. Plain data. */
export interface BenchSettings extends FuzzSettings {
  readonly changes: CaseChanges;
  readonly files: readonly { readonly file: string; readonly text: string }[];
}

/** Runs of one case, with its own workload or a made-up one. */
export interface UnitTask {
  readonly kind: 'unit';
  readonly unit: number;
  /** Index of the file, and of the case among those selected. */
  readonly file: number;
  readonly case: number;
  readonly runs: readonly number[];
  /** Steps after which a run is given up. */
  readonly maxSteps: number;
  /** Make up a workload from these (null: the author's). */
  readonly mutate?: { readonly parent: string | null; readonly donor: string | null };
}

/** Run a schedule again; `text` is the scenario when no file of the campaign has it. */
export interface ReplayTask {
  readonly kind: 'replay';
  readonly token: string;
  readonly text?: string;
}

/** Shrink a finding and tell its story; `text` as above. */
export interface TellTask {
  readonly kind: 'tell';
  readonly found: SearchFinding;
  readonly text?: string;
  readonly options: TellOptions;
}

/** Shrink a run that lacks a finding. */
export interface AbsenceTask {
  readonly kind: 'absence';
  readonly token: string;
  /** Executions to spend. */
  readonly shrink: number;
}

export type BenchTask = UnitTask | ReplayTask | TellTask | AbsenceTask;

/** What a replay showed. */
export interface ReplayResult {
  readonly verdict: ReplayReport['verdict'];
  /** Does the scenario list what it showed? */
  readonly expected: boolean;
  readonly case: string;
  /** The line of the scenario that it belongs to. */
  readonly where?: Where;
  /** Where the schedule does not fit any more. */
  readonly diverged?: string;
}

/** A made-up workload that goes round in circles is given up sooner. */
const MADE_UP_STEPS_MAX = 10_000;
/** Worlds kept by a thread: pages of their memory in all and of one; what a world takes beside its memory, in pages. */
const KEPT_PAGES_MAX = 32_768;
const KEPT_WORLD_PAGES_MAX = 8192;
const WORLD_PAGES = 64;
const PAGE = 4096;
/** Sets the draws of mutations apart from those of strategies. */
const MUTATION = 2;

export class FuzzBench {
  private readonly settings: BenchSettings;
  private readonly registry: OperationRegistry;
  private readonly scenarios: (Scenario | undefined)[] = [];
  private readonly mutators: (Mutator | undefined)[] = [];
  /** By file and case. The first ones stay: a campaign comes round to all of them again and again. */
  private readonly subjects = new Map<string, FuzzSubject>();
  private keptPages = 0;

  constructor(settings: BenchSettings, registry: OperationRegistry) {
    this.settings = settings;
    this.registry = registry;
  }

  /** Throws ScenarioError when a world cannot be built, which no made-up workload is to blame for. */
  unit(task: UnitTask): UnitResult {
    const scenario = this.scenario(task.file);
    const one = selectCases(scenario, this.settings.changes)[task.case]!;
    if (task.mutate !== undefined) {
      const made = this.madeUp(task, scenario);
      if (made !== null) return made;
    }
    return this.subject(task, scenario, one).perform(task.unit, task.runs);
  }

  private subject({ file, case: index, maxSteps }: UnitTask, scenario: Scenario, one: ScenarioCase): FuzzSubject {
    const key = `${file}/${index}`;
    const known = this.subjects.get(key);
    if (known !== undefined) return known;
    const made = new FuzzSubject(scenario, one, this.settings, maxSteps, false);
    const pages = WORLD_PAGES + scenario.memory.reduce((sum, { spec }) => sum + Number(spec.size) / PAGE, 0);
    if (pages > KEPT_WORLD_PAGES_MAX || this.keptPages + pages > KEPT_PAGES_MAX) return made;
    this.keptPages += pages;
    this.subjects.set(key, made);
    return made;
  }

  private scenario(file: number): Scenario {
    const { file: name, text } = this.settings.files[file]!;
    const scenario = this.scenarios[file] ?? loadScenario(name, text, this.registry);
    this.scenarios[file] = scenario;
    return scenario;
  }

  /** Null: no workload could be made up, or none whose world can be built. */
  private madeUp(task: UnitTask, scenario: Scenario): UnitResult | null {
    const { file, text } = this.settings.files[task.file]!;
    const mutator = this.mutators[task.file] ?? new Mutator(scenario, text, this.registry);
    this.mutators[task.file] = mutator;
    const draws = new Draws();
    draws.restart(this.settings.seed, task.runs[0]!, MUTATION);
    const { parent, donor } = task.mutate!;
    const made = mutator.mutate(parent, donor, draws);
    if (made === null) return null;
    try {
      const one = selectCases(made.scenario, this.settings.changes)[task.case]!;
      const result = new FuzzSubject(made.scenario, one, this.settings, MADE_UP_STEPS_MAX, true).perform(
        task.unit,
        task.runs,
      );
      const workload = { file: made.file, text: made.text };
      const findings = result.findings.map((finding) => ({ ...finding, file, workload }));
      return { ...result, findings, workload: made.workload };
    } catch (error) {
      if (error instanceof ScenarioError) return null;
      throw error;
    }
  }

  /** Throws Error or ScenarioError that says why there is nothing to replay. */
  replay({ token: written, text }: ReplayTask): ReplayResult {
    const token = parseCaseToken(written);
    const scenario = this.scenarioOf(token, text);
    const { result } = replayToken(scenario, token, { shrink: 0, fixes: false, nearest: false });
    const { verdict, diverged } = result.replay!;
    const { shows } = token;
    const allowed = ({ expected, finding }: SearchFinding): boolean =>
      expected !== 'no' || this.settings.possible.includes(finding.kind);
    const one = caseOfToken(scenario, token, {});
    // That a finding does not appear is expected when nobody says any more that it always does.
    const demanded = one.expect.always.some((pattern) => hashOf(formatPattern(pattern)) === shows?.hash);
    const kept = result.findings.find(({ finding }) => hashOf(finding.identity) === shows?.hash);
    const where = shows?.absent === true ? one.expectWhere : (kept ?? result.findings[0])?.where;
    return {
      verdict,
      expected: shows?.absent === true ? !demanded : result.findings.every(allowed),
      case: one.name,
      ...(where === undefined ? {} : { where }),
      ...(diverged === undefined ? {} : { diverged: diverged.message }),
    };
  }

  /** The finding, shrunk and told; as it was when its schedule does not show it. */
  tell({ found, text, options }: TellTask): SearchFinding {
    const token = parseCaseToken(found.token);
    const scenario = this.scenarioOf(token, text);
    return tellFinding(scenario, caseOfToken(scenario, token, {}), found, options);
  }

  /** Undefined: it cannot be made small, or the finding is there. */
  absence({ token: text, shrink }: AbsenceTask): ReturnType<typeof shrinkAbsence> {
    const token = parseCaseToken(text);
    const scenario = this.scenarioOf(token, undefined);
    return shrinkAbsence(scenario, caseOfToken(scenario, token, {}), text, shrink);
  }

  private scenarioOf(token: CaseToken, text: string | undefined): Scenario {
    if (text !== undefined) return loadScenario(token.file, text, this.registry);
    const index = this.settings.files.findIndex(({ file }) => file === token.file);
    if (index < 0) throw new Error(`${token.file} is not among the files`);
    return this.scenario(index);
  }
}
