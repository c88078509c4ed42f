#!/usr/bin/env node
// The program `pinsim`.
import { main } from './cli.ts';
import { processIo } from './io.ts';

// `pinsim list kernels | head -1` closes the pipe early; that is no error.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code !== 'EPIPE') throw error;
  process.exit(0);
});

process.exitCode = await main(process.argv.slice(2), processIo());
