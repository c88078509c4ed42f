// Colour only where a person looks at a terminal, and never against NO_COLOR (no-color.org).
import picocolors from 'picocolors';
import type { Paint } from '../report/paint.ts';
import type { DiagnosticPaint } from '../scenario/file/diagnostic.ts';
import type { Io, Sink } from './io.ts';

/** Whether to colour what goes to `sink`. FORCE_COLOR asks for it where no terminal is. */
export function wantsColour(sink: Sink, env: Io['env']): boolean {
  if ((env.NO_COLOR ?? '') !== '') return false;
  const forced = env.FORCE_COLOR;
  if (forced !== undefined && forced !== '') return forced !== '0' && forced !== 'false';
  return sink.isTTY === true && env.TERM !== 'dumb';
}

/** Paint of reports for that sink. */
export function paintFor(sink: Sink, env: Io['env']): Paint {
  const colours = picocolors.createColors(wantsColour(sink, env));
  return {
    good: colours.green,
    bad: (text) => colours.bold(colours.red(text)),
    warn: colours.yellow,
    strong: colours.bold,
    faint: colours.dim,
  };
}

/** Paint of diagnostics for that sink. */
export function diagnosticPaintFor(sink: Sink, env: Io['env']): DiagnosticPaint {
  const colours = picocolors.createColors(wantsColour(sink, env));
  return {
    error: (text) => colours.bold(colours.red(text)),
    place: colours.bold,
    faint: colours.blue,
    help: colours.cyan,
  };
}
