// `pinsim explore` stopped and gone on with: the frontier file, Ctrl-C, and what is shown on the way.
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { main } from '../../src/cli/cli.ts';
import { formatDuration } from '../../src/cli/search-progress.ts';
import { OPERATIONS } from '../../src/scenario/operations/index.ts';
import { temporaryFolder } from './program.ts';

const STORY = readFileSync(new URL('../../scenarios/bugs/gup-fast-vs-fork.yaml', import.meta.url), 'utf8');

/** Who writes last is left open, and one of two readers is always wrong about it. */
const EITHER = `title: who writes last
kernel: v6.1
host: {memory: {normal: 16MiB}}
memory:
  page: {kind: anon, size: 4KiB, populate: write}
processes:
  app: {maps: {page: {}}}
actors:
  one: {on: app, do: [{cpu.write: {memory: page, value: A}}]}
  two: {on: app, do: [{cpu.write: {memory: page, value: B}}]}
  three: {on: app, do: [{cpu.write: {memory: page, value: A}}]}
  look:
    on: app
    do:
      - wait: [one, two, three]
      - cpu.read: {memory: page}
        shows: {value: B}
  see:
    on: app
    do:
      - wait: [one, two, three]
      - cpu.read: {memory: page}
        shows: {value: A}
expect: {}
`;

interface Ended {
  readonly code: number;
  readonly out: string;
  readonly err: string;
}

/** `pinsim explore a.yaml ...` in `cwd`. `interrupt`: Ctrl-C is pressed as soon as anybody listens. */
async function explore(cwd: string, argv: readonly string[], interrupt = false, isTTY = false): Promise<Ended> {
  let out = '';
  let err = '';
  const io = {
    stdout: { write: (text: string) => (out += text) },
    stderr: { write: (text: string) => (err += text), isTTY, columns: 200 },
    env: {},
    cwd,
    onInterrupt: (handler: () => void) => {
      if (interrupt) setImmediate(handler);
      return () => {};
    },
  };
  const parts = { registry: async () => OPERATIONS, runScenario: async () => () => [] };
  return { code: await main(['explore', 'a.yaml', ...argv], io, parts), out, err };
}

function folder(text = STORY): string {
  const cwd = temporaryFolder();
  writeFileSync(join(cwd, 'a.yaml'), text);
  return cwd;
}

describe('a search that --runs stopped', () => {
  it('says so in words of the command line; a sampler that made all its runs was not stopped', async () => {
    const cwd = folder();
    const stopped = await explore(cwd, ['--runs', '7']);
    expect([stopped.code, stopped.out]).toEqual([3, expect.stringContaining('stopped after 7 executions (--runs)')]);
    for (const strategy of ['random', 'pct', 'pos', 'timed']) {
      const sampled = await explore(cwd, ['--runs', '30', '--strategy', strategy]);
      expect(sampled.out).toContain('30 runs');
      expect(sampled.out).not.toContain('limit:');
    }
  });
});

describe('the frontier of a search', () => {
  it('is a file from which it goes on, to the same end', async () => {
    const cwd = folder();
    const whole = await explore(cwd, []);
    expect(whole.code).toBe(0);
    const first = await explore(cwd, ['--runs', '7', '--frontier', 'f.json']);
    expect(first.code).toBe(3);
    expect(first.out).toMatch(/violated: .*, in \d of 7 interleavings run, of an estimated [\d.]+ ± [\d.]+\n/);
    expect(first.out).toMatch(/incomplete: 7 of an estimated [\d.]+ ± [\d.]+ interleavings; nothing found in them\n/);
    expect((await explore(cwd, ['--runs', '19', '--frontier', 'f.json'])).code).toBe(3);
    expect(await explore(cwd, ['--frontier', 'f.json'])).toEqual(whole);
    // Nothing is left to run.
    expect(await explore(cwd, ['--frontier', 'f.json'])).toEqual(whole);
  });

  it('goes on under a bound, too, and with samples', async () => {
    for (const strategy of [['bounded', '--bound', '1'], ['pct']]) {
      const cwd = folder();
      const argv = ['--strategy', ...strategy];
      const end = strategy[0] === 'bounded' ? [] : ['--runs', '40'];
      const whole = await explore(cwd, [...argv, ...end]);
      await explore(cwd, [...argv, '--runs', '9', '--frontier', 'f.json']);
      expect(await explore(cwd, [...argv, ...end, '--frontier', 'f.json'])).toEqual(whole);
    }
  });

  it('keeps count of interleavings that show anything, whatever the cause', async () => {
    const cwd = folder(EITHER);
    const whole = await explore(cwd, []);
    const [, shown, all] = /violated: unexpected-outcome, in (\d+) of (\d+) interleavings\n/.exec(whole.out) ?? [];
    expect(Number(all)).toBeGreaterThan(3);
    expect(shown).toBe(all);
    expect((await explore(cwd, ['--runs', '3', '--frontier', 'f.json'])).out).toContain('in 3 of 3 interleavings run');
    expect(await explore(cwd, ['--frontier', 'f.json'])).toEqual(whole);
  });

  it('is refused by another search, with what differs', async () => {
    const cwd = folder();
    await explore(cwd, ['--runs', '7', '--frontier', 'f.json']);
    const refused = async (argv: readonly string[], message: string): Promise<void> => {
      const { code, err } = await explore(cwd, [...argv, '--frontier', 'f.json']);
      expect({ code, err }).toEqual({ code: 2, err: expect.stringContaining(message) });
      expect(err).toContain('cannot go on from f.json');
    };
    await refused(
      ['--strategy', 'bounded'],
      'another strategy: `every inequivalent interleaving (optimal DPOR)` there',
    );
    await refused(['--seed', '7'], 'another seed: `1` there, `7` here');
    const text = readFileSync(join(cwd, 'f.json'), 'utf8');
    writeFileSync(join(cwd, 'a.yaml'), STORY.replace('value: B', 'value: C'));
    await refused([], 'another scenario (it has been changed since)');
    writeFileSync(join(cwd, 'a.yaml'), STORY.replace('possible: [incoherent-mapping]', 'possible: [deadlock]'));
    await refused([], 'another expectation');
    writeFileSync(join(cwd, 'a.yaml'), STORY);
    for (const [from, to, message] of [
      ['"pinsim":"', '"pinsim":"0.0.1-', 'it was written by pinsim 0.0.1-'],
      ['"version":2', '"version":99', 'it has version 99 of its format'],
      ['pinsim frontier', 'something', 'it is no frontier of `pinsim explore`'],
      ['}\n', '', 'it is not JSON'],
      ['"model":"', '"model":"x', 'another model (pinsim has been changed since)'],
    ] as const) {
      const at = text.lastIndexOf(from);
      writeFileSync(join(cwd, 'f.json'), text.slice(0, at) + to + text.slice(at + from.length));
      await refused([], message);
    }
  });

  it('must be a file that can be written', async () => {
    const { code, err } = await explore(folder(), ['--frontier', 'nowhere/f.json']);
    expect([code, err]).toEqual([2, expect.stringContaining('there is no folder')]);
  });
});

describe('the parameters of a strategy', () => {
  it('may forbid every preemption', async () => {
    const { code, out } = await explore(folder(), ['--strategy', 'bounded', '--bound', '0', '--case', 'fix on']);
    expect(out).toMatch(/incomplete: .* with at most 0 preemptions w\w+ run, not all others; nothing found in /);
    expect(code).toBe(3);
  });

  it.each([
    [['--bound', 'x', '--strategy', 'bounded'], 'expected a whole number from 0 on', 'such as --bound 2'],
    [['--depth', '0', '--strategy', 'pct'], 'expected a whole number from 1 on', 'such as --depth 3'],
    [['--bound', '2'], '--bound is only for --strategy bounded, not for dpor', 'add --strategy bounded'],
    [['--depth', '2', '--strategy', 'pos'], '--depth is only for --strategy pct, not for pos', 'use --strategy pct'],
  ])('%j is refused', async (argv, message, hint) => {
    const { code, err } = await explore(folder(), argv);
    expect(code).toBe(2);
    expect(err).toContain(message);
    expect(err).toContain(hint);
  });
});

describe('Ctrl-C', () => {
  it('ends the search with the verdict so far, and 3', async () => {
    const cwd = folder();
    const whole = await explore(cwd, []);
    // Looks at signals come every 50 ms.
    let nowMs = 0;
    vi.spyOn(performance, 'now').mockImplementation(() => (nowMs += 20));
    const { code, out, err } = await explore(cwd, ['--frontier', 'f.json'], true);
    expect(code).toBe(3);
    expect(out).toMatch(/incomplete: \d+ of an estimated/);
    expect(out).toContain('limit: it was interrupted');
    expect(err).not.toContain('defect');
    vi.restoreAllMocks();
    expect(await explore(cwd, ['--frontier', 'f.json'])).toEqual(whole);
  });
});

describe('progress of a search', () => {
  afterEach(() => vi.restoreAllMocks());

  it('tells four numbers, as plain lines or as a live one', async () => {
    let nowMs = 0;
    vi.spyOn(performance, 'now').mockImplementation(() => (nowMs += 700));
    const line = /\[2\/2\] a\.yaml fix on: [^:]*: \d+ of [\d.]+( ± [\d.]+)?, 0 redundant, \d+s left/;
    const plain = await explore(folder(), []);
    expect(plain.err.split('\n')[0]).toMatch(line);
    expect(plain.err).not.toContain('\u001b');
    const live = await explore(folder(), [], false, true);
    expect(live.err).toMatch(line);
    expect(live.err).not.toContain('\n');
    expect(live.err.endsWith('\r\u001b[K')).toBe(true);
  });

  it('times are told in two units', () => {
    const told = [0, 400, 59_000, 61_000, 3_600_000, 3_720_000, 90_061_000].map(formatDuration);
    expect(told).toEqual(['0s', '1s', '59s', '1min 1s', '1h', '1h 2min', '1d 1h']);
  });
});
