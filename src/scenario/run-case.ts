// One case under the timed clock, from the building of its world to the end checkers.
import type { Finding } from '../engine/finding.ts';
import { hashText } from '../engine/hash.ts';
import { LimitReached } from '../engine/limit.ts';
import { runTimed } from '../engine/timed.ts';
import type { RunOptions } from './run.ts';
import type { Scenario, ScenarioCase } from './scenario.ts';
import { type Stage, setStage } from './world-setup.ts';

/** What a run left behind, before it is judged. */
export interface CaseRun {
  readonly stage: Stage;
  readonly findings: readonly Finding[];
  readonly limit: string | undefined;
  readonly steps: number;
  readonly timeNs: number;
  readonly digest: string;
}

/** Run one case to its end. */
export function runToEnd(scenario: Scenario, one: ScenarioCase, options: RunOptions): CaseRun {
  const seed = options.seed ?? scenario.seed;
  const stage = setStage(scenario, one, { seed, checked: options.checked ?? false, rewindable: false, stories: true });
  const { sim, checkers, log } = stage.world;
  if (log !== null) {
    log.pathDigest = hashText(seed);
    log.listener = options.trace ?? null;
  }
  sim.observer = checkers;
  let limit: string | undefined;
  let steps = 0;
  try {
    const progress = options.progress;
    const ended = runTimed(sim, {
      ...(progress === undefined
        ? {}
        : { onProgress: (done: number, timeNs: number) => progress({ caseName: one.name, steps: done, timeNs }) }),
    });
    steps = ended.steps;
    // Actors that are stuck still hold what they took: the end checkers would only repeat the deadlock.
    if (ended.end === 'done') checkers.atEnd();
    if (ended.end === 'step-limit' || ended.end === 'time-limit') limit = `the ${ended.end} was reached`;
  } catch (error) {
    if (!(error instanceof LimitReached)) throw error;
    limit = error.message;
  }
  const pathDigest = log?.pathDigest ?? 0;
  const hex = (n: number) => (n >>> 0).toString(16).padStart(8, '0');
  const digest = sim.digested ? `${sim.stateDigest}${hex(pathDigest)}` : hex(pathDigest);
  return { stage, findings: [...sim.findings], limit, steps, timeNs: sim.nowNs, digest };
}
