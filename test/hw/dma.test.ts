import { expect, test } from 'vitest';
import { call } from '../../src/engine/process.ts';
import { step } from '../../src/engine/step.ts';
import { dmaRead, dmaWrite } from '../../src/hw/dma-device.ts';
import { FRAME_ACCESS, type FrameAccess } from '../../src/hw/frames.ts';
import { IO_READ, IO_WRITE } from '../../src/hw/io-entry.ts';
import { IO_FAULT, type IoFault } from '../../src/hw/iommu-unit.ts';
import { Gather, iommuMap, iommuUnmap, iommuUnmapFast, iotlbSync } from '../../src/iommu/map.ts';
import { makeDevice, makeIoWorld } from '../support/io-world.ts';
import { tokenOf } from '../support/tokens.ts';
import { run } from '../support/world.ts';

const RW = IO_READ | IO_WRITE;
const PFN = 2000;

test('a device reads and writes the frame behind its IOVA', () => {
  const world = makeIoWorld();
  const device = makeDevice(world, 'edu');
  world.core.frames.content.set(PFN, tokenOf('A'));
  const seen = run(world, world.task, function* () {
    yield* call(iommuMap(world.domain, { page: 16, pfn: PFN, pages: 1, prot: RW }));
    const before = yield* call(dmaRead(device, 16));
    const written = yield* call(dmaWrite(device, 16, tokenOf('D')));
    return { before, written };
  });
  expect(seen.before).toEqual({ token: tokenOf('A'), fault: null });
  expect(seen.written.fault).toBeNull();
  expect(world.core.frames.content.peek(PFN)).toBe(tokenOf('D'));
});

test('a write to an unmapped IOVA is dropped, a read gives zeroes, and each leaves one record', () => {
  const world = makeIoWorld();
  const device = makeDevice(world, 'edu');
  const faults: IoFault[] = [];
  world.sim.on(IO_FAULT, (fault) => faults.push(fault));
  const seen = run(world, world.task, function* () {
    const written = yield* call(dmaWrite(device, 5, tokenOf('B')));
    return [written, yield* call(dmaRead(device, 6))];
  });
  expect(seen).toEqual([
    { token: 0, fault: 'not-present' },
    { token: 0, fault: 'not-present' },
  ]);
  expect(faults.map((f) => [f.page, f.write])).toEqual([
    [5, true],
    [6, false],
  ]);
  expect(world.unit.faultCount.peek()).toBe(2);
});

test('fault records beyond what the hardware holds are lost, and counted', () => {
  const world = makeIoWorld('vtd', { unit: { faultRecords: 1 } });
  const device = makeDevice(world, 'edu');
  run(world, world.task, function* () {
    for (let page = 0; page < 3; page++) yield* call(dmaRead(device, page));
  });
  expect(world.unit.faults.peek()).toHaveLength(1);
  expect(world.unit.faultCount.peek()).toBe(3);
});

test.each([
  ['vtd', true],
  ['smmu', true],
  ['s390', true],
  ['amd', false],
] as const)('%s: a WRITE-only mapping is readable by the device: %s', (driver, readable) => {
  const world = makeIoWorld(driver);
  const device = makeDevice(world, 'edu');
  world.core.frames.content.set(PFN, tokenOf('A'));
  const seen = run(world, world.task, function* () {
    yield* call(iommuMap(world.domain, { page: 16, pfn: PFN, pages: 1, prot: IO_WRITE }));
    return yield* call(dmaRead(device, 16));
  });
  expect(seen).toEqual(readable ? { token: tokenOf('A'), fault: null } : { token: 0, fault: 'no-permission' });
});

test('a write through a READ-only mapping changes nothing', () => {
  const world = makeIoWorld();
  const device = makeDevice(world, 'edu');
  const seen = run(world, world.task, function* () {
    yield* call(iommuMap(world.domain, { page: 16, pfn: PFN, pages: 1, prot: IO_READ }));
    return yield* call(dmaWrite(device, 16, tokenOf('B')));
  });
  expect(seen.fault).toBe('no-permission');
  expect(world.core.frames.content.peek(PFN)).toBe(0);
});

test('the IOTLB keeps a translation that is gone from the page table until it is invalidated', () => {
  const world = makeIoWorld();
  const device = makeDevice(world, 'edu');
  const accesses: FrameAccess[] = [];
  world.sim.on(FRAME_ACCESS, (access) => accesses.push(access));
  const seen = run(world, world.task, function* () {
    yield* call(iommuMap(world.domain, { page: 16, pfn: PFN, pages: 1, prot: RW }));
    yield* call(dmaRead(device, 16));
    const gather = new Gather();
    const gone = yield* call(iommuUnmapFast(world.domain, 16, 1, gather));
    const stale = yield* call(dmaWrite(device, 16, tokenOf('late')));
    yield* call(iotlbSync(world.domain, gather));
    return { gone, stale, after: yield* call(dmaRead(device, 16)) };
  });
  expect(seen.gone).toBe(1);
  expect(seen.stale.fault).toBeNull();
  expect(seen.after.fault).toBe('not-present');
  expect(accesses.map((a) => [a.pfn, a.write, a.through])).toEqual([
    [PFN, false, 'iotlb'],
    [PFN, true, 'iotlb'],
  ]);
});

test('an access through an entry made before the frame was freed says so', () => {
  const world = makeIoWorld();
  const device = makeDevice(world, 'edu');
  const accesses: FrameAccess[] = [];
  world.sim.on(FRAME_ACCESS, (access) => accesses.push(access));
  run(world, world.task, function* () {
    yield* call(iommuMap(world.domain, { page: 16, pfn: PFN, pages: 1, prot: RW }));
    yield world.core.frames.willRelease(PFN, 0, step('test:free', 'none'));
    world.core.frames.release(PFN, 0, 'test');
    yield* call(dmaRead(device, 16));
    yield* call(dmaRead(device, 16));
  });
  expect(accesses.map((a) => [a.madeFor, a.generation])).toEqual([
    [0, 1],
    [0, 1],
  ]);
});

test('translations of a frame count its page-table and IOTLB entries', () => {
  const world = makeIoWorld();
  const device = makeDevice(world, 'edu');
  const { translations } = world.core.frames;
  const counts: number[] = [];
  run(world, world.task, function* () {
    yield* call(iommuMap(world.domain, { page: 16, pfn: PFN, pages: 2, prot: RW }));
    counts.push(translations.peek(PFN));
    yield* call(dmaRead(device, 16));
    counts.push(translations.peek(PFN));
    yield* call(iommuUnmap(world.domain, 16, 2));
    counts.push(translations.peek(PFN), translations.peek(PFN + 1));
  });
  expect(counts).toEqual([1, 2, 0, 0]);
});

test('a 2 MiB leaf over frames of different ages remembers each of them', () => {
  const world = makeIoWorld();
  const device = makeDevice(world, 'edu');
  const accesses: FrameAccess[] = [];
  world.sim.on(FRAME_ACCESS, (access) => accesses.push(access));
  const { frames } = world.core;
  frames.release(2048 + 7, 0, 'earlier life');
  run(world, world.task, function* () {
    yield* call(iommuMap(world.domain, { page: 512, pfn: 2048, pages: 512, prot: RW }));
    for (const page of [512, 519]) yield* call(dmaRead(device, page));
    yield frames.willRelease(2048 + 8, 0, step('test:free', 'none'));
    frames.release(2048 + 8, 0, 'test');
    for (const page of [519, 520]) yield* call(dmaRead(device, page));
  });
  expect(world.domain.table.peekLeaf(520)).toMatchObject({ order: 9, pfn: 2048, mixed: true });
  expect(accesses.map((a) => a.madeFor === a.generation)).toEqual([true, true, true, false]);
});

test('bus mastering off: the device issues nothing', () => {
  const world = makeIoWorld();
  const device = makeDevice(world, 'edu');
  device.busMaster.value = false;
  expect(run(world, world.task, () => dmaRead(device, 1)).fault).toBe('blocked');
  expect(world.unit.faultCount.peek()).toBe(0);
});
