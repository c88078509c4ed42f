// Replays one schedule of a case with stories on: the findings as a person wants to read them.
import type { Finding } from '../../engine/finding.ts';
import { type ExecutionEnd, Runner } from '../../explore/runner.ts';
import { Replay } from '../../explore/schedulers/replay.ts';
import { parseToken } from '../../explore/token.ts';
import type { Scenario, ScenarioCase } from '../file/scenario.ts';
import type { TraceLine } from '../result.ts';
import type { SearchStep } from './result.ts';
import { Subject } from './subject.ts';

export interface Replayed {
  readonly findings: readonly Finding[];
  /** Every step, with what it changed. */
  readonly trace: readonly TraceLine[];
  readonly schedule: readonly SearchStep[];
  /** Where the schedule first did not fit, in one sentence; null when it fitted to the end. */
  readonly divergence: string | null;
  readonly end: ExecutionEnd;
  readonly limits: readonly string[];
}

/** Run `schedule` (a schedule token) once. Throws Error when the schedule cannot be read. */
export function replayCase(scenario: Scenario, one: ScenarioCase, schedule: string, seed: string): Replayed {
  const subject = new Subject(scenario, one, { seed, checked: true, stories: true });
  const { world } = subject;
  const runner = new Runner(subject.sim, subject.limits);
  const replay = new Replay(parseToken(schedule));
  const trace: TraceLine[] = [];
  // Attached after the set-up, whose steps are no part of the schedule.
  world.log!.listener = (line) => trace.push(line);
  runner.execute(replay, 0);
  return {
    findings: runner.findings,
    trace,
    schedule: runner.schedule(),
    divergence: replay.divergence,
    end: runner.end,
    limits: [...runner.limitsReached.keys()],
  };
}
