import { describe, expect, it } from 'vitest';
import type { ZoneSpec } from '../../../src/hw/machine.ts';
import { memfdPinFolios, unpinFolios } from '../../../src/mm/gup/memfd-pin.ts';
import { lruAddDrainAll } from '../../../src/mm/reclaim/lru.ts';
import { Lab } from '../../support/lab.ts';
import type { WorldOptions } from '../../support/world.ts';

const ZONES: readonly ZoneSpec[] = [
  { kind: 'NORMAL', node: 0, pages: 8192 },
  { kind: 'MOVABLE', node: 0, pages: 8192 },
];

function shmem(options: WorldOptions = {}): Lab {
  const lab = new Lab({ zones: ZONES, ...options });
  lab.map({ shared: true, file: lab.inode({ kind: 'shmem' }) });
  return lab;
}

function hugetlb(kernel = 'v6.12.117'): Lab {
  const lab = new Lab({ kernel, params: { hugePages: { 9: 3 } } });
  lab.map({ pages: 1024, shared: true, file: lab.inode({ kind: 'hugetlb', hugeOrder: 9, sizePages: 1024 }) });
  return lab;
}

const pin = (lab: Lab, first: number, last: number, max = 100) =>
  lab.do(() => memfdPinFolios(lab.core, lab.file!, first, last, max, 'udmabuf'));

describe('memfd_pin_folios', () => {
  it('makes absent pages where they may stay, and pins each of them', () => {
    const lab = shmem();
    const result = pin(lab, 2, 5);
    if ('refused' in result) throw new Error(result.refused.reasons.join());
    expect(result.pins).toHaveLength(4);
    for (const { pfn } of result.pins) {
      expect(lab.core.machine.zoneOf(pfn)?.kind).toBe('NORMAL');
      expect(Math.floor(lab.core.folios.refcount.peek(pfn) / 1024)).toBe(1);
    }
    expect(lab.mm.hasPinned.peek()).toBe(false);
    lab.vpn += 2;
    lab.write('c');
    expect(lab.pfn()).toBe(result.pins[0]!.pfn);
    lab.do(() => unpinFolios(lab.core, result.pins, 'udmabuf'));
    lab.do(() => lruAddDrainAll(lab.core));
    // One reference of the cache, one of the mapping.
    expect(lab.refcount(result.pins[0]!.pfn)).toBe(2);
    expect(lab.refcount(result.pins[1]!.pfn)).toBe(1);
  });

  it('first moves pages out of ZONE_MOVABLE', () => {
    const lab = shmem();
    lab.touchAll('c');
    const before = lab.pfn();
    expect(lab.core.machine.zoneOf(before)?.kind).toBe('MOVABLE');
    const result = pin(lab, 0, 7);
    if ('refused' in result) throw new Error(result.refused.reasons.join());
    expect(lab.core.vmstat.peek('pgmigrate_success')).toBe(8);
    expect(lab.core.machine.zoneOf(result.pins[0]!.pfn)?.kind).toBe('NORMAL');
    expect(lab.read()).toBe('c');
    expect(lab.pfn()).toBe(result.pins[0]!.pfn);
  });

  it('takes one pin for a huge page, and says where in it the range starts', () => {
    const lab = hugetlb();
    const result = pin(lab, 100, 700);
    if ('refused' in result) throw new Error(result.refused.reasons.join());
    expect(result.offset).toBe(100);
    expect(result.folios.map(({ pages }) => pages)).toEqual([512, 512]);
    expect(result.pins.map(({ pfn }) => lab.core.folios.pincount.peek(pfn))).toEqual([1, 1]);
    lab.do(() => unpinFolios(lab.core, result.pins, 'udmabuf'));
    expect(result.pins.map(({ pfn }) => lab.refcount(pfn))).toEqual([512, 512]);
  });

  it('left a reference on every huge page that it made before 6.11.3', () => {
    const lab = hugetlb('v6.11');
    const result = pin(lab, 0, 0);
    if ('refused' in result) throw new Error(result.refused.reasons.join());
    lab.do(() => unpinFolios(lab.core, result.pins, 'udmabuf'));
    expect(lab.refcount(result.pins[0]!.pfn)).toBe(513);
  });

  it('stops at the most that was asked for', () => {
    const result = pin(shmem(), 0, 7, 3);
    expect('pins' in result && result.pins.length).toBe(3);
  });

  it.each([
    ['beyond the end', 0, 8],
    ['backwards', 3, 2],
  ] as const)('is EINVAL for a range %s', (_, first, last) => {
    expect(pin(shmem(), first, last)).toMatchObject({ refused: { errno: 'EINVAL' } });
  });

  it('is EINVAL for other files, and ENOMEM without a free huge page', () => {
    const lab = new Lab();
    lab.inode({ kind: 'file', fs: 'ext4' });
    expect(pin(lab, 0, 1)).toMatchObject({ refused: { errno: 'EINVAL' } });
    lab.inode({ kind: 'hugetlb', hugeOrder: 9, sizePages: 512 });
    expect(pin(lab, 0, 1)).toMatchObject({ refused: { errno: 'ENOMEM' } });
    expect(lab.core.vmstat.peek('nr_foll_pin_acquired')).toBe(0);
  });
});
