// What checkers look at is announced by the steps between which they judge: whatever a random run comes to, explore comes
// to as well.
import { describe, expect, it } from 'vitest';
import { loadScenario } from '../../../src/scenario/file/load.ts';
import { OPERATIONS } from '../../../src/scenario/operations/index.ts';
import { expectAllExplored, kindsOf } from './outcomes.ts';

const WORLD = `
title: relations
kernel: v6.12.117
host: {memory: {normal: 64MiB}}
memory:
  ram: {kind: anon, size: 8KiB, populate: write}
  file: {kind: file, size: 4KiB}
processes:
  app: {uid: 0, maps: {ram: {}, file: {populate: read}}}
vms: {guest: {process: app, regions: [{gpa: 0, memory: ram}]}}
expect: {possible: [dirty-loss, use-after-free, data-corruption, isolation-breach]}
actors:
`;

/** The findings of all that two or more actors, each with a script in a line, can come to. */
function findingsOf(scripts: Readonly<Record<string, string>>, world = WORLD): readonly (readonly string[])[] {
  const actors = Object.entries(scripts).map(([name, script]) => `  ${name}: {${script}}\n`);
  const scenario = loadScenario('relations.yaml', world + actors.join(''), OPERATIONS);
  return [...expectAllExplored(scenario, scenario.cases[0]!).values()];
}

describe('a write that may be lost', () => {
  it('counts for the file that the page is of when it is written', { timeout: 60_000 }, () => {
    const found = findingsOf({
      a: 'on: app, do: [{gup.pin: {memory: file, write: false, as: p}, as: pinned}, {gup.write: {pin: p, value: X}}]',
      b: 'on: app, do: [{wait: {actor: a, step: pinned}}, {madvise: {memory: file, advice: HWPOISON}, expect: [ok, EBUSY]}]',
    });
    expect([...kindsOf(found)]).toContain('dirty-loss');
    expect(found.filter((one) => one.every((identity) => !identity.startsWith('dirty-loss')))).not.toEqual([]);
  });

  it('is none of a guest that writes while its VMM switches dirty logging on', () => {
    const found = findingsOf({
      a: 'on: app, do: [{kvm.set_memory_region: {slot: 0, gpa: 0, memory: ram, log_dirty: true}}]',
      b: 'on: guest, do: [{vcpu.write: {gpa: 0}}, {vcpu.write: {gpa: 0}}]',
    });
    expect([...kindsOf(found)]).toEqual([]);
  });
});

describe('a write where the process may only read', () => {
  const BAR = `
title: raw frames
kernel: v5.10
host: {memory: {normal: 64MiB}, memlock: unlimited}
memory:
  bar: {kind: bar, size: 4KiB, device: gpu, prot: r}
processes:
  vmm: {maps: {bar: {}}}
devices:
  gpu: {process: vmm, attach: vfio-type1}
vms:
  guest: {process: vmm}
expect: {possible: [isolation-breach]}
actors:
`;
  const MAP = 'vfio.map: {device: gpu, iova: 0, memory: bar, prot: rw}';
  const SLOT = 'kvm.set_memory_region: {slot: 0, gpa: 0, memory: bar}';
  const kinds = (vmm: string, other: string) => [
    ...kindsOf(findingsOf({ vmm: `on: vmm, do: [{cpu.read: {memory: bar}}, ${vmm}]`, other }, BAR)),
  ];

  it('is a breach from the moment that the mapping is made', () => {
    const other = 'on: gpu, do: [{dma.write: {iova: 0, value: X}}]';
    expect(kinds(`{${MAP}}`, other)).toContain('isolation-breach');
  });

  it('is one until the mapping is taken away', () => {
    const other = 'on: gpu, do: [{wait: {actor: vmm, step: map}}, {dma.write: {iova: 0, value: X}}]';
    const vmm = `{${MAP}, as: map}, {vfio.unmap: {device: gpu, iova: 0, size: 4KiB}}`;
    expect(kinds(vmm, other)).toContain('isolation-breach');
  });

  it('is one by a guest, from its memslot on', { timeout: 60_000 }, () => {
    const other = 'on: guest, do: [{vcpu.read: {gpa: 0}}, {vcpu.write: {gpa: 0, value: X}}]';
    const world = BAR.replace('bar: {}', 'bar: {populate: read}');
    const found = findingsOf({ vmm: `on: vmm, do: [{${SLOT}}]`, other }, world);
    expect([...kindsOf(found)]).toContain('isolation-breach');
  });
});

describe('two scans of ksmd', () => {
  it('come one after the other', { timeout: 120_000 }, () => {
    const world = `
title: ksmd
kernel: v6.12.117
host: {memory: {normal: 64MiB}}
memory:
  ram: {kind: anon, size: 8KiB, content: A, populate: write, advice: [MERGEABLE]}
processes:
  app: {uid: 0, maps: {ram: {}}}
expect: {possible: [unexpected-outcome]}
actors:
`;
    const scan = 'on: kernel, do: [{ksm.scan: {}}, {ksm.scan: {}}]';
    findingsOf({ a: scan, b: 'on: kernel, do: [{ksm.scan: {}}]' }, world);
  });
});
