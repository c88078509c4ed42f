// What every search is to the runner: something that begins executions, picks who steps next and answers choices.
// The runner knows no strategy, a strategy knows no model.
import type { Process } from '../../engine/process.ts';
import { type ChoiceSource, type Sim, UndeclaredAccess } from '../../engine/sim.ts';
import { NotAStep } from '../../engine/yielded.ts';

export interface Scheduler extends ChoiceSource {
  /** The last execution could only repeat others: it does not count. */
  readonly redundant?: boolean;
  /** There is nothing left to run that is not equivalent to something that was. */
  readonly finished?: boolean;
  /** The world is about to be rewound for execution `run` (0, 1, 2 ...). False: nothing is left to run. */
  newExecution(run: number): boolean;
  /** Who steps next: live and enabled. Null when nobody can, or when this strategy cuts the execution short. */
  nextActor(sim: Sim): Process | null;
  /** One of 0 .. alternatives - 1. */
  choose(process: Process | null, alternatives: number, label: string): number;
  /** `process` has acted (or was cut off by an exception inside its step). */
  acted?(process: Process, sim: Sim): void;
  /** The execution is over; the world still stands as it ended, and may be used for trials. */
  executionEnded?(sim: Sim): void;
}

/** The same steps led somewhere else: the world keeps state outside of its stores, and no search of it means anything. */
export class NotRepeatable extends Error {
  override readonly name = 'NotRepeatable';
  /** What came out otherwise. */
  readonly what: string;
  /** The steps that led there; null: whoever threw it does not know. */
  readonly steps: readonly string[] | null;

  constructor(what: string, steps: readonly string[] | null = null) {
    super(`${what}${steps === null ? '' : ` ${placeInWords(steps)}`}. ${LIKELY_CAUSES}`);
    this.what = what;
    this.steps = steps;
  }

  /** The same, and after which steps. */
  after(steps: readonly string[]): NotRepeatable {
    return this.steps === null ? new NotRepeatable(this.what, steps) : this;
  }
}

const LIKELY_CAUSES =
  'The same steps led somewhere else, so what is run depends on something that is not rewound. Likely causes: ' +
  'Math.random or Date, a variable, array or Map of JavaScript that actors share outside of cells, an object in a cell ' +
  'that is changed in place instead of being replaced';
/** Steps that are told. */
const TOLD = 12;

function placeInWords(steps: readonly string[]): string {
  const { length } = steps;
  if (length === 0) return '(before the first step)';
  const told = `${length > TOLD ? '..., ' : ''}${steps.slice(-TOLD).join(', ')}`;
  return `(after ${length} step${length === 1 ? '' : 's'}: ${told})`;
}

/** The actor called `name` is to step again where it did before. Throws NotRepeatable when it cannot. */
export function mustStep(process: Process | undefined, name: string, steps: readonly string[] | null = null): Process {
  if (process !== undefined && canStep(process)) return process;
  throw new NotRepeatable(`${name} cannot step where it could before: it ${whyNot(process)}`, steps);
}

/** At `label` there were more alternatives before: `value` was one of them. */
export function fewerAlternatives(
  process: Process | null,
  alternatives: number,
  label: string,
  value: number,
): NotRepeatable {
  const who = process === null ? 'the set-up' : process.name;
  return new NotRepeatable(`${who} has ${alternatives} alternatives at ${label} where it took number ${value} before`);
}

function whyNot(process: Process | undefined): string {
  if (process === undefined) return 'has not been started';
  if (process.state === 'ended') return 'has ended';
  if (process.state === 'cut') return 'was cut off';
  return `waits at ${process.announced.step.label}`;
}

/** Does this error say that the program itself is wrong, so that no execution of it means anything? */
export function endsSearch(error: unknown): boolean {
  return error instanceof UndeclaredAccess || error instanceof NotRepeatable || error instanceof NotAStep;
}

/** May `process` act now? */
export function canStep(process: Process): boolean {
  return process.state === 'live' && process.enabled;
}

/** Let `process` act outside of an execution that counts: what ends it there ends it here. */
export function actAgain(sim: Sim, process: Process): void {
  try {
    sim.act(process);
  } catch (error) {
    if (endsSearch(error)) throw error;
    process.cut();
  }
}

/** All processes that may act, in slot order, into `into` (reused: samplers ask at every step). */
export function enabledProcesses(sim: Sim, into: Process[]): Process[] {
  let count = 0;
  const processes = sim.processes;
  for (let i = 0; i < processes.length; i++) {
    const process = processes[i]!;
    if (process.state === 'live' && process.enabled) into[count++] = process;
  }
  into.length = count;
  return into;
}
