// BARs in user space and under type1: rows of the conformance table for raw mappings.
import { describe, expect, test } from 'vitest';
import { call, type Steps } from '../../src/engine/process.ts';
import { dmaRead } from '../../src/hw/dma-device.ts';
import { FRAME_ACCESS, FRAME_RELEASED, type FrameAccess } from '../../src/hw/frames.ts';
import { cpuAccess } from '../../src/mm/fault/access.ts';
import { munmap } from '../../src/mm/mapping/mmap.ts';
import { mprotect } from '../../src/mm/mapping/mprotect.ts';
import { fput } from '../../src/mm/process/exit.ts';
import { vfioBarAccess, vfioMmapBar, vfioSetAccess } from '../../src/vfio/bar.ts';
import { tokenOf } from '../support/tokens.ts';
import {
  barOf,
  fail,
  IOVA0,
  type Lab,
  makeLab,
  makeStation,
  mapMemory,
  type Opened,
  openStation,
  PAGE,
  play,
  READ,
  RW,
  type Station,
  vfMap,
  vfUnmap,
  vmlck,
} from '../support/vfio-world.ts';
import { actor } from '../support/world.ts';

const PAGES = 16;
const first = Number(IOVA0 / PAGE);

function lab6(kernel = 'v6.12.117', virtualFunction = false) {
  const lab = makeLab({ kernel });
  const bar = barOf(lab, PAGES);
  const station = makeStation(lab, 'edu', { bar, virtualFunction });
  return { lab, bar, station };
}

function* openBar(lab: Lab, station: Station): Steps<Opened & { readonly vpn: number }> {
  const opened = yield* call(openStation(lab, station, 'container0'));
  const mapped = yield* call(vfioMmapBar(opened.deviceFile, { index: 0 }));
  return 'vpn' in mapped ? { ...opened, vpn: mapped.vpn } : fail(mapped);
}

const frame = (lab: Lab, vpn: number) => lab.task.mm.peek()!.pageTable.peekFrame(vpn);

test('mmap of a BAR: private, absent or beyond its end is EINVAL; no entry is made before a touch', () => {
  const { lab, station } = lab6();
  const seen = play(lab, function* () {
    const { deviceFile, vpn } = yield* call(openBar(lab, station));
    const errors = [];
    for (const request of [{ index: 0, private: true }, { index: 1 }, { index: 0, offset: 8, pages: 9 }]) {
      errors.push(yield* call(vfioMmapBar(deviceFile, request)));
    }
    return {
      errors,
      before: frame(lab, vpn),
      read: yield* call(cpuAccess(lab.core, vpn, null)),
      after: frame(lab, vpn),
    };
  });
  expect(seen.errors).toEqual([{ errno: 'EINVAL' }, { errno: 'EINVAL' }, { errno: 'EINVAL' }]);
  expect(seen.before).toBe(0);
  expect(seen.read).toEqual({ token: 0 });
  expect(seen.after).toBe(barOf(lab, PAGES).firstPfn);
});

test('memory decoding off: entries go, a touch is SIGBUS, read() is EIO; on again: absent until the next touch', () => {
  const { lab, station, bar } = lab6();
  const { device } = station;
  const seen = play(lab, function* () {
    const { vpn } = yield* call(openBar(lab, station));
    const touch = () => cpuAccess(lab.core, vpn, { token: tokenOf('cpu') });
    yield* call(touch());
    yield* call(vfioSetAccess(device, 'memory', false));
    const log: unknown[] = [frame(lab, vpn), yield* call(touch()), yield* call(vfioBarAccess(device, bar, 0, null))];
    yield* call(vfioSetAccess(device, 'memory', true));
    log.push(frame(lab, vpn), yield* call(vfioBarAccess(device, bar, 0, null)));
    yield* call(touch());
    log.push(frame(lab, vpn));
    return log;
  });
  expect(seen).toEqual([0, { signal: 'SIGBUS' }, { errno: 'EIO' }, 0, { token: tokenOf('cpu') }, bar.firstPfn]);
});

test('a virtual function ignores the memory bit, but not its power state', () => {
  const { lab, station } = lab6('v6.12.117', true);
  const { device } = station;
  const seen = play(lab, function* () {
    const { vpn } = yield* call(openBar(lab, station));
    yield* call(vfioSetAccess(device, 'memory', false));
    const on = yield* call(cpuAccess(lab.core, vpn, null));
    yield* call(vfioSetAccess(device, 'power', false));
    return [on, yield* call(cpuAccess(lab.core, vpn, null))];
  });
  expect(seen).toEqual([{ token: 0 }, { signal: 'SIGBUS' }]);
});

describe.each(['v6.1.192', 'v6.12.117'] as const)('type1 maps a BAR, %s', (kernel) => {
  test('it is faulted in, neither pinned nor charged, and unmapped without unpinning', () => {
    const { lab, station, bar } = lab6(kernel);
    const { vmstat, folios } = lab.core;
    const seen = play(lab, function* () {
      const { container, vpn } = yield* call(openBar(lab, station));
      const mapped = yield* call(vfMap(container, vpn, IOVA0, PAGES));
      const found = {
        kb: vmlck(lab.task),
        refs: folios.refcount.peek(bar.firstPfn),
        released: vmstat.peek('nr_foll_pin_released'),
      };
      const unmapped = yield* call(vfUnmap(container, IOVA0, BigInt(PAGES) * PAGE));
      return { mapped, found, unmapped, released: vmstat.peek('nr_foll_pin_released') };
    });
    expect(seen).toEqual({
      mapped: 'ok',
      found: { kb: 0, refs: 0, released: 0 },
      unmapped: ['ok', PAGES * 4096],
      released: 0,
    });
  });

  test('half memory, half BAR in one call: only the memory is charged', () => {
    const { lab, station } = lab6(kernel);
    const seen = play(lab, function* () {
      const { container, deviceFile, vpn } = yield* call(openBar(lab, station));
      const low = yield* call(vfioMmapBar(deviceFile, { index: 0, pages: 4, at: vpn - 64, fixed: true }));
      if (!('vpn' in low)) fail(low);
      const memory = yield* call(mapAt(lab, vpn - 68, 4));
      return [yield* call(vfMap(container, memory, IOVA0, 8)), vmlck(lab.task)];
    });
    expect(seen).toEqual(['ok', 16]);
  });

  test('a BAR that is switched off cannot be mapped', () => {
    const { lab, station } = lab6(kernel);
    const seen = play(lab, function* () {
      const { container, vpn } = yield* call(openBar(lab, station));
      yield* call(vfioSetAccess(station.device, 'memory', false));
      return yield* call(vfMap(container, vpn, IOVA0, PAGES));
    });
    expect(seen).toBe('EFAULT');
  });

  test('a read-only mapping of a BAR is for READ only', () => {
    const { lab, station } = lab6(kernel);
    const seen = play(lab, function* () {
      const { container, vpn } = yield* call(openBar(lab, station));
      yield* call(mprotect(lab.core, vpn, PAGES, { read: true, write: false, exec: false }));
      return [yield* call(vfMap(container, vpn, IOVA0, 1, RW)), yield* call(vfMap(container, vpn, IOVA0, 1, READ))];
    });
    expect(seen).toEqual(['EFAULT', 'ok']);
  });

  test('the IOMMU entry outlives munmap and switching off, and is found stale', () => {
    const { lab, station, bar } = lab6(kernel);
    const accesses: FrameAccess[] = [];
    const latent: number[] = [];
    lab.sim.on(FRAME_ACCESS, (access) => access.through === 'iotlb' && accesses.push(access));
    lab.sim.on(FRAME_RELEASED, (released) => released.pfn === bar.firstPfn && latent.push(released.translations));
    play(lab, function* () {
      const { container, vpn, dma } = yield* call(openBar(lab, station));
      yield* call(vfMap(container, vpn, IOVA0, PAGES));
      yield* call(munmap(lab.core, vpn, PAGES));
      yield* call(dmaRead(dma, first));
      yield* call(vfioSetAccess(station.device, 'memory', false));
      yield* call(dmaRead(dma, first));
    });
    expect(accesses.map((a) => [a.pfn, a.madeFor === a.generation])).toEqual([
      [bar.firstPfn, true],
      [bar.firstPfn, false],
    ]);
    // One IO page-table entry and one IOTLB entry still lead there.
    expect(latent).toEqual([2]);
  });
});

/** MAP of one BAR page, stopped before the `nth` step of that label; then the BAR is switched off; then it goes on. */
function interrupted(label: string, nth: number) {
  const { lab, station } = lab6();
  const { sim } = lab;
  const accesses: FrameAccess[] = [];
  sim.on(FRAME_ACCESS, (access) => access.through === 'iotlb' && accesses.push(access));
  const opened = play(lab, () => openBar(lab, station));
  let result: string | undefined;
  const map = actor(lab, lab.task, 'map', function* () {
    result = yield* call(vfMap(opened.container, opened.vpn, IOVA0, 1));
    yield* call(dmaRead(opened.dma, first));
  });
  for (let seen = 0; seen < nth; ) {
    if (map.announced.step.label === label && ++seen === nth) break;
    sim.act(map);
  }
  const off = actor(lab, lab.task, 'off', () => vfioSetAccess(station.device, 'memory', false));
  while (off.state !== 'ended') sim.act(off);
  while (map.state !== 'ended') sim.act(map);
  return { result, stale: accesses.map((a) => a.madeFor !== a.generation) };
}

test('a zap between the fault and the second look-up: MAP fails with EINVAL', () => {
  expect(interrupted('follow_pfnmap_start', 2)).toEqual({ result: 'EINVAL', stale: [] });
});

test('a zap after the frame number was copied: MAP succeeds with an entry that is stale before it exists', () => {
  expect(interrupted('iommu_map:write-entries', 1)).toEqual({ result: 'ok', stale: [true] });
});

test('closing container, group and device while a BAR is mapped keeps mappings, pins and charge until the munmap', () => {
  const { lab, station } = lab6();
  const seen = play(lab, function* () {
    const opened = yield* call(openBar(lab, station));
    const p = yield* call(mapAt(lab, 4096, 4));
    yield* call(vfMap(opened.container, p, IOVA0, 4));
    for (const file of [opened.containerFile, opened.groupFile, opened.deviceFile]) yield* call(fput(file));
    const kept = [vmlck(lab.task), (yield* call(dmaRead(opened.dma, first))).fault];
    yield* call(munmap(lab.core, opened.vpn, PAGES));
    return kept;
  });
  expect(seen).toEqual([16, null]);
  expect(vmlck(lab.task)).toBe(0);
  expect(station.device.openCount.peek()).toBe(0);
  expect(station.iommuGroup.claimed).toBe(false);
});

function* mapAt(lab: Lab, at: number, pages: number): Steps<number> {
  return yield* call(mapMemory(lab, { pages, at, fixed: true }));
}
