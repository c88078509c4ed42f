// Before 5.15 type1 looked pages up one by one. They still made runs of consecutive frames, each charged and mapped as
// one; the lane that looks several up in one go ends in the same state at the same cost.
import { describe, expect, it } from 'vitest';
import { loadScenario } from '../../src/scenario/file/load.ts';
import { OPERATIONS } from '../../src/scenario/operations/index.ts';
import { runScenario } from '../../src/scenario/run.ts';

function scenario(kernel: string, stepPages: number): string {
  return `title: T
kernel: ${kernel}
host: {memory: {normal: 64MiB}, memlock: 2MiB, step_pages: ${stepPages}, latencies: {clear-page: 100ns, fault: 300ns}}
memory: {ram: {kind: anon, size: 1MiB}}
processes: {vmm: {uid: 1000}}
devices: {nic: {process: vmm, attach: vfio-type1}}
actors:
  vmm:
    - mmap: {memory: ram, populate: true}
    - vfio.map: {device: nic, iova: 0, memory: ram}
    - vfio.unmap: {device: nic, iova: 0, size: 1MiB}
expect: {}
`;
}

function run(text: string) {
  const times = new Map<string, number[]>();
  const [result] = runScenario(loadScenario('t.yaml', text, OPERATIONS), {
    trace: ({ label, timeNs }) => times.set(label, [...(times.get(label) ?? []), timeNs]),
  });
  const count = (label: string) => times.get(label)?.length ?? 0;
  const mapNs = times.get('vfio_dma_do_map:unlock')![0]! - times.get('vfio_dma_do_map:lock')![0]!;
  return { result: result!, count, mapNs };
}

describe.each(['v5.4', 'v5.10'])('pages looked up one by one on %s', (kernel) => {
  it('make one run, charged once', () => {
    const { result, count } = run(scenario(kernel, 1));
    expect(result.status).toBe('as-expected');
    expect(count('vaddr_get_pfns:mmap_read_lock')).toBe(256);
    expect(count('vfio_lock_acct:get_task_mm')).toBe(2);
    expect(count('mm_lock_acct:account')).toBe(2);
  });

  it('cost the same where the lane looks several up at once', () => {
    const slow = run(scenario(kernel, 1));
    const fast = run(scenario(kernel, 512));
    expect(fast.count('vaddr_get_pfns:mmap_read_unlock')).toBeLessThan(64);
    expect(fast.mapNs).toBe(slow.mapNs);
  });
});

describe('pages looked up in batches', () => {
  it('are what 5.15 has', () => {
    expect(run(scenario('v5.15', 1)).count('vaddr_get_pfns:mmap_read_lock')).toBe(1);
  });
});
