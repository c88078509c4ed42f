// Recorded on 6.1.192 and 6.12.117 (type1/limit, type1/memlock, type1/acct): who is charged, and when it is too much [kB].

import { describe, expect, test } from 'vitest';
import { call } from '../../src/engine/process.ts';
import { step } from '../../src/engine/step.ts';
import { join } from '../../src/engine/wait.ts';
import type { CoreMm } from '../../src/mm/core.ts';
import { Inode } from '../../src/mm/file/inode.ts';
import { PIN_REFUSED, type PinRefused } from '../../src/mm/ledger.ts';
import { mlock, munlock } from '../../src/mm/mapping/mlock.ts';
import { munmap } from '../../src/mm/mapping/mmap.ts';
import { exit, fput } from '../../src/mm/process/exit.ts';
import { fork } from '../../src/mm/process/fork.ts';
import { vfioMmapBar } from '../../src/vfio/bar.ts';
import type { VfioContainer } from '../../src/vfio/container.ts';
import {
  barOf,
  fail,
  IOVA_SCRATCH,
  IOVA0,
  type Lab,
  makeLab,
  makeStation,
  mapMemory,
  type Opened,
  openStation,
  PAGE,
  play,
  touch,
  vfMap,
  vfUnmap,
  vmlck,
} from '../support/vfio-world.ts';

const MIB = 1n << 20n;

/** vf_need: an open station with a scratch page mapped. */
function* need(lab: Lab, station: ReturnType<typeof makeStation>, name = 'container0') {
  const opened: Opened = yield* call(openStation(lab, station, name));
  const scratch = yield* call(mapMemory(lab, { pages: 1 }));
  yield* call(vfMap(opened.container, scratch, IOVA_SCRATCH, 1));
  return opened;
}

/** drop_to_user: uid 1000, no capabilities, a limit [pages]. */
function* dropToUser(core: CoreMm, pages: number) {
  const { current } = core;
  const { task } = current;
  const at = step('setresuid', 'none');
  task.memlockBytes.willWrite(at);
  task.credentials.willRead(at);
  yield task.capabilities.willUpdate(at);
  task.memlockBytes.value = pages * 4096;
  task.capabilities.value = [];
  current.takeCredentials();
}

describe.each(['v6.1.192', 'v6.12.117'] as const)('%s', (kernel) => {
  test('dma_entry_limit: one mapping more is ENOSPC and touches nothing, until one is unmapped', () => {
    const lab = makeLab({ kernel, module: { dmaEntryLimit: 3 } });
    const station = makeStation(lab, 'edu');
    const seen = play(lab, function* () {
      const { container } = yield* call(need(lab, station));
      const p = yield* call(mapMemory(lab, { pages: 8 }));
      const before = vmlck(lab.task);
      const maps: string[] = [];
      for (let i = 0; i < 4; i++) maps.push(yield* call(vfMap(container, p + i, IOVA0 + BigInt(i) * PAGE, 1)));
      const charged = vmlck(lab.task) - before;
      const present = lab.task.mm.peek()!.pageTable.peekFrame(p + 3) !== 0;
      yield* call(vfUnmap(container, IOVA0, PAGE));
      return { maps, charged, present, after: yield* call(vfMap(container, p, IOVA0 + 5n * PAGE, 1)) };
    });
    expect(seen).toEqual({
      maps: ['ok', 'ok', 'ENOSPC', 'ENOSPC'].slice(0, 4),
      charged: 8,
      present: false,
      after: 'ok',
    });
  });

  test('RLIMIT_MEMLOCK of 16 pages, one of them charged already', () => {
    const lab = makeLab({ kernel });
    const station = makeStation(lab, 'edu', { bar: barOf(lab, 16) });
    const seen = play(lab, function* () {
      const opened = yield* call(need(lab, station));
      const { container } = opened;
      const bar = yield* call(vfioMmapBar(opened.deviceFile, { index: 0 }));
      if (!('vpn' in bar)) fail(bar);
      const p = yield* call(mapMemory(lab, { pages: 64 }));
      yield* call(touch(lab, p, 32));
      yield* call(dropToUser(lab.core, 16));
      const log: [string, string, number][] = [];
      const note = (name: string, result: string) => log.push([name, result, vmlck(lab.task)]);
      const map = (vpn: number, iova: bigint, pages: number) => vfMap(container, vpn, iova, pages);
      note('user_over_limit', yield* call(map(p, IOVA0, 17)));
      note('user_at_limit_but_scratch_counts', yield* call(map(p, IOVA0, 16)));
      note('user_over_limit_and_hole', yield* call(map(1, IOVA0, 17)));
      note('user_exactly_fits', yield* call(map(p, IOVA0, 15)));
      note('user_one_more_page', yield* call(map(p + 15, IOVA0 + MIB, 1)));
      note('user_same_page_again_other_iova', yield* call(map(p, IOVA0 + MIB, 1)));
      note('user_unmap', (yield* call(vfUnmap(container, IOVA0, 15n * PAGE)))[0]);
      note('user_double_map_first', yield* call(map(p, IOVA0, 8)));
      note('user_double_map_second_over', yield* call(map(p, IOVA0 + 64n * PAGE, 8)));
      note('user_double_map_second_fits', yield* call(map(p, IOVA0 + 64n * PAGE, 7)));
      yield* call(vfUnmap(container, IOVA0, 8n * PAGE));
      yield* call(vfUnmap(container, IOVA0 + 64n * PAGE, 7n * PAGE));
      note('mlock_14_of_16_with_1_pinned', yield* call(mlock(lab.core, p, 14)));
      note('user_map_mlocked_pages_again_counts', yield* call(map(p, IOVA0, 8)));
      note('user_map_one_left', yield* call(map(p, IOVA0, 1)));
      yield* call(munlock(lab.core, p, 64));
      yield* call(vfUnmap(container, IOVA0, PAGE));
      note('user_refill', yield* call(map(p, IOVA0, 15)));
      note('mlock_after_vfio_used_limit', yield* call(mlock(lab.core, p, 1)));
      note('munmap_keeps_charge', yield* call(munmap(lab.core, p, 64)));
      yield* call(fput(opened.containerFile));
      yield* call(fput(opened.deviceFile));
      yield* call(fput(opened.groupFile));
      note('close_fds_with_bar_mmapped', 'ok');
      yield* call(munmap(lab.core, bar.vpn, 16));
      return log;
    });
    expect(seen).toEqual([
      ['user_over_limit', 'ENOMEM', 4],
      ['user_at_limit_but_scratch_counts', 'ENOMEM', 4],
      ['user_over_limit_and_hole', 'EFAULT', 4],
      ['user_exactly_fits', 'ok', 64],
      ['user_one_more_page', 'ENOMEM', 64],
      ['user_same_page_again_other_iova', 'ENOMEM', 64],
      ['user_unmap', 'ok', 4],
      ['user_double_map_first', 'ok', 36],
      ['user_double_map_second_over', 'ENOMEM', 36],
      ['user_double_map_second_fits', 'ok', 64],
      ['mlock_14_of_16_with_1_pinned', 'ok', 60],
      ['user_map_mlocked_pages_again_counts', 'ENOMEM', 60],
      ['user_map_one_left', 'ok', 64],
      ['user_refill', 'ok', 64],
      ['mlock_after_vfio_used_limit', 'ENOMEM', 64],
      ['munmap_keeps_charge', 'ok', 64],
      ['close_fds_with_bar_mmapped', 'ok', 64],
    ]);
    // The last mapping of the BAR is gone: the device, the group and the container go with it.
    expect(vmlck(lab.task)).toBe(0);
    expect(station.group.openedFile.peek()).toBeNull();
  });

  test('the same pages are charged for every mapping, and beside mlock; BARs are free', () => {
    const lab = makeLab({ kernel, params: { thp: 'always', hugePages: { 9: 1 } } });
    const station = makeStation(lab, 'edu', { bar: barOf(lab, 16) });
    const second = makeStation(lab, 'edu2');
    const { vmstat } = lab.core;
    const seen = play(lab, function* () {
      const opened = yield* call(need(lab, station));
      const { container } = opened;
      const p = yield* call(mapMemory(lab, { pages: 64 }));
      yield* call(touch(lab, p, 64, 'm'));
      const kb0 = vmlck(lab.task);
      const kb = () => vmlck(lab.task) - kb0;
      const log: Record<string, unknown> = {};
      log.one = [yield* call(vfMap(container, p, IOVA0, 8)), kb()];
      log.secondIova = [yield* call(vfMap(container, p, IOVA0 + MIB, 8)), kb()];
      const other = yield* call(openStation(lab, second, 'container1'));
      log.secondContainer = [yield* call(vfMap(other.container, p, IOVA0, 8)), kb()];
      yield* call(vfUnmap(other.container, IOVA0, 8n * PAGE));
      log.unmapSecond = kb();
      log.mlock = [yield* call(mlock(lab.core, p, 8)), kb()];
      yield* call(munlock(lab.core, p, 8));
      yield* call(vfUnmap(container, IOVA0 + MIB, 8n * PAGE));
      yield* call(vfUnmap(container, IOVA0, 8n * PAGE));
      log.allUnmapped = kb();
      const huge = yield* call(hugetlb(lab));
      log.hugetlb = [yield* call(vfMap(container, huge, IOVA0, 512)), kb()];
      yield* call(vfUnmap(container, IOVA0, 512n * PAGE));
      const bar = yield* call(vfioMmapBar(opened.deviceFile, { index: 0 }));
      if (!('vpn' in bar)) fail(bar);
      log.bar = [yield* call(vfMap(container, bar.vpn, IOVA0, 16)), kb()];
      yield* call(vfUnmap(container, IOVA0, 16n * PAGE));
      const half = yield* call(mapMemory(lab, { pages: 8 }));
      yield* call(munmap(lab.core, half + 4, 4));
      const pins = () => [vmstat.peek('nr_foll_pin_acquired'), vmstat.peek('nr_foll_pin_released')] as const;
      const [acquired, released] = pins();
      log.halfHole = [yield* call(vfMap(container, half, IOVA0, 8)), kb()];
      log.rolledBack = pins().map((count, i) => count - [acquired, released][i]!);
      log.retryFirstHalf = yield* call(vfMap(container, half, IOVA0, 4));
      return log;
    });
    expect(seen).toEqual({
      one: ['ok', 32],
      secondIova: ['ok', 64],
      secondContainer: ['ok', 96],
      unmapSecond: 64,
      mlock: ['ok', 96],
      allUnmapped: 0,
      hugetlb: ['ok', 2048],
      bar: ['ok', 0],
      halfHole: ['EFAULT', 0],
      rolledBack: [4, 4],
      retryFirstHalf: 'ok',
    });
  });

  test('a container shared by parent and child: whoever mapped is charged, whoever unmaps gives back to that mm', () => {
    const lab = makeLab({ kernel });
    const station = makeStation(lab, 'edu');
    const { core, sim } = lab;
    const seen = play(lab, function* () {
      const { container } = yield* call(need(lab, station));
      const p = yield* call(mapMemory(lab, { pages: 8 }));
      yield* call(touch(lab, p, 8));
      const kb0 = vmlck(lab.task);
      yield* call(vfMap(container, p, IOVA0, 8));
      const mapped = vmlck(lab.task);
      yield* call(inChild(lab, () => vfUnmap(container, IOVA0, 8n * PAGE)));
      const log: Record<string, unknown> = { childUnmaps: vmlck(lab.task) - mapped };
      const kb: number[] = [];
      yield* call(
        inChild(lab, function* () {
          kb.push(vmlck(core.current.task));
          const result = yield* call(vfMap(container, p, IOVA0, 8));
          kb.push(vmlck(core.current.task));
          return result;
        }),
      );
      log.childMaps = [kb, vmlck(lab.task) - kb0];
      log.parentUnmaps = [yield* call(vfUnmap(container, IOVA0, 8n * PAGE)), vmlck(lab.task) - kb0];
      return log;
    });
    expect(sim.findings).toEqual([]);
    expect(seen).toEqual({ childUnmaps: -32, childMaps: [[0, 32], 0], parentUnmaps: [['ok', 32768], 0] });
  });

  test('a refusal names the limit, what was charged, how far it got, and the limit that would have sufficed', () => {
    const lab = makeLab({ kernel });
    const station = makeStation(lab, 'edu');
    const refusals: PinRefused[] = [];
    lab.sim.on(PIN_REFUSED, (refused) => refusals.push(refused));
    const seen = play(lab, function* () {
      const { container } = yield* call(need(lab, station));
      const p = yield* call(mapMemory(lab, { pages: 32 }));
      yield* call(touch(lab, p, 32));
      yield* call(dropToUser(lab.core, 16));
      yield* call(vfMap(container, p, IOVA0, 4));
      yield* call(vfMap(container, p, IOVA0 + MIB, 4));
      yield* call(refusedMap(container, p));
      // One byte less than what is named would not do, and that much does.
      const needed = Number(refusals[0]!.details['needed-bytes']);
      yield* call(dropToUser(lab.core, needed / 4096 - 1));
      const short = yield* call(vfMap(container, p + 4, IOVA0 + 2n * MIB, 10));
      yield* call(dropToUser(lab.core, needed / 4096));
      return [short, yield* call(vfMap(container, p + 4, IOVA0 + 2n * MIB, 10))];
    });
    const [first] = refusals;
    expect(first).toMatchObject({ who: 'VFIO_IOMMU_MAP_DMA by root', errno: 'ENOMEM', pages: 10 });
    expect(first!.details).toMatchObject({
      'limit-bytes': 16 * 4096,
      'charged-bytes': 9 * 4096,
      'asked-bytes': 10 * 4096,
      'container-charged-bytes': 9 * 4096,
      'container-unique-bytes': 5 * 4096,
      'needed-bytes': 19 * 4096,
      'short-by': 3 * 4096,
    });
    expect(first!.reasons[0]).toMatch(
      /^VFIO_IOMMU_MAP_DMA\(iova 0x10200000, vaddr 0x[0-9a-f]+, size 0xa000\) of container0 by root$/,
    );
    expect(first!.reasons.at(-1)).toMatch(/exceed RLIMIT_MEMLOCK/);
    expect(seen).toEqual(['ENOMEM', 'ok']);
  });
});

function* refusedMap(container: VfioContainer, p: number) {
  return yield* call(vfMap(container, p + 4, IOVA0 + 2n * MIB, 10));
}

function* hugetlb(lab: Lab) {
  const inode = lab.core.addInode(new Inode(lab.sim, { kind: 'hugetlb', name: 'huge', sizePages: 512, hugeOrder: 9 }));
  return yield* call(mapMemory(lab, { pages: 512, file: inode, shared: true, pgoff: 0 }));
}

/** fork, run `body` in the child, exit there, wait. */
function* inChild<R>(
  lab: Lab,
  body: () => Generator<never, R, unknown> | ReturnType<typeof vfUnmap> | ReturnType<typeof vfMap>,
) {
  const child = yield* call(
    fork(lab.core, {}, function* () {
      yield* call(body() as ReturnType<typeof vfMap>);
      yield* call(exit(lab.core));
    }),
  );
  if (!('process' in child)) fail(child);
  yield join(lab.sim, child.process);
}
