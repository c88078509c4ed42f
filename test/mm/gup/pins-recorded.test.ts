// Recorded cases pins/{madv_pageout,madv_cold,swap_pressure,zone_movable} played through the system calls themselves:
// make the memory, pin it as type1 does, do the operation, and look as the recording programs did.
import { describe, expect, it } from 'vitest';
import { call } from '../../../src/engine/process.ts';
import type { ZoneSpec } from '../../../src/hw/machine.ts';
import { cpuAccess } from '../../../src/mm/fault/access.ts';
import { type Advice, madvise } from '../../../src/mm/madvise/madvise.ts';
import { mmap } from '../../../src/mm/mapping/mmap.ts';
import { kpageflags, pagemap } from '../../../src/mm/proc/pagemap.ts';
import { lruAddDrainAll } from '../../../src/mm/reclaim/lru.ts';
import { startCoreMm } from '../../../src/mm/start.ts';
import { type Kind, makeKind } from '../../support/kinds.ts';
import { type Lab, RECORDED } from '../../support/lab.ts';
import { makeTask, run } from '../../support/world.ts';

type Kernel = (typeof RECORDED)[number];
const [OLD, NEW] = RECORDED;

const TYPES = {
  anon_rw_touched: 'anon_rw_touched',
  anon_thp: 'anon_thp',
  memfd_shared_rw_touched: 'memfd_shared_rw_touched',
  memfd_private_rw_touched: 'memfd_private_rw',
  shared_anon: 'shared_anon',
  ext4_shared_rw_touched: 'ext4_shared_rw',
  anon_mlocked: 'anon_mlocked',
} as const satisfies Record<string, Kind>;
type Type = keyof typeof TYPES;

function prepare(type: Type, kernel: Kernel, options: Parameters<typeof makeKind>[1] = {}): Lab {
  const lab = makeKind(TYPES[type], { kernel, ...options, params: { swapSlots: 2048, ...options.params } });
  startCoreMm(lab.core);
  if (type !== TYPES[type] || type === 'shared_anon') lab.touchAll('c');
  // Every operation of a lab runs on another CPU; the program's batches drained by themselves.
  lab.do(() => lruAddDrainAll(lab.core));
  return lab;
}

interface Row {
  readonly type: Type;
  readonly pinned: boolean;
  /** Kernels on which it was recorded so; default both. */
  readonly on?: readonly Kernel[];
  readonly result: string;
  readonly same: boolean;
  readonly present: boolean;
  readonly swapped: boolean;
  /** kpageflags of the frame that was there before; the KSM bit of 6.12's reporting bug left out. */
  readonly flags: string;
}

const KEPT = { result: 'ok', same: true, present: true, swapped: false } as const;
const UNMAPPED = { result: 'ok', same: false, present: false, swapped: false } as const;

const PAGEOUT: readonly Row[] = [
  { type: 'anon_rw_touched', pinned: true, ...KEPT, flags: 'UPTODATE|MMAP|ANON|SWAPBACKED|MAPPEDTODISK' },
  { type: 'anon_thp', pinned: true, ...KEPT, flags: 'UPTODATE|LRU|MMAP|ANON|SWAPBACKED|HEAD|THP|MAPPEDTODISK' },
  { type: 'memfd_shared_rw_touched', pinned: true, ...UNMAPPED, flags: 'UPTODATE|DIRTY|ACTIVE|SWAPBACKED' },
  { type: 'memfd_private_rw_touched', pinned: true, ...KEPT, flags: 'UPTODATE|MMAP|ANON|SWAPBACKED|MAPPEDTODISK' },
  { type: 'ext4_shared_rw_touched', pinned: true, on: [OLD], ...UNMAPPED, flags: 'UPTODATE|DIRTY|ACTIVE|PRIVATE' },
  { type: 'anon_rw_touched', pinned: false, ...UNMAPPED, swapped: true, flags: '' },
  { type: 'shared_anon', pinned: false, ...UNMAPPED, flags: '' },
  { type: 'memfd_shared_rw_touched', pinned: false, ...UNMAPPED, flags: '' },
  { type: 'memfd_private_rw_touched', pinned: false, ...UNMAPPED, swapped: true, flags: '' },
  { type: 'ext4_shared_rw_touched', pinned: false, ...UNMAPPED, flags: 'UPTODATE|DIRTY|ACTIVE|RECLAIM|PRIVATE' },
];

function advise(lab: Lab, advice: Advice): string {
  return lab.do(() => madvise(lab.core, lab.vpn, lab.pages, advice));
}

function flagsOf(lab: Lab, pfn: number): string {
  return kpageflags(lab.core, pfn)
    .filter((name) => name !== 'KSM')
    .join('|');
}

describe.each(RECORDED)('recorded pins/madv_pageout on %s', (kernel) => {
  it.each(PAGEOUT.filter(({ on }) => on === undefined || on.includes(kernel)))('$type, pinned $pinned', (row) => {
    const lab = prepare(row.type, kernel);
    if (row.pinned) expect(lab.pin()).toBe('ok');
    else lab.f0 = lab.pfn();
    const before = lab.read();
    expect(advise(lab, 'PAGEOUT')).toBe(row.result);
    expect(lab.pageState()).toMatchObject({ same_pfn: row.same, present_after: row.present });
    expect(pagemap(lab.core, lab.mm, lab.vpn).swapped).toBe(row.swapped);
    expect(flagsOf(lab, lab.f0)).toBe(row.flags);
    expect(lab.read()).toBe(before);
    if (row.pinned) {
      expect(lab.deviceRead()).toBe(before);
      const coherent = { dma_sees_new_cpu_write: true, cpu_sees_dma_write: true, coherent: true };
      expect(lab.coherence()).toEqual(coherent);
    }
  });

  it('anon_mlocked is EINVAL and stays', () => {
    const lab = prepare('anon_mlocked', kernel);
    lab.f0 = lab.pfn();
    expect(advise(lab, 'PAGEOUT')).toBe('EINVAL');
    expect(lab.pageState()).toMatchObject({ same_pfn: true, present_after: true });
  });

  it('madv_cold of pinned memory changes nothing that anybody sees', () => {
    const lab = prepare('anon_rw_touched', kernel);
    lab.pin();
    expect(advise(lab, 'COLD')).toBe('ok');
    expect(lab.pageState()).toMatchObject({ same_pfn: true, present_after: true });
    expect(lab.coherence()).toMatchObject({ coherent: true });
  });
});

const SMALL: readonly ZoneSpec[] = [{ kind: 'NORMAL', node: 0, pages: 3072 }];

describe.each(RECORDED)('recorded pins/swap_pressure on %s', (kernel) => {
  const cases = (['anon_rw_touched', 'memfd_shared_rw_touched', 'anon_thp'] as const).flatMap((type) =>
    [true, false].map((pinned) => ({ type, pinned })),
  );
  it.each(cases)('$type, pinned $pinned', ({ type, pinned }) => {
    const lab = prepare(type, kernel, { zones: SMALL, params: { hugePages: {}, swapSlots: 4096 } });
    const { core, world } = lab;
    if (pinned) lab.pin();
    else lab.f0 = lab.pfn();
    const hog = makeTask(world, 'hog');
    const want = core.zones[0]!.freePages.peek() + 256;
    run(world, hog, function* () {
      const mapped = yield* call(mmap(core, { name: 'hog', pages: want }));
      if (!('vpn' in mapped)) throw new Error(mapped.errno);
      for (let i = 0; i < want; i++) yield* call(cpuAccess(core, mapped.vpn + i, { token: 1 }));
      // Round again: what is used twice is worth more than what lies about.
      for (let i = 0; i < want; i++) yield* call(cpuAccess(core, mapped.vpn + i, null));
    });
    expect(core.vmstat.peek('pswpout')).toBeGreaterThan(0);
    if (pinned) {
      // Anonymous memory stays mapped; a shared page may lose its mapping, and faults in again as the same page.
      if (type !== 'memfd_shared_rw_touched') expect(lab.pfn()).toBe(lab.f0);
      expect(lab.coherence()).toEqual({ dma_sees_new_cpu_write: true, cpu_sees_dma_write: true, coherent: true });
    } else {
      expect(lab.pfn()).toBe(0);
      expect(pagemap(core, lab.mm, lab.vpn).swapped).toBe(type !== 'memfd_shared_rw_touched');
    }
  });
});

describe.each(RECORDED)('recorded pins/zone_movable on %s', (kernel) => {
  const zones: readonly ZoneSpec[] = [
    { kind: 'NORMAL', node: 0, pages: 8192 },
    { kind: 'MOVABLE', node: 0, pages: 4096 },
  ];
  it.each([
    ['anon_rw_touched', 8],
    ['memfd_shared_rw_touched', 8],
    ['anon_thp', 512],
    ['ext4_shared_rw_touched', kernel === NEW ? 0 : 8],
  ] as const)('%s: %i pages move before they are pinned', (type, moved) => {
    const lab = prepare(type, kernel, { zones });
    const zone = (pfn: number) => lab.core.machine.zoneOf(pfn)?.kind;
    const before = lab.pfn();
    expect(zone(before)).toBe('MOVABLE');
    // A writable long-term pin of a file with dirty tracking is refused since 6.5.
    expect(lab.pin()).toBe(moved === 0 ? 'EFAULT' : 'ok');
    expect(lab.core.vmstat.peek('pgmigrate_success')).toBe(moved);
    expect(zone(lab.pfn())).toBe(moved === 0 ? 'MOVABLE' : 'NORMAL');
    if (moved > 0)
      expect(lab.coherence()).toEqual({ dma_sees_new_cpu_write: true, cpu_sees_dma_write: true, coherent: true });
  });
});
