// `pinsim run`: which files, in which order, what is printed where, and the exit code.
import { mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import type { RunScenario } from '../../src/scenario/run.ts';
import { pinsim, resultsOf, temporaryFolder } from './program.ts';

const GOOD = 'title: a story\nprocesses: {vmm: }\nactors: {vmm: [reclaim]}\ncases: [{kernel: v5.15}, {kernel: v6.1}]\n';
const BAD = 'title: a story\nprocesses: {vmm: }\nactors: {vmm: [recliam]}\n';

/** A folder with these files. */
function folderWith(files: Readonly<Record<string, string>>): string {
  const folder = temporaryFolder();
  for (const [name, text] of Object.entries(files)) {
    mkdirSync(join(folder, name, '..'), { recursive: true });
    writeFileSync(join(folder, name), text);
  }
  return folder;
}

describe('a run', () => {
  it('prints a line per case and a tally, and ends with 0 when all is as expected', async () => {
    const { code, out, err } = await pinsim(['run', 'a.yaml'], { cwd: folderWith({ 'a.yaml': GOOD }) });
    expect({ code, err }).toEqual({ code: 0, err: '' });
    expect(out).toBe(
      [
        'a.yaml  a story',
        '  v5.15  as expected  no findings  1.00us, 3 steps',
        '  v6.1   as expected  no findings  1.00us, 3 steps',
        '1 scenario, 2 cases: 2 as expected',
        '',
      ].join('\n'),
    );
  });

  it('takes folders, by name, and each file once', async () => {
    const cwd = folderWith({ 's/b.yaml': GOOD, 's/a.yml': GOOD, 's/x/c.yaml': GOOD, 's/.d.yaml': BAD, 's/e.txt': BAD });
    const { out } = await pinsim(['run', 's', 's/a.yml'], { cwd });
    expect(out.match(/^\S+\.ya?ml/gm)).toEqual(['s/a.yml', 's/b.yaml', 's/x/c.yaml']);
  });

  it.each([
    [['as-expected', 'as-expected'], 0],
    [['as-expected', 'not-as-expected'], 1],
    [['as-expected', 'incomplete'], 3],
    [['incomplete', 'not-as-expected'], 1],
  ] as const)('with cases %j ends with %i', async (statuses, code) => {
    let next = 0;
    const runScenario: RunScenario = (scenario, options) =>
      resultsOf(scenario, options, {}).map((result) => ({ ...result, status: statuses[next++]! }));
    const ended = await pinsim(['run', 'a.yaml'], { cwd: folderWith({ 'a.yaml': GOOD }), runScenario });
    expect(ended.code).toBe(code);
  });

  it('hands over seed, kernel and behaviours', async () => {
    let seen: unknown;
    const runScenario: RunScenario = (scenario, options) => {
      const { progress: _, ...rest } = options;
      seen = rest;
      return resultsOf(scenario, options, {});
    };
    const cwd = folderWith({ 'a.yaml': GOOD });
    const { code, out } = await pinsim(['run', '--seed', '007', '--kernel', '5.15', 'a.yaml'], { cwd, runScenario });
    expect(code).toBe(0);
    expect(seen).toEqual({ seed: '007', kernel: '5.15', with: [], without: [] });
    expect(out).toContain('1 scenario, 1 case');
  });

  it('shows the steps with --trace', async () => {
    const runScenario: RunScenario = (scenario, options) => {
      options.trace?.({ timeNs: 5, actor: 'vmm', label: 'f:x' });
      return resultsOf(scenario, options, {});
    };
    const cwd = folderWith({ 'a.yaml': GOOD });
    expect((await pinsim(['run', 'a.yaml', '--trace'], { cwd, runScenario })).out).toMatch(/^ +5ns {2}vmm +f:x\n/);
    expect((await pinsim(['run', 'a.yaml'], { cwd, runScenario })).out).not.toContain('f:x');
  });

  it('tells a defect of the program apart from a mistake of the user', async () => {
    const runScenario: RunScenario = () => {
      throw new Error('frame 3 has two owners');
    };
    const cwd = folderWith({ 'a.yaml': GOOD });
    const { code, err } = await pinsim(['run', 'a.yaml'], { cwd, runScenario });
    expect(code).toBe(1);
    expect(err).toContain('this is a defect of pinsim, please report it: a.yaml: frame 3 has two owners\n');
    expect(err).not.toMatch(/\n\s+at /);
    expect((await pinsim(['run', 'a.yaml'], { cwd, runScenario, env: { PINSIM_DEBUG: '1' } })).err).toMatch(/\n\s+at /);
  });
});

describe('a bad file', () => {
  it('ends the program before anything runs, with the mistakes of all files', async () => {
    const cwd = folderWith({ 'a.yaml': GOOD, 'b.yaml': BAD, 'c.yaml': 'title: [\n' });
    let ran = false;
    const runScenario: RunScenario = () => {
      ran = true;
      return [];
    };
    const { code, out, err } = await pinsim(['run', '.'], { cwd, runScenario });
    expect({ code, out, ran }).toEqual({ code: 2, out: '', ran: false });
    expect(err).toContain(
      [
        'b.yaml:3:16: error: unknown operation `recliam`',
        '  3 | actors: {vmm: [recliam]}',
        '    |                ^^^^^^^',
        '    = help: did you mean `reclaim`?',
      ].join('\n'),
    );
    expect(err).toContain('c.yaml:2:1: error: ');
  });

  it.each([
    [['--kernel', 'v6.111'], "unknown kernel 'v6.111'"],
    [['--with', 'nonsense'], "there is no behaviour 'nonsense'"],
    [['--without', 'nonsense,more'], "there is no behaviour 'nonsense'"],
  ])('so does %j', async (options, message) => {
    const { code, err } = await pinsim(['run', 'a.yaml', ...options], { cwd: folderWith({ 'a.yaml': GOOD }) });
    expect(code).toBe(2);
    expect(err).toContain(message);
    expect(err).toContain('help: ');
  });

  it('is suggested the name of a file beside it', async () => {
    const { code, err } = await pinsim(['run', 'balon.yaml'], { cwd: folderWith({ 'balloon.yaml': GOOD }) });
    expect(code).toBe(2);
    expect(err).toContain('did you mean `balloon.yaml`?');
  });

  it('may be a folder without scenarios', async () => {
    expect((await pinsim(['run', 's'], { cwd: folderWith({ 's/readme.txt': '' }) })).err).toContain(
      's has no scenario files',
    );
  });
});

describe('a report in a file', () => {
  it('is whole, with only the tally on the screen', async () => {
    const cwd = folderWith({ 'a.yaml': GOOD, 'out.json': 'old' });
    const { code, out } = await pinsim(['run', 'a.yaml', '--format', 'json', '-o', 'out.json'], { cwd });
    expect({ code, out }).toEqual({ code: 0, out: '' });
    const report = JSON.parse(readFileSync(join(cwd, 'out.json'), 'utf8'));
    expect(report).toMatchObject({ version: 1, tally: { cases: 2, asExpected: 2 } });
    expect(report.scenarios[0].cases.map((one: { kernel: string }) => one.kernel)).toEqual(['v5.15', 'v6.1']);
    expect(readdirSync(cwd).sort()).toEqual(['a.yaml', 'out.json']);
  });

  it('of text has no colours', async () => {
    const cwd = folderWith({ 'a.yaml': GOOD });
    const { out } = await pinsim(['run', 'a.yaml', '-o', 'out.txt'], { cwd, isTTY: true });
    expect(readFileSync(join(cwd, 'out.txt'), 'utf8')).toMatch(/^a\.yaml {2}a story\n/);
    expect(out).toContain('2 as expected');
  });

  it('follows a link and keeps it', async () => {
    const cwd = folderWith({ 'a.yaml': GOOD, 'real.json': '' });
    symlinkSync('real.json', join(cwd, 'link.json'));
    await pinsim(['run', 'a.yaml', '--format', 'json', '-o', 'link.json'], { cwd });
    expect(JSON.parse(readFileSync(join(cwd, 'real.json'), 'utf8')).version).toBe(1);
  });

  it.each([
    ['nowhere/out.json', 'there is no folder'],
    ['.', '. is a folder'],
  ])('%s cannot be: %s, which is said before anything runs', async (file, message) => {
    let ran = false;
    const runScenario: RunScenario = () => {
      ran = true;
      return [];
    };
    const cwd = folderWith({ 'a.yaml': GOOD });
    const { code, err } = await pinsim(['run', 'a.yaml', '-o', file], { cwd, runScenario });
    expect({ code, ran }).toEqual({ code: 2, ran: false });
    expect(err).toContain(message);
  });

  it('is untouched when the run breaks down', async () => {
    const cwd = folderWith({ 'a.yaml': GOOD, 'out.json': 'old' });
    const runScenario: RunScenario = () => {
      throw new Error('broken');
    };
    await pinsim(['run', 'a.yaml', '--format', 'json', '-o', 'out.json'], { cwd, runScenario });
    expect(readFileSync(join(cwd, 'out.json'), 'utf8')).toBe('old');
    expect(readdirSync(cwd).sort()).toEqual(['a.yaml', 'out.json']);
  });
});
