// Kinds of memory that not every kernel has, and what may be done with them.
import { describe, expect, it } from 'vitest';
import { findingsOf, resultOf } from '../support/scenario.ts';

const scenario = (kind: string, kernel: string, script: string): string => `title: T
kernel: ${kernel}
host: {memory: {normal: 64MiB}, memlock: unlimited}
memory: {buffer: {kind: ${kind}, size: 8KiB, content: A}}
processes: {p: {maps: {buffer: {}}}}
devices: {nic: {process: p, attach: vfio-type1}}
actors:
  p:
${script}`;

describe('a dma-buf of the system heap', () => {
  const script = `    - cpu.read: {memory: buffer}
      shows: {value: A}
    - cpu.write: {memory: buffer, offset: 4KiB, value: B}
    - cpu.read: {memory: buffer, length: 8KiB}
      shows: {value: 'A B'}
`;

  it('is read and written by the CPU', () => {
    expect(findingsOf(scenario('dmabuf', 'v6.1.192', script))).toEqual([]);
    expect(
      findingsOf(scenario('dmabuf', 'v6.12.117', `${script}    - munmap: {memory: buffer}\n    - exit:\n`)),
    ).toEqual([]);
  });

  it('can be pinned neither by GUP nor by type1: VM_PFNMAP over pages that are not reserved', () => {
    const pin = `    - gup.pin: {memory: buffer, as: x}
      expect: EFAULT
    - vfio.map: {device: nic, iova: 0, memory: buffer}
      expect: EFAULT
`;
    const { findings, failed } = resultOf(scenario('dmabuf', 'v6.1.192', pin));
    expect(failed).toEqual([]);
    expect(findings.map(({ finding }) => finding.kind)).toEqual(['pin-failure', 'pin-failure']);
  });

  it('is refused, with its place, on a kernel whose heap maps otherwise', () => {
    expect(() => findingsOf(scenario('dmabuf', 'v5.4', script))).toThrow(/test\.yaml:4:\d+: .*kind `dmabuf`/);
  });
});

describe('secret memory', () => {
  it('is there since 5.14; before, the scenario is refused with its place', () => {
    const script = '    - cpu.write: {memory: buffer}\n';
    expect(findingsOf(scenario('secret', 'v5.15', script))).toEqual([]);
    expect(() => findingsOf(scenario('secret', 'v5.4', script))).toThrow(
      /test\.yaml:4:\d+: .*memfd_secret\(\) is missing/,
    );
  });
});

describe('what every page holds at first', () => {
  const world = (kind: string, map: string, script: string) => `title: T
kernel: v6.12.117
host: {memory: {normal: 128MiB}, hugepages: {2MiB: 2}, memlock: unlimited}
memory: {buffer: {kind: ${kind}, size: 2MiB, content: A}}
processes: {p: {maps: {buffer: {${map}}}}}
devices: {nic: {process: p, attach: vfio-type1}}
actors:
  p:
${script}`;
  const reads = `    - cpu.read: {memory: buffer, length: 2MiB}
      shows: {value: A}
`;

  it.each([
    'anon',
    'anon, shared: true',
    'hugetlb',
    'hugetlb, shared: true',
    'hugetlb, memfd: true',
    'secret',
    'driver',
    'bar, device: nic',
    'shmem, populate: write',
    'hugetlb, memfd: true, populate: write',
    'file, shared: true, populate: write',
    'file, shared: false, populate: write',
  ])('is what the scenario says: %s', (kind) => {
    expect(findingsOf(world(kind, '', reads))).toEqual([]);
  });

  it('is that also where the mapping makes the memory shared', () => {
    expect(findingsOf(world('anon', 'shared: true', reads))).toEqual([]);
  });

  it('is in the file of a memfd of huge pages and not in the page table', () => {
    const absent = `    - pagemap: {memory: buffer}
      shows: {present_pages: 0}
    - meminfo: {}
      shows: {HugePages_Free: 1}
`;
    expect(findingsOf(world('hugetlb, memfd: true', '', absent))).toEqual([]);
  });

  it('cannot be more than the pool of huge pages has', () => {
    const text = world('hugetlb, memfd: true', '', reads).replace('2MiB: 2', '2MiB: 0');
    expect(() => findingsOf(text)).toThrow(/test\.yaml:4:\d+: .*the pool of huge pages cannot hold/);
  });
});

describe('a BAR that a process has mapped from the start', () => {
  const world = (bar: string, script: string) => `title: T
kernel: v6.12.117
host: {memory: {normal: 64MiB}, memlock: unlimited}
memory: {bar: {kind: bar, device: nic, size: 8KiB${bar}}}
processes: {p: {maps: {bar: {}}}}
devices: {nic: {process: p, attach: vfio-type1}}
actors:
  p:
${script}`;
  const no = (access: string) => `    - cpu.${access}: {memory: bar}
      expect: SIGSEGV
`;

  it('has the protection, the advice and the writes that the mapping asks for', () => {
    expect(findingsOf(world(', prot: none', no('read')))).toEqual([]);
    expect(findingsOf(world(', prot: r, populate: write', no('write')))).toEqual([]);
    const fork = `    - fork:
        as: child
        child:
          - cpu.read: {memory: bar}
            expect: SIGSEGV
`;
    expect(findingsOf(world(', advice: [DONTFORK]', fork))).toEqual([]);
    const reads = `    - cpu.read: {memory: bar}
      shows: {value: p}
`;
    expect(findingsOf(world(', populate: write', reads))).toEqual([]);
    // mlock passes raw mappings over.
    expect(findingsOf(world(', locked: true', '    - status: {}\n      shows: {VmLck: 0}\n'))).toEqual([]);
  });

  it('cannot be private', () => {
    expect(() => findingsOf(world(', shared: false', no('read')))).toThrow(/mmap of the BAR fails with EINVAL/);
  });

  it('finds room beside many others', () => {
    const bars = [0, 1, 2, 3, 4, 5].map((index) => `{index: ${index}, size: 8KiB}`).join(', ');
    const text = world('', '    - cpu.read: {memory: bar}\n').replace(
      'attach: vfio-type1}',
      `attach: vfio-type1}, gpu: {bars: [${bars}]}`,
    );
    expect(findingsOf(text)).toEqual([]);
  });
});
