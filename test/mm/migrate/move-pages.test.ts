import { describe, expect, it } from 'vitest';
import { mbind, migrateProcess, movePages, pagesNodes } from '../../../src/mm/migrate/move-pages.ts';
import { PG_HUGETLB } from '../../../src/mm/page-flags.ts';
import {
  anonArea,
  anonPage,
  cachedPage,
  getByHand,
  hugePage,
  makeInode,
  mmOf,
  pinByHand,
  sharedArea,
} from '../../support/pages.ts';
import { makeTask, makeWorld, run } from '../../support/world.ts';

const KERNELS = ['v6.1.192', 'v6.12.117'] as const;

function twoNodes(kernel: string) {
  const world = makeWorld({
    kernel,
    zones: [
      { kind: 'NORMAL', node: 0, pages: 4096 },
      { kind: 'NORMAL', node: 1, pages: 4096 },
    ],
    params: { hugePages: { 9: 1 } },
  });
  const task = makeTask(world, 'a', { capabilities: ['CAP_SYS_NICE'] });
  return { world, task, mm: mmOf(task) };
}

type Two = ReturnType<typeof twoNodes>;

/** The memory types of the recorded cases, each at page 1024. */
const TYPES = {
  anon_rw_touched: ({ world, task }: Two) => anonPage(world, task, anonArea(world, task, 1024, 8), 1024),
  anon_thp: ({ world, task }: Two) => hugePage(world, task, anonArea(world, task, 1024, 512), 1024),
  memfd_shared_rw_touched: ({ world, task }: Two) => {
    const inode = makeInode(world, { kind: 'shmem' });
    sharedArea(task, inode, 1024, 8);
    return cachedPage(world, inode, 0, [[task, 1024]]);
  },
  hugetlb_2m: ({ world, task }: Two) => {
    const head = hugePage(world, task, anonArea(world, task, 1024, 512), 1024);
    world.core.folios.change(head, PG_HUGETLB, 1 << 4);
    // A free page of the pool on node 1.
    const pool = world.core.hugePool.get(9)!;
    const free = world.core.zones[1]!;
    const [first] = free.freeRuns.value[0]!;
    free.freeRuns.value = [[first + 512, 4096 - 512]];
    world.core.folios.order.set(first, 9);
    pool.value = [...pool.value, first];
    return head;
  },
} as const;

describe.each(KERNELS)('recorded pins/move_pages_to_node1 on %s', (kernel) => {
  it.each(Object.keys(TYPES) as (keyof typeof TYPES)[])(
    '%s: moves unpinned, returns 1 and writes no status pinned',
    (type) => {
      for (const pinned of [false, true]) {
        const two = twoNodes(kernel);
        const { world, task, mm } = two;
        const pfn = TYPES[type](two);
        if (pinned) pinByHand(world.core, pfn);
        expect(run(world, task, () => pagesNodes(world.core, mm, [1024]))).toEqual([0]);
        const moved = run(world, task, () => movePages(world.core, mm, [{ vpn: 1024, node: 1 }]));
        expect(moved).toEqual(pinned ? { result: 1, status: [null] } : { result: 0, status: [1] });
        expect(run(world, task, () => pagesNodes(world.core, mm, [1024]))).toEqual([pinned ? 0 : 1]);
        expect(mm.pageTable.peekFrame(1024) === pfn).toBe(pinned);
      }
    },
  );
});

describe.each(KERNELS)('moving pages on %s', (kernel) => {
  it('mbind(MOVE|STRICT) fails with EIO for a pinned page and moves a free one (recorded)', () => {
    for (const pinned of [false, true]) {
      const two = twoNodes(kernel);
      const { world, task, mm } = two;
      const pfn = TYPES.anon_rw_touched(two);
      if (pinned) pinByHand(world.core, pfn);
      const what = { vpn: 1024, pages: 8, nodes: [1], strict: true, move: {} };
      expect(run(world, task, () => mbind(world.core, mm, what))).toBe(pinned ? 'EIO' : 'ok');
      expect(mm.pageTable.peekPte(1024).pfn === pfn).toBe(pinned);
    }
  });

  it('mbind(STRICT) alone reports a misplaced page and moves nothing; a hole is EFAULT', () => {
    const two = twoNodes(kernel);
    const { world, task, mm } = two;
    const pfn = TYPES.anon_rw_touched(two);
    const bind = (vpn: number, pages: number) =>
      run(world, task, () => mbind(world.core, mm, { vpn, pages, nodes: [1], strict: true }));
    expect(bind(1024, 8)).toBe('EIO');
    expect(bind(1025, 7)).toBe('ok');
    expect(bind(1028, 100)).toBe('EFAULT');
    expect(mm.pageTable.peekPte(1024).pfn).toBe(pfn);
  });

  it('migrate_pages(2) counts the pages that stayed', () => {
    const two = twoNodes(kernel);
    const { world, task, mm } = two;
    const vma = anonArea(world, task, 1024, 16);
    const pages = [0, 1, 2, 3].map((i) => anonPage(world, task, vma, 1024 + i));
    pinByHand(world.core, pages[1]!);
    getByHand(world.core, pages[2]!);
    expect(run(world, task, () => migrateProcess(world.core, mm, [0], [1]))).toBe(2);
    const nodes = run(world, task, () => pagesNodes(world.core, mm, [1024, 1025, 1026, 1027, 1028]));
    expect(nodes).toEqual([1, 0, 0, 1, 'ENOENT']);
  });

  it('reports per page what cannot be moved, and stops at the first batch that fails', () => {
    const two = twoNodes(kernel);
    const { world, task, mm } = two;
    const other = makeTask(world, 'b');
    const vma = anonArea(world, task, 1024, 16);
    const [a, b, c] = [0, 1, 2].map((i) => anonPage(world, task, vma, 1024 + i));
    const inode = makeInode(world, { kind: 'shmem' });
    sharedArea(task, inode, 3000, 4);
    sharedArea(other, inode, 3000, 4);
    cachedPage(world, inode, 0, [
      [task, 3000],
      [other, 3000],
    ]);
    pinByHand(world.core, b!);
    const to = (...list: readonly (readonly [number, number])[]) =>
      run(world, task, () =>
        movePages(
          world.core,
          mm,
          list.map(([vpn, node]) => ({ vpn, node })),
        ),
      );
    expect(to([3000, 1], [1030, 1], [9999, 1], [1024, 0])).toEqual({
      result: 0,
      status: ['EACCES', 'ENOENT', 'EFAULT', 0],
    });
    // The first batch moves, the second holds a pinned page: its two pages and what follows are not reported.
    expect(to([1024, 1], [9999, 1], [1025, 1], [1026, 1], [9999, 1])).toEqual({
      result: 1,
      status: [1, 'EFAULT', null, null, 'EFAULT'],
    });
    expect(mm.pageTable.peekPte(1024).pfn).not.toBe(a);
    expect(mm.pageTable.peekPte(1026).pfn).not.toBe(c);
    expect(to([1024, 7])).toEqual({ result: 'ENODEV', status: [null] });
  });
});
