// FOLL_LONGTERM against ZONE_MOVABLE and CMA: what is moved first, what fails, and with which words. The second half is
// the table of tools/testing/selftests/mm/gup_longterm.c.
import { describe, expect, it } from 'vitest';
import { LimitReached } from '../../../src/engine/limit.ts';
import { call } from '../../../src/engine/process.ts';
import type { ZoneSpec } from '../../../src/hw/machine.ts';
import { type GupResult, pinUserPagesRemote } from '../../../src/mm/gup/gup.ts';
import { pinUserPagesFast } from '../../../src/mm/gup/gup-fast.ts';
import { munmap } from '../../../src/mm/mapping/mmap.ts';
import { PG_IN_LRU_BATCH, PG_ISOLATED, PG_LRU } from '../../../src/mm/page-flags.ts';
import { lruAddDrainAll } from '../../../src/mm/reclaim/lru.ts';
import { type Kind, makeKind, protect } from '../../support/kinds.ts';
import { Lab, RECORDED } from '../../support/lab.ts';

/** User memory comes from the second zone first. */
const zones = (kind: 'MOVABLE' | 'CMA'): readonly ZoneSpec[] => [
  { kind: 'NORMAL', node: 0, pages: 8192 },
  { kind, node: 0, pages: 8192 },
];

function made(kind: Kind, kernel: string, zone: 'MOVABLE' | 'CMA' = 'MOVABLE'): Lab {
  return makeKind(kind, { kernel, zones: zones(zone) });
}

const zoneOf = (lab: Lab, pfn: number) => lab.core.machine.zoneOf(pfn)?.kind;

function pinned(lab: Lab, request: { write?: boolean; fast?: boolean; pages?: number } = {}): GupResult {
  const asked = { owner: 'test', write: request.write ?? true, longterm: true };
  const pages = request.pages ?? lab.pages;
  return lab.do(function* () {
    if (request.fast === true) return yield* call(pinUserPagesFast(lab.core, lab.vpn, pages, asked));
    yield* call(lab.mm.mmapLock.read());
    const result = yield* call(pinUserPagesRemote(lab.core, lab.mm, lab.vpn, pages, asked));
    yield lab.mm.mmapLock.up();
    return result;
  });
}

describe.each(RECORDED)('a long-term pin on %s', (kernel) => {
  it.each([
    ['anon_rw_touched', 8],
    ['memfd_shared_rw_touched', 8],
  ] as const)('first moves %s out of ZONE_MOVABLE, and device and CPU agree', (kind, moved) => {
    for (const fast of [false, true]) {
      const lab = made(kind, kernel);
      lab.do(() => lruAddDrainAll(lab.core));
      const before = lab.pfn();
      expect(zoneOf(lab, before)).toBe('MOVABLE');
      const result = pinned(lab, { fast });
      expect(result.pinned).toBe(8);
      expect(zoneOf(lab, result.runs[0]!.pfn)).toBe('NORMAL');
      expect(lab.pfn()).toBe(result.runs[0]!.pfn);
      expect(lab.core.vmstat.peek('pgmigrate_success')).toBe(moved);
      expect(lab.refcount(before)).toBe(0);
      lab.f0 = result.runs[0]!.pfn;
      expect(lab.coherence()).toEqual({ dma_sees_new_cpu_write: true, cpu_sees_dma_write: true, coherent: true });
    }
  });

  it('faults the untouched rest of shared memory in where it may stay', () => {
    const lab = made('memfd_shared_rw', kernel);
    lab.write('c');
    expect(zoneOf(lab, lab.pfn())).toBe('MOVABLE');
    expect(pinned(lab).pinned).toBe(8);
    expect(lab.core.vmstat.peek('pgmigrate_success')).toBe(1);
  });

  it('moves out of CMA as well', () => {
    const lab = made('anon_rw_touched', kernel, 'CMA');
    expect(zoneOf(lab, lab.pfn())).toBe('CMA');
    expect(zoneOf(lab, pinned(lab).runs[0]!.pfn)).toBe('NORMAL');
  });

  it('drains the per-CPU batch that still holds a fresh page', () => {
    const lab = made('anon_rw_touched', kernel);
    expect(lab.core.folios.has(lab.pfn(), PG_IN_LRU_BATCH)).toBe(true);
    expect(pinned(lab).pinned).toBe(8);
  });

  it('moves a huge page in one piece', () => {
    const lab = made('anon_thp', kernel);
    expect(zoneOf(lab, lab.pfn())).toBe('MOVABLE');
    const result = pinned(lab);
    expect(result.runs).toEqual([{ pfn: lab.pfn(), pages: 512 }]);
    expect(zoneOf(lab, lab.pfn())).toBe('NORMAL');
    expect(lab.core.folios.orderOf(lab.pfn())).toBe(9);
  });

  it('is ENOMEM when somebody else holds the page, and names who counts what', () => {
    const lab = made('anon_rw_touched', kernel);
    lab.do(() => lruAddDrainAll(lab.core));
    const pfn = lab.pfn();
    const { refcount } = lab.core.folios;
    lab.world.sim.unwatched(() => refcount.set(pfn, refcount.peek(pfn) + 1));
    const result = pinned(lab);
    expect(result).toMatchObject({ errno: 'ENOMEM', pinned: 0 });
    expect(result.reason?.reasons.at(-1)).toMatch(
      /ZONE_MOVABLE could not be migrated; it is busy: pfn \d+ has 3 references where 2 are expected/,
    );
    expect(result.reason?.details).toMatchObject({ pfn, zone: 'ZONE_MOVABLE', refcount: 3, 'refcount-expected': 2 });
    // Everything is as it was: no pin, the page on its list, only the stray reference left.
    expect(lab.core.vmstat.peek('nr_foll_pin_released')).toBe(lab.core.vmstat.peek('nr_foll_pin_acquired'));
    lab.do(() => lruAddDrainAll(lab.core));
    expect(refcount.peek(pfn)).toBe(2);
    expect(lab.core.folios.has(pfn, PG_LRU)).toBe(true);
    expect(lab.pfn()).toBe(pfn);
  });

  it('goes round for ever while the page cannot be isolated', () => {
    const lab = made('anon_rw_touched', kernel);
    lab.do(() => lruAddDrainAll(lab.core));
    isolate(lab, lab.pfn());
    expect(() => pinned(lab, { pages: 1 })).toThrow(LimitReached);
  });
});

function isolate(lab: Lab, pfn: number): void {
  const { flags } = lab.core.folios;
  lab.world.sim.unwatched(() => flags.set(pfn, (flags.peek(pfn) & ~PG_LRU) | PG_ISOLATED));
}

describe('kernels with other rules', () => {
  it('left the page pinned in ZONE_MOVABLE from 6.12.14 to 6.12.35 when nothing could be isolated', () => {
    const lab = made('anon_rw_touched', 'v6.12.20');
    lab.do(() => lruAddDrainAll(lab.core));
    isolate(lab, lab.pfn());
    const result = pinned(lab, { pages: 1 });
    expect(result.pinned).toBe(1);
    expect(zoneOf(lab, result.runs[0]!.pfn)).toBe('MOVABLE');
  });

  it('refuses hugetlb pages of ZONE_MOVABLE with ENOMEM on 6.1, and moves them on 6.12', () => {
    for (const [kernel, errno] of [
      ['v6.1.192', 'ENOMEM'],
      ['v6.12.117', undefined],
    ] as const) {
      // Huge pages that can migrate come from MOVABLE; what takes their place is a fresh page of the small NORMAL zone.
      const small: readonly ZoneSpec[] = [
        { kind: 'NORMAL', node: 0, pages: 2048 },
        { kind: 'MOVABLE', node: 0, pages: 8192 },
      ];
      const lab = new Lab({ kernel, zones: small, params: { hugePages: { 9: 3 } } });
      const vpns = ['a', 'b', 'c'].map((name) => {
        const file = lab.inode({ kind: 'hugetlb', hugeOrder: 9, sizePages: 512, name });
        const vpn = lab.map({ pages: 512, file, name });
        lab.write('c');
        return vpn;
      });
      const movable = vpns.find((vpn) => zoneOf(lab, lab.mm.pageTable.peekFrame(vpn)) === 'MOVABLE')!;
      lab.do(() => munmap(lab.core, vpns.find((vpn) => vpn !== movable)!, 512));
      lab.vpn = movable;
      const result = pinned(lab);
      expect(result.errno).toBe(errno);
      if (errno !== undefined) expect(result.reason?.reasons.at(-1)).toContain('follow_hugetlb_page');
    }
  });

  it('failed on huge pages of CMA from 6.6 to 6.6.46, whose tail pages were grabbed as GUP-fast does', () => {
    const lab = made('anon_thp', 'v6.6', 'CMA');
    const before = lab.refcount(lab.pfn());
    const result = pinned(lab);
    expect(result).toMatchObject({ errno: 'EFAULT', pinned: 0 });
    expect(result.reason?.reasons.at(-1)).toContain('511 tail pages');
    expect(lab.refcount(lab.pfn())).toBe(before);
    expect(pinned(made('anon_thp', 'v6.6.47', 'CMA')).pinned).toBe(512);
  });

  it('did not care for ZONE_MOVABLE before 5.13, only for CMA', () => {
    const lab = made('anon_rw_touched', 'v5.10');
    expect(zoneOf(lab, pinned(lab).runs[0]!.pfn)).toBe('MOVABLE');
  });
});

/** Which path must deliver: F = GUP-fast, S = the slow fallback, x = EFAULT. Per memory: shared RW, RO, private RW, RO. */
const SELFTEST: readonly (readonly [string, readonly [Kind, Kind, Kind, Kind], string, string])[] = [
  ['memfd', ['memfd_shared_rw', 'memfd_shared_ro', 'memfd_private_rw', 'memfd_private_ro'], 'FSFF', 'FFFF'],
  ['ext4', ['ext4_shared_rw', 'ext4_shared_ro', 'ext4_private_rw', 'ext4_private_ro'], 'xSFF', 'FFFF'],
];

describe.each(RECORDED)('gup_longterm.c on %s', (kernel) => {
  for (const [fs, kinds, modern, old] of SELFTEST) {
    for (const [i, kind] of kinds.entries()) {
      const expected = (kernel === 'v6.1.192' ? old : modern)[i]!;
      it(`${fs}, ${kind}: ${expected}`, () => {
        const write = i % 2 === 0;
        // The test writes before it takes write permission away.
        const lab = makeKind(kinds[i - (i % 2)]!, { kernel });
        lab.touchAll('c');
        if (!write) protect(lab, 0, lab.pages, { write: false });
        const fastOnly = { owner: 'test', write, longterm: true, fastOnly: true };
        const alone = lab.do(() => pinUserPagesFast(lab.core, lab.vpn, lab.pages, fastOnly));
        expect(alone.pinned === lab.pages ? 'F' : 'other').toBe(expected === 'F' ? 'F' : 'other');
        for (const fast of [false, true]) {
          const result = pinned(lab, { write, fast });
          expect(result.errno ?? result.pinned).toBe(expected === 'x' ? 'EFAULT' : lab.pages);
        }
      });
    }
  }
});
