// Recorded on 6.1.192 and 6.12.117 (type1/unmap_v1, type1/unmap_v2, type1/vaddr): what UNMAP_DMA returns, the size field
// afterwards, and what stays charged [kB].
import { describe, expect, test } from 'vitest';
import { call, type Steps } from '../../src/engine/process.ts';
import type { VfioContainer } from '../../src/vfio/container.ts';
import { tokenOf } from '../support/tokens.ts';
import {
  deviceReads,
  IOVA_SCRATCH,
  IOVA0,
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

const P = PAGE;
const TOP = 0xfffffffffffff000n;
const MIB = 1n << 20n;
type Map = readonly [iovaPages: bigint, pages: number];
/** Maps made before, IOVA and size of the unmap, flags; v2: errno, size, kB left; v1 likewise. */
interface Case {
  readonly name: string;
  readonly maps: readonly Map[];
  readonly iova: bigint;
  readonly size: bigint;
  readonly flags?: number;
  /** Leave what is mapped for the next case. */
  readonly keep?: boolean;
  readonly v2?: readonly [string, bigint, number];
  readonly v1?: readonly [string, bigint, number];
}

const CASES: readonly Case[] = [
  { name: 'exact', maps: [[0n, 8]], iova: IOVA0, size: 8n * P, v2: ['ok', 8n * P, 0], v1: ['ok', 8n * P, 0] },
  { name: 'double', maps: [], iova: IOVA0, size: 8n * P, v2: ['ok', 0n, 0], v1: ['ok', 0n, 0] },
  { name: 'never_mapped', maps: [], iova: IOVA0 + 100n * P, size: P, v2: ['ok', 0n, 0], v1: ['ok', 0n, 0] },
  {
    name: 'middle_of_mapping',
    maps: [[0n, 8]],
    iova: IOVA0 + 2n * P,
    size: 2n * P,
    v2: ['EINVAL', 2n * P, 32],
    v1: ['ok', 0n, 32],
  },
  {
    name: 'head_of_mapping',
    maps: [[0n, 8]],
    iova: IOVA0,
    size: 2n * P,
    keep: true,
    v2: ['EINVAL', 2n * P, 32],
    v1: ['ok', 8n * P, 0],
  },
  { name: 'then_rest', maps: [], iova: IOVA0, size: 8n * P, v2: ['ok', 8n * P, 0], v1: ['ok', 0n, 0] },
  {
    name: 'tail_of_mapping',
    maps: [[0n, 8]],
    iova: IOVA0 + 6n * P,
    size: 2n * P,
    v2: ['EINVAL', 2n * P, 32],
    v1: ['ok', 0n, 32],
  },
  {
    name: 'spans_two_mappings',
    maps: [
      [0n, 4],
      [4n, 4],
    ],
    iova: IOVA0,
    size: 8n * P,
    v2: ['ok', 8n * P, 0],
    v1: ['ok', 8n * P, 0],
  },
  {
    name: 'one_and_a_half_mappings',
    maps: [
      [0n, 4],
      [4n, 4],
    ],
    iova: IOVA0,
    size: 6n * P,
    v2: ['EINVAL', 6n * P, 32],
    v1: ['ok', 8n * P, 0],
  },
  {
    name: 'half_and_one_mappings',
    maps: [
      [0n, 4],
      [4n, 4],
    ],
    iova: IOVA0 + 2n * P,
    size: 6n * P,
    v2: ['EINVAL', 6n * P, 32],
    v1: ['ok', 0n, 32],
  },
  {
    name: 'range_with_holes',
    maps: [
      [2n, 2],
      [6n, 2],
    ],
    iova: IOVA0,
    size: 16n * P,
    v2: ['ok', 4n * P, 0],
    v1: ['ok', 4n * P, 0],
  },
  {
    name: 'middle_of_4mb_contiguous_iova',
    maps: [[0n, 1024]],
    iova: IOVA0 + 512n * P,
    size: 2n * P,
    v2: ['EINVAL', 2n * P, 4096],
    v1: ['ok', 0n, 4096],
  },
  { name: 'size_zero', maps: [], iova: IOVA0, size: 0n, v2: ['EINVAL', 0n, 0], v1: ['EINVAL', 0n, 0] },
  { name: 'size_unaligned', maps: [], iova: IOVA0, size: P + 8n, v2: ['EINVAL', P + 8n, 0], v1: ['EINVAL', P + 8n, 0] },
  { name: 'iova_unaligned', maps: [], iova: IOVA0 + 8n, size: P, v2: ['EINVAL', P, 0], v1: ['EINVAL', P, 0] },
  { name: 'wrap', maps: [], iova: TOP, size: 2n * P, v2: ['EINVAL', 2n * P, 0], v1: ['EINVAL', 2n * P, 0] },
  { name: 'last_page_of_u64', maps: [], iova: TOP, size: P, v2: ['ok', 0n, 0], v1: ['ok', 0n, 0] },
  {
    name: 'whole_space_by_size',
    maps: [[0n, 2]],
    iova: 0n,
    size: TOP,
    keep: true,
    v2: ['ok', 3n * P, -4],
    v1: ['ok', 3n * P, -4],
  },
  {
    name: 'all_with_iova',
    maps: [
      [0n, 2],
      [MIB / P, 2],
    ],
    iova: IOVA0,
    size: 0n,
    flags: 2,
    keep: true,
    v2: ['EINVAL', 0n, 16],
    v1: ['EINVAL', 0n, 16],
  },
  {
    name: 'all_with_size',
    maps: [],
    iova: 0n,
    size: P,
    flags: 2,
    keep: true,
    v2: ['EINVAL', P, 16],
    v1: ['EINVAL', P, 16],
  },
  { name: 'all', maps: [], iova: 0n, size: 0n, flags: 2, keep: true, v2: ['ok', 5n * P, -4], v1: ['ok', 5n * P, -4] },
  { name: 'all_again_when_empty', maps: [], iova: 0n, size: 0n, flags: 2, v2: ['ok', 0n, -4], v1: ['ok', 0n, -4] },
  { name: 'unknown_flag', maps: [], iova: IOVA0, size: P, flags: 8, v2: ['EINVAL', P, 0], v1: ['EINVAL', P, 0] },
  {
    name: 'all_plus_dirty_bitmap',
    maps: [],
    iova: 0n,
    size: 0n,
    flags: 3,
    v2: ['EINVAL', 0n, 0],
    v1: ['EINVAL', 0n, 0],
  },
  {
    name: 'dirty_bitmap_without_tracking',
    maps: [],
    iova: IOVA0,
    size: P,
    flags: 1,
    v2: ['EINVAL', P, 0],
    v1: ['EINVAL', P, 0],
  },
];

describe.each(['v6.1.192', 'v6.12.117'] as const)('%s', (kernel) => {
  test.each([
    ['v2', 3],
    ['v1', 1],
  ] as const)('UNMAP_DMA of a %s container', (version, type) => {
    const lab = makeLab({ kernel });
    const station = makeStation(lab, 'edu');
    const seen = play(lab, function* () {
      const { container } = yield* call(openStation(lab, station, 'container0', type));
      const scratch = yield* call(mapMemory(lab, { pages: 1 }));
      const mapScratch = () => vfMap(container, scratch, IOVA_SCRATCH, 1);
      yield* call(mapScratch());
      const p = yield* call(mapMemory(lab, { pages: 1024 }));
      const before = vmlck(lab.task);
      const results: [string, string, bigint, number][] = [];
      for (const { name, maps, iova, size, flags, keep } of CASES) {
        let at = p;
        for (const [page, pages] of maps) {
          yield* call(vfMap(container, at, IOVA0 + page * PAGE, pages));
          at += pages;
        }
        const [result, left] = yield* call(vfUnmap(container, iova, size, flags));
        results.push([name, result, BigInt(left), vmlck(lab.task) - before]);
        if (name === 'whole_space_by_size' || name === 'all_again_when_empty') yield* call(mapScratch());
        if (keep !== true) yield* call(reset(container));
      }
      return results;
    });
    const wanted = CASES.map((one) => [one.name, ...(version === 'v2' ? one.v2! : one.v1!)]);
    expect(seen).toEqual(wanted);
  });

  test('addresses are invalidated and replaced while DMA goes on', () => {
    const lab = makeLab({ kernel });
    const station = makeStation(lab, 'edu');
    const VADDR = 4;
    const seen = play(lab, function* () {
      const { container, dma } = yield* call(openStation(lab, station, 'container0'));
      const scratch = yield* call(mapMemory(lab, { pages: 1 }));
      yield* call(vfMap(container, scratch, IOVA_SCRATCH, 1));
      const kb0 = vmlck(lab.task);
      const kb = () => vmlck(lab.task) - kb0;
      const p = yield* call(mapMemory(lab, { pages: 16 }));
      yield* call(touch(lab, p, 2, 'q'));
      yield* call(vfMap(container, p, IOVA0, 2));
      const log: Record<string, unknown> = {};
      log.unmapVaddr = [
        yield* call(vfUnmap(container, IOVA0, 2n * P, VADDR)),
        kb(),
        yield* call(deviceReads(dma, IOVA0)),
      ];
      log.twice = yield* call(vfUnmap(container, IOVA0, 2n * P, VADDR));
      log.plainMapOver = yield* call(vfMap(container, p, IOVA0, 2));
      log.wrongSize = yield* call(vfMap(container, p, IOVA0, 1, VADDR));
      log.wrongIova = yield* call(vfMap(container, p + 8, IOVA0 + P, 2, VADDR));
      const fresh = yield* call(mapMemory(lab, { pages: 2 }));
      yield* call(touch(lab, fresh, 1, 'z'));
      log.newVaddr = [
        yield* call(vfMap(container, fresh, IOVA0, 2, VADDR)),
        yield* call(deviceReads(dma, IOVA0)),
        kb(),
      ];
      log.again = yield* call(vfMap(container, fresh, IOVA0, 2, VADDR));
      log.nothingThere = yield* call(vfUnmap(container, IOVA0 + 50n * P, P, VADDR));
      log.partial = yield* call(vfUnmap(container, IOVA0, P, VADDR));
      log.all = [yield* call(vfUnmap(container, 0n, 0n, VADDR | 2)), kb()];
      log.plusDirty = (yield* call(vfUnmap(container, IOVA0, P, VADDR | 1)))[0];
      log.realUnmap = [yield* call(vfUnmap(container, IOVA0, 2n * P)), kb()];
      return log;
    });
    expect(seen).toEqual({
      unmapVaddr: [['ok', 8192], 8, tokenOf('q')],
      twice: ['EINVAL', 8192],
      plainMapOver: 'EEXIST',
      wrongSize: 'EINVAL',
      wrongIova: 'EINVAL',
      newVaddr: ['ok', tokenOf('q'), 8],
      again: 'EINVAL',
      nothingThere: ['ok', 0],
      partial: ['EINVAL', 4096],
      all: [['ok', 12288], 8],
      plusDirty: 'EINVAL',
      realUnmap: [['ok', 8192], 0],
    });
  });
});

/** Everything but the scratch page. */
function* reset(container: VfioContainer): Steps<void> {
  yield* call(vfUnmap(container, 0n, IOVA_SCRATCH));
  yield* call(vfUnmap(container, IOVA_SCRATCH + P, 1n << 37n));
}
