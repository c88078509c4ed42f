// Who may get SIGKILL in a scenario: processes that some script kills, those of several threads of which one exits or
// execs, and all of them where memory may run out. Only they look for signals between operations: to look is a step, and a
// search that nobody is killed in need not take it.
import type { Ref, Script } from '../file/reference.ts';
import type { Scenario, ScenarioCase } from '../file/scenario.ts';
import type { ZonesSpec } from '../file/schema-host.ts';
import type { OperationStep, ScriptStep } from '../file/step.ts';
import { scriptsIn } from '../file/wait-targets.ts';
import { threadsOf } from './threads.ts';

/** Operations that send SIGKILL to a process that they name, or to the process that performs them. */
const KILLING: readonly string[] = ['kill'];

/** By name, whether a process may be killed. */
export function mortals(scenario: Scenario, one: ScenarioCase): (process: string) => boolean {
  const killed = new Set<string>();
  for (const { script, subjectKind, subject } of scenario.actors) {
    if (subjectKind === 'process' && endsOthers(script) && threadsOf(scenario, subject) > 1) killed.add(subject);
  }
  let demand = scenario.memory.reduce((sum, { spec }) => sum + spec.size, 0n);
  for (const actor of scenario.actors) {
    for (const { step, times } of operations(actor.script, 1n)) {
      if (KILLING.includes(step.operation.name)) killed.add((step.args as { process: Ref }).process.name);
      demand += times * bytesOf(step);
    }
  }
  return mayRunOut(demand, one) ? () => true : (process) => killed.has(process);
}

/** Does the script's own process exit or exec? Not: that of a child which it forks. */
function endsOthers(script: Script<ScriptStep>): boolean {
  return script.steps.some((step) => {
    if (step.kind === 'repeat') return endsOthers(step.script);
    if (step.kind === 'choose') return step.scripts.some(endsOthers);
    return step.kind === 'operation' && step.operation.ends !== undefined;
  });
}

/** Every operation of a script, wherever it stands, and how often it is performed at most. */
function* operations(script: Script<ScriptStep>, times: bigint): Generator<{ step: OperationStep; times: bigint }> {
  for (const step of script.steps) {
    if (step.kind === 'repeat') yield* operations(step.script, times * BigInt(step.times));
    else if (step.kind === 'choose') for (const inner of step.scripts) yield* operations(inner, times);
    else if (step.kind === 'operation') {
      yield { step, times };
      for (const inner of scriptsIn(step.args)) yield* operations(inner, times);
    }
  }
}

/** What an operation may take at most by the sizes that it names: areas that are mapped, files that grow or are filled. */
function bytesOf({ operation, args }: OperationStep): bigint {
  const sizes = args as Readonly<Partial<Record<'size' | 'new_size' | 'length' | 'mode', unknown>>>;
  const fills = operation.name === 'fallocate' && (sizes.mode ?? 'allocate') === 'allocate';
  const filled = fills ? sizes.length : undefined;
  return [sizes.size, sizes.new_size, filled].reduce<bigint>((sum, n) => (typeof n === 'bigint' ? sum + n : sum), 0n);
}

/** Is it more than three quarters of memory? Copies, caches and the boot take some, too. Unsaid, there is enough. */
function mayRunOut(demand: bigint, { host }: ScenarioCase): boolean {
  if (host.memory === undefined) return false;
  const nodes: readonly ZonesSpec[] = Array.isArray(host.memory) ? host.memory : [host.memory as ZonesSpec];
  const ram = nodes.reduce((sum, zones) => sum + sizeOf(zones), 0n);
  return demand * 4n > ram * 3n;
}

/** Zones are sizes, or say one among other things. */
function sizeOf(zones: ZonesSpec): bigint {
  let sum = 0n;
  for (const [kind, size] of Object.entries(zones)) {
    if (kind === 'device' || size === undefined) continue;
    sum += typeof size === 'bigint' ? size : (size as { readonly size: bigint }).size;
  }
  return sum;
}
