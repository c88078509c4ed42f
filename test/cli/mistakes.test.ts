// Mistakes of a scenario's author that only show when it runs: pointed at, and no reason to leave other files out.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { main } from '../../src/cli/cli.ts';

const HEAD = `title: T
kernel: v6.12
memory: {ram: {kind: anon, size: 4KiB}}
processes: {p: {maps: {ram: {}}}}
`;
const FILES: Readonly<Record<string, string>> = {
  'container.yaml': `${HEAD}actors: {p: [{vfio.map: {iova: 0, memory: ram}}]}\n`,
  'exec.yaml': `${HEAD}actors: {p: [exec, {touch: {memory: ram}}]}\n`,
  'file.yaml': `${HEAD}actors: {p: [{truncate: {memory: ram, size: 0}}]}\n`,
  'vdso.yaml': `${HEAD.replace('anon', 'vdso')}actors: {p: [{file.write: {memory: ram}}]}\n`,
  'cache.yaml': `${HEAD.replace('v6.12', 'v5.15')}vms: {vm: {process: p}}\nactors: {p: [{gpc.activate: {gpa: 0, as: c}}]}\n`,
  'fine.yaml': `${HEAD}actors: {p: [{touch: {memory: ram}}]}\n`,
  'endless.yaml': `${HEAD}actors: {p: [{repeat: {times: 100000, do: [{touch: {memory: ram}}]}}]}\n`,
};

let folder = '';
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'pinsim-mistakes-'));
  for (const [name, text] of Object.entries(FILES)) writeFileSync(join(folder, name), text);
});
afterAll(() => rmSync(folder, { recursive: true }));

async function pinsim(...argv: readonly string[]) {
  let stdout = '';
  let stderr = '';
  const io = {
    stdout: { write: (text: string) => (stdout += text) },
    stderr: { write: (text: string) => (stderr += text) },
    env: {},
    cwd: folder,
  };
  const code = await main(argv, io);
  return { code, stdout, stderr };
}

describe('a file that is no scenario', () => {
  it.each([
    ['words.txt', Array.from({ length: 60 }, (_, line) => `root:x:${line}:/root \`sh\``).join('\n')],
    ['binary', `\x7fELF\x02\x1b[31m${'\0'.repeat(3000)}`],
  ])('is told in short lines without control characters: %s', async (name, text) => {
    writeFileSync(join(folder, name), text);
    const { code, stderr } = await pinsim('run', name);
    expect(code).toBe(2);
    expect(stderr).toContain(`${name}:1:1: error: `);
    expect(stderr).toContain('is not allowed here\n');
    expect(Math.max(...stderr.split('\n').map(({ length }) => length))).toBeLessThan(130);
    expect(stderr.replaceAll('\n', '')).not.toMatch(/\p{Cc}/u);
  });

  it('is told without the control characters of its name', async () => {
    expect((await pinsim('run', 'a\x1b[31m.yaml')).stderr).toContain('there is no file or folder a␛[31m.yaml\n');
  });
});

describe('a mistake that shows in the run', () => {
  it.each([
    ['container.yaml', 'container.yaml:5:14: error: `vfio.map`:'],
    ['exec.yaml', 'exec.yaml:5:20: error: `touch`: p does not map ram'],
    ['file.yaml', 'file.yaml:5:14: error: `truncate`: ram has no file behind it'],
    ['cache.yaml', 'cache.yaml:6:14: error: `gpc.activate`: this kernel has no gfn-to-pfn caches: they came with 5.17'],
    ['vdso.yaml', 'vdso.yaml:5:14: error: `file.write`: ram has no file behind it'],
  ])('%s is pointed at, with exit code 2', async (file, message) => {
    const { code, stderr, stdout } = await pinsim('run', file);
    expect(stderr).toContain(message);
    expect(stderr).not.toContain('defect');
    expect(stdout).toBe('');
    expect(code).toBe(2);
  });

  it('does not keep other files from running', async () => {
    const { code, stdout } = await pinsim('run', 'exec.yaml', 'fine.yaml');
    expect(stdout).toContain('fine.yaml');
    expect(stdout).toContain('1 as expected');
    expect(code).toBe(2);
  });

  it('a run without end is given up where the user says, and says so', async () => {
    const { code, stdout } = await pinsim('run', 'endless.yaml', '--max-steps', '5_000');
    expect(stdout).toContain('stopped early: after 5000 steps (--max-steps)');
    expect(code).toBe(3);
  });
});
