// Reservations of huge pages against each other, in random orders: what the pool counts as reserved is what files and
// private mappings were promised and have not used, and never more than there is.
import { describe, expect, it } from 'vitest';
import { call } from '../../../src/engine/process.ts';
import { exploreSim } from '../../../src/explore/explore.ts';
import { swapTest } from '../../../src/explore/swap.ts';
import { cpuAccess } from '../../../src/mm/fault/access.ts';
import type { Inode } from '../../../src/mm/file/inode.ts';
import { fallocate, truncate } from '../../../src/mm/file/truncate.ts';
import { madvise } from '../../../src/mm/madvise/madvise.ts';
import { type MmapRequest, mmap, munmap } from '../../../src/mm/mapping/mmap.ts';
import { offlinePages } from '../../../src/mm/migrate/offline.ts';
import { exit } from '../../../src/mm/process/exit.ts';
import { fork } from '../../../src/mm/process/fork.ts';
import { tokenOf } from '../../support/tokens.ts';
import { actor, makeTask, run } from '../../support/world.ts';
import { type Bench, bench, inode } from '../fault/fault-bench.ts';

const PLACE = 0x10000;
const KERNELS = ['v6.1.192', 'v6.12.117'] as const;

interface Race {
  readonly b: Bench;
  readonly file: Inode;
  /** A further process. */
  task(name: string): Bench['task'];
}

function world(kernel: string, pool: number): Race {
  const b = bench({ kernel, cpus: 2, params: { hugePages: { 9: pool } } });
  const file = inode(b, { kind: 'hugetlb', hugeOrder: 9, sizePages: 1024 });
  return { b, file, task: (name) => makeTask(b, name) };
}

const request = (file: Inode, more: Partial<MmapRequest> = {}): MmapRequest => ({
  name: 'h',
  pages: 1024,
  at: PLACE,
  fixed: true,
  file,
  pgoff: 0,
  ...more,
});

/** Map before the race begins. */
function mapped(r: Race, more: Partial<MmapRequest>, task = r.b.task): void {
  expect(run(r.b, task, () => mmap(r.b.core, request(r.file, more)))).toEqual({ vpn: PLACE });
}

function mapper(r: Race, name: string, more: Partial<MmapRequest>): void {
  actor(r.b, r.task(name), name, function* () {
    yield* call(mmap(r.b.core, request(r.file, more)));
  });
}

function writer(r: Race, name: string, huge: number, task = r.b.task): void {
  actor(r.b, task, name, function* () {
    yield* call(cpuAccess(r.b.core, PLACE + huge * 512, { token: tokenOf(name) }));
  });
}

const SETTINGS: Readonly<Record<string, (kernel: string) => Race>> = {
  'two map a file that a third, without promises, touches'(kernel) {
    const r = world(kernel, 3);
    const third = r.task('third');
    mapped(r, { shared: true, noReserve: true }, third);
    mapper(r, 'A', { shared: true });
    mapper(r, 'B', { shared: true, pages: 512 });
    writer(r, 'W', 1, third);
    return r;
  },
  'a private mapping and a shared one want the last page'(kernel) {
    const r = world(kernel, 1);
    mapper(r, 'A', { pages: 512 });
    mapper(r, 'B', { shared: true, pages: 512 });
    return r;
  },
  'the owner of a private mapping zaps and touches'(kernel) {
    const r = world(kernel, 2);
    mapped(r, {});
    writer(r, 'W1', 0);
    writer(r, 'W2', 0);
    actor(r.b, r.b.task, 'zapper', function* () {
      yield* call(madvise(r.b.core, PLACE, 512, 'DONTNEED'));
    });
    return r;
  },
  'parent and child write what they share, and the child ends'(kernel) {
    const r = world(kernel, 3);
    mapped(r, {});
    run(r.b, r.b.task, () => cpuAccess(r.b.core, PLACE, { token: tokenOf('old') }));
    actor(r.b, r.b.task, 'parent', function* () {
      const { core } = r.b;
      yield* call(
        fork(core, {}, function* () {
          yield* call(cpuAccess(core, PLACE, { token: tokenOf('child') }));
          yield* call(exit(core));
        }),
      );
      yield* call(cpuAccess(core, PLACE, { token: tokenOf('parent') }));
      yield* call(munmap(core, PLACE + 512, 512));
    });
    return r;
  },
  'a file with pages is truncated and mapped'(kernel) {
    const r = world(kernel, 3);
    mapped(r, { shared: true });
    for (const huge of [0, 1]) {
      run(r.b, r.b.task, () => cpuAccess(r.b.core, PLACE + huge * 512, { token: tokenOf('old') }));
    }
    mapper(r, 'A', { shared: true, write: false });
    mapper(r, 'B', { pages: 512 });
    actor(r.b, r.task('T'), 'truncater', function* () {
      yield* call(truncate(r.b.core, r.file, 512));
    });
    return r;
  },
  'a file is truncated, punched, mapped and touched'(kernel) {
    const r = world(kernel, 3);
    mapped(r, { shared: true });
    writer(r, 'W1', 0);
    writer(r, 'W2', 1);
    mapper(r, 'A', { shared: true, pages: 512, write: false });
    actor(r.b, r.task('T'), 'truncater', function* () {
      yield* call(truncate(r.b.core, r.file, 512));
    });
    actor(r.b, r.task('P'), 'puncher', function* () {
      yield* call(fallocate(r.b.core, r.file, 'punch-hole', 0, 512));
    });
    return r;
  },
};

/** What the file and the private mappings of the first process were promised and have not used. */
function promised({ b, file }: Race): number {
  const cached = [0, 1].filter((huge) => file.pages.peek(huge * 512) > 0).length;
  let sum = file.reservations!.count(0, 2) - cached;
  for (const mm of file.mms.peek()) {
    for (const [, { start, end, fields }] of mm.vmas.entries()) {
      const first = fields.pgoff / 512;
      const pages = (end - start) / 512;
      if (fields.reservation !== null) sum += pages - fields.reservation.count(first, first + pages);
    }
  }
  expect(b.core.hugePool.get(9)!.peek().length).toBeGreaterThanOrEqual(sum);
  return sum;
}

describe.each(KERNELS)('reservations racing on %s (resv_huge_pages)', (kernel) => {
  for (const [name, setting] of Object.entries(SETTINGS)) {
    it(`${name}: the books add up`, { timeout: 60_000 }, () => {
      const r = setting(kernel);
      const { sim, core } = r.b;
      let ended = 0;
      const result = exploreSim(sim, {
        strategy: 'random',
        runs: 60,
        atEnd: () =>
          sim.unwatched(() => {
            expect(core.hugeReserved.get(9)!.peek()).toBe(promised(r));
            ended++;
          }),
      });
      expect(result.findings.map((f) => f.message)).toEqual([]);
      expect(result.limits).toEqual([]);
      expect(ended).toBeGreaterThan(0);
    });

    // A fault between the look of zap_huge_pmd, which tells what to announce, and its act costs it another round.
    if (name.startsWith('a file is truncated')) continue;
    it(`${name}: independent steps commute`, { timeout: 60_000 }, () => {
      const result = swapTest(setting(kernel).b.sim, { runs: 12, seed: 'resv' });
      expect(result.failure?.message ?? null).toBeNull();
    });
  }
});

describe('dissolve_free_hugetlb_folio', () => {
  it('keeps a free page that was promised, so that its memory cannot go offline', () => {
    const zones = [
      { kind: 'NORMAL', node: 0, pages: 8192 },
      { kind: 'MOVABLE', node: 0, pages: 8192 },
    ] as const;
    const b = bench({ zones, params: { hugePages: { 9: 1 } } });
    const { firstPfn, pages } = b.core.machine.zones.find(({ kind }) => kind === 'MOVABLE')!;
    const file = inode(b, { kind: 'hugetlb', hugeOrder: 9, sizePages: 512 });
    run(b, b.task, () => mmap(b.core, request(file, { pages: 512 })));
    expect(run(b, b.task, () => offlinePages(b.core, firstPfn, pages))).toBe('EBUSY');
    run(b, b.task, () => munmap(b.core, PLACE, 512));
    expect(run(b, b.task, () => offlinePages(b.core, firstPfn, pages))).toBe('ok');
    expect(b.core.hugePool.get(9)!.peek()).toEqual([]);
  });
});
