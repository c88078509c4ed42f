// iommu_group: the devices that cannot be told apart, their domain, and who owns their DMA (drivers/iommu/iommu.c).
import { Cell } from '../engine/cell.ts';
import { hashText, mix } from '../engine/hash.ts';
import { Mutex } from '../engine/lock.ts';
import { call, type Steps } from '../engine/process.ts';
import { step } from '../engine/step.ts';
import type { DmaDevice } from '../hw/dma-device.ts';
import { QueueCommand } from '../hw/iommu-queue.ts';
import type { Translation } from '../hw/iommu-unit.ts';
import type { CoreMm } from '../mm/core.ts';
import type { Errno } from '../mm/errno.ts';
import type { IommuDomain } from './domain.ts';
import type { IommuDriver, ReservedRegion } from './driver.ts';

const LOCK = step('iommu_group:mutex', 'lock');
const ADD_TAG = step('attach_dev:add-cache-tag', 'op');
const SET_ENTRY = step('attach_dev:device-entry', 'op');
const CLEAR_ENTRY = step('detach_dev:device-entry', 'op');
const FLUSH = step('detach_dev:flush-caches', 'iotlb');
const DROP_TAG = step('detach_dev:remove-cache-tag', 'op');

/** What a group's devices translate through: a domain, its default (DMA API), or nothing. */
export type GroupDomain = IommuDomain | 'default' | 'blocked';

export interface IommuGroupOptions {
  readonly name: string;
  readonly driver: IommuDriver;
  readonly devices: readonly DmaDevice[];
  /** Reserved windows beyond those that its IOMMU driver names. */
  readonly reserved?: readonly ReservedRegion[];
  /** MSIs are isolated (interrupt remapping). Default: yes. */
  readonly isolatedMsi?: boolean;
  /** Table pages that a domain of VFIO or iommufd for it may use (memory cgroup); undefined: no limit. */
  readonly tablePages?: number;
  /** A host driver other than vfio-pci is bound to one of its devices. */
  readonly hostDriver?: boolean;
  /** Domain of the DMA API; null: identity (iommu.passthrough, or no IOMMU use by the host). */
  readonly defaultDomain?: IommuDomain | null;
}

export class IommuGroup {
  readonly core: CoreMm;
  readonly name: string;
  readonly identity: number;
  readonly driver: IommuDriver;
  readonly devices: readonly DmaDevice[];
  readonly reserved: readonly ReservedRegion[];
  readonly isolatedMsi: boolean;
  readonly tablePages: number | undefined;
  readonly defaultDomain: IommuDomain | null;
  readonly mutex: Mutex;
  readonly domain: Cell<GroupDomain>;
  /** Who owns the group's DMA: a name, `host driver`, or null. Part of the group under its mutex. */
  readonly owner: Cell<string | null>;

  constructor(core: CoreMm, options: IommuGroupOptions) {
    this.core = core;
    this.name = options.name;
    this.identity = mix(hashText(options.name), 0x67727570);
    this.driver = options.driver;
    this.devices = options.devices;
    this.reserved = [...options.driver.reserved, ...(options.reserved ?? [])];
    this.isolatedMsi = options.isolatedMsi ?? true;
    this.tablePages = options.tablePages;
    this.defaultDomain = options.defaultDomain ?? null;
    this.mutex = new Mutex(core.sim, `mutex of ${options.name}`);
    this.domain = new Cell<GroupDomain>(core.sim, `domain of ${options.name}`, 'default', this.mutex);
    this.owner = new Cell<string | null>(
      core.sim,
      `DMA owner of ${options.name}`,
      options.hostDriver === true ? 'host driver' : null,
      this.mutex,
    );
    // Probing has put the devices into their default domain before anything runs.
    for (const device of this.devices) {
      if (this.defaultDomain === null) continue;
      const tag = this.defaultDomain.tagNow(device.unit);
      tag.iotlb.devices.value = [...tag.iotlb.devices.value, device];
      device.entry.value = tag;
    }
  }

  /** iommu_group_dma_owner_claimed. Looks without a step: who decides by it announces reading `owner`. */
  get claimed(): boolean {
    return this.owner.peek() !== null;
  }

  /** iommu_group_claim_dma_owner: exclusive; the devices can reach nothing from then on. */
  *claimOwner(owner: string): Steps<Errno | null> {
    yield this.mutex.lock(LOCK);
    if (this.owner.value !== null) return yield* call(this.unlock('EPERM' as const));
    if (this.domain.value !== 'default') return yield* call(this.unlock('EBUSY' as const));
    yield* call(this.setDomain('blocked'));
    yield this.mutex.willChange(LOCK);
    this.owner.value = owner;
    this.mutex.releaseNow();
    return null;
  }

  /** iommu_group_release_dma_owner: back to the default domain. */
  *releaseOwner(): Steps<void> {
    yield this.mutex.lock(LOCK);
    yield* call(this.setDomain('default'));
    yield this.mutex.willChange(LOCK);
    this.owner.value = null;
    this.mutex.releaseNow();
  }

  /** iommu_attach_group */
  *attach(domain: IommuDomain): Steps<Errno | null> {
    yield this.mutex.lock(LOCK);
    const now = this.domain.value;
    if (now !== 'default' && now !== 'blocked') return yield* call(this.unlock('EBUSY' as const));
    // A domain wider than the IOMMU of the device cannot be used there (prepare_domain_attach_device).
    const fits = this.devices.every((d) => domain.endPage <= this.driver.aperturePages(d.unit.addressBits));
    if (domain.driver !== this.driver || !fits) return yield* call(this.unlock('EINVAL' as const));
    yield* call(this.setDomain(domain));
    return yield* call(this.unlock(null));
  }

  /** iommu_detach_group: blocked while somebody owns the DMA, else the default domain. */
  *detach(): Steps<void> {
    yield this.mutex.lock(LOCK);
    yield* call(this.setDomain(this.owner.peek() === null ? 'default' : 'blocked'));
    yield* call(this.unlock(null));
  }

  private *unlock<T extends Errno | null>(result: T): Steps<T> {
    yield this.mutex.unlock(LOCK);
    return result;
  }

  /** __iommu_group_set_domain: device by device. DMA sees the old domain, nothing, or the new one. */
  private *setDomain(to: GroupDomain): Steps<void> {
    const target = to === 'default' ? this.defaultDomain : to === 'blocked' ? 'blocked' : to;
    for (const device of this.devices) {
      yield* call(leaveDomain(device));
      if (target === null || target === 'blocked') {
        if (target === null) yield* call(setEntry(device, 'identity'));
      } else yield* call(enterDomain(device, target));
    }
    yield this.mutex.willChange(SET_ENTRY);
    this.domain.value = to;
  }
}

/** The tag joins the domain's flushes before the device can translate through it. */
function* enterDomain(device: DmaDevice, domain: IommuDomain): Steps<void> {
  const tag = yield* call(domain.tagFor(device.unit));
  yield tag.iotlb.devices.willUpdate(ADD_TAG);
  tag.iotlb.devices.value = [...tag.iotlb.devices.value, device];
  yield* call(setEntry(device, tag));
}

function* setEntry(device: DmaDevice, to: Translation | 'identity' | null): Steps<void> {
  yield device.entry.willWrite(SET_ENTRY);
  device.entry.value = to;
}

function* invalidateAll({ iotlb, queue }: Translation): Steps<void> {
  if (queue === null) {
    yield iotlb.willInvalidate(0, Number.POSITIVE_INFINITY, FLUSH);
    iotlb.invalidate(0, Number.POSITIVE_INFINITY);
    return;
  }
  yield queue.willAppend(FLUSH);
  queue.append(QueueCommand.invalidate(iotlb, 0, Number.POSITIVE_INFINITY));
  yield queue.wait(queue.appendWait(), FLUSH);
}

/** Block the device, flush what was cached through it, and only then leave the domain's flushes. */
function* leaveDomain(device: DmaDevice): Steps<void> {
  yield device.entry.willUpdate(CLEAR_ENTRY);
  const before = device.entry.value;
  device.entry.value = null;
  if (before === null || before === 'identity') return;
  yield* call(invalidateAll(before));
  yield before.iotlb.devices.willUpdate(DROP_TAG);
  before.iotlb.devices.value = before.iotlb.devices.value.filter((other) => other !== device);
}
