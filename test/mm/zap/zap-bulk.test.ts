// The bulk lane of zap ends where entry by entry ends: entries, counts, flags, free memory, accounting, errno and cost.
import fc from 'fast-check';
import { expect, it } from 'vitest';
import { LatencyModel } from '../../../src/engine/latency.ts';
import { call } from '../../../src/engine/process.ts';
import { madvise } from '../../../src/mm/madvise/madvise.ts';
import { mlock } from '../../../src/mm/mapping/mlock.ts';
import { munmap } from '../../../src/mm/mapping/mmap.ts';
import { exit } from '../../../src/mm/process/exit.ts';
import { lruAddDrainAll } from '../../../src/mm/reclaim/lru.ts';
import { Lab } from '../../support/lab.ts';
import { makeTask } from '../../support/world.ts';

interface Case {
  readonly kernel: 'v6.1.192' | 'v6.12.117';
  readonly kind: 'anon' | 'shmem' | 'private';
  readonly pages: number;
  /** Written and read pages, and one pinned range: pages of the mapping. */
  readonly written: readonly (readonly [number, number])[];
  readonly read: readonly number[];
  readonly pinned: readonly [number, number];
  readonly locked: boolean;
  readonly drained: boolean;
  readonly operation: 'dontneed' | 'munmap' | 'exit';
  readonly range: readonly [number, number];
}

const PAGES = 640;
const range = fc.tuple(fc.nat(PAGES), fc.nat(PAGES));

const CASES: fc.Arbitrary<Case> = fc.record({
  kernel: fc.constantFrom('v6.1.192', 'v6.12.117'),
  kind: fc.constantFrom('anon', 'shmem', 'private'),
  pages: fc.integer({ min: 1, max: PAGES }),
  written: fc.array(range, { maxLength: 3 }),
  read: fc.array(fc.nat(PAGES - 1), { maxLength: 8 }),
  pinned: range,
  locked: fc.boolean(),
  drained: fc.boolean(),
  operation: fc.constantFrom('dontneed', 'munmap', 'exit'),
  range,
});

const inside = ([from, length]: readonly [number, number], pages: number) =>
  [Math.min(from, pages - 1), Math.max(1, Math.min(length, pages - Math.min(from, pages - 1)))] as const;

/** What is left after the operation, and what it cost. */
function outcome(c: Case, bulk: boolean) {
  const latencies = new LatencyModel({ none: 0, 'pte-op': 7, refcount: 3, 'tlb-local': 11, lock: 2, op: 1 });
  const lab = new Lab({
    kernel: c.kernel,
    params: { stepPages: 512, thp: 'never' },
    sim: bulk ? { checked: false, journaled: false, digested: false, latencies } : { latencies },
  });
  const { core, mm } = lab;
  const file = c.kind === 'anon' ? {} : { file: lab.inode({ kind: 'shmem', sizePages: c.pages }) };
  lab.map({ pages: c.pages, shared: c.kind === 'shmem', ...file });
  for (const part of c.written) {
    const [from, length] = inside(part, c.pages);
    lab.do(() => madvise(core, lab.vpn + from, length, 'POPULATE_WRITE'));
  }
  for (const page of c.read) if (page < c.pages) lab.read(page);
  const [from, length] = inside(c.pinned, c.pages);
  const base = lab.vpn;
  lab.vpn = base + from;
  lab.pin(true, length);
  lab.vpn = base;
  if (c.locked) lab.do(() => mlock(core, base, 1));
  if (c.drained) lab.do(() => lruAddDrainAll(core));
  const frames = Array.from({ length: c.pages }, (_, i) => lab.pfn(i)).filter((pfn) => pfn > 0);
  const [first, count] = inside(c.range, c.pages);
  const start = core.sim.nowNs;
  const result = lab.do(function* () {
    if (c.operation === 'dontneed') return yield* call(madvise(core, base + first, count, 'DONTNEED'));
    if (c.operation === 'munmap') return yield* call(munmap(core, base + first, count));
    return yield* call(exit(core));
  });
  const costNs = core.sim.nowNs - start;
  const drainer = makeTask(lab.world, 'drainer');
  new Lab({}, drainer, lab.world).do(() => lruAddDrainAll(core));
  const { folios } = core;
  return {
    result,
    costNs,
    entries: Array.from({ length: c.pages }, (_, i) => mm.pageTable.peekPte(base + i)),
    folios: frames.map((pfn) => [
      pfn,
      folios.refcount.peek(pfn),
      folios.mapcount.peek(pfn),
      folios.flags.peek(pfn),
      folios.mapping.peek(pfn),
      folios.anonExclusive.peek(pfn),
      core.frames.peekGeneration(pfn),
    ]),
    locked: mm.lockedVm.peek(),
    free:
      core.zones.reduce((sum, zone) => sum + zone.freePages.peek(), 0) +
      core.perCpu.reduce((sum, cpu) => sum + cpu.freePages.peek().length, 0),
  };
}

it('zap in bulk and entry by entry end alike', () => {
  fc.assert(
    fc.property(CASES, (c) => {
      expect(outcome(c, true)).toEqual(outcome(c, false));
    }),
    { numRuns: 25, seed: 20260101 },
  );
});
