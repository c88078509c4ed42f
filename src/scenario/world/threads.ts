// The threads of a scenario's processes: actors that share a descriptor table and end together.
import type { Scenario } from '../file/scenario.ts';
import { operationsIn } from '../file/wait-targets.ts';

/** How many actors run as threads of a process: its own, and the vCPUs of its VMs. Of a forked child there is one. */
export function threadsOf({ actors, vms }: Pick<Scenario, 'actors' | 'vms'>, process: string): number {
  const threads = actors.filter(({ subjectKind, subject }) =>
    subjectKind === 'vcpu'
      ? vms.find(({ name }) => name === subject)?.spec.process.name === process
      : subjectKind === 'process' && subject === process,
  );
  return threads.length;
}

/** May one thread of the process close what another is calling? */
export function closesUnderThreads(scenario: Scenario, process: string): boolean {
  return threadsOf(scenario, process) > 1 && closers(scenario).has(process);
}

/** Does any script close a descriptor at all? */
export function closesAny(scenario: Scenario): boolean {
  return closers(scenario).size > 0;
}

const closersOf = new WeakMap<Scenario, ReadonlySet<string>>();

/** Processes whose scripts close descriptors. */
function closers(scenario: Scenario): ReadonlySet<string> {
  let known = closersOf.get(scenario);
  if (known === undefined) {
    const closing = scenario.actors.filter(({ script }) =>
      [...operationsIn(script)].some(({ operation }) => operation.name === 'close'),
    );
    known = new Set(closing.map(({ subject }) => subject));
    closersOf.set(scenario, known);
  }
  return known;
}
