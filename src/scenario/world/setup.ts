// Brings a world to the state in which its scripts start: every process maps and fills its memory, VMs get their
// memslots and devices their containers, each by running the kernel code that does it. Then the clock starts.
import { type Finding, findingIdentity } from '../../engine/finding.ts';
import { call } from '../../engine/process.ts';
import { runTimed } from '../../engine/timed.ts';
import { ScenarioError } from '../file/diagnostic.ts';
import type { Actor, Scenario, ScenarioCase } from '../file/scenario.ts';
import { type Performance, perform } from '../interpret.ts';
import type { FailedExpectation } from '../result.ts';
import { addDevices, setUpDevice } from './devices.ts';
import { startKernel } from './kernel.ts';
import { addMemory, DeviceFrames, fillObjects, setUpProcess } from './memory.ts';
import { addObjects } from './objects.ts';
import { setUpVm } from './vms.ts';
import { World, type WorldOptions } from './world.ts';

/** A world ready to run, and where its scripts leave what they find wrong. */
export interface Stage {
  readonly world: World;
  readonly failed: FailedExpectation[];
}

/** Build the world of a case and start its actors. Throws ScenarioError when it cannot be built as described. */
export function setStage(scenario: Scenario, one: ScenarioCase, options: WorldOptions): Stage {
  const world = new World(scenario, one, options);
  const frames = new DeviceFrames(world);
  addMemory(world);
  addDevices(world, frames);
  world.scanners = startKernel(world);
  setUp(world);
  addObjects(world);
  const failed: FailedExpectation[] = [];
  world.sim.onRewind(() => {
    failed.length = 0;
  });
  const fail = (what: FailedExpectation): void => {
    failed.push(what);
    if (options.failuresAreFindings === true) world.sim.report(unexpectedOutcome(what));
  };
  for (const actor of scenario.actors) {
    startActor(world, { world, actor, one, process: ownerOf(world, actor), fail });
  }
  world.freeze();
  return { world, failed };
}

/** An inline expectation that did not hold, as a search reports it. Its line is no part of its identity: lines move. */
function unexpectedOutcome({ where, actor, operation, message }: FailedExpectation): Finding {
  return {
    kind: 'unexpected-outcome',
    message: `${actor}, ${operation}: ${message}`,
    reasons: [`the scenario says so at ${where.file}:${where.line}:${where.column}`],
    actors: [actor],
    objects: [operation],
    steps: [],
    details: { operation, line: where.line },
    identity: findingIdentity('unexpected-outcome', operation, [actor, message]),
  };
}

/** Runs the set-up to its end, process by process, in the order of the file. */
function setUp(world: World): void {
  const { sim, scenario } = world;
  const cpu = world.core.cpus.length - 1;
  for (const [index, process] of scenario.processes.entries()) {
    world.spawn(
      world.task(process.name),
      `set-up of ${process.name}`,
      function* () {
        if (index === 0) yield* call(fillObjects(world));
        yield* call(setUpProcess(world, process));
        for (const vm of scenario.vms) if (vm.spec.process.name === process.name) yield* call(setUpVm(world, vm));
        for (const device of scenario.devices) {
          if (device.spec.process?.name === process.name) yield* call(setUpDevice(world, device));
        }
      },
      { cpu },
    );
    const { end } = runTimed(sim);
    if (end !== 'done') {
      throw new ScenarioError([
        { where: process.where, message: `setting up \`${process.name}\` comes to a ${end}`, hint: 'see its mappings' },
      ]);
    }
    sim.finishSetUp();
  }
}

function startActor(world: World, performance: Performance): void {
  const { actor, process } = performance;
  const task = world.task(process);
  const device = actor.subjectKind === 'device';
  const cpu = actor.cpu === undefined ? {} : { cpu: actor.cpu };
  world.spawn(task, actor.name, () => perform(performance), { ...cpu, device });
}

/** The process as whose thread an actor runs: a vCPU in its VMM, a device beside its driver. */
function ownerOf(world: World, actor: Actor): string {
  const { scenario } = world;
  if (actor.subjectKind === 'process') return actor.subject;
  if (actor.subjectKind === 'vcpu') return scenario.vms.find(({ name }) => name === actor.subject)!.spec.process.name;
  if (actor.subjectKind === 'device') {
    const device = scenario.devices.find(({ name }) => name === actor.subject);
    if (device?.spec.process !== undefined) return device.spec.process.name;
  }
  return world.kernelTask().name;
}
