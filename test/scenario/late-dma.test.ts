// Transactions that reach memory some time after they were translated: `late` of a device.
import { expect, test } from 'vitest';
import { loadScenario } from '../../src/scenario/file/load.ts';
import { OPERATIONS } from '../../src/scenario/operations/index.ts';
import { runScenario } from '../../src/scenario/run.ts';

function run(device: string, vmm: string) {
  const text = `
title: late DMA
source: test
kernel: v6.12.117
host: {memory: {normal: 64MiB}, memlock: unlimited}
memory:
  ram: {kind: anon, size: 4KiB, populate: write}
processes:
  vmm: {maps: {ram: {}}}
devices:
  nic: {process: vmm, attach: vfio-type1${device}}
actors:
  vmm:
    - vfio.map: {device: nic, iova: 0, memory: ram}
${vmm}
  nic:
    - wait: {actor: vmm, step: mapped}
    - dma.write: {iova: 0, value: device}
expect: {}
`;
  const [result] = runScenario(loadScenario('late.yaml', text, OPERATIONS), { checked: true, explain: 'none' });
  return result!;
}

test('the write is seen once it has arrived, not before', () => {
  const script = `
      as: mapped
    - sleep: 20us
    - cpu.read: {memory: ram}
      shows: {value: vmm}
    - sleep: 100us
    - cpu.read: {memory: ram}
      shows: {value: device}`;
  expect(run(', late: 50us', script).failed).toEqual([]);
  expect(run('', script).failed.map(({ message }) => message)).toHaveLength(1);
});

test('an unmap waits for what was translated before it', () => {
  const script = `
      as: mapped
    - sleep: 20us
    - vfio.unmap: {device: nic, iova: 0, size: 4KiB}
    - cpu.read: {memory: ram}
      shows: {value: device}`;
  const late = run(', late: 1ms', script);
  expect(late.failed).toEqual([]);
  expect(late.timeNs).toBeGreaterThan(1_000_000);
});
