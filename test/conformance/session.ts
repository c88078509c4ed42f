// A laboratory session: a world built from a scenario, in which a program performs operations one after the other and
// looks at their outcomes, as the recorded C programs did. Operations come from the registry that scenario files use,
// and their arguments go through the same types.
import { stringify } from 'yaml';
import * as z from 'zod';
import { call, type Steps } from '../../src/engine/process.ts';
import { runTimed } from '../../src/engine/timed.ts';
import { loadScenario } from '../../src/scenario/file/load.ts';
import { Declared, Script } from '../../src/scenario/file/reference.ts';
import type { Scenario } from '../../src/scenario/file/scenario.ts';
import type { ScriptStep } from '../../src/scenario/file/step.ts';
import type { Performance } from '../../src/scenario/interpret.ts';
import { defineOperation, type Operation, type Outcome, type Shown } from '../../src/scenario/operation.ts';
import { OPERATIONS } from '../../src/scenario/operations/index.ts';
import type { OperationContext } from '../../src/scenario/world/context.ts';
import { setStage } from '../../src/scenario/world/setup.ts';
import type { World } from '../../src/scenario/world/world.ts';

/** A scenario as an object: what would stand in the YAML file, without actors. */
export type Boot = Readonly<Record<string, unknown>>;

/** What a program reports for one recorded case. */
export interface Emitted {
  readonly case: string;
  readonly args: Readonly<Record<string, unknown>>;
  readonly ret: number;
  readonly errno: string | null;
  readonly observed: Readonly<Record<string, unknown>>;
  /** Why the outcome of this case cannot be compared; absent: it can. */
  readonly unsupported?: string;
}

/** The value of a finished operation: what it returned or -1, and its errno. */
export interface Result {
  readonly ret: number;
  readonly errno: string | null;
  readonly shows: Readonly<Record<string, Shown>>;
}

export class Session {
  readonly world: World;
  readonly emitted: Emitted[];
  private readonly performance: Performance;

  constructor(performance: Performance, emitted: Emitted[] = []) {
    this.world = performance.world;
    this.performance = performance;
    this.emitted = emitted;
  }

  /** The CPU on which the program runs. */
  get cpu(): number {
    const { core } = this.world;
    return core.cpus.indexOf(core.current.cpu);
  }

  /** Perform an operation by its name, with arguments as a scenario file would write them. */
  *op(name: string, args: Readonly<Record<string, unknown>> = {}): Steps<Result> {
    const operation = operationNamed(name);
    const parsed = operation.args.safeParse(args);
    if (!parsed.success) throw new Error(`${name}: ${parsed.error.message}`);
    return yield* call(this.perform(operation, parsed.data));
  }

  /**
   * fork(): the child runs `body` on a session of its own, then exits. Its script has one step, which is `body`; that is
   * the only difference from a script in a file.
   */
  *fork(name: string, body: (child: Session) => Steps<void>, more: { readonly cpu?: number } = {}): Steps<Result> {
    const { emitted } = this;
    const program = defineOperation({
      name: 'program',
      summary: 'The rest of a recorded program.',
      args: z.strictObject({}),
      *run({ performance }) {
        yield* call(body(new Session(performance, emitted)));
        return { returns: 0 };
      },
    });
    const child = new Script<ScriptStep>([], 'process');
    const where = { file: 'laboratory.yaml', line: 1, column: 1 };
    child.steps = [{ kind: 'operation', operation: program, args: {}, expectation: {}, holds: [], where }];
    return yield* call(
      this.perform(operationNamed('fork'), { as: new Declared(['process', 'actor'], name), child, ...more }),
    );
  }

  private *perform(operation: Operation, args: unknown): Steps<Result> {
    const context: OperationContext = {
      actor: this.performance.actor.name,
      subjectKind: this.performance.actor.subjectKind,
      subject: this.performance.process,
      performance: this.performance,
    };
    const outcome: Outcome = yield* call(operation.run(context, args));
    const errno = outcome.errno ?? null;
    return { ret: errno === null ? Number(outcome.returns ?? 0) : -1, errno, shows: outcome.shows ?? {} };
  }

  /** Report the outcome of a recorded case. */
  emit(
    name: string,
    result: Result | 'ok' | string,
    args: Emitted['args'] = {},
    observed: Emitted['observed'] = {},
    unsupported?: string,
  ): void {
    const { ret, errno } =
      typeof result === 'string' ? (result === 'ok' ? { ret: 0, errno: null } : { ret: -1, errno: result }) : result;
    this.emitted.push({
      case: name,
      args,
      ret,
      errno,
      observed,
      ...(unsupported === undefined ? {} : { unsupported }),
    });
  }
}

function operationNamed(name: string): Operation {
  const operation = OPERATIONS.get(name);
  if (operation === undefined) throw new Unsupported(`there is no operation ${name}`);
  return operation;
}

/** A program met something that the model cannot express yet: its cases are unsupported, not wrong. */
export class Unsupported extends Error {
  override readonly name = 'Unsupported';
}

/** Scenarios of laboratories that were booted before, by kernel: many programs share one. */
const booted = new WeakMap<Boot, Map<string, Scenario>>();

function scenarioOf(kernel: string, boot: Boot): Scenario {
  const known = booted.get(boot) ?? new Map<string, Scenario>();
  booted.set(boot, known);
  let scenario = known.get(kernel);
  if (scenario === undefined) {
    const text = stringify({ title: 'laboratory', kernel, ...boot, actors: { lab: { do: [] } }, expect: {} });
    scenario = loadScenario('laboratory.yaml', text, OPERATIONS);
    known.set(kernel, scenario);
  }
  return scenario;
}

/**
 * Boot a laboratory and run one program in it, to its end. Checked mode is on. What it reports goes to `emitted`, so
 * that a program that breaks has reported the cases before.
 */
export function runProgram(
  kernel: string,
  boot: Boot,
  program: (session: Session) => Steps<void>,
  emitted: Emitted[] = [],
): readonly Emitted[] {
  const scenario = scenarioOf(kernel, boot);
  const one = scenario.base;
  const { world, failed } = setStage(scenario, one, {
    seed: '1',
    checked: true,
    rewindable: false,
    stories: false,
    digested: false,
  });
  const actor = scenario.actors.find(({ name }) => name === 'lab')!;
  const session = new Session({ world, actor, one, process: 'lab', fail: (what) => failed.push(what) }, emitted);
  world.spawn(world.task('lab'), 'program', () => program(session));
  const { end } = runTimed(world.sim);
  if (end !== 'done') {
    const stuck = world.sim.findings.find(({ kind }) => kind === 'deadlock');
    throw new Error(`the program ended in ${end}: ${stuck?.message} ${stuck?.reasons.join('; ')}`);
  }
  return emitted;
}

/** `ok` or the errno, as the programs record calls inside a case. */
export function word(result: Result): string {
  return result.errno ?? 'ok';
}

/** Numbers as the programs print them. */
export function hex(value: number | bigint): string {
  return `0x${BigInt(value).toString(16)}`;
}
