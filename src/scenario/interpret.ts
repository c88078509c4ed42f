// Performs the scripts of a scenario: each actor is a process that runs its operations in order, checks what its author
// expected of them, and goes on.
import { call, type Steps } from '../engine/process.ts';
import { step } from '../engine/step.ts';
import { checkOutcome } from './expectation.ts';
import type { Script } from './reference.ts';
import type { FailedExpectation } from './result.ts';
import type { Actor, ScenarioCase } from './scenario.ts';
import { growArgs, growBy, type OperationStep, type ScriptStep } from './step.ts';
import { subjectOf, type World } from './world.ts';

const WAIT = step('script:wait', 'none');
const AT = step('script:at', 'none');
const SLEEP = step('script:sleep', 'none');
const CHOOSE = step('script:choose', 'none');
const REACHED = step('script:reached', 'none');

/** One actor's script in one world. */
export interface Performance {
  readonly world: World;
  readonly actor: Actor;
  readonly one: ScenarioCase;
  /** The process for which the actor acts: its own, its VM's or its device's; a forked child's in its script. */
  readonly process: string;
  /** Told of every inline expectation that does not hold. */
  readonly fail: (failed: FailedExpectation) => void;
}

/** The body of an actor's process; `last` is what it does after its script (a child's exit). */
export function* perform(performance: Performance, last?: () => Steps<void>): Steps<void> {
  const { actor, world } = performance;
  yield* call(performScript(performance, actor.script, {}));
  if (last !== undefined) yield* call(last());
  yield* call(reach(world, actor.name, undefined));
}

function* reach(world: World, actor: string, name: string | undefined): Steps<void> {
  const announced = world.milestones.willReach(actor, name, REACHED);
  if (announced === undefined) return;
  yield announced;
  world.milestones.reach(actor, name);
}

/** Run a script as `performance.actor`; `grown` is by how much repetitions around it have grown arguments, by name. */
export function* performScript(
  performance: Performance,
  script: Script<ScriptStep>,
  grown: Readonly<Record<string, bigint>>,
): Steps<void> {
  const { world, actor } = performance;
  const { sim } = world;
  for (const scriptStep of script.steps) {
    world.performing.begin(sim.current!, scriptStep);
    switch (scriptStep.kind) {
      case 'operation':
        yield* call(performOperation(performance, scriptStep, grown));
        break;
      case 'wait':
        yield world.milestones.wait(scriptStep.targets, WAIT);
        break;
      case 'at':
        yield sim.sleep(Math.max(0, scriptStep.timeNs - sim.nowNs), AT);
        break;
      case 'sleep':
        yield sim.sleep(scriptStep.durationNs, SLEEP);
        break;
      case 'repeat':
        for (let i = 0; i < scriptStep.times; i++) {
          yield* call(performScript(performance, scriptStep.script, growBy(grown, scriptStep.advance, i)));
        }
        break;
      case 'choose': {
        yield sim.local(CHOOSE);
        const chosen = sim.choose(scriptStep.scripts.length, `choose at ${scriptStep.where.line}`);
        yield* call(performScript(performance, scriptStep.scripts[chosen]!, grown));
        break;
      }
    }
    sim.progress++;
    if (scriptStep.name !== undefined) yield* call(reach(world, actor.name, scriptStep.name));
  }
}

function* performOperation(
  performance: Performance,
  scriptStep: OperationStep,
  grown: Readonly<Record<string, bigint>>,
): Steps<void> {
  const { world, actor, one } = performance;
  const { operation, where, name } = scriptStep;
  const process = world.sim.current!;
  world.milestones.hold(process, scriptStep.holds);
  const args = growArgs(scriptStep.args, grown);
  const outcome = yield* call(operation.run({ actor: actor.name, performance, ...subjectOf(world, actor) }, args));
  world.milestones.hold(process, []);
  const expectation = (name !== undefined ? one.steps[name] : undefined) ?? scriptStep.expectation;
  for (const message of checkOutcome(expectation, outcome)) {
    performance.fail({ where, actor: actor.name, operation: operation.name, message });
  }
}
