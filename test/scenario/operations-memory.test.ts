// Operations on memory at large, as users write them: compaction, memory blocks.
import { describe, expect, it } from 'vitest';
import { failures } from './failures.ts';

describe('compact_memory', () => {
  it('is counted in vmstat', () => {
    const text = `
title: one page and room above it
kernel: v6.12
host: {memory: {normal: 16MiB}, thp: never}
processes: {vmm: {}}
actors:
  vmm:
    - mmap: {name: ram, size: 4KiB}
    - touch: {memory: ram}
    - lru_add_drain: {}
    - compact_memory: {}
    - vmstat: {}
      shows: {pgmigrate_success: 1, pgmigrate_fail: 0, compact_success: 1}
`;
    expect(failures(text)).toEqual([]);
  });
});

describe('memory_block.offline', () => {
  const story = (dimm: string, steps: string) => `
title: a DIMM is to be removed
kernel: v6.12
host:
  memory: [{normal: 16MiB}, {dma32: 16MiB, dimm: {size: 256MiB, ${dimm}}}]
processes: {vmm: {}}
devices: {nic: {process: vmm, attach: vfio-type1}}
actors:
  vmm:
    - mmap: {name: ram, size: 8KiB}
    - mbind: {memory: ram, nodes: [1]}
    - touch: {memory: ram, value: A}
${steps}
`;

  it('moves what is there to another node, and the frames have no struct page until they are online', () => {
    const steps = `
    - pagemap: {memory: ram}
      shows: {zone: node1/Movable, pfn: 32768}
    - memory_block.offline: {memory: ram}
      shows: {block: 1}
    - kpage: {pfn: 32768}
      shows: {flags: NOPAGE}
    - pagemap: {memory: ram}
      shows: {zone: node0/Normal}
    - cpu.read: {memory: ram}
      shows: {value: A}
    - memory_block.offline: {block: 1}
      returns: 0
    - memory_block.online: {block: 1}
      returns: 0
    - memory_block.online: {block: 1}
      expect: EINVAL
    - kpage: {pfn: 32768}
      shows: {flags: ''}
`;
    expect(failures(story('zone: movable', steps))).toEqual([]);
  });

  it('has nothing to wait for where a long-term pin moved the page away first, but stays on its node', () => {
    const steps = `
    - vfio.map: {device: nic, iova: 0, memory: ram}
    - pagemap: {memory: ram}
      shows: {zone: node1/DMA32}
    - memory_block.offline: {block: 1}
      returns: 0
`;
    expect(failures(story('zone: movable', steps))).toEqual([]);
  });

  it('tries until it is killed while a page of ZONE_NORMAL is pinned', () => {
    const steps = `
    - vfio.map: {device: nic, iova: 0, memory: ram}
    - fork:
        as: writer
        cpu: 0
        child:
          - memory_block.offline: {block: 1}
            expect: EINTR
    - sleep: 2ms
    - kill: {process: writer}
    - waitpid: {process: writer}
    - pagemap: {memory: ram}
      shows: {pfn: 32768}
`;
    expect(failures(story('zone: normal', steps))).toEqual([]);
  });

  it('is EBUSY at once where the kernel keeps data, and EINVAL where a block holds more than one zone', () => {
    const steps = `
    - memory_block.offline: {block: 1}
      expect: EBUSY
    - memory_block.offline: {block: 0}
      expect: EINVAL
`;
    expect(failures(story('zone: normal, kernel: 4KiB', steps))).toEqual([]);
  });
});

describe('mbind', () => {
  it('binds later faults to its node, until another policy names several', () => {
    const text = `
title: a policy
kernel: v6.12
host: {memory: [{normal: 16MiB}, {normal: 16MiB}]}
processes: {vmm: {}}
actors:
  vmm:
    - mmap: {name: ram, size: 16KiB}
    - mbind: {memory: ram, length: 8KiB, nodes: [1]}
    - touch: {memory: ram, value: A}
    - pagemap: {memory: ram, offset: 4KiB}
      shows: {zone: node1/Normal}
    - pagemap: {memory: ram, offset: 8KiB}
      shows: {zone: node0/Normal}
    - mbind: {memory: ram, nodes: [0, 1]}
    - madvise: {memory: ram, advice: DONTNEED}
    - touch: {memory: ram, value: A}
    - pagemap: {memory: ram}
      shows: {zone: node0/Normal}
`;
    expect(failures(text)).toEqual([]);
  });
});
