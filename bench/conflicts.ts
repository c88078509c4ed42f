// Which objects make a search large: `npm run bench -- --conflicts FILE [CASE] [RUNS]` runs random executions of a case
// and counts, object by object, the pairs of steps of different actors that conflict with nothing in between. Each such
// pair is an order that an exhaustive search has to turn around.
import { readFileSync } from 'node:fs';
import type { Process } from '../src/engine/process.ts';
import { ADD, DID_ADD, DID_WRITE, PERHAPS, READ, UPDATE } from '../src/engine/step.ts';
import { Runner } from '../src/explore/runner.ts';
import { RandomWalk } from '../src/explore/schedulers/random.ts';
import { loadScenario } from '../src/scenario/file/load.ts';
import { OPERATIONS } from '../src/scenario/operations/index.ts';
import { Subject } from '../src/scenario/search/subject.ts';

/** One acted step: who, at which label, and what it did to which objects. */
interface Acted {
  readonly actor: Process;
  readonly label: string;
  readonly lo: number[];
  readonly hi: number[];
  readonly did: ('read' | 'write' | 'add')[];
  /** Steps that happened before this one. */
  readonly past: Set<number>;
}

/** The object over which two steps conflict; -1: none. */
function conflict(a: Acted, b: Acted): number {
  for (let i = 0; i < a.lo.length; i++) {
    for (let j = 0; j < b.lo.length; j++) {
      if (a.lo[i]! > b.hi[j]! || b.lo[j]! > a.hi[i]!) continue;
      if (a.did[i] !== b.did[j] || a.did[i] === 'write') return Math.max(a.lo[i]!, b.lo[j]!);
    }
  }
  return -1;
}

function actedStep(process: Process): Acted {
  const { acted } = process;
  const step: Acted = { actor: process, label: acted.step.label, lo: [], hi: [], did: [], past: new Set() };
  for (let i = 0; i < acted.count; i++) {
    const kind = acted.kind[i];
    const did = acted.did[i]!;
    if (kind === PERHAPS && did === 0) continue;
    const open = kind === UPDATE || kind === PERHAPS;
    step.lo.push(acted.lo[i]!);
    step.hi.push(acted.hi[i]!);
    if (kind === READ || (open && (did & (DID_WRITE | DID_ADD)) === 0)) step.did.push('read');
    else step.did.push(kind === ADD ? 'add' : 'write');
  }
  return step;
}

/** Prints the objects by number of racing pairs per execution, with the labels that meet there. */
export function runConflicts(file: string, caseName: string | undefined, runs: number): void {
  const scenario = loadScenario(file, readFileSync(file, 'utf8'), OPERATIONS);
  for (const one of scenario.cases.filter(({ name }) => caseName === undefined || name.startsWith(caseName))) {
    const subject = new Subject(scenario, one, { seed: '1', checked: true, stories: false });
    const { sim } = subject;
    const runner = new Runner(sim, subject.limits);
    const counts = new Map<string, Map<string, number>>();
    let steps: Acted[] = [];
    const lastOf = new Map<Process, number>();
    const observer = sim.observer!;
    sim.observer = {
      stepActed(process, from) {
        const now = actedStep(process);
        const at = steps.length;
        const last = lastOf.get(process);
        if (last !== undefined) for (const before of steps[last]!.past.add(last)) now.past.add(before);
        for (let i = at - 1; i >= 0; i--) {
          const earlier = steps[i]!;
          if (earlier.actor === process || now.past.has(i)) continue;
          const object = conflict(earlier, now);
          if (object < 0) continue;
          for (const before of earlier.past) now.past.add(before);
          now.past.add(i);
          const name = sim.describe(object);
          const pairs = counts.get(name) ?? new Map<string, number>();
          const pair = `${earlier.label} (${earlier.actor.name}) / ${now.label} (${process.name})`;
          counts.set(name, pairs.set(pair, (pairs.get(pair) ?? 0) + 1));
        }
        steps.push(now);
        lastOf.set(process, at);
        observer.stepActed(process, from);
      },
    };
    sim.record(true);
    const scheduler = new RandomWalk('1', runs);
    let total = 0;
    for (let run = 0; runner.execute(scheduler, run); run++) {
      total += steps.length;
      steps = [];
      lastOf.clear();
    }
    const sum = (pairs: Map<string, number>): number => [...pairs.values()].reduce((a, b) => a + b, 0);
    process.stdout.write(`${one.name}: ${(total / runs).toFixed(0)} steps each\n`);
    for (const [object, pairs] of [...counts].sort((a, b) => sum(b[1]) - sum(a[1])).slice(0, 25)) {
      process.stdout.write(`  ${(sum(pairs) / runs).toFixed(2).padStart(7)}  ${object}\n`);
      for (const [pair, count] of [...pairs].sort((a, b) => b[1] - a[1]).slice(0, 4))
        process.stdout.write(`           ${(count / runs).toFixed(2).padStart(6)}  ${pair}\n`);
    }
  }
}
