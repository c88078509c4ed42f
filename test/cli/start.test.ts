// How the built program is started: as npx and an installed package do, by a link to a file that the shell executes.
import { spawnSync } from 'node:child_process';
import { readFileSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { temporaryFolder } from './program.ts';

const ROOT = fileURLToPath(new URL('../../', import.meta.url));
const PACKAGE = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8'));

describe('the program starts by a link to', () => {
  // npx keeps the link of its first run in a checkout, so what `bin` named once is as much a way in as what it names.
  it.each([PACKAGE.bin.pinsim, 'dist/cli/main.js'])('%s', (file) => {
    const link = join(temporaryFolder(), 'pinsim');
    symlinkSync(join(ROOT, file), link);
    const { status, stdout, error } = spawnSync(link, ['--version'], { encoding: 'utf8' });
    expect({ status, stdout, error }).toEqual({ status: 0, stdout: `${PACKAGE.version}\n`, error: undefined });
  });

  it('and hands its exit code on', () => {
    const link = join(temporaryFolder(), 'pinsim');
    symlinkSync(join(ROOT, 'dist/cli/main.js'), link);
    expect(spawnSync(link, ['run', 'no-such-file.yaml']).status).toBe(2);
  });
});

it('the schema that the first lines of the library name is what the program prints', () => {
  const printed = spawnSync(process.execPath, [join(ROOT, PACKAGE.bin.pinsim), 'schema'], { encoding: 'utf8' });
  expect(readFileSync(join(ROOT, 'scenarios', 'scenario.schema.json'), 'utf8')).toBe(printed.stdout);
});
