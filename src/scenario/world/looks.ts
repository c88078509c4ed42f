// What an operation looks at before its first step, where another actor may change that: what names mean, and what its own
// process is (address space, credentials, limits). Looking is a step then, and changing what a name means is one at the end
// of the operation that does. Nobody else takes such steps.
import { Cell } from '../../engine/cell.ts';
import { mix } from '../../engine/hash.ts';
import type { Process, Steps } from '../../engine/process.ts';
import type { Sim } from '../../engine/sim.ts';
import { type Step, step } from '../../engine/step.ts';
import type { CoreMm } from '../../mm/core.ts';
import type { Ref, Script } from '../file/reference.ts';
import type { Scenario } from '../file/scenario.ts';
import type { OperationStep, ScriptStep } from '../file/step.ts';
import { operationsIn } from '../file/wait-targets.ts';
import type { WorldDevice } from './devices.ts';
import { DESCRIPTORS, sharedNames } from './shared-names.ts';
import { threadsOf } from './threads.ts';

const NAMES = step('script:names', 'none');
const RENAME = step('script:rename', 'none');

interface Change {
  readonly cell: Cell<number>;
  readonly apply: () => void;
}

export class Looks {
  private readonly core: CoreMm;
  private readonly devices: ReadonlyMap<string, WorldDevice>;
  private readonly sim: Sim;
  /** What mappings are called and where they are, where one actor may change that under another; else null. */
  private readonly naming: Cell<number> | null;
  /** By name: what operations make that another actor may look up meanwhile. */
  private readonly names = new Map<string, Cell<number>>();
  private readonly usedBy: ReadonlyMap<OperationStep, readonly string[]>;
  /** Processes of several threads that change what all of them are, and processes whose limit somebody sets. */
  private readonly execs: ReadonlySet<string>;
  private readonly setuids: ReadonlySet<string>;
  private readonly limited: ReadonlySet<string>;
  /** What operations under way will call things. Each is its own actor's. */
  private readonly changes = new Map<Process, Change[]>();

  /** The set-up is over. */
  private started = false;

  constructor(core: CoreMm, scenario: Scenario, devices: ReadonlyMap<string, WorldDevice>) {
    const { sim } = core;
    this.core = core;
    this.devices = devices;
    this.sim = sim;
    const { actors } = scenario;
    const renamed = actors.some(({ script }) =>
      [...operationsIn(script)].some(({ operation }) => operation.changes === 'mappings'),
    );
    this.naming = renamed && actors.length > 1 ? new Cell(sim, 'names of mappings', 0) : null;
    this.usedBy = sharedNames(scenario);
    for (const name of new Set([...this.usedBy.values()].flat())) {
      this.names.set(name, new Cell(sim, `what ${name} is`, 0));
    }
    this.execs = changedUnderThreads(scenario, 'exec');
    this.setuids = changedUnderThreads(scenario, 'setuid');
    this.limited = limitedByOthers(scenario);
    sim.onRewind(() => this.changes.clear());
  }

  start(): void {
    this.started = true;
  }

  /** Before an operation of `process`: what it looks for, and what it is itself. */
  *look(scriptStep: OperationStep, process: string): Steps<void> {
    const { naming, core } = this;
    const { current } = core;
    const { task } = current;
    const names = this.usedBy.get(scriptStep);
    const execs = this.execs.has(process);
    const setuids = this.setuids.has(process);
    // can_do_mlock
    const limited = scriptStep.operation.name === 'mlock' && this.limited.has(process);
    if (naming === null && names === undefined && !execs && !setuids && !limited) return;
    naming?.willRead(NAMES);
    for (const name of names ?? []) this.names.get(name)!.willRead(NAMES);
    if (names?.includes(DESCRIPTORS) === true) {
      for (const { group } of this.devices.values()) {
        group.container.peek()?.driver.willRead(NAMES);
        group.container.willRead(NAMES);
      }
    }
    if (execs) task.mm.willRead(NAMES);
    if (limited) task.memlockBytes.willRead(NAMES);
    if (setuids) {
      task.credentials.willRead(NAMES);
      task.capabilities.willRead(NAMES);
    }
    yield this.sim.local(NAMES);
    if (setuids) current.takeCredentials();
  }

  /** Change what a mapping is called: at the end of the operation under way, in a step, where others might look. */
  rename(apply: () => void): void {
    this.later(this.naming, apply);
  }

  /** Give a name to what an operation has made: at its end, in a step, where others might look. */
  name(name: string, apply: () => void): void {
    this.later(this.names.get(name) ?? null, apply);
  }

  private later(cell: Cell<number> | null, apply: () => void): void {
    const { current } = this.sim;
    if (cell === null || current === null || !this.started) {
      apply();
      return;
    }
    this.changes.set(current, [...(this.changes.get(current) ?? []), { cell, apply }]);
  }

  /** After an operation: what it called something is called so from now on. */
  *settle(): Steps<void> {
    const process = this.sim.current!;
    const changes = this.changes.get(process);
    if (changes === undefined) return;
    this.changes.delete(process);
    const cells = new Set(changes.map(({ cell }) => cell));
    for (const cell of cells) cell.willUpdate(RENAME);
    yield this.sim.local(RENAME);
    for (const { apply } of changes) apply();
    for (const cell of cells) cell.value = mix(cell.value, process.identity);
  }

  /** Announce looking at what mappings are called. */
  willRead(at: Step): void {
    this.naming?.willRead(at);
  }

  /** Announce that a name comes into being in the step `at`, in which `appears` is called. */
  willAppear(name: string, at: Step): void {
    this.names.get(name)?.willUpdate(at);
    this.names.get(DESCRIPTORS)?.willUpdate(at);
  }

  appears(name: string): void {
    const { identity } = this.sim.current!;
    for (const cell of [this.names.get(name), this.names.get(DESCRIPTORS)]) {
      if (cell !== undefined) cell.value = mix(cell.value, identity);
    }
  }
}

/** Processes with several threads of which one performs that operation. */
function changedUnderThreads(scenario: Scenario, operation: string): ReadonlySet<string> {
  const processes = scenario.actors
    .filter(({ subjectKind, script }) => subjectKind === 'process' && performs(script, operation))
    .map(({ subject }) => subject);
  return new Set(processes.filter((process) => threadsOf(scenario, process) > 1));
}

/** Does a script itself perform it? Not: that of a child which it forks. */
function performs(script: Script<ScriptStep>, operation: string): boolean {
  return script.steps.some((one) => {
    if (one.kind === 'repeat') return performs(one.script, operation);
    if (one.kind === 'choose') return one.scripts.some((inner) => performs(inner, operation));
    return one.kind === 'operation' && one.operation.name === operation;
  });
}

/** Processes whose limits another process sets, or one of several threads of theirs. */
function limitedByOthers(scenario: Scenario): ReadonlySet<string> {
  const limited = new Set(changedUnderThreads(scenario, 'setrlimit'));
  for (const { script } of scenario.actors) {
    for (const { operation, args } of operationsIn(script)) {
      const { process } = args as { readonly process?: Ref };
      if (operation.name === 'setrlimit' && process !== undefined) limited.add(process.name);
    }
  }
  return limited;
}
