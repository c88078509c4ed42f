// The word `verified`: what takes it away.
import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import type { Checker } from '../../../src/check/checker.ts';
import { verdictInWords } from '../../../src/report/search.ts';
import { loadScenario } from '../../../src/scenario/file/load.ts';
import type { ExpectedFindings } from '../../../src/scenario/file/scenario.ts';
import { OPERATIONS } from '../../../src/scenario/operations/index.ts';
import type { CaseSearch } from '../../../src/scenario/search/result.ts';
import { CaseSearcher, type SearchOptions } from '../../../src/scenario/search/search-case.ts';
import { parseCaseToken } from '../../../src/scenario/search/token.ts';

const FILE = 'scenarios/bugs/gup-fast-vs-fork.yaml';
const SCENARIO = loadScenario(FILE, readFileSync(new URL(`../../../${FILE}`, import.meta.url), 'utf8'), OPERATIONS);

/** The case with the fix on, searched. `sweeping`: with one more checker, which sweeps the state. */
function searched(options: Partial<SearchOptions> = {}, sweeping = false): CaseSearch {
  const searcher = new CaseSearcher(SCENARIO, SCENARIO.cases[1]!, { strategy: 'dpor', ...options });
  const sweeper = { name: 'sweeper', kind: 'sweep', attach: () => {} } as unknown as Checker;
  if (sweeping) (searcher.subject.world.checkers.all as Checker[]).push(sweeper);
  while (searcher.next());
  return searcher.result();
}

describe('verified', () => {
  test('every interleaving, and what that rests on', () => {
    const one = searched();
    expect(verdictInWords(one)).toMatch(/^verified: all \d+ interleavings, within these bounds$/);
    expect([one.status, one.limits]).toEqual(['as-expected', []]);
    expect(one.restsOn.join()).toMatch(
      /sequential consistency.*steps as the model cuts them.*timers may fire at any time/,
    );
  });

  test('not with a checker that sweeps the state', () => {
    const one = searched({}, true);
    expect(verdictInWords(one)).toMatch(/^incomplete: all \d+ interleavings were run, some only up to a limit/);
    expect([one.status, one.verdict]).toEqual(['incomplete', 'incomplete']);
    expect(one.limits).toEqual([
      "the checker 'sweeper' sweeps the state: orders that only it tells apart were not all run",
    ]);
  });

  test('not when nobody checks what steps announce', () => {
    const one = searched({ checked: false });
    expect([one.status, one.verdict]).toEqual(['incomplete', 'incomplete']);
    expect(one.limits).toEqual([expect.stringContaining('steps were not held to what they announced')]);
  });

  test('not under a bound that left something out, which is said', () => {
    const one = searched({ strategy: 'bounded', bound: 1 });
    expect(verdictInWords(one)).toMatch(
      /^incomplete: all \d+ interleavings with at most 1 preemption were run, not all others; nothing found in them$/,
    );
    expect([one.status, one.verdict]).toEqual(['incomplete', 'incomplete']);
    expect(one.limits).toEqual([expect.stringMatching(/^the bound of 1 preemption left out \d+ switches/)]);
  });

  test('under a bound that leaves nothing out', () => {
    const one = searched({ strategy: 'bounded', bound: 20 });
    expect(verdictInWords(one)).toMatch(
      /^verified: all \d+ interleavings, every interleaving with at most 20 preemptions/,
    );
    expect([one.status, one.limits]).toEqual(['as-expected', []]);
  });

  test('not by samples, however many', () => {
    expect(verdictInWords(searched({ strategy: 'pos', runs: 20 }))).toMatch(/^no finding in 20 runs .*proves nothing$/);
  });
});

describe('what samples showed', () => {
  test('is counted in runs, which may repeat each other', () => {
    const searcher = new CaseSearcher(SCENARIO, SCENARIO.cases[0]!, { strategy: 'pos', runs: 20 });
    while (searcher.next());
    expect(verdictInWords(searcher.result())).toMatch(/^violated: .*, in \d+ of 20 runs$/);
  });
});

describe('a finding that every execution must show', () => {
  const one = SCENARIO.cases[1]!;
  const always = { kind: 'livelock', details: {} };

  /** Searched although no execution shows it. */
  function searchedFor(expected: ExpectedFindings, options: SearchOptions): CaseSearch {
    const searcher = new CaseSearcher(SCENARIO, { ...one, expect: expected }, options);
    while (searcher.next());
    return searcher.result();
  }

  test.each([
    ['to the end', { strategy: 'dpor' }],
    ['in part', { strategy: 'dpor', maxExecutions: 2 }],
    ['by samples', { strategy: 'pos', runs: 3 }],
  ] as const)('is violated by the first that does not, searched %s', (_, options) => {
    const { status, absent, missingFindings, executions } = searchedFor({ always: [always], possible: [] }, options);
    expect(status).toBe('not-as-expected');
    expect(absent).toMatchObject([{ missing: { what: 'livelock' }, executions }]);
    expect(parseCaseToken(absent[0]!.token).shows).toMatchObject({ kind: 'livelock', absent: true });
    // Told once.
    expect(missingFindings).toEqual([]);
  });

  test('is another matter than one that some may show', () => {
    const { status, absent, missingFindings } = searchedFor(
      { always: [], possible: [always] },
      { strategy: 'pos', runs: 3 },
    );
    expect([status, absent]).toEqual(['incomplete', []]);
    expect(missingFindings).toMatchObject([{ what: 'livelock' }]);
  });

  test('is not judged by executions that a limit cut short', () => {
    const { status, absent } = searchedFor(
      { always: [always], possible: [] },
      { strategy: 'pos', runs: 3, maxSteps: 5 },
    );
    expect([status, absent]).toEqual(['incomplete', []]);
  });
});
