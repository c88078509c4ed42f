// Much of the same that changes nothing is no loop: a search runs it to its end.
import { expect, it } from 'vitest';
import { verdictInWords } from '../../../src/report/search.ts';
import { CaseSearcher } from '../../../src/scenario/search/search-case.ts';
import { load } from './stories.ts';

const STORY = (memory: string, steps: string): string => `title: a walk
kernel: v6.12.117
host: {memory: {normal: ${memory}}, memlock: unlimited}
memory: {ram: {kind: anon, size: 160KiB, populate: write}, hole: {kind: shmem, size: 400KiB}, huge: {kind: anon, size: 2MiB}}
processes: {p: {maps: {ram: {}}}}
devices: {nic: {process: p}}
actors:
  p: [${steps}]
expect: {}
`;

it.each([
  ['compaction of many pageblocks with nothing in them', STORY('160MiB', '{compact_memory: {}}')],
  [
    'compaction that passes over many pinned pages',
    STORY('32MiB', '{gup.pin: {memory: ram, as: kept}}, {compact_memory: {}}, {gup.unpin: {pin: kept}}'),
  ],
  ['a script that looks at the same thing often', STORY('32MiB', '{repeat: {times: 200, do: [{meminfo: {}}]}}')],
  ['a read of a file that is one large hole', STORY('32MiB', '{file.read: {memory: hole, length: 400KiB}}')],
  [
    'khugepaged over a huge page that is mapped by small ones',
    STORY(
      '32MiB',
      '{mlock: {memory: huge, length: 4KiB}}, {munlock: {memory: huge}}, {khugepaged: {process: p}}',
    ).replace('maps: {', 'maps: {huge: {advice: [HUGEPAGE], populate: write}, '),
  ],
  ['DMA of many pages that all fault', STORY('32MiB', '{dma.read: {device: nic, iova: 0, length: 400KiB}}')],
])('%s', (_what, text) => {
  const scenario = load(text);
  const searcher = new CaseSearcher(scenario, scenario.cases[0]!, { strategy: 'dpor' });
  while (searcher.next());
  const result = searcher.result();
  expect([verdictInWords(result), result.limits]).toEqual(['verified: its only interleaving, within these bounds', []]);
});
