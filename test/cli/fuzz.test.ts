// `pinsim fuzz` as built: threads, signals and kills are only real in a process of its own.
import { type ChildProcess, spawn } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { zReport } from '../../src/scenario/result-schema.ts';
import { type Ended, pinsim, temporaryFolder } from './program.ts';

const PROGRAM = fileURLToPath(new URL('../../dist/cli/main.cjs', import.meta.url));
const LIBRARY = fileURLToPath(new URL('../../scenarios/', import.meta.url));

/** Two threads of a process write a page while a third looks: which word is seen is left open. */
const RACE = `title: who writes last
kernel: v6.1
host: {memory: {normal: 16MiB}}
memory:
  page: {kind: anon, size: 4KiB, populate: write}
processes:
  app: {maps: {page: {}}}
actors:
  one: {on: app, do: [{cpu.write: {memory: page, value: A}}]}
  two: {on: app, do: [{cpu.write: {memory: page, value: B}}]}
  look:
    on: app
    do:
      - wait: [one, two]
      - cpu.read: {memory: page}
        shows: {value: B}
expect: {}
`;

/** An actor that the race does without. */
const BYSTANDER = `  bystander: {on: app, do: [{cpu.read: {memory: page}}, {cpu.read: {memory: page}}]}
`;

/** Starts the built program; `ended` when it has. */
function start(argv: readonly string[], cwd: string): { readonly child: ChildProcess; readonly ended: Promise<Ended> } {
  const child = spawn(process.execPath, [PROGRAM, ...argv], { cwd, stdio: ['ignore', 'pipe', 'pipe'] });
  let out = '';
  let err = '';
  child.stdout.on('data', (text) => (out += text));
  child.stderr.on('data', (text) => (err += text));
  const ended = new Promise<Ended>((resolve) => child.on('close', (code) => resolve({ code: code ?? -1, out, err })));
  return { child, ended };
}

const fuzz = (argv: readonly string[], cwd: string): Promise<Ended> => start(['fuzz', ...argv], cwd).ended;

function folder(): string {
  const cwd = temporaryFolder();
  writeFileSync(join(cwd, 'race.yaml'), RACE);
  writeFileSync(join(cwd, 'fine.yaml'), RACE.replace('        shows: {value: B}\n', ''));
  for (const file of ['gup-fast-vs-fork', 'kvm-put-on-non-refcounted-pfn'])
    cpSync(join(LIBRARY, 'bugs', `${file}.yaml`), join(cwd, `${file}.yaml`));
  return cwd;
}

const BUGS = ['gup-fast-vs-fork.yaml', 'kvm-put-on-non-refcounted-pfn.yaml'];

describe('a campaign', { timeout: 300_000 }, () => {
  it('gives the same report, byte for byte, with one thread and with two', async () => {
    const cwd = folder();
    const run = (jobs: string) => fuzz([...BUGS, 'race.yaml', '--runs', '300', '--jobs', jobs, '--seed', '7'], cwd);
    const [one, two] = [await run('1'), await run('2')];
    expect(two.out).toBe(one.out);
    expect([one.code, two.code]).toEqual([1, 1]);
    expect(one.out).toContain('1 UNEXPECTED FINDING in 300 runs');
    expect(one.out).toContain('look, cpu.read: expected `value` B, got A');
    expect(one.out).toMatch(/violated: unexpected-outcome, in \d+ of \d+ runs\n/);
  });

  it('that makes workloads up does, too', async () => {
    const cwd = folder();
    const run = (jobs: string) =>
      fuzz([...BUGS, '--mutate', '--runs', '160', '--jobs', jobs, '--shrink', 'off', '--format', 'json'], cwd);
    const [one, two] = [await run('1'), await run('2')];
    expect(two.out).toBe(one.out);
    const { campaign, command } = JSON.parse(one.out);
    expect(zReport.safeParse(JSON.parse(one.out)).error?.issues ?? []).toEqual([]);
    expect(command).toBe('fuzz');
    expect(campaign.runs).toBe(160);
    expect(campaign.workloads).toBeGreaterThan(4);
    expect(campaign.coverage.labelsReached).toBeGreaterThan(50);
  });

  it('finds nothing where nothing is wrong, and says how often it looked', async () => {
    const { code, out } = await fuzz(['fine.yaml', '--runs', '200', '--jobs', '1'], folder());
    expect(code).toBe(0);
    expect(out).toMatch(/^no finding in 200 runs \([\d,]+ steps\), 1 case of 1 scenario; seed 1\n/);
    expect(out).toMatch(/labels never reached \(\d+\): /);
    expect(out).toMatch(/behaviours never asked for \(\d+\): /);
  });

  it('counts what the scenario, or the command line, expects', async () => {
    const cwd = folder();
    const { code, out } = await fuzz(['race.yaml', '--runs', '64', '--possible', 'unexpected-outcome'], cwd);
    expect(code).toBe(0);
    expect(out).toContain('no unexpected finding in 64 runs');
    expect(out).toContain('1 finding that the scenarios expect');
  });

  it('fails when a finding that every run must show is absent from one, and tells which', async () => {
    const cwd = folder();
    const always = `${BYSTANDER}expect: {always: [unexpected-outcome]}`;
    writeFileSync(join(cwd, 'race.yaml'), RACE.replace('expect: {}', always));
    const argv = ['race.yaml', '--runs', '64', '--corpus', 'corpus'];
    const [one, two] = [await fuzz([...argv, '--jobs', '1'], cwd), await fuzz([...argv, '--jobs', '2'], cwd)];
    expect([one.code, two.code]).toEqual([1, 1]);
    expect(one.out).toContain('1 FINDING ABSENT that every run must show in 64 runs');
    expect(one.out).toMatch(/race\.yaml:18:1: missing: \d+ runs did not show unexpected-outcome/);
    expect(one.out).toMatch(/ 0\s+preemptions, \d+ steps; no more can go;\s+left out: bystander\n/);
    const token = /pinsim replay '(.*)'/.exec(one.out)![1]!;
    const replayed = await start(['replay', token], cwd).ended;
    expect(replayed.out).toContain('does not show unexpected-outcome, as before');
    const [kept] = readdirSync(join(cwd, 'corpus'));
    expect(readFileSync(join(cwd, 'corpus', kept!), 'utf8')).toContain(token);
    // The second campaign has replayed what the first one kept.
    expect(readdirSync(join(cwd, 'corpus'))).toEqual([
      expect.stringMatching(/^race--no-unexpected-outcome--[0-9a-f]{8}\.txt$/),
    ]);
    expect(two.out).toMatch(/^1 CORPUS CASE STILL SHOWN; 1 FINDING ABSENT/m);
    // Nobody says any more that every run shows it.
    writeFileSync(join(cwd, 'race.yaml'), RACE.replace('expect: {}', 'expect: {possible: [unexpected-outcome]}'));
    expect((await fuzz([...argv, '--jobs', '1'], cwd)).code).toBe(0);
  });

  it('is incomplete when a case does not reach what its scenario says it reaches, whatever others reach', async () => {
    const cwd = folder();
    const label = 'try_get_folio';
    const title = 'title: who writes last\n';
    const pinning = readFileSync(join(cwd, BUGS[0]!), 'utf8');
    writeFileSync(join(cwd, 'pins.yaml'), `${pinning}reaches: [${label}]\n`);
    writeFileSync(
      join(cwd, 'fine.yaml'),
      RACE.replace(title, `${title}reaches: [${label}]\n`).replace(/ +shows: .*\n/, ''),
    );
    expect((await fuzz(['pins.yaml', '--runs', '20'], cwd)).code).toBe(0);
    const { code, out } = await fuzz(['pins.yaml', 'fine.yaml', '--runs', '40'], cwd);
    expect(code).toBe(3);
    expect(out).toContain('; INCOMPLETE: 1 case did not reach what must be reached');
    expect(out).toMatch(
      /labels that must be reached \(reaches\) and were not \(1\): fine\.yaml:2 try_get_folio \(v6\.1, \d+\s+runs\)/,
    );
  });

  it('is the union of its shards', async () => {
    const cwd = folder();
    const runsOf = async (shard: string): Promise<number> => {
      const argv = [...BUGS, '--runs', '101', '--jobs', '1', '--shard', shard, '--format', 'json'];
      return JSON.parse((await fuzz(argv, cwd)).out).campaign.runs;
    };
    const parts = [await runsOf('1/2'), await runsOf('2/2')];
    expect(parts[0]! + parts[1]!).toBe(101);
    expect(Math.abs(parts[0]! - parts[1]!)).toBeLessThan(10);
  });

  it('is incomplete when there was no time for a single run', async () => {
    const { code, out } = await fuzz(['fine.yaml', '--for', '1ms', '--jobs', '1'], folder());
    expect([code, out.split(' (')[0]]).toEqual([3, 'no finding in 0 runs']);
  });

  it('ends when its time is up', async () => {
    const { code, out } = await fuzz([...BUGS, '--for', '4s', '--jobs', '2'], folder());
    expect(code).toBe(0);
    expect(out).toContain('stopped before the end: the time was up (--for)');
  });
});

describe('a campaign that is stopped', { timeout: 300_000 }, () => {
  it('by a kill goes on from its state and ends as if nothing had been', async () => {
    const cwd = folder();
    // With an absence, and with labels to reach: they too are in the state.
    const always = 'reaches: [try_get_folio]\nexpect: {always: [unexpected-outcome]}';
    writeFileSync(join(cwd, 'always.yaml'), RACE.replace('expect: {}', always));
    const argv = [...BUGS, 'race.yaml', 'always.yaml', '--mutate', '--runs', '500', '--jobs', '2', '--shrink', 'off'];
    const whole = await fuzz(argv, cwd);
    const state = join(cwd, 'state');
    const linesOf = (): number => (existsSync(state) ? readFileSync(state, 'utf8').split('\n').length - 1 : 0);
    for (let kills = 0, lines = 1; kills < 2; kills++, lines = linesOf()) {
      const { child, ended } = start(['fuzz', ...argv, '--state', 'state'], cwd);
      const watch = setInterval(() => {
        if (linesOf() > lines) child.kill('SIGKILL');
      }, 20);
      await ended;
      clearInterval(watch);
    }
    const torn = readFileSync(state, 'utf8');
    writeFileSync(state, `${torn}{"epoch":`);
    const resumed = await fuzz([...argv, '--state', 'state'], cwd);
    expect(resumed.out).toBe(whole.out);
    expect(resumed.code).toBe(whole.code);
    // Nothing is left to do: the state alone gives the report.
    expect((await fuzz([...argv, '--state', 'state'], cwd)).out).toBe(whole.out);
  });

  it('by Ctrl-C says what it knows, and that it is not complete', async () => {
    const { child, ended } = start(['fuzz', 'fine.yaml', '--jobs', '1', '--for', '5min'], folder());
    setTimeout(() => child.kill('SIGINT'), 3000);
    const { code, out } = await ended;
    expect(code).toBe(3);
    expect(out).toContain('stopped before the end: interrupted');
  });

  it('refuses the state of another campaign', async () => {
    const cwd = folder();
    await fuzz(['fine.yaml', '--runs', '10', '--state', 'state'], cwd);
    const { code, err } = await fuzz(['fine.yaml', '--runs', '10', '--state', 'state', '--seed', '2'], cwd);
    expect(code).toBe(2);
    expect(err).toContain('state belongs to another campaign: other seed: "1" there, "2" here');
    writeFileSync(join(cwd, 'other'), 'something\n');
    expect((await fuzz(['fine.yaml', '--state', 'other'], cwd)).err).toContain('other is no state of a campaign');
  });
});

describe('the corpus folder', { timeout: 300_000 }, () => {
  it('keeps a case by its cause, and replays it first', async () => {
    const cwd = folder();
    const found = await fuzz(['race.yaml', '--runs', '64', '--corpus', 'corpus', '--shrink', 'off'], cwd);
    expect(found.code).toBe(1);
    const names = readdirSync(join(cwd, 'corpus'));
    expect(names).toEqual([expect.stringMatching(/^race--unexpected-outcome--[0-9a-f]{8}\.txt$/)]);
    const text = readFileSync(join(cwd, 'corpus', names[0]!), 'utf8');
    expect(text).toMatch(/^# pinsim corpus 1\n# says: look, cpu.read: expected `value` B, got A\n/);
    expect(text).toMatch(/\n# found by: pinsim \d+\.\d+\.\d+\n/);

    const again = await fuzz(['race.yaml', '--runs', '1', '--seed', '3', '--corpus', 'corpus', '--shrink', 'off'], cwd);
    expect(again.code).toBe(1);
    expect(again.out.split('\n').find((line) => line.includes('in 1 run'))).toMatch(/^1 CORPUS CASE STILL SHOWN; /);
    expect(again.out).toContain('corpus: 1 case replayed first: 1 still shown');
    expect(readFileSync(join(cwd, 'corpus', names[0]!), 'utf8')).toBe(text);

    writeFileSync(join(cwd, 'race.yaml'), RACE.replace('shows: {value: B}', 'shows: {value: {one-of: [A, B]}}'));
    const fixed = await fuzz(['race.yaml', '--runs', '8', '--corpus', 'corpus'], cwd);
    expect(fixed.out).toContain('1 not shown any more');
    expect(fixed.code).toBe(0);
  });

  it('has all of them made small by the call that finds them in the state, told or not', async () => {
    const cwd = folder();
    const names = Array.from({ length: 24 }, (_, n) => `case ${n}`);
    const cases = `cases: [${names.map((name) => `{name: ${name}, expect: {}}`).join(', ')}]`;
    writeFileSync(join(cwd, 'race.yaml'), RACE.replace('expect: {}', `${BYSTANDER}${cases}`));
    const argv = ['race.yaml', '--runs', '800', '--jobs', '2', '--corpus', 'corpus', '--state', 'state'];
    const small = (): readonly boolean[] =>
      readdirSync(join(cwd, 'corpus')).map((name) =>
        readFileSync(join(cwd, 'corpus', name), 'utf8').includes(' !bystander '),
      );
    await fuzz([...argv, '--shrink', 'off'], cwd);
    expect(small()).toEqual(names.map(() => false));
    await fuzz(argv, cwd);
    expect(small()).toEqual(names.map(() => true));
  });

  it('keeps what was made small, as the report shows it, instead of what was found', async () => {
    const cwd = folder();
    writeFileSync(join(cwd, 'race.yaml'), RACE.replace('expect: {}', `${BYSTANDER}expect: {}`));
    const argv = ['race.yaml', '--runs', '64', '--jobs', '1', '--corpus', 'corpus'];
    const kept = (): string => {
      const [name] = readdirSync(join(cwd, 'corpus'));
      return /^# replay: (pinsim replay '.*')$/m.exec(readFileSync(join(cwd, 'corpus', name!), 'utf8'))![1]!;
    };
    await fuzz([...argv, '--shrink', 'off'], cwd);
    const raw = kept();
    // The same cause is found again, and what is kept of it is larger.
    const { out } = await fuzz(argv, cwd);
    expect(kept()).not.toBe(raw);
    expect(kept()).toContain(' !bystander ');
    expect(out).toContain(`replay    ${kept()}\n`);
    const small = kept();
    await fuzz([...argv, '--shrink', 'off', '--seed', '2'], cwd);
    expect(kept()).toBe(small);
    expect((await start(['replay', /'(.*)'/.exec(small)![1]!], cwd).ended).out).toMatch(/shows the same .* again/);
  });

  it('keeps it small when the time is up, too', async () => {
    const cwd = folder();
    writeFileSync(join(cwd, 'race.yaml'), RACE.replace('expect: {}', `${BYSTANDER}expect: {}`));
    await fuzz(['race.yaml', '--for', '4s', '--runs', '1000000000', '--jobs', '1', '--corpus', 'corpus'], cwd);
    const [name] = readdirSync(join(cwd, 'corpus'));
    expect(readFileSync(join(cwd, 'corpus', name!), 'utf8')).toContain(' !bystander ');
  });

  it('fails in the formats for machines, too, at the line of the scenario', async () => {
    const cwd = folder();
    await fuzz(['race.yaml', '--runs', '64', '--corpus', 'corpus', '--shrink', 'off'], cwd);
    const as = async (format: string) =>
      (await fuzz(['fine.yaml', 'race.yaml', '--runs', '1', '--corpus', 'corpus', '--format', format], cwd)).out;
    expect(await as('junit')).toMatch(/<testsuite name="pinsim fuzz" tests="3" failures="1" /);
    expect(await as('junit')).toMatch(/<testcase name="race--unexpected-outcome--[0-9a-f]{8}\.txt" classname="corpus"/);
    const [{ results }] = JSON.parse(await as('sarif')).runs;
    const failed = results.filter(({ level }: { level: string }) => level === 'error');
    expect(failed).toMatchObject([
      {
        ruleId: 'unexpected-outcome',
        locations: [{ physicalLocation: { artifactLocation: { uri: 'race.yaml' }, region: { startLine: 15 } } }],
      },
    ]);
    expect(await as('github')).toMatch(
      /^::error file=race\.yaml,line=15,col=\d+,title=unexpected-outcome%3A v6\.1::look/m,
    );
    expect(zReport.safeParse(JSON.parse(await as('json'))).error?.issues ?? []).toEqual([]);
  });

  it('keeps the scenario with a workload that was made up', async () => {
    const cwd = folder();
    const argv = [...BUGS, '--mutate', '--runs', '640', '--corpus', 'corpus', '--shrink', 'off'];
    const { code } = await fuzz(argv, cwd);
    const made = existsSync(join(cwd, 'corpus'))
      ? readdirSync(join(cwd, 'corpus')).filter((n) => n.endsWith('.yaml'))
      : [];
    expect(code).toBe(made.length > 0 ? 1 : 0);
    for (const name of made) {
      const file = join('corpus', name);
      const replay = /^# replay: pinsim replay '(.*)'$/m.exec(readFileSync(join(cwd, file), 'utf8'))![1]!;
      expect(replay.split(' ')[1]).toBe(file);
      const { out } = await start(['replay', replay], cwd).ended;
      expect(out).toMatch(/shows the same .* again/);
    }
  });

  it('must be a folder', async () => {
    const { code, err } = await fuzz(['fine.yaml', '--corpus', 'race.yaml'], folder());
    expect({ code, err }).toEqual({ code: 2, err: expect.stringContaining('race.yaml is no folder') });
  });

  it('may hold what is no case, which is ignored and named', async () => {
    const cwd = folder();
    mkdirSync(join(cwd, 'corpus', 'old.txt'), { recursive: true });
    writeFileSync(join(cwd, 'corpus', 'README.txt'), 'Commit these.\n');
    writeFileSync(join(cwd, 'corpus', 'ours.yaml'), RACE);
    const { code, err, out } = await fuzz(['fine.yaml', '--runs', '8', '--corpus', 'corpus'], cwd);
    expect(code).toBe(0);
    expect(err).toContain('pinsim: ignored 2 files of corpus that no campaign wrote: README.txt, ours.yaml\n');
    expect(out).not.toContain('corpus');
  });

  it.each([
    ['# pinsim corpus 1\n# says: nothing\n', 'x.txt is no case of a corpus: it has no line `# replay: ...`'],
    ['# pinsim corpus 2\n', 'x.txt is no case of a corpus of this version'],
  ])('must not hold a broken case: %j', async (text, message) => {
    const cwd = folder();
    mkdirSync(join(cwd, 'corpus'));
    writeFileSync(join(cwd, 'corpus', 'x.txt'), text);
    const { code, err } = await fuzz(['fine.yaml', '--runs', '8', '--corpus', 'corpus'], cwd);
    expect(code).toBe(2);
    expect(err).toContain(message);
  });
});

describe('a mistake on the command line', () => {
  it.each([
    [['--shard', '3/2'], '--shard cannot be `3/2`: expected i/n with i from 1 to n'],
    [['--shard', 'x'], '--shard cannot be `x`'],
    [['--runs', '0'], '--runs cannot be `0`'],
    [['--for', '10'], '--for cannot be `10`: expected a time'],
    [['--jobs', '999'], '--jobs cannot be 999'],
    [['--strategies', 'dpor'], '--strategies cannot be `dpor`'],
    [['--possible', 'nothing'], '--possible cannot be `nothing`'],
  ])('%j is told before anything runs', async (argv, message) => {
    const { code, err } = await pinsim(['fuzz', 'fine.yaml', ...argv], { cwd: folder() });
    expect(code).toBe(2);
    expect(err).toContain(message);
  });
});
