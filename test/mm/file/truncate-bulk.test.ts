// The bulk lane of truncation ends where page by page ends.
import fc from 'fast-check';
import { expect, it } from 'vitest';
import { LatencyModel } from '../../../src/engine/latency.ts';
import { fallocate, truncate } from '../../../src/mm/file/truncate.ts';
import { madvise } from '../../../src/mm/madvise/madvise.ts';
import { lruAddDrainAll } from '../../../src/mm/reclaim/lru.ts';
import { Lab } from '../../support/lab.ts';

const PAGES = 600;

interface Case {
  readonly written: readonly (readonly [number, number])[];
  readonly pinned: readonly [number, number];
  readonly shared: boolean;
  readonly drained: boolean;
  readonly punch: boolean;
  readonly range: readonly [number, number];
}

const range = fc.tuple(fc.nat(PAGES - 1), fc.integer({ min: 1, max: PAGES }));
const CASES: fc.Arbitrary<Case> = fc.record({
  written: fc.array(range, { maxLength: 3 }),
  pinned: range,
  shared: fc.boolean(),
  drained: fc.boolean(),
  punch: fc.boolean(),
  range,
});

const cut = ([from, length]: readonly [number, number]) => [from, Math.min(length, PAGES - from)] as const;

function outcome(c: Case, bulk: boolean) {
  const latencies = new LatencyModel({ none: 0, 'pte-op': 7, refcount: 3, 'tlb-local': 11, lock: 2, op: 1 });
  const lab = new Lab({
    params: { stepPages: 512, thp: 'never' },
    sim: bulk ? { checked: false, journaled: false, digested: false, latencies } : { latencies },
  });
  const { core } = lab;
  const file = lab.inode({ kind: 'shmem', sizePages: PAGES });
  lab.map({ pages: PAGES, shared: c.shared, file });
  for (const part of c.written) {
    const [from, length] = cut(part);
    lab.do(() => madvise(core, lab.vpn + from, length, 'POPULATE_WRITE'));
  }
  const [from, length] = cut(c.pinned);
  const base = lab.vpn;
  lab.vpn = base + from;
  lab.pin(c.shared, length);
  lab.vpn = base;
  if (c.drained) lab.do(() => lruAddDrainAll(core));
  const frames = Array.from({ length: PAGES }, (_, i) => file.pages.peek(i) - 1).filter((pfn) => pfn > 0);
  const [first, count] = cut(c.range);
  const start = core.sim.nowNs;
  const result = lab.do(() =>
    c.punch ? fallocate(core, file, 'punch-hole', first, count) : truncate(core, file, first),
  );
  const costNs = core.sim.nowNs - start;
  lab.do(() => lruAddDrainAll(core));
  const { folios } = core;
  return {
    result,
    costNs,
    cached: Array.from({ length: PAGES }, (_, i) => file.pages.peek(i)),
    folios: frames.map((pfn) => [
      pfn,
      folios.refcount.peek(pfn),
      folios.mapcount.peek(pfn),
      folios.flags.peek(pfn),
      folios.mapping.peek(pfn),
      core.frames.peekGeneration(pfn),
    ]),
    free:
      core.zones.reduce((sum, zone) => sum + zone.freePages.peek(), 0) +
      core.perCpu.reduce((sum, cpu) => sum + cpu.freePages.peek().length, 0),
  };
}

it('truncation in bulk and page by page end alike', () => {
  fc.assert(
    fc.property(CASES, (c) => {
      expect(outcome(c, true)).toEqual(outcome(c, false));
    }),
    { numRuns: 20, seed: 20260102 },
  );
});
