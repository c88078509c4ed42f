// incoherent-mapping: a device and the process that mapped memory for it reach different pages.
import { describe, expect, it } from 'vitest';
import { loadScenario } from '../../src/scenario/file/load.ts';
import { OPERATIONS } from '../../src/scenario/operations/index.ts';
import { CaseSearcher } from '../../src/scenario/search/search-case.ts';
import { findingsOf, resultOf } from '../support/scenario.ts';

const HEAD = `title: T
kernel: v6.1.192
host: {memory: {normal: 64MiB}, memlock: unlimited}
memory: {ram: {kind: anon, size: 16KiB, populate: write}}
processes: {p: {maps: {ram: {}}}}
devices: {nic: {process: p, attach: vfio-type1}}
actors:
  p:
    - vfio.map: {device: nic, iova: 0, memory: ram}
`;
const GIVE = '    - madvise: {memory: ram, offset: 4KiB, length: 4KiB, advice: DONTNEED}\n';

describe('incoherent-mapping', () => {
  it('is what DONTNEED makes of a page that a device has mapped', () => {
    const [found] = resultOf(HEAD + GIVE).findings;
    expect(found?.finding.kind).toBe('incoherent-mapping');
    expect(found?.finding.details).toMatchObject({ address: 4096, process: 'no page', pages: 1 });
  });

  it('is not found where both reach the same page', () => {
    expect(findingsOf(HEAD)).toEqual([]);
  });

  it('is not what mprotect(PROT_NONE) makes of it: the page stays where it is', () => {
    expect(findingsOf(`${HEAD}    - mprotect: {memory: ram, prot: none}\n`)).toEqual([]);
  });

  it('is not what reclaim makes of it where it unmaps pinned pages: they are in the swap cache', () => {
    const text = HEAD.replace('v6.1.192', 'v5.4').replace('memlock', 'swap: 1MiB, memlock');
    expect(findingsOf(`${text}    - lru_add_drain:\n    - madvise: {memory: ram, advice: PAGEOUT}\n`)).toEqual([]);
  });

  it('is not what becomes of mappings when the process exits: nobody is left to disagree', () => {
    expect(findingsOf(`${HEAD}    - exit:\n`)).toEqual([]);
  });

  it('is not found where a touch maps again the file page that reclaim unmapped under a pin', () => {
    // The write to another page gives the private mapping an anon_vma; the first page is the file's still.
    const found = findingsOf(`title: T
kernel: v6.1.192
memory: {f: {kind: file, size: 8KiB}}
processes: {p: {maps: {f: {shared: false}}}}
actors:
  p:
    - gup.pin: {memory: f, length: 4KiB, write: false, longterm: true, as: x}
    - cpu.write: {memory: f, offset: 4KiB}
    - lru_add_drain: {}
    - madvise: {memory: f, length: 4KiB, advice: PAGEOUT}
    - pagemap: {memory: f}
      shows: {present: false}
`);
    expect(found).toEqual([]);
  });

  it.each([
    ['moved', '{migrate_pages: {process: p, from: [0], to: [1]}, expect: any}'],
    ['split', '{mlock: {memory: ram, length: 4KiB}}'],
  ])('is not what a device has while its page is %s: the entry is written again', (_what, other) => {
    const text = `title: T
kernel: v6.12.117
host: {cpus: 2, nodes: 2, memlock: unlimited, memory: [{normal: 16MiB}, {normal: 16MiB}]}
memory: {ram: {kind: anon, size: 2MiB, advice: [HUGEPAGE], populate: write}}
processes: {p: {uid: 0, maps: {ram: {}}}}
actors:
  pinner: {on: p, do: [{gup.pin: {memory: ram, length: 4KiB, as: x}}, {gup.unpin: {pin: x}}]}
  other: {on: p, do: [${other}]}
expect: {}
`;
    const scenario = loadScenario('test.yaml', text, OPERATIONS);
    const searcher = new CaseSearcher(scenario, scenario.cases[0]!, { strategy: 'random', runs: 300, seed: 'moment' });
    while (searcher.next());
    expect(searcher.result().findings).toEqual([]);
  });
});
