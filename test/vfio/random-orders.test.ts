// Everything that may happen at once to one container, in random orders, in checked mode: no step touches what it did
// not announce, nobody waits for ever, and at the end no pin, charge or translation is left.
import { expect, test } from 'vitest';
import { call, type Process, type Steps } from '../../src/engine/process.ts';
import { dmaRead } from '../../src/hw/dma-device.ts';
import { DmaCookie } from '../../src/iommu/dma-api.ts';
import { IommuDomain } from '../../src/iommu/domain.ts';
import { iommuDriver } from '../../src/iommu/driver.ts';
import { mlock, munlock } from '../../src/mm/mapping/mlock.ts';
import { munmap } from '../../src/mm/mapping/mmap.ts';
import { fput } from '../../src/mm/process/exit.ts';
import { vfioMmapBar, vfioSetAccess } from '../../src/vfio/bar.ts';
import { VfioContainer, vfioIommuInfo, vfioSetIommu } from '../../src/vfio/container.ts';
import { vfioGroupGetDeviceFd } from '../../src/vfio/device.ts';
import { vfioGroupOpen, vfioGroupSetContainer, vfioGroupUnsetContainer } from '../../src/vfio/group.ts';
import { makeUnit } from '../support/io-world.ts';
import {
  barOf,
  containerFile,
  deviceReads,
  deviceWrites,
  fail,
  IOVA0,
  type Lab,
  makeLab,
  makeStation,
  mapMemory,
  openStation,
  PAGE,
  play,
  touch,
  vfMap,
  vfUnmap,
  vmlck,
} from '../support/vfio-world.ts';
import { actor, makeTask } from '../support/world.ts';

const ROUNDS = 60;

/** Act in a random order until the actors have ended and the daemons have nothing to do. */
function shuffle(lab: Lab, seed: number): void {
  const { sim } = lab;
  let state = seed + 1;
  const live = (process: Process) => process.state !== 'ended';
  for (;;) {
    const ready = sim.processes.filter((process) => live(process) && process.enabled);
    if (ready.length === 0) break;
    state = (state * 1103515245 + 12345) % 2147483648;
    sim.act(ready[(state >> 8) % ready.length]!);
  }
  const stuck = sim.processes.filter((process) => live(process) && !process.daemon);
  expect(stuck.map((process) => `${process.name} at ${process.announced.step.label}`)).toEqual([]);
}

function rounds(lab: Lab, check: () => void): void {
  lab.sim.mark();
  for (let seed = 0; seed < ROUNDS; seed++) {
    lab.sim.rewind();
    shuffle(lab, seed);
    check();
  }
}

function* page(lab: Lab, pages = 1): Steps<number> {
  const vpn = yield* call(mapMemory(lab, { pages, at: 4096 }));
  yield* call(touch(lab, vpn, pages));
  return vpn;
}

/** What an actor does whatever comes of it. */
function* ignore(body: Steps<unknown>): Steps<void> {
  yield* call(body);
}

/** Every pin taken was dropped, and nothing is charged. */
function clean(lab: Lab): void {
  const { vmstat } = lab.core;
  expect(vmstat.peek('nr_foll_pin_acquired')).toBe(vmstat.peek('nr_foll_pin_released'));
  expect(vmlck(lab.task)).toBe(0);
}

test.each([
  ['draining', { drains: true }],
  ['not draining', { drains: false }],
  ['queued', { queued: true }],
] as const)('late devices of one domain, %s', (_name, unit) => {
  const lab = makeLab({ unit, params: { thp: 'never' } });
  const one = makeStation(lab, 'edu', { lateNs: 100 });
  const two = makeStation(lab, 'edu2');
  const { container } = play(lab, () => openStation(lab, one, 'container0'));
  play(lab, function* () {
    const file = yield* call(vfioGroupOpen(two.group));
    if (typeof file === 'string') fail(file);
    yield* call(vfioGroupSetContainer(two.group, containerFile(lab, container)));
  });
  const p = play(lab, () => page(lab, 2));
  lab.sim.finishSetUp();
  actor(lab, lab.task, 'vmm', function* () {
    for (let i = 0; i < 2; i++) {
      yield* call(vfMap(container, p, IOVA0, 2));
      yield* call(vfUnmap(container, IOVA0, 2n * PAGE));
    }
  });
  for (const { dma } of [one, two]) {
    actor(lab, lab.task, dma.name, function* () {
      for (let i = 0; i < 3; i++) yield* call(deviceWrites(dma, IOVA0 + BigInt(i % 2) * PAGE, 'D'));
    });
  }
  rounds(lab, () => clean(lab));
});

test('a BAR that is mapped, switched off, unmapped and read at once', () => {
  const lab = makeLab();
  const station = makeStation(lab, 'edu', { bar: barOf(lab, 4) });
  const opened = play(lab, () => openStation(lab, station, 'container0'));
  const vpn = play(lab, function* () {
    const mapped = yield* call(vfioMmapBar(opened.deviceFile, { index: 0 }));
    return 'vpn' in mapped ? mapped.vpn : fail(mapped);
  });
  lab.sim.finishSetUp();
  actor(lab, lab.task, 'vmm', function* () {
    yield* call(vfMap(opened.container, vpn, IOVA0, 4));
    yield* call(vfUnmap(opened.container, IOVA0, 4n * PAGE));
  });
  actor(lab, lab.task, 'config', function* () {
    yield* call(vfioSetAccess(station.device, 'memory', false));
    yield* call(vfioSetAccess(station.device, 'memory', true));
  });
  actor(lab, lab.task, 'device', () => ignore(deviceReads(opened.dma, IOVA0)));
  actor(lab, lab.task, 'unmapper', () => ignore(munmap(lab.core, vpn, 4)));
  rounds(lab, () => clean(lab));
});

test('groups that join and leave while memory is mapped and accessed', () => {
  const lab = makeLab({ params: { thp: 'never' } });
  const one = makeStation(lab, 'edu');
  const two = makeStation(lab, 'gpu', { driver: iommuDriver('amd'), unit: makeUnit(lab, 'amdvi0') });
  const opened = play(lab, () => openStation(lab, one, 'container0'));
  const { container } = opened;
  const p = play(lab, () => page(lab));
  lab.sim.finishSetUp();
  actor(lab, lab.task, 'vmm', function* () {
    yield* call(vfMap(container, p, IOVA0, 1));
    yield* call(vfioIommuInfo(container, {}));
    yield* call(vfUnmap(container, IOVA0, PAGE));
  });
  actor(lab, lab.task, 'hotplug', function* () {
    const file = yield* call(vfioGroupOpen(two.group));
    if (typeof file === 'string') fail(file);
    yield* call(vfioGroupSetContainer(two.group, containerFile(lab, container)));
    const device = yield* call(vfioGroupGetDeviceFd(two.group, two.device));
    if (typeof device !== 'string') {
      yield* call(deviceReads(two.dma, IOVA0));
      yield* call(fput(device));
    }
    yield* call(vfioGroupUnsetContainer(two.group));
    yield* call(fput(file));
  });
  actor(lab, lab.task, 'device', () => ignore(deviceReads(opened.dma, IOVA0)));
  rounds(lab, () => clean(lab));
});

test('the last close against MAP, a device and a second close', () => {
  const lab = makeLab({ params: { thp: 'never' } });
  const station = makeStation(lab, 'edu');
  const opened = play(lab, () => openStation(lab, station, 'container0'));
  const p = play(lab, () => page(lab));
  lab.sim.finishSetUp();
  actor(lab, lab.task, 'vmm', function* () {
    yield* call(vfMap(opened.container, p, IOVA0, 1));
    yield* call(fput(opened.groupFile));
    yield* call(fput(opened.containerFile));
  });
  actor(lab, lab.task, 'closer', () => fput(opened.deviceFile));
  actor(lab, lab.task, 'device', function* () {
    for (let i = 0; i < 2; i++) yield* call(deviceReads(opened.dma, IOVA0));
  });
  rounds(lab, () => {
    clean(lab);
    expect(station.iommuGroup.claimed).toBe(false);
  });
});

test('two containers and mlock share one limit: nothing stays charged but what is locked', () => {
  const lab = makeLab({ task: { capabilities: [], memlockBytes: 4 * 4096 }, params: { thp: 'never' } });
  const stations = [makeStation(lab, 'edu'), makeStation(lab, 'edu2')];
  const containers = stations.map(
    (station, i) => play(lab, () => openStation(lab, station, `container${i}`)).container,
  );
  const p = play(lab, () => page(lab, 3));
  lab.sim.finishSetUp();
  for (const container of containers) {
    actor(lab, lab.task, `vmm ${container.name}`, function* () {
      if ((yield* call(vfMap(container, p, IOVA0, 3))) === 'ok') yield* call(vfUnmap(container, IOVA0, 3n * PAGE));
    });
  }
  actor(lab, lab.task, 'locker', function* () {
    if ((yield* call(mlock(lab.core, p, 1))) === 'ok') yield* call(munlock(lab.core, p, 1));
  });
  rounds(lab, () => clean(lab));
});

test('addresses change hands while DMA goes on', () => {
  const lab = makeLab({ params: { thp: 'never' } });
  const station = makeStation(lab, 'edu');
  const opened = play(lab, () => openStation(lab, station, 'container0'));
  const p = play(lab, () => page(lab));
  play(lab, () => vfMap(opened.container, p, IOVA0, 1));
  const next = makeTask(lab, 'next');
  lab.sim.finishSetUp();
  actor(lab, lab.task, 'old', () => ignore(vfUnmap(opened.container, IOVA0, PAGE, 4)));
  actor(lab, next, 'new', () => ignore(vfMap(opened.container, 4096, IOVA0, 1, 4)));
  actor(lab, lab.task, 'device', () => ignore(deviceReads(opened.dma, IOVA0)));
  rounds(lab, () => {
    expect(vmlck(lab.task) + vmlck(next)).toBe(4);
  });
});

test('the DMA API in lazy mode: unmaps of two CPUs, the timer, and a device', () => {
  const lab = makeLab();
  const driver = iommuDriver('vtd');
  const domain = new IommuDomain(lab.core, { name: 'dma domain', type: 'dma-fq', driver, unit: lab.unit });
  const cookie = new DmaCookie(domain);
  const station = makeStation(lab, 'nic', { defaultDomain: domain });
  lab.sim.finishSetUp();
  for (const name of ['cpu a', 'cpu b']) {
    actor(lab, lab.task, name, function* () {
      for (let i = 0; i < 2; i++) {
        const mapped = yield* call(cookie.map(2000 + i, 1, 3));
        if ('errno' in mapped) fail(mapped);
        yield* call(dmaRead(station.dma, mapped.page));
        yield* call(cookie.unmap(mapped.page, 1));
      }
    });
  }
  rounds(lab, () => {
    expect(cookie.queue!.waiting).toBe(0);
    expect([2000, 2001].map((pfn) => lab.core.frames.translations.peek(pfn))).toEqual([0, 0]);
  });
});

test('the first hardware group of an emulated container pins while the memory changes', () => {
  const lab = makeLab({ params: { thp: 'never' } });
  const mdev = makeStation(lab, 'mdev', { type: 'emulated' });
  const edu = makeStation(lab, 'edu');
  const container = new VfioContainer(lab.core, lab.module, 'container0');
  const p = play(lab, () => page(lab, 2));
  play(lab, function* () {
    const file = yield* call(vfioGroupOpen(mdev.group));
    if (typeof file === 'string') fail(file);
    yield* call(vfioGroupSetContainer(mdev.group, containerFile(lab, container)));
    yield* call(vfioSetIommu(container, 3));
    yield* call(vfMap(container, p, IOVA0, 2));
  });
  lab.sim.finishSetUp();
  actor(lab, lab.task, 'attach', function* () {
    const file = yield* call(vfioGroupOpen(edu.group));
    if (typeof file === 'string') fail(file);
    yield* call(vfioGroupSetContainer(edu.group, containerFile(lab, container)));
    yield* call(vfioGroupUnsetContainer(edu.group));
  });
  actor(lab, lab.task, 'unmapper', () => ignore(munmap(lab.core, p, 1)));
  actor(lab, lab.task, 'device', () => ignore(deviceReads(edu.dma, IOVA0)));
  rounds(lab, () => clean(lab));
});
