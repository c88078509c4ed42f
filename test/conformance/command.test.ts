// The command on folders of its own: exit codes, messages, and the counts over the families that the model is to meet.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { conformance } from './command.ts';
import type { Judged, Verdict } from './compare.ts';
import { asData, table } from './table.ts';

const KERNEL = '6.12.117-pinlab';
const RIGHT = {
  case: 'type1/container/check_extension_no_group/TYPE1',
  kernel: KERNEL,
  args: { ext: 1, name: 'TYPE1' },
  ret: 1,
  errno: null,
  observed: {},
};
const folders: string[] = [];

/** Runs the command on a folder with these files. */
function run(files: Readonly<Record<string, unknown>>, ...options: readonly string[]) {
  const folder = mkdtempSync(join(tmpdir(), 'pinsim-conformance-'));
  folders.push(folder);
  for (const [name, content] of Object.entries(files)) {
    writeFileSync(join(folder, name), typeof content === 'string' ? content : JSON.stringify(content));
  }
  let [out, err] = ['', ''];
  const code = conformance([folder, ...options], {
    out: (text) => {
      out += text;
    },
    err: (text) => {
      err += text;
    },
  });
  return { code, out, err };
}

afterEach(() => {
  for (const folder of folders.splice(0)) rmSync(folder, { recursive: true });
});

describe('conformance on another folder', () => {
  it('exits 0 when every case agrees, or is unsupported', () => {
    const unknown = { ...RIGHT, case: 'type1/nobody/reports' };
    const { code, out, err } = run({ 'a.json': [RIGHT, unknown], 'kernel-config.json': {} });
    expect({ code, err }).toEqual({ code: 0, err: '' });
    expect(out).toMatch(/^profile +v6\.12\.117\+pinlab$/m);
    expect(out).toMatch(/^pooled +1 +0 +1 +2$/m);
  });

  it('exits 1 when one is wrong, and names it', () => {
    const wrong = { ...RIGHT, ret: -1, errno: 'EINVAL' };
    const { code, out, err } = run({ 'a.json': [wrong] });
    expect(code).toBe(1);
    expect(out).toMatch(/^wrong in ret\/errno +1 *$/m);
    expect(err).toContain(`${KERNEL}: ${RIGHT.case} ext=1 name="TYPE1" is wrong: ret: recorded -1, model 1`);
    const json = run({ 'a.json': [wrong] }, '--json');
    expect(json.code).toBe(1);
    expect(JSON.parse(json.out).kernels[0]).toMatchObject({
      pooled: { agree: 0, wrong: 1, unsupported: 0, total: 1, percent: 0, wrongInErrno: 1 },
      failures: [expect.stringContaining(RIGHT.case)],
    });
  });

  it('exits 2 with the file that is broken', () => {
    const { code, out, err } = run({ 'a.json': [RIGHT], 'b.json': '[{' });
    expect({ code, out }).toEqual({ code: 2, out: '' });
    expect(err).toMatch(/^b\.json: no JSON: .*\n$/);
  });

  it('exits 2 with file and index of a case of another shape', () => {
    const { kernel: _, ...without } = RIGHT;
    const { code, err } = run({ 'a.json': [RIGHT, without] });
    expect(code).toBe(2);
    expect(err).toMatch(/^a\.json: the case at index 1 \(type1\/container\/.*\): kernel: .*expected string.*\n$/);
    expect(run({ 'a.json': [null] }).err).toMatch(/^a\.json: the case at index 0: .*\n$/);
  });

  it('exits 2 at a kernel for which no profile stands, unless it is left out', () => {
    const files = { 'a.json': [RIGHT, { ...RIGHT, kernel: '6.18.2' }] };
    const { code, err } = run(files);
    expect(code).toBe(2);
    expect(err).toMatch(/"6\.18\.2"; known: 6\.1\.\* \(v6\.1\.192\), .*--kernel/);
    expect(run(files, '--kernel', 'pinlab').code).toBe(0);
    expect(run(files, '--kernel', '5.10').code).toBe(2);
  });
});

describe('the pooled counts', () => {
  const one = (family: string, verdict: Verdict, inErrno = false): Judged => ({
    key: family,
    family,
    verdict,
    inErrno,
    reasons: [],
  });
  const judged = [
    one('type1/map', 'agree'),
    one('kvm_vfio', 'agree'),
    one('pins', 'wrong'),
    one('trace/capture', 'unsupported'),
    one('iommufd', 'wrong', true),
    one('compat', 'unsupported'),
  ];

  it('are those of five families, rounded down', () => {
    expect(asData([{ kernel: KERNEL, judged }], () => [])).toMatchObject({
      kernels: [{ total: 6, pooled: { agree: 2, wrong: 1, unsupported: 0, total: 3, percent: 66.6, wrongInErrno: 0 } }],
    });
  });

  it('are none of nothing', () => {
    const lines = table([{ kernel: KERNEL, judged: judged.slice(3) }]);
    expect(lines.at(-3)!.trim()).toBe('-');
  });
});
