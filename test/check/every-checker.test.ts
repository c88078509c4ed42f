// Every checker fires where its bug is, and not where it has been mended: pairs of cases from the library, each run whole.
import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { loadScenario } from '../../src/scenario/file/load.ts';
import { OPERATIONS } from '../../src/scenario/operations/index.ts';
import { runScenario } from '../../src/scenario/run.ts';

/** Kind, scenario; its first case has the bug, its last has not. */
const PAIRS = [
  ['pin-failure', 'bugs/gup-longterm-lru-cache-reference'],
  ['stale-mapping', 'bugs/kvm-put-on-non-refcounted-pfn'],
  ['incoherent-mapping', 'bugs/gup-ro-pin-of-shared-anon-page'],
  ['use-after-free', 'bugs/memfd-pin-folios-eexist-pointer'],
  ['refcount-leak', 'bugs/memfd-pin-folios-extra-reference'],
  ['refcount-overflow', 'bugs/zero-page-pin-count-overflow'],
  ['accounting-drift', 'bugs/type1-exec-underflows-locked-vm'],
  ['isolation-breach', 'bugs/type1-pfnmap-readonly-mapped-writable'],
  ['data-corruption', 'bugs/lazyfree-page-dropped-during-dio-read'],
  ['dirty-loss', 'bugs/private-fs-data-reclaimed-from-pinned-page'],
  ['dirty-loss', 'bugs/emulated-cmpxchg-misses-dirty-log'],
] as const;

describe('a finding of kind', () => {
  it.each(PAIRS)('%s is what %s shows, and its mended kernel does not', (kind, name) => {
    const file = `scenarios/${name}.yaml`;
    const scenario = loadScenario(file, readFileSync(file, 'utf8'), OPERATIONS);
    const cases = runScenario(scenario, { checked: true, explain: 'none' });
    const kindsOf = (i: number) => cases.at(i)!.findings.map(({ finding }) => finding.kind);
    expect(cases.length).toBeGreaterThan(1);
    expect(kindsOf(0)).toContain(kind);
    expect(kindsOf(-1)).not.toContain(kind);
  });
});
