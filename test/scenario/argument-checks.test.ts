// What system calls on memory refuse before they do anything, as scenario files ask it: alignment, descriptors, seals,
// nodes, capabilities.
//
// Over 400 lines: one list of system calls with what each refuses, all over the same few processes and files.
import { describe, expect, it } from 'vitest';
import { failures } from './failures.ts';

/** A process of a user without capabilities that performs `steps` over `memory`. */
const story = (kernel: string, memory: string, maps: string, steps: string) => `
title: arguments
kernel: ${kernel}
host: {memlock: 64KiB, hugepages: {2MiB: 4}, memory: {normal: 64MiB}}
memory:
${memory}
processes: {p: {uid: 1000, maps: {${maps}}}}
actors:
  p:
${steps}
`;

describe('mmap', () => {
  it('takes whole pages of a file, and whole huge pages of hugetlb', () => {
    const memory = `
  f: {kind: file, size: 16KiB}
  huge: {kind: hugetlb, size: 4MiB, memfd: true}`;
    const steps = `
    - mmap: {memory: f, offset: 0x1001}
      expect: EINVAL
    - mmap: {memory: f, hint: 0x10000001, noreplace: true}
      expect: EINVAL
    - mmap: {memory: huge, offset: 4KiB, size: 2MiB}
      expect: EINVAL
    - mmap: {memory: huge, size: 4KiB}
    - touch: {memory: huge}
    - munmap: {memory: huge, length: 2MiB}
`;
    expect(failures(story('v6.12.117', memory, '', steps))).toEqual([]);
  });

  it('of a descriptor opened O_RDONLY never writes', () => {
    const memory = '  ro: {kind: shmem, size: 16KiB, readonly_fd: true}';
    const steps = `
    - mmap: {memory: ro, shared: true}
      expect: EACCES
    - mmap: {memory: ro, prot: r, shared: true}
    - mprotect: {memory: ro, prot: rw}
      expect: EACCES
    - truncate: {memory: ro, size: 4KiB}
      expect: EINVAL
    - fallocate: {memory: ro, mode: punch-hole}
      expect: EBADF
    - file.write: {memory: ro}
      expect: EBADF
`;
    expect(failures(story('v6.12.117', memory, '', steps))).toEqual([]);
  });

  it.each([
    ['v5.15', 'expect: EPERM'],
    ['v6.1', 'expect: EPERM'],
    ['v6.1.192', 'returns: 0'],
    ['v6.8', 'returns: 0'],
    ['v6.12', 'expect: EPERM'],
    ['v6.12.117', 'returns: 0'],
  ])('of a write-sealed memfd, shared for reading, on %s: %s', (kernel, outcome) => {
    const memory = `
  sealed: {kind: shmem, size: 16KiB, sealed: [write]}
  future: {kind: shmem, size: 16KiB, sealed: [future_write]}`;
    const steps = `
    - mmap: {memory: sealed, prot: r, shared: true}
      ${outcome}
    - mmap: {memory: future, prot: r, shared: true}
    - mmap: {memory: future, prot: rw, shared: true}
      expect: EPERM
`;
    expect(failures(story(kernel, memory, '', steps))).toEqual([]);
  });
});

describe('mremap, msync, mbind and userfaultfd', () => {
  it('want addresses of pages', () => {
    const steps = `
    - mremap: {memory: a, to: 0x10000001}
      expect: EINVAL
    - msync: {memory: a, offset: 1}
      expect: EINVAL
    - mbind: {memory: a, offset: 1, nodes: [0]}
      expect: EINVAL
    - uffd.register: {memory: a, offset: 1, length: 4KiB, mode: missing}
      expect: EINVAL
    - uffd.register: {memory: a, mode: missing}
    - uffd.copy: {memory: a, length: 0, value: A}
      expect: EINVAL
    - uffd.copy: {memory: a, offset: 1, length: 4KiB, value: A}
      expect: EINVAL
    - uffd.zeropage: {memory: a, length: 1}
      expect: EINVAL
    - uffd.unregister: {memory: a, length: 0}
      expect: EINVAL
`;
    expect(failures(story('v6.12.117', '  a: {kind: anon, size: 16KiB}', 'a: {}', steps))).toEqual([]);
  });
});

describe('hugetlb memory', () => {
  const memory = '  huge: {kind: hugetlb, size: 4MiB, memfd: true, populate: write}';

  it('is given back by MADV_DONTNEED since 5.18, whole pages of the range since 6.1', () => {
    const drop = (kernel: string, outcome: string, left: number) =>
      failures(
        story(
          kernel,
          memory,
          'huge: {}',
          `
    - madvise: {memory: huge, length: 2MiB + 4KiB, advice: DONTNEED}
      ${outcome}
    - pagemap: {memory: huge}
      shows: {present_pages: ${left}}
`,
        ),
      );
    expect(drop('v5.15', 'expect: EINVAL', 1024)).toEqual([]);
    expect(drop('v5.19', 'returns: 0', 0)).toEqual([]);
    expect(drop('v6.12.117', 'returns: 0', 512)).toEqual([]);
  });

  it('moves since 5.16', () => {
    const move = (kernel: string, outcome: string) =>
      failures(story(kernel, memory, 'huge: {}', `    - mremap: {memory: huge, to: 0x7e0000000000}\n      ${outcome}`));
    expect(move('v5.15', 'expect: EINVAL')).toEqual([]);
    expect(move('v6.1', 'returns: 0')).toEqual([]);
  });
});

describe('seals', () => {
  it('against shrinking and growing hold for truncate, fallocate and write', () => {
    const memory = '  sealed: {kind: shmem, size: 16KiB, sealed: [shrink, grow]}';
    const steps = `
    - truncate: {memory: sealed, size: 4KiB}
      expect: EPERM
    - truncate: {memory: sealed, size: 64KiB}
      expect: EPERM
    - truncate: {memory: sealed, size: 16KiB}
    - fallocate: {memory: sealed, length: 20KiB}
      expect: EPERM
    - file.write: {memory: sealed, offset: 16KiB}
      expect: EPERM
    - file.write: {memory: sealed, offset: 12KiB}
    - fallocate: {memory: sealed, mode: punch-hole}
`;
    expect(failures(story('v6.12.117', memory, '', steps))).toEqual([]);
  });
});

describe('madvise', () => {
  it('looks at vm_file, be the memory behind it anonymous or a device', () => {
    const text = `
title: files that hold no pages
kernel: v6.12.117
memory:
  zero: {kind: dev-zero, size: 16KiB, shared: false}
  bar: {kind: bar, size: 16KiB, device: nic}
devices: {nic: {process: p, attach: vfio-type1, bars: [{size: 16KiB}]}}
processes: {p: {maps: {zero: {}, bar: {}}}}
actors:
  p:
    - madvise: {memory: zero, advice: REMOVE}
      expect: EACCES
    - madvise: {memory: zero, advice: WIPEONFORK}
      expect: EINVAL
    - madvise: {memory: bar, advice: REMOVE}
      expect: ENODEV
`;
    expect(failures(text)).toEqual([]);
  });
});

describe('nodes', () => {
  const numa = (who: string, steps: string) => `
title: two nodes
kernel: v6.12.117
host: {nodes: 2, memory: [{normal: 32MiB}, {normal: 32MiB}]}
memory:
  a: {kind: anon, size: 8KiB, populate: write}
  s: {kind: shmem, size: 4KiB, populate: write}
processes:
  p: {${who}, maps: {a: {}, s: {}}}
  q: {uid: 1001, maps: {s: {}}}
actors:
  p:
${steps}
`;

  it('that are not there are left out by mbind and migrate_pages', () => {
    const steps = `
    - mbind: {memory: a, nodes: [5]}
      expect: EINVAL
    - mbind: {memory: a, length: 0, nodes: [5]}
    - mbind: {memory: a, nodes: [1, 5], move: true}
    - pagemap: {memory: a}
      shows: {zone: node1/Normal}
    - migrate_pages: {from: [9], to: [0]}
      returns: 0
`;
    expect(failures(numa('uid: 1000', steps))).toEqual([]);
  });

  it('of shared pages, and of other processes, want a capability', () => {
    const steps = `
    - move_pages: {memory: s, node: 1, all: true}
      expect: EPERM
    - migrate_pages: {process: q, from: [0], to: [1]}
      expect: EPERM
    - migrate_pages: {from: [0], to: [7]}
      expect: EPERM
    - migrate_pages: {from: [0], to: [1]}
      returns: 0
    - pagemap: {memory: s}
      shows: {zone: node0/Normal}
`;
    expect(failures(numa('uid: 1000', steps))).toEqual([]);
  });

  it('of shared pages change with CAP_SYS_NICE', () => {
    const steps = `
    - migrate_pages: {from: [0], to: [7]}
      expect: EINVAL
    - migrate_pages: {from: [0], to: [1]}
      returns: 0
    - pagemap: {memory: s}
      shows: {zone: node1/Normal}
`;
    expect(failures(numa('uid: 0', steps))).toEqual([]);
  });
});

describe('KSM', () => {
  it('pages are the own of the process again before mremap moves them', () => {
    const text = `
title: merged pages move
kernel: v6.12.117
memory: {a: {kind: anon, size: 8KiB, content: A, populate: write, advice: [MERGEABLE]}}
processes: {p: {maps: {a: {}}}}
actors:
  p:
    - ksm.scan: {}
    - ksm.scan: {}
    - pagemap: {memory: a}
      shows: {mapcount: 2}
    - mremap: {memory: a, to: 0x7e0000000000}
    - pagemap: {memory: a}
      shows: {present_pages: 2, mapcount: 1}
    - cpu.read: {memory: a, length: 8KiB}
      shows: {value: A}
`;
    expect(failures(text)).toEqual([]);
  });
});

describe('the node of memory and of a process', () => {
  const numa = (memory: string, process: string, steps: string) => `
title: two nodes
kernel: v6.12.117
host: {nodes: 2, memory: [{normal: 32MiB}, {normal: 32MiB}], hugepages: {2MiB: 2}}
memory: {a: {size: 2MiB, populate: write, ${memory}}}
processes: {p: {${process}maps: {a: {}}}}
actors:
  p:
${steps}
`;
  const zoneOfFirst = (zone: string) => `
    - pagemap: {memory: a}
      shows: {zone: ${zone}}
`;

  it.each(['anon', 'shmem', 'tmpfs', 'sysv', 'hugetlb', 'heap'])('is where pages of %s come from', (kind) => {
    expect(failures(numa(`kind: ${kind}, node: 1`, '', zoneOfFirst('node1/Normal')))).toEqual([]);
    expect(failures(numa(`kind: ${kind}`, 'node: 1, ', zoneOfFirst('node1/Normal')))).toEqual([]);
    expect(failures(numa(`kind: ${kind}, node: 0`, 'node: 1, ', zoneOfFirst('node0/Normal')))).toEqual([]);
  });

  it('binds what mmap maps later, and pages of a file follow the process', () => {
    const steps = `
    - mmap: {memory: a, name: again, populate: true}
    - pagemap: {memory: again}
      shows: {zone: node1/Normal}
`;
    expect(failures(numa('kind: anon, node: 1', '', steps))).toEqual([]);
    expect(() => failures(numa('kind: file, node: 1', '', zoneOfFirst('node1/Normal')))).toThrow(
      /no policy of its own/,
    );
  });

  it('must be there', () => {
    expect(() => failures(numa('kind: anon, node: 2', '', zoneOfFirst('node1/Normal')))).toThrow(/there is no node 2/);
    expect(() => failures(numa('kind: anon', 'node: 7, ', zoneOfFirst('node1/Normal')))).toThrow(/there is no node 7/);
  });
});

describe('options of the kernel', () => {
  const built = (config: string, steps: string) => `
title: options
kernel: v6.12.117
host: {config: {${config}}}
memory: {a: {kind: anon, size: 4MiB}}
processes: {p: {maps: {a: {}}}}
actors:
  p:
${steps}
`;

  it('take what they stand for out of madvise', () => {
    const refused = (advice: string) => `
    - madvise: {memory: a, advice: ${advice}}
      expect: EINVAL
`;
    expect(failures(built('KSM: n', refused('MERGEABLE')))).toEqual([]);
    expect(failures(built('MEMORY_FAILURE: n', refused('SOFT_OFFLINE')))).toEqual([]);
    expect(failures(built('TRANSPARENT_HUGEPAGE: n', refused('HUGEPAGE') + refused('COLLAPSE')))).toEqual([]);
  });

  it('decide whether huge pages come by themselves', () => {
    const touched = (huge: boolean) => `
    - touch: {memory: a}
    - pagemap: {memory: a}
      shows: {huge: ${huge}}
`;
    expect(failures(built('KSM: y', touched(true)))).toEqual([]);
    expect(failures(built('TRANSPARENT_HUGEPAGE: n', touched(false)))).toEqual([]);
    expect(failures(built('TRANSPARENT_HUGEPAGE_ALWAYS: n', touched(false)))).toEqual([]);
  });

  it('that nothing asks about cannot be changed, and unknown ones are reported where they stand', () => {
    const mistake = (config: string) => () => failures(built(config, '    - touch: {memory: a}'));
    expect(mistake('CMA: y')).toThrow(/test.yaml:4:22: error: the model does not ask about CONFIG_CMA yet/);
    expect(mistake('SWAP: n')).toThrow(/test.yaml:4:23: error: unknown option 'SWAP'/);
  });
});

describe('the IOMMU', () => {
  const io = (iommu: string, steps: string) => `
title: an IOMMU
kernel: v6.12.117
host: {iommu: {${iommu}}}
memory: {a: {kind: anon, size: 4MiB, populate: write, content: A}}
processes: {p: {maps: {a: {}}}}
devices: {d: {process: p, attach: vfio-type1, dma_mask_bits: 24}}
actors:
  p:
${steps}
expect: {possible: [pin-failure]}
`;

  it('is that of the architecture, unless the host says which', () => {
    const on = (kernel: string, pgsizes: number) =>
      io('coherent: true', `    - vfio.info: {}\n      shows: {pgsizes: ${pgsizes}}\n`).replace('v6.12.117', kernel);
    expect(failures(on('v6.12+s390x', 0x1000))).toEqual([]);
    expect(failures(on('v6.12', 0x40201000))).toEqual([]);
  });

  it('lets nobody map a page of which a part is reserved', () => {
    const steps = `
    - vfio.info: {}
      shows: {ranges: [0, 0xfff, 0x3000, 0xfedfffff, 0xfef00000, 0xffffffffffff]}
    - vfio.map: {memory: a, iova: 0x2000, length: 4KiB}
      expect: EINVAL
    - vfio.map: {memory: a, iova: 0x3000, length: 4KiB}
`;
    expect(failures(io('reserved: [{start: 0x1800, end: 0x27ff}]', steps))).toEqual([]);
  });

  it('tells with a small argsz how much its capabilities take, and leaves them out', () => {
    const steps = `
    - vfio.info: {}
      shows: {argsz: 120, flags: 3, max_dirty_bitmap: 256MiB, dma_avail: 65535}
    - vfio.info: {argsz: 119}
      shows: {argsz: 120, flags: 3, pgsizes: 0x40201000, ranges: [], migration_pgsizes: 0, max_dirty_bitmap: 0}
    - vfio.info: {argsz: 16}
      shows: {argsz: 120, flags: 3, pgsizes: 0x40201000, ranges: []}
    - vfio.info: {argsz: 15}
      expect: EINVAL
`;
    expect(failures(io('driver: vtd', steps))).toEqual([]);
  });

  it('tells 4 bytes less before capabilities were aligned', () => {
    const steps = `
    - vfio.info: {argsz: 116}
      shows: {argsz: 116, flags: 3, dma_avail: 65535}
    - vfio.info: {argsz: 115}
      shows: {argsz: 116, ranges: []}
`;
    expect(failures(io('driver: vtd', steps).replace('v6.12.117', 'v6.1.192'))).toEqual([]);
  });

  it.each(['vtd', 'amd', 'smmu'])('of %s has the entry sizes and the aperture that the host says', (driver) => {
    const steps = `
    - vfio.info: {}
      shows: {pgsizes: 4096}
    - vfio.map: {memory: a, iova: 0, length: 4KiB}
      expect: EINVAL
    - vfio.map: {memory: a, iova: 0xc0000000, length: 4KiB}
      expect: EINVAL
    - vfio.map: {memory: a, iova: 0x200000}
    - dma.read: {device: d, iova: 0x1200000}
      shows: {value: A}
`;
    const iommu = `driver: ${driver}, page_sizes: [4KiB], aperture: {start: 0x10000, end: 0xbfffffff}`;
    expect(failures(io(iommu, steps))).toEqual([]);
  });

  it('has no entries that its driver does not know', () => {
    const mistake =
      (iommu: string, kernel = 'v6.12.117') =>
      () =>
        failures(io(iommu, '    - vfio.info: {}').replace('v6.12.117', kernel));
    expect(mistake('page_sizes: [4KiB, 64KiB]')).toThrow(/`vtd` has no entries of 64KiB/);
    expect(mistake('page_sizes: [2MiB]')).toThrow(/without entries of 4KiB/);
    expect(mistake('page_sizes: [4KiB, 2MiB]', 'v6.12+s390x')).toThrow(/`s390` has no entries of 2MiB/);
    expect(mistake('aperture: {start: 0x1000, end: 0xfff}')).toThrow(/ends before it starts/);
  });
});

describe('descriptors and threads of a process', () => {
  const passed = (threads: number) => `
title: a memfd is passed on for reading
kernel: v6.12.117
memory: {s: {kind: shmem, size: 16KiB}}
processes:
  p: {threads: ${threads}}
  q: {fds: {given: {memory: s, readonly: true}}}
actors:
  p:
    - mmap: {memory: s}
  second:
    on: p
    do:
      - wait: p
      - touch: {memory: s}
  q:
    - mmap: {memory: s}
      expect: EACCES
    - mmap: {memory: s, prot: r}
    - file.write: {memory: s}
      expect: EBADF
`;

  it('are open for what they were given, and as many as actors need', () => {
    expect(failures(passed(2))).toEqual([]);
    expect(() => failures(passed(1))).toThrow(/2 actors are threads of `p`/);
  });
});

describe('special mappings', () => {
  const memory = `
  v: {kind: vdso, size: 8KiB}
  vv: {kind: vvar, size: 16KiB}
  huge: {kind: hugetlb, size: 4MiB, memfd: true}`;
  const parts = (outcome: string) => `
    - mprotect: {memory: v, length: 4KiB, prot: r}
      ${outcome}
    - madvise: {memory: v, offset: 4KiB, advice: DONTFORK}
      ${outcome}
    - mremap: {memory: vv, length: 4KiB, to: 0x7d0000000000}
      ${outcome}
    - munmap: {memory: vv, offset: 8KiB, length: 4KiB}
      ${outcome}
`;

  it('stay whole since 5.11', () => {
    expect(failures(story('v6.12.117', memory, 'v: {}, vv: {}', parts('expect: EINVAL')))).toEqual([]);
    expect(failures(story('v5.10', memory, 'v: {}, vv: {}', parts('returns: 0')))).toEqual([]);
  });

  it('neither grow nor stay behind nor are locked, and hugetlb does not either', () => {
    const steps = `
    - mremap: {memory: v, new_size: 16KiB, may_move: true}
      expect: EFAULT
    - mremap: {memory: v, dontunmap: true}
      expect: EINVAL
    - mremap: {memory: huge, dontunmap: true}
      expect: EINVAL
    - madvise: {memory: huge, length: 4KiB, advice: DONTFORK}
      expect: EINVAL
    - mbind: {memory: huge, length: 4KiB, nodes: [0]}
      expect: EINVAL
    - mlock: {memory: v}
    - status: {}
      shows: {VmLck: 0}
    - mremap: {memory: v, to: 0x7d0000000000}
    - munmap: {memory: v}
`;
    expect(failures(story('v6.12.117', memory, 'v: {}, vv: {}, huge: {}', steps))).toEqual([]);
  });
});

describe('io_uring', () => {
  const ring = (steps: string) =>
    story('v6.12.117', '  a: {kind: anon, size: 16KiB}', 'a: {}', `    - iouring.setup: {as: r}\n${steps}`);

  it('takes addresses as well as names, and moves bytes of the buffer only', () => {
    const steps = `
    - iouring.register: {ring: r, buffers: [{at: 0x1000, length: 4KiB}]}
      expect: EFAULT
    - iouring.register: {ring: r, buffers: [{memory: a, offset: 100, length: 5000}]}
    - iouring.read_fixed: {ring: r, memory: a, offset: 64, length: 100}
      expect: EFAULT
    - iouring.read_fixed: {ring: r, memory: a, offset: 100, length: 5001, value: A}
      expect: EFAULT
    - cpu.read: {memory: a}
      shows: {value: zero}
    - iouring.read_fixed: {ring: r, memory: a, offset: 100, length: 5000, value: A}
`;
    expect(failures(`${ring(steps)}expect: {possible: [pin-failure]}\n`)).toEqual([]);
  });

  it('that is closed, by hand or by exec, answers EBADF', () => {
    const gone = `
    - iouring.register: {ring: r, buffers: [{at: 0x10000, length: 4KiB}]}
      expect: EBADF
    - iouring.unregister: {ring: r}
      expect: EBADF
`;
    expect(failures(ring(`    - close: {fd: r}${gone}`))).toEqual([]);
    expect(failures(ring(`    - exec: {}${gone}`))).toEqual([]);
    expect(
      failures(ring('    - exec: {keep_open: true}\n    - iouring.unregister: {ring: r}\n      expect: ENXIO')),
    ).toEqual([]);
  });
});

describe('sizes beyond reason', () => {
  const memory = `
  a: {kind: anon, size: 16KiB, populate: write}
  s: {kind: shmem, size: 16KiB}
  f: {kind: file, size: 16KiB}`;

  it('end in an errno, at once', () => {
    const steps = `
    - mremap: {memory: a, length: 15EiB, new_size: 4KiB}
      expect: EINVAL
    - munmap: {memory: a, length: 15EiB}
      expect: EINVAL
    - pagemap: {memory: a, length: 1EiB}
      shows: {present_pages: 4}
    - truncate: {memory: s, size: 8EiB}
      expect: EINVAL
    - fallocate: {memory: s, offset: 15EiB, length: 4KiB, mode: punch-hole}
      expect: EINVAL
`;
    expect(failures(story('v6.12.117', memory, 'a: {}', steps))).toEqual([]);
    const many = story('v6.12.117', memory, 'a: {}', '    - move_pages: {memory: a, length: 1EiB, node: 0}');
    expect(() => failures(many)).toThrow(/at most 16777216 are modelled/);
  });

  it('and direct IO of parts of blocks is EINVAL', () => {
    const steps = `
    - dio.read: {file: f, memory: a, offset: 1, length: 512}
      expect: EINVAL
    - dio.write: {file: f, memory: a, length: 100}
      expect: EINVAL
    - dio.submit_read: {file: f, file_offset: 100, memory: a, length: 512, as: io}
      expect: EINVAL
    - dio.read: {file: f, memory: a, length: 512}
`;
    expect(failures(story('v6.12.117', memory, 'a: {}', steps))).toEqual([]);
  });
});

describe('a closed file', () => {
  it('answers EBADF, while its mappings stay', () => {
    const memory = `
  f: {kind: file, size: 16KiB, content: F}
  shm: {kind: sysv, size: 4KiB}`;
    const steps = `
    - close: {fd: f}
    - close: {fd: f}
      expect: EBADF
    - fsync: {memory: f}
      expect: EBADF
    - file.read: {memory: f}
      expect: EBADF
    - truncate: {memory: f, size: 4KiB}
      expect: EBADF
    - fallocate: {memory: f, mode: punch-hole}
      expect: EBADF
    - dio.read: {file: f, memory: shm}
      expect: EBADF
    - mmap: {memory: f, name: again}
      expect: EBADF
    - mmap: {memory: shm, name: attached}
    - cpu.read: {memory: f}
      shows: {value: F}
`;
    expect(failures(story('v6.12.117', memory, 'f: {}, shm: {}', steps))).toEqual([]);
  });
});

describe('old kernels', () => {
  it('have neither the ioctls nor the capabilities that came later', () => {
    const text = `
title: v5.4
kernel: v5.4
memory: {a: {kind: anon, size: 16KiB}, s: {kind: shmem, size: 16KiB}}
processes: {p: {maps: {a: {}, s: {}}}}
devices: {d: {process: p, attach: vfio-type1}}
actors:
  p:
    - uffd.register: {memory: a, mode: missing}
    - uffd.register: {memory: s, mode: missing}
    - uffd.writeprotect: {memory: a}
      expect: EINVAL
    - uffd.continue: {memory: s}
      expect: EINVAL
    - vfio.info: {}
      shows: {migration_pgsizes: 0, max_dirty_bitmap: 0}
    - vfio.dirty: {do: start}
      expect: ENOTTY
`;
    expect(failures(text)).toEqual([]);
  });
});
