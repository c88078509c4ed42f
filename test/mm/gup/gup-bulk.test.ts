// A step that covers many pages against one that covers one: same pages, counts, errno, statistics and cost.
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { LatencyModel } from '../../../src/engine/latency.ts';
import { call, type Steps } from '../../../src/engine/process.ts';
import { step } from '../../../src/engine/step.ts';
import { exploreSim } from '../../../src/explore/explore.ts';
import { LATENCY_DEFAULTS } from '../../../src/hw/latency-defaults.ts';
import { lockFolio, unlockNow, willUnlock } from '../../../src/mm/folio-lock.ts';
import { type GupResult, pinUserPagesRemote } from '../../../src/mm/gup/gup.ts';
import { pinUserPagesFast } from '../../../src/mm/gup/gup-fast.ts';
import { unpinUserPages } from '../../../src/mm/gup/unpin.ts';
import { PG_DIRTY, PG_LOCKED, PG_LRU } from '../../../src/mm/page-flags.ts';
import { PTE_PRESENT, PTE_SPECIAL, PTE_WRITE } from '../../../src/mm/pte.ts';
import { placeAnonPages, placeAnonVma, placeHugePage, reserveFrames } from '../../support/memory.ts';
import { actor, makeTask, makeWorld, run } from '../../support/world.ts';

const VPN = 0x10000 - 8;
const LOCK = step('test:lock');

/** What lies at one address. */
type Spot = 'page' | 'elsewhere' | 'read-only' | 'shared' | 'zero' | 'clean';
const SPOTS: readonly Spot[] = ['page', 'page', 'page', 'page', 'elsewhere', 'read-only', 'shared', 'zero', 'clean'];

interface Layout {
  readonly spots: readonly Spot[];
  readonly huge: boolean;
  readonly from: number;
  readonly pages: number;
  readonly write: boolean;
  readonly longterm: boolean;
  readonly fast: boolean;
  readonly dirty: boolean;
}

const layout: fc.Arbitrary<Layout> = fc.record({
  spots: fc.array(fc.constantFrom(...SPOTS), { minLength: 24, maxLength: 24 }),
  huge: fc.boolean(),
  from: fc.nat(23),
  pages: fc.integer({ min: 1, max: 40 }),
  write: fc.boolean(),
  longterm: fc.boolean(),
  fast: fc.boolean(),
  dirty: fc.boolean(),
});

function outcome(l: Layout, kernel: string, stepPages: number, columnWise = false): unknown {
  const latencies = new LatencyModel({ ...constants() });
  // Nobody who journals, digests or watches: runs of rows are written as such.
  const alone = columnWise ? { checked: false, journaled: false, digested: false } : {};
  const world = makeWorld({ kernel, params: { stepPages }, sim: { latencies, ...alone } });
  const { core, sim } = world;
  const { folios } = core;
  const task = makeTask(world, 'vmm');
  const mm = task.mm.peek()!;
  const pfn = reserveFrames(core, 0, 64);
  const block = reserveFrames(core, 0, 512, 512);
  // 24 small pages across the end of a page table, then a huge page and a hole.
  const vma = placeAnonVma(core, mm, VPN, l.huge ? 1032 : 24, { hugepage: 'never' });
  placeAnonPages(core, mm, vma, VPN, pfn, 24);
  for (const [i, spot] of l.spots.entries()) arrange(spot, VPN + i, pfn + i, pfn + 24 + i);
  if (l.huge) placeHugePage(core, mm, vma, VPN + 520, block);
  const request = { owner: 'test', write: l.write, longterm: l.longterm };
  const from = l.huge && l.from > 12 ? VPN + 508 + l.from : VPN + l.from;
  const start = sim.nowNs;
  const result = run(world, task, function* (): Steps<GupResult> {
    if (l.fast) return yield* call(pinUserPagesFast(core, from, l.pages, { ...request, nofault: true }));
    yield* call(mm.mmapLock.read());
    const pinned = yield* call(pinUserPagesRemote(core, mm, from, l.pages, { ...request, nofault: true }));
    yield mm.mmapLock.up();
    return pinned;
  });
  const pinCost = sim.nowNs - start;
  const counts = state();
  run(world, task, () => unpinUserPages(core, result.runs, { owner: 'test', dirty: l.dirty }));
  return {
    runs: result.runs,
    errno: result.errno,
    reason: result.reason?.reasons.at(-1),
    counts,
    after: state(),
    pinCost,
    cost: sim.nowNs - start,
    acquired: core.vmstat.peek('nr_foll_pin_acquired'),
    released: core.vmstat.peek('nr_foll_pin_released'),
  };

  function state() {
    const frames = [...Array.from({ length: 64 }, (_, i) => pfn + i), block, core.zeroPfn];
    return frames.map((f) => [folios.refcount.peek(f), folios.pincount.peek(f), folios.flags.peek(f)]);
  }

  function arrange(spot: Spot, vpn: number, here: number, there: number): void {
    const { bits, generation } = mm.pageTable.peekPte(vpn);
    if (spot === 'elsewhere') placeAnonPages(core, mm, vma, vpn, there, 1);
    if (spot === 'read-only' || spot === 'shared') mm.pageTable.setPte(vpn, here, bits & ~PTE_WRITE, generation);
    if (spot === 'shared') folios.anonExclusive.set(here, 0);
    if (spot === 'zero') mm.pageTable.setPte(vpn, core.zeroPfn, PTE_PRESENT | PTE_SPECIAL, 0);
    if (spot === 'clean') folios.flags.set(here, folios.flags.peek(here) & ~(PG_DIRTY | PG_LRU));
  }
}

/** Every class at its default, without spread. */
function constants(): Record<string, number> {
  return Object.fromEntries(
    Object.entries(LATENCY_DEFAULTS).map(([name, table]) => [name, typeof table === 'number' ? table : table[0]!]),
  );
}

describe.each(['v6.1.192', 'v6.12.117'])('steps of many pages on %s', (kernel) => {
  it('end where steps of one page end', () => {
    fc.assert(
      fc.property(layout, fc.constantFrom(2, 7, 512), (l, stepPages) => {
        const single = outcome(l, kernel, 1);
        expect(outcome(l, kernel, stepPages)).toEqual(single);
        expect(outcome(l, kernel, stepPages, true)).toEqual(single);
      }),
      { numRuns: 150 },
    );
  });
});

it('dirtying a run waits for the one folio whose lock somebody holds', () => {
  const world = makeWorld({ params: { stepPages: 512 } });
  const { core, sim } = world;
  const task = makeTask(world, 'vmm');
  const mm = task.mm.peek()!;
  const pfn = reserveFrames(core, 0, 64);
  const vma = placeAnonVma(core, mm, VPN, 24, { hugepage: 'never' });
  placeAnonPages(core, mm, vma, VPN, pfn, 24);
  for (let at = pfn; at < pfn + 24; at++) core.folios.flags.set(at, core.folios.flags.peek(at) & ~PG_DIRTY);
  const runs = run(world, task, function* (): Steps<GupResult> {
    return yield* call(pinUserPagesFast(core, VPN, 24, { owner: 'test', write: false }));
  }).runs;
  let unpinned = false;
  let early = false;
  sim.onRewind(() => {
    unpinned = false;
  });
  sim.finishSetUp();
  actor(world, task, 'locker', function* () {
    yield lockFolio(core, pfn + 11, LOCK);
    yield sim.local(LOCK);
    yield willUnlock(core, pfn + 11, LOCK);
    early ||= unpinned && (core.folios.flags.peek(pfn + 11) & PG_DIRTY) !== 0;
    unlockNow(core, pfn + 11);
  });
  actor(world, task, 'unpinner', function* () {
    // After the lock, so that the wait is certain.
    yield core.folios.flags.willRead(pfn + 11, LOCK);
    if ((core.folios.flags.get(pfn + 11) & PG_LOCKED) === 0) return;
    yield* call(unpinUserPages(core, runs, { owner: 'test', dirty: true }));
    unpinned = true;
  });
  let waited = 0;
  const result = exploreSim(sim, {
    strategy: 'random',
    runs: 200,
    atEnd: () => {
      if (unpinned) waited++;
      const clean = runs.some(({ pfn: first }) => unpinned && (core.folios.flags.peek(first) & PG_DIRTY) === 0);
      expect(clean).toBe(false);
    },
  });
  expect(result.findings).toEqual([]);
  expect(waited).toBeGreaterThan(0);
  expect(early).toBe(false);
});
