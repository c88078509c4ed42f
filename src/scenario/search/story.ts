// Which steps of a run matter for a finding. From the notes of the run:
//   - the steps that touched the objects of the finding, as its checker told them, and the one that showed it;
//   - views that were overturned: an actor in the middle of an operation saw something, others changed it before the
//     actor went on. That is what a race is made of;
//   - where a step of these read what another actor had written, or what another overwrote later.
// Locks and counters are not noted (recorder.ts): they only order or count.
import type { Finding } from '../../engine/finding.ts';
import { wordOf } from './omit.ts';
import type { Noted, NotedRun, Touch } from './recorder.ts';
import type { Story, StoryRow } from './result.ts';

/** More rows than this nobody reads. */
const ROWS_MAX = 26;
/** Changes of a step told in a row when none of them is of an object that matters. */
const CHANGES_SHOWN = 2;

/** An actor saw an object in step `read`, and step `write` of another changed it before the actor went on. */
interface Overturned {
  readonly read: number;
  readonly write: number;
  readonly object: number;
  readonly name: string;
}

/** A step of a deadlock: where an actor took what another waits for, or the last one before it waits itself. */
interface Taking {
  readonly at: number;
  /** `takes mmap_lock of vmm, for which guest waits`, `then waits for mmap_lock of vmm` */
  readonly text: string;
}

/** Steps of scripts themselves: waiting, and telling those who wait. */
const isScript = ({ label }: Noted): boolean => label.startsWith('script:') || label === 'schedule';

/** Tell the run as far as it matters for `finding`. */
export function tellStory(noted: NotedRun, finding: Finding): Story {
  const shownAt = noted.shownAt.get(finding.identity);
  const { steps } = noted;
  const end = shownAt ?? steps.length - 1;
  const told = stepsTold(steps, finding, end);
  if (shownAt !== undefined) told.push(shownAt);
  else if (finding.kind === 'deadlock' || told.length === 0) told.push(...lastResort(steps, finding));
  const overturned = overturnedViews(noted, end);
  const takings = finding.kind === 'deadlock' ? takingsOf(steps, finding) : [];
  const chosen = choose(steps, [
    told.filter((at) => at === shownAt),
    takings.map(({ at }) => at),
    overturned.flatMap(({ read, write }) => [write, read]),
    [...told].reverse(),
    readsFrom(steps, told),
    overwritten(steps, told, end),
  ]);
  const objects = new Set(overturned.map(({ object }) => object));
  const about = aboutObjects(steps, told, objects);
  const rows = chosen.map((at) => rowOf(noted, at, about, overturned, takings));
  const actors = [...new Set([...firstActors(steps), ...rows.map(({ actor }) => actor)])].filter((actor) =>
    rows.some((row) => row.actor === actor),
  );
  return {
    actors,
    rows,
    switches: noted.switches,
    steps: steps.length,
    ...(shownAt === undefined ? {} : { shownAt: shownAt + 1 }),
  };
}

/** The same rows of another run: what happened there instead. Row `always` (from 0) is told in any case. */
export function tellAs(noted: NotedRun, story: Story, always: number): Story {
  const labels = new Set(story.rows.map(({ actor, label }) => `${actor} ${label}`));
  const overturned = overturnedViews(noted, noted.steps.length - 1);
  const chosen = noted.steps.flatMap(({ actor, label }, at) =>
    labels.has(`${actor} ${label}`) || at === always ? [at] : [],
  );
  const about = aboutObjects(noted.steps, chosen, new Set());
  const rows = chosen.slice(-2 * ROWS_MAX).map((at) => rowOf(noted, at, about, overturned));
  return { actors: story.actors, rows, switches: noted.switches, steps: noted.steps.length };
}

/** Numbers of the steps that the checker told, found from the end on: the story of a finding ends where it is shown. */
function stepsTold(steps: readonly Noted[], finding: Finding, end: number): number[] {
  const found: number[] = [];
  let at = end;
  for (const { actor, label } of [...finding.steps].reverse()) {
    const here = steps.findLastIndex((step, index) => index <= at && step.actor === actor && step.label === label);
    if (here < 0) continue;
    found.unshift(here);
    at = here - 1;
  }
  return found;
}

/** Steps that changed what the finding names; failing these, the last ones of its actors, or of anybody. */
function lastResort(steps: readonly Noted[], { kind, objects, actors }: Finding): readonly number[] {
  const changing = steps.flatMap(({ changes }, at) =>
    changes.some(({ text }) => objects.some((object) => object !== '' && text.includes(object))) ? [at] : [],
  );
  if (kind !== 'deadlock' && changing.length > 0) return changing;
  const who = actors.length > 0 ? actors : [...new Set(steps.map(({ actor }) => actor))];
  return who.map((actor) => steps.findLastIndex((step) => step.actor === actor && !isScript(step)));
}

/** Where the actors of a deadlock took the locks for which others of them wait (the last change of each), and waited. */
function takingsOf(steps: readonly Noted[], { objects, actors }: Finding): readonly Taking[] {
  return objects.flatMap((object, i) => {
    const waiter = actors[i]!;
    const last = steps.findLastIndex((step) => step.actor === waiter && !isScript(step));
    if (object === '') return [];
    const taken = steps.findLastIndex(({ allChanges }) => allChanges.some((text) => text.startsWith(`${object}: `)));
    return [
      { at: taken, text: `takes ${object}, for which ${waiter} waits` },
      { at: last, text: `then waits for ${object}` },
    ].filter(({ at }) => at >= 0);
  });
}

/** In the order of the groups as many as there is room for, then in the order of the run. */
function choose(steps: readonly Noted[], groups: readonly (readonly number[])[]): readonly number[] {
  const chosen = new Set<number>();
  for (const at of groups.flat()) {
    const step = steps[at];
    if (step !== undefined && !isScript(step) && chosen.size < ROWS_MAX) chosen.add(at);
  }
  return [...chosen].sort((a, b) => a - b);
}

function* firstActors(steps: readonly Noted[]): Generator<string> {
  for (const { actor } of steps) yield actor;
}

const overlap = (a: Touch, b: Touch): boolean => a.lo <= b.hi && b.lo <= a.hi;

/** What was seen in the middle of an operation and changed by others before it went on; newest first. */
function overturnedViews({ steps }: NotedRun, end: number): readonly Overturned[] {
  const found = new Map<string, Overturned>();
  const before = new Map<string, number>();
  for (let next = 0; next <= end; next++) {
    const step = steps[next]!;
    const last = before.get(step.actor);
    before.set(step.actor, next);
    if (last === undefined || last === next - 1 || steps[last]!.operation !== step.operation) continue;
    const seen = seenBy(steps, step.actor, step.operation, last);
    for (let other = last + 1; other < next; other++) {
      for (const write of steps[other]!.touches) {
        if (!write.wrote) continue;
        const view = seen.find(({ touch }) => overlap(touch, write));
        if (view === undefined) continue;
        const object = Math.max(write.lo, view.touch.lo);
        const { name } = write.lo < view.touch.lo ? view.touch : write;
        found.set(`${step.actor} ${object}`, { read: view.at, write: other, object, name });
      }
    }
  }
  return [...found.values()].sort((a, b) => b.write - a.write);
}

/** What an actor has read in its operation up to step `last`, newest first. */
function seenBy(
  steps: readonly Noted[],
  actor: string,
  operation: number,
  last: number,
): readonly { readonly at: number; readonly touch: Touch }[] {
  const seen: { at: number; touch: Touch }[] = [];
  for (let at = last; at >= 0; at--) {
    const step = steps[at]!;
    if (step.actor !== actor) continue;
    if (step.operation !== operation) break;
    for (const touch of step.touches) if (touch.read && touch.hi - touch.lo < 1024) seen.push({ at, touch });
  }
  return seen;
}

/** The steps of others whose writes the given steps read. */
function readsFrom(steps: readonly Noted[], told: readonly number[]): readonly number[] {
  const found: number[] = [];
  for (const at of told) {
    const reader = steps[at];
    if (reader === undefined) continue;
    for (const touch of reader.touches) {
      if (!touch.read) continue;
      const writer = steps.findLastIndex(
        (step, index) => index < at && step.touches.some((write) => write.wrote && overlap(write, touch)),
      );
      if (writer >= 0 && steps[writer]!.actor !== reader.actor) found.push(writer);
    }
  }
  return found;
}

/** The first steps of others that wrote what the given steps had read. */
function overwritten(steps: readonly Noted[], told: readonly number[], end: number): readonly number[] {
  const found: number[] = [];
  for (const at of told) {
    const reader = steps[at];
    if (reader === undefined) continue;
    for (const touch of reader.touches) {
      if (!touch.read || touch.hi - touch.lo >= 1024) continue;
      const writer = steps.findIndex(
        (step, index) =>
          index > at &&
          index <= end &&
          step.actor !== reader.actor &&
          step.touches.some((write) => write.wrote && overlap(write, touch)),
      );
      if (writer >= 0) found.push(writer);
    }
  }
  return found;
}

/** Objects that more than one of the steps touched, or that somebody was wrong about. */
function aboutObjects(
  steps: readonly Noted[],
  told: readonly number[],
  objects: ReadonlySet<number>,
): ReadonlySet<number> {
  const touched = new Map<number, number>();
  for (const at of told)
    for (const { object } of steps[at]?.changes ?? []) touched.set(object, (touched.get(object) ?? 0) + 1);
  return new Set([...objects, ...[...touched].filter(([, count]) => count > 1).map(([object]) => object)]);
}

function rowOf(
  noted: NotedRun,
  at: number,
  about: ReadonlySet<number>,
  overturned: readonly Overturned[],
  takings: readonly Taking[] = [],
): StoryRow {
  const { actor, label, owner, changes } = noted.steps[at]!;
  const important = changes.filter(({ object }) => about.has(object));
  const shown = important.length > 0 ? important : changes.slice(0, CHANGES_SHOWN);
  const rest = changes.length - shown.length;
  const changed = [...shown.map(({ text }) => text), ...(rest > 0 ? [`and ${rest} more`] : [])];
  const notes = [
    ...takings.filter((taking) => taking.at === at).map(({ text }) => text),
    ...overturned
      .filter(({ read }) => read === at)
      .map(({ name, write }) => `sees ${name}, which step ${write + 1} changes`),
    ...overturned
      .filter(({ write }) => write === at)
      .map(({ read }) => `after ${noted.steps[read]!.actor} has looked (step ${read + 1})`),
  ];
  return {
    step: at + 1,
    actor,
    label,
    ...(owner === undefined ? {} : { operation: wordOf(owner), line: owner.where.line }),
    changed,
    notes: [...new Set(notes)],
  };
}
