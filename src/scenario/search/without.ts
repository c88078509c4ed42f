// A schedule from which the steps of actors or operations that are left out have gone: where a smaller workload is tried
// first. Whoever was stopped is stopped at the step that comes next for them.
import type { RunSchedule } from '../../explore/attempt.ts';
import type { ScheduledStep } from '../../explore/runner.ts';
import { tokenFrom } from '../../explore/schedulers/replay.ts';
import type { Where } from '../file/diagnostic.ts';

/** A schedule without some of its steps: whoever was stopped is stopped before its next step that is left. */
export function without(
  { steps, token }: RunSchedule,
  owners: readonly (Where | undefined)[],
  keep: (actor: string, owner: Where | undefined) => boolean,
): RunSchedule {
  const left: ScheduledStep[] = [];
  const from: number[] = [];
  for (const [index, step] of steps.entries()) {
    if (!keep(step.actor, owners[index])) continue;
    left.push(step);
    from.push(index);
  }
  const stopped = stopsOf({ steps, token });
  const inLeft = nextOfActor(left);
  const inSteps = nextOfActor(steps);
  const preempted = left.map((step, at): string | null => {
    const before = left[at - 1];
    if (before === undefined || before.actor === step.actor) return null;
    const next = inLeft[at - 1]!;
    if (next < 0) return null;
    const between = inSteps[from[at - 1]!] !== from[next];
    return between || stopped.has(from[at - 1]!) ? left[next]!.label : null;
  });
  return { steps: left, token: tokenFrom(left, preempted, token.initialChoices) };
}

/** By step: the number of the next one of its actor; -1: there is none. */
function nextOfActor(steps: readonly ScheduledStep[]): readonly number[] {
  const next: number[] = new Array(steps.length).fill(-1);
  const last = new Map<string, number>();
  for (let at = steps.length - 1; at >= 0; at--) {
    const { actor } = steps[at]!;
    next[at] = last.get(actor) ?? -1;
    last.set(actor, at);
  }
  return next;
}

/** Numbers of the steps after which an actor was stopped that could have gone on. */
function stopsOf({ steps, token }: RunSchedule): ReadonlySet<number> {
  const stops = new Set<number>();
  let at = 0;
  for (const { until } of token.segments) {
    const { actor } = steps[at]!;
    while (at < steps.length && steps[at]!.actor === actor) at++;
    if (until !== null) stops.add(at - 1);
  }
  return stops;
}
