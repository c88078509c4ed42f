// Waiting on a condition: `yield until(...)` is disabled while its pure predicate over announced objects is false.
// Completions, wait queues, joins and IPI acknowledgements are built on it.
import { Cell } from './cell.ts';
import type { Gate } from './gate.ts';
import { Process } from './process.ts';
import type { Sim } from './sim.ts';
import { type Announced, READ, type Step, step, UPDATE } from './step.ts';

const JOIN = step('join', 'none');

class Condition implements Gate {
  readonly name: string;
  private readonly predicate: () => boolean;

  constructor(name: string, predicate: () => boolean) {
    this.name = name;
    this.predicate = predicate;
  }

  ready(): boolean {
    return this.predicate();
  }

  take(): void {}

  waitsFor(): readonly Process[] {
    return [];
  }
}

class LastingCondition extends Condition {
  readonly promise = 'lasting';
}

/**
 * Disabled until `predicate()` holds. The predicate looks with `peek` and only at the given objects; the step's act may
 * read them. With `update`, the act may also write them (claim what it waited for). With `lasting`, the caller promises
 * that the predicate, once true, stays true until this process acts; a search then has fewer orders to try.
 */
export function until(
  sim: Sim,
  objects: readonly { readonly id: number }[],
  predicate: () => boolean,
  at: Step,
  options: { readonly name?: string; readonly update?: boolean; readonly lasting?: boolean } = {},
): Announced {
  const name = options.name ?? at.label;
  const gate = options.lasting === true ? new LastingCondition(name, predicate) : new Condition(name, predicate);
  const access = sim.gated(at, gate);
  const kind = options.update === true ? UPDATE : READ;
  for (const object of objects) access.add(object.id, object.id, kind);
  return sim.local(at);
}

/** The gate of a join: names the process it waits for. */
export class JoinGate implements Gate {
  readonly promise = 'lasting';
  readonly name: string;
  readonly target: Process;

  constructor(target: Process) {
    this.target = target;
    this.name = `end of ${target.name}`;
  }

  ready(): boolean {
    return this.target.state === 'ended';
  }

  take(): void {}

  waitsFor(): readonly Process[] {
    return [this.target];
  }
}

/** Disabled until `target` has ended. Throws Error when that is no actor. */
export function join(sim: Sim, target: Process): Announced {
  if (!(target instanceof Process)) throw nobodyToJoin(sim.current!, target);
  const access = sim.gated(JOIN, new JoinGate(target));
  access.add(target.doneId, target.doneId, READ);
  return sim.local(JOIN);
}

function nobodyToJoin(process: Process, target: unknown): Error {
  const expected = `${process.name} joins ${target}; expected the actor that sim.spawn(...) has returned`;
  if (target !== undefined) return new Error(expected);
  return new Error(
    `${expected}. An actor's first step is announced while it is spawned, before the variable that is to hold it is set: ` +
      `spawn the actor to join first, or yield sim.local() before the join`,
  );
}

/** struct completion: complete_all by anyone lets every waiter through. */
export class Completion {
  private readonly sim: Sim;
  private readonly done: Cell<boolean>;

  constructor(sim: Sim, name: string) {
    this.sim = sim;
    this.done = new Cell(sim, name, false);
  }

  willComplete(at: Step): Announced {
    return this.done.willWrite(at);
  }

  /** In the step announced by `willComplete`. */
  complete(): void {
    this.done.value = true;
  }

  wait(at: Step): Announced {
    return until(this.sim, [this.done], () => this.done.peek(), at, { name: this.done.name, lasting: true });
  }
}
