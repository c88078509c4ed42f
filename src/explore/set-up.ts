// The world of a program, set up. A set-up that chooses sets up one of several worlds: which one, is part of a schedule.
import { Sim } from '../engine/sim.ts';
import { Program } from './program.ts';
import { NotRepeatable } from './schedulers/scheduler.ts';
import { parseToken, printToken } from './token.ts';

/** A program set up, and the choices that its set-up made outside of actors. */
export interface World {
  readonly sim: Sim;
  readonly choices: readonly number[];
  /** By choice: between how many. */
  readonly alternatives: readonly number[];
}

export type SetUp = (sim: Program) => void;

/** What TypeScript would refuse: a misspelt option would be a search of another kind than was asked for. */
export function checkCall(called: string, setup: unknown, options: unknown, known: object): void {
  if (typeof setup !== 'function') {
    throw new Error(
      `${called} expects a function that sets the program up, as in ${called}((sim) => { ... }), not ${setup}`,
    );
  }
  const names = Object.keys(known);
  if (typeof options !== 'object' || options === null) {
    throw new Error(`the options of ${called} are an object, as in { ${names[0]}: ... }, not ${options}`);
  }
  for (const name of Object.keys(options)) {
    if (!names.includes(name)) throw new Error(`there is no option '${name}': expected ${names.join(', ')}`);
  }
}

/**
 * Set `setup` up. Its first choices give what `script` says, further ones 0; without a script the seed decides.
 * Throws Error when the set-up itself reports a failure, or goes on after it has returned.
 */
export function setUpWorld(
  setup: SetUp,
  options: { readonly seed?: string | number; readonly checked?: boolean; readonly digested?: boolean },
  script: readonly number[] | null,
): World {
  const { seed = '0', checked = true, digested = false } = options;
  const sim = new Sim({ seed: String(seed), checked, journaled: true, digested });
  const choices: number[] = [];
  const alternatives: number[] = [];
  sim.choices = {
    choose(process, count, label) {
      // What actors choose before their first step is chosen anew in every execution.
      if (process !== null) return 0;
      const value = script === null ? sim.streams.below('set-up', count) : (script[choices.length] ?? 0);
      if (value >= count)
        throw new NotRepeatable(`the set-up has ${count} alternatives at '${label}' where ${value} was chosen before`);
      choices.push(value);
      alternatives.push(count);
      return value;
    },
  };
  const returned: unknown = setup(new Program(sim));
  sim.choices = null;
  if (runsLater(returned)) {
    throw new Error(
      'the set-up has not run to its end when it returns (async, or a generator): some of it would be missing',
    );
  }
  const broken = sim.findings[0];
  if (broken !== undefined) throw new Error(`the set-up itself fails, before any actor steps: ${broken.message}`);
  return { sim, choices, alternatives };
}

/** The token of a schedule in a world that was set up with these choices. */
export function withSetUp(token: string, choices: readonly number[]): string {
  return choices.length === 0 ? token : printToken({ ...parseToken(token), setUp: choices });
}

function runsLater(returned: unknown): boolean {
  if (typeof returned !== 'object' || returned === null) return false;
  return 'then' in returned || Object.prototype.toString.call(returned).endsWith('Generator]');
}
