// One case under the timed clock, from the building of its world to the end checkers.
import type { Finding } from '../engine/finding.ts';
import { hashText } from '../engine/hash.ts';
import { LimitReached } from '../engine/limit.ts';
import { runTimed } from '../engine/timed.ts';
import { ScenarioError, type Where } from './file/diagnostic.ts';
import type { Scenario, ScenarioCase } from './file/scenario.ts';
import { ScriptMistake } from './mistake.ts';
import type { RunOptions } from './run.ts';
import { type Stage, setStage } from './world/setup.ts';
import type { World } from './world/world.ts';

/** Steps after which a run is given up: a quarter of an hour or so. */
const MAX_STEPS = 1_000_000_000;

/** What a run left behind, before it is judged. */
export interface CaseRun {
  readonly stage: Stage;
  readonly findings: readonly Finding[];
  /** By finding: the step of a script that showed it, when one did. */
  readonly shownBy: ReadonlyMap<Finding, Where>;
  readonly limit: string | undefined;
  readonly steps: number;
  readonly timeNs: number;
  readonly digest: string;
}

function limitInWords(end: 'step-limit' | 'time-limit', maxSteps: number): string {
  return end === 'step-limit' ? `after ${maxSteps} steps (--max-steps)` : 'the time limit was reached';
}

/** The mistake at the step that made it. */
function located({ message }: ScriptMistake, { sim, performing }: World): ScenarioError {
  const at = sim.current === null ? undefined : performing.current(sim.current.name);
  if (at === undefined) return new ScenarioError([{ message }]);
  const what = at.kind === 'operation' ? at.operation.name : at.kind;
  return new ScenarioError([{ where: at.where, message: `\`${what}\`: ${message}` }]);
}

/** Run one case to its end. Throws ScenarioError when a script asks for what is not there. */
export function runToEnd(scenario: Scenario, one: ScenarioCase, options: RunOptions): CaseRun {
  const seed = options.seed ?? scenario.seed;
  const stage = setStage(scenario, one, { seed, checked: options.checked ?? false, rewindable: false, stories: true });
  const { sim, checkers, log } = stage.world;
  if (log !== null) {
    log.pathDigest = hashText(seed);
    log.listener = options.trace ?? null;
  }
  const shownBy = new Map<Finding, Where>();
  let told = sim.findings.length;
  sim.observer = {
    stepActed: (process, changesFrom) => {
      checkers.stepActed(process, changesFrom);
      if (sim.findings.length === told) return;
      const shown = stage.world.performing.actedFor(process);
      for (; told < sim.findings.length; told++) if (shown !== undefined) shownBy.set(sim.findings[told]!, shown.where);
    },
  };
  let limit: string | undefined;
  let steps = 0;
  try {
    const progress = options.progress;
    const ended = runTimed(sim, {
      maxSteps: options.maxSteps ?? MAX_STEPS,
      ...(progress === undefined
        ? {}
        : { onProgress: (done: number, timeNs: number) => progress({ caseName: one.name, steps: done, timeNs }) }),
    });
    steps = ended.steps;
    // Actors that are stuck still hold what they took: the end checkers would only repeat the deadlock.
    if (ended.end === 'done') checkers.atEnd();
    if (ended.end === 'step-limit' || ended.end === 'time-limit')
      limit = limitInWords(ended.end, options.maxSteps ?? MAX_STEPS);
  } catch (error) {
    if (error instanceof ScriptMistake) throw located(error, stage.world);
    if (!(error instanceof LimitReached)) throw error;
    limit = error.message;
  }
  const pathDigest = log?.pathDigest ?? 0;
  const hex = (n: number) => (n >>> 0).toString(16).padStart(8, '0');
  const digest = sim.digested ? `${sim.stateDigest}${hex(pathDigest)}` : hex(pathDigest);
  return { stage, findings: [...sim.findings], shownBy, limit, steps, timeNs: sim.nowNs, digest };
}
