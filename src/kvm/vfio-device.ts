// The KVM-VFIO pseudo device (virt/kvm/vfio.c): which VFIO files belong to the VM, and whether their DMA is coherent. It
// pins nothing and registers no notifier. The re-zap of guest tables when coherency changes is not modelled.
import { Cell } from '../engine/cell.ts';
import { hashText } from '../engine/hash.ts';
import { Mutex } from '../engine/lock.ts';
import { call, type Steps } from '../engine/process.ts';
import { step } from '../engine/step.ts';
import type { Errno } from '../mm/errno.ts';
import type { OpenFile } from '../mm/process/task.ts';
import { isVfioFile } from './seam.ts';
import type { Vm } from './vm.ts';

const CREATE = step('kvm_vfio_create', 'op');
const FGET = step('kvm_vfio_file_add:fget', 'refcount');
const LOCK = step('kvm_vfio:lock', 'lock');
const CHANGE = step('kvm_vfio:list', 'op');
const UNLOCK = step('kvm_vfio:unlock', 'lock');
const FPUT = step('kvm_vfio:fput', 'refcount');

export const KVM_DEV_VFIO_FILE = 1;
export const KVM_DEV_VFIO_FILE_ADD = 1;
export const KVM_DEV_VFIO_FILE_DEL = 2;

export class KvmVfioDevice {
  readonly vm: Vm;
  readonly name: string;
  readonly identity: number;
  readonly lock: Mutex;
  readonly files: Cell<readonly OpenFile[]>;
  /** Some file's DMA may bypass the CPU caches. */
  readonly noncoherent: Cell<boolean>;

  constructor(vm: Vm) {
    const { sim } = vm.core;
    this.vm = vm;
    this.name = `KVM-VFIO device of ${vm.name}`;
    this.identity = hashText(this.name);
    this.lock = new Mutex(sim, `lock of ${this.name}`);
    this.files = new Cell<readonly OpenFile[]>(sim, `files of ${this.name}`, []);
    this.noncoherent = new Cell(sim, `noncoherent DMA of ${vm.name}`, false);
  }
}

/** KVM_CREATE_DEVICE with KVM_DEV_TYPE_VFIO. EBUSY: the VM has one already. */
export function* createKvmVfio(vm: Vm): Steps<KvmVfioDevice | Errno> {
  yield vm.vfioDevice.willUpdate(CREATE);
  if (vm.vfioDevice.value !== null) return 'EBUSY';
  const device = new KvmVfioDevice(vm);
  vm.vfioDevice.value = device;
  return device;
}

/**
 * KVM_SET_DEVICE_ATTR. `file`: the descriptor, undefined when it is not open. ENXIO: unknown group or attribute; EBADF:
 * not open; EINVAL: not a VFIO file; EEXIST: there already; ENOENT: not there.
 */
export function* kvmVfioSetAttr(
  device: KvmVfioDevice,
  group: number,
  attribute: number,
  file: OpenFile | undefined,
): Steps<'ok' | Errno> {
  if (group !== KVM_DEV_VFIO_FILE) return 'ENXIO';
  if (attribute === KVM_DEV_VFIO_FILE_ADD) return yield* call(addFile(device, file));
  if (attribute === KVM_DEV_VFIO_FILE_DEL) return yield* call(deleteFile(device, file));
  return 'ENXIO';
}

function* addFile(device: KvmVfioDevice, file: OpenFile | undefined): Steps<'ok' | Errno> {
  if (file === undefined) return 'EBADF';
  const { object } = file;
  if (!isVfioFile(object)) return 'EINVAL';
  yield device.lock.lock(LOCK);
  yield device.files.willUpdate(CHANGE);
  const known = device.files.value.includes(file);
  if (!known) {
    yield file.references.willUpdate(FGET);
    file.references.value += 1;
    device.noncoherent.willUpdate(CHANGE);
    object.willSetKvm(CHANGE);
    yield device.files.willUpdate(CHANGE);
    device.files.value = [...device.files.value, file];
    object.setKvm(device.vm);
    updateCoherency(device);
  }
  yield device.lock.unlock(UNLOCK);
  return known ? 'EEXIST' : 'ok';
}

function* deleteFile(device: KvmVfioDevice, file: OpenFile | undefined): Steps<'ok' | Errno> {
  if (file === undefined) return 'EBADF';
  yield device.lock.lock(LOCK);
  device.noncoherent.willUpdate(CHANGE);
  if (isVfioFile(file.object)) file.object.willSetKvm(CHANGE);
  yield device.files.willUpdate(CHANGE);
  const known = device.files.value.includes(file);
  if (known) {
    device.files.value = device.files.value.filter((other) => other !== file);
    if (isVfioFile(file.object)) file.object.setKvm(null);
    updateCoherency(device);
  }
  yield device.lock.unlock(UNLOCK);
  if (!known) return 'ENOENT';
  yield* call(putFile(file));
  return 'ok';
}

function updateCoherency(device: KvmVfioDevice): void {
  const noncoherent = device.files.value.some(({ object }) => isVfioFile(object) && !object.enforcedCoherent());
  if (noncoherent !== device.noncoherent.value) device.noncoherent.value = noncoherent;
}

/** fput: the last reference runs the file's release. */
function* putFile(file: OpenFile): Steps<void> {
  yield file.references.willUpdate(FPUT);
  file.references.value -= 1;
  if (file.references.value === 0 && file.release !== null) yield* call(file.release());
}

/** kvm_vfio_release: the device descriptor is closed, or the VM goes. */
export function* releaseKvmVfio(device: KvmVfioDevice): Steps<void> {
  for (const file of device.files.peek()) yield* call(deleteFile(device, file));
  yield device.vm.vfioDevice.willWrite(CREATE);
  device.vm.vfioDevice.value = null;
}
