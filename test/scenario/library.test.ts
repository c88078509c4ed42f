// Every scenario of the library runs as it says, in checked mode, and twice the same: same digest, same steps.
import { readdirSync, readFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { loadScenario } from '../../src/scenario/file/load.ts';
import { OPERATIONS } from '../../src/scenario/operations/index.ts';
import type { CaseResult, TraceLine } from '../../src/scenario/result.ts';
import { runScenario } from '../../src/scenario/run.ts';

const LIBRARY = fileURLToPath(new URL('../../scenarios/', import.meta.url));

/** Scenario files below `folder`, by code unit. */
function filesBelow(folder: string): string[] {
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && entry.name.endsWith('.yaml'))
    .map((entry) => relative(LIBRARY, join(entry.parentPath, entry.name)))
    .sort((a, b) => (a < b ? -1 : 1));
}

const FILES = filesBelow(LIBRARY);

function load(file: string) {
  return loadScenario(file, readFileSync(join(LIBRARY, file), 'utf8'), OPERATIONS);
}

function lineText({ timeNs, actor, label, changed }: TraceLine): string {
  return `${timeNs} ${actor} ${label} ${changed ?? ''}`;
}

/** What of a case a reader must not be surprised by. */
function problems(one: CaseResult): readonly string[] {
  return [
    ...one.failed.map(({ where, message }) => `line ${where.line}: ${message}`),
    ...one.missingFindings.map(({ what }) => `missing ${what}`),
    ...one.missingLabels.map(({ what }) => `never reached ${what}`),
    ...one.findings
      .filter(({ expected }) => expected === 'no')
      .map(({ finding }) => `${finding.kind}: ${finding.message}`),
    ...(one.limit === undefined ? [] : [one.limit]),
  ];
}

describe('the library of scenarios', () => {
  it.each(FILES)('%s runs as it says, and twice the same', { timeout: 300_000 }, (file) => {
    const scenario = load(file);
    const steps: string[] = [];
    const first = runScenario(scenario, {
      checked: true,
      explain: 'none',
      trace: (line) => steps.push(lineText(line)),
    });
    for (const one of first) expect(problems(one), one.name).toEqual([]);

    let at = 0;
    let difference: string | undefined;
    const second = runScenario(scenario, {
      checked: true,
      explain: 'none',
      trace: (line) => {
        const again = lineText(line);
        if (difference === undefined && steps[at] !== again) {
          difference = `step ${at}: first '${steps[at] ?? 'no such step'}', then '${again}'`;
        }
        at++;
      },
    });
    expect(difference ?? 'no difference').toBe('no difference');
    expect(second.map(({ digest }) => digest)).toEqual(first.map(({ digest }) => digest));
  });

  it.each(FILES)('%s names its schema and its source', (file) => {
    const [firstLine] = readFileSync(join(LIBRARY, file), 'utf8').split('\n');
    const schema = `${'../'.repeat(file.split('/').length - 1)}scenario.schema.json`;
    expect(firstLine).toBe(`# yaml-language-server: $schema=${schema}`);
    expect(load(file).sources.length).toBeGreaterThan(0);
  });

  it.each(FILES.filter((file) => file.startsWith('bugs/')))('%s shows the bug and its absence', (file) => {
    const { bug, cases } = load(file);
    expect(bug).toBe(file.slice('bugs/'.length, -'.yaml'.length));
    const named = (start: string) => cases.filter(({ name }) => name.startsWith(start));
    expect(named('fix off').length).toBeGreaterThan(0);
    expect(named('fix on').length).toBeGreaterThan(0);
    // Where the fix is a refusal, that is what the fixed kernel reports.
    // A race is found by a search (races.test.ts); one run may or may not meet it.
    for (const { name, expect: expected } of named('fix off')) {
      expect(expected.always.length + expected.possible.length, name).toBeGreaterThan(0);
    }
    for (const one of named('fix on')) {
      expect(one.expect.always.map(({ kind }) => kind).filter((kind) => kind !== 'pin-failure')).toEqual([]);
      expect(one.expect.possible).toEqual([]);
    }
  });

  it('is listed in its index, story by story', () => {
    const index = readFileSync(join(LIBRARY, 'README.md'), 'utf8');
    const linked = [...index.matchAll(/\]\(([^)]+\.yaml)\)/g)].map((match) => match[1]!);
    expect(linked.sort((a, b) => (a < b ? -1 : 1))).toEqual(FILES);
  });
});
