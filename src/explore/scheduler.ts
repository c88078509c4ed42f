// What every search is to the runner: something that begins executions, picks who steps next and answers choices.
// The runner knows no strategy, a strategy knows no model.
import type { Process } from '../engine/process.ts';
import { type ChoiceSource, type Sim, UndeclaredAccess } from '../engine/sim.ts';
import { NotAStep } from '../engine/yielded.ts';

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
