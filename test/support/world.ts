// Small worlds for tests of the memory model: checked mode on, deterministic, no scenario file needed.

import { call, type Process, type Steps } from '../../src/engine/process.ts';
import { Sim, type SimOptions } from '../../src/engine/sim.ts';
import { step } from '../../src/engine/step.ts';
import { runTimed } from '../../src/engine/timed.ts';
import { Machine, S390X, X86_64, type ZoneSpec } from '../../src/hw/machine.ts';
import { Kernel, type KernelChanges } from '../../src/kernel/kernel.ts';
import { CoreMm, type CoreMmParams } from '../../src/mm/core.ts';
import { Mm } from '../../src/mm/mm.ts';
import { type Capability, Task, User } from '../../src/mm/process/task.ts';

export interface WorldOptions {
  readonly kernel?: string;
  readonly changes?: KernelChanges;
  readonly zones?: readonly ZoneSpec[];
  readonly cpus?: number;
  readonly arch?: 'x86_64' | 's390x';
  readonly params?: Partial<CoreMmParams>;
  readonly sim?: SimOptions;
}

export interface TestWorld {
  readonly sim: Sim;
  readonly core: CoreMm;
}

/** 64 MiB of NORMAL memory, 4 CPUs, kernel 6.12.117, checked and journalled. */
export function makeWorld(options: WorldOptions = {}): TestWorld {
  const sim = new Sim({ checked: true, journaled: true, digested: true, ...options.sim });
  const kernel = new Kernel(options.kernel ?? 'v6.12.117', options.changes);
  const machine = new Machine(
    options.arch === 's390x' ? S390X : X86_64,
    options.zones ?? [{ kind: 'NORMAL', node: 0, pages: 16384 }],
  );
  return { sim, core: new CoreMm(sim, kernel, machine, options.cpus ?? 4, options.params) };
}

/** A task with an empty address space. */
export function makeTask(
  world: TestWorld,
  name: string,
  options: { uid?: number; capabilities?: readonly Capability[]; memlockBytes?: number; user?: User } = {},
): Task {
  const { sim, core } = world;
  const user = options.user ?? new User(sim, options.uid ?? 0);
  const capabilities =
    options.capabilities ?? (user.uid === 0 ? ['CAP_IPC_LOCK', 'CAP_SYS_ADMIN', 'CAP_SYS_RAWIO'] : []);
  return new Task(sim, new Mm(sim, core.kernel, name), {
    name,
    user,
    capabilities,
    memlockBytes: options.memlockBytes ?? 8 * 1024 * 1024,
  });
}

/** Start an actor as a thread of `task`. The body starts with a step, so that the thread is known by then. */
export function actor(world: TestWorld, task: Task, name: string, body: () => Steps<void>): Process {
  const process = world.sim.spawn(name, function* () {
    yield world.sim.local(step('start', 'none'));
    yield* call(body());
  });
  world.core.runAs(process, task);
  return process;
}

/** Run one body to its end as the only new actor; returns what it returned. */
export function run<R>(world: TestWorld, task: Task, body: () => Steps<R>): R {
  let result: { value: R } | undefined;
  actor(world, task, `run${world.sim.processes.length}`, function* () {
    result = { value: yield* call(body()) };
  });
  const ended = runTimed(world.sim);
  if (ended.end !== 'done' || result === undefined) throw new Error(`the run ended in ${ended.end}`);
  return result.value;
}
