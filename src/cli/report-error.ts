// What went wrong, on stderr, and the exit code for it. Only a defect of ours is told as one, and only PINSIM_DEBUG shows
// a stack.
import { renderDiagnostics, ScenarioError, visible } from '../scenario/file/diagnostic.ts';
import { diagnosticPaintFor } from './colour.ts';
import type { ExitCode } from './command.ts';
import type { Io } from './io.ts';
import { UsageError } from './usage.ts';

/** Tell it. 2: a mistake of the user; 1: a defect of pinsim. */
export function reportError(error: unknown, io: Io): ExitCode {
  if (error instanceof ScenarioError) {
    io.stderr.write(`${renderDiagnostics(error.diagnostics, diagnosticPaintFor(io.stderr, io.env))}\n`);
    return 2;
  }
  if (error instanceof UsageError) {
    io.stderr.write(`pinsim: ${visible(error.message, '\n')}\n`);
    if (error.hint !== undefined) io.stderr.write(`  ${visible(error.hint, '\n')}\n`);
    return 2;
  }
  const { message, stack } = error instanceof Error ? error : new Error(String(error));
  io.stderr.write(`pinsim: this is a defect of pinsim, please report it: ${message}\n`);
  if ((io.env.PINSIM_DEBUG ?? '') !== '') io.stderr.write(`${stack}\n`);
  else io.stderr.write('  PINSIM_DEBUG=1 shows where it happened\n');
  return 1;
}
