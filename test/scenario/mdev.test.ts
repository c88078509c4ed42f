// Emulated devices: what their driver pins through a type1 container is charged, let go when the mapping goes, and refused
// where the container does not allow it.
import { describe, expect, it } from 'vitest';
import { loadScenario } from '../../src/scenario/load.ts';
import { OPERATIONS } from '../../src/scenario/operations/index.ts';
import { runScenario } from '../../src/scenario/run.ts';

/** What goes wrong when `steps` are performed by a VMM with an emulated device `gvt` and 8 KiB of memory. */
function problems(steps: string, kernel = 'v6.12.117'): readonly string[] {
  const text = `
title: emulated device
source: test
kernel: ${kernel}
host: {memory: {normal: 64MiB}, memlock: unlimited}
memory:
  ram: {kind: anon, size: 8KiB, populate: write}
processes:
  vmm: {uid: 1000, maps: {ram: {}}}
devices:
  gvt: {process: vmm, attach: vfio-type1, emulated: true}
actors:
  vmm:
${steps
  .trim()
  .split('\n')
  .map((line) => `    - ${line.trim()}`)
  .join('\n')}
expect: {}
`;
  const [result] = runScenario(loadScenario('mdev.yaml', text, OPERATIONS), { checked: true, explain: 'none' });
  return [...result!.failed.map(({ message }) => message), ...result!.findings.map(({ finding }) => finding.message)];
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
});
