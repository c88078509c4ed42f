// A unit of a campaign gives the same whatever its world was used for before: over the library, findings, tokens, coverage
// and the questions asked of the kernel, in a world of other units' and in a new one.
import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { MIXED } from '../../../src/explore/schedulers/mix.ts';
import type { FindingPattern } from '../../../src/scenario/file/expectation.ts';
import { loadScenario } from '../../../src/scenario/file/load.ts';
import { OPERATIONS } from '../../../src/scenario/operations/index.ts';
import { FuzzSubject } from '../../../src/scenario/search/fuzz-subject.ts';
import { libraryScenarios } from '../../support/library.ts';

/** Worlds of more memory take too long to set up. */
const PAGES_MAX = 1024;
const STEPS_MAX = 2000;

const SCENARIOS = libraryScenarios(PAGES_MAX);

const settings = { seed: 'units', strategies: MIXED, possible: [] };

describe('a unit of a campaign', () => {
  it.each(SCENARIOS)(
    'gives the same in a used world and in a new one in $file',
    { timeout: 120_000 },
    ({ scenario }) => {
      for (const one of scenario.cases) {
        const used = new FuzzSubject(scenario, one, settings, STEPS_MAX, false);
        used.perform(7, [100, 101, 102, 103, 104]);
        const later = used.perform(8, [105, 106]);
        const fresh = new FuzzSubject(scenario, one, settings, STEPS_MAX, false).perform(8, [105, 106]);
        expect(later, one.name).toEqual(fresh);
      }
    },
  );

  it('judges what every run must show, but not in runs that were cut short nor in made-up workloads', () => {
    const text = readFileSync('scenarios/bugs/gup-fast-vs-fork.yaml', 'utf8');
    const scenario = loadScenario('a.yaml', text, OPERATIONS);
    const pattern: FindingPattern = { kind: 'livelock', details: {} };
    const one = { ...scenario.cases[0]!, expect: { always: [pattern], possible: [] } };
    const runs = [0, 1, 2, 3, 4, 5, 6, 7];
    const lacked = (stepsMax: number, madeUp: boolean) =>
      new FuzzSubject(scenario, one, settings, stepsMax, madeUp).perform(0, runs).absences;
    expect(lacked(STEPS_MAX, false)).toMatchObject([{ kind: 'livelock', pattern: 'livelock', firstRun: 0, runs: 8 }]);
    expect(lacked(10, false)).toEqual([]);
    expect(lacked(STEPS_MAX, true)).toEqual([]);
  });

  it.each([
    ['a filesystem that nobody thaws', '[{fsfreeze: {memory: image}}, {file.write: {memory: image, offset: 0}}]'],
    [
      'a write to what was pinned for reading',
      '[{gup.pin: {memory: ram, write: false, as: x}}, {gup.write: {pin: x}}]',
    ],
  ])('takes %s for what a made-up script brings upon itself', (_what, steps) => {
    const text = `title: T
memory: {ram: {kind: anon, size: 4KiB, prot: r, populate: read}, image: {kind: file, size: 4KiB, mount: disk}}
processes: {p: {maps: {ram: {}}}}
actors: {p: ${steps}}
`;
    const scenario = loadScenario('a.yaml', text, OPERATIONS);
    const found = (madeUp: boolean) =>
      new FuzzSubject(scenario, scenario.cases[0]!, settings, STEPS_MAX, madeUp).perform(0, [0]).findings.length;
    expect([found(false), found(true)]).toEqual([1, 0]);
  });

  it('tells only what its own runs asked of the kernel', () => {
    // A unit of no runs tells what the set-up asked.
    const asks = SCENARIOS.slice(0, 12).map(({ scenario }) => {
      const subject = new FuzzSubject(scenario, scenario.cases[0]!, settings, STEPS_MAX, false);
      const many = subject.perform(0, [0, 1, 2, 3]).asked.length;
      return many - subject.perform(1, []).asked.length;
    });
    expect(Math.min(...asks)).toBeGreaterThan(0);
  });
});
