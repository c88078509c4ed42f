// `pinsim explore` stopped and gone on with: the frontier file, Ctrl-C, and what is shown on the way.
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { main } from '../../src/cli/cli.ts';
import { formatDuration } from '../../src/cli/search-progress.ts';
import { OPERATIONS } from '../../src/scenario/operations/index.ts';
import { temporaryFolder } from './program.ts';

const STORY = readFileSync(new URL('../../scenarios/bugs/gup-fast-vs-fork.yaml', import.meta.url), 'utf8');

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
      ['"version":1', '"version":99', 'it has version 99 of its format'],
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
