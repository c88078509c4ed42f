// do_wp_page on an anonymous page: when it is kept and when it is copied, by kernel and by who else has the page.

import { describe, expect, it } from 'vitest';
import { call } from '../../../src/engine/process.ts';
import { step } from '../../../src/engine/step.ts';
import { runTimed } from '../../../src/engine/timed.ts';
import { cpuAccess } from '../../../src/mm/fault/access.ts';
import { unlockNow, willUnlock } from '../../../src/mm/folio-lock.ts';
import {
  PG_ANON,
  PG_IN_LRU_BATCH,
  PG_KSM,
  PG_LOCKED,
  PG_LRU,
  PG_SWAPBACKED,
  PG_SWAPCACHE,
  PG_UPTODATE,
} from '../../../src/mm/page-flags.ts';
import { PTE_DIRTY, PTE_WRITE } from '../../../src/mm/pte.ts';
import { folioPut } from '../../../src/mm/refcount.ts';
import { tokenOf } from '../../support/tokens.ts';
import { actor } from '../../support/world.ts';
import {
  BASE,
  type Bench,
  bench,
  family,
  fault,
  frameAt,
  mappedFamily,
  other,
  shareAsForkDoes,
  touch,
} from './fault-bench.ts';

const A = tokenOf('A');
const B = tokenOf('B');
const PIN = 1024;

/** A page that the process wrote and that is now mapped read-only, not exclusive, once; drained to the LRU. */
function readOnlyPage(b: Bench): number {
  mappedFamily(b, family(b));
  touch(b, BASE, A);
  const pfn = frameAt(b);
  const { folios } = b.core;
  const { bits, generation } = b.mm.pageTable.peekPte(BASE);
  b.mm.pageTable.setPte(BASE, pfn, bits & ~PTE_WRITE, generation);
  for (const perCpu of b.core.perCpu) perCpu.lruAdd.value = [];
  folios.flags.set(pfn, PG_ANON | PG_SWAPBACKED | PG_UPTODATE | PG_LRU);
  folios.refcount.set(pfn, 1);
  folios.anonExclusive.set(pfn, 0);
  for (const cpu of b.core.cpus) cpu.tlb.value = [];
  return pfn;
}

interface Setting {
  readonly name: string;
  readonly set: (b: Bench, pfn: number) => void;
  /** Is the page kept? By the rule of 5.4 (mapcount), of 5.10 (refcount one), of 6.1 and 6.12 (exclusive). */
  readonly kept: readonly [boolean | 'waits', boolean, boolean];
}

const references = (b: Bench, pfn: number, more: number) =>
  b.core.folios.refcount.set(pfn, b.core.folios.refcount.peek(pfn) + more);

const SETTINGS: readonly Setting[] = [
  { name: 'nobody else has the page', set: () => {}, kept: [true, true, true] },
  {
    name: 'it is marked exclusive and pinned',
    set: (b, pfn) => {
      b.core.folios.anonExclusive.set(pfn, 1);
      references(b, pfn, PIN);
    },
    // 5.10: the pin is lost, the write goes to a copy (R2).
    kept: [true, false, true],
  },
  {
    name: 'it is pinned but not exclusive',
    set: (b, pfn) => references(b, pfn, PIN),
    kept: [true, false, false],
  },
  {
    name: 'somebody holds a plain reference',
    set: (b, pfn) => references(b, pfn, 1),
    // 5.4: the holder of the reference sees what is written after the fork (R1).
    kept: [true, false, false],
  },
  {
    name: 'another process maps it',
    set: (b) => {
      const child = other(b, 'child');
      mappedFamily(child, b.mm.vmas.entries()[0]![1].fields.anonVma!);
      shareAsForkDoes(b, child, BASE);
    },
    kept: [false, false, false],
  },
  {
    name: 'it waits in the LRU batch of this CPU',
    set: (b, pfn) => {
      b.core.perCpu[1]!.lruAdd.value = [pfn];
      b.core.folios.flags.set(pfn, PG_ANON | PG_SWAPBACKED | PG_UPTODATE | PG_IN_LRU_BATCH);
      references(b, pfn, 1);
    },
    // Drained on the spot since 5.18.
    kept: [true, false, true],
  },
  {
    name: 'it waits in the LRU batch of another CPU',
    set: (b, pfn) => {
      b.core.perCpu[3]!.lruAdd.value = [pfn];
      b.core.folios.flags.set(pfn, PG_ANON | PG_SWAPBACKED | PG_UPTODATE | PG_IN_LRU_BATCH);
      references(b, pfn, 1);
    },
    kept: [true, false, false],
  },
  {
    name: 'its swap copy is in the swap cache and nobody else names the slot',
    set: (b, pfn) => {
      b.core.swap.cache.set(0, pfn + 1);
      b.core.folios.swapEntry.set(pfn, 1);
      b.core.folios.flags.set(pfn, PG_ANON | PG_SWAPBACKED | PG_UPTODATE | PG_LRU | PG_SWAPCACHE);
      references(b, pfn, 1);
    },
    kept: [true, false, true],
  },
  {
    name: 'another swap entry names its slot',
    set: (b, pfn) => {
      b.core.swap.cache.set(0, pfn + 1);
      b.core.swap.map.set(0, 1);
      b.core.folios.swapEntry.set(pfn, 1);
      b.core.folios.flags.set(pfn, PG_ANON | PG_SWAPBACKED | PG_UPTODATE | PG_LRU | PG_SWAPCACHE);
      references(b, pfn, 1);
    },
    kept: [false, false, false],
  },
  {
    name: 'somebody holds its lock',
    set: (b, pfn) => b.core.folios.change(pfn, PG_LOCKED),
    kept: ['waits', false, false],
  },
  {
    name: 'it is a KSM page',
    set: (b, pfn) => b.core.folios.change(pfn, PG_KSM),
    kept: [false, false, false],
  },
];

const KERNELS = [
  ['v5.4', 0],
  ['v5.10', 1],
  ['v6.1.192', 2],
  ['v6.12.117', 2],
] as const;

describe.each(KERNELS)('a write to a read-only anonymous page on %s', (kernel, column) => {
  for (const { name, set, kept } of SETTINGS) {
    if (kept[column] === 'waits') continue;
    it(`${kept[column] ? 'keeps' : 'copies'} it when ${name}`, () => {
      const b = bench({ kernel, params: { swapSlots: 8 } });
      const pfn = readOnlyPage(b);
      set(b, pfn);
      const before = b.core.folios.refcount.peek(pfn);
      // The CPU with number 1 runs the second actor of this world, whose batch is the one that may be drained.
      expect(touch(b, BASE, B)).toEqual({ token: B });
      expect(frameAt(b) === pfn).toBe(kept[column]);
      const { bits } = b.mm.pageTable.peekPte(BASE);
      expect(bits & (PTE_WRITE | PTE_DIRTY)).toBe(PTE_WRITE | PTE_DIRTY);
      if (!kept[column]) {
        // The mapping's reference is given back, once; a swap copy that is of no use any more goes with it.
        const left = name.includes('nobody else names the slot') ? 0 : before - 1;
        expect(b.core.folios.refcount.peek(pfn)).toBe(left);
        expect(b.core.frames.content.peek(pfn)).toBe(A);
      }
    });
  }
});

describe('a write fault on v5.4', () => {
  it('waits for the folio lock without the page-table lock, and then keeps the page', () => {
    const b = bench({ kernel: 'v5.4' });
    const pfn = readOnlyPage(b);
    b.core.folios.change(pfn, PG_LOCKED);
    references(b, pfn, 1);
    const order: string[] = [];
    actor(b, b.task, 'writer', function* () {
      yield* call(cpuAccess(b.core, BASE, { token: B }));
      order.push('written');
    });
    actor(b, b.task, 'holder', function* () {
      yield b.sim.sleep(1_000_000, step('think', 'none'));
      expect(b.mm.pageTable.ptl.ownerOf(BASE / 512)).toBe(null);
      yield willUnlock(b.core, pfn, step('unlock', 'none'));
      unlockNow(b.core, pfn);
      order.push('unlocked');
      yield* call(folioPut(b.core, pfn, 1, 'holder'));
    });
    expect(runTimed(b.sim).end).toBe('done');
    expect(order).toEqual(['unlocked', 'written']);
    expect(frameAt(b)).toBe(pfn);
    expect(b.core.folios.refcount.peek(pfn)).toBe(1);
  });
});

describe('an unshare fault', () => {
  it('makes a page that is this process alone exclusive and leaves it read-only', () => {
    const b = bench();
    const pfn = readOnlyPage(b);
    expect(fault(b, BASE, { unshare: true })).toBe('ok');
    expect(frameAt(b)).toBe(pfn);
    expect(b.core.folios.anonExclusive.peek(pfn)).toBe(1);
    expect(b.mm.pageTable.peekPte(BASE).bits & PTE_WRITE).toBe(0);
  });

  it('of the zero page gives a page of zeros on 6.12, and nothing on 6.1', () => {
    for (const [kernel, replaced] of [
      ['v6.12.117', true],
      ['v6.1.192', false],
    ] as const) {
      const b = bench({ kernel });
      mappedFamily(b, family(b));
      touch(b, BASE);
      expect(fault(b, BASE, { unshare: true })).toBe('ok');
      expect(frameAt(b) !== b.core.zeroPfn).toBe(replaced);
    }
  });

  it('outside a COW mapping is a plain read', () => {
    const b = bench();
    mappedFamily(b, family(b), { mayWrite: false, write: false });
    expect(fault(b, BASE, { unshare: true })).toBe('ok');
    expect(frameAt(b)).toBe(b.core.zeroPfn);
  });
});

describe('copying', () => {
  it('allocates what a long-term pin may keep when the fault is one of its own', () => {
    const zones = [
      { kind: 'NORMAL', node: 0, pages: 4096 },
      { kind: 'MOVABLE', node: 0, pages: 4096 },
    ] as const;
    const zoneAfter = (memallocPin: boolean) => {
      const b = bench({ zones });
      const pfn = readOnlyPage(b);
      references(b, pfn, 1);
      fault(b, BASE, { write: true, memallocPin });
      return b.core.machine.zoneOf(frameAt(b))!.kind;
    };
    expect(zoneAfter(false)).toBe('MOVABLE');
    expect(zoneAfter(true)).toBe('NORMAL');
  });

  it('happens inside a notifier window, and the old page goes after it', () => {
    const b = bench();
    const pfn = readOnlyPage(b);
    references(b, pfn, 1);
    const seen: string[] = [];
    const note = (what: string) => {
      seen.push(
        `${what} ${b.mm.pageTable.peekPte(BASE).pfn === pfn ? 'old' : 'new'} ${b.core.folios.refcount.peek(pfn)}`,
      );
    };
    b.mm.notifiers.registerNow({
      name: 'spy',
      *invalidateRangeStart() {
        note('start');
        return true;
      },
      *invalidateRangeEnd() {
        note('end');
      },
    });
    touch(b, BASE, B);
    // At the end the mapping's and the fault's own reference are still there.
    expect(seen).toEqual(['start old 3', 'end new 3']);
    expect(b.core.folios.refcount.peek(pfn)).toBe(1);
  });
});
