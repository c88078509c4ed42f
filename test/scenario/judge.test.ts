// Which cases run, and whether a run was as expected.
import { describe, expect, it } from 'vitest';
import type { Finding } from '../../src/engine/finding.ts';
import { ScenarioError } from '../../src/scenario/file/diagnostic.ts';
import { loadScenario } from '../../src/scenario/file/load.ts';
import { selectCases } from '../../src/scenario/file/select-cases.ts';
import { judgeCase, type Observed } from '../../src/scenario/judge.ts';
import { registry } from './operations.ts';

const SCENARIO = loadScenario(
  'a.yaml',
  `title: x
kernel: v6.1
processes: {vmm: }
actors: {vmm: []}
reaches: ['f:x']
expect:
  always: [{kind: pin-failure, errno: ENOMEM}]
  possible: [deadlock]
cases:
  - {kernel: v5.15}
  - {kernel: v6.1, name: changed, expect: {}}
`,
  registry,
);

function finding(kind: string, details: Finding['details'] = {}): Finding {
  return { kind, message: kind, reasons: [], actors: [], objects: [], steps: [], details, identity: kind };
}

const ENOMEM = finding('pin-failure', { errno: 'ENOMEM' });

function judge(over: Partial<Observed>) {
  return judgeCase(SCENARIO, SCENARIO.cases[0]!, {
    seed: '1',
    findings: [ENOMEM],
    failed: [],
    reached: new Set(['f:x']),
    timeNs: 0,
    steps: 0,
    digest: '',
    replay: () => 'again',
    preventedBy: () => [],
    ...over,
  });
}

describe('a run', () => {
  it('is as expected with all of always and nothing outside always and possible', () => {
    expect(judge({}).status).toBe('as-expected');
    const both = judge({ findings: [ENOMEM, finding('deadlock')] });
    expect(both.status).toBe('as-expected');
    expect(both.findings.map((one) => one.expected)).toEqual(['always', 'possible']);
  });

  it('is not with a finding that nobody expected', () => {
    const result = judge({ findings: [ENOMEM, finding('pin-failure', { errno: 'EFAULT' })] });
    expect(result.status).toBe('not-as-expected');
    expect(result.findings.map((one) => one.expected)).toEqual(['always', 'no']);
  });

  it('is not without a finding that must appear, and says where that is written', () => {
    const result = judge({ findings: [] });
    expect(result.status).toBe('not-as-expected');
    expect(result.missingFindings).toEqual([
      { what: 'pin-failure (errno: ENOMEM)', where: { file: 'a.yaml', line: 6, column: 1 } },
    ]);
  });

  it('is not when a label of `reaches` was not reached', () => {
    expect(judge({ reached: new Set() })).toMatchObject({
      status: 'not-as-expected',
      missingLabels: [{ what: 'f:x', where: { file: 'a.yaml', line: 5, column: 11 } }],
    });
  });

  it('is not when an inline expectation failed', () => {
    const failed = [{ where: SCENARIO.where, actor: 'vmm', operation: 'touch', message: 'm' }];
    expect(judge({ failed }).status).toBe('not-as-expected');
  });

  it('is incomplete when a limit ended it, unless it went wrong before', () => {
    expect(judge({ limit: '10 steps', findings: [] }).status).toBe('incomplete');
    expect(judge({ limit: '10 steps', findings: [finding('livelock')] }).status).toBe('not-as-expected');
  });
});

describe('the cases that run', () => {
  const names = (changes: Parameters<typeof selectCases>[1]): readonly string[] =>
    selectCases(SCENARIO, changes).map((one) => one.name);

  it('are all of them by default', () => {
    expect(names({})).toEqual(['v5.15', 'changed']);
  });

  it('are those of the kernel asked for', () => {
    expect(names({ kernel: '5.15' })).toEqual(['v5.15']);
    expect(names({ kernel: 'v6.1' })).toEqual(['changed']);
  });

  it('are the scenario itself on a kernel that no case names, free to do what any case does', () => {
    const [only] = selectCases(SCENARIO, { kernel: 'v6.6' });
    expect(only).toMatchObject({ name: 'v6.6', kernel: 'v6.6', expect: { always: [] } });
    const expected = SCENARIO.cases.flatMap((one) => [...one.expect.always, ...one.expect.possible]);
    const kinds = only?.expect.possible.map(({ kind }) => kind) ?? [];
    expect(kinds).toContain('deadlock');
    for (const { kind } of expected) expect(kinds).toContain(kind);
    expect(only?.note).toContain('no case of this scenario is for this kernel');
  });

  it('have what the command line switches, over what the case switches', () => {
    const behaviour = 'gup.fast.longterm-file-check';
    const scenario = loadScenario(
      'a.yaml',
      `title: x\nprocesses: {vmm: }\nactors: {vmm: []}\ncases: [{kernel: v6.12, name: off, without: [${behaviour}]}]\n`,
      registry,
    );
    expect(selectCases(scenario, { with: [behaviour] })).toMatchObject([
      { name: `off, with ${behaviour}`, with: [behaviour], without: [] },
    ]);
    expect(selectCases(scenario, {})).toMatchObject([{ name: 'off', with: [], without: [behaviour] }]);
  });

  it('refuse a kernel or a behaviour that does not exist', () => {
    expect(() => selectCases(SCENARIO, { kernel: 'v9.9' })).toThrow(ScenarioError);
    expect(() => selectCases(SCENARIO, { with: ['nonsense'] })).toThrow(ScenarioError);
  });
});
