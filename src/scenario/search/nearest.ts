// The nearest interleaving that passes: one stop moved by a step, or one stop fewer. Of those that do not show the
// finding the one that goes along with the failing run for longest is told beside it.
import type { Finding } from '../../engine/finding.ts';
import { preemptionsOf, type RunSchedule } from '../../explore/attempt.ts';
import { printToken, type ScheduleToken } from '../../explore/token.ts';
import { goOnAtOnce, runOn, startLater, stopElsewhere } from '../../explore/variants.ts';
import type { Bench } from './bench.ts';
import { type NotedRun, noteRun } from './recorder.ts';
import type { Nearest, Story } from './result.ts';
import { tellAs } from './story.ts';

/** How far a stop is moved. */
const MOVES = [-1, 1, -2, 2, -4, 4, -8, 8] as const;

interface Variant {
  readonly token: ScheduleToken;
  readonly change: string;
}

/** A passing run, before its token is printed for the case. */
export interface NearestRun extends Omit<Nearest, 'token'> {
  readonly schedule: string;
}

/** The nearest passing interleaving; undefined when every one that was tried fails, too. */
export function nearestPassing(
  bench: Bench,
  failing: NotedRun,
  finding: Finding,
  story: Story,
): NearestRun | undefined {
  let nearest: { noted: NotedRun; change: string; differsAt: number } | undefined;
  for (const { token, change } of variants(failing.run)) {
    const noted = noteRun(bench, () => bench.trials.run(token, null));
    if (noted === undefined || bench.end === 'cut') continue;
    if (noted.findings.some(({ kind }) => kind === finding.kind)) continue;
    const differsAt = firstDifference(failing.run, noted.run);
    if (nearest !== undefined && nearest.differsAt >= differsAt) continue;
    nearest = { noted, change, differsAt };
  }
  if (nearest === undefined) return undefined;
  const { change, differsAt, noted } = nearest;
  return {
    change,
    schedule: printToken(noted.run.token),
    differsAt: differsAt + 1,
    failing: tellAs(failing, story, differsAt),
    passing: tellAs(noted, story, differsAt),
  };
}

function* variants(run: RunSchedule): Generator<Variant> {
  const { segments } = run.token;
  for (const [at, { actor, until }] of [...segments.entries()].reverse()) {
    if (until === null) continue;
    for (const by of MOVES) {
      const token = stopElsewhere(run, at, by);
      const steps = `${Math.abs(by)} step${Math.abs(by) === 1 ? '' : 's'} ${by < 0 ? 'earlier' : 'later'}`;
      if (token !== undefined) yield { token, change: `${actor} is stopped ${steps} (not before ${until})` };
    }
    yield { token: runOn(run, at), change: `${actor} is not stopped before ${until}` };
  }
  if (preemptionsOf(run.token) > 0) return;
  for (const [at, { actor }] of [...segments.entries()].reverse()) {
    for (const token of [startLater(run, at), goOnAtOnce(run, at)])
      if (token !== undefined) yield { token, change: `${actor} goes on without a break` };
    if (at > 0) {
      const swapped = segments.with(at - 1, segments[at]!).with(at, segments[at - 1]!);
      yield { token: { ...run.token, segments: swapped }, change: `${actor} comes before ${segments[at - 1]!.actor}` };
    }
  }
}

function firstDifference(a: RunSchedule, b: RunSchedule): number {
  const same = (at: number): boolean =>
    a.steps[at]?.actor === b.steps[at]?.actor && a.steps[at]?.label === b.steps[at]?.label;
  let at = 0;
  while (at < a.steps.length && same(at)) at++;
  return at;
}
