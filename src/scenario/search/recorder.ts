// Notes of one run, step by step: who acted what, for which operation of the script, which objects it read and wrote and
// what changed. Made while the run goes on: names of objects are known only then.
import { type Change, changesSince } from '../../check/changes.ts';
import type { Finding } from '../../engine/finding.ts';
import type { Process } from '../../engine/process.ts';
import { ADD, DID_ADD, DID_READ, DID_WRITE } from '../../engine/step.ts';
import type { RunSchedule } from '../../explore/attempt.ts';
import type { ScriptStep } from '../file/step.ts';
import type { Bench } from './bench.ts';
import type { StorySwitch } from './result.ts';

/** Changes of one step that are kept: a bulk step has thousands. */
const CHANGES_KEPT = 64;

/** Objects that order steps or count them, and tell nothing by themselves, by their names. */
const ORDERING = /^[^:]*(\b|_)(lock|rwsem|mutex)\b|^(vmstat|interrupts|ledger|SRCU|script)\b|^\S+ (acted|ended) /;

/** Objects lo..hi, and what the step did to them. Additions that commute (counters) are not noted. */
export interface Touch {
  readonly lo: number;
  readonly hi: number;
  readonly read: boolean;
  readonly wrote: boolean;
  /** Of the first of them. */
  readonly name: string;
}

export interface Noted {
  readonly actor: string;
  readonly label: string;
  readonly owner: ScriptStep | undefined;
  /** Numbers the operations that its actor has begun. */
  readonly operation: number;
  readonly touches: readonly Touch[];
  readonly changes: readonly Change[];
  /** Of everything, in words. */
  readonly allChanges: readonly string[];
}

/** One run, as noted. */
export interface NotedRun {
  readonly steps: readonly Noted[];
  readonly run: RunSchedule;
  readonly switches: readonly StorySwitch[];
  /** By identity: the number (from 0) of the step that showed the finding; absent when the end of the run did. */
  readonly shownAt: ReadonlyMap<string, number>;
  readonly findings: readonly Finding[];
}

/** Run once on a bench with `act`, taking notes; undefined when the world cannot be run so. */
export function noteRun(bench: Bench, act: () => RunSchedule | undefined): NotedRun | undefined {
  const steps: Noted[] = [];
  const shownAt = new Map<string, number>();
  const operations = new Map<string, { owner: ScriptStep | undefined; count: number }>();
  const { sim } = bench.subject;
  // A rewind drops what an earlier run found.
  let told = -1;
  bench.listener = (process: Process, changesFrom: number, number: number) => {
    if (told < 0) told = bench.findingsBefore;
    const { acted, name } = process;
    const owner = bench.owners[number];
    const before = operations.get(name) ?? { owner: undefined, count: 0 };
    const operation = { owner, count: before.owner === owner ? before.count : before.count + 1 };
    operations.set(name, operation);
    const touches: Touch[] = [];
    for (let i = 0; i < acted.count; i++) {
      const did = acted.did[i]!;
      if (did === 0 || acted.kind[i] === ADD) continue;
      const lo = acted.lo[i]!;
      const objectName = sim.describe(lo);
      if (ORDERING.test(objectName)) continue;
      touches.push({
        lo,
        hi: acted.hi[i]!,
        read: (did & (DID_READ | DID_ADD)) !== 0,
        wrote: (did & (DID_WRITE | DID_ADD)) !== 0,
        name: objectName,
      });
    }
    const { changes } = changesSince(sim, changesFrom, CHANGES_KEPT);
    steps.push({
      actor: name,
      label: acted.step.label,
      owner,
      operation: operation.count,
      touches,
      changes: changes.filter(({ text }) => !ORDERING.test(text)),
      allChanges: changes.map(({ text }) => text),
    });
    for (; told < sim.findings.length; told++) {
      const { identity } = sim.findings[told]!;
      if (!shownAt.has(identity)) shownAt.set(identity, number);
    }
  };
  try {
    const run = act();
    if (run === undefined) return undefined;
    const { findings } = bench;
    return { steps, run, switches: switchesOf(run), shownAt, findings };
  } finally {
    bench.listener = null;
  }
}

/** Where actors were stopped that could have gone on. */
function switchesOf({ steps, token }: RunSchedule): readonly StorySwitch[] {
  const switches: StorySwitch[] = [];
  let at = 0;
  for (const { actor, until } of token.segments) {
    while (at < steps.length && steps[at]!.actor === actor) at++;
    if (until !== null && at < steps.length) switches.push({ after: at, actor, before: until, to: steps[at]!.actor });
  }
  return switches;
}
