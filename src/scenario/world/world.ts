// The world of one case: simulation, kernel, machine, processes, memory objects, VMs and devices, by the names that the
// scenario gives them. Built once; scripts run in it.

import type { CheckContext } from '../../check/checker.ts';
import { Checkers } from '../../check/checkers.ts';
import { StepLog } from '../../check/step-log.ts';
import { call, type Process, type SpawnOptions, type Steps } from '../../engine/process.ts';
import { Sim } from '../../engine/sim.ts';
import { step } from '../../engine/step.ts';
import type { Machine } from '../../hw/machine.ts';
import type { Kernel } from '../../kernel/kernel.ts';
import type { Vm } from '../../kvm/vm.ts';
import { CoreMm } from '../../mm/core.ts';
import type { Inode } from '../../mm/file/inode.ts';
import type { SuperBlock } from '../../mm/file/super-block.ts';
import type { PfnMapping } from '../../mm/mapping/vma.ts';
import { Mm } from '../../mm/mm.ts';
import { type Capability, Task, User } from '../../mm/process/task.ts';
import type { Scanners } from '../../mm/start.ts';
import { VfioModule } from '../../vfio/module.ts';
import { ScenarioError } from '../file/diagnostic.ts';
import type { SubjectKind } from '../file/reference.ts';
import type { Actor, Mapping, Process as ProcessEntry, Scenario, ScenarioCase } from '../file/scenario.ts';
import type { MemorySpec } from '../file/schema-memory.ts';
import { UNLIMITED } from '../file/units.ts';
import { operationsIn, waitTargets } from '../file/wait-targets.ts';
import { ScriptMistake } from '../mistake.ts';
import type { WorldDevice } from './devices.ts';
import { Holds, tellLeftHolds } from './holds.ts';
import { IommuTrace } from './iommu-trace.ts';
import { Looks } from './looks.ts';
import { archOf, buildKernel, buildLatencies, buildMachine, buildParams } from './machine.ts';
import { Milestones } from './milestones.ts';
import { mortals } from './mortality.ts';
import { Performing } from './performing.ts';

const SCHEDULED = step('schedule', 'none');
/** Without `memlock` anywhere: 8 MiB, or 64 KiB before 5.16 (accounting.default-memlock). */
const DEFAULT_MEMLOCK = { '64KiB': 64 * 1024, '8MiB': 8 * 1024 * 1024 } as const;

const KERNEL_TASK = 'kernel';

export const ROOT_CAPABILITIES: readonly Capability[] = [
  'CAP_IPC_LOCK',
  'CAP_KILL',
  'CAP_SYS_ADMIN',
  'CAP_SYS_RAWIO',
  'CAP_SYS_NICE',
  'CAP_SYS_PTRACE',
  'CAP_SYS_RESOURCE',
];

/** A memory object of the scenario and what stands behind it. */
export interface MemoryObject {
  readonly name: string;
  readonly spec: MemorySpec;
  /** The file behind it; null for private anonymous memory and raw frames. */
  readonly inode: Inode | null;
  readonly pfnMapping: PfnMapping | null;
}

/** Where a process has a memory object mapped. */
export interface Place {
  readonly mapping: string;
  readonly memory: MemoryObject;
  /** First page, and how many. */
  readonly vpn: number;
  readonly pages: number;
  /** Offset in the object [pages]. */
  readonly pgoff: number;
}

export interface WorldOptions {
  readonly seed: string;
  readonly checked: boolean;
  /** The world will be rewound: keep the whole journal. */
  readonly rewindable: boolean;
  /** Keep stories of findings (steps with what they changed). */
  readonly stories: boolean;
  /** Report inline expectations that do not hold as findings: a search wants the schedule that breaks them. */
  readonly failuresAreFindings?: boolean;
  /** Keep the state digest up to date. Default: where somebody compares it. */
  readonly digested?: boolean;
}

export class World {
  readonly scenario: Scenario;
  readonly one: ScenarioCase;
  readonly sim: Sim;
  readonly kernel: Kernel;
  readonly machine: Machine;
  readonly core: CoreMm;
  readonly milestones: Milestones;
  readonly performing = new Performing();
  readonly checkers: Checkers;
  readonly log: StepLog | null;
  readonly iommuTrace: IommuTrace | null;
  /** By process name: may it get SIGKILL? */
  readonly mortal: (process: string) => boolean;
  readonly tasks = new Map<string, Task>();
  readonly memory = new Map<string, MemoryObject>();
  /** Mounted filesystems of memory objects that name theirs. */
  readonly mounts = new Map<string, SuperBlock>();
  /** Pages that scripts hold by name. */
  readonly holds: Holds;
  /** What other actors may change before an operation's first step. */
  readonly looks: Looks;
  /** Objects that operations name while they run: caches, rings, children. */
  readonly named = new Map<string, unknown>();
  readonly devices = new Map<string, WorldDevice>();
  readonly vms = new Map<string, Vm>();
  readonly vfioModule: VfioModule;
  /** ksmd and khugepaged scan when an operation says so. Set once, while the world is built. */
  scanners: Scanners | null = null;
  private readonly users = new Map<number, User>();
  private readonly places = new Map<string, Map<string, Place>>();

  constructor(scenario: Scenario, one: ScenarioCase, options: WorldOptions) {
    this.scenario = scenario;
    this.one = one;
    this.mortal = mortals(scenario, one);
    const { host } = one;
    this.kernel = buildKernel(one);
    const params = buildParams(this.kernel, scenario, host);
    const small = (params.stepPages ?? 1) === 1;
    this.sim = new Sim({
      seed: options.seed,
      checked: options.checked,
      journaled: options.rewindable || (options.stories && small),
      digested: options.digested ?? (options.rewindable || small),
      latencies: buildLatencies(host),
    });
    this.machine = buildMachine(scenario, host, archOf(this.kernel));
    // Every actor has a CPU of its own unless the scenario says otherwise; one more builds the world.
    const cpus = Math.max(
      host.cpus ?? 1,
      scenario.actors.length + 2,
      ...scenario.actors.map(({ cpu }) => (cpu ?? 0) + 1),
    );
    this.core = new CoreMm(this.sim, this.kernel, this.machine, cpus, params);
    this.log = options.stories ? new StepLog(this.sim, options.rewindable) : null;
    this.vfioModule = new VfioModule(this.sim, {
      ...(host.dma_entry_limit === undefined ? {} : { dmaEntryLimit: host.dma_entry_limit }),
      allowUnsafeInterrupts: host.allow_unsafe_interrupts ?? false,
    });
    this.iommuTrace = host.trace?.includes('iommu') === true ? new IommuTrace(this.sim) : null;
    const context: CheckContext = { sim: this.sim, core: this.core, log: this.log };
    this.checkers = new Checkers(context);
    this.milestones = new Milestones(this.sim);
    for (const actor of scenario.actors) {
      for (const target of waitTargets(actor.script)) this.milestones.watch(target);
    }
    this.holds = new Holds(
      this.core,
      scenario.actors.map(({ script }) => script),
    );
    this.looks = new Looks(this.core, scenario, this.devices);
    for (const cpu of cpusOfChildren(scenario)) this.core.laterCpus.add(cpu);
    for (const process of scenario.processes) this.addTask(process);
    this.sim.onDrain(() => tellLeftHolds(this));
  }

  /** What names mean now is what they mean at the start of every execution. */
  freeze(): void {
    this.looks.start();
    this.log?.freeze();
    const tasks = [...this.tasks];
    const places = [...this.places].map(([process, map]) => [process, [...map]] as const);
    const named = [...this.named];
    const vms = [...this.vms];
    const users = [...this.users];
    const memory = [...this.memory];
    this.sim.onRewind(() => {
      this.performing.clear();
      this.tasks.clear();
      for (const [name, task] of tasks) this.tasks.set(name, task);
      this.places.clear();
      for (const [process, map] of places) this.places.set(process, new Map(map));
      this.vms.clear();
      for (const [name, vm] of vms) this.vms.set(name, vm);
      this.memory.clear();
      for (const [name, object] of memory) this.memory.set(name, object);
      this.users.clear();
      for (const [uid, user] of users) this.users.set(uid, user);
      this.named.clear();
      for (const [name, value] of named) this.named.set(name, value);
    });
  }

  /** The user_struct of a uid. */
  user(uid: number): User {
    let user = this.users.get(uid);
    if (user === undefined) {
      user = new User(this.sim, uid);
      this.users.set(uid, user);
    }
    return user;
  }

  private addTask({ name, spec, aboveHardLimit }: ProcessEntry): void {
    const user = this.user(spec.uid ?? 0);
    const limit = spec.memlock ?? this.one.host.memlock;
    const memlockBytes =
      limit === undefined ? DEFAULT_MEMLOCK[this.kernel.way('accounting.default-memlock')] : bytesOfLimit(limit);
    const memlockHardBytes = spec.memlock_hard === undefined ? memlockBytes : bytesOfLimit(spec.memlock_hard);
    if (memlockHardBytes < memlockBytes) throw new ScenarioError([aboveHardLimit]);
    const capabilities =
      (spec.capabilities as readonly Capability[] | undefined) ?? (user.uid === 0 ? ROOT_CAPABILITIES : []);
    const mm = new Mm(this.sim, this.kernel, name);
    const oomScoreAdj = spec.oom_score_adj ?? 0;
    const homeNode = spec.node ?? 0;
    const fields = { name, user, capabilities, memlockBytes, memlockHardBytes, oomScoreAdj, homeNode };
    this.tasks.set(name, new Task(this.sim, mm, fields));
  }

  /** The task of kernel threads; it has no memory of its own. */
  kernelTask(): Task {
    let task = this.tasks.get(KERNEL_TASK);
    if (task === undefined) {
      const mm = new Mm(this.sim, this.kernel, KERNEL_TASK);
      const fields = { name: KERNEL_TASK, user: this.user(0), capabilities: ROOT_CAPABILITIES, memlockBytes: Infinity };
      task = new Task(this.sim, mm, { ...fields, kernelThread: true });
      this.tasks.set(KERNEL_TASK, task);
    }
    return task;
  }

  task(name: string): Task {
    const task = this.tasks.get(name);
    if (task === undefined) throw new ScriptMistake(`no process ${name}`);
    return task;
  }

  /** Remember where a process maps an object: by the mapping's name. */
  addPlace(process: string, mapping: Mapping | { readonly name: string }, place: Place): void {
    this.looks.rename(() => {
      const places = this.places.get(process) ?? new Map<string, Place>();
      this.places.set(process, places.set(mapping.name, place));
    });
  }

  /** The memory object called `name`, or the one behind the mapping of that name in `process`. */
  objectOf(process: string, name: string): MemoryObject {
    const object = this.memory.get(name) ?? this.place(process, name)?.memory;
    if (object === undefined) throw new ScriptMistake(`no memory ${name}`);
    return object;
  }

  /** A nameless anonymous object, for what a script maps without declaring it. */
  anonymous(name: string, size: bigint): MemoryObject {
    return { name, spec: { kind: 'anon', size }, inode: null, pfnMapping: null };
  }

  /** Where `process` has the mapping (or else the memory object) called `name`. */
  place(process: string, name: string): Place | undefined {
    const places = this.places.get(process);
    if (places === undefined) return undefined;
    return places.get(name) ?? [...places.values()].find((place) => place.memory.name === name);
  }

  placesOf(process: string): readonly Place[] {
    return [...(this.places.get(process)?.values() ?? [])];
  }

  /** A child inherits the places of its parent. */
  inheritPlaces(parent: string, child: string): void {
    this.places.set(child, new Map(this.places.get(parent) ?? []));
  }

  /** A mapping has moved away under another name. */
  forgetPlace(process: string, mapping: string): void {
    this.looks.rename(() => this.places.get(process)?.delete(mapping));
  }

  /** After exec nothing is mapped that was. */
  forgetPlaces(process: string): void {
    this.looks.rename(() => this.places.delete(process));
  }

  /** Start an actor as a thread of `task` (or a `device` beside it): the body runs once the thread is known. */
  spawn(
    task: Task,
    name: string,
    body: () => Steps<void>,
    options: SpawnOptions & { readonly device?: boolean } = {},
  ): Process {
    const { sim, core } = this;
    const process = sim.spawn(
      name,
      function* () {
        yield sim.local(SCHEDULED);
        yield* call(body());
      },
      options,
    );
    core.runAs(process, task, options.device);
    return process;
  }
}

/** CPUs that forks name for their children. */
function cpusOfChildren({ actors }: Scenario): readonly number[] {
  return actors.flatMap(({ script }) =>
    [...operationsIn(script)].flatMap(({ operation, args }) => {
      const { cpu } = args as { readonly cpu?: number };
      return operation.name === 'fork' && cpu !== undefined ? [cpu] : [];
    }),
  );
}

/** A limit of a scenario as the kernel compares it. */
export function bytesOfLimit(limit: bigint | typeof UNLIMITED): number {
  return limit === UNLIMITED ? Number.POSITIVE_INFINITY : Number(limit);
}

/** Who performs an actor's operations. */
export function subjectOf(
  _world: World,
  actor: Actor,
): { readonly subjectKind: SubjectKind; readonly subject: string } {
  return { subjectKind: actor.subjectKind, subject: actor.subject };
}
