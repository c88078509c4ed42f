// Operations on memory at large, as users write them: compaction, memory blocks, paging out.
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

describe('a long-term pin of fsdax', () => {
  it('is refused by the fast path, too, on every kernel, and the page is nobody’s leak', () => {
    for (const kernel of ['v5.4', 'v5.15', 'v6.1', 'v6.12']) {
      const pin = (write: boolean, as: string) =>
        `    - gup.pin: {memory: dax, length: 4KiB, write: ${write}, longterm: true, as: ${as}}\n      expect: EOPNOTSUPP\n`;
      const text = `title: dax\nkernel: ${kernel}\nmemory: {dax: {kind: fsdax, size: 8KiB}}
processes: {p: {uid: 0, maps: {dax: {shared: true}}}}
actors:\n  p:\n    - touch: {memory: dax}\n${pin(false, 'a')}${pin(true, 'b')}expect: {always: [pin-failure]}\n`;
      expect(failures(text)).toEqual([]);
    }
  });
});

describe('what older kernels do not know', () => {
  const steps = (kernel: string, list: readonly (readonly [string, string])[]) =>
    failures(`title: x\nkernel: ${kernel}
memory: {sh: {kind: shmem, size: 8KiB}, an: {kind: anon, size: 8KiB}, ram: {kind: anon, size: 64KiB}}
processes: {p: {maps: {sh: {}, an: {}, ram: {}}}}
vms: {g: {process: p, regions: [{gpa: 0x0, memory: ram}]}}
actors:\n  p:\n${list.map(([step, expected]) => `    - ${step}\n      expect: ${expected}\n`).join('')}`);
  const shared = 'mremap: {memory: sh, dontunmap: true, may_move: true}';
  const anonymous = 'mremap: {memory: an, dontunmap: true, may_move: true}';
  const slot = (id: number) => `kvm.set_memory_region: {vm: g, slot: ${id}, gpa: 0x1000000, memory: ram, length: 4KiB}`;

  it('MREMAP_DONTUNMAP came with 5.7, for more than private anonymous memory with 5.13', () => {
    expect(
      steps('v5.4', [
        [shared, 'EINVAL'],
        [anonymous, 'EINVAL'],
      ]),
    ).toEqual([]);
    expect(
      steps('v5.10', [
        [shared, 'EINVAL'],
        [anonymous, 'ok'],
      ]),
    ).toEqual([]);
    expect(
      steps('v5.15', [
        [shared, 'ok'],
        [anonymous, 'ok'],
      ]),
    ).toEqual([]);
  });

  it('pins are counted in /proc/vmstat since 5.7', () => {
    const pinned = (kernel: string, count: number) =>
      failures(`title: x\nkernel: ${kernel}\nmemory: {an: {kind: anon, size: 8KiB}}\nprocesses: {p: {maps: {an: {}}}}
actors:\n  p:\n    - gup.pin: {memory: an, as: a}\n    - vmstat: {}\n      shows: {nr_foll_pin_acquired: ${count}}\n    - gup.unpin: {pin: a}\n`);
    expect(pinned('v5.4', 0)).toEqual([]);
    expect(pinned('v6.12', 2)).toEqual([]);
  });

  it('user space has 509 memslots, since 5.12 it has 32764, and never those of the kernel', () => {
    expect(
      steps('v5.10', [
        [slot(508), 'ok'],
        [slot(509), 'EINVAL'],
      ]),
    ).toEqual([]);
    expect(steps('v6.12', [[slot(32763), 'ok']])).toEqual([]);
    expect(
      steps('v6.12', [
        [slot(32764), 'EINVAL'],
        [slot(32766), 'EINVAL'],
      ]),
    ).toEqual([]);
  });
});

describe('kvm_vcpu_unmap', () => {
  it('does nothing the second time', () => {
    const text = `title: x\nkernel: v6.12\nmemory: {ram: {kind: anon, size: 64KiB}}\nprocesses: {p: {maps: {ram: {}}}}
vms: {g: {process: p, regions: [{gpa: 0x0, memory: ram}]}}
actors: {p: [{kvm.vcpu_map: {vm: g, gpa: 0, as: m}}, {kvm.vcpu_unmap: {map: m}}, {kvm.vcpu_unmap: {map: m}}]}\n`;
    expect(failures(text)).toEqual([]);
  });
});

describe('a buffer that becomes inaccessible while a disk reads into it', () => {
  it('has what was read: PROT_NONE takes no page away', () => {
    const text = `title: x
kernel: v6.12
memory: {buffer: {kind: anon, size: 4KiB, content: old}, disk: {kind: file, size: 4KiB, content: data}}
processes: {app: {maps: {buffer: {}}, fds: {disk: {memory: disk}}}}
actors:
  app:
    - dio.read: {file: disk, memory: buffer}
    - wait: other
    - mprotect: {memory: buffer, prot: rw}
    - cpu.read: {memory: buffer}
      shows: {value: data}
  other: {on: app, do: [{sleep: 20us}, {mprotect: {memory: buffer, prot: none}}]}
`;
    expect(failures(text)).toEqual([]);
  });
});

describe('MADV_SOFT_OFFLINE', () => {
  it('of a huge page leaves the pool one page smaller', () => {
    const text = `
title: a page that shows corrected errors
kernel: v6.12.117
host: {memory: {normal: 64MiB}, hugepages: {2MiB: 3}}
memory: {h: {kind: hugetlb, size: 2MiB, populate: write}}
processes: {p: {maps: {h: {}}}}
actors:
  p:
    - meminfo: {}
      shows: {HugePages_Free: 2}
    - madvise: {memory: h, advice: SOFT_OFFLINE, length: 4KiB}
    - meminfo: {}
      shows: {HugePages_Free: 1}
    - munmap: {memory: h}
    - meminfo: {}
      shows: {HugePages_Free: 2}
`;
    expect(failures(text)).toEqual([]);
  });
});

describe('MADV_PAGEOUT of a file', () => {
  /** Is page 0, which was written when `write`, still mapped afterwards? */
  const present = (seen: boolean, { kernel = 'v6.12', uid = 2, shared = true, write = false, of = 'owner: 1' } = {}) =>
    failures(`
title: paging out a file
kernel: ${kernel}
host: {cpus: 1, memory: {normal: 64MiB}, swap: 16MiB}
memory: {f: {kind: file, size: 4KiB, ${of}}}
processes: {p: {uid: ${uid}, maps: {f: {shared: ${shared}}}}}
actors:
  kernel: [{drop_caches: {}}]
  p:
    - wait: kernel
    - cpu.${write ? 'write' : 'read'}: {memory: f}
    - madvise: {memory: f, advice: PAGEOUT}
      returns: 0
    - pagemap: {memory: f}
      shows: {present: ${seen}}
`);

  it('is for who may write it', () => {
    expect(present(true)).toEqual([]);
    expect(present(false, { uid: 1 })).toEqual([]);
    expect(present(false, { uid: 0 })).toEqual([]);
    expect(present(false, { of: 'content: A' })).toEqual([]);
  });

  it('takes private copies of everybody since 6.2, and leaves the pages that were not copied', () => {
    expect(present(false, { shared: false, write: true })).toEqual([]);
    expect(present(true, { shared: false })).toEqual([]);
    expect(present(true, { shared: false, write: true, kernel: 'v6.1' })).toEqual([]);
    expect(present(false, { shared: false, write: true, kernel: 'v6.1', uid: 1 })).toEqual([]);
  });
});
