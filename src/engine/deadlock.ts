// A deadlock: actors still waiting when nobody can run. Reported with the cycle of waiters where the gates know it.
import { type Finding, findingIdentity } from './finding.ts';
import type { Process } from './process.ts';
import type { Sim } from './sim.ts';

/** Follow "waits for" edges from each waiter until an actor repeats. */
export function cycleOf(waiting: readonly Process[]): Process[] {
  for (const start of waiting) {
    const path: Process[] = [];
    const seen = new Map<Process, number>();
    let at: Process | undefined = start;
    while (at !== undefined && !seen.has(at)) {
      seen.set(at, path.length);
      path.push(at);
      at = at.announced.gate?.waitsFor(at).find((other) => other.state !== 'ended');
    }
    if (at !== undefined) return path.slice(seen.get(at)!);
  }
  return [];
}

const namesOf = (processes: readonly Process[]): string => processes.map(({ name }) => name).join(', ');

function circle(cycle: readonly Process[]): string {
  const [first] = cycle;
  if (cycle.length === 1) return `${first!.name} waits for itself`;
  return `${cycle.map((p) => p.name).join(' -> ')} -> ${first!.name} wait for each other`;
}

/** The finding for a run that ended with `waiting` actors; daemons that only idle are left out. */
export function deadlockFinding(sim: Sim, waiting: readonly Process[]): Finding {
  const stuck = waiting.filter((process) => !process.daemon);
  const cycle = cycleOf(stuck);
  const shown = cycle.length > 0 ? cycle : stuck;
  const line = (p: Process) => {
    const { gate, step } = p.announced;
    // A condition without a name of its own is called as its step.
    return `${p.name} waits ${gate === null || gate.name === step.label ? '' : `for ${gate.name} `}at ${step.label}`;
  };
  return {
    kind: 'deadlock',
    message:
      cycle.length > 0
        ? circle(cycle)
        : `${namesOf(stuck)} ${stuck.length === 1 ? 'waits' : 'wait'} and nobody can run`,
    reasons: shown.map(line),
    actors: shown.map((p) => p.name),
    objects: shown.map((p) => p.announced.gate?.name ?? ''),
    steps: shown.map((p) => ({ actor: p.name, label: p.announced.step.label, timeNs: sim.nowNs, changed: 'waits' })),
    details: {},
    identity: findingIdentity(
      'deadlock',
      cycle.length > 0 ? 'cycle' : 'stuck',
      shown.map((p) => p.announced.step.label).sort(),
    ),
  };
}
