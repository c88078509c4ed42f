// VFIO containers (drivers/vfio/container.c): /dev/vfio/vfio. A container outlives its descriptor while groups are in it,
// and gets its IOMMU driver with SET_IOMMU; the last group that leaves takes the driver away again.
import { Cell } from '../engine/cell.ts';
import { hashText, mix } from '../engine/hash.ts';
import { call, type Steps } from '../engine/process.ts';
import { RwSem } from '../engine/rwsem.ts';
import { step } from '../engine/step.ts';
import type { CoreMm } from '../mm/core.ts';
import type { Errno } from '../mm/errno.ts';
import { attachGroup, detachGroup, releaseIommu } from './attach.ts';
import { type DirtyAnswer, type VfioDirtyPages, vfioDirtyPages } from './dirty.ts';
import type { VfioGroup } from './group.ts';
import {
  checkExtension,
  VFIO_NOIOMMU_IOMMU,
  VFIO_TYPE1_IOMMU,
  VFIO_TYPE1_NESTING_IOMMU,
  VFIO_TYPE1v2_IOMMU,
  type VfioIommuInfo,
  vfioIommuGetInfo,
} from './info.ts';
import { VfioIommu } from './iommu.ts';
import { type VfioDmaMap, vfioMapDma } from './map.ts';
import type { VfioModule } from './module.ts';
import { type VfioDmaUnmap, type VfioUnmapped, vfioUnmapDma } from './unmap.ts';

const IOCTL = step('vfio_fops_unl_ioctl', 'op');
const SET_IOMMU = step('vfio_ioctl_set_iommu', 'op');
const CHECK = step('vfio_container_ioctl_check_extension', 'op');
const ATTACH = step('vfio_container_attach_group', 'op');
const RELEASE = step('vfio_fops_release', 'op');
const CLOSE = step('vfio_iommu_type1_notify', 'lock');
const DETACH = step('vfio_group_detach_container', 'op');

/** The IOMMU driver of a container. `noiommu` has no state and answers every request with ENOTTY. */
export type ContainerDriver = VfioIommu | 'noiommu' | null;

export class VfioContainer {
  readonly core: CoreMm;
  readonly module: VfioModule;
  readonly name: string;
  readonly identity: number;
  readonly groupLock: RwSem;
  readonly groups: Cell<readonly VfioGroup[]>;
  /** iommu_driver and iommu_data: written under group_lock, read by ioctls without any lock. */
  readonly driver: Cell<ContainerDriver>;
  readonly noiommu: Cell<boolean>;

  constructor(core: CoreMm, module: VfioModule, name: string) {
    const { sim } = core;
    this.core = core;
    this.module = module;
    this.name = name;
    this.identity = mix(hashText(name), 0x76666331);
    this.groupLock = new RwSem(sim, `group_lock of ${name}`);
    this.groups = new Cell<readonly VfioGroup[]>(sim, `groups of ${name}`, []);
    this.driver = new Cell<ContainerDriver>(sim, `iommu_data of ${name}`, null);
    this.noiommu = new Cell(sim, `noiommu of ${name}`, false, this.groups);
  }
}

/** vfio_fops_release, with vfio_iommu_type1_notify where there is somebody to wake (5.12 to 6.2). */
export function* vfioContainerRelease(container: VfioContainer): Steps<void> {
  if (container.core.kernel.way('type1.invalid-vaddr') !== 'sleep') return;
  yield container.driver.willRead(RELEASE);
  const driver = container.driver.value;
  if (!(driver instanceof VfioIommu)) return;
  driver.containerOpen.willWrite(CLOSE);
  yield driver.acquire(CLOSE);
  driver.containerOpen.value = false;
  driver.lock.releaseNow();
}

/** VFIO_SET_IOMMU. EINVAL: no group yet, a driver already, or no type of IOMMU; ENODEV: no driver knows it. */
export function* vfioSetIommu(container: VfioContainer, type: number): Steps<'ok' | Errno> {
  const { core, module } = container;
  yield* call(container.groupLock.write());
  container.groups.willRead(SET_IOMMU);
  module.dmaEntryLimit.willRead(SET_IOMMU);
  yield container.driver.willUpdate(SET_IOMMU);
  const groups = container.groups.value;
  let result: 'ok' | Errno = 'ENODEV';
  if (groups.length === 0 || container.driver.value !== null) result = 'EINVAL';
  else if (container.noiommu.value) {
    if (type === VFIO_NOIOMMU_IOMMU) result = core.current.capable('CAP_SYS_RAWIO') ? 'ok' : 'EPERM';
    if (result === 'ok') container.driver.value = 'noiommu';
  } else if ((yield* call(checkExtension(core.kernel, null, type))) === 0) result = 'ENODEV';
  else if (!isIommuType(type)) result = 'EINVAL';
  else {
    const v2 = type !== VFIO_TYPE1_IOMMU;
    const nesting = type === VFIO_TYPE1_NESTING_IOMMU;
    const iommu = new VfioIommu(core, container.name, { v2, nesting }, module.dmaEntryLimit.value);
    result = yield* call(attachAll(container, iommu, groups));
    yield container.driver.willUpdate(SET_IOMMU);
    if (result === 'ok') container.driver.value = iommu;
  }
  yield container.groupLock.up();
  return result;
}

/** vfio_iommu_type1_open knows these; to other extensions (UNMAP_ALL) it has said yes before, and opens nothing. */
function isIommuType(type: number): boolean {
  return type === VFIO_TYPE1_IOMMU || type === VFIO_TYPE1v2_IOMMU || type === VFIO_TYPE1_NESTING_IOMMU;
}

/** __vfio_container_attach_groups: a failure takes those before it out again. */
function* attachAll(container: VfioContainer, iommu: VfioIommu, groups: readonly VfioGroup[]): Steps<'ok' | Errno> {
  for (const [i, group] of groups.entries()) {
    const errno = yield* call(attachGroup(iommu, container.module, group.iommuGroup, group.type));
    if (errno === null) continue;
    for (const before of groups.slice(0, i).reverse()) yield* call(detachGroup(iommu, before.iommuGroup));
    yield* call(releaseIommu(iommu));
    return errno;
  }
  return 'ok';
}

/** vfio_container_attach_group; the caller holds group.groupLock. */
export function* containerAttach(container: VfioContainer, group: VfioGroup): Steps<'ok' | Errno> {
  const { core } = container;
  if (group.type === 'noiommu' && !core.current.capable('CAP_SYS_RAWIO')) return 'EPERM';
  yield* call(container.groupLock.write());
  const result = yield* call(joinContainer(container, group));
  yield container.groupLock.up();
  return result;
}

function* joinContainer(container: VfioContainer, group: VfioGroup): Steps<'ok' | Errno> {
  container.driver.willRead(ATTACH);
  yield container.groups.willUpdate(ATTACH);
  const driver = container.driver.value;
  const { type, iommuGroup } = group;
  if (container.groups.value.length > 0 && container.noiommu.value !== (type === 'noiommu')) return 'EPERM';
  if (type === 'iommu') {
    const claimed = yield* call(iommuGroup.claimOwner(group.name));
    if (claimed !== null) return claimed;
  }
  if (driver instanceof VfioIommu) {
    const errno = yield* call(attachGroup(driver, container.module, iommuGroup, type));
    if (errno !== null) {
      if (type === 'iommu') yield* call(iommuGroup.releaseOwner());
      return errno;
    }
  }
  group.willJoin(ATTACH);
  yield container.groups.willUpdate(ATTACH);
  group.container.value = container;
  group.containerUsers.value = 1;
  container.noiommu.value = type === 'noiommu';
  container.groups.value = [group, ...container.groups.value];
  return 'ok';
}

/** vfio_group_detach_container; the caller holds group.groupLock. The last group takes the driver with it. */
export function* containerDetach(container: VfioContainer, group: VfioGroup): Steps<void> {
  yield* call(container.groupLock.write());
  yield container.driver.willRead(DETACH);
  const driver = container.driver.value;
  if (driver instanceof VfioIommu) yield* call(detachGroup(driver, group.iommuGroup));
  if (group.type === 'iommu') yield* call(group.iommuGroup.releaseOwner());
  group.willJoin(DETACH);
  container.driver.willUpdate(DETACH);
  yield container.groups.willUpdate(DETACH);
  group.container.value = null;
  group.containerUsers.value = 0;
  container.groups.value = container.groups.value.filter((other) => other !== group);
  const last = container.groups.value.length === 0;
  if (last) container.driver.value = null;
  if (last && driver instanceof VfioIommu) yield* call(releaseIommu(driver));
  yield container.groupLock.up();
}

/** VFIO_GET_API_VERSION: VFIO_API_VERSION, which has been 0 since the group interface exists. */
export function* vfioApiVersion(container: VfioContainer): Steps<number> {
  yield container.core.sim.local(IOCTL);
  return 0;
}

/** VFIO_CHECK_EXTENSION */
export function* vfioCheckExtension(container: VfioContainer, extension: number): Steps<number> {
  yield* call(container.groupLock.read());
  yield container.driver.willRead(CHECK);
  const driver = container.driver.value;
  let answer = 0;
  if (driver === 'noiommu') answer = extension === VFIO_NOIOMMU_IOMMU ? 1 : 0;
  else answer = yield* call(checkExtension(container.core.kernel, driver, extension));
  yield container.groupLock.up();
  return answer;
}

/** What an ioctl that is passed on to the IOMMU driver finds: EINVAL without one, ENOTTY from noiommu. */
function* passedTo(container: VfioContainer): Steps<VfioIommu | Errno> {
  yield container.driver.willRead(IOCTL);
  const driver = container.driver.value;
  if (driver === null) return 'EINVAL';
  return driver === 'noiommu' ? 'ENOTTY' : driver;
}

/** VFIO_IOMMU_MAP_DMA */
export function* vfioIommuMapDma(container: VfioContainer, arg: VfioDmaMap | null): Steps<'ok' | Errno> {
  const iommu = yield* call(passedTo(container));
  return typeof iommu === 'string' ? iommu : yield* call(vfioMapDma(iommu, container.module, arg));
}

/** VFIO_IOMMU_UNMAP_DMA */
export function* vfioIommuUnmapDma(container: VfioContainer, arg: VfioDmaUnmap | null): Steps<VfioUnmapped> {
  const iommu = yield* call(passedTo(container));
  if (typeof iommu === 'string') return { errno: iommu, size: arg?.size ?? 0n, dirty: [] };
  return yield* call(vfioUnmapDma(iommu, arg));
}

/** VFIO_IOMMU_DIRTY_PAGES */
export function* vfioIommuDirtyPages(container: VfioContainer, arg: VfioDirtyPages | null): Steps<DirtyAnswer> {
  const iommu = yield* call(passedTo(container));
  if (typeof iommu === 'string') return { errno: iommu };
  if (!container.core.kernel.has('type1.dirty-tracking')) return { errno: 'ENOTTY' };
  return yield* call(vfioDirtyPages(iommu, arg));
}

/** VFIO_IOMMU_GET_INFO */
export function* vfioIommuInfo(
  container: VfioContainer,
  arg: { readonly argsz?: number } | null,
): Steps<VfioIommuInfo | { readonly errno: Errno }> {
  const iommu = yield* call(passedTo(container));
  return typeof iommu === 'string' ? { errno: iommu } : yield* call(vfioIommuGetInfo(iommu, arg));
}

/** An ioctl that nobody knows: EINVAL without a driver, ENOTTY with one. */
export function* vfioUnknownIoctl(container: VfioContainer): Steps<Errno> {
  const iommu = yield* call(passedTo(container));
  return typeof iommu === 'string' ? iommu : 'ENOTTY';
}
