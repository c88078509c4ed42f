// Queued invalidation: what is in the queue has not happened yet.
import { expect, test } from 'vitest';
import { call } from '../../src/engine/process.ts';
import { dmaRead } from '../../src/hw/dma-device.ts';
import { IommuDomain } from '../../src/iommu/domain.ts';
import type { DriverName } from '../../src/iommu/driver.ts';
import { iommuDriver } from '../../src/iommu/driver.ts';
import { iommuMap, iommuUnmap } from '../../src/iommu/map.ts';
import { makeDevice, makeIoWorld } from '../support/io-world.ts';
import { actor, run } from '../support/world.ts';

/** One IOMMU, two domains with a device each, a page mapped and cached in both. */
function setUp(driver: DriverName, kernel: string) {
  const world = makeIoWorld(driver, { kernel, unit: { queued: true } });
  const { sim, core, unit, domain, task } = world;
  const other = new IommuDomain(core, { name: 'domain1', type: 'unmanaged', driver: iommuDriver(driver), unit });
  const device = makeDevice(world, 'nic0');
  const otherDevice = makeDevice({ ...world, domain: other }, 'nic1');
  run(world, task, function* () {
    for (const [where, from] of [
      [domain, device],
      [other, otherDevice],
    ] as const) {
      yield* call(iommuMap(where, { page: 16, pfn: where === domain ? 2000 : 2001, pages: 1, prot: 3 }));
      yield* call(dmaRead(from, 16));
    }
  });
  const unmapper = (name: string, where: IommuDomain) =>
    actor(world, task, name, function* () {
      yield* call(iommuUnmap(where, 16, 1));
    });
  const one = unmapper('cpu0', domain);
  const two = unmapper('cpu1', other);
  const until = (process: typeof one, label: string) => {
    while (process.announced.step.label !== label) sim.act(process);
  };
  const hardware = sim.processes.find(({ name }) => name === 'queue of iommu0')!;
  const cached = () => other.tags.peek()[0]!.iotlb.entries.peek().length;
  return { sim, one, two, until, hardware, cached };
}

test('VT-d: unmap returns only when hardware has executed its own wait', () => {
  const { sim, two, until, hardware, cached } = setUp('vtd', 'v6.12.117');
  until(two, 'qi_submit_sync:wait');
  expect([two.enabled, cached()]).toEqual([false, 1]);
  while (hardware.announced.step.label !== 'iommu-queue:idle' || hardware.enabled) sim.act(hardware);
  expect([two.enabled, cached()]).toEqual([true, 0]);
});

/** cpu1 queues its invalidation, cpu0's wait command clears need_sync, and cpu1 comes to look. */
function amdRace(kernel: string) {
  const world = setUp('amd', kernel);
  const { sim, one, two, until } = world;
  until(two, 'iommu_completion_wait');
  until(one, 'wait_on_sem');
  sim.act(two);
  return world;
}

test('AMD before the fix: a wait that another CPU has queued counts as done, and unmap returns over a live entry', () => {
  const { two, cached } = amdRace('v6.12.90');
  expect(two.state).toBe('ended');
  expect(cached()).toBe(1);
});

test('AMD: a wait that another CPU has queued is waited for', () => {
  const { sim, two, hardware, cached } = amdRace('v6.12.117');
  expect([two.state, two.enabled]).toEqual(['live', false]);
  while (hardware.announced.step.label !== 'iommu-queue:idle' || hardware.enabled) sim.act(hardware);
  expect([two.enabled, cached()]).toEqual([true, 0]);
});
