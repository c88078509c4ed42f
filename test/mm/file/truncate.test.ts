import { describe, expect, it } from 'vitest';
import { call } from '../../../src/engine/process.ts';
import { step } from '../../../src/engine/step.ts';
import { runTimed } from '../../../src/engine/timed.ts';
import { until } from '../../../src/engine/wait.ts';
import { cpuAccess } from '../../../src/mm/fault/access.ts';
import { readPage } from '../../../src/mm/file/file-io.ts';
import type { Inode } from '../../../src/mm/file/inode.ts';
import { type FallocateMode, fallocate, truncate } from '../../../src/mm/file/truncate.ts';
import { PG_DIRTY, PG_PRIVATE } from '../../../src/mm/page-flags.ts';
import { lruAddDrainAll } from '../../../src/mm/reclaim/lru.ts';
import { Lab, RECORDED } from '../../support/lab.ts';
import { actor } from '../../support/world.ts';

const KILL = step('test:kill', 'none');

type How = 'punch_hole' | 'truncate_0' | 'truncate_0_and_extend' | 'fallocate_zero_range' | 'fallocate_collapse_range';

const MODES: Partial<Record<How, FallocateMode>> = {
  punch_hole: 'punch-hole',
  fallocate_zero_range: 'zero-range',
  fallocate_collapse_range: 'collapse-range',
};

function make(lab: Lab, type: string): void {
  if (type === 'memfd_shared_rw_touched') lab.map({ shared: true, file: lab.inode({ kind: 'shmem' }) });
  else if (type === 'memfd_private_rw_touched') lab.map({ file: lab.inode({ kind: 'shmem' }) });
  else if (type === 'memfd_hugetlb') {
    lab.map({ pages: 512, shared: true, file: lab.inode({ kind: 'hugetlb', sizePages: 512, hugeOrder: 9 }) });
  } else {
    const write = type !== 'ext4_shared_ro';
    const file = lab.inode({ kind: 'file', fs: 'ext4' });
    lab.world.sim.unwatched(() => file.disk.fill(0, 7, 102));
    lab.map({ shared: true, write, file });
  }
  if (type === 'memfd_hugetlb') lab.write('c');
  else if (type.endsWith('_touched')) lab.touchAll('c');
}

function apply(lab: Lab, how: How): string {
  const file = lab.file!;
  return lab.do(function* () {
    const mode = MODES[how];
    if (mode !== undefined) {
      return yield* call(fallocate(lab.core, file, mode, 0, mode === 'collapse-range' ? 1 : lab.pages));
    }
    const result = yield* call(truncate(lab.core, file, 0));
    if (how === 'truncate_0_and_extend') yield* call(truncate(lab.core, file, lab.pages));
    return result;
  });
}

interface Case {
  how: How;
  type: string;
  result?: string;
  /** Is the page still mapped before anything touches the memory again? */
  kept: boolean;
  /** The device and the CPU see each other's writes afterwards. */
  coherent?: boolean;
  only?: string;
}

// As recorded: pins/{punch_hole,truncate_0,truncate_0_and_extend,fallocate_*}.
const CASES: readonly Case[] = [
  { how: 'truncate_0', type: 'memfd_private_rw_touched', kept: false },
  { how: 'truncate_0_and_extend', type: 'memfd_private_rw_touched', kept: false, coherent: false },
  { how: 'punch_hole', type: 'memfd_private_rw_touched', kept: true, coherent: true },
  { how: 'truncate_0_and_extend', type: 'memfd_shared_rw_touched', kept: false, coherent: false },
  { how: 'punch_hole', type: 'memfd_shared_rw_touched', kept: false, coherent: false },
  { how: 'fallocate_zero_range', type: 'memfd_shared_rw_touched', result: 'EOPNOTSUPP', kept: true, coherent: true },
  { how: 'truncate_0', type: 'memfd_hugetlb', kept: false },
  { how: 'truncate_0_and_extend', type: 'memfd_hugetlb', kept: false, coherent: false },
  { how: 'truncate_0', type: 'ext4_shared_rw_touched', kept: false, only: 'v6.1.192' },
  { how: 'punch_hole', type: 'ext4_shared_rw_touched', kept: false, coherent: false, only: 'v6.1.192' },
  { how: 'punch_hole', type: 'ext4_shared_ro', kept: false },
  { how: 'truncate_0_and_extend', type: 'ext4_shared_ro', kept: false },
  { how: 'fallocate_zero_range', type: 'ext4_shared_ro', kept: false },
  { how: 'fallocate_collapse_range', type: 'ext4_shared_ro', kept: false },
];

describe.each(RECORDED)('holes and truncation under a pin, as recorded on %s', (kernel) => {
  it.each(CASES.filter((c) => c.only === undefined || c.only === kernel))('$how of $type', (c) => {
    const lab = new Lab({ kernel, params: { hugePages: { 9: 3 } } });
    make(lab, c.type);
    const ro = c.type.endsWith('_ro');
    expect(lab.pin(!ro)).toBe('ok');
    const before = lab.read();
    const result = apply(lab, c.how);
    expect(result).toBe(c.result ?? 'ok');
    expect(lab.pfn() === lab.f0).toBe(c.kept);
    expect(lab.core.folios.peekMapcount(lab.f0)).toBe(c.kept ? 1 : 0);
    expect(lab.deviceRead()).toBe(before);
    if (c.how !== 'truncate_0') {
      const shifted = c.how === 'fallocate_collapse_range';
      expect(lab.read()).toBe(c.kept || shifted ? before : 'zero');
      expect(lab.pfn() === lab.f0).toBe(c.kept);
    }
    if (c.coherent !== undefined) expect(lab.coherence().coherent).toBe(c.coherent);
    lab.do(() => lruAddDrainAll(lab.core));
    lab.unpin();
    // The page of a private mapping that was kept, or of a file that refused, is still in use.
    expect(lab.freed).toBe(!c.kept);
  });
});

describe('truncation', () => {
  it('makes a pinned page an orphan: no mapping, clean, no buffers, freed by the last put', () => {
    const lab = new Lab({ kernel: 'v6.1.192' });
    make(lab, 'ext4_shared_rw_touched');
    lab.pin();
    lab.do(() => lruAddDrainAll(lab.core));
    lab.do(() => truncate(lab.core, lab.file!, 0));
    const { folios } = lab.core;
    expect(folios.mapping.peek(lab.f0)).toBe(0);
    expect(folios.flags.peek(lab.f0) & (PG_DIRTY | PG_PRIVATE)).toBe(0);
    expect(lab.refcount()).toBe(1024);
    lab.unpin(true);
    expect(lab.freed).toBe(true);
    expect(lab.file!.pages.peek(0)).toBe(0);
  });

  it('raises SIGBUS beyond the end and serves what is before it', () => {
    const lab = new Lab();
    make(lab, 'memfd_shared_rw_touched');
    lab.do(() => truncate(lab.core, lab.file!, 3));
    expect([lab.read(2), lab.read(3)]).toEqual(['c', 'SIGBUS']);
  });

  it('unmaps again the private copy of a fault that slipped in between', () => {
    const lab = new Lab();
    make(lab, 'memfd_private_rw_touched');
    const file = lab.file!;
    actor(lab.world, lab.task, 'truncater', function* () {
      yield* call(truncate(lab.core, file, 0));
    });
    actor(lab.world, lab.task, 'toucher', function* () {
      for (let i = 0; i < 8; i++) yield* call(cpuAccess(lab.core, lab.vpn + i, { token: 5 }));
    });
    expect(runTimed(lab.world.sim).end).toBe('done');
    expect(Array.from({ length: 8 }, (_, i) => lab.read(i))).toEqual(Array(8).fill('SIGBUS'));
  });

  it('shifts a file together and shortens it', () => {
    const lab = new Lab();
    make(lab, 'ext4_shared_ro');
    const file = lab.file!;
    lab.world.sim.unwatched(() => file.disk.fillRising(0, 7, 100));
    expect(lab.do(() => fallocate(lab.core, file, 'collapse-range', 2, 3))).toBe('ok');
    expect(file.sizePages.peek()).toBe(5);
    expect(Array.from({ length: 5 }, (_, i) => file.disk.peek(i))).toEqual([100, 101, 105, 106, 107]);
  });

  it('zeroes the edges of a hole in a hugetlb file in place, where the device sees it', () => {
    const lab = new Lab({ params: { hugePages: { 9: 3 } } });
    make(lab, 'memfd_hugetlb');
    lab.pin();
    expect(lab.do(() => fallocate(lab.core, lab.file!, 'punch-hole', 0, 256))).toBe('ok');
    expect(lab.pfn()).toBe(lab.f0);
    expect(lab.deviceRead()).toBe('zero');
  });

  it('refuses nonsense and what the file cannot', () => {
    const lab = new Lab({ params: { hugePages: { 9: 1 } } });
    const shmem = lab.inode({ kind: 'shmem', seals: ['write'] });
    const ext4 = lab.inode({ kind: 'file', fs: 'ext4', name: 'e' });
    const secret = lab.inode({ kind: 'secret', name: 's' });
    const huge = lab.inode({ kind: 'hugetlb', name: 'h', sizePages: 512, hugeOrder: 9 });
    const f = (inode: typeof shmem, mode: FallocateMode, from: number, pages: number) =>
      lab.do(() => fallocate(lab.core, inode, mode, from, pages));
    expect(f(shmem, 'punch-hole', 0, 0)).toBe('EINVAL');
    expect(f(shmem, 'punch-hole', 0, 1)).toBe('EPERM');
    expect(f(shmem, 'collapse-range', 0, 1)).toBe('EOPNOTSUPP');
    expect(f(ext4, 'collapse-range', 4, 4)).toBe('EINVAL');
    expect(f(secret, 'punch-hole', 0, 1)).toBe('EOPNOTSUPP');
    expect(lab.do(() => truncate(lab.core, secret, 1))).toBe('EINVAL');
    expect(lab.do(() => truncate(lab.core, huge, 8))).toBe('EINVAL');
  });

  it('waits on fsdax until a short pin of the page is dropped', () => {
    const lab = new Lab({
      zones: [
        { kind: 'NORMAL', node: 0, pages: 16384 },
        { kind: 'DEVICE', node: 0, pages: 512 },
      ],
    });
    lab.map({ shared: true, file: lab.inode({ kind: 'fsdax' }) });
    lab.write('c');
    const pfn = lab.file!.pages.peek(0) - 1;
    lab.world.sim.unwatched(() => lab.core.folios.refcount.set(pfn, 1025));
    const { sim } = lab.world;
    const order: string[] = [];
    actor(lab.world, lab.task, 'truncater', function* () {
      yield* call(truncate(lab.core, lab.file!, 0));
      order.push('truncated');
    });
    actor(lab.world, lab.task, 'device', function* () {
      yield sim.sleep(1_000_000, step('io', 'none'));
      yield lab.core.folios.refcount.willUpdate(pfn, step('unpin', 'none'));
      lab.core.folios.refcount.set(pfn, 1);
      order.push('unpinned');
    });
    expect(runTimed(sim).end).toBe('done');
    expect(order).toEqual(['unpinned', 'truncated']);
    expect(lab.pfn()).toBe(0);
  });
});

describe('fallocate of shmem', () => {
  const ours = (inode: Inode) =>
    Array.from({ length: 12 }, (_, index) => (inode.pages.peek(index) > 0 ? 'page' : 'hole')).join(' ');

  it('takes the pages at once, zeroed and dirty, and makes the file longer', () => {
    const lab = new Lab();
    make(lab, 'memfd_shared_rw_touched');
    const file = lab.file!;
    expect(lab.do(() => fallocate(lab.core, file, 'allocate', 6, 4))).toBe('ok');
    expect(file.sizePages.peek()).toBe(10);
    expect(ours(file)).toBe('page page page page page page page page page page hole hole');
    const head = file.pages.peek(9) - 1;
    expect(lab.core.folios.has(head, PG_DIRTY)).toBe(true);
    expect(lab.core.frames.content.peek(head)).toBe(0);
    expect(lab.read(7)).toBe('c');
  });

  it('that fails takes back what it made and nobody has used', () => {
    const lab = new Lab();
    const file = lab.inode({ kind: 'shmem', sizePages: 8 });
    lab.map({ shared: true, file });
    lab.write('c', 1);
    expect(lab.do(() => fallocate(lab.core, file, 'allocate', 2, 2))).toBe('ok');
    expect(lab.do(() => readPage(lab.core, file, 2))).toEqual({ token: 0 });
    actor(lab.world, lab.task, 'allocator', function* () {
      expect(yield* call(fallocate(lab.core, file, 'allocate', 0, 12))).toBe('EINTR');
    });
    actor(lab.world, lab.task, 'killer', function* () {
      const { pages } = file;
      const { killed } = lab.task;
      killed.willUpdate(KILL);
      yield until(lab.world.sim, [{ id: pages.base + 6 }], () => pages.peek(6) > 0, KILL);
      killed.value = true;
    });
    expect(runTimed(lab.world.sim).end).toBe('done');
    // Written, and twice allocated; the others are of this call.
    expect(ours(file)).toBe('hole page page page hole hole hole hole hole hole hole hole');
    expect(file.sizePages.peek()).toBe(8);
  });
});
