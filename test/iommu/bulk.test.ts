// Bulk steps and page-by-page steps of the IOMMU end alike: in entries, counts of translations, results and cost.
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { LatencyModel } from '../../src/engine/latency.ts';
import { call } from '../../src/engine/process.ts';
import type { DriverName } from '../../src/iommu/driver.ts';
import { iommuMap, iommuUnmap } from '../../src/iommu/map.ts';
import { makeIoWorld } from '../support/io-world.ts';
import { run } from '../support/world.ts';

const PAGES = 2048;

interface Action {
  readonly map: boolean;
  readonly page: number;
  readonly pfn: number;
  readonly pages: number;
}

const action: fc.Arbitrary<Action> = fc.record({
  map: fc.boolean(),
  page: fc.oneof(fc.nat(PAGES), fc.constantFrom(0, 512, 1024)),
  pfn: fc.oneof(fc.integer({ min: 2048, max: 4096 }), fc.constantFrom(2048, 2560, 3072)),
  pages: fc.oneof(fc.integer({ min: 1, max: 1500 }), fc.constantFrom(1, 512, 1024)),
});

function play(driver: DriverName, actions: readonly Action[], bulk: boolean) {
  const world = makeIoWorld(driver, {
    params: { stepPages: bulk ? 512 : 1 },
    sim: {
      latencies: new LatencyModel({ op: 1, 'iommu-map': 10, 'iommu-unmap': 100, iotlb: 0 }),
      ...(bulk ? { checked: false, journaled: false, digested: false } : {}),
    },
  });
  const { domain } = world;
  const results = run(world, world.task, function* () {
    const seen: unknown[] = [];
    for (const { map, page, pfn, pages } of actions) {
      // Only what callers may do: map what is free, unmap what was mapped as a whole.
      const free = domain.table.peekRun(page, pages);
      if (map && free.pfn < 0 && [...domain.table.peekLeaves(page, pages)].length === 0) {
        seen.push(yield* call(iommuMap(domain, { page, pfn, pages, prot: 3 })));
      } else if (!map) seen.push(yield* call(iommuUnmap(domain, page - (page % 1024), 1024)));
    }
    return seen;
  });
  const leaves = [...domain.table.peekLeaves(0, 4 * PAGES)].map((leaf) => [leaf.page, leaf.order, leaf.pfn, leaf.prot]);
  const { translations } = world.core.frames;
  const counts = Array.from({ length: 4096 }, (_, i) => translations.peek(2048 + i));
  return { results, leaves, counts, tables: domain.table.tables.peek(), ns: world.sim.nowNs };
}

test.each(['vtd', 'amd', 's390'] as const)('%s', (driver) => {
  fc.assert(
    fc.property(fc.array(action, { maxLength: 8 }), (actions) => {
      expect(play(driver, actions, true)).toEqual(play(driver, actions, false));
    }),
    { numRuns: 15, seed: 1 },
  );
});
