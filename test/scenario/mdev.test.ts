// Emulated devices: what their driver pins through a type1 container is charged, let go when the mapping goes, and refused
// where the container does not allow it.
import { describe, expect, it } from 'vitest';
import { loadScenario } from '../../src/scenario/file/load.ts';
import { OPERATIONS } from '../../src/scenario/operations/index.ts';
import { runScenario } from '../../src/scenario/run.ts';
import { findingsOf } from '../support/scenario.ts';

/** What goes wrong when `steps` are performed by a VMM with an emulated device `gvt` and 8 KiB of memory. */
function problems(steps: string, kernel = 'v6.12.117', limit = 'unlimited'): readonly string[] {
  const text = `
title: emulated device
source: test
kernel: ${kernel}
host: {memory: {normal: 64MiB}, memlock: ${limit}}
memory:
  ram: {kind: anon, size: 8KiB, populate: write}
  bar: {kind: bar, device: gpu, size: 4KiB}
processes:
  vmm: {uid: 1000, maps: {ram: {}, bar: {}}}
devices:
  gvt: {process: vmm, attach: vfio-type1, emulated: true}
  old: {process: vmm, attach: vfio-type1v1, emulated: true, container: v1}
  gpu: {process: vmm, attach: vfio-type1, container: peers}
  nic: {process: vmm}
actors:
  vmm:
${steps
  .trim()
  .split('\n')
  .map((line) => `    - ${line.trim()}`)
  .join('\n')}
expect: {possible: [pin-failure]}
`;
  const [result] = runScenario(loadScenario('mdev.yaml', text, OPERATIONS), { checked: true, explain: 'none' });
  const unexpected = result!.findings.filter(({ expected }) => expected === 'no');
  return [...result!.failed.map(({ message }) => message), ...unexpected.map(({ finding }) => finding.message)];
}

describe('an emulated device', () => {
  it.each(['dma.read: {iova: 0}', 'mdev.pin: {iova: 0}', 'mdev.unpin: {iova: 0}'])(
    'must be named by a process that has it do %s',
    (step) => {
      expect(() => problems(step)).toThrow('`vmm` is no device: say which one, `device: NAME`');
    },
  );

  it('pins pages one by one, each charged once, and nothing at MAP_DMA', () => {
    expect(
      problems(`
        vfio.map: {device: gvt, iova: 0, memory: ram}
        {status: {}, shows: {VmLck: 0}}
        mdev.pin: {device: gvt, iova: 0x1000}
        {status: {}, shows: {VmLck: 4KiB}}
        mdev.pin: {device: gvt, iova: 0x1000}
        {status: {}, shows: {VmLck: 4KiB}}
        mdev.unpin: {device: gvt, iova: 0x1000}
        {status: {}, shows: {VmLck: 0}}
      `),
    ).toEqual([]);
  });

  it.each(['v5.19', 'v6.12.117'])('is told to unpin before an entry goes (%s)', (kernel) => {
    expect(
      problems(
        `
        vfio.map: {device: gvt, iova: 0, memory: ram}
        mdev.pin: {device: gvt, iova: 0}
        mdev.pin: {device: gvt, iova: 0x1000}
        {vfio.unmap: {device: gvt, iova: 0, size: 8KiB}, shows: {unmapped: 8KiB}}
        {status: {}, shows: {VmLck: 0}}
        {mdev.pin: {device: gvt, iova: 0}, expect: EINVAL}
      `,
        kernel,
      ),
    ).toEqual([]);
  });

  it('gives its pins back when it is closed', () => {
    expect(
      problems(`
        vfio.map: {device: gvt, iova: 0, memory: ram}
        mdev.pin: {device: gvt, iova: 0}
        close: {fd: gvt}
        {status: {}, shows: {VmLck: 0}}
      `),
    ).toEqual([]);
  });

  it('may not have addresses made invalid under it since 6.3', () => {
    expect(
      problems(`
        vfio.map: {device: gvt, iova: 0, memory: ram}
        {vfio.unmap: {device: gvt, iova: 0, size: 8KiB, vaddr: true}, expect: EBUSY}
      `),
    ).toEqual([]);
  });

  it('cannot pin in a container of version 1, without an entry, and memory without struct page', () => {
    expect(
      problems(`
        vfio.map: {container: v1, iova: 0, memory: ram}
        {mdev.pin: {device: old, iova: 0}, expect: EACCES}
        {mdev.pin: {device: gvt, iova: 0}, expect: EINVAL}
        vfio.map: {device: gvt, iova: 0, memory: bar}
        {mdev.pin: {device: gvt, iova: 0}, expect: EINVAL}
      `),
    ).toEqual([]);
  });

  it('keeps its own charge when the first hardware group cannot pin the rest', () => {
    const unwound = `
        vfio.map: {device: gvt, iova: 0, memory: ram}
        vfio.map: {device: gvt, iova: 0x100000, memory: ram}
        mdev.pin: {device: gvt, iova: 0}
        mdev.pin: {device: gvt, iova: 0x101000}
        {vfio.attach: {device: nic}, expect: ENOMEM}
        {status: {}, shows: {VmLck: 8KiB}}
        mdev.unpin: {device: gvt, iova: 0}
        {vfio.unmap: {device: gvt, all: true}, shows: {unmapped: 16KiB}}
        {status: {}, shows: {VmLck: 0}}
      `;
    expect(problems(unwound, 'v6.12.117', '12KiB')).toEqual([]);
  });

  it('makes dirty what it pins while dirty pages are tracked, also what it gives back before they are read', () => {
    expect(
      problems(`
        vfio.map: {device: gvt, iova: 0, memory: ram}
        vfio.dirty: {device: gvt, do: start}
        {vfio.dirty: {device: gvt, do: get, iova: 0, size: 8KiB}, shows: {dirty: ''}}
        mdev.pin: {device: gvt, iova: 0}
        mdev.pin: {device: gvt, iova: 0x1000}
        mdev.unpin: {device: gvt, iova: 0x1000}
        {vfio.dirty: {device: gvt, do: get, iova: 0, size: 8KiB}, shows: {dirty: 0x0+1 0x1000+1}}
        {vfio.dirty: {device: gvt, do: get, iova: 0, size: 8KiB}, shows: {dirty: 0x0+1}}
      `),
    ).toEqual([]);
  });
});

describe('vfio.attach', () => {
  it('tries again where it was refused before', () => {
    expect(
      problems(`
        vfio.map: {device: gvt, iova: 0xfee00000, memory: ram}
        {vfio.attach: {device: nic}, expect: EINVAL}
        vfio.unmap: {device: gvt, all: true}
        vfio.map: {device: gvt, iova: 0, memory: ram}
        vfio.attach: {device: nic}
        {status: {}, shows: {VmLck: 8KiB}}
      `),
    ).toEqual([]);
  });

  it('opens and joins anew what was closed or taken out since', () => {
    expect(
      problems(`
        vfio.attach: {device: nic}
        close: {fd: nic}
        vfio.unset_container: {device: nic}
        vfio.attach: {device: nic}
        close: {fd: nic}
        close: {group_of: nic}
        vfio.map: {device: gvt, iova: 0, memory: ram}
        {status: {}, shows: {VmLck: 0}}
        vfio.attach: {device: nic}
        {status: {}, shows: {VmLck: 8KiB}}
      `),
    ).toEqual([]);
  });
});

it('UNMAP that starts over and finds its range cut by then ends with nothing unmapped and no errno', () => {
  const text = `
title: a range that changes while a device is told
kernel: v6.12.117
host: {memory: {normal: 64MiB}, memlock: unlimited}
memory:
  ram: {kind: anon, size: 8KiB, populate: write}
processes:
  vmm: {maps: {ram: {}}}
devices:
  gvt: {process: vmm, attach: vfio-type1, emulated: true}
actors:
  vmm:
    - vfio.map: {device: gvt, iova: 0, memory: ram, length: 4KiB}
    - vfio.map: {device: gvt, iova: 0x1000, memory: ram, length: 4KiB}
    - mdev.pin: {device: gvt, iova: 0}
    - hold: {at: 'vfio_notify_dma_unmap:device_list_unlock', until: other}
      vfio.unmap: {device: gvt, iova: 0, size: 8KiB}
      shows: {unmapped: 0}
    - vfio.unmap: {device: gvt, iova: 0, size: 8KiB}
      expect: EINVAL
  other:
    on: vmm
    do:
      - at: 1ms
      - vfio.unmap: {device: gvt, iova: 0x1000, size: 4KiB}
      - vfio.map: {device: gvt, iova: 0x1000, memory: ram, length: 8KiB}
`;
  expect(findingsOf(text)).toEqual([]);
});

describe('while an address is invalid', () => {
  const steps = (joins: string) => `
        vfio.map: {container: peers, iova: 0, memory: ram}
        vfio.unmap: {container: peers, all: true, vaddr: true}
        {vfio.open_group: {device: nic, as: group}}
        {vfio.set_container: {device: nic, fd: peers}, expect: ${joins}}
      `;

  it.each(['v6.1.192', 'v6.12.117'])('no group can join (%s)', (kernel) => {
    expect(problems(steps('EBUSY'), kernel)).toEqual([]);
  });

  it.each(['v5.15', 'v6.1'])('a group could join a domain that is there, until 6.2 (%s)', (kernel) => {
    expect(problems(steps('ok'), kernel)).toEqual([]);
  });

  it('until 6.2 who needs it slept, until it had an address or the container was closed', () => {
    const text = (end: string, errno: string) => `
title: two that wait
kernel: v6.1
host: {memory: {normal: 64MiB}, memlock: unlimited}
memory:
  ram: {kind: anon, size: 8KiB, populate: write}
processes:
  vmm: {maps: {ram: {}}}
devices:
  gvt: {process: vmm, attach: vfio-type1, emulated: true, container: c}
actors:
  vmm:
    - vfio.map: {container: c, iova: 0, memory: ram}
    - vfio.map: {container: c, iova: 0x100000, memory: ram}
    - vfio.unmap: {container: c, all: true, vaddr: true}
    - sleep: 1ms
    - ${end}
  gvt:
    - at: 500us
    - mdev.pin: {iova: 0}
      expect: ${errno}
`;
    // The other entry stays invalid: nobody waits for that one.
    expect(findingsOf(text('vfio.map: {container: c, iova: 0, memory: ram, set_vaddr: true}', 'ok'))).toEqual([]);
    expect(findingsOf(text('close: {fd: c}', 'EFAULT'))).toEqual([]);
  });
});
