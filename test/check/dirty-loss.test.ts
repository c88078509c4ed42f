// dirty-loss: a write to a file's page is lost unless it reaches the disk, is overwritten, or its page is thrown away
// by whoever takes it out of the file.
import { describe, expect, it } from 'vitest';
import { findingsOf } from '../support/scenario.ts';

const HEAD = `title: T
kernel: v6.1.192
host: {memory: {normal: 64MiB}, memlock: unlimited}
memory:
  image: {kind: file, fs: ext4, size: 16KiB, content: old}
processes: {vmm: {maps: {image: {}}}}
devices: {nic: {process: vmm, attach: vfio-type1}}
actors:
  vmm:
    - cpu.write: {memory: image, value: cpu}
`;

describe('dirty-loss', () => {
  it('is what becomes of a DMA write after the page was cleaned, when the pin gives it back clean', () => {
    const steps = `    - vfio.map: {device: nic, iova: 0, memory: image}
    - msync: {memory: image}
    - dma.write: {device: nic, iova: 0, value: device}
`;
    // The mapping stays: nobody marks the page dirty again.
    expect(findingsOf(HEAD + steps)).toEqual(['dirty-loss']);
    expect(findingsOf(`${HEAD + steps}    - vfio.unmap: {device: nic, iova: 0, size: 16KiB}\n`)).toEqual([]);
  });

  it('is not what becomes of a write into a page that a hole takes out of the file', () => {
    expect(findingsOf(`${HEAD}    - fallocate: {memory: image, mode: punch-hole, offset: 0, length: 8KiB}\n`)).toEqual(
      [],
    );
  });

  it('is not what becomes of a write into a page beyond the new end of the file', () => {
    expect(findingsOf(`${HEAD}    - truncate: {memory: image, size: 0}\n`)).toEqual([]);
  });
});
