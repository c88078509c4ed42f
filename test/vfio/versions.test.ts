// What older kernels did, and why a group may not join: behaviours that the recorded kernels do not show.
import { expect, test } from 'vitest';
import { call, type Steps } from '../../src/engine/process.ts';
import { dmaRead } from '../../src/hw/dma-device.ts';
import { DmaCookie } from '../../src/iommu/dma-api.ts';
import { IommuDomain } from '../../src/iommu/domain.ts';
import { iommuDriver } from '../../src/iommu/driver.ts';
import { PIN_REFUSED, type PinRefused } from '../../src/mm/ledger.ts';
import { exec } from '../../src/mm/process/exec.ts';
import { VfioContainer, vfioIommuInfo, vfioSetIommu } from '../../src/vfio/container.ts';
import { vfioGroupOpen, vfioGroupSetContainer } from '../../src/vfio/group.ts';
import { makeUnit } from '../support/io-world.ts';
import {
  containerFile,
  deviceReads,
  fail,
  IOVA0,
  type Lab,
  makeLab,
  makeStation,
  mapMemory,
  openStation,
  PAGE,
  play,
  READ,
  type Station,
  touch,
  vfMap,
  vfUnmap,
  vmlck,
} from '../support/vfio-world.ts';
import { makeTask } from '../support/world.ts';

function* join(lab: Lab, station: Station, container: VfioContainer): Steps<string> {
  const file = yield* call(vfioGroupOpen(station.group));
  if (typeof file === 'string') fail(file);
  return yield* call(vfioGroupSetContainer(station.group, containerFile(lab, container)));
}

test.each([
  ['v5.15', 1024 * 4],
  ['v6.1.192', 0],
  ['v6.12.117', 0],
] as const)('READ maps of untouched memory leave %s with %i references too many on the zero page', (kernel, leaked) => {
  const lab = makeLab({ kernel, params: { thp: 'never' } });
  const station = makeStation(lab, 'edu');
  const { folios, zeroPfn } = lab.core;
  const seen = play(lab, function* () {
    const { container } = yield* call(openStation(lab, station, 'container0'));
    const p = yield* call(mapMemory(lab, { pages: 4 }));
    const before = folios.refcount.peek(zeroPfn);
    yield* call(vfMap(container, p, IOVA0, 4, READ));
    yield* call(vfUnmap(container, IOVA0, 4n * PAGE));
    return folios.refcount.peek(zeroPfn) - before;
  });
  expect(seen).toBe(leaked);
});

test('before 6.1 a process could not unmap what another had mapped: 0 bytes, no errno', () => {
  const lab = makeLab({ kernel: 'v5.15' });
  const station = makeStation(lab, 'edu');
  const { container } = play(lab, () => openStation(lab, station, 'container0'));
  play(lab, function* () {
    return yield* call(vfMap(container, yield* call(mapMemory(lab, { pages: 2 })), IOVA0, 2));
  });
  expect(play(lab, () => vfUnmap(container, IOVA0, 2n * PAGE), makeTask(lab, 'other'))).toEqual(['ok', 0]);
  expect(play(lab, () => vfUnmap(container, IOVA0, 2n * PAGE))).toEqual(['ok', 8192]);
});

test.each([
  ['v5.15', -8],
  ['v6.12.117', 0],
] as const)('after exec, %s gives the charge of an old mapping back to the new mm: %i kB', (kernel, kb) => {
  const lab = makeLab({ kernel });
  const station = makeStation(lab, 'edu');
  const seen = play(lab, function* () {
    const { container } = yield* call(openStation(lab, station, 'container0'));
    yield* call(vfMap(container, yield* call(mapMemory(lab, { pages: 2 })), IOVA0, 2));
    yield* call(exec(lab.core));
    const unmapped = yield* call(vfUnmap(container, IOVA0, 2n * PAGE));
    return [unmapped, vmlck(lab.task)];
  });
  expect(seen).toEqual([['ok', 8192], kb]);
});

test('before 5.12 there was neither UNMAP ALL nor a replacement of addresses', () => {
  const lab = makeLab({ kernel: 'v5.10' });
  const station = makeStation(lab, 'edu');
  const seen = play(lab, function* () {
    const { container } = yield* call(openStation(lab, station, 'container0'));
    return [(yield* call(vfUnmap(container, 0n, 0n, 2)))[0], yield* call(vfMap(container, 1, IOVA0, 1, 4))];
  });
  expect(seen).toEqual(['EINVAL', 'EINVAL']);
});

test.each([
  ['v5.10', 0xfffffffffffff000n],
  ['v5.15', 0x40201000n],
])('page sizes of a VT-d container on %s', (kernel, pgsizes) => {
  const lab = makeLab({ kernel });
  const station = makeStation(lab, 'edu');
  const info = play(lab, function* () {
    const { container } = yield* call(openStation(lab, station, 'container0'));
    return yield* call(vfioIommuInfo(container, {}));
  });
  expect(info).toMatchObject({ iovaPgsizes: pgsizes });
});

test('pages are pinned one by one before 5.12: every run is one page', () => {
  const lab = makeLab({ kernel: 'v5.10', params: { thp: 'never' } });
  const station = makeStation(lab, 'edu');
  const labels: string[] = [];
  play(lab, function* () {
    const { container } = yield* call(openStation(lab, station, 'container0'));
    const p = yield* call(mapMemory(lab, { pages: 4 }));
    yield* call(touch(lab, p, 4));
    lab.sim.observer = { stepActed: (process) => labels.push(process.acted.step.label) };
    yield* call(vfMap(container, p, IOVA0, 4));
  });
  expect(labels.filter((label) => label === 'vaddr_get_pfns:mmap_read_lock')).toHaveLength(4);
});

function refusals(lab: Lab): PinRefused[] {
  const seen: PinRefused[] = [];
  lab.sim.on(PIN_REFUSED, (refused) => seen.push(refused));
  return seen;
}

test('a group that cannot join says which window lies in which mapping', () => {
  const lab = makeLab();
  const one = makeStation(lab, 'edu');
  const two = makeStation(lab, 'gpu', { reserved: [{ kind: 'direct', firstPage: Number(IOVA0 / PAGE), pages: 16 }] });
  const seen = refusals(lab);
  play(lab, function* () {
    const { container } = yield* call(openStation(lab, one, 'container0'));
    yield* call(vfMap(container, yield* call(mapMemory(lab, { pages: 1 })), IOVA0, 1));
    return yield* call(join(lab, two, container));
  });
  expect(seen).toHaveLength(1);
  expect(seen[0]).toMatchObject({ errno: 'EINVAL', who: 'vfio_iommu_type1_attach_group by root', pages: 1 });
  expect(seen[0]!.reasons).toEqual([
    'group of gpu joins container0, asked by root: its mapping of 0x10000000 (1 pages)',
    'vfio_iommu_resv_conflict: the direct window 0x10000000..0x10010000 of group of gpu lies in the mapping',
  ]);
});

test('an IOMMU of 39 bits cannot join a container with a mapping at 2^40', () => {
  const lab = makeLab({ unit: { addressBits: 48 } });
  const one = makeStation(lab, 'edu');
  const two = makeStation(lab, 'igd', { unit: makeUnit(lab, 'dmar1', { addressBits: 39 }) });
  const seen = refusals(lab);
  play(lab, function* () {
    const { container } = yield* call(openStation(lab, one, 'container0'));
    yield* call(vfMap(container, yield* call(mapMemory(lab, { pages: 1 })), 1n << 40n, 1));
    return yield* call(join(lab, two, container));
  });
  expect(seen.map((r) => r.reasons.at(-1))).toEqual([
    'vfio_iommu_aper_conflict: the IOMMU of group of igd reaches IOVAs below 0x8000000000 only',
  ]);
});

test('pinning for the first hardware group can hit the limit, with the limit that would have sufficed', () => {
  const lab = makeLab({ task: { capabilities: [], memlockBytes: 4 * 4096 } });
  const mdev = makeStation(lab, 'mdev', { type: 'emulated' });
  const edu = makeStation(lab, 'edu');
  const seen = refusals(lab);
  play(lab, function* () {
    const container = new VfioContainer(lab.core, lab.module, 'container0');
    yield* call(join(lab, mdev, container));
    yield* call(vfioSetIommu(container, 3));
    const p = yield* call(mapMemory(lab, { pages: 8 }));
    yield* call(vfMap(container, p, IOVA0, 3));
    yield* call(vfMap(container, p, IOVA0 + (1n << 20n), 3));
    return yield* call(join(lab, edu, container));
  });
  expect(seen[0]!.details).toMatchObject({ 'limit-bytes': 16384, 'charged-bytes': 12288, 'needed-bytes': 24576 });
  expect(vmlck(lab.task)).toBe(0);
});

test('a device of a host driver translates through its DMA-API domain, and through nothing once VFIO owns it', () => {
  const lab = makeLab();
  const driver = iommuDriver('vtd');
  const domain = new IommuDomain(lab.core, { name: 'dma domain of nic', type: 'dma', driver, unit: lab.unit });
  const cookie = new DmaCookie(domain);
  const station = makeStation(lab, 'nic', { defaultDomain: domain });
  const seen = play(lab, function* () {
    const mapped = yield* call(cookie.map(2000, 1, 3));
    if ('errno' in mapped) fail(mapped);
    const iova = BigInt(mapped.page) * PAGE;
    const before = yield* call(deviceReads(station.dma, iova));
    const container = new VfioContainer(lab.core, lab.module, 'container0');
    yield* call(join(lab, station, container));
    return [before, (yield* call(dmaRead(station.dma, mapped.page))).fault];
  });
  expect(seen).toEqual([0, 'blocked']);
});
