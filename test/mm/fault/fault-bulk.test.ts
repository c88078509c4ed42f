// The bulk lane of faults ends where page by page ends: frames, counts, flags, LRU, free lists, counters, and cost.
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { LatencyModel } from '../../../src/engine/latency.ts';
import { call } from '../../../src/engine/process.ts';
import { cpuAccess } from '../../../src/mm/fault/access.ts';
import { handleMmFault } from '../../../src/mm/fault/fault.ts';
import { mmPopulate } from '../../../src/mm/fault/populate.ts';
import { Vma } from '../../../src/mm/mapping/vma.ts';
import { tokenOf } from '../../support/tokens.ts';
import { run } from '../../support/world.ts';
import { BASE, type Bench, bench, inode, touch } from './fault-bench.ts';

const A = tokenOf('A');

interface Case {
  readonly pages: number;
  readonly offset: number;
  readonly touched: readonly number[];
  readonly cached: readonly number[];
  readonly kernel: 'v6.1.192' | 'v6.12.117';
  readonly write: boolean;
  readonly shmem: boolean;
  /** A long-term pin's faults: not from the movable zone, of which the CPU has pages on its list. */
  readonly pin: boolean;
}

const CASES: fc.Arbitrary<Case> = fc.record({
  pages: fc.integer({ min: 1, max: 700 }),
  offset: fc.integer({ min: 0, max: 511 }),
  touched: fc.array(fc.nat(699), { maxLength: 6 }),
  cached: fc.oneof(fc.array(fc.nat(729), { maxLength: 4 }), fc.constantFrom([0, 1, 2, 3, 4, 5], [16, 17, 18, 19])),
  kernel: fc.constantFrom('v6.1.192' as const, 'v6.12.117' as const),
  write: fc.boolean(),
  shmem: fc.boolean(),
  pin: fc.boolean(),
});

function world(c: Case, stepPages: number): { b: Bench; from: number } {
  const b = bench({
    kernel: c.kernel,
    params: { stepPages },
    zones: [
      { kind: 'NORMAL', node: 0, pages: 4096 },
      { kind: 'MOVABLE', node: 0, pages: 4096 },
    ],
    sim: {
      checked: false,
      journaled: false,
      digested: false,
      latencies: new LatencyModel({ alloc: 100, 'clear-page': 70, fault: 500 }),
    },
  });
  const from = BASE + c.offset;
  const file = c.shmem ? inode(b, { sizePages: c.pages + 30 }) : null;
  const fields = { name: 'mem', hugepage: 'never', file, shared: c.shmem } as const;
  // Pages that are cached but not mapped: another mapping of the file has touched them, the last outside this one.
  const second = BASE + 8192;
  b.mm.vmas.set(second, new Vma({ start: second, end: second + c.pages + 30, ...fields }));
  if (c.shmem) for (const page of c.cached) if (page < c.pages + 30) touch(b, second + page, A);
  b.mm.vmas.set(from, new Vma({ start: from, end: from + c.pages, ...fields }));
  for (const page of c.touched) if (page < c.pages) touch(b, from + page, A);
  return { b, from };
}

/** Fault every page of the range, telling each time how many are to come. */
function faultIn(b: Bench, from: number, { pages, write, pin }: Case): void {
  run(b, b.task, function* () {
    yield* call(b.mm.mmapLock.read());
    for (let vpn = from; vpn < from + pages; vpn++) {
      if (b.mm.pageTable.peekFrame(vpn) !== 0) continue;
      const vma = b.mm.vmaAt(vpn)!;
      const flags = { write, unshare: false, remote: false, allowRetry: false, killable: false, memallocPin: pin };
      yield* call(handleMmFault(b.core, b.mm, vma, vpn, { ...flags, ahead: from + pages - vpn }));
    }
    yield b.mm.mmapLock.up();
  });
}

function state(b: Bench, from: number, pages: number) {
  const { folios, frames, perCpu, zones, vmstat } = b.core;
  const entries = Array.from({ length: pages }, (_, i) => b.mm.pageTable.peekPte(from + i));
  const heads = [...new Set(entries.map((pte) => pte.pfn))];
  return {
    entries,
    folios: heads.map((pfn) => ({
      pfn,
      refcount: folios.refcount.peek(pfn),
      mapcount: folios.mapcount.peek(pfn),
      flags: folios.flags.peek(pfn),
      lruAge: folios.lruAge.peek(pfn),
      mapping: folios.mapping.peek(pfn),
      index: folios.index.peek(pfn),
      exclusive: folios.anonExclusive.peek(pfn),
      content: frames.content.peek(pfn),
    })),
    lists: perCpu.map((cpu) => [cpu.freePages.peek(), cpu.lruAdd.peek()]),
    zones: zones.map((zone) => [zone.freePages.peek(), zone.freeRuns.peek()]),
    lru: b.core.lru.peek(),
    faults: vmstat.peek('pgfault'),
    timeNs: b.sim.nowNs,
  };
}

describe('a run of faults in the bulk lane', () => {
  it('ends in the same state at the same cost as page by page', () => {
    fc.assert(
      fc.property(CASES, (c) => {
        const slow = world(c, 1);
        const fast = world(c, 512);
        faultIn(slow.b, slow.from, c);
        faultIn(fast.b, fast.from, c);
        expect(state(fast.b, fast.from, c.pages)).toEqual(state(slow.b, slow.from, c.pages));
      }),
      { numRuns: 100 },
    );
  });

  it('is entered by user code that touches a range, at the same cost', () => {
    const touchAll = ({ b, from }: { b: Bench; from: number }, { pages, write }: Case, told: boolean): void => {
      run(b, b.task, function* () {
        for (let i = 0; i < pages; i++) {
          yield* call(cpuAccess(b.core, from + i, write ? { token: A } : null, told ? pages - i : 1));
        }
      });
    };
    fc.assert(
      fc.property(CASES, (c) => {
        const slow = world(c, 512);
        const fast = world(c, 512);
        touchAll(slow, c, false);
        touchAll(fast, c, true);
        expect(state(fast.b, fast.from, c.pages)).toEqual(state(slow.b, slow.from, c.pages));
      }),
      { numRuns: 60 },
    );
  });

  it('takes few steps', () => {
    const c = {
      pages: 512,
      offset: 0,
      touched: [],
      cached: [],
      kernel: 'v6.12.117',
      write: true,
      shmem: false,
      pin: false,
    } as const;
    const { b, from } = world(c, 512);
    run(b, b.task, () => mmPopulate(b.core, b.mm, from, from + 512));
    expect(b.sim.processes.at(-1)!.stepCount).toBeLessThan(60);
    expect(b.mm.pageTable.peekFrame(from + 511)).not.toBe(0);
  });
});
