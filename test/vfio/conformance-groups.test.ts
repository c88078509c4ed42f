// Groups that join and leave containers, and tracking of dirty pages: rows of the type1 conformance table, and the
// recorded families type1/groups, type1/dirty and type1/dma.
//
// Over 400 lines: one table of rows, in the order of the reference.
import { describe, expect, test } from 'vitest';
import { call, type Steps } from '../../src/engine/process.ts';
import { FRAME_RELEASED } from '../../src/hw/frames.ts';
import { iommuDriver, type ReservedRegion } from '../../src/iommu/driver.ts';
import { OWNER_GONE, PIN_TAKEN } from '../../src/mm/ledger.ts';
import { munmap } from '../../src/mm/mapping/mmap.ts';
import { fput } from '../../src/mm/process/exit.ts';
import { lruAddDrainAll } from '../../src/mm/reclaim/lru.ts';
import { attachGroup } from '../../src/vfio/attach.ts';
import {
  VfioContainer,
  vfioIommuDirtyPages,
  vfioIommuInfo,
  vfioIommuUnmapDma,
  vfioSetIommu,
} from '../../src/vfio/container.ts';
import { vfioGroupOpen, vfioGroupSetContainer, vfioGroupUnsetContainer } from '../../src/vfio/group.ts';
import type { VfioIommu } from '../../src/vfio/iommu.ts';
import { makeUnit } from '../support/io-world.ts';
import { tokenOf } from '../support/tokens.ts';
import {
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
  READ,
  type Station,
  touch,
  vfMap,
  vfUnmap,
  vmlck,
  WRITE,
} from '../support/vfio-world.ts';
import { makeTask } from '../support/world.ts';

const iommuOf = (container: VfioContainer) => container.driver.peek() as VfioIommu;
const VADDR = 4;

function* join(lab: Lab, station: Station, container: VfioContainer): Steps<string> {
  const file = yield* call(vfioGroupOpen(station.group));
  if (typeof file === 'string') fail(file);
  return yield* call(vfioGroupSetContainer(station.group, containerFile(lab, container)));
}

describe.each(['v6.1.192', 'v6.12.117'] as const)('%s', (kernel) => {
  test('a second group shares the domain: no new pins, no new charge, and UNMAP hits both devices', () => {
    const lab = makeLab({ kernel });
    const one = makeStation(lab, 'edu');
    const two = makeStation(lab, 'edu2');
    let pins = 0;
    lab.sim.on(PIN_TAKEN, () => pins++);
    const seen = play(lab, function* () {
      const { container, dma, containerFile: file } = yield* call(openStation(lab, one, 'container0'));
      const p = yield* call(mapMemory(lab, { pages: 1 }));
      yield* call(touch(lab, p, 1, 'g'));
      yield* call(vfMap(container, p, IOVA0, 1));
      const before = pins;
      const joined = yield* call(join(lab, two, container));
      const domains = iommuOf(container).held.domains.length;
      const reads = yield* call(deviceReads(two.dma, IOVA0));
      yield* call(vfUnmap(container, IOVA0, PAGE));
      const blocked = [yield* call(deviceReads(two.dma, IOVA0)), yield* call(deviceReads(dma, IOVA0))];
      const third = yield* call(vfioGroupSetContainer(one.group, file));
      return { joined, pins: pins - before, domains, reads, blocked, third, kb: vmlck(lab.task) };
    });
    expect(seen).toEqual({
      joined: 'ok',
      pins: 0,
      domains: 1,
      reads: tokenOf('g'),
      blocked: ['blocked', 'blocked'],
      third: 'EINVAL',
      kb: 0,
    });
  });

  test('devices reach what is mapped as it is mapped, and nothing else', () => {
    const lab = makeLab({ kernel });
    const station = makeStation(lab, 'edu');
    const seen = play(lab, function* () {
      const { container, dma } = yield* call(openStation(lab, station, 'container0'));
      const p = yield* call(mapMemory(lab, { pages: 1 }));
      const log: unknown[] = [];
      for (const flags of [0, READ, WRITE, READ | WRITE, 0]) {
        yield* call(touch(lab, p, 1, 'A'));
        if (flags !== 0) yield* call(vfMap(container, p, IOVA0, 1, flags));
        const write = yield* call(deviceWrites(dma, IOVA0, 'B'));
        yield* call(touch(lab, p, 1, 'A'));
        const read = yield* call(deviceReads(dma, IOVA0));
        log.push([flags, write, read === tokenOf('A') ? 'A' : read]);
        if (flags !== 0) yield* call(vfUnmap(container, IOVA0, PAGE));
      }
      return log;
    });
    expect(seen).toEqual([
      [0, 'blocked', 'blocked'],
      [READ, 'blocked', 'A'],
      // VT-d: WRITE alone is readable.
      [WRITE, 'ok', 'A'],
      [READ | WRITE, 'ok', 'A'],
      [0, 'blocked', 'blocked'],
    ]);
  });

  test('dirty tracking: with a hardware group everything mapped is dirty', () => {
    const lab = makeLab({ kernel });
    const station = makeStation(lab, 'edu');
    const seen = play(lab, function* () {
      const { container, dma } = yield* call(openStation(lab, station, 'container0'));
      const p = yield* call(mapMemory(lab, { pages: 16 }));
      yield* call(vfMap(container, p, IOVA0, 4));
      const flag = (flags: number) => vfioIommuDirtyPages(container, { flags });
      const get = function* (iova: bigint, size: bigint, pgsize = PAGE, bytes = 8n) {
        const answer = yield* call(
          vfioIommuDirtyPages(container, { flags: 4, iova, size, bitmap: { pgsize, size: bytes } }),
        );
        return 'errno' in answer ? answer.errno : answer.dirty.reduce((sum, run) => sum + run.pages, 0);
      };
      const log: unknown[] = [];
      log.push(['get_before_start', yield* call(get(IOVA0, 4n * PAGE))]);
      for (const [name, flags] of [
        ['stop_before_start', 2],
        ['start', 1],
        ['start_twice', 1],
        ['two_flags', 3],
        ['no_flag', 0],
      ] as const) {
        const answer = yield* call(flag(flags));
        log.push([name, 'errno' in answer ? answer.errno : 'ok']);
      }
      log.push(['get_untouched_by_device', yield* call(get(IOVA0, 4n * PAGE))]);
      yield* call(deviceWrites(dma, IOVA0 + PAGE, 'D'));
      log.push(['get_after_dma_write', yield* call(get(IOVA0, 4n * PAGE))]);
      log.push(['get_again', yield* call(get(IOVA0, 4n * PAGE))]);
      log.push(['get_partial_range', yield* call(get(IOVA0, 2n * PAGE))]);
      log.push(['get_wrong_pgsize', yield* call(get(IOVA0, 4n * PAGE, 2n << 20n))]);
      log.push(['get_bitmap_too_small', yield* call(get(IOVA0, 4n * PAGE, PAGE, 0n))]);
      log.push(['get_range_without_mapping', yield* call(get(IOVA0 + (1n << 20n), 4n * PAGE))]);
      log.push(['get_unaligned', yield* call(get(IOVA0 + 8n, 4n * PAGE))]);
      const unmapped = yield* call(
        vfioIommuUnmapDma(container, { flags: 1, iova: IOVA0, size: 4n * PAGE, bitmap: { pgsize: PAGE, size: 8n } }),
      );
      log.push(['unmap_with_bitmap', unmapped.errno ?? 'ok', Number(unmapped.size), unmapped.dirty]);
      return log;
    });
    expect(seen).toEqual([
      ['get_before_start', 'EINVAL'],
      ['stop_before_start', 'ok'],
      ['start', 'ok'],
      ['start_twice', 'ok'],
      ['two_flags', 'EINVAL'],
      ['no_flag', 'EINVAL'],
      ['get_untouched_by_device', 4],
      ['get_after_dma_write', 4],
      ['get_again', 4],
      ['get_partial_range', 'EINVAL'],
      ['get_wrong_pgsize', 'EINVAL'],
      ['get_bitmap_too_small', 'EINVAL'],
      ['get_range_without_mapping', 0],
      ['get_unaligned', 'EINVAL'],
      ['unmap_with_bitmap', 'ok', 16384, [{ iova: Number(IOVA0 / PAGE), pages: 4 }]],
    ]);
  });
});

test('UNMAP with GET_DIRTY whose bitmap faults at the second entry: EFAULT, the first entry is gone, the size is kept', () => {
  const lab = makeLab();
  const station = makeStation(lab, 'edu');
  const seen = play(lab, function* () {
    const { container } = yield* call(openStation(lab, station, 'container0'));
    const p = yield* call(mapMemory(lab, { pages: 128 }));
    yield* call(vfMap(container, p, IOVA0, 64));
    yield* call(vfMap(container, p + 64, IOVA0 + 64n * PAGE, 64));
    yield* call(vfioIommuDirtyPages(container, { flags: 1 }));
    const bitmap = { pgsize: PAGE, size: 16n, writableBytes: 8 };
    const done = yield* call(vfioIommuUnmapDma(container, { flags: 1, iova: IOVA0, size: 128n * PAGE, bitmap }));
    return [done.errno, done.size, iommuOf(container).held.entries.map((dma) => dma.iova)];
  });
  expect(seen).toEqual(['EFAULT', 128n * PAGE, [Number(IOVA0 / PAGE) + 64]]);
});

test('dirty tracking of a container with emulated devices only: nothing pinned, nothing dirty; v1 refuses', () => {
  const lab = makeLab();
  const station = makeStation(lab, 'mdev', { type: 'emulated' });
  const old = makeStation(lab, 'edu');
  const seen = play(lab, function* () {
    const container = new VfioContainer(lab.core, lab.module, 'container0');
    yield* call(join(lab, station, container));
    yield* call(vfioSetIommu(container, 3));
    yield* call(vfMap(container, 16, IOVA0, 4));
    yield* call(vfioIommuDirtyPages(container, { flags: 1 }));
    const bitmap = { pgsize: PAGE, size: 8n };
    const got = yield* call(vfioIommuDirtyPages(container, { flags: 4, iova: IOVA0, size: 4n * PAGE, bitmap }));
    const v1 = yield* call(openStation(lab, old, 'container1', 1));
    return [got, yield* call(vfioIommuDirtyPages(v1.container, { flags: 1 }))];
  });
  expect(seen).toEqual([{ dirty: [] }, { errno: 'EACCES' }]);
});

test('UNMAP with VADDR is EBUSY while an emulated group is there; attach is EBUSY while an address is void', () => {
  const lab = makeLab();
  const one = makeStation(lab, 'edu');
  const two = makeStation(lab, 'edu2');
  const mdev = makeStation(lab, 'mdev', { type: 'emulated' });
  const seen = play(lab, function* () {
    const { container } = yield* call(openStation(lab, one, 'container0'));
    const p = yield* call(mapMemory(lab, { pages: 1 }));
    yield* call(vfMap(container, p, IOVA0, 1));
    yield* call(vfUnmap(container, IOVA0, PAGE, VADDR));
    const attach = yield* call(join(lab, two, container));
    yield* call(vfMap(container, p, IOVA0, 1, VADDR));
    yield* call(join(lab, mdev, container));
    return [attach, two.iommuGroup.claimed, (yield* call(vfUnmap(container, IOVA0, PAGE, VADDR)))[0]];
  });
  expect(seen).toEqual(['EBUSY', false, 'EBUSY']);
});

test('VADDR from a new process: its mm pays, the old one gets back; over its limit nothing changes', () => {
  const lab = makeLab();
  const station = makeStation(lab, 'edu');
  const opened = play(lab, () => openStation(lab, station, 'container0'));
  const { container } = opened;
  const p = play(lab, () => mapMemory(lab, { pages: 4 }));
  play(lab, () => vfMap(container, p, IOVA0, 4));
  play(lab, () => vfUnmap(container, IOVA0, 4n * PAGE, VADDR));
  const poor = makeTask(lab, 'poor', { uid: 1000, memlockBytes: 3 * 4096 });
  const rich = makeTask(lab, 'rich', { uid: 1000, memlockBytes: 4 * 4096 });
  const take = () => vfMap(container, 4096, IOVA0, 4, VADDR);
  expect(play(lab, take, poor)).toBe('ENOMEM');
  expect([vmlck(lab.task), vmlck(poor)]).toEqual([16, 0]);
  expect(iommuOf(container).vaddrInvalidCount.peek()).toBe(1);
  expect(play(lab, take, rich)).toBe('ok');
  expect([vmlck(lab.task), vmlck(rich)]).toEqual([0, 16]);
});

test('before 6.3 the charge stayed with the old process', () => {
  const lab = makeLab({ kernel: 'v5.15' });
  const station = makeStation(lab, 'edu');
  const { container } = play(lab, () => openStation(lab, station, 'container0'));
  const p = play(lab, () => mapMemory(lab, { pages: 4 }));
  play(lab, () => vfMap(container, p, IOVA0, 4));
  play(lab, () => vfUnmap(container, IOVA0, 4n * PAGE, VADDR));
  const next = makeTask(lab, 'next');
  expect(play(lab, () => vfMap(container, 4096, IOVA0, 4, VADDR), next)).toBe('ok');
  expect([vmlck(lab.task), vmlck(next)]).toEqual([16, 0]);
});

test('the same group twice is EINVAL', () => {
  const lab = makeLab();
  const station = makeStation(lab, 'edu');
  const seen = play(lab, function* () {
    const { container, iommuGroup } = yield* call(openStation(lab, station, 'container0'));
    return yield* call(attachGroup(iommuOf(container), lab.module, iommuGroup, 'iommu'));
  });
  expect(seen).toBe('EINVAL');
});

test('a group whose reserved window covers a mapping is refused; else the window is taken out of what is allowed', () => {
  const lab = makeLab();
  const reserved: ReservedRegion[] = [{ kind: 'direct', firstPage: Number(IOVA0 / PAGE), pages: 16 }];
  const one = makeStation(lab, 'edu');
  const two = makeStation(lab, 'gpu', { reserved });
  const seen = play(lab, function* () {
    const { container } = yield* call(openStation(lab, one, 'container0'));
    const p = yield* call(mapMemory(lab, { pages: 1 }));
    yield* call(vfMap(container, p, IOVA0 + 8n * PAGE, 1));
    const refused = yield* call(join(lab, two, container));
    yield* call(vfUnmap(container, IOVA0 + 8n * PAGE, PAGE));
    const joined = yield* call(vfioGroupSetContainer(two.group, containerFile(lab, container)));
    const mapped = yield* call(vfMap(container, p, IOVA0 + 8n * PAGE, 1));
    const ranges = yield* call(windows(container));
    yield* call(vfioGroupUnsetContainer(two.group));
    return { refused, joined, mapped, ranges, after: yield* call(windows(container)) };
  });
  expect(seen).toEqual({
    refused: 'EINVAL',
    joined: 'ok',
    mapped: 'EINVAL',
    ranges: [
      [0n, IOVA0 - 1n],
      [IOVA0 + 16n * PAGE, 0xfedfffffn],
      [0xfef00000n, 0x7fffffffffn],
    ],
    after: [
      [0n, 0xfedfffffn],
      [0xfef00000n, 0x7fffffffffn],
    ],
  });
});

function* windows(container: VfioContainer) {
  const info = yield* call(vfioIommuInfo(container, {}));
  return 'errno' in info ? fail(info) : info.iovaRanges;
}

test('a narrower IOMMU narrows the container, unless something is mapped beyond', () => {
  const lab = makeLab({ unit: { addressBits: 48 } });
  const narrow = makeUnit(lab, 'dmar1', { addressBits: 39 });
  const one = makeStation(lab, 'edu');
  const two = makeStation(lab, 'igd', { unit: narrow });
  const seen = play(lab, function* () {
    const { container } = yield* call(openStation(lab, one, 'container0'));
    const p = yield* call(mapMemory(lab, { pages: 1 }));
    yield* call(vfMap(container, p, 1n << 40n, 1));
    const refused = yield* call(join(lab, two, container));
    yield* call(vfUnmap(container, 1n << 40n, PAGE));
    const joined = yield* call(vfioGroupSetContainer(two.group, containerFile(lab, container)));
    const last = (yield* call(windows(container))).at(-1)![1];
    return { refused, joined, last, domains: iommuOf(container).held.domains.length };
  });
  // The 48-bit domain does not fit the 39-bit IOMMU: two domains.
  expect(seen).toEqual({ refused: 'EINVAL', joined: 'ok', last: (1n << 39n) - 1n, domains: 2 });
});

test('an incompatible second domain: the IOVA is mapped twice, pinned and charged once', () => {
  const lab = makeLab();
  const one = makeStation(lab, 'edu');
  const two = makeStation(lab, 'gpu', { driver: iommuDriver('amd'), unit: makeUnit(lab, 'amdvi0') });
  const { folios } = lab.core;
  const seen = play(lab, function* () {
    const { container } = yield* call(openStation(lab, one, 'container0'));
    const p = yield* call(mapMemory(lab, { pages: 4 }));
    yield* call(touch(lab, p, 4, 'x'));
    yield* call(vfMap(container, p, IOVA0, 4));
    const pfn = lab.task.mm.peek()!.pageTable.peekFrame(p);
    const refs = folios.refcount.peek(pfn);
    const joined = yield* call(join(lab, two, container));
    const read = yield* call(deviceReads(two.dma, IOVA0));
    const both = { joined, kb: vmlck(lab.task), refs: folios.refcount.peek(pfn) - refs };
    const unmapped = yield* call(vfUnmap(container, IOVA0, 4n * PAGE));
    return { ...both, read, unmapped, after: yield* call(deviceReads(two.dma, IOVA0)), left: vmlck(lab.task) };
  });
  expect(seen).toEqual({
    joined: 'ok',
    kb: 16,
    refs: 0,
    read: tokenOf('x'),
    unmapped: ['ok', 16384],
    after: 'blocked',
    left: 0,
  });
});

test('a domain that leaves takes its mappings with it: nothing leads to the memory once it is unmapped and free', () => {
  const lab = makeLab();
  const one = makeStation(lab, 'edu');
  const two = makeStation(lab, 'gpu', { driver: iommuDriver('amd'), unit: makeUnit(lab, 'amdvi0') });
  const leading: number[] = [];
  lab.sim.on(FRAME_RELEASED, ({ translations }) => leading.push(translations));
  play(lab, function* () {
    const { container } = yield* call(openStation(lab, one, 'container0'));
    const p = yield* call(mapMemory(lab, { pages: 4 }));
    yield* call(touch(lab, p, 4, 'x'));
    yield* call(vfMap(container, p, IOVA0, 4));
    yield* call(join(lab, two, container));
    yield* call(deviceReads(two.dma, IOVA0));
    yield* call(vfioGroupUnsetContainer(two.group));
    yield* call(vfUnmap(container, IOVA0, 4n * PAGE));
    yield* call(lruAddDrainAll(lab.core));
    yield* call(munmap(lab.core, p, 4));
  });
  expect(leading).toEqual([0, 0, 0, 0]);
});

test('the first hardware group of an emulated container pins and charges everything; over the limit nothing stays', () => {
  const lab = makeLab({ task: { capabilities: [], memlockBytes: 4 * 4096 } });
  const mdev = makeStation(lab, 'mdev', { type: 'emulated' });
  const edu = makeStation(lab, 'edu');
  const seen = play(lab, function* () {
    const container = new VfioContainer(lab.core, lab.module, 'container0');
    yield* call(join(lab, mdev, container));
    yield* call(vfioSetIommu(container, 3));
    const p = yield* call(mapMemory(lab, { pages: 8 }));
    yield* call(vfMap(container, p, IOVA0, 2));
    yield* call(vfMap(container, p + 2, IOVA0 + (1n << 20n), 3));
    const before = vmlck(lab.task);
    const refused = yield* call(join(lab, edu, container));
    const pins = [lab.core.vmstat.peek('nr_foll_pin_acquired'), lab.core.vmstat.peek('nr_foll_pin_released')];
    const state = [vmlck(lab.task), iommuOf(container).held.domains.length, iommuOf(container).held.entries.length];
    yield* call(vfUnmap(container, IOVA0 + (1n << 20n), 3n * PAGE));
    const joined = yield* call(vfioGroupSetContainer(edu.group, containerFile(lab, container)));
    const charged = vmlck(lab.task);
    // The last hardware group leaves, the emulated one stays: unpinned, and nothing was pinned from outside.
    yield* call(vfioGroupUnsetContainer(edu.group));
    return {
      before,
      refused,
      even: pins[0] === pins[1] && pins[0]! > 0,
      state,
      joined,
      charged,
      left: vmlck(lab.task),
    };
  });
  expect(seen).toEqual({
    before: 0,
    refused: 'ENOMEM',
    even: true,
    state: [0, 0, 2],
    joined: 'ok',
    charged: 8,
    left: 0,
  });
});

test('the last group leaves: all pins dropped, all charge given back, the entries gone', () => {
  const lab = makeLab();
  const station = makeStation(lab, 'edu');
  const gone: string[] = [];
  lab.sim.on(OWNER_GONE, ({ owner }) => gone.push(owner));
  play(lab, function* () {
    const { container, deviceFile } = yield* call(openStation(lab, station, 'container0'));
    const p = yield* call(mapMemory(lab, { pages: 8 }));
    yield* call(vfMap(container, p, IOVA0, 4));
    yield* call(vfMap(container, p, IOVA0 + (1n << 20n), 8));
    yield* call(fput(deviceFile));
    yield* call(vfioGroupUnsetContainer(station.group));
  });
  const { vmstat } = lab.core;
  expect(vmlck(lab.task)).toBe(0);
  expect(vmstat.peek('nr_foll_pin_released')).toBe(vmstat.peek('nr_foll_pin_acquired'));
  expect(gone).toHaveLength(2);
  expect(station.dma.entry.peek()).toBe('identity');
});

test('a group with a host driver bound cannot join a container', () => {
  const lab = makeLab();
  const station = makeStation(lab, 'nic', { hostDriver: true });
  const container = new VfioContainer(lab.core, lab.module, 'container0');
  expect(play(lab, () => join(lab, station, container))).toBe('EPERM');
});
