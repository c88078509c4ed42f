// What a command is: its line of usage, its options for --help, and what it does. Options are declared without loading
// anything that the command needs to run.
import type { Argv } from 'yargs';
import type { OperationRegistry } from '../scenario/operation.ts';
import type { RunScenario } from '../scenario/run.ts';
import type { Io } from './io.ts';
import { UsageError } from './usage.ts';

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
  /** What they are, for who forgot them. */
  readonly wants?: string;
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

/** An option that takes a whole number from `least` on; `example`: a sensible one. Throws UsageError. */
export function countOption(
  args: Readonly<Record<string, unknown>>,
  name: string,
  { least = 1, example = 1000 }: { readonly least?: number; readonly example?: number } = {},
): number | undefined {
  const text = textOption(args, name);
  if (text === undefined) return undefined;
  const plain = text.replaceAll(/(?<=\d)[_,](?=\d{3})/g, '');
  const value = /^\d+$/.test(plain) ? Number(plain) : Number.NaN;
  if (!Number.isSafeInteger(value) || value < least)
    throw new UsageError(
      `--${name} cannot be \`${text}\`: expected a whole number from ${least} on`,
      `such as --${name} ${example}`,
    );
  return value;
}

const DURATION_UNITS: Readonly<Record<string, number>> = { ms: 1, s: 1000, m: 60_000, min: 60_000, h: 3_600_000 };

/** An option that takes a time of this machine's clock, such as `60s` or `5min` [ms]. Throws UsageError. */
export function durationOption(args: Readonly<Record<string, unknown>>, name: string): number | undefined {
  const text = textOption(args, name);
  if (text === undefined) return undefined;
  const match = /^(\d+(?:\.\d+)?)\s*(ms|s|min|m|h)$/.exec(text);
  const ms = match === null ? Number.NaN : Number(match[1]) * DURATION_UNITS[match[2]!]!;
  if (!(ms > 0))
    throw new UsageError(`--${name} cannot be \`${text}\`: expected a time`, `such as --${name} 60s, 5min or 1h`);
  return ms;
}
