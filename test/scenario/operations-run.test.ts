// Operations in scripts, as users write them: credentials and children, registered buffers, tracepoints, pages of the
// kernel image.
import { describe, expect, it } from 'vitest';
import { loadScenario } from '../../src/scenario/file/load.ts';
import { OPERATIONS } from '../../src/scenario/operations/index.ts';
import { runScenario } from '../../src/scenario/run.ts';

/** What was not as the scenario expects; it must come to its end. */
function failures(text: string): readonly string[] {
  const scenario = loadScenario('test.yaml', text, OPERATIONS);
  const [result] = runScenario(scenario, { checked: true });
  const { status, failed, findings, missingFindings } = result!;
  expect(status).not.toBe('incomplete');
  return [
    ...failed.map(({ operation, message }) => `${operation}: ${message}`),
    ...findings.filter(({ expected }) => expected === 'no').map(({ finding }) => finding.message),
    ...missingFindings.map(({ what }) => `missing: ${what}`),
  ];
}

describe('setuid', () => {
  it('takes the capabilities of root away, and nobody else may become root', () => {
    const text = `
title: a user and a limit
kernel: v6.12
processes: {vmm: {memlock: 16KiB}}
actors:
  vmm:
    - mmap: {name: ram, size: 32KiB}
    - mlock: {memory: ram}
      returns: 0
    - munlock: {memory: ram}
    - setuid: {uid: 1000}
      returns: 0
    - mlock: {memory: ram}
      expect: ENOMEM
    - setuid: {uid: 0}
      expect: EPERM
    - setuid: {uid: 1000}
      returns: 0
`;
    expect(failures(text)).toEqual([]);
  });

  it('moves what io_uring charges to the new user, whom another process shares', () => {
    const text = `
title: two processes of one user
kernel: v6.12
processes: {a: {memlock: 16KiB}, b: {uid: 1000, memlock: 16KiB}}
actors:
  a:
    - mmap: {name: ram, size: 16KiB}
    - setuid: {uid: 1000}
    - iouring.setup: {as: ring}
    - iouring.register: {ring: ring, buffers: [{memory: ram}]}
      returns: 0
    - status: {}
      shows: {user_locked: 16384, VmPin: 16384, VmLck: 0}
  b:
    - wait: a
    - status: {}
      shows: {user_locked: 16384, VmPin: 0}
    - mmap: {name: other, size: 4KiB}
    - iouring.setup: {as: own}
    - iouring.register: {ring: own, buffers: [{memory: other}]}
      expect: ENOMEM
expect: {always: [pin-failure]}
`;
    expect(failures(text)).toEqual([]);
  });
});

describe('children', () => {
  it('that pause end when they are killed, whenever that is', () => {
    const text = `
title: a child that stays
kernel: v6.12
processes: {vmm: {}}
actors:
  vmm:
    - mmap: {name: ram, size: 4KiB}
    - cpu.write: {memory: ram, value: A}
    - fork: {as: early, stays: true}
    - kill: {process: early}
    - waitpid: {process: early}
    - fork: {as: late, stays: true}
    - settle: {}
    - pagemap: {memory: ram}
      shows: {mapcount: 2}
    - kill: {process: late}
    - waitpid: {process: late}
      returns: 0
    - pagemap: {memory: ram}
      shows: {mapcount: 1}
`;
    expect(failures(text)).toEqual([]);
  });
});

describe('registered buffers', () => {
  it('keep their pages through munmap, and give back everything when the ring is closed', () => {
    const text = `
title: fixed IO
kernel: v6.1
processes: {vmm: {}}
actors:
  vmm:
    - mmap: {name: ram, size: 8KiB}
    - touch: {memory: ram, value: A}
    - iouring.setup: {as: ring}
    - iouring.unregister: {ring: ring}
      expect: ENXIO
    - iouring.register: {ring: ring, buffers: [{memory: ram}, {base: 0, bytes: 0}]}
      returns: 0
    - iouring.write_fixed: {ring: ring, memory: ram, offset: 4KiB, length: 4KiB}
      shows: {value: A}
    - iouring.read_fixed: {ring: ring, memory: ram, value: B}
    - cpu.read: {memory: ram}
      shows: {value: B}
    - iouring.write_fixed: {ring: ring, memory: ram, buffer: 1}
      expect: EFAULT
    - munmap: {memory: ram}
    - iouring.write_fixed: {ring: ring, memory: ram}
      shows: {value: B}
    - status: {}
      shows: {VmPin: 8192}
    - close: {fd: ring}
    - status: {}
      shows: {VmPin: 0}
`;
    expect(failures(text)).toEqual([]);
  });
});

describe('trace.iommu', () => {
  const text = (trace: string) => `
title: one huge page
kernel: v6.12
host: {${trace}}
memory: {ram: {kind: anon, size: 2MiB, advice: [HUGEPAGE], populate: write}}
processes: {vmm: {maps: {ram: {}}}}
devices: {nic: {process: vmm, attach: vfio-type1}}
actors:
  vmm:
    - vfio.map: {device: nic, iova: 0, memory: ram}
    - vfio.map: {device: nic, iova: 4MiB, memory: ram, length: 4KiB}
    - trace.iommu: {}
      EXPECTED
    - vfio.unmap: {device: nic, iova: 0, size: 2MiB}
    - trace.iommu: {}
`;

  it('shows the calls since the last look', () => {
    const calls = text('trace: [iommu]')
      .replace('EXPECTED', "shows: {map_calls: 2, map_bytes: 2101248, map_sizes: '1x2097152 1x4096', unmap_calls: 0}")
      .concat("      shows: {map_calls: 0, unmap_calls: 1, unmap_sizes: '1x2097152'}\n");
    expect(failures(calls)).toEqual([]);
  });

  it('is ENODEV while the tracepoints are off', () => {
    const off = text('cpus: 2').replace('EXPECTED', 'expect: ENODEV').concat('      expect: ENODEV\n');
    expect(failures(off)).toEqual([]);
  });
});

describe('pages of the kernel image', () => {
  it('are the same in every process; a device may read them, and on 6.1 a map of the vdso leaks its pin', () => {
    const text = `
title: vdso and vvar
kernel: v6.1.192
memory: {vdso: {kind: vdso, size: 4KiB, content: ELF}, vvar: {kind: vvar, size: 4KiB, content: clock}}
processes: {vmm: {maps: {vdso: {}, vvar: {}}}}
devices: {nic: {process: vmm, attach: vfio-type1}}
actors:
  vmm:
    - cpu.read: {memory: vvar}
      shows: {value: clock}
    - cpu.write: {memory: vvar}
      expect: SIGSEGV
    - pagemap: {memory: vvar}
      shows: {present: false}
    - vfio.map: {device: nic, iova: 0, memory: vvar, prot: r}
      returns: 0
    - vfio.map: {device: nic, iova: 4KiB, memory: vvar, prot: rw}
      expect: EFAULT
    - vfio.map: {device: nic, iova: 4KiB, memory: vdso, prot: r}
      returns: 0
    - dma.read: {device: nic, iova: 4KiB}
      shows: {value: ELF}
    - status: {}
      shows: {VmLck: 0}
    - vfio.unmap: {device: nic, all: true}
    - vmstat: {}
      shows: {nr_foll_pin_acquired: 1, nr_foll_pin_released: 0}
expect: {always: [pin-failure, refcount-leak]}
`;
    expect(failures(text)).toEqual([]);
  });
});

describe('guest_memfd', () => {
  it('is memory that a scenario can give to a software-protected VM', () => {
    const text = `
title: private and shared
kernel: v6.12
host: {config: {KVM_SW_PROTECTED_VM: y}}
memory: {ram: {kind: anon, size: 32KiB}, private: {kind: guest_memfd, vm: guest, size: 32KiB}}
processes: {vmm: {maps: {ram: {}}}}
vms: {guest: {process: vmm, type: sw-protected, regions: [{gpa: 0, memory: ram, guest_memfd: private}]}}
actors:
  vmm:
    - cpu.write: {memory: ram, value: A}
    - vcpu.read: {vm: guest, gpa: 0}
      shows: {value: A}
    - kvm.set_memory_attributes: {vm: guest, gpa: 0, size: 4KiB}
      returns: 0
    - vcpu.read: {vm: guest, gpa: 0}
      shows: {value: zero}
    - vcpu.write: {vm: guest, gpa: 0, value: B}
    - cpu.read: {memory: ram}
      shows: {value: A}
    - mmap: {name: window, memory: private}
      expect: ENODEV
    - truncate: {memory: private, size: 0}
      expect: EINVAL
    - file.write: {memory: private, value: C}
      expect: ESPIPE
    - fallocate: {memory: private, offset: 0, length: 4KiB, mode: punch-hole}
      returns: 0
    - vcpu.read: {vm: guest, gpa: 0}
      shows: {value: zero}
    - close: {fd: private}
      returns: 0
    - vcpu.read: {vm: guest, gpa: 0}
      expect: EFAULT
      shows: {exit: MEMORY_FAULT}
`;
    expect(failures(text)).toEqual([]);
  });
});

describe('a descriptor that was closed', () => {
  const world = (steps: string, others = '') => `
title: ioctls on closed descriptors
kernel: v6.12
memory: {ram: {kind: anon, size: 64KiB, populate: write}}
processes: {vmm: {maps: {ram: {}}}}
devices: {nic: {process: vmm, attach: vfio-type1}}
vms: {guest: {process: vmm, regions: [{gpa: 0x0, memory: ram}]}}
actors:
  vmm:
${steps}${others}`;

  it('answers EBADF to every ioctl', () => {
    const steps = `
    - close: {}
    - vfio.map: {device: nic, iova: 0x0, memory: ram}
      expect: EBADF
    - vfio.unmap: {device: nic, iova: 0x0, size: 64KiB}
      expect: EBADF
    - vfio.info: {}
      expect: EBADF
    - close: {group_of: nic}
    - vfio.group_status: {device: nic}
      expect: EBADF
    - close: {fd: nic}
    - vfio.mmap_bar: {device: nic, name: bar}
      expect: EBADF
    - close: {fd: guest}
    - kvm.get_dirty_log: {vm: guest, slot: 0}
      expect: EBADF
    - kvm.check_extension: {vm: guest, capability: 1}
      expect: EBADF
    - kvm.check_extension: {capability: 1}
`;
    expect(failures(world(steps))).toEqual([]);
  });

  it('is held by a call of another thread that is under way', () => {
    const steps = `
    - vfio.map: {device: nic, iova: 0x0, memory: ram}
      hold: [{at: 'vfio_dma_do_map:lock', until: closer}]
    - vfio.unmap: {device: nic, iova: 0x0, size: 64KiB}
      expect: EBADF
`;
    const closer = `
  closer: {on: vmm, do: [{sleep: 1ms}, {close: {}}, {close: {group_of: nic}}, {close: {fd: nic}}]}
`;
    expect(failures(world(steps, closer))).toEqual([]);
  });
});
