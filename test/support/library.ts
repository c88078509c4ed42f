// The scenarios of the library, for tests that hold over all of them.
import { readdirSync, readFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { loadScenario } from '../../src/scenario/file/load.ts';
import type { Scenario } from '../../src/scenario/file/scenario.ts';
import { OPERATIONS } from '../../src/scenario/operations/index.ts';

const LIBRARY = fileURLToPath(new URL('../../scenarios/', import.meta.url));
const PAGE = 4096n;

/** Those whose memory objects have at most `pagesMax` pages of 4 KiB, by file name: larger worlds take long to set up. */
export function libraryScenarios(pagesMax: number): readonly { readonly file: string; readonly scenario: Scenario }[] {
  return readdirSync(LIBRARY, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && entry.name.endsWith('.yaml'))
    .map((entry) => relative(LIBRARY, join(entry.parentPath, entry.name)))
    .sort((a, b) => (a < b ? -1 : 1))
    .map((file) => ({ file, scenario: loadScenario(file, readFileSync(join(LIBRARY, file), 'utf8'), OPERATIONS) }))
    .filter(({ scenario: { memory } }) => memory.reduce((sum, { spec }) => sum + spec.size / PAGE, 0n) <= pagesMax);
}
