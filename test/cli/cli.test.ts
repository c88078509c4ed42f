// Usage: help, mistakes on the command line, colours, and that no mistake shows a stack trace.
import { describe, expect, it } from 'vitest';
import { pinsim } from './program.ts';

describe('help', () => {
  it('names every command and the exit codes', async () => {
    const { code, out } = await pinsim(['--help']);
    expect(code).toBe(0);
    for (const command of ['run <files..>', 'list <topic>', 'explain <name>', 'schema', 'new <template>'])
      expect(out).toContain(`pinsim ${command}`);
    expect(out).toContain('Exit codes: 0 as expected, 1 not as expected, 2 usage or a bad file, 3 incomplete');
  });

  it('of a command names its options', async () => {
    const { code, out } = await pinsim(['run', '--help']);
    expect(code).toBe(0);
    for (const option of ['--seed', '--kernel', '--with', '--without', '--trace', '--format', '-o, --output'])
      expect(out).toContain(option);
  });

  it('comes, as a mistake, when no command is given', async () => {
    const { code, out, err } = await pinsim([]);
    expect({ code, out }).toEqual({ code: 2, out: '' });
    expect(err).toContain('pinsim run <files..>');
  });

  it('knows the version', async () => {
    expect((await pinsim(['--version'])).out).toMatch(/^\d+\.\d+\.\d+\n$/);
  });
});

describe('a mistake on the command line', () => {
  it.each([
    [['rum', 'x'], 'unknown command `rum`', 'did you mean `run`?'],
    [['frobnicate'], 'unknown command `frobnicate`', 'see `pinsim --help`'],
    [['run'], '`pinsim run` needs an argument: scenario files or folders', 'see `pinsim run --help`'],
    [['new'], '`pinsim new` needs an argument: a name from `pinsim list templates`', 'see `pinsim new --help`'],
    [['run', 'a', '--frmat', 'json'], 'unknown option `--frmat`', 'did you mean `--format`?'],
    [['run', 'a', '--sed=3'], 'unknown option `--sed`', 'did you mean `--seed`'],
    [['run', 'a', '-x'], 'unknown option `-x`', 'see `pinsim run --help`'],
    [
      ['run', 'a', '--format', 'jsn'],
      '--format cannot be `jsn`: expected `text`, `json`, `junit`, `sarif` or `github`',
      'did you mean `json`?',
    ],
    [['run', 'a', '--kernel'], '--kernel needs a value', 'see `pinsim run --help`'],
    [['run', 'a', '-o'], '-o needs a value', 'see `pinsim run --help`'],
    [['list', 'kernls'], 'topic cannot be `kernls`', 'did you mean `kernels`?'],
    [['list', 'kernels', 'x'], 'unexpected argument `x`', 'see `pinsim list --help`'],
    [['explain', 'stale-maping'], 'nothing is called `stale-maping`', 'did you mean `stale-mapping`?'],
    [['new', 'baloon'], 'no template `baloon`', 'did you mean `balloon`?'],
    [['run', 'nowhere.yaml'], 'there is no file or folder nowhere.yaml', ''],
  ])('%j: %s', async (argv, message, hint) => {
    const { code, out, err } = await pinsim(argv);
    expect({ code, out }).toEqual({ code: 2, out: '' });
    expect(err).toContain(`pinsim: ${message}`);
    expect(err).toContain(hint);
    expect(err).not.toMatch(/\n\s+at /);
  });
});

describe('lists', () => {
  it.each([
    ['kernels', 'v6.12.117'],
    ['behaviours', 'gup.'],
    ['operations', 'touch       Writes to every page of a range.'],
    ['findings', 'pin-failure         A request to pin or map memory was refused.'],
    ['memory-kinds', 'hugetlb'],
    ['templates', 'balloon'],
  ])('%s', async (topic, line) => {
    const { code, out } = await pinsim(['list', topic]);
    expect(code).toBe(0);
    expect(out).toContain(line);
  });

  it('come as JSON, too', async () => {
    const { out } = await pinsim(['list', 'operations', '--format', 'json']);
    expect(JSON.parse(out)[0]).toEqual({ name: 'touch', summary: 'Writes to every page of a range.' });
  });
});

describe('explain', () => {
  it('says what a finding means', async () => {
    expect((await pinsim(['explain', 'deadlock'])).out).toContain('deadlock: Actors wait for each other.');
  });

  it('says which kernels have a behaviour', async () => {
    const { out } = await pinsim(['list', 'behaviours', '--format', 'json']);
    const [first] = JSON.parse(out) as readonly { readonly name: string }[];
    const explained = await pinsim(['explain', first!.name]);
    expect(explained.code).toBe(0);
    expect(explained.out).toMatch(/^ {2}v5\.4 +(yes|no|\S+)$/m);
  });

  it('says who can do an operation and what it shows', async () => {
    const { out } = await pinsim(['explain', 'touch']);
    const lines = out.split('\n');
    expect(lines.slice(0, 5)).toEqual([
      'touch: Writes to every page of a range.',
      '',
      'Who can do it: process.',
      '',
      'Takes:',
    ]);
    expect(out).toContain('\nShows (for `shows: {key: value}`):\n  pages  how many pages were touched\n');
    expect(out).toMatch(/\nExample:\n {2}- touch: \{memory: ram\}\n$/);
  });
});

describe('colour', () => {
  it('is for terminals', async () => {
    const { wantsColour } = await import('../../src/cli/colour.ts');
    const sink = (isTTY: boolean) => ({ write: () => true, isTTY });
    expect(wantsColour(sink(true), {})).toBe(true);
    expect(wantsColour(sink(false), {})).toBe(false);
    expect(wantsColour(sink(true), { NO_COLOR: '1' })).toBe(false);
    expect(wantsColour(sink(true), { NO_COLOR: '' })).toBe(true);
    expect(wantsColour(sink(true), { TERM: 'dumb' })).toBe(false);
    expect(wantsColour(sink(false), { FORCE_COLOR: '1' })).toBe(true);
    expect(wantsColour(sink(true), { NO_COLOR: '1', FORCE_COLOR: '1' })).toBe(false);
  });
});
