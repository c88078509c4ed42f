// stale-mapping: says who freed the frame, when, and through which translation, made by whom, it was reached.
import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { findingsOf, resultOf } from '../support/scenario.ts';

const BAR = `title: T
kernel: v6.12.117
host: {memory: {normal: 64MiB}, memlock: unlimited}
memory: {bar: {kind: bar, size: 4KiB, device: gpu}}
processes: {vmm: {maps: {bar: {}}}}
devices:
  gpu: {process: vmm, attach: vfio-type1}
  nic: {process: vmm, attach: vfio-type1}
actors:
  vmm:
    - cpu.write: {memory: bar, value: doorbell}
    - vfio.map: {device: nic, iova: 0x1000, memory: bar}
`;
const OFF = '    - vfio.device_memory: {device: gpu, on: false}\n';
const WRITE = '    - dma.write: {device: nic, iova: 0x1000, value: lost}\n';

const stale = (text: string) =>
  resultOf(text)
    .findings.map(({ finding }) => finding)
    .filter(({ kind }) => kind === 'stale-mapping');

describe('stale-mapping', () => {
  it('is not found while the frame is what it was', () => {
    expect(findingsOf(BAR + WRITE)).toEqual([]);
  });

  it('tells of an entry that still leads to a frame that is given away', () => {
    const [latent] = stale(BAR + OFF);
    expect(latent?.details).toMatchObject({ state: 'latent', 'freed-by': 'vmm', iova: 4096, 'made-by': 'vmm' });
    expect(latent?.reasons.join('\n')).toMatch(/freed by vmm in vfio_pci:frames-change-hands at \d+ ns/);
    expect(latent?.reasons.join('\n')).toMatch(/IOVA 0x1000 in IO page table of .* made by vmm in iommu_map:/);
  });

  it('tells of an access: the step that made the entry, the one that freed the frame, and itself', () => {
    const [, used] = stale(BAR + OFF + WRITE);
    expect(used?.details).toMatchObject({ state: 'used', through: 'iotlb', 'freed-by': 'vmm', 'made-by': 'vmm' });
    const labels = used?.steps.map(({ label }) => label) ?? [];
    const order = ['iommu_map:write-entries', 'vfio_pci:frames-change-hands', 'dma:write'].map((label) =>
      labels.indexOf(label),
    );
    expect(order).not.toContain(-1);
    expect(order).toEqual(order.toSorted((a, b) => a - b));
  });

  it('tells them, however long ago the entry was made', () => {
    const between = '    - repeat: {times: 3000, do: [{cpu.write: {memory: bar}}]}\n';
    const [, used] = stale(BAR + between + OFF + WRITE);
    const labels = used?.steps.map(({ label }) => label) ?? [];
    expect(labels).toContain('iommu_map:write-entries');
    expect(labels.length).toBeLessThan(32);
  });

  it('names the entry of the second stage through which a guest gets there, and who made it', () => {
    const text = readFileSync('scenarios/bugs/kvm-put-on-non-refcounted-pfn.yaml', 'utf8');
    const [latent, used] = stale(text);
    expect(latent?.reasons.join('\n')).toMatch(
      /gfn 1 in root .* of guest still leads there: made by vmm in tdp_mmu_map/,
    );
    expect(used?.details).toMatchObject({ through: 'stage2', gfn: 1, 'freed-by': 'vmm', why: 'kvm_release_pfn_clean' });
  });

  it("tells the marking of a page that is no longer the guest's apart from reading it", () => {
    const used = resultOf(`title: T
kernel: v5.15
without: [kvm.refcounted-frames-only]
host: {memory: {normal: 64MiB}}
memory: {registers: {kind: driver, size: 8KiB}}
processes: {vmm: {maps: {registers: {}}}}
vms: {guest: {process: vmm, regions: [{gpa: 0, memory: registers}]}}
actors:
  vmm:
    - vcpu.write: {gpa: 4096, value: guest, length: 4KiB}
    - clear_refs: {process: vmm}
`)
      .findings.map(({ finding }) => finding)
      .find(({ kind }) => kind === 'use-after-free')!;
    expect(used.message).toMatch(/^vmm sets PG_dirty of pfn \d+ at 0x1000 of guest .*: it is a free page$/);
    expect(used.details).toMatchObject({ access: 'mark dirty' });
    expect(used.details).not.toHaveProperty('content');
  });
});
