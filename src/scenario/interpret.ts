// Performs the scripts of a scenario: each actor is a process that runs its operations in order, checks what its author
// expected of them, and goes on.
import type { Cell } from '../engine/cell.ts';
import { call, type Steps } from '../engine/process.ts';
import { step } from '../engine/step.ts';
import { checkOutcome, type Expectation } from './file/expectation.ts';
import type { Script } from './file/reference.ts';
import type { Actor, ScenarioCase } from './file/scenario.ts';
import { growArgs, growBy, type OperationStep, type ScriptStep } from './file/step.ts';
import type { Outcome } from './operation.ts';
import type { FailedExpectation } from './result.ts';
import { subjectOf, type World } from './world/world.ts';

const WAIT = step('script:wait', 'none');
const AT = step('script:at', 'none');
const SLEEP = step('script:sleep', 'none');
const CHOOSE = step('script:choose', 'none');
const SIGNAL = step('exit_to_user_mode_loop:fatal-signal', 'none');
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
  const killed = signalOf(performance);
  const born = killed === null || !world.mortal(performance.process) || !(yield* call(isKilled(performance, killed)));
  const alive = born && (yield* call(performScript(performance, actor.script, {})));
  // A killed process exits by itself, once all its threads are here.
  if (alive && last !== undefined) yield* call(last());
  yield* call(reach(world, actor.name, undefined));
}

function* reach(world: World, actor: string, name: string | undefined): Steps<void> {
  const announced = world.milestones.willReach(actor, name, REACHED);
  if (announced === undefined) return;
  yield announced;
  world.milestones.reach(actor, name);
}

/**
 * Run a script as `performance.actor`; `grown` is by how much repetitions around it have grown arguments, by name. False:
 * its process has exited, or was killed, which ends every script at the return to user mode.
 */
export function* performScript(
  performance: Performance,
  script: Script<ScriptStep>,
  grown: Readonly<Record<string, bigint>>,
): Steps<boolean> {
  const { world, actor } = performance;
  const { sim } = world;
  const killed = signalOf(performance);
  for (const scriptStep of script.steps) {
    world.performing.begin(sim.current!, scriptStep);
    let outcome: Outcome | null = null;
    switch (scriptStep.kind) {
      case 'operation':
        outcome = yield* call(performOperation(performance, scriptStep, grown));
        break;
      case 'wait':
        yield world.milestones.wait(scriptStep.targets, WAIT, killed);
        break;
      case 'at':
        yield sim.sleep(Math.max(0, scriptStep.timeNs - sim.nowNs), AT);
        break;
      case 'sleep':
        yield sim.sleep(scriptStep.durationNs, SLEEP);
        break;
      case 'repeat':
        for (let i = 0; i < scriptStep.times; i++) {
          const round = growBy(grown, scriptStep.advance, i);
          if (!(yield* call(performScript(performance, scriptStep.script, round)))) return false;
        }
        break;
      case 'choose': {
        yield sim.local(CHOOSE);
        const chosen = sim.choose(scriptStep.scripts.length, `choose at ${scriptStep.where.line}`);
        if (!(yield* call(performScript(performance, scriptStep.scripts[chosen]!, grown)))) return false;
        break;
      }
    }
    sim.progress++;
    if (scriptStep.name !== undefined) yield* call(reach(world, actor.name, scriptStep.name));
    // Only the last thread of a process exits, so that nobody else can have done it.
    const over = killed !== null && world.core.current.task.exited.peek();
    const dead = killed !== null && !over && (yield* call(isKilled(performance, killed)));
    if (outcome !== null && scriptStep.kind === 'operation') checkExpected(performance, scriptStep, outcome, dead);
    if (over || dead) return false;
  }
  return true;
}

/** Where the performing thread learns of a fatal signal; null: it performs a device, which runs no user code. */
function signalOf({ world }: Performance): Cell<boolean> | null {
  const { task, device } = world.core.current;
  return device || task.kernelThread ? null : task.killed;
}

/** exit_to_user_mode_loop: a step only where somebody may be killed. */
function* isKilled({ world, process }: Performance, killed: Cell<boolean>): Steps<boolean> {
  if (!world.mortal(process)) return killed.peek();
  yield killed.willRead(SIGNAL);
  return killed.value;
}

function* performOperation(
  performance: Performance,
  scriptStep: OperationStep,
  grown: Readonly<Record<string, bigint>>,
): Steps<Outcome> {
  const { world, actor } = performance;
  const { operation } = scriptStep;
  const process = world.sim.current!;
  world.milestones.hold(process, scriptStep.holds);
  const args = growArgs(scriptStep.args, grown);
  yield* call(world.looks.look(scriptStep, performance.process));
  const outcome = yield* call(operation.run({ actor: actor.name, performance, ...subjectOf(world, actor) }, args));
  yield* call(world.looks.settle());
  world.milestones.hold(process, []);
  return outcome;
}

/** What the operation came to, on return to user mode: there its author learns of a signal first. */
function checkExpected(
  { actor, one, fail }: Performance,
  { operation, where, name, expectation: written }: OperationStep,
  outcome: Outcome,
  dead: boolean,
): void {
  const expectation = (name !== undefined ? one.steps[name] : undefined) ?? written;
  const seen = dead ? seenWhenKilled(expectation, outcome) : outcome;
  for (const message of checkOutcome(expectation, seen)) {
    fail({ where, actor: actor.name, operation: operation.name, message });
  }
}

/** A process that is killed in a system call never learns why that broke off: what its author sees is the signal. */
function seenWhenKilled(expectation: Expectation, outcome: Outcome): Outcome {
  const { errno } = outcome;
  return errno === undefined || expectation.expect?.includes(errno) === true
    ? outcome
    : { ...outcome, errno: 'SIGKILL' };
}
