// Bulk steps and page-by-page steps of type1 end alike: in errnos, mappings, pins, charge and cost.
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { LatencyModel } from '../../src/engine/latency.ts';
import { call } from '../../src/engine/process.ts';
import { munmap } from '../../src/mm/mapping/mmap.ts';
import type { VfioIommu } from '../../src/vfio/iommu.ts';
import {
  makeLab,
  makeStation,
  mapMemory,
  openStation,
  play,
  touch,
  vfMap,
  vfUnmap,
  vmlck,
} from '../support/vfio-world.ts';

const PAGES = 1100;

interface Plan {
  /** Pages touched in this order: their frames are not in address order. */
  readonly touched: readonly number[];
  readonly holes: readonly number[];
  readonly limit: number;
  readonly actions: readonly {
    readonly map: boolean;
    readonly from: number;
    readonly pages: number;
    readonly at: number;
  }[];
}

const at = fc.integer({ min: 0, max: PAGES - 1 });
const plan: fc.Arbitrary<Plan> = fc.record({
  touched: fc.array(at, { maxLength: 12 }),
  holes: fc.array(at, { maxLength: 1 }),
  limit: fc.constantFrom(50, 700, 5000),
  actions: fc.array(
    fc.record({ map: fc.boolean(), from: at, pages: fc.integer({ min: 1, max: PAGES }), at: fc.nat(3) }),
    { maxLength: 4 },
  ),
});

function perform({ touched, holes, limit, actions }: Plan, bulk: boolean) {
  const lab = makeLab({
    params: { stepPages: bulk ? 512 : 1, thp: 'never' },
    task: { capabilities: [], memlockBytes: limit * 4096 },
    sim: {
      latencies: new LatencyModel({ op: 0, 'iommu-map': 7, 'iommu-unmap': 11, iotlb: 13, lock: 17 }),
      ...(bulk ? { checked: false, journaled: false, digested: false } : {}),
    },
  });
  const station = makeStation(lab, 'edu');
  const results = play(lab, function* () {
    const { container } = yield* call(openStation(lab, station, 'container0'));
    const p = yield* call(mapMemory(lab, { pages: PAGES, at: 4096 }));
    for (const page of touched) yield* call(touch(lab, p + page, 1));
    for (const page of holes) yield* call(munmap(lab.core, p + page, 1));
    const seen: unknown[] = [];
    for (const { map, from, pages, at: slot } of actions) {
      const iova = BigInt(slot) << 30n;
      if (map) seen.push(yield* call(vfMap(container, p + from, iova, Math.min(pages, PAGES - from))));
      else seen.push(yield* call(vfUnmap(container, iova, 1n << 30n)), vmlck(lab.task));
    }
    const iommu = container.driver.peek() as VfioIommu;
    const { domain } = iommu.held.domains[0]!;
    const leaves = [...domain.table.peekLeaves(0, 2 ** 21)].map((leaf) => [leaf.page, leaf.order, leaf.pfn]);
    return { seen, leaves, entries: iommu.held.entries.map((dma) => [dma.iova, dma.pages, dma.fields.lockedVm]) };
  });
  const { folios, vmstat, frames } = lab.core;
  const zone = lab.core.machine.zones[0]!;
  const counts = Array.from({ length: zone.pages }, (_, i) => {
    const pfn = zone.firstPfn + i;
    return `${folios.refcount.peek(pfn)}/${frames.translations.peek(pfn)}`;
  });
  const pins = [vmstat.peek('nr_foll_pin_acquired'), vmstat.peek('nr_foll_pin_released')];
  return { ...results, counts, pins, kb: vmlck(lab.task), ns: lab.sim.nowNs };
}

test('page by page and in bulk', () => {
  fc.assert(
    fc.property(plan, (one) => {
      expect(perform(one, true)).toEqual(perform(one, false));
    }),
    { numRuns: 12, seed: 7 },
  );
});
