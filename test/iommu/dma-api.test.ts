// Strict and lazy DMA-API domains: rows 42 to 45 of the IOMMU conformance table.

import { expect, test } from 'vitest';
import { call } from '../../src/engine/process.ts';
import { step } from '../../src/engine/step.ts';
import { dmaRead } from '../../src/hw/dma-device.ts';
import { DmaCookie, defaultDomainType } from '../../src/iommu/dma-api.ts';
import { Kernel } from '../../src/kernel/kernel.ts';
import { type IoWorld, makeDevice, makeIoWorld } from '../support/io-world.ts';
import { actor, run } from '../support/world.ts';

const AT = step('test:later', 'none');

function lazyWorld(type: 'dma' | 'dma-fq', shared = false): IoWorld & { readonly cookie: DmaCookie } {
  const world = makeIoWorld('vtd', { domain: { type } });
  return { ...world, cookie: new DmaCookie(world.domain, { sharedQueue: shared }) };
}

test('x86 is lazy by default, and strict where the option says so', () => {
  expect(defaultDomainType(new Kernel('v6.12.117'))).toBe('dma-fq');
  expect(defaultDomainType(new Kernel('v6.12.117', { config: { IOMMU_DEFAULT_DMA_LAZY: 'n' } }))).toBe('dma');
});

test('lazy: after unmap the device reaches the page until the queue times out after 10 ms', () => {
  const world = lazyWorld('dma-fq');
  const device = makeDevice(world, 'nic');
  const seen = run(world, world.task, function* () {
    const mapped = yield* call(world.cookie.map(2000, 1, 3));
    if ('errno' in mapped) throw new Error(mapped.errno);
    yield* call(dmaRead(device, mapped.page));
    yield* call(world.cookie.unmap(mapped.page, 1));
    const during = yield* call(dmaRead(device, mapped.page));
    yield world.sim.sleep(9_000_000, AT);
    const still = yield* call(dmaRead(device, mapped.page));
    yield world.sim.sleep(2_000_000, AT);
    return [during.fault, still.fault, (yield* call(dmaRead(device, mapped.page))).fault, world.cookie.queue!.waiting];
  });
  expect(seen).toEqual([null, null, 'not-present', 0]);
});

test('strict: after unmap the device is blocked, and the IOVA is free at once', () => {
  const world = lazyWorld('dma');
  const device = makeDevice(world, 'nic');
  const seen = run(world, world.task, function* () {
    const mapped = yield* call(world.cookie.map(2000, 1, 3));
    if ('errno' in mapped) throw new Error(mapped.errno);
    yield* call(dmaRead(device, mapped.page));
    yield* call(world.cookie.unmap(mapped.page, 1));
    const again = yield* call(world.cookie.map(2001, 1, 3));
    return [(yield* call(dmaRead(device, mapped.page + 1))).fault, again, mapped];
  });
  expect(seen[0]).toBe('not-present');
  expect(seen[1]).toEqual(seen[2]);
});

test('the 256th pending unmap of a CPU flushes the domain at once', () => {
  const world = lazyWorld('dma-fq');
  const { queue } = world.cookie;
  const seen = run(world, world.task, function* () {
    const pages: number[] = [];
    for (let i = 0; i < 256; i++) {
      const mapped = yield* call(world.cookie.map(2000 + i, 1, 3));
      if ('errno' in mapped) throw new Error(mapped.errno);
      pages.push(mapped.page);
    }
    for (const page of pages.slice(0, 255)) yield* call(world.cookie.unmap(page, 1));
    const before = [queue!.waiting, queue!.flushFinish.peek()];
    yield* call(world.cookie.unmap(pages[255]!, 1));
    return [before, [queue!.waiting, queue!.flushFinish.peek()]];
  });
  expect(seen).toEqual([
    [255, 0],
    [1, 1],
  ]);
});

test('the IOVA of a queued entry is not handed out before its flush is over', () => {
  const world = lazyWorld('dma-fq');
  const seen = run(world, world.task, function* () {
    const first = yield* call(world.cookie.map(2000, 1, 3));
    if ('errno' in first) throw new Error(first.errno);
    yield* call(world.cookie.unmap(first.page, 1));
    const second = yield* call(world.cookie.map(2000, 1, 3));
    yield world.sim.sleep(20_000_000, AT);
    return [first, second, yield* call(world.cookie.map(2000, 1, 3))];
  });
  expect(seen[1]).not.toEqual(seen[0]);
  expect(seen[2]).toEqual(seen[0]);
});

test('an entry queued while a flush runs waits for the next one', () => {
  const world = lazyWorld('dma-fq');
  const { sim, task, cookie } = world;
  makeDevice(world, 'nic');
  const timer = sim.processes.find(({ name }) => name.startsWith('fq-timer'))!;
  const one = () =>
    function* () {
      const mapped = yield* call(cookie.map(2000, 1, 3));
      if ('page' in mapped) yield* call(cookie.unmap(mapped.page, 1));
    };
  const a = actor(world, task, 'a', one());
  while (a.state !== 'ended') sim.act(a);
  const upTo = (label: string) => {
    while (timer.announced.step.label !== label) sim.act(timer);
  };
  upTo('flush_iotlb_all:invalidate');
  const b = actor(world, task, 'b', one());
  while (b.state !== 'ended') sim.act(b);
  upTo('fq_flush_timeout:idle');
  expect(cookie.queue!.waiting).toBe(1);
  expect(timer.enabled).toBe(true);
});

test('one shared ring holds 32768 entries for a second, where kernel and driver have it', () => {
  const world = lazyWorld('dma-fq', true);
  const device = makeDevice(world, 'nic');
  const seen = run(world, world.task, function* () {
    const mapped = yield* call(world.cookie.map(2000, 1, 3));
    if ('errno' in mapped) throw new Error(mapped.errno);
    yield* call(dmaRead(device, mapped.page));
    yield* call(world.cookie.unmap(mapped.page, 1));
    yield world.sim.sleep(900_000_000, AT);
    const still = yield* call(dmaRead(device, mapped.page));
    yield world.sim.sleep(200_000_000, AT);
    return [still.fault, (yield* call(dmaRead(device, mapped.page))).fault];
  });
  expect(seen).toEqual([null, 'not-present']);
});
