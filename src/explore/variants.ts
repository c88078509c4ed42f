// Schedules with one switch between actors fewer. A switch goes away when an actor runs on where it was stopped, when it
// starts later (its steps join those after the interruption) or when what comes after joins what came before. After
// Jalbert and Sen, "A trace simplification technique for effective debugging of concurrent programs" (FSE 2010).
import type { RunSchedule } from './attempt.ts';
import type { ScheduledStep } from './runner.ts';
import type { ScheduleToken, Segment } from './token.ts';

/** The steps of each segment. */
export function stepsOfSegments({ steps, token }: RunSchedule): readonly (readonly ScheduledStep[])[] {
  const runs: ScheduledStep[][] = [];
  for (let at = 0; at < steps.length; ) {
    const { actor } = steps[at]!;
    const run: ScheduledStep[] = [];
    while (at < steps.length && steps[at]!.actor === actor) run.push(steps[at++]!);
    runs.push(run);
  }
  if (runs.length !== token.segments.length) throw new Error('a schedule and its token differ in segments');
  return runs;
}

/** The next segment of the actor of segment `at`; -1: none. */
function nextOf(segments: readonly Segment[], at: number): number {
  return segments.findIndex(({ actor }, index) => index > at && actor === segments[at]!.actor);
}

/** Segments `at` and `next` of one actor as one. */
function joined(schedule: RunSchedule, at: number, next: number): Segment {
  const { segments } = schedule.token;
  const { until, occurrence } = segments[next]!;
  const before = stepsOfSegments(schedule)[at]!.filter(({ label }) => label === until).length;
  return { ...segments[next]!, occurrence: occurrence + before };
}

/** The actor of segment `at` is not stopped there: it runs until it ends or has to wait. */
export function runOn({ token }: RunSchedule, at: number): ScheduleToken {
  const segments = token.segments.map((segment, index) =>
    index === at ? { ...segment, until: null, occurrence: 1 } : segment,
  );
  return { ...token, segments };
}

/** None of the segments in `at` is stopped. */
export function runOnAll({ token }: RunSchedule, at: ReadonlySet<number>): ScheduleToken {
  const segments = token.segments.map((segment, index) =>
    at.has(index) ? { ...segment, until: null, occurrence: 1 } : segment,
  );
  return { ...token, segments };
}

/** The steps of segment `at` come later, with the next ones of their actor; undefined when there are none. */
export function startLater(schedule: RunSchedule, at: number): ScheduleToken | undefined {
  const { token } = schedule;
  const next = nextOf(token.segments, at);
  if (next < 0) return undefined;
  const one = joined(schedule, at, next);
  const segments = token.segments.flatMap((segment, index) => (index === at ? [] : index === next ? [one] : [segment]));
  return { ...token, segments };
}

/** The next steps of the actor of segment `at` come at once; undefined when there are none. */
export function goOnAtOnce(schedule: RunSchedule, at: number): ScheduleToken | undefined {
  const { token } = schedule;
  const next = nextOf(token.segments, at);
  if (next < 0) return undefined;
  const one = joined(schedule, at, next);
  const segments = token.segments.flatMap((segment, index) => (index === next ? [] : index === at ? [one] : [segment]));
  return { ...token, segments };
}

/** The actor of segment `at` is stopped `by` of its steps later (earlier when negative); undefined when it cannot be. */
export function stopElsewhere(schedule: RunSchedule, at: number, by: number): ScheduleToken | undefined {
  const { token } = schedule;
  const { segments } = token;
  const segment = segments[at]!;
  if (segment.until === null || by === 0) return undefined;
  const runs = stepsOfSegments(schedule);
  const here = runs[at]!;
  const next = nextOf(segments, at);
  const later = next < 0 ? [] : runs[next]!;
  const count = here.length + by;
  if (count < 1 || by > later.length - 1) return undefined;
  const whole = [...here, ...later];
  const until = whole[count]!.label;
  const occurrence = whole.slice(0, count).filter(({ label }) => label === until).length + 1;
  const changed = segments.map((other, index) => {
    if (index === at) return { ...other, until, occurrence };
    if (index !== next || other.until === null) return other;
    const within = whole.slice(count).filter(({ label }) => label === other.until).length;
    // `later` ends before the label at which that segment is stopped.
    return { ...other, occurrence: within + 1 };
  });
  return { ...token, segments: changed };
}
