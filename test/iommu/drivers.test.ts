// Rows of the conformance table of the IOMMU layer: what map and unmap do with right and wrong requests, by driver.
import { expect, test } from 'vitest';
import { call, type Steps } from '../../src/engine/process.ts';
import { IO_READ, IO_WRITE } from '../../src/hw/io-entry.ts';
import type { DriverName } from '../../src/iommu/driver.ts';
import { IOMMU_WARNING } from '../../src/iommu/events.ts';
import { choosePageSize, iommuMap, iommuUnmap } from '../../src/iommu/map.ts';
import { type IoWorld, makeIoWorld } from '../support/io-world.ts';
import { run } from '../support/world.ts';

const RW = IO_READ | IO_WRITE;
const BLOCK = 2048;

/** A world whose actor runs `body`; also what was warned about. */
function play<R>(
  driver: DriverName,
  body: (world: IoWorld) => Steps<R>,
  options: Parameters<typeof makeIoWorld>[1] = {},
) {
  const world = makeIoWorld(driver, { zones: [{ kind: 'NORMAL', node: 0, pages: 2 ** 20 }], ...options });
  const warnings: string[] = [];
  world.sim.on(IOMMU_WARNING, (warning) => warnings.push(warning.what));
  const result = run(world, world.task, () => body(world));
  return { world, result, warnings };
}

const leaves = ({ domain }: Pick<IoWorld, 'domain'>, page: number, pages: number) => [
  ...domain.table.peekLeaves(page, pages),
];

test.each(['vtd', 'amd', 'smmu'] as const)('%s: one leaf of every size, each unmapped by its own size', (driver) => {
  const orders = [0, 9, 18];
  const { result, world } = play(driver, function* ({ domain }) {
    const unmapped: number[] = [];
    for (const order of orders) {
      const page = 2 ** 20 * (order + 1);
      yield* call(iommuMap(domain, { page, pfn: 2 ** 18, pages: 2 ** order, prot: RW }));
      expect(leaves({ domain }, page, 2 ** order).map((leaf) => leaf.order)).toEqual([order]);
      unmapped.push(yield* call(iommuUnmap(domain, page, 2 ** order)));
    }
    return unmapped;
  });
  expect(result).toEqual(orders.map((order) => 2 ** order));
  expect(leaves(world, 0, 2 ** 25)).toEqual([]);
});

test('small pages that fill a large one are unmapped, then the large page takes their place', () => {
  const { world } = play('vtd', function* ({ domain }) {
    for (let i = 0; i < 512; i++)
      yield* call(iommuMap(domain, { page: 512 + i, pfn: BLOCK + i * 2, pages: 1, prot: RW }));
    expect(yield* call(iommuUnmap(domain, 512, 512))).toBe(512);
    yield* call(iommuMap(domain, { page: 512, pfn: BLOCK, pages: 512, prot: RW }));
  });
  expect(leaves(world, 512, 512).map((leaf) => leaf.order)).toEqual([9]);
});

test.each(['vtd', 'amd'] as const)(
  '%s: unmapping the start of a large leaf removes all of it and says so',
  (driver) => {
    const { world, result } = play(driver, function* ({ domain }) {
      yield* call(iommuMap(domain, { page: 1024, pfn: BLOCK, pages: 1024, prot: RW }));
      return yield* call(iommuUnmap(domain, 1024, 1));
    });
    const size = driver === 'amd' ? 1024 : 512;
    expect(result).toBe(size);
    expect(leaves(world, 1024, 1024)).toHaveLength(driver === 'amd' ? 0 : 1);
  },
);

test('smmu 6.12: unmapping one page of a block splits it, and the page can be mapped again', () => {
  const { world, result } = play(
    'smmu',
    function* ({ domain }) {
      yield* call(iommuMap(domain, { page: 512, pfn: BLOCK, pages: 512, prot: RW }));
      const gone = yield* call(iommuUnmap(domain, 515, 1));
      return [gone, yield* call(iommuMap(domain, { page: 515, pfn: 9000, pages: 1, prot: RW }))];
    },
    { kernel: 'v6.12.117+arm64' },
  );
  expect(result).toEqual([1, null]);
  expect(leaves(world, 512, 512)).toHaveLength(512);
});

test('smmu from 6.13: partial unmap of a block warns and removes nothing', () => {
  const { result, warnings } = play(
    'smmu',
    function* ({ domain }) {
      yield* call(iommuMap(domain, { page: 512, pfn: BLOCK, pages: 512, prot: RW }));
      return yield* call(iommuUnmap(domain, 515, 1));
    },
    { kernel: 'v6.18+arm64' },
  );
  expect(result).toBe(0);
  expect(warnings).toHaveLength(1);
});

test.each([
  ['vtd', null, 1, BLOCK],
  ['amd', null, 0, 9000],
  ['smmu', 'EEXIST', 1, BLOCK],
  ['s390', null, 1, 9000],
  ['generic', 'EADDRINUSE', 1, BLOCK],
] as const)('%s: map over a live leaf gives %s', (driver, errno, warned, stays) => {
  const { world, result, warnings } = play(driver, function* ({ domain }) {
    yield* call(iommuMap(domain, { page: 7, pfn: BLOCK, pages: 1, prot: RW }));
    return yield* call(iommuMap(domain, { page: 7, pfn: 9000, pages: 1, prot: RW }));
  });
  expect(result).toBe(errno);
  expect(warnings).toHaveLength(warned);
  expect(world.domain.peekFrame(7)).toBe(stays);
});

test('a map that fails in the middle leaves the range as before', () => {
  const { world, result } = play('smmu', function* ({ domain }) {
    yield* call(iommuMap(domain, { page: 12, pfn: BLOCK, pages: 1, prot: RW }));
    return yield* call(iommuMap(domain, { page: 10, pfn: 9000, pages: 4, prot: RW }));
  });
  expect(result).toBe('EEXIST');
  expect(leaves(world, 0, 512).map((leaf) => leaf.page)).toEqual([12]);
});

test('no memory for table pages: ENOMEM, and what was mapped is unmapped', () => {
  const { world, result } = play(
    'vtd',
    ({ domain }) => iommuMap(domain, { page: 510, pfn: 9001, pages: 4, prot: RW }),
    {
      domain: { tablePages: 3 },
    },
  );
  expect(result).toBe('ENOMEM');
  expect(leaves(world, 0, 1024)).toEqual([]);
});

test('vtd: map with neither READ nor WRITE is EINVAL; beyond the address width EFAULT', () => {
  const { result } = play(
    'vtd',
    function* ({ domain }) {
      const none = yield* call(iommuMap(domain, { page: 7, pfn: 9000, pages: 1, prot: 0 }));
      return [none, yield* call(iommuMap(domain, { page: 2 ** 27, pfn: 9000, pages: 1, prot: RW }))];
    },
    { unit: { addressBits: 39 } },
  );
  expect(result).toEqual(['EINVAL', 'EFAULT']);
});

test('mapping into an identity or blocked domain is EINVAL', () => {
  for (const type of ['identity', 'blocked'] as const) {
    const { result } = play('vtd', ({ domain }) => iommuMap(domain, { page: 7, pfn: 9000, pages: 1, prot: RW }), {
      domain: { type },
    });
    expect(result).toBe('EINVAL');
  }
});

test.each([
  ['vtd', 512],
  ['amd', 0],
  ['smmu', 0],
  ['s390', 1],
  ['generic', 0],
] as const)('%s: unmap of one page where even the table is missing counts %i pages', (driver, counted) => {
  const { result } = play(driver, function* ({ domain }) {
    // A neighbour in the same GiB, so that only the last table is missing.
    yield* call(iommuMap(domain, { page: 5000, pfn: 9000, pages: 1, prot: RW }));
    return yield* call(iommuUnmap(domain, 1024, 1));
  });
  expect(result).toBe(counted);
});

test('vtd: the grown size counts from the IOVA given, so that a live neighbour behind the hole goes too', () => {
  const { world } = play('vtd', function* ({ domain }) {
    yield* call(iommuMap(domain, { page: 1536, pfn: 9000, pages: 1, prot: RW }));
    return yield* call(iommuUnmap(domain, 1030, 1));
  });
  expect(leaves(world, 0, 4096)).toEqual([]);
});

test('no common larger alignment: 4 KiB leaves', () => {
  const { world } = play('vtd', ({ domain }) =>
    iommuMap(domain, { page: 0xfef80, pfn: 0x8b95d, pages: 0x20, prot: RW }),
  );
  expect(leaves(world, 0xfef80, 0x20)).toHaveLength(0x20);
});

test('an unaligned range takes the largest leaves that fit: 14 x 2M, 3 x 1G, 3 x 2M', () => {
  let page = 0x3fe400000 / 4096;
  const end = 0x4c0600000 / 4096;
  const orders = new Map<number, number>();
  while (page < end) {
    const { order, count } = choosePageSize([0, 9, 18], page, page, end - page);
    orders.set(order, (orders.get(order) ?? 0) + count);
    page += count * 2 ** order;
  }
  expect([...orders]).toEqual([
    [9, 17],
    [18, 3],
  ]);
});
