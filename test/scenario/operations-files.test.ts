// Operations on files and through /proc, as users write them: unlink and close, freezing a filesystem, forced writes,
// soft-dirty tracking, memory errors that are told at once.
import { describe, expect, it } from 'vitest';
import { everyOrder, failures } from './failures.ts';

describe('unlink', () => {
  const story = (kind: string, end: string) => `
title: a file without a name
kernel: v6.12
memory: {f: {kind: ${kind}, size: 8KiB, content: A}}
processes: {vmm: {maps: {f: {populate: read}}}}
devices: {nic: {process: vmm, attach: vfio-type1}}
actors:
  vmm:
    - vfio.map: {device: nic, iova: 0, memory: f, flags: 1}
    - unlink: {memory: f}
      returns: 0
    - unlink: {memory: f}
      expect: ENOENT
    - close: {fd: f}
      returns: 0
    - close: {fd: f}
      expect: EBADF
    - cpu.read: {memory: f}
      shows: {value: A}
${end}
`;

  it.each(['tmpfs', 'file'])('keeps a %s as long as it is mapped, pinned or not', (kind) => {
    expect(failures(story(kind, '    - dma.read: {device: nic, iova: 0}\n      shows: {value: A}'))).toEqual([]);
  });

  it('leaves a pin the frame when the last mapping goes, but not the file its pages', () => {
    const end = `
    - munmap: {memory: f}
    - dma.read: {device: nic, iova: 0}
      shows: {value: A}
    - file.read: {memory: f}
      expect: EBADF
    - vfio.unmap: {device: nic, iova: 0, size: 8KiB}
expect: {always: [incoherent-mapping]}
`;
    expect(failures(story('tmpfs', end))).toEqual([]);
  });

  it('of a memfd finds no name', () => {
    const text = `
title: a memfd
kernel: v6.12
memory: {f: {kind: shmem, size: 4KiB}}
processes: {vmm: {maps: {f: {}}}}
actors:
  vmm:
    - unlink: {memory: f}
      expect: ENOENT
`;
    expect(failures(text)).toEqual([]);
  });
});

describe('fsfreeze and remount_ro', () => {
  const files = `
memory:
  disk: {kind: file, size: 4KiB, content: A, mount: ext4}
  log: {kind: file, size: 4KiB, content: L, mount: ext4}
`;

  it('make writers of every file of the filesystem wait until it is thawed', () => {
    const text = `
title: a frozen filesystem
kernel: v6.12
${files}
processes: {vmm: {maps: {disk: {}}}, backup: {}}
actors:
  backup:
    - fsfreeze: {memory: log}
      returns: 0
    - fsfreeze: {memory: disk}
      expect: EBUSY
    - settle: {}
    - settle: {}
    - file.read: {memory: disk}
      shows: {value: A}
    - fsthaw: {memory: disk}
      returns: 0
    - fsthaw: {memory: disk}
      expect: EINVAL
    - wait: vmm
    - file.read: {memory: disk}
      shows: {value: B}
  vmm:
    - settle: {}
    - cpu.write: {memory: disk, value: B}
`;
    expect(failures(text)).toEqual([]);
  });

  it('read no more than the file has, and nothing at its end', () => {
    const text = `
title: the end of a file
kernel: v6.12
memory: {disk: {kind: file, size: 8KiB, content: A}, shared: {kind: shmem, size: 8KiB}, buffer: {kind: anon, size: 4KiB}}
processes: {app: {maps: {buffer: {}}}}
actors:
  app:
    - file.read: {memory: disk, offset: 4KiB, length: 64KiB}
      shows: {value: A}
    - file.read: {memory: disk, offset: 8KiB}
      shows: {value: ''}
    - file.read: {memory: shared, offset: 1MiB}
      returns: 0
    - dio.read: {file: disk, file_offset: 8KiB, memory: buffer}
      returns: 0
`;
    expect(failures(text)).toEqual([]);
  });

  it('point at a file that lies on no named filesystem', () => {
    const text = `
title: a file by itself
kernel: v6.12
memory: {f: {kind: file, size: 4KiB}}
processes: {vmm: {maps: {f: {}}}}
actors: {vmm: [{fsfreeze: {memory: f}}]}
`;
    expect(() => failures(text)).toThrow(/give its memory object a `mount`/);
  });

  it('refuse a read-only remount while a shared mapping may write, and writes after it', () => {
    const text = `
title: a read-only filesystem
kernel: v6.12
${files}
processes: {vmm: {maps: {disk: {}}}}
actors:
  vmm:
    - remount_ro: {memory: log}
      expect: EBUSY
    - munmap: {memory: disk}
    - remount_ro: {memory: log}
      returns: 0
    - file.write: {memory: disk, value: B}
      expect: EROFS
    - unlink: {memory: log}
      expect: EROFS
`;
    expect(failures(text)).toEqual([]);
  });
});

describe('proc_mem', () => {
  it('writes to a read-only private mapping in place, to a shared one not at all', () => {
    const text = `
title: a debugger
kernel: v6.12
memory:
  ram: {kind: anon, size: 4KiB, content: A, prot: r}
  shm: {kind: shmem, size: 4KiB, prot: r}
  none: {kind: anon, size: 4KiB, content: N, prot: none}
processes: {vmm: {maps: {ram: {}, shm: {}, none: {}}}}
devices: {nic: {process: vmm, attach: vfio-type1}}
actors:
  vmm:
    - vfio.map: {device: nic, iova: 0, memory: ram, flags: 1}
    - cpu.write: {memory: ram, value: B}
      expect: SIGSEGV
    - proc_mem.write: {memory: ram, value: B}
      returns: 0
    - dma.read: {device: nic, iova: 0}
      shows: {value: B}
    - proc_mem.write: {memory: shm, value: B}
      expect: EIO
    - cpu.read: {memory: none}
      expect: SIGSEGV
    - proc_mem.read: {memory: none}
      shows: {value: N}
`;
    expect(failures(text)).toEqual([]);
  });

  it('of another user needs CAP_SYS_PTRACE', () => {
    const text = `
title: two users
kernel: v6.12
memory: {ram: {kind: anon, size: 4KiB, content: A}}
processes: {root: {}, user: {uid: 1000, maps: {ram: {}}}, other: {uid: 1001}}
actors:
  root:
    - proc_mem.write: {process: user, memory: ram, value: R}
      returns: 0
  other:
    - wait: root
    - proc_mem.read: {process: user, memory: ram}
      expect: EACCES
`;
    expect(failures(text)).toEqual([]);
  });
});

describe('clear_refs', () => {
  const story = (memory: string, extra = '') => `
title: soft-dirty tracking
kernel: v6.12
memory: {ram: {${memory}, size: 8KiB, populate: write}}
processes: {vmm: {maps: {ram: {}}}}
devices: {nic: {process: vmm, attach: vfio-type1}}
actors:
  vmm:
    - pagemap: {memory: ram}
      shows: {soft_dirty: true}
${extra}
    - clear_refs: {}
      returns: 0
    - pagemap: {memory: ram}
      shows: {soft_dirty: SEEN}
    - dma.write: {device: nic, iova: 0, value: D}
    - pagemap: {memory: ram}
      shows: {soft_dirty: SEEN}
    - cpu.write: {memory: ram, value: C}
    - pagemap: {memory: ram}
      shows: {soft_dirty: true}
    - pagemap: {memory: ram, offset: 4KiB}
      shows: {soft_dirty: SEEN}
`;
  const map = '    - vfio.map: {device: nic, iova: 0, memory: ram}';

  it.each([
    ['kind: shmem', false],
    ['kind: anon, shared: true', false],
    // A pinned page of a COW mapping cannot be write-protected, and so is always dirty.
    ['kind: anon', true],
  ])('of memory pinned by a device (%s) shows soft-dirty %s after DMA', (memory, seen) => {
    expect(failures(story(memory, map).replaceAll('SEEN', String(seen)))).toEqual([]);
  });

  it('of unpinned anonymous memory sees the next CPU write', () => {
    const text = story('kind: anon')
      .replaceAll('SEEN', 'false')
      .replace('    - dma.write: {device: nic, iova: 0, value: D}\n', '');
    expect(failures(text)).toEqual([]);
  });
});

describe('madvise HWPOISON', () => {
  it.each([
    ['v6.1.192', 'null'],
    ['v6.12.117', 'SIGBUS'],
  ])('on %s raises %s before it returns', (kernel, signal) => {
    const text = `
title: a memory error
kernel: ${kernel}
memory: {ram: {kind: anon, size: 4KiB, content: A}}
processes: {vmm: {maps: {ram: {}}}}
actors:
  vmm:
    - madvise: {memory: ram, advice: HWPOISON}
      shows: {signal: ${signal}}
    - cpu.read: {memory: ram}
      expect: SIGBUS
`;
    expect(failures(text)).toEqual([]);
  });
});

describe('fallocate', () => {
  it('of a memfd that is killed takes back no page that somebody uses', () => {
    const text = `
title: preallocation is killed
kernel: v6.12
memory: {a: {kind: shmem, size: 8KiB}}
processes: {p: {}, q: {maps: {a: {}}}, r: {}}
actors:
  p:
    - fallocate: {memory: a}
      expect: [ok, SIGKILL]
  q:
    - cpu.write: {memory: a, offset: 4KiB, value: Q}
    - cpu.read: {memory: a, offset: 4KiB}
      shows: {value: Q}
  r:
    - kill: {process: p}
`;
    expect(failures(text)).toEqual([]);
    expect(everyOrder(text)).toEqual([]);
  });
});
