// VFIO groups (drivers/vfio/group.c): /dev/vfio/N. One open file per group; its container, and how many devices use it.

import { Cell } from '../engine/cell.ts';
import type { Identified } from '../engine/hash.ts';
import { hashText, mix } from '../engine/hash.ts';
import { Mutex } from '../engine/lock.ts';
import { call, type Steps } from '../engine/process.ts';
import { type Announced, type Step, step } from '../engine/step.ts';
import type { IommuGroup } from '../iommu/group.ts';
import type { VfioFile } from '../kvm/seam.ts';
import type { CoreMm } from '../mm/core.ts';
import type { Errno } from '../mm/errno.ts';
import { OpenFile } from '../mm/process/task.ts';
import type { GroupType } from './attach.ts';
import { containerAttach, containerDetach, VfioContainer } from './container.ts';

const OPEN = step('vfio_group_fops_open', 'lock');
const RELEASE = step('vfio_group_fops_release', 'lock');
const SET = step('vfio_group_ioctl_set_container', 'lock');
const UNSET = step('vfio_group_ioctl_unset_container', 'lock');
const STATUS = step('vfio_group_ioctl_get_status', 'lock');

export const VFIO_GROUP_FLAGS_VIABLE = 1;
export const VFIO_GROUP_FLAGS_CONTAINER_SET = 2;

export class VfioGroup implements VfioFile {
  /** KVM's VFIO device takes descriptors of groups. */
  readonly kvmVfio = true;
  readonly core: CoreMm;
  readonly name: string;
  readonly identity: number;
  readonly type: GroupType;
  readonly iommuGroup: IommuGroup;
  /** group->group_lock. The fields below are under it, and are written with container.groupLock held too. */
  readonly groupLock: Mutex;
  readonly container: Cell<VfioContainer | null>;
  /** 1 for the group itself, and 1 per open device. */
  readonly containerUsers: Cell<number>;
  readonly openedFile: Cell<OpenFile | null>;
  /** The VM that was told of it; drivers that ask come later. */
  readonly kvm: Cell<Identified | null>;

  constructor(core: CoreMm, iommuGroup: IommuGroup, type: GroupType = 'iommu') {
    const { sim } = core;
    this.core = core;
    this.name = `vfio ${iommuGroup.name}`;
    this.identity = mix(hashText(this.name), 0x76666772);
    this.type = type;
    this.iommuGroup = iommuGroup;
    this.groupLock = new Mutex(sim, `group_lock of ${this.name}`);
    this.container = new Cell<VfioContainer | null>(sim, `container of ${this.name}`, null, this.groupLock);
    this.containerUsers = new Cell(sim, `container_users of ${this.name}`, 0, this.groupLock);
    this.kvm = new Cell<Identified | null>(sim, `kvm of ${this.name}`, null);
    this.openedFile = new Cell<OpenFile | null>(sim, `opened_file of ${this.name}`, null, this.groupLock);
  }

  /** vfio_file_enforced_coherent: no container yet counts as coherent, as nothing can do DMA. */
  enforcedCoherent(): boolean {
    const driver = this.container.peek()?.driver.peek();
    if (driver === undefined || driver === null || driver === 'noiommu') return true;
    return driver.domains.peek().every((domain) => domain.enforceCacheCoherency);
  }

  /** vfio_file_set_kvm: announced with the group, under whose lock the kernel keeps it. */
  willSetKvm(at: Step): void {
    this.kvm.willWrite(at);
  }

  setKvm(vm: Identified | null): void {
    this.kvm.value = vm;
  }

  /** Announce changing container and containerUsers; the caller holds group_lock. */
  willJoin(at: Step): Announced {
    return this.groupLock.willChange(at);
  }
}

/** open(/dev/vfio/N). EBUSY: open already; EPERM: no-IOMMU group without CAP_SYS_RAWIO. */
export function* vfioGroupOpen(group: VfioGroup): Steps<OpenFile | Errno> {
  const { core } = group;
  yield group.groupLock.lock(OPEN);
  let result: OpenFile | Errno;
  if (group.type === 'noiommu' && !core.current.capable('CAP_SYS_RAWIO')) result = 'EPERM';
  else if (group.openedFile.value !== null) result = 'EBUSY';
  else {
    result = new OpenFile(core.sim, {
      name: `${group.name} file ${core.current.process.name}#${core.current.process.nextNumber()}`,
      kind: 'vfio-group',
      object: group,
      release: () => releaseGroup(group),
    });
    group.openedFile.value = result;
  }
  group.groupLock.releaseNow();
  return result;
}

/** vfio_group_fops_release: no device is open any more, each holds a reference of the group's file. */
function* releaseGroup(group: VfioGroup): Steps<void> {
  yield group.groupLock.lock(RELEASE);
  const container = group.container.value;
  if (container !== null) yield* call(containerDetach(container, group));
  yield group.groupLock.willChange(RELEASE);
  group.openedFile.value = null;
  group.groupLock.releaseNow();
}

/**
 * VFIO_GROUP_SET_CONTAINER with the file behind the descriptor; null: a bad descriptor. EBADF; EINVAL: in a container
 * already; EBADFD (EINVAL before 6.2): another kind of file; EPERM: DMA of the group belongs to somebody else.
 */
export function* vfioGroupSetContainer(group: VfioGroup, file: OpenFile | null): Steps<'ok' | Errno> {
  if (file === null) return 'EBADF';
  yield group.groupLock.lock(SET);
  let result: 'ok' | Errno;
  if (group.container.value !== null) result = 'EINVAL';
  else if (file.object instanceof VfioContainer) result = yield* call(containerAttach(file.object, group));
  else result = group.core.kernel.way('type1.set-container-wrong-file');
  yield group.groupLock.unlock(SET);
  return result;
}

/** VFIO_GROUP_UNSET_CONTAINER. EINVAL: in none; EBUSY: a device is open. */
export function* vfioGroupUnsetContainer(group: VfioGroup): Steps<'ok' | Errno> {
  yield group.groupLock.lock(UNSET);
  const container = group.container.value;
  let result: 'ok' | Errno = 'ok';
  if (container === null) result = 'EINVAL';
  else if (group.containerUsers.value !== 1) result = 'EBUSY';
  else yield* call(containerDetach(container, group));
  yield group.groupLock.unlock(UNSET);
  return result;
}

/** VFIO_GROUP_GET_STATUS: the flags. Viable: nobody else owns the DMA of the group. */
export function* vfioGroupStatus(group: VfioGroup): Steps<number> {
  group.iommuGroup.owner.willRead(STATUS);
  yield group.groupLock.lock(STATUS);
  const inContainer = group.container.value !== null;
  group.groupLock.releaseNow();
  if (inContainer) return VFIO_GROUP_FLAGS_VIABLE | VFIO_GROUP_FLAGS_CONTAINER_SET;
  return group.iommuGroup.claimed ? 0 : VFIO_GROUP_FLAGS_VIABLE;
}
