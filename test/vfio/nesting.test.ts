// Containers of the NESTING type: only an IOMMU that can make a domain one of the second stage takes them.
import { describe, expect, it } from 'vitest';
import { resultOf } from '../support/scenario.ts';

describe('VFIO_SET_IOMMU of the NESTING type', () => {
  it.each([
    ['vtd', 'v6.1.192', 'EINVAL'],
    ['s390', 'v6.1.192', 'EINVAL'],
    ['smmu', 'v6.1.192', 'ok'],
    ['smmu', 'v6.12.117', 'EPERM'],
  ])('behind %s on %s: %s', (driver, kernel, outcome) => {
    const result = resultOf(`title: T
kernel: ${kernel}
host: {memory: {normal: 64MiB}, memlock: unlimited, iommu: {driver: ${driver}}}
processes: {vmm: {}}
devices: {nic: {process: vmm}}
actors:
  vmm:
    - vfio.open_container: {as: c}
    - vfio.open_group: {device: nic}
    - vfio.set_container: {device: nic, fd: c}
    - vfio.set_iommu: {container: c, type: nesting}
      expect: ${outcome}
`);
    expect(result.failed).toEqual([]);
  });
});
