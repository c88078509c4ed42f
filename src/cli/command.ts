// What a command is: its line of usage, its options for --help, and what it does. Options are declared without loading
// anything that the command needs to run.
import type { Argv } from 'yargs';
import type { OperationRegistry } from '../scenario/operation.ts';
import type { RunScenario } from '../scenario/run.ts';
import type { Io } from './io.ts';

/** 0: as expected; 1: not; 2: usage or a bad file; 3: incomplete. */
export type ExitCode = 0 | 1 | 2 | 3;

/** What commands work with; loaded when first asked for. Tests hand in their own. */
export interface Parts {
  readonly registry: () => Promise<OperationRegistry>;
  readonly runScenario: () => Promise<RunScenario>;
}

export interface Command {
  readonly name: string;
  /** Positional arguments, as yargs writes them. */
  readonly positionals: string;
  readonly summary: string;
  readonly declare: (yargs: Argv) => Argv;
  /** Names of options, for suggestions. */
  readonly options: readonly string[];
  readonly run: (args: Readonly<Record<string, unknown>>, io: Io, parts: Parts) => Promise<ExitCode>;
}

/** An option that takes text; absent when it was not given. */
export function textOption(args: Readonly<Record<string, unknown>>, name: string): string | undefined {
  const value = args[name];
  return value === undefined ? undefined : String(Array.isArray(value) ? value.at(-1) : value);
}

/** An option that can be given several times, each time with one or with several separated by commas. */
export function listOption(args: Readonly<Record<string, unknown>>, name: string): readonly string[] {
  const value = args[name];
  const given = value === undefined ? [] : Array.isArray(value) ? value : [value];
  return given.flatMap((one) => String(one).split(',')).filter((one) => one !== '');
}
