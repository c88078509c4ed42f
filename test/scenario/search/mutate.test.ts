// Made-up workloads: always loadable, always the same from the same draws, and free of what their author expected.
import { describe, expect, it } from 'vitest';
import { Draws } from '../../../src/explore/draws.ts';
import { loadScenario } from '../../../src/scenario/file/load.ts';
import { OPERATIONS } from '../../../src/scenario/operations/index.ts';
import { FuzzSubject } from '../../../src/scenario/search/fuzz-subject.ts';
import { type MadeUp, Mutator } from '../../../src/scenario/search/mutate.ts';
import { Story } from '../../../src/scenario/search/workload.ts';

const FILE = 'story.yaml';
const TEXT = `
title: a story of everything
kernel: v6.1
host: {memory: {normal: 16MiB}, memlock: unlimited}
memory:
  ram: {kind: anon, size: 32KiB, populate: write}
  file: {kind: shmem, size: 16KiB}
processes:
  vmm: {uid: 1000, maps: {ram: {}, file: {}}}
vms:
  guest: {process: vmm, regions: [{gpa: 0, memory: ram}]}
devices:
  nic: {process: vmm, attach: vfio-type1}
actors:
  vmm:
    - vfio.map: {device: nic, iova: 0, memory: ram}
      expect: ENOMEM
    - fork: {as: child, child: [{cpu.write: {memory: ram, value: B}}]}
    - repeat: {times: 2, do: [touch: {memory: file}]}
      as: touched
    - madvise: {memory: ram, length: 4KiB, advice: DONTNEED}
      hold: {at: 'script:reached', until: {actor: nic, label: 'script:reached'}}
  guest:
    - wait: [vmm, {actor: vmm, step: touched}]
    - vcpu.write: {gpa: 0x1000, value: A}
      shows: {value: A}
  nic:
    - dma.read: {iova: 0x1000}
  kernel: [drop_caches]
reaches: ['script:reached']
cases:
  - kernel: v6.1
    steps: {touched: {expect: any}}
  - kernel: v6.6
expect: {possible: [incoherent-mapping]}
`;

const scenario = loadScenario(FILE, TEXT, OPERATIONS);

function madeUp(count: number, seed = '1'): readonly MadeUp[] {
  const mutator = new Mutator(scenario, TEXT, OPERATIONS);
  const draws = new Draws();
  const made: MadeUp[] = [];
  for (let i = 0; i < count; i++) {
    draws.restart(seed, i);
    // Every other one is made from the one before, as feedback does.
    const parent = i % 2 === 0 ? null : (made.at(-1)?.workload ?? null);
    const one = mutator.mutate(parent, made[0]?.workload ?? null, draws);
    if (one !== null) made.push(one);
  }
  return made;
}

describe('a story without what its author expects', () => {
  it('loads, and has neither expectations nor holds nor waits that can hang', () => {
    const story = new Story(FILE, TEXT, OPERATIONS);
    const text = story.with(story.original);
    const free = loadScenario(FILE, text, OPERATIONS);
    expect(free.actors.map(({ name }) => name)).toEqual(['vmm', 'guest', 'nic', 'kernel']);
    expect(text).not.toMatch(/hold:|shows:|ENOMEM|reaches|touched/);
    expect(story.original.guest!.do[0]).toEqual({ wait: ['vmm'] });
    expect(story.original.vmm!.do[1]).toMatchObject({ fork: { child: [{ expect: 'any' }] }, expect: 'any' });
  });
});

describe('made-up workloads', () => {
  const made = madeUp(60);

  it('are made nearly always', () => {
    expect(made.length).toBeGreaterThan(50);
  });

  it('load without a mistake, under a name of their own', () => {
    for (const { file, text } of made) expect(() => loadScenario(file, text, OPERATIONS)).not.toThrow();
    expect(new Set(made.map(({ file }) => file)).size).toBeGreaterThan(50);
    expect(made[0]!.file).toMatch(/^story\.[0-9a-f]{8}\.yaml$/);
  });

  it('are the same from the same draws', () => {
    expect(madeUp(10).map(({ text }) => text)).toEqual(made.slice(0, 10).map(({ text }) => text));
    expect(madeUp(10, '2').map(({ text }) => text)).not.toEqual(made.slice(0, 10).map(({ text }) => text));
  });

  it('use operations that the story does not', () => {
    const words = new Set(
      made.flatMap(({ text }) => [...text.matchAll(/^ +- ([a-z_.]+):/gm)].map((match) => match[1]!)),
    );
    const own = new Set([...TEXT.matchAll(/([a-z_.]+):/g)].map((match) => match[1]!));
    expect([...words].filter((word) => !own.has(word)).length).toBeGreaterThan(10);
  });

  it('run under every strategy, and what they are refused is no finding', { timeout: 120_000 }, () => {
    const settings = { seed: '1', strategies: ['random', 'pct', 'pos', 'timed'], possible: [] } as const;
    for (const [i, { scenario: own }] of made.slice(0, 12).entries()) {
      const result = new FuzzSubject(own, own.cases[0]!, settings, 10_000, true).perform(i, [
        4 * i,
        4 * i + 1,
        4 * i + 2,
      ]);
      expect(result.runs).toBe(3);
      expect(result.features.length).toBeGreaterThan(0);
      for (const { finding } of result.findings) expect(finding.kind).not.toMatch(/^(pin-failure|unexpected-outcome)$/);
    }
  });
});
