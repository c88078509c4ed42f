// refcount-leak: references that nobody will drop. A pin in use is none; nor is one that its driver drops when a
// descriptor is closed.
import { describe, expect, it } from 'vitest';
import { findingsOf, resultOf } from '../support/scenario.ts';

const HEAD = `title: T
kernel: v6.1.192
host: {memory: {normal: 64MiB}, memlock: unlimited}
memory: {ram: {kind: anon, size: 16KiB, populate: write}}
processes: {p: {maps: {ram: {}}}}
devices: {nic: {process: p, attach: vfio-type1}}
actors:
  p:
`;
const PIN = '    - gup.pin: {memory: ram, as: x}\n';
const GET = '    - gup.get: {memory: ram, as: x}\n';
const UNPIN = '    - gup.unpin: {pin: x}\n';
const EXIT = '    - exit:\n';

describe('refcount-leak', () => {
  it('is not what a pin is that is given back', () => {
    expect(findingsOf(HEAD + PIN + UNPIN + EXIT)).toEqual([]);
    expect(findingsOf(HEAD + GET + UNPIN + EXIT)).toEqual([]);
  });

  it('is not what pages are that are still held for a process that lives', () => {
    expect(findingsOf(HEAD + PIN)).toEqual([]);
    expect(findingsOf(HEAD + GET)).toEqual([]);
  });

  it('is a raw pin whose process has exited', () => {
    const [found] = resultOf(HEAD + PIN + EXIT).findings;
    expect(found?.finding.kind).toBe('refcount-leak');
    expect(found?.finding.message).toBe('p has exited, and 4 pages that x of p holds will never be given back');
    expect(found?.finding.steps.map(({ label }) => label)).toContain('try_get_folio');
  });

  it('is a plain reference whose process has exited', () => {
    expect(findingsOf(HEAD + GET + EXIT)).toEqual(['refcount-leak']);
  });

  it('is what is left when pages are taken twice under one name and given back once', () => {
    expect(findingsOf(HEAD + PIN + PIN + UNPIN)).toEqual(['refcount-leak']);
    expect(findingsOf(HEAD + PIN + PIN + UNPIN + UNPIN)).toEqual([]);
  });

  it('is not what a process leaves in VFIO or io_uring: their descriptors are closed at exit', () => {
    expect(findingsOf(`${HEAD}    - vfio.map: {device: nic, iova: 0, memory: ram}\n${EXIT}`)).toEqual([]);
    const ring = `    - iouring.setup: {as: ring}
    - iouring.register: {ring: ring, buffers: [{memory: ram}]}
`;
    expect(findingsOf(HEAD + ring + EXIT)).toEqual([]);
  });

  it.each(['v6.12.117', 'v6.13'])(
    'is not what KVM has mapped for itself, and gives back with the vCPU: %s',
    (kernel) => {
      const head = HEAD.replace('v6.1.192', kernel).replace('devices:', 'vms: {vm: {process: p}}\ndevices:');
      const map = `    - kvm.set_memory_region: {slot: 0, gpa: 0, memory: ram}
    - kvm.vcpu_map: {gpa: 0, as: nested}
`;
      expect(findingsOf(head + map)).toEqual([]);
      expect(findingsOf(head + map + EXIT)).toEqual([]);
    },
  );

  it.each(['v5.17', 'v5.19'])('is not the page of a cache of KVM, which goes inactive with the VM: %s', (kernel) => {
    const head = HEAD.replace('v6.1.192', kernel).replace('devices:', 'vms: {vm: {process: p}}\ndevices:');
    const cache = `    - kvm.set_memory_region: {slot: 0, gpa: 0, memory: ram}
    - gpc.activate: {gpa: 0, as: runstate}
`;
    expect(findingsOf(head + cache)).toEqual([]);
    expect(findingsOf(head + cache + EXIT)).toEqual([]);
  });
});
