// `pinsim replay`, `pinsim shrink` and the formats of `pinsim explore`: from the token that explore prints to the scenario
// file that is left of it, exit codes and mistakes included.
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { main } from '../../src/cli/cli.ts';
import { OPERATIONS } from '../../src/scenario/operations/index.ts';
import { NOISY } from '../scenario/search/stories.ts';
import { temporaryFolder } from './program.ts';

const TWO_CASES = NOISY.replace(
  'expect: {possible: [unexpected-outcome]}\n',
  `cases:
  - name: "it's seen"
    expect: {possible: [unexpected-outcome]}
  - name: any value will do
    steps: {look: {shows: {value: {one-of: [A, B]}}}}
`,
);

interface Ended {
  readonly code: number;
  readonly out: string;
  readonly err: string;
}

async function pinsim(cwd: string, ...argv: readonly string[]): Promise<Ended> {
  let out = '';
  let err = '';
  const io = {
    stdout: { write: (text: string) => (out += text) },
    stderr: { write: (text: string) => (err += text) },
    env: {},
    cwd,
  };
  const parts = {
    registry: async () => OPERATIONS,
    runScenario: async () => (await import('../../src/scenario/run.ts')).runScenario,
  };
  return { code: await main(argv, io, parts), out, err };
}

function folder(text = TWO_CASES): string {
  const cwd = temporaryFolder();
  writeFileSync(join(cwd, 'a.yaml'), text);
  return cwd;
}

const tokensIn = (text: string): readonly string[] =>
  [...text.matchAll(/'(pinsim1 [^']*)'/g)].map((match) => match[1]!);

let explored: Ended;
let token: string;

beforeAll(async () => {
  const cwd = mkdtempSync(join(tmpdir(), 'pinsim-test-'));
  writeFileSync(join(cwd, 'a.yaml'), TWO_CASES);
  explored = await pinsim(cwd, 'explore', 'a.yaml', '--case', "it's seen", '--nearest');
  token = tokensIn(explored.out)[0]!;
  rmSync(cwd, { recursive: true });
}, 60_000);

describe('explore', () => {
  it('tells a finding: what went wrong, why, who did what when, what was shrunk, and how to see it again', () => {
    expect(explored.code).toBe(0);
    const at = (text: string): number => {
      expect(explored.out).toContain(text);
      return explored.out.indexOf(text);
    };
    const order = [
      at('unexpected-outcome (expected: possible)'),
      at('reader, cpu.read: expected `value` A, got B'),
      at('why       the scenario says so at a.yaml:'),
      at('in cpu.write, line'),
      at('the nearest interleaving that passes: '),
      at('shrunk    from 3 actors, '),
      at("replay    pinsim replay 'pinsim1 a.yaml "),
    ];
    expect(order).toEqual([...order].sort((a, b) => a - b));
    expect(explored.out).toContain('left out: idle, ');
    for (const line of explored.out.split('\n'))
      if (!line.includes('replay ')) expect(line.length).toBeLessThanOrEqual(100);
    expect(explored.out).not.toContain('\u001b');
  });

  it('leaves findings as they were found on request, and refuses nonsense', async () => {
    const { out } = await pinsim(folder(), 'explore', 'a.yaml', '--shrink', 'off', '--case', "it's");
    expect(out).not.toContain('shrunk');
    const { code, err } = await pinsim(folder(), 'explore', 'a.yaml', '--shrink', 'some');
    expect(code).toBe(2);
    expect(err).toContain('--shrink cannot be `some`: expected a number of executions, or off');
  });

  it.each(['json', 'junit', 'sarif', 'github'])('writes %s', async (format) => {
    const { code, out, err } = await pinsim(folder(), 'explore', 'a.yaml', '--format', format, '--shrink', '50');
    expect({ code, err }).toEqual({ code: 0, err: '' });
    if (format === 'json') expect(JSON.parse(out).scenarios[0].cases).toHaveLength(2);
    if (format === 'junit') expect(out).toMatch(/^<\?xml .*\n<testsuites name="pinsim" tests="1" failures="0"/);
    if (format === 'sarif') expect(JSON.parse(out).runs[0].results).toEqual([]);
    if (format === 'github') expect(out).toBe('1 scenario, 2 cases: 2 as expected\n');
  });
});

describe('replay', () => {
  it('shows the finding again: exit code 0', async () => {
    const { code, out } = await pinsim(folder(), 'replay', token);
    expect(out).toMatch(/shows the same unexpected-outcome again, in \d+ steps/);
    expect(code).toBe(0);
  });

  it('takes a line that was pasted whole, in words or in pieces, and a file that holds one', async () => {
    const cwd = folder();
    expect((await pinsim(cwd, 'replay', `pinsim replay '${token}'`)).code).toBe(0);
    expect((await pinsim(cwd, 'replay', ...token.split(' '))).code).toBe(0);
    writeFileSync(join(cwd, 'mail.txt'), `Hello,\n> see pinsim replay '${token}'\n`);
    expect((await pinsim(cwd, 'replay', 'mail.txt')).code).toBe(0);
  });

  it('takes one that is longer than the name of a file can be', async () => {
    const long = token.replace(/ s1;/, ` s1;${'idle;'.repeat(2000)}`);
    const { code, err } = await pinsim(folder(), 'replay', long);
    expect([code, err]).toEqual([2, expect.stringContaining('the replay token')]);
  });

  it('in a case that allows it is gone: exit code 1', async () => {
    const { code, out } = await pinsim(folder(), 'replay', token, '--case', 'any');
    expect(code).toBe(1);
    expect(out).toMatch(/does not show unexpected-outcome any more, in \d+ steps/);
  });

  it('shows every step on request only', async () => {
    const cwd = folder();
    const label = /^ +0ns {2}writer {6}\S/m;
    expect((await pinsim(cwd, 'replay', token)).out).not.toMatch(label);
    expect((await pinsim(cwd, 'replay', token, '--trace')).out).toMatch(label);
  });

  it('tells machines, too', async () => {
    const { out } = await pinsim(folder(), 'replay', token, '--format', 'json');
    expect(JSON.parse(out)).toMatchObject({
      command: 'replay',
      tally: { asExpected: 1 },
      scenarios: [{ cases: [{ replay: { verdict: 'shown', scenarioChanged: false } }] }],
    });
  });

  it('on a changed scenario says where the schedule does not fit', async () => {
    const cwd = folder(TWO_CASES.replace(/ {2}writer:[\s\S]*? {2}reader:/, '  reader:'));
    const { code, out } = await pinsim(cwd, 'replay', token);
    expect(code).toBe(1);
    expect(out).toContain('the scenario has changed since the token was made');
    expect(out).toMatch(/the schedule fits for \d+ steps?, then there is no actor writer/);
    expect(out).toMatch(/^ {4}reader before schedule$/m);
  });

  it.each([
    ['a file that is not there', ['nothing.txt'], '`nothing.txt` is neither a replay token nor a file'],
    ['a folder', ['.'], '`.` is a folder\n'],
    ['a file without a token', ['a.yaml'], 'a.yaml holds no replay token'],
    ['a schedule alone', ['s1;a;b'], 'this is a schedule alone, as the library prints it, and names no scenario'],
    ['no argument', [], '`pinsim replay` needs an argument'],
  ])('refuses %s', async (_what, argv, message) => {
    const { code, out, err } = await pinsim(folder(), 'replay', ...argv);
    expect({ code, out }).toEqual({ code: 2, out: '' });
    expect(err).toContain(`pinsim: ${message}`);
  });

  it('refuses a token that was cut, of a scenario that has moved, or of a case that is gone', async () => {
    const cut = await pinsim(folder(), 'replay', token.slice(0, -8));
    expect([cut.code, cut.err]).toEqual([2, expect.stringContaining('the replay token has been cut')]);
    const cwd = temporaryFolder();
    writeFileSync(join(cwd, 'b.yaml'), TWO_CASES);
    const moved = await pinsim(cwd, 'replay', token);
    expect(moved.code).toBe(2);
    expect(moved.err).toContain('there is no scenario a.yaml, which the token names\n');
    expect(moved.err).toContain('`--scenario FILE` says where it is now');
    expect((await pinsim(cwd, 'replay', token, '--scenario', 'b.yaml')).code).toBe(0);
    const renamed = await pinsim(folder(TWO_CASES.replace("it's seen", "it's see")), 'replay', token);
    expect(renamed.code).toBe(2);
    expect(renamed.err).toContain("there is no case `it's seen`");
    expect(renamed.err).toContain("did you mean `it's see`?");
  });
});

describe('shrink', () => {
  it('writes what is left as a scenario, which replays from its own header and which a search finds again', async () => {
    const cwd = folder();
    const whole = tokensIn((await pinsim(cwd, 'explore', 'a.yaml', '--shrink', 'off', '--case', "it's")).out)[0]!;
    const { code, out } = await pinsim(cwd, 'shrink', whole, '-o', 'small.yaml');
    expect(out).toContain('no more can go');
    expect(code).toBe(0);
    const small = readFileSync(join(cwd, 'small.yaml'), 'utf8');
    expect(small).toMatch(
      /^# What is left of a\.yaml to show unexpected-outcome:\n# pinsim replay 'pinsim1 small\.yaml /,
    );
    expect(small).not.toContain('idle');
    const again = await pinsim(cwd, 'replay', 'small.yaml');
    expect(again.out).toContain('shows the same unexpected-outcome again');
    expect(again.out).not.toContain('has changed');
    expect(again.code).toBe(0);
    expect((await pinsim(cwd, 'explore', 'small.yaml')).code).toBe(0);
  });

  it('of a token whose finding is gone says so: exit code 1', async () => {
    const { code, out } = await pinsim(folder(NOISY.replace('shows: {value: A}', 'expect: any')), 'shrink', token);
    expect(code).not.toBe(0);
    expect(out).not.toContain('shrunk');
  });
});

describe('the replay line of a run', () => {
  it('names the case where there are several', async () => {
    const cwd = folder(TWO_CASES.replace('shows: {value: A}', 'shows: {value: A}\n        expect: ENOMEM'));
    const { out } = await pinsim(cwd, 'run', 'a.yaml', '--format', 'json', '--case', "it's seen");
    expect(JSON.parse(out).scenarios[0].cases).toHaveLength(1);
    const wrong = await pinsim(cwd, 'run', 'a.yaml', '--case', 'its seen');
    expect(wrong.code).toBe(2);
    expect(wrong.err).toContain("did you mean `it's seen`?");
  });
});
