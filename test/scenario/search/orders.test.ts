// What actors see of each other is announced: whatever a random run comes to, in state or in findings, one of the
// interleavings that explore runs comes to as well.
import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { loadScenario } from '../../../src/scenario/file/load.ts';
import { OPERATIONS } from '../../../src/scenario/operations/index.ts';
import { CaseSearcher } from '../../../src/scenario/search/search-case.ts';
import { expectAllExplored, kindsOf, outcomes } from './outcomes.ts';

const WORLD = `
title: orders
kernel: v6.12.117
host: {memory: {normal: 64MiB}}
memory:
  ram: {kind: anon, size: 4KiB, populate: write}
  shared: {kind: shmem, size: 4KiB}
processes:
  app: {uid: 0, maps: {ram: {}, shared: {}}}
expect: {possible: [incoherent-mapping, unexpected-outcome]}
actors:
`;

/** Two actors of one process, each with one script in a line. */
function race(a: string, b: string, uid = 0): readonly (readonly string[])[] {
  const text = `${WORLD.replace('uid: 0', `uid: ${uid}`)}  a: {on: app, do: [${a}]}\n  b: {on: app, do: [${b}]}\n`;
  const scenario = loadScenario('orders.yaml', text, OPERATIONS);
  return [...expectAllExplored(scenario, scenario.cases[0]!).values()];
}

describe('every outcome of a random run is that of an interleaving', () => {
  it('when a pin is compared with the page table where it is given back', () => {
    const found = race(
      '{gup.pin: {memory: ram, as: p}}, {gup.read: {pin: p}}, {gup.unpin: {pin: p}}',
      '{madvise: {memory: ram, advice: DONTNEED}}',
    );
    expect(kindsOf(found)).toEqual(new Set(['incoherent-mapping']));
    expect(found).toContainEqual([]);
  });

  it('when one actor uses the pin that another takes', () => {
    const found = race('{gup.pin: {memory: ram, as: p}}', '{gup.write: {pin: p, value: X}}');
    expect(kindsOf(found)).toEqual(new Set(['unexpected-outcome']));
    expect(found).toContainEqual([]);
  });

  it('when two actors give back one pin', () => {
    const found = race(
      '{gup.pin: {memory: ram, as: p}}, {gup.unpin: {pin: p}, expect: [ok, EBADF]}',
      '{gup.unpin: {pin: p}, expect: [ok, EBADF]}',
    );
    expect(kindsOf(found)).toEqual(new Set());
  });

  it('when a page is looked at from outside', () => {
    const found = race('{pagemap: {memory: ram}, shows: {mapcount: 1}}', '{madvise: {memory: ram, advice: DONTNEED}}');
    expect(kindsOf(found)).toEqual(new Set(['unexpected-outcome']));
  });

  it('when a mapping gets another name or place', () => {
    race('{mmap: {memory: ram, size: 8KiB, shared: false}}', '{touch: {memory: ram}}');
  });

  it('when the limit changes under a lock', () => {
    const found = race('{mlock: {memory: ram}}', '{setrlimit: {memlock: 1KiB}}', 1000);
    expect(kindsOf(found)).toEqual(new Set(['unexpected-outcome']));
    expect(found).toContainEqual([]);
  });

  it('when a hole is punched where somebody faults', () => {
    race('{fallocate: {memory: shared, mode: punch-hole}}', '{touch: {memory: shared}}');
  });

  it('when reclaim meets a direct read that ends', { timeout: 120_000 }, () => {
    const file = 'bugs/lazyfree-page-dropped-during-dio-read.yaml';
    const text = readFileSync(new URL(`../../../scenarios/${file}`, import.meta.url), 'utf8');
    const scenario = loadScenario(file, text, OPERATIONS);
    for (const one of scenario.cases) expectAllExplored(scenario, one);
  });
});

describe('a search goes through the same steps again', () => {
  it('when truncation looks for pages while a memory error takes one away', () => {
    const world = WORLD.replace('kind: shmem', 'kind: file').replace(
      'expect:',
      'vms: {guest: {process: app, regions: [{gpa: 0, memory: shared}]}}\nexpect:',
    );
    const text = `${world}  a: {on: app, do: [{madvise: {memory: shared, advice: HWPOISON}, expect: any}]}
  b: {on: app, do: [{truncate: {memory: shared, size: 0}}]}
`;
    const scenario = loadScenario('orders.yaml', text, OPERATIONS);
    const { size } = outcomes(scenario, scenario.cases[0]!, { strategy: 'random', runs: 100 });
    expect(size).toBeGreaterThan(1);
    const searcher = new CaseSearcher(scenario, scenario.cases[0]!, { strategy: 'dpor', maxExecutions: 100 });
    while (searcher.next());
    expect(searcher.result().executions).toBe(100);
  });
});
