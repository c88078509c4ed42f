// The KVM-VFIO device: errnos of adding and removing files, references, coherency.
import { describe, expect, it } from 'vitest';
import { Cell } from '../../src/engine/cell.ts';
import type { Sim } from '../../src/engine/sim.ts';
import type { VfioFile } from '../../src/kvm/seam.ts';
import {
  createKvmVfio,
  KVM_DEV_VFIO_FILE,
  KVM_DEV_VFIO_FILE_ADD,
  KVM_DEV_VFIO_FILE_DEL,
  KvmVfioDevice,
  kvmVfioSetAttr,
  releaseKvmVfio,
} from '../../src/kvm/vfio-device.ts';
import { OpenFile } from '../../src/mm/process/task.ts';
import { as, type Guest, makeGuest } from './guest.ts';

function vfioFile(sim: Sim, name: string, coherent: boolean) {
  const vm = new Cell<{ readonly identity: number } | null>(sim, `VM of ${name}`, null);
  const object: VfioFile = {
    kvmVfio: true,
    enforcedCoherent: () => coherent,
    willSetKvm: (at) => void vm.willWrite(at),
    setKvm: (now) => {
      vm.value = now;
    },
  };
  return { file: new OpenFile(sim, { name, kind: 'vfio-group', object }), vm };
}

function device(guest: Guest): KvmVfioDevice {
  const created = as(guest, () => createKvmVfio(guest.vm));
  if (!(created instanceof KvmVfioDevice)) throw new Error(created);
  return created;
}

const set = (
  guest: Guest,
  to: KvmVfioDevice,
  attribute: number,
  file: OpenFile | undefined,
  group = KVM_DEV_VFIO_FILE,
) => as(guest, () => kvmVfioSetAttr(to, group, attribute, file));

describe('the KVM-VFIO device', () => {
  it('exists once per VM', () => {
    const guest = makeGuest();
    device(guest);
    expect(as(guest, () => createKvmVfio(guest.vm))).toBe('EBUSY');
  });

  it('takes each file once, with a reference, and gives it back (recorded on 6.1.192 and 6.12.117)', () => {
    const guest = makeGuest();
    const { sim } = guest.world;
    const to = device(guest);
    const { file, vm } = vfioFile(sim, 'group', true);
    expect(set(guest, to, KVM_DEV_VFIO_FILE_ADD, file)).toBe('ok');
    expect([file.references.peek(), vm.peek()]).toEqual([2, guest.vm]);
    expect(set(guest, to, KVM_DEV_VFIO_FILE_ADD, file)).toBe('EEXIST');
    expect(set(guest, to, KVM_DEV_VFIO_FILE_DEL, file)).toBe('ok');
    expect([file.references.peek(), vm.peek()]).toEqual([1, null]);
    expect(set(guest, to, KVM_DEV_VFIO_FILE_DEL, file)).toBe('ENOENT');
  });

  it('refuses descriptors that are closed or not of VFIO, and attributes that it does not know', () => {
    const guest = makeGuest();
    const to = device(guest);
    const plain = new OpenFile(guest.world.sim, { name: 'memfd', kind: 'memfd', object: {} });
    expect(set(guest, to, KVM_DEV_VFIO_FILE_ADD, undefined)).toBe('EBADF');
    expect(set(guest, to, KVM_DEV_VFIO_FILE_DEL, undefined)).toBe('EBADF');
    expect(set(guest, to, KVM_DEV_VFIO_FILE_ADD, plain)).toBe('EINVAL');
    expect(set(guest, to, 9, plain)).toBe('ENXIO');
    expect(set(guest, to, KVM_DEV_VFIO_FILE_ADD, plain, 2)).toBe('ENXIO');
  });

  it('says that DMA is not coherent while any file is not', () => {
    const guest = makeGuest();
    const { sim } = guest.world;
    const to = device(guest);
    const [a, b] = [vfioFile(sim, 'a', true), vfioFile(sim, 'b', false)];
    set(guest, to, KVM_DEV_VFIO_FILE_ADD, a.file);
    expect(to.noncoherent.peek()).toBe(false);
    set(guest, to, KVM_DEV_VFIO_FILE_ADD, b.file);
    expect(to.noncoherent.peek()).toBe(true);
    as(guest, () => releaseKvmVfio(to));
    expect([to.noncoherent.peek(), a.file.references.peek(), guest.vm.vfioDevice.peek()]).toEqual([false, 1, null]);
  });
});
