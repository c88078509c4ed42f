// Pages that emulated devices pin through a container (vfio_iommu_type1.c vfio_iommu_type1_pin_pages, _unpin_pages,
// vfio_notify_dma_unmap): one page at a time, recorded in the entry. UNMAP asks the devices to let go before it removes an
// entry. Without a hardware domain these pins are what is charged.
import { call, type Steps } from '../engine/process.ts';
import { step } from '../engine/step.ts';
import { until } from '../engine/wait.ts';
import type { Errno } from '../mm/errno.ts';
import { mmgetNotZero, mmput } from '../mm/process/exit.ts';
import { lockAcct } from './account.ts';
import type { VfioDma } from './dma.ts';
import type { UnmapListener, VfioIommu } from './iommu.ts';
import { isInvalidReserved, putPfns, vaddrGetPfns } from './pin.ts';

const PIN = step('vfio_iommu_type1_pin_pages:lock', 'lock');
const SLEEP = step('vfio_wait', 'none');
const AGAIN = step('vfio_wait:lock', 'lock');
const RECORD = step('vfio_add_to_pfn_list', 'op');
const PINNED = step('vfio_iommu_type1_pin_pages:unlock', 'lock');
const UNPIN = step('vfio_iommu_type1_unpin_pages:lock', 'lock');
const UNPINNED = step('vfio_iommu_type1_unpin_pages:unlock', 'lock');
const REGISTER_LOCK = step('vfio_iommu_type1_register_device:iommu-lock', 'lock');
const REGISTER = step('vfio_iommu_type1_register_device:device_list_lock', 'lock');
const UNREGISTER_LOCK = step('vfio_iommu_type1_unregister_device:iommu-lock', 'lock');
const UNREGISTER = step('vfio_iommu_type1_unregister_device:device_list_lock', 'lock');
const LIST = step('vfio_notify_dma_unmap:device_list_lock', 'lock');
const CHAIN = step('vfio_notify_dma_unmap:rwsem', 'lock');
const DROP = step('vfio_notify_dma_unmap:iommu-unlock', 'lock');
const ENTRY = step('vfio_notify_dma_unmap:entry', 'op');
const UNLIST = step('vfio_notify_dma_unmap:device_list_unlock', 'lock');
const RELOCK = step('vfio_notify_dma_unmap:iommu-lock', 'lock');
const BUG = step('vfio_dma_do_unmap:BUG_ON', 'none');

/** vfio_iommu_type1_register_device: the list is changed with both locks held, so that either is enough to read it. */
export function* registerDevice(iommu: VfioIommu, device: UnmapListener): Steps<void> {
  yield iommu.acquire(REGISTER_LOCK);
  iommu.deviceList.willUpdate(REGISTER);
  iommu.lock.willChange(REGISTER);
  yield iommu.deviceListLock.lock(REGISTER);
  iommu.deviceList.value = [device, ...iommu.deviceList.value];
  iommu.deviceListLock.releaseNow();
  iommu.lock.releaseNow();
}

/** vfio_iommu_type1_unregister_device */
export function* unregisterDevice(iommu: VfioIommu, device: UnmapListener): Steps<void> {
  yield iommu.acquire(UNREGISTER_LOCK);
  iommu.deviceList.willUpdate(UNREGISTER);
  iommu.lock.willChange(UNREGISTER);
  yield iommu.deviceListLock.lock(UNREGISTER);
  iommu.deviceList.value = iommu.deviceList.value.filter((other) => other !== device);
  iommu.deviceListLock.releaseNow();
  iommu.lock.releaseNow();
}

/**
 * vfio_pin_pages of one page: its frame. EACCES: a container of type 1; EBUSY: addresses are invalid; EINVAL: no entry, no
 * device to be told of its end, or no struct page; EPERM: the entry does not allow it; EFAULT, ENOMEM: as for MAP_DMA.
 */
export function* vfioPinPage(iommu: VfioIommu, iova: number, prot: number): Steps<{ readonly pfn: number } | Errno> {
  if (!iommu.v2) return 'EACCES';
  iommu.deviceList.willRead(PIN);
  yield iommu.acquire(PIN);
  const result = yield* call(pinLocked(iommu, iova, prot));
  yield iommu.will(PINNED);
  iommu.lock.releaseNow();
  return result;
}

function* pinLocked(iommu: VfioIommu, iova: number, prot: number): Steps<{ readonly pfn: number } | Errno> {
  const { core } = iommu;
  const listeners = iommu.deviceList.value.length;
  if (core.kernel.way('type1.invalid-vaddr') === 'refuse') {
    if (iommu.vaddrInvalidCount.value > 0) return 'EBUSY';
  } else {
    const errno = yield* call(waitValid(iommu, iova));
    if (errno !== null) return errno;
  }
  if (listeners === 0) return 'EINVAL';
  yield iommu.will(RECORD);
  const dma = iommu.findDma(iova, 1);
  if (dma === undefined) return 'EINVAL';
  if ((dma.fields.prot & prot) !== prot) return 'EPERM';
  const known = dma.fields.pfnList.find((pin) => pin.iova === iova);
  if (known !== undefined) {
    setPins(iommu, dma.iova, (pins) => pins.map((p) => (p === known ? { ...p, refCount: p.refCount + 1 } : p)));
    return { pfn: known.pfn };
  }
  const pfn = yield* call(pinExternal(iommu, dma, iova));
  if (typeof pfn === 'string') return pfn;
  // pfn_valid: raw frames (a BAR) were neither counted nor charged.
  if (!core.machine.hasStructPage(pfn) && core.kernel.has('type1.external-pin-refuses-pfnmap')) return 'EINVAL';
  yield iommu.will(RECORD);
  setPins(iommu, dma.iova, (pins) => [...pins, { iova, pfn, refCount: 1 }].sort((a, b) => a.iova - b.iova));
  setDirty(iommu, dma.iova, iova - dma.iova);
  return { pfn };
}

/**
 * vfio_find_dma_valid (5.12 to 6.2): sleep without the lock while the address of the entry is invalid. EINVAL: there is no
 * entry; EFAULT: killed, or the container is being closed.
 */
function* waitValid(iommu: VfioIommu, iova: number): Steps<Errno | null> {
  const { sim, current } = iommu.core;
  const { killed } = current.task;
  for (;;) {
    yield iommu.will(SLEEP);
    const dma = iommu.findDma(iova, 1);
    if (dma === undefined) return 'EINVAL';
    if (!dma.fields.vaddrInvalid) return null;
    iommu.lock.releaseNow();
    const valid = () => sim.unwatched(() => iommu.findDma(iova, 1))?.fields.vaddrInvalid !== true;
    const ready = () => killed.peek() || !iommu.containerOpen.peek() || valid();
    yield until(sim, [iommu.dmaList, iommu.containerOpen, killed], ready, SLEEP, {
      name: `a valid address in ${iommu.name}`,
    });
    const over = killed.value || !iommu.containerOpen.value;
    yield iommu.acquire(AGAIN);
    if (over) return 'EFAULT';
  }
}

/** vfio_pin_page_external */
function* pinExternal(iommu: VfioIommu, dma: VfioDma, iova: number): Steps<number | Errno> {
  const { core } = iommu;
  const { mm, vaddr } = dma.fields;
  if (!(yield* call(mmgetNotZero(mm)))) return 'ENODEV';
  const got = yield* call(vaddrGetPfns(iommu, dma, mm, vaddr + (iova - dma.iova), 1));
  let result: number | Errno;
  if ('errno' in got) result = got.errno;
  else {
    const { pfn } = got.runs[0]!;
    result = pfn;
    if (iommu.domains.peek().length === 0 && !isInvalidReserved(core, pfn)) {
      const refused = yield* call(lockAcct(iommu, dma.iova, 1, false));
      if (refused !== null) {
        yield* call(putPfns(iommu, dma, [{ pfn, pages: 1 }]));
        result = refused.errno;
      }
    }
  }
  yield* call(mmput(core, mm));
  return result;
}

/** vfio_unpin_pages of one page; nothing when it is not pinned. */
export function* vfioUnpinPage(iommu: VfioIommu, iova: number): Steps<void> {
  yield iommu.acquire(UNPIN);
  const dma = iommu.findDma(iova, 1);
  const pin = dma?.fields.pfnList.find((other) => other.iova === iova);
  if (dma !== undefined && pin !== undefined) {
    const last = pin.refCount === 1;
    setPins(iommu, dma.iova, (pins) =>
      last ? pins.filter((p) => p !== pin) : pins.map((p) => (p === pin ? { ...p, refCount: p.refCount - 1 } : p)),
    );
    if (last) {
      const unpinned = yield* call(putPfns(iommu, dma, [{ pfn: pin.pfn, pages: 1 }]));
      if (iommu.domains.peek().length === 0) yield* call(lockAcct(iommu, dma.iova, -unpinned, true));
    }
  }
  yield iommu.will(UNPINNED);
  iommu.lock.releaseNow();
}

/** A page that was pinned while tracking counts as written until the bitmap has been read after its unpin. */
function setDirty(iommu: VfioIommu, iova: number, offset: number): void {
  const dma = iommu.entry(iova);
  const { bitmap } = dma.fields;
  if (bitmap === null || bitmap === 'all' || bitmap.includes(offset)) return;
  iommu.dmaList.set(iova, dma.with({ bitmap: [...bitmap, offset].sort((a, b) => a - b) }));
}

/** In a step that announced the entries. */
function setPins(
  iommu: VfioIommu,
  iova: number,
  change: (pins: VfioDma['fields']['pfnList']) => VfioDma['fields']['pfnList'],
): void {
  const dma = iommu.entry(iova);
  iommu.dmaList.set(iova, dma.with({ pfnList: change(dma.fields.pfnList) }));
}

/**
 * vfio_notify_dma_unmap: every device is to unpin what it has in the entry; iommu.lock is dropped meanwhile, for unpinning
 * takes it. Since 6.0 the entry itself is looked at for each device, and the lock of the list is taken before iommu.lock
 * is dropped.
 */
export function* notifyDmaUnmap(iommu: VfioIommu, dma: VfioDma): Steps<void> {
  const { iova, pages } = dma;
  const list = iommu.core.kernel.way('type1.notify') === 'list';
  if (list) {
    iommu.deviceList.willRead(LIST);
    iommu.lock.willChange(LIST);
    yield iommu.deviceListLock.lock(LIST);
    iommu.lock.releaseNow();
  } else {
    iommu.deviceList.willRead(DROP);
    yield iommu.lock.unlock(DROP);
    yield* call(iommu.notifierLock.read(CHAIN));
  }
  for (const device of iommu.deviceList.peek()) {
    if (list) yield* call(readEntry(iommu, dma, device));
    yield* call(device.dmaUnmap(iommu, iova, pages));
  }
  if (list) yield iommu.deviceListLock.unlock(UNLIST);
  else yield iommu.notifierLock.up(UNLIST);
  yield iommu.acquire(RELOCK);
}

/** dma->iova and dma->size for the next device, without iommu.lock: is it still the entry that it was? */
function* readEntry(iommu: VfioIommu, dma: VfioDma, device: UnmapListener): Steps<void> {
  const { sim, current } = iommu.core;
  yield iommu.dmaList.willRead(ENTRY);
  if (iommu.dmaList.get(dma.iova)?.fields.owner === dma.fields.owner) return;
  sim.report({
    kind: 'use-after-free',
    message: `vfio_notify_dma_unmap by ${current.process.name} reads the freed entry at IOVA page ${dma.iova} of ${iommu.name} to tell ${device.name} of its end`,
    reasons: [
      'iommu.lock was dropped for the devices before, and another UNMAP_DMA found no pins left and freed the entry',
    ],
    actors: [current.process.name],
    objects: [dma.fields.owner],
    steps: [],
    details: { device: device.name },
    identity: 'use-after-free|vfio_notify_dma_unmap|vfio_dma',
  });
}

/** BUG_ON(++retries > 10): the thread dies with iommu.lock held. */
export function* tooManyRetries(iommu: VfioIommu, dma: VfioDma, retries: number): Steps<void> {
  const { sim, current } = iommu.core;
  sim.report({
    kind: 'livelock',
    message: `UNMAP_DMA by ${current.process.name} has asked ${retries} times for the pins at IOVA page ${dma.iova} of ${iommu.name}, and there are pins again: kernel BUG at drivers/vfio/vfio_iommu_type1.c`,
    reasons: [
      'a device pins the page again while iommu.lock is dropped to tell the devices; nothing keeps it from that',
    ],
    actors: [current.process.name],
    objects: [dma.fields.owner],
    steps: [],
    details: { retries },
    identity: 'livelock|vfio_dma_do_unmap|retries',
  });
  yield until(sim, [], () => false, BUG, { name: 'kernel BUG at drivers/vfio/vfio_iommu_type1.c' });
}
