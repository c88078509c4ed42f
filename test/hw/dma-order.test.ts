// Where an access in flight stands to an invalidation: the orders are played by hand, step by step.
import { expect, test } from 'vitest';
import { call } from '../../src/engine/process.ts';
import { type DmaResult, dmaRead } from '../../src/hw/dma-device.ts';
import { IO_READ } from '../../src/hw/io-entry.ts';
import { Gather, iommuMap, iommuUnmapFast, iotlbSync } from '../../src/iommu/map.ts';
import { makeDevice, makeIoWorld } from '../support/io-world.ts';
import { actor, run } from '../support/world.ts';

function race(drains: boolean) {
  const world = makeIoWorld('vtd', { unit: { drains } });
  const { sim, task, domain } = world;
  const device = makeDevice(world, 'edu', 1000);
  run(world, task, () => iommuMap(domain, { page: 16, pfn: 2000, pages: 1, prot: IO_READ }));
  let result: DmaResult | undefined;
  const dma = actor(world, task, 'dma', function* () {
    result = yield* call(dmaRead(device, 16));
  });
  const unmap = actor(world, task, 'unmap', function* () {
    const gather = new Gather();
    yield* call(iommuUnmapFast(domain, 16, 1, gather));
    yield* call(iotlbSync(domain, gather));
  });
  const until = (process: typeof dma, label: string) => {
    while (process.announced.step.label !== label) sim.act(process);
  };
  return { sim, dma, unmap, until, result: () => result, iotlb: domain.tags.peek()[0]!.iotlb };
}

test('an invalidation waits for translated accesses in flight', () => {
  const { sim, dma, unmap, until } = race(true);
  until(dma, 'dma:in-flight');
  until(unmap, 'iotlb_sync:invalidate');
  expect(unmap.enabled).toBe(false);
  while (dma.state !== 'ended') sim.act(dma);
  expect(unmap.enabled).toBe(true);
});

test('without draining, the access in flight comes after the invalidation, and a walk overtaken by it is not cached', () => {
  const { sim, dma, unmap, until, result, iotlb } = race(false);
  until(dma, 'dma:iotlb-fill');
  while (unmap.state !== 'ended') sim.act(unmap);
  while (dma.state !== 'ended') sim.act(dma);
  expect(result()).toEqual({ token: 0, fault: null });
  expect(iotlb.entries.peek()).toEqual([]);
});
