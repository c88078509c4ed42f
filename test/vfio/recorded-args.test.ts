// Recorded on 6.1.192 and 6.12.117 (type1/map, type1/container, type1/group): the errno of every request, in the order
// in which the program made them.

import { describe, expect, test } from 'vitest';
import { call } from '../../src/engine/process.ts';
import { step } from '../../src/engine/step.ts';
import { fput } from '../../src/mm/process/exit.ts';
import { OpenFile } from '../../src/mm/process/task.ts';
import {
  VfioContainer,
  vfioCheckExtension,
  vfioIommuInfo,
  vfioIommuMapDma,
  vfioIommuUnmapDma,
  vfioSetIommu,
  vfioUnknownIoctl,
} from '../../src/vfio/container.ts';
import { vfioGroupGetDeviceFd } from '../../src/vfio/device.ts';
import {
  vfioGroupOpen,
  vfioGroupSetContainer,
  vfioGroupStatus,
  vfioGroupUnsetContainer,
} from '../../src/vfio/group.ts';
import {
  containerFile,
  fail,
  IOVA_SCRATCH,
  IOVA0,
  makeLab,
  makeStation,
  mapMemory,
  openStation,
  PAGE,
  play,
  RW,
  touch,
  vfMap,
  vfUnmap,
  vmlck,
} from '../support/vfio-world.ts';

const KERNELS = ['v6.1.192', 'v6.12.117'] as const;
const TOP = 0xfffffffffffff000n;
/** p + offset in bytes, or an address. */
type Vaddr = { readonly p: bigint } | bigint;
const p = (offset = 0n): Vaddr => ({ p: offset });

type Row = readonly [
  name: string,
  vaddr: Vaddr,
  iova: bigint,
  size: bigint,
  flags: number,
  expected: string,
  kb: number,
];

const ROWS: readonly Row[] = [
  ['ok', p(), IOVA0, PAGE, RW, 'ok', 4],
  ['flags_zero', p(), IOVA0, PAGE, 0, 'EINVAL', 0],
  ['flags_unknown_bit3', p(), IOVA0, PAGE, RW | 8, 'EINVAL', 0],
  ['flags_vaddr_without_prior', p(), IOVA0, PAGE, 4, 'ENOENT', 0],
  ['flags_vaddr_plus_rw', p(), IOVA0, PAGE, RW | 4, 'EINVAL', 0],
  ['iova_half_page', p(), IOVA0 + 2048n, PAGE, RW, 'EINVAL', 0],
  ['vaddr_unaligned', p(8n), IOVA0, PAGE, RW, 'EINVAL', 0],
  ['size_unaligned', p(), IOVA0, PAGE + 8n, RW, 'EINVAL', 0],
  ['size_zero', p(), IOVA0, 0n, RW, 'EINVAL', 0],
  ['size_half_page', p(), IOVA0, 2048n, RW, 'EINVAL', 0],
  ['iova_wrap', p(), TOP, 2n * PAGE, RW, 'EINVAL', 0],
  ['vaddr_wrap', TOP, IOVA0, 2n * PAGE, RW, 'EINVAL', 0],
  ['vaddr_wrap_to_0', TOP, IOVA0, PAGE, RW, 'EFAULT', 0],
  ['vaddr_null', 0n, IOVA0, PAGE, RW, 'EFAULT', 0],
  ['iova_zero', p(), 0n, PAGE, RW, 'ok', 4],
  ['iova_2_38', p(), 1n << 38n, PAGE, RW, 'ok', 4],
  ['iova_2_48', p(), 1n << 48n, PAGE, RW, 'EINVAL', 0],
  ['iova_crossing_2_39', p(), (1n << 39n) - PAGE, 2n * PAGE, RW, 'EINVAL', 0],
  ['iova_msi_window_end', p(), 0xfeeff000n, PAGE, RW, 'EINVAL', 0],
  ['iova_below_msi_window', p(), 0xfedff000n, PAGE, RW, 'ok', 4],
  ['iova_crossing_msi_window', p(), 0xfedff000n, 2n * PAGE, RW, 'EINVAL', 0],
  ['size_128GB_over_scratch', p(), IOVA0, 1n << 37n, RW, 'EEXIST', 0],
  ['size_huge_u64_no_overlap', p(), IOVA_SCRATCH + PAGE, 0x7ffffffffffff000n, RW, 'EINVAL', 0],
  ['overlap_and_beyond_aperture', p(), IOVA_SCRATCH, 1n << 40n, RW, 'EEXIST', 0],
  ['hole_and_beyond_aperture', 0x1000n, 1n << 39n, PAGE, RW, 'EINVAL', 0],
];

/** With [IOVA0 + 4, IOVA0 + 8) pages mapped. */
const OVERLAPS: readonly Row[] = [
  ['overlap_exact_same_vaddr_other_flags', p(), IOVA0 + 4n * PAGE, 4n * PAGE, 1, 'EEXIST', 0],
  ['overlap_inside', p(), IOVA0 + 5n * PAGE, PAGE, RW, 'EEXIST', 0],
  ['overlap_head', p(), IOVA0 + 3n * PAGE, 2n * PAGE, RW, 'EEXIST', 0],
  ['overlap_tail', p(), IOVA0 + 7n * PAGE, 2n * PAGE, RW, 'EEXIST', 0],
  ['adjacent_below', p(), IOVA0 + 3n * PAGE, PAGE, RW, 'ok', 4],
  ['same_vaddr_second_iova', p(), IOVA0 + 32n * PAGE, 4n * PAGE, RW, 'ok', 16],
];

describe.each(KERNELS)('%s', (kernel) => {
  test('the arguments of MAP_DMA', () => {
    const lab = makeLab({ kernel });
    const station = makeStation(lab, 'edu');
    const seen = play(lab, function* () {
      const { container } = yield* call(openStation(lab, station, 'container0'));
      const base = yield* call(mapMemory(lab, { pages: 64 }));
      yield* call(touch(lab, base, 64));
      const scratch = yield* call(mapMemory(lab, { pages: 1 }));
      yield* call(vfMap(container, scratch, IOVA_SCRATCH, 1));
      const results: [string, string, number][] = [];
      const all = [...ROWS.map((row) => [row, false] as const), ...OVERLAPS.map((row) => [row, true] as const)];
      let mapped = false;
      for (const [[name, at, iova, size, flags], overlap] of all) {
        if (overlap && !mapped) yield* call(vfMap(container, base, IOVA0 + 4n * PAGE, 4));
        mapped ||= overlap;
        const vaddr = typeof at === 'bigint' ? at : BigInt(base) * PAGE + at.p;
        const before = vmlck(lab.task);
        const result = yield* call(vfioIommuMapDma(container, { vaddr, iova, size, flags }));
        results.push([name, result, vmlck(lab.task) - before]);
        if (result === 'ok') yield* call(vfUnmap(container, iova, size));
      }
      return results;
    });
    expect(seen).toEqual([...ROWS, ...OVERLAPS].map(([name, , , , , expected, kb]) => [name, expected, kb]));
  });

  test('argsz, a bad pointer, an unknown request', () => {
    const lab = makeLab({ kernel });
    const station = makeStation(lab, 'edu');
    const seen = play(lab, function* () {
      const { container } = yield* call(openStation(lab, station, 'container0'));
      const base = yield* call(mapMemory(lab, { pages: 1 }));
      yield* call(touch(lab, base, 1));
      const map = { flags: RW, vaddr: BigInt(base) * PAGE, iova: IOVA0, size: PAGE };
      return [
        yield* call(vfioIommuMapDma(container, { ...map, argsz: 24 })),
        yield* call(vfioIommuMapDma(container, { ...map, argsz: 96 })),
        yield* call(vfioIommuMapDma(container, null)),
        yield* call(vfioUnknownIoctl(container)),
      ];
    });
    expect(seen).toEqual(['EINVAL', 'ok', 'EFAULT', 'ENOTTY']);
  });

  test('containers, groups and devices from the first open to the last close', () => {
    const lab = makeLab({ kernel, module: { allowUnsafeInterrupts: false } });
    const station = makeStation(lab, 'edu', { isolatedMsi: false });
    const { group, device } = station;
    const container = new VfioContainer(lab.core, lab.module, 'container0');
    const file = containerFile(lab, container);
    const devNull = new OpenFile(lab.sim, { name: '/dev/null', kind: 'null', object: null });
    const extensions = (which: readonly number[]) =>
      function* () {
        const answers: number[] = [];
        for (const extension of which) answers.push(yield* call(vfioCheckExtension(container, extension)));
        return answers;
      };
    const seen = play(lab, function* () {
      const base = yield* call(mapMemory(lab, { pages: 1 }));
      const log: Record<string, unknown> = {};
      log.noGroup = yield* call(extensions([1, 2, 4, 9, 10, 11])());
      log.setIommuWithoutGroup = yield* call(vfioSetIommu(container, 3));
      log.mapWithoutIommu = yield* call(vfMap(container, base, IOVA0, 1));
      log.unmapWithoutIommu = (yield* call(vfUnmap(container, IOVA0, PAGE)))[0];
      log.infoWithoutIommu = yield* call(vfioIommuInfo(container, {}));
      const groupFile = yield* call(vfioGroupOpen(group));
      if (typeof groupFile === 'string') fail(groupFile);
      log.secondOpen = yield* call(vfioGroupOpen(group));
      log.statusFresh = yield* call(vfioGroupStatus(group));
      log.deviceWithoutContainer = yield* call(vfioGroupGetDeviceFd(group, device));
      log.unsetWhenNone = yield* call(vfioGroupUnsetContainer(group));
      log.setBogus = yield* call(vfioGroupSetContainer(group, devNull));
      log.setContainer = yield* call(vfioGroupSetContainer(group, file));
      log.setTwice = yield* call(vfioGroupSetContainer(group, file));
      log.deviceBeforeSetIommu = yield* call(vfioGroupGetDeviceFd(group, device));
      log.badType = yield* call(vfioSetIommu(container, 99));
      log.spapr = yield* call(vfioSetIommu(container, 2));
      log.unmapAll = yield* call(vfioSetIommu(container, 9));
      log.noRemapping = yield* call(vfioSetIommu(container, 3));
      yield lab.module.allowUnsafeInterrupts.willWrite(step('echo 1', 'none'));
      lab.module.allowUnsafeInterrupts.value = true;
      log.type1v2 = yield* call(vfioSetIommu(container, 3));
      log.setIommuTwice = yield* call(vfioSetIommu(container, 3));
      log.withIommu = yield* call(extensions([1, 2, 3, 4, 7, 9, 10, 11])());
      log.wrongName = yield* call(vfioGroupGetDeviceFd(group, null));
      const deviceFile = yield* call(vfioGroupGetDeviceFd(group, device));
      if (typeof deviceFile === 'string') fail(deviceFile);
      log.unsetWhileOpen = yield* call(vfioGroupUnsetContainer(group));
      log.info = yield* call(vfioIommuInfo(container, {}));
      yield* call(vfMap(container, base, IOVA0, 1));
      const info = yield* call(vfioIommuInfo(container, {}));
      log.dmaAvail = 'errno' in info ? info : info.dmaAvail;
      yield* call(fput(deviceFile));
      log.unsetClosed = yield* call(vfioGroupUnsetContainer(group));
      log.kb = vmlck(lab.task);
      log.unmapAfter = (yield* call(vfioIommuUnmapDma(container, { flags: 0, iova: IOVA0, size: PAGE }))).errno;
      return log;
    });
    expect(seen).toEqual({
      noGroup: [1, 0, 0, 1, 0, 0],
      setIommuWithoutGroup: 'EINVAL',
      mapWithoutIommu: 'EINVAL',
      unmapWithoutIommu: 'EINVAL',
      infoWithoutIommu: { errno: 'EINVAL' },
      secondOpen: 'EBUSY',
      statusFresh: 1,
      deviceWithoutContainer: 'EINVAL',
      unsetWhenNone: 'EINVAL',
      setBogus: kernel === 'v6.1.192' ? 'EINVAL' : 'EBADFD',
      setContainer: 'ok',
      setTwice: 'EINVAL',
      deviceBeforeSetIommu: 'EINVAL',
      badType: 'ENODEV',
      spapr: 'ENODEV',
      // Not recorded: vfio_iommu_type1_open refuses what check_extension said yes to.
      unmapAll: 'EINVAL',
      noRemapping: 'EPERM',
      type1v2: 'ok',
      setIommuTwice: 'EINVAL',
      withIommu: [1, 0, 1, 0, 0, 1, 1, 0],
      wrongName: 'ENODEV',
      unsetWhileOpen: 'EBUSY',
      info: {
        // Not recorded: vfio_info_cap_add aligns capabilities since 6.6.
        argsz: kernel === 'v6.1.192' ? 116 : 120,
        flags: 3,
        iovaPgsizes: 0x40201000n,
        iovaRanges: [
          [0n, 0xfedfffffn],
          [0xfef00000n, 0x7fffffffffn],
        ],
        migrationPgsizes: 0x1000n,
        maxDirtyBitmap: 268435456,
        dmaAvail: 65535,
      },
      dmaAvail: 65534,
      unsetClosed: 'ok',
      kb: 0,
      unmapAfter: 'EINVAL',
    });
  });
});
