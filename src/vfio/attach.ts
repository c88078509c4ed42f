// Groups join and leave a type1 container (vfio_iommu_type1.c vfio_iommu_type1_attach_group, _detach_group, _release). A
// group whose IOMMU can use an existing domain shares it; else it gets a domain of its own, and what is mapped already
// is mapped there too.
import { call, type Steps } from '../engine/process.ts';
import { step } from '../engine/step.ts';
import { IO_READ, IO_WRITE } from '../hw/io-entry.ts';
import { IommuDomain } from '../iommu/domain.ts';
import type { IommuGroup } from '../iommu/group.ts';
import { iommuDomainFree, iommuMap, iommuUnmap } from '../iommu/map.ts';
import type { Errno } from '../mm/errno.ts';
import { refuse } from '../mm/gup/gup-flags.ts';
import { lockAcct } from './account.ts';
import { dirtyAll } from './dirty.ts';
import { type IovaWindow, VfioDomain, type VfioIommu } from './iommu.ts';
import type { VfioModule } from './module.ts';
import { isInvalidReserved } from './pin.ts';
import { hexBytes, tellAttach } from './refusal.ts';
import { replay } from './replay.ts';
import { removeDma, unmapUnpin } from './unmap-unpin.ts';
import { removeView, willLookAtViews } from './views.ts';
import { apertureConflict, excludeReserved, refreshedWindows, reservedConflict, resizeAperture } from './windows.ts';

const LOCK = step('vfio_iommu_type1_attach_group:lock', 'lock');
const CHECK = step('vfio_iommu_type1_attach_group:windows', 'op');
const DONE = step('vfio_iommu_type1_attach_group:done', 'lock');
const DETACH = step('vfio_iommu_type1_detach_group:lock', 'lock');
const LEAVE = step('vfio_iommu_type1_detach_group:leave', 'op');
const FREE = step('iommu_domain_free', 'none');
const DETACHED = step('vfio_iommu_type1_detach_group:done', 'lock');
const RELEASE = step('vfio_iommu_type1_release', 'op');

export type GroupType = 'iommu' | 'emulated' | 'noiommu';

/** vfio_iommu_type1_attach_group. Errors: EBUSY, EINVAL, EPERM, and whatever attaching and replaying give. */
export function* attachGroup(
  iommu: VfioIommu,
  module: VfioModule,
  group: IommuGroup,
  type: GroupType,
): Steps<Errno | null> {
  module.allowUnsafeInterrupts.willRead(LOCK);
  yield iommu.acquire(LOCK);
  const refused = joinable(iommu, group);
  if (refused !== null || type === 'emulated') {
    if (refused === null) iommu.emulatedGroups.value = [group, ...iommu.emulatedGroups.value];
    iommu.lock.releaseNow();
    return refused;
  }
  const unsafe = !module.allowUnsafeInterrupts.value && !group.isolatedMsi;
  const errno = yield* call(attachHardware(iommu, module, group, unsafe));
  if (errno !== null) {
    yield iommu.will(DONE);
    iommu.lock.releaseNow();
  }
  return errno;
}

/** Attaching could need the addresses of entries to pin them (until 6.2 it waited for them then); no group is in twice. */
function joinable(iommu: VfioIommu, group: IommuGroup): Errno | null {
  if (iommu.vaddrInvalidCount.value > 0 && iommu.core.kernel.way('type1.invalid-vaddr') === 'refuse') return 'EBUSY';
  const groups = [...iommu.domains.value.flatMap((domain) => domain.groups), ...iommu.emulatedGroups.value];
  return groups.includes(group) ? 'EINVAL' : null;
}

function* attachHardware(
  iommu: VfioIommu,
  module: VfioModule,
  group: IommuGroup,
  unsafe: boolean,
): Steps<Errno | null> {
  const { core } = iommu;
  const device = group.devices[0];
  if (device === undefined) return 'ENODEV';
  // iommu_enable_nesting
  if (iommu.nesting && !group.driver.nests) return 'EINVAL';
  if (iommu.nesting && core.kernel.has('iommu.smmu-domain-made-for-device')) return 'EPERM';
  const { process } = core.current;
  const domain = new IommuDomain(core, {
    name: `${iommu.name} domain ${process.name}#${process.nextNumber()}`,
    type: 'unmanaged',
    driver: group.driver,
    unit: device.unit,
    ...(group.tablePages === undefined ? {} : { tablePages: group.tablePages }),
  });
  const attached = yield* call(group.attach(domain));
  if (attached !== null) return attached;
  yield iommu.will(CHECK);
  const windows = newWindows(iommu, group, domain);
  if (windows === null || unsafe) {
    yield* call(group.detach());
    return windows === null ? 'EINVAL' : 'EPERM';
  }
  const coherent = blocksNoSnoop(group);
  const shared = yield* call(shareDomain(iommu, group, domain, coherent, windows));
  if (shared !== 'own') return shared;
  const fgsp = yield* call(testFgsp(iommu, domain, windows));
  const replayed = yield* call(replay(iommu, module, domain, group));
  if (replayed !== null) {
    yield* call(group.detach());
    return replayed;
  }
  yield iommu.will(DONE);
  const own = new VfioDomain({ domain, groups: [group], enforceCacheCoherency: coherent, fgsp });
  finishAttach(iommu, [own, ...iommu.domains.value], windows);
  return null;
}

function newWindows(iommu: VfioIommu, group: IommuGroup, domain: IommuDomain): readonly IovaWindow[] | null {
  const beyond = apertureConflict(iommu, domain.endPage);
  if (beyond !== null) {
    const what = `vfio_iommu_aper_conflict: the IOMMU of ${group.name} reaches IOVAs below ${hexBytes(BigInt(domain.endPage) << 12n)} only`;
    if (beyond !== 'disjoint') tellAttach(iommu, group, beyond, refuse('EINVAL', what, 'mappings below that address'));
    return null;
  }
  const conflict = reservedConflict(iommu, group.reserved);
  if (conflict !== null) {
    const { kind, firstPage, pages } = conflict.region;
    const range = `${hexBytes(BigInt(firstPage) << 12n)}..${hexBytes(BigInt(firstPage + pages) << 12n)}`;
    const what = `vfio_iommu_resv_conflict: the ${kind} window ${range} of ${group.name} lies in the mapping`;
    tellAttach(iommu, group, conflict.dma, refuse('EINVAL', what, 'no mapping there before the group joins'));
    return null;
  }
  const windows = excludeReserved(resizeAperture(iommu.windows.value, domain.endPage), group.reserved);
  return windows.length === 0 ? null : windows;
}

/** enforce_cache_coherency */
function blocksNoSnoop(group: IommuGroup): boolean {
  const { blocksNoSnoop: when } = group.driver;
  return when === 'always' || (when === 'unit' && group.devices.every((device) => device.unit.snoopControl));
}

/** Try the domains there are: same driver, same coherency. `own`: none would have the group. */
function* shareDomain(
  iommu: VfioIommu,
  group: IommuGroup,
  own: IommuDomain,
  coherent: boolean,
  windows: readonly IovaWindow[],
): Steps<Errno | null | 'own'> {
  for (const [i, other] of iommu.domains.peek().entries()) {
    if (other.domain.driver !== own.driver || other.enforceCacheCoherency !== coherent) continue;
    yield* call(group.detach());
    if ((yield* call(group.attach(other.domain))) === null) {
      yield iommu.will(DONE);
      const joined = other.withGroups([group, ...other.groups]);
      finishAttach(
        iommu,
        iommu.domains.value.map((domain, at) => (at === i ? joined : domain)),
        windows,
      );
      return null;
    }
    const back = yield* call(group.attach(own));
    if (back !== null) return back;
  }
  return 'own';
}

function finishAttach(iommu: VfioIommu, domains: readonly VfioDomain[], windows: readonly IovaWindow[]): void {
  iommu.domains.value = domains;
  iommu.windows.value = windows;
  iommu.numNonPinnedGroups.value += 1;
  iommu.lock.releaseNow();
}

/** vfio_test_domain_fgsp: map 8 KiB, unmap 4 KiB, and see whether more than that vanishes. */
function* testFgsp(iommu: VfioIommu, domain: IommuDomain, windows: readonly IovaWindow[]): Steps<boolean> {
  if (!iommu.core.kernel.has('type1.fine-superpage-probe')) return false;
  // Only the first window that is large enough is tried. Any two frames do: nobody accesses them.
  const at = windows.map((window) => ({ start: window.first + (window.first % 2), last: window.last }));
  const room = at.find(({ start, last }) => start < last && last - start >= 2);
  if (room === undefined) return false;
  const request = { page: room.start, pfn: iommu.core.zeroPfn, pages: 2, prot: IO_READ | IO_WRITE };
  if ((yield* call(iommuMap(domain, request))) !== null) return false;
  if ((yield* call(iommuUnmap(domain, room.start, 1))) > 1) return true;
  yield* call(iommuUnmap(domain, room.start + 1, 1));
  return false;
}

/** vfio_iommu_type1_detach_group: the device is cut off first, then its pages are unpinned. */
export function* detachGroup(iommu: VfioIommu, group: IommuGroup): Steps<void> {
  yield iommu.acquire(DETACH);
  if (iommu.emulatedGroups.value.includes(group)) {
    iommu.emulatedGroups.value = iommu.emulatedGroups.value.filter((other) => other !== group);
    if (iommu.emulatedGroups.value.length === 0 && iommu.domains.value.length === 0) yield* call(removeAllDma(iommu));
    yield iommu.will(DETACHED);
    iommu.lock.releaseNow();
    return;
  }
  const owner = iommu.domains.value.find((domain) => domain.groups.includes(group));
  if (owner === undefined) {
    iommu.lock.releaseNow();
    return;
  }
  yield* call(group.detach());
  yield iommu.will(LEAVE);
  const left = owner.withGroups(owner.groups.filter((other) => other !== group));
  iommu.domains.value = iommu.domains.value.map((domain) => (domain === owner ? left : domain));
  const empty = left.groups.length === 0;
  if (empty && iommu.domains.value.length === 1) {
    if (iommu.emulatedGroups.value.length === 0) yield* call(removeAllDma(iommu));
    else yield* call(reaccount(iommu));
  } else if (empty) yield* call(freeDomain(iommu, left.domain));
  yield iommu.will(DETACHED);
  if (empty) iommu.domains.value = iommu.domains.value.filter((domain) => domain !== left);
  iommu.windows.value = refreshedWindows(iommu.windows.value, iommu.domains.value, empty) ?? iommu.windows.value;
  // A group that never pinned leaves: what it wrote would be forgotten with it.
  iommu.numNonPinnedGroups.value -= 1;
  if (iommu.dirtyPageTracking.value && iommu.core.kernel.has('type1.dirty-detach-sets-all')) dirtyAll(iommu);
  iommu.lock.releaseNow();
}

/** One domain of several: the others still map what it does, which stays pinned. */
function* freeDomain(iommu: VfioIommu, domain: IommuDomain): Steps<void> {
  for (const dma of iommu.held.entries) {
    if (!dma.fields.iommuMapped) continue;
    yield willLookAtViews(iommu, dma, FREE);
    removeView(iommu, domain, dma);
    yield* call(iommuDomainFree(domain, dma.iova, dma.pages));
  }
}

/** vfio_iommu_unmap_unpin_all */
function* removeAllDma(iommu: VfioIommu): Steps<void> {
  for (const { iova } of iommu.held.entries) yield* call(removeDma(iommu, iova));
}

/** vfio_iommu_unmap_unpin_reaccount: the hardware is gone, emulated devices keep what they pinned. */
function* reaccount(iommu: VfioIommu): Steps<void> {
  for (const dma of iommu.held.entries) {
    const unpinned = yield* call(unmapUnpin(iommu, dma.iova, false));
    const external = dma.fields.pfnList.filter((pin) => !isInvalidReserved(iommu.core, pin.pfn)).length;
    yield* call(lockAcct(iommu, dma.iova, external - unpinned, true));
  }
}

/** vfio_iommu_type1_release: the last group is gone, or SET_IOMMU failed. Nobody else can reach it any more. */
export function* releaseIommu(iommu: VfioIommu): Steps<void> {
  yield* call(removeAllDma(iommu));
  for (const { groups } of iommu.domains.peek()) for (const group of groups) yield* call(group.detach());
  yield iommu.will(RELEASE);
  iommu.emulatedGroups.value = [];
  iommu.domains.value = [];
  iommu.windows.value = [];
}
