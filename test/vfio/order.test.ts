// What may come between the steps of MAP and UNMAP: the interleaving points of type1, each played by hand.

import { expect, test } from 'vitest';
import type { Process } from '../../src/engine/process.ts';
import { call } from '../../src/engine/process.ts';
import { step } from '../../src/engine/step.ts';
import { iommuDriver } from '../../src/iommu/driver.ts';
import { munmap } from '../../src/mm/mapping/mmap.ts';
import type { VfioContainer } from '../../src/vfio/container.ts';
import { vfioGroupOpen, vfioGroupSetContainer } from '../../src/vfio/group.ts';
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
  touch,
  vfMap,
  vfUnmap,
  vmlck,
} from '../support/vfio-world.ts';
import { actor, makeTask } from '../support/world.ts';

const AT = step('test', 'none');

/** Act until `process` is about to take the `nth` step of that label. */
function until(lab: Lab, process: Process, label: string, nth = 1): void {
  for (let seen = 0; ; lab.sim.act(process)) {
    if (process.state === 'ended') throw new Error(`${process.name} ended before ${label}`);
    if (process.announced.step.label === label && ++seen === nth) return;
  }
}

function finish(lab: Lab, process: Process): void {
  while (process.state !== 'ended') {
    if (!process.enabled) throw new Error(`${process.name} is stuck at ${process.announced.step.label}`);
    lab.sim.act(process);
  }
}

function setUp(options: Parameters<typeof makeLab>[0], pages: number) {
  const lab = makeLab(options);
  const station = makeStation(lab, 'edu');
  const opened = play(lab, () => openStation(lab, station, 'container0'));
  const p = play(lab, function* () {
    const vpn = yield* call(mapMemory(lab, { pages, at: 4096 }));
    yield* call(touch(lab, vpn, Math.min(pages, 8), 'A'));
    return vpn;
  });
  return { lab, opened, p };
}

test('UNMAP clears the other domains, then the first, invalidates each before anything is unpinned', () => {
  const { lab, opened, p } = setUp({}, 2);
  const gpu = makeStation(lab, 'gpu', { driver: iommuDriver('amd'), unit: makeUnit(lab, 'amdvi0') });
  play(lab, function* () {
    const file = yield* call(vfioGroupOpen(gpu.group));
    if (typeof file === 'string') fail(file);
    yield* call(vfioGroupSetContainer(gpu.group, containerFile(lab, opened.container)));
    yield* call(vfMap(opened.container, p, IOVA0, 2));
  });
  const labels: string[] = [];
  lab.sim.observer = { stepActed: (process) => labels.push(process.acted.step.label) };
  play(lab, () => vfUnmap(opened.container, IOVA0, 2n * PAGE));
  const safety = ['iommu_unmap:clear-entries', 'iotlb_sync:invalidate', 'gup_put_folio', 'mm_lock_acct:account'];
  const kept = labels.filter((label) => safety.includes(label));
  const order = kept.filter((label, i) => kept[i - 1] !== label);
  expect(order).toEqual([
    'iommu_unmap:clear-entries',
    'iotlb_sync:invalidate',
    'iommu_unmap:clear-entries',
    'iotlb_sync:invalidate',
    'gup_put_folio',
    'mm_lock_acct:account',
  ]);
});

test('between the clearing and the invalidation a device still reaches the page, which is still pinned', () => {
  const { lab, opened, p } = setUp({}, 1);
  play(lab, function* () {
    yield* call(vfMap(opened.container, p, IOVA0, 1));
    yield* call(deviceReads(opened.dma, IOVA0));
  });
  const pfn = lab.task.mm.peek()!.pageTable.peekFrame(p);
  const unmap = actor(lab, lab.task, 'unmap', function* () {
    yield* call(vfUnmap(opened.container, IOVA0, PAGE));
  });
  until(lab, unmap, 'iotlb_sync:invalidate');
  const results: string[] = [];
  const device = actor(lab, lab.task, 'device', function* () {
    results.push(yield* call(deviceWrites(opened.dma, IOVA0, 'late')));
  });
  finish(lab, device);
  expect(lab.core.folios.refcount.peek(pfn)).toBeGreaterThan(1024);
  finish(lab, unmap);
  const after = actor(lab, lab.task, 'after', function* () {
    results.push(yield* call(deviceWrites(opened.dma, IOVA0, 'later')));
  });
  finish(lab, after);
  expect(results).toEqual(['ok', 'blocked']);
  expect(lab.core.frames.content.peek(pfn)).toBe(tokenOf('late'));
});

test('a device reaches the first runs of a mapping before MAP returns', () => {
  const { lab, opened, p } = setUp({ module: { disableHugepages: true } }, 2);
  const map = actor(lab, lab.task, 'map', function* () {
    yield* call(vfMap(opened.container, p, IOVA0, 2));
  });
  until(lab, map, 'iommu_map:write-entries', 2);
  const results: unknown[] = [];
  const device = actor(lab, lab.task, 'device', function* () {
    results.push(yield* call(deviceReads(opened.dma, IOVA0)), yield* call(deviceReads(opened.dma, IOVA0 + PAGE)));
  });
  finish(lab, device);
  finish(lab, map);
  expect(results).toEqual([tokenOf('A'), 'blocked']);
});

test('two maps pass the unlocked check together; the second to charge is refused, and the peak was over the limit', () => {
  const { lab, opened, p } = setUp({ task: { capabilities: [], memlockBytes: 4 * 4096 } }, 8);
  const second = makeStation(lab, 'edu2');
  const other = play(lab, () => openStation(lab, second, 'container1'));
  const { vmstat } = lab.core;
  const held = () => vmstat.peek('nr_foll_pin_acquired') - vmstat.peek('nr_foll_pin_released');
  const results: string[] = [];
  const mapper = (name: string, container: VfioContainer, vpn: number) =>
    actor(lab, lab.task, name, function* () {
      results.push(`${name} ${yield* call(vfMap(container, vpn, IOVA0, 3))}`);
    });
  const a = mapper('a', opened.container, p);
  const b = mapper('b', other.container, p + 4);
  until(lab, a, 'mm_lock_acct:mmap_write_lock');
  until(lab, b, 'mm_lock_acct:mmap_write_lock');
  const peak = held();
  finish(lab, b);
  finish(lab, a);
  expect(peak).toBe(6);
  expect(results).toEqual(['b ok', 'a ENOMEM']);
  expect(held()).toBe(3);
  expect(vmlck(lab.task)).toBe(12);
});

test('killed while it waits to give back: the error is ignored, and the charge stays on a process that lives', () => {
  const { lab, opened, p } = setUp({}, 2);
  play(lab, () => vfMap(opened.container, p, IOVA0, 2));
  const helper = makeTask(lab, 'helper');
  let result: unknown;
  const unmap = actor(lab, helper, 'unmap', function* () {
    result = yield* call(vfUnmap(opened.container, IOVA0, 2n * PAGE));
  });
  until(lab, unmap, 'mm_lock_acct:mmap_write_lock');
  const { mmapLock } = lab.task.mm.peek()!;
  const owner = actor(lab, lab.task, 'owner', function* () {
    yield* call(mmapLock.write());
    yield helper.killed.willWrite(AT);
    helper.killed.value = true;
    yield mmapLock.up();
  });
  while (!mmapLock.writeHeld) lab.sim.act(owner);
  lab.sim.act(unmap);
  while (!helper.killed.peek()) lab.sim.act(owner);
  finish(lab, unmap);
  finish(lab, owner);
  expect(result).toEqual(['ok', 8192]);
  expect(vmlck(lab.task)).toBe(8);
});

test('the memory may be replaced between two batches: one MAP pins old pages and new ones', () => {
  const { lab, opened, p } = setUp({ params: { stepPages: 512, thp: 'never' } }, 1024);
  const map = actor(lab, lab.task, 'map', function* () {
    yield* call(vfMap(opened.container, p, IOVA0, 1024));
  });
  until(lab, map, 'vaddr_get_pfns:mmap_read_lock', 2);
  const other = actor(lab, lab.task, 'other', function* () {
    yield* call(munmap(lab.core, p, 1024));
    yield* call(mapMemory(lab, { pages: 1024, at: p, fixed: true }));
    yield* call(touch(lab, p, 1, 'new'));
    yield* call(touch(lab, p + 512, 1, 'new'));
  });
  finish(lab, other);
  finish(lab, map);
  const seen = play(lab, function* () {
    return [yield* call(deviceReads(opened.dma, IOVA0)), yield* call(deviceReads(opened.dma, IOVA0 + 512n * PAGE))];
  });
  expect(seen).toEqual([tokenOf('A'), tokenOf('new')]);
});

test('a second operation on the same container waits for the first', () => {
  const { lab, opened, p } = setUp({}, 4);
  const map = actor(lab, lab.task, 'map', function* () {
    yield* call(vfMap(opened.container, p, IOVA0, 4));
  });
  until(lab, map, 'iommu_map:write-entries');
  let unmapped: unknown;
  const unmap = actor(lab, lab.task, 'unmap', function* () {
    unmapped = yield* call(vfUnmap(opened.container, IOVA0, 4n * PAGE));
  });
  until(lab, unmap, 'vfio_dma_do_unmap:lock');
  expect(unmap.enabled).toBe(false);
  finish(lab, map);
  finish(lab, unmap);
  expect(unmapped).toEqual(['ok', 16384]);
});
