// What an actor yields must be an announcement, and what it is spawned with a generator function. JavaScript would fail
// at the first use of anything else, and say neither who did it nor what was meant.
import type { Gate } from './gate.ts';
import { type Access, START, type Step } from './step.ts';

/** An actor yielded what is no step, or its body makes none: a mistake of whoever wrote the actor. */
export class NotAStep extends Error {
  override readonly name = 'NotAStep';
}

/** `name` was spawned with `body`, which made `made` when it was called. */
export function notABody(name: string, body: unknown, made?: unknown): NotAStep {
  const expected = 'expected a generator function: function* () { yield x.willRead(); ... }';
  if (typeof body !== 'function') {
    const hint = isGenerator(body) ? 'it is run anew in every execution: pass the function, without calling it; ' : '';
    return new NotAStep(`${name} is spawned with ${inWords(body)}; ${hint}${expected}`);
  }
  if (isAsync(made)) return runsAsync(name);
  return new NotAStep(`the function that ${name} is spawned with is no generator function; ${expected}`);
}

/** `name` yielded `what`, having acted at `acted`; `from` is the generator that did. */
export function notAStep(name: string, what: unknown, acted: Step, from: unknown): NotAStep {
  if (isAsync(from) || isAsync(what)) return runsAsync(name);
  const where = acted === START ? 'first of all' : `after ${acted.label}`;
  const expected = 'expected an announcement such as x.willRead()';
  return new NotAStep(`${name} yielded ${inWords(what)} ${where}; ${expected}${hintFor(what)}`);
}

/** `name` announced `step` and ended. */
export function neverYielded(name: string, step: Step): NotAStep {
  return new NotAStep(
    `${name} announces ${step.label} and ends: it is never done; expected yield before the announcement`,
  );
}

/** `name` announced `step`, which waits at `gate`, in one with a step that waits already. */
export function twoGates(name: string, announced: Access, step: Step, gate: Gate): NotAStep {
  const both = `${waitInWords(announced.step, announced.gate!)} and ${waitInWords(step, gate)}`;
  return new NotAStep(`${name} announces ${both} as one step, which can wait for one only; expected yield before each`);
}

function waitInWords({ label }: Step, { name }: Gate): string {
  return label.includes(name) ? label : `${label} (${name})`;
}

function runsAsync(name: string): NotAStep {
  return new NotAStep(`${name} runs an async function; expected a generator function without async: function* () {}`);
}

function isAsync(made: unknown): boolean {
  return typeof made === 'object' && made !== null && Symbol.asyncIterator in made;
}

function hintFor(what: unknown): string {
  if (what === undefined) return ' (sim.fail(...), and whatever else announces nothing, is called, not yielded)';
  if (typeof what === 'function') return ' (a generator function has to be called: yield* call(f()))';
  return '';
}

/** What somebody gave where something else was expected, for messages. */
export function inWords(what: unknown): string {
  switch (typeof what) {
    case 'undefined':
      return 'nothing (undefined)';
    case 'string':
      return JSON.stringify(what);
    case 'function':
      return what.name === '' ? 'a function' : `the function ${what.name}`;
    case 'object':
      if (what === null) return 'null';
      if (isGenerator(what)) return 'a generator';
      return `an object (${what.constructor?.name ?? 'without a class'})`;
    default:
      return String(what);
  }
}

/** Made by a generator function that is not async: other iterators cannot be resumed as these are. */
export function isGenerator(what: unknown): boolean {
  return Object.prototype.toString.call(what) === '[object Generator]';
}
