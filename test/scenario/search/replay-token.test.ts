// Tokens replayed on a scenario, a kernel or a model that has changed since: what they survive, and what is said.
import { describe, expect, it } from 'vitest';
import type { Scenario } from '../../../src/scenario/file/scenario.ts';
import { omit } from '../../../src/scenario/search/omit.ts';
import { replayToken } from '../../../src/scenario/search/replay-token.ts';
import type { CaseSearch, ReplayReport } from '../../../src/scenario/search/result.ts';
import { CaseSearcher } from '../../../src/scenario/search/search-case.ts';
import { shrinkAbsence } from '../../../src/scenario/search/shrink-absence.ts';
import { tellFinding } from '../../../src/scenario/search/tell.ts';
import { type CaseToken, parseCaseToken } from '../../../src/scenario/search/token.ts';
import { firstFinding, load } from './stories.ts';

/** A driver pins a page while its process forks; afterwards the process writes: bug gup-fast-vs-fork. */
const FORK = `title: a fork beside a pin
kernel: v5.15
host: {memory: {normal: 64MiB}}
memory:
  buffer: {kind: anon, size: 4KiB, content: A}
processes:
  app: {maps: {buffer: {}}}
actors:
  driver:
    on: app
    do:
      - gup.pin: {memory: buffer, as: dma}
  parent:
    on: app
    do:
      - fork: {as: child}
  after:
    on: app
    do:
      - wait: [driver, parent]
      - cpu.write: {memory: buffer, value: B}
cases:
  - name: fix off
    without: [gup.fast.write-protect-seq]
    expect: {possible: [incoherent-mapping]}
  - name: fix on
    expect: {}
`;

const NOTHING = { shrink: 0, fixes: false, nearest: false };

function tokenOf(scenario: Scenario): CaseToken {
  const one = scenario.cases[0]!;
  const found = firstFinding(scenario, one, { strategy: 'dpor' });
  return parseCaseToken(tellFinding(scenario, one, found, { ...NOTHING, shrink: 500 }).token);
}

const TOKEN = tokenOf(load(FORK));

interface Seen extends ReplayReport {
  readonly one: CaseSearch;
}

function replayed(text: string, token = TOKEN, options = {}): Seen {
  const { result } = replayToken(load(text), token, { ...NOTHING, ...options });
  return { ...result.replay!, one: result };
}

describe('a token', () => {
  it('shows the same finding again', () => {
    const { verdict, scenarioChanged, diverged, one } = replayed(FORK);
    expect({ verdict, scenarioChanged, diverged }).toEqual({
      verdict: 'shown',
      scenarioChanged: false,
      diverged: undefined,
    });
    expect(one.status).toBe('as-expected');
    expect(one.findings.map(({ finding }) => finding.kind)).toEqual(['incoherent-mapping']);
    expect(one.findings[0]!.story!.rows.length).toBeGreaterThan(3);
  });

  it.each([
    ['comments and another layout', FORK.replace('actors:', '# a comment\nactors:'), false],
    ['another title', FORK.replace('a fork beside a pin', 'anything'), false],
    ['a step before', FORK.replace('- gup.pin', '- lru_add_drain: {}\n      - gup.pin'), true],
    ['a step after', FORK.replace('value: B}\n', 'value: B}\n      - cpu.read: {memory: buffer}\n'), true],
    ['a step of another actor', FORK.replace('- fork:', '- touch: {memory: buffer}\n      - fork:'), true],
    ['one more actor', FORK.replace('  parent:', '  more: {on: app, do: [{sleep: 1ms}]}\n  parent:'), true],
  ])('survives %s', (_what, text, changed) => {
    const { verdict, scenarioChanged } = replayed(text);
    expect(['shown', 'nearby']).toContain(verdict);
    expect(scenarioChanged).toBe(changed);
  });

  it('finds the finding again where a pin like it comes first', () => {
    const text = FORK.replace(
      '- gup.pin: {memory: buffer, as: dma}',
      '- gup.pin: {memory: buffer, as: warm}\n      - gup.unpin: {pin: warm}\n      - gup.pin: {memory: buffer, as: dma}',
    );
    const { verdict, one } = replayed(text);
    expect(['shown', 'nearby']).toContain(verdict);
    // The token that is printed then fits the scenario as it is.
    const again = replayed(text, parseCaseToken(one.findings[0]!.token));
    expect(again).toMatchObject({ verdict: 'shown', scenarioChanged: false });
    expect(again.diverged).toBeUndefined();
  });

  it('says on the kernel with the fix that the finding is gone', () => {
    const { verdict, otherKernel, one } = replayed(FORK, TOKEN, { with: ['gup.fast.write-protect-seq'] });
    expect({ verdict, otherKernel, status: one.status }).toEqual({
      verdict: 'gone',
      otherKernel: true,
      status: 'not-as-expected',
    });
    expect(one.findings).toEqual([]);
  });

  it('says where an actor is gone, step and offers included', () => {
    const text = FORK.replace(/ {2}driver:[\s\S]*? {2}parent:/, '  parent:').replace('[driver, parent]', 'parent');
    const { verdict, diverged } = replayed(text);
    expect(verdict).toBe('gone');
    expect(diverged!.message).toBe('there is no actor driver');
    expect(diverged!.offers.map(({ actor }) => actor)).toContain('parent');
    expect(diverged!.steps).toBeGreaterThanOrEqual(0);
  });

  it('tells what it leaves out and the scenario has no more', () => {
    const { missing } = replayed(FORK, { ...TOKEN, omitted: [...TOKEN.omitted, 'nobody:touch'] });
    expect(missing).toEqual(['nobody:touch']);
  });

  it('of a model that has changed since says so: same digest, a label that nobody comes to', () => {
    const schedule = TOKEN.schedule.replace(/@[^;]+/, '@copy_present_pte:renamed');
    const { verdict, scenarioChanged, diverged } = replayed(FORK, { ...TOKEN, schedule });
    expect(scenarioChanged).toBe(false);
    expect(diverged!.message).toMatch(/ does not come to copy_present_pte:renamed$/);
    expect(diverged!.label).toBe('copy_present_pte:renamed');
    // One of its neighbours shows the finding all the same.
    expect(verdict).toBe('nearby');
  });

  it('of another case runs that case', () => {
    const { one } = replayed(FORK, TOKEN, { case: 'fix on' });
    expect(one.name).toBe('fix on');
    expect(one.without).toEqual(TOKEN.without);
    expect(() => replayed(FORK, { ...TOKEN, case: 'fix' })).toThrow('2 cases begin with `fix`');
    expect(() => replayed(FORK, { ...TOKEN, case: 'fix of it' })).toThrow('there is no case `fix of it`');
  });
});

describe('the token of an interleaving that lacks an expected finding', () => {
  it('shows again that it lacks it', () => {
    const scenario = load(FORK.replace('possible:', 'always:'));
    const searcher = new CaseSearcher(scenario, scenario.cases[0]!, { strategy: 'dpor' });
    while (searcher.next());
    const [absent] = searcher.result().absent;
    const token = parseCaseToken(absent!.token);
    const { result } = replayToken(scenario, token, NOTHING);
    expect(result.replay).toMatchObject({ verdict: 'shown', kept: { kind: 'incoherent-mapping', absent: true } });
    const shown = { ...token, schedule: TOKEN.schedule, omitted: TOKEN.omitted };
    expect(replayToken(scenario, shown, NOTHING).result.replay).toMatchObject({ verdict: 'appears' });
  });

  it('is made small, as long as other interleavings of what is left show the finding', () => {
    const scenario = load(
      FORK.replace('possible:', 'always:').replace(
        '  parent:',
        '  idle: {on: app, do: [{cpu.read: {memory: buffer}}]}\n  parent:',
      ),
    );
    const one = scenario.cases[0]!;
    const searcher = new CaseSearcher(scenario, one, { strategy: 'dpor' });
    while (searcher.next());
    const [absent] = searcher.result().absent;
    const { token, shrunk } = shrinkAbsence(scenario, one, absent!.token, 1000)!;
    expect(shrunk.after.preemptions).toBe(0);
    expect(shrunk.omitted).toEqual(['idle']);
    const { result } = replayToken(scenario, parseCaseToken(token), { ...NOTHING, shrink: 100 });
    expect(result.replay).toMatchObject({ verdict: 'shown', kept: { absent: true } });
    expect(result.absent).toMatchObject([{ missing: { what: 'incoherent-mapping' }, executions: 1 }]);
    const left = omit(scenario, parseCaseToken(token).omitted).scenario;
    const again = new CaseSearcher(left, left.cases[0]!, { strategy: 'dpor' });
    while (again.next());
    expect(again.result().findings.map(({ finding }) => finding.kind)).toEqual(['incoherent-mapping']);
  });
});

describe('a finding told', () => {
  const scenario = load(FORK);
  const one = scenario.cases[0]!;
  const found = firstFinding(scenario, one, { strategy: 'dpor' });
  const told = tellFinding(scenario, one, found, { shrink: 500, fixes: true, nearest: true });

  it('has rows in order, an actor each, and marks the switch that matters', () => {
    const { rows, switches, actors } = told.story!;
    expect(rows.map(({ step }) => step)).toEqual([...rows.map(({ step }) => step)].sort((a, b) => a - b));
    for (const { actor } of rows) expect(actors).toContain(actor);
    expect(switches.length).toBe(told.shrunk!.after.preemptions);
    expect(rows.some(({ notes }) => notes.some((note) => note.startsWith('sees ')))).toBe(true);
  });

  it('names the fix, where it parts, and how much was searched with it', () => {
    const fix = told.fixes!.find(({ behaviour }) => behaviour === 'gup.fast.write-protect-seq');
    expect(fix!.searched).toMatch(/^(all \d+|200 of its) interleavings$/);
    expect(fix!.step).toBeGreaterThan(1);
    expect(fix!.instead!.label).not.toBe('');
    expect(told.preventedBy.map(({ behaviour }) => behaviour)).toContain('gup.fast.write-protect-seq');
  });

  it('has a nearest interleaving that passes, with a token of its own', () => {
    const { token, differsAt, passing } = told.nearest!;
    expect(differsAt).toBeGreaterThan(1);
    expect(passing.rows.some(({ step }) => step === differsAt)).toBe(true);
    expect(replayToken(scenario, parseCaseToken(token), NOTHING).result.findings).toEqual([]);
  });
});
