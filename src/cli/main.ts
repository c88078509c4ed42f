#!/usr/bin/env node
// Starts the program from one script and what V8 had compiled of it when it was built: compiling it anew takes more time
// than a small scenario. V8 refuses what another version of it made, and compiles then.
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';
import { Script } from 'node:vm';

const filename = fileURLToPath(new URL('program.cjs', import.meta.url));

/** What the build left beside the program; nothing when it was built without. */
function compiled(): Buffer | undefined {
  try {
    return readFileSync(`${filename}.compiled`);
  } catch {
    return undefined;
  }
}

// The build wraps the program in a function of these two.
type Program = (require: NodeJS.Require, programUrl: string) => void;

const cachedData = compiled();
const script = new Script(readFileSync(filename, 'latin1'), {
  filename,
  ...(cachedData === undefined ? {} : { cachedData }),
});
(script.runInThisContext() as Program)(createRequire(import.meta.url), import.meta.url);
