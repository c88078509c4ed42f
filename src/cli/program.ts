// The program `pinsim`, which main.ts loads.
import { main } from './cli.ts';
import { processIo } from './io.ts';

// `pinsim list kernels | head -1` closes the pipe early; that is no error.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code !== 'EPIPE') throw error;
  process.exit(0);
});

// Not awaited: the program is built as one script, not as a module.
void main(process.argv.slice(2), processIo()).then((code) => {
  process.exitCode = code;
});
