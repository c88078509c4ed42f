// Starter scenarios and the schema that editors use.
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { TEMPLATES } from '../../src/cli/templates/index.ts';
import { ScenarioError } from '../../src/scenario/file/diagnostic.ts';
import { loadScenario } from '../../src/scenario/file/load.ts';
import { OPERATIONS } from '../../src/scenario/operations/index.ts';
import { runScenario } from '../../src/scenario/run.ts';
import { pinsim, temporaryFolder } from './program.ts';

const STARTERS = TEMPLATES.map((template) => [template.name, template.text] as const);

function mistakesIn(name: string, text: string): readonly string[] {
  try {
    loadScenario(`${name}.yaml`, text, OPERATIONS);
  } catch (error) {
    if (error instanceof ScenarioError) return error.diagnostics.map((diagnostic) => diagnostic.message);
    throw error;
  }
  return [];
}

describe('a starter scenario', () => {
  it.each(STARTERS)('%s is well-formed', (name, text) => {
    expect(text).toContain('\n$schema: ./scenario.schema.json\n');
    expect(mistakesIn(name, text).filter((mistake) => !mistake.startsWith('unknown operation'))).toEqual([]);
  });

  it.each(STARTERS)('%s uses operations that exist', (name, text) => {
    expect(mistakesIn(name, text)).toEqual([]);
  });

  it.each(STARTERS)('%s ends as it says', (name, text) => {
    const cases = runScenario(loadScenario(`${name}.yaml`, text, OPERATIONS), { checked: true });
    expect(cases.map((one) => [one.name, one.status])).toEqual(cases.map((one) => [one.name, 'as-expected']));
    expect(cases.length).toBeGreaterThan(0);
  });

  it('is printed, or written where nothing is yet', async () => {
    const cwd = temporaryFolder();
    const printed = await pinsim(['new', 'balloon'], { cwd });
    expect(printed).toMatchObject({ code: 0, out: TEMPLATES.find((one) => one.name === 'balloon')!.text });
    expect(await pinsim(['new', 'balloon', '-o', 'a.yaml'], { cwd })).toEqual({ code: 0, out: '', err: '' });
    expect(readFileSync(join(cwd, 'a.yaml'), 'utf8')).toBe(printed.out);
    const again = await pinsim(['new', 'balloon', '-o', 'a.yaml'], { cwd });
    expect(again.code).toBe(2);
    expect(again.err).toContain('a.yaml exists already');
  });

  it('replaces a file when told to', async () => {
    const cwd = temporaryFolder();
    writeFileSync(join(cwd, 'a.yaml'), 'mine');
    expect((await pinsim(['new', 'race', '-o', 'a.yaml', '--force'], { cwd })).code).toBe(0);
    expect(readFileSync(join(cwd, 'a.yaml'), 'utf8')).not.toBe('mine');
  });
});

describe('the schema', () => {
  it('is printed with every operation in it', async () => {
    const { code, out } = await pinsim(['schema']);
    expect(code).toBe(0);
    const schema = JSON.parse(out);
    expect(schema.$schema).toBe('https://json-schema.org/draft/2020-12/schema');
    expect(Object.keys(schema.$defs.step.anyOf[0].properties)).toContain('vfio.map');
  });

  it('is written where scenarios look for it', async () => {
    const cwd = temporaryFolder();
    expect(await pinsim(['schema', '-o', 'scenario.schema.json'], { cwd })).toEqual({ code: 0, out: '', err: '' });
    expect(JSON.parse(readFileSync(join(cwd, 'scenario.schema.json'), 'utf8')).title).toBe('pinsim scenario');
  });
});
