// Worlds with IOMMUs and DMA devices, for tests.
import { DmaDevice } from '../../src/hw/dma-device.ts';
import { IommuUnit, type IommuUnitOptions } from '../../src/hw/iommu-unit.ts';
import { type DomainOptions, IommuDomain } from '../../src/iommu/domain.ts';
import { type DriverName, iommuDriver } from '../../src/iommu/driver.ts';
import type { Task } from '../../src/mm/process/task.ts';
import { makeTask, makeWorld, type TestWorld, type WorldOptions } from './world.ts';

export interface IoWorld extends TestWorld {
  readonly task: Task;
  readonly unit: IommuUnit;
  readonly domain: IommuDomain;
}

/** A world with one IOMMU, one unmanaged domain of its driver, and a root task. */
export function makeIoWorld(
  driver: DriverName = 'vtd',
  options: WorldOptions & { unit?: Partial<IommuUnitOptions>; domain?: Partial<DomainOptions> } = {},
): IoWorld {
  const world = makeWorld(options);
  const unit = makeUnit(world, 'iommu0', options.unit);
  const domain = new IommuDomain(world.core, {
    name: 'domain0',
    type: 'unmanaged',
    driver: iommuDriver(driver),
    unit,
    ...options.domain,
  });
  return { ...world, task: makeTask(world, 'root'), unit, domain };
}

export function makeUnit(world: TestWorld, name: string, options: Partial<IommuUnitOptions> = {}): IommuUnit {
  const { folios, frames } = world.core;
  return new IommuUnit(world.sim, frames, folios, { name, ...options });
}

/** A device that already translates through `domain` (no group, no steps). */
export function makeDevice(world: IoWorld, name: string, lateNs?: number): DmaDevice {
  const device = new DmaDevice(world.sim, world.unit, { name, ...(lateNs === undefined ? {} : { lateNs }) });
  let tag = world.domain.tags.peek()[0];
  if (tag === undefined) {
    tag = world.unit.newTranslation(world.domain.name, world.domain.table);
    world.domain.tags.value = [tag];
  }
  tag.iotlb.devices.value = [...tag.iotlb.devices.value, device];
  device.entry.value = tag;
  return device;
}
