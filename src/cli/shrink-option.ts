// `--shrink N|off` of the commands that search.
import { textOption } from './command.ts';
import { UsageError } from './usage.ts';

/** Executions spent on each finding when nothing is said: a second or so. */
const BUDGET = 300;

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
