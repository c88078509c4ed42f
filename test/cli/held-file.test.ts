// Files that one call keeps for itself: a second call is refused while the first lives, and only then.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readFileSync, utimesSync, writeFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { main } from '../../src/cli/cli.ts';
import { HeldFile } from '../../src/cli/held-file.ts';
import { OPERATIONS } from '../../src/scenario/operations/index.ts';
import { temporaryFolder } from './program.ts';

const ioIn = (cwd: string) => ({ stdout: { write: () => {} }, stderr: { write: () => {} }, env: {}, cwd });

async function pinsim(argv: readonly string[], cwd: string): Promise<{ readonly code: number; readonly err: string }> {
  let err = '';
  const parts = { registry: async () => OPERATIONS, runScenario: async () => () => [] };
  const code = await main(argv, { ...ioIn(cwd), stderr: { write: (text: string) => (err += text) } }, parts);
  return { code, err };
}

const STORY = `title: a page is read
kernel: v6.1
host: {memory: {normal: 16MiB}}
memory:
  page: {kind: anon, size: 4KiB, populate: write}
processes:
  app: {maps: {page: {}}}
actors:
  one: {on: app, do: [{cpu.read: {memory: page}}]}
expect: {}
`;

describe('a file in use', () => {
  it('is refused to another call, whatever that goes on with, and free when the first has ended', async () => {
    const cwd = temporaryFolder();
    writeFileSync(join(cwd, 'a.yaml'), STORY);
    const first = new HeldFile(ioIn(cwd), 'kept');
    for (const argv of [
      ['explore', 'a.yaml', '--frontier', 'kept'],
      ['fuzz', 'a.yaml', '--runs', '2', '--jobs', '1', '--state', 'kept'],
    ]) {
      const { code, err } = await pinsim(argv, cwd);
      expect([code, err]).toEqual([2, expect.stringContaining(`kept is in use by process ${process.pid} on `)]);
      expect(err).toContain('wait until it has ended, or name another file');
      expect(existsSync(join(cwd, 'kept'))).toBe(false);
    }
    first.release();
    expect((await pinsim(['explore', 'a.yaml', '--frontier', 'kept'], cwd)).code).toBe(0);
    expect(existsSync(join(cwd, 'kept.lock'))).toBe(false);
    // A call that cannot use the file does not keep it either.
    expect((await pinsim(['fuzz', 'a.yaml', '--runs', '2', '--state', 'kept'], cwd)).err).toContain('no state of');
    expect(existsSync(join(cwd, 'kept.lock'))).toBe(false);
  });

  it('is free when the process that kept it is dead, or another has its number', async () => {
    const cwd = temporaryFolder();
    const lock = join(cwd, 'kept.lock');
    const child = spawn(process.execPath, ['-e', '']);
    const { pid } = child;
    await once(child, 'exit');
    for (const holder of [
      { pid, host: hostname(), started: '1' },
      { pid: process.pid, host: hostname(), started: 'long ago' },
    ]) {
      writeFileSync(lock, JSON.stringify(holder));
      const held = new HeldFile(ioIn(cwd), 'kept');
      expect(JSON.parse(readFileSync(lock, 'utf8'))).toMatchObject({ pid: process.pid });
      held.release();
    }
  });

  it('is free when whoever kept it elsewhere has shown no sign of life, or never said who it is', () => {
    const cwd = temporaryFolder();
    const lock = join(cwd, 'kept.lock');
    const anHourAgo = Date.now() / 1000 - 3600;
    for (const text of [JSON.stringify({ pid: 1, host: 'another machine', started: '1' }), '']) {
      writeFileSync(lock, text);
      expect(() => new HeldFile(ioIn(cwd), 'kept')).toThrow('kept is in use by');
      utimesSync(lock, anHourAgo, anHourAgo);
      new HeldFile(ioIn(cwd), 'kept').release();
    }
  });
});
