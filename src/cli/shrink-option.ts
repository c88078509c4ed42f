// `--shrink N|off` of the commands that search.
import type { Argv } from 'yargs';
import { textOption } from './command.ts';
import { UsageError } from './usage.ts';

/** Executions spent on each finding when nothing is said: a second or so. */
const BUDGET = 300;

export function declareShrinkOption(yargs: Argv): Argv {
  return yargs.option('shrink', {
    type: 'string',
    requiresArg: true,
    describe: `Executions to spend on making each finding small, or off [default: ${BUDGET}]`,
  });
}

/** Executions to spend on shrinking each finding; 0: none. Throws UsageError. */
export function shrinkOption(args: Readonly<Record<string, unknown>>): number {
  const text = textOption(args, 'shrink');
  if (text === undefined) return BUDGET;
  if (text === 'off') return 0;
  if (/^\d{1,9}$/.test(text)) return Number(text);
  throw new UsageError(
    `--shrink cannot be \`${text}\`: expected a number of executions, or off`,
    'such as --shrink 1000',
  );
}
