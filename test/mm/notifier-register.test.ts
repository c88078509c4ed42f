// mmu_notifier_register: whoever joins never hears the end of a window that was open before (mm_take_all_locks).
import { describe, expect, it } from 'vitest';
import { loadScenario } from '../../src/scenario/file/load.ts';
import { OPERATIONS } from '../../src/scenario/operations/index.ts';
import { CaseSearcher } from '../../src/scenario/search/search-case.ts';

function verdictOf(text: string) {
  const scenario = loadScenario('test.yaml', text, OPERATIONS);
  const searcher = new CaseSearcher(scenario, scenario.cases[0]!, { strategy: 'dpor', maxExecutions: 5000 });
  while (searcher.next());
  const { findings, verdict } = searcher.result();
  return { found: findings.map(({ finding }) => `${finding.kind}: ${finding.message}`), verdict };
}

const HEAD = `title: T
kernel: v6.12.117
host: {cpus: 2, memory: {normal: 16MiB, movable: 16MiB}}
`;
const REGISTERS = `  p:
    - kvm.create_vm: {as: g}
    - kvm.set_memory_region: {vm: g, slot: 0, memory: ram, gpa: 0}
`;

describe('a VM that is made', () => {
  // Before, its counts of windows went below zero, and its first memslot waited for ever.
  it.each([
    [
      'while a page of the process migrates',
      `memory: {ram: {kind: anon, size: 4KiB, populate: write}}
processes: {p: {maps: {ram: {}}}}
actors:
  other:
    on: p
    do: [{gup.pin: {memory: ram, longterm: true, as: x}}]
`,
    ],
    [
      'while another process punches a hole into its memory',
      `memory: {ram: {kind: shmem, size: 4KiB, populate: write}}
processes: {p: {maps: {ram: {}}}, q: {}}
actors:
  q: [{fallocate: {memory: ram, mode: punch-hole}}]
`,
    ],
  ])('%s has nothing to do with that', (_when, others) => {
    expect(verdictOf(HEAD + others + REGISTERS)).toEqual({ found: [], verdict: 'verified' });
  });
});
