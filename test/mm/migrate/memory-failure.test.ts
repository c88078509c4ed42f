import { describe, expect, it } from 'vitest';
import { cpuAccess } from '../../../src/mm/fault/access.ts';
import { MEMORY_ERROR_SIGNAL } from '../../../src/mm/migrate/memory-failure.ts';
import { injectError } from '../../../src/mm/migrate/soft-offline.ts';
import { PG_HWPOISON, PG_LRU } from '../../../src/mm/page-flags.ts';
import type { Task } from '../../../src/mm/process/task.ts';
import { PTE_HWPOISON, PTE_PRESENT } from '../../../src/mm/pte.ts';
import { folioIsolateLru } from '../../../src/mm/reclaim/lru.ts';
import { loadScenario } from '../../../src/scenario/file/load.ts';
import { OPERATIONS } from '../../../src/scenario/operations/index.ts';
import { CaseSearcher } from '../../../src/scenario/search/search-case.ts';
import {
  anonArea,
  anonPage,
  cachedPage,
  hugePage,
  makeInode,
  mmOf,
  pinByHand,
  sharedArea,
} from '../../support/pages.ts';
import { findingsOf } from '../../support/scenario.ts';
import { makeTask, makeWorld, run, type TestWorld } from '../../support/world.ts';

const KERNELS = ['v6.1.192', 'v6.12.117'] as const;
const NEW = 'v6.12.117';

const TYPES = {
  anon_rw_touched: (world: TestWorld, task: Task) =>
    anonPage(world, task, anonArea(world, task, 1024, 8), 1024, { content: 'A' }),
  memfd_shared_rw_touched: (world: TestWorld, task: Task) => {
    const inode = makeInode(world, { kind: 'shmem' });
    sharedArea(task, inode, 1024, 8);
    return cachedPage(world, inode, 0, [[task, 1024]], { content: 'A' });
  },
  anon_thp: (world: TestWorld, task: Task) =>
    hugePage(world, task, anonArea(world, task, 1024, 512), 1024, { content: 'A' }),
} as const;
type Type = keyof typeof TYPES;

function inject(kernel: string, type: Type, pinned: boolean, how: 'hwpoison' | 'soft-offline') {
  const world = makeWorld({ kernel });
  const task = makeTask(world, 'a');
  const pfn = TYPES[type](world, task);
  if (pinned) pinByHand(world.core, pfn);
  let signalled = false;
  world.sim.on(MEMORY_ERROR_SIGNAL, ({ code }) => {
    signalled = code === 'BUS_MCEERR_AR';
  });
  const result = run(world, task, () => injectError(world.core, 1024, 1, how));
  return { world, task, pfn, result, signalled, mm: mmOf(task), folios: world.core.folios };
}

describe.each(KERNELS)('recorded pins/madv_hwpoison on %s', (kernel) => {
  it.each([false, true])('anon, pinned %s: unmapped and recovered, whoever holds it (R75)', (pinned) => {
    const { world, task, pfn, result, signalled, mm, folios } = inject(kernel, 'anon_rw_touched', pinned, 'hwpoison');
    expect(result).toBe('ok');
    expect(signalled).toBe(kernel === NEW);
    expect(mm.pageTable.peekPte(1024).bits & (PTE_HWPOISON | PTE_PRESENT)).toBe(PTE_HWPOISON);
    expect(folios.has(pfn, PG_HWPOISON)).toBe(true);
    expect(folios.has(pfn, PG_LRU)).toBe(false);
    expect(folios.mapcount.peek(pfn)).toBe(0);
    expect(folios.refcount.peek(pfn)).toBe(pinned ? 1025 : 1);
    expect(run(world, task, () => cpuAccess(world.core, 1024, null))).toEqual({ signal: 'SIGBUS' });
  });

  it('shmem, pinned: unmapped, stays in the file, and failed because of the pin (R78)', () => {
    const { world, task, pfn, result, signalled, mm, folios } = inject(
      kernel,
      'memfd_shared_rw_touched',
      true,
      'hwpoison',
    );
    expect(result).toBe('EBUSY');
    expect(signalled).toBe(kernel === NEW);
    expect(mm.pageTable.peekPte(1024).bits & PTE_PRESENT).toBe(0);
    expect(folios.mapping.peek(pfn)).not.toBe(0);
    expect(run(world, task, () => cpuAccess(world.core, 1024, null))).toEqual({ signal: 'SIGBUS' });
  });

  it('shmem without a pin is recovered', () => {
    expect(inject(kernel, 'memfd_shared_rw_touched', false, 'hwpoison').result).toBe('ok');
  });

  it('a pinned THP cannot be split and stays mapped (R76)', () => {
    const { pfn, result, signalled, mm, folios } = inject(kernel, 'anon_thp', true, 'hwpoison');
    expect(result).toBe(kernel === NEW ? 'EHWPOISON' : 'EBUSY');
    expect(signalled).toBe(kernel === NEW);
    expect(mm.pageTable.peekPmd(2).pfn).toBe(pfn);
    expect(folios.refcount.peek(pfn)).toBe(2);
  });

  it('a THP is split, and loses the one page', () => {
    const { pfn, result, mm, folios } = inject(kernel, 'anon_thp', false, 'hwpoison');
    expect(result).toBe('ok');
    expect(mm.pageTable.peekPte(1024).bits & PTE_HWPOISON).toBe(PTE_HWPOISON);
    expect(mm.pageTable.peekPte(1025).pfn).toBe(pfn + 1);
    expect(folios.has(pfn, PG_HWPOISON)).toBe(true);
    expect(folios.has(pfn + 1, PG_HWPOISON)).toBe(false);
  });

  it('a clean file page leaves the file, and a pin makes that a failure (R77)', () => {
    for (const pinned of [false, true]) {
      const world = makeWorld({ kernel });
      const task = makeTask(world, 'a');
      const inode = makeInode(world, { kind: 'file', fs: 'ext4' });
      sharedArea(task, inode, 1024, 8);
      const pfn = cachedPage(world, inode, 0, [[task, 1024]], { dirty: false });
      if (pinned) pinByHand(world.core, pfn);
      expect(run(world, task, () => injectError(world.core, 1024, 1, 'hwpoison'))).toBe(pinned ? 'EBUSY' : 'ok');
      expect(inode.pages.peek(0)).toBe(0);
      // Its contents are read again from the disk, so that nobody needs a hwpoison entry.
      expect(mmOf(task).pageTable.peekPte(1024).bits & PTE_HWPOISON).toBe(0);
    }
  });
});

describe.each(KERNELS)('recorded pins/madv_soft_offline on %s', (kernel) => {
  it.each(['anon_rw_touched', 'memfd_shared_rw_touched', 'anon_thp'] as const)(
    '%s, pinned: EBUSY, and it stays in use (R38)',
    (type) => {
      const { world, task, pfn, result, mm, folios } = inject(kernel, type, true, 'soft-offline');
      expect(result).toBe('EBUSY');
      expect(mm.pageTable.peekFrame(1024)).toBe(pfn);
      expect(folios.has(pfn, PG_HWPOISON)).toBe(false);
      expect(run(world, task, () => cpuAccess(world.core, 1024, null))).toMatchObject({ token: expect.any(Number) });
    },
  );

  it.each(['anon_rw_touched', 'memfd_shared_rw_touched', 'anon_thp'] as const)(
    '%s: moves, and the frame is retired',
    (type) => {
      const { world, task, pfn, result, mm, folios } = inject(kernel, type, false, 'soft-offline');
      const content = world.core.frames.content.peek(pfn);
      expect(result).toBe('ok');
      expect(mm.pageTable.peekFrame(1024)).not.toBe(pfn);
      expect(folios.has(pfn, PG_HWPOISON)).toBe(true);
      expect(folios.refcount.peek(pfn)).toBe(1);
      expect(folios.mapcount.peek(pfn)).toBe(0);
      expect(run(world, task, () => cpuAccess(world.core, 1024, null))).toEqual({ token: content });
    },
  );
});

describe('a frame that is poisoned twice', () => {
  it.each(KERNELS)('gives the second caller an error and takes nothing from it on %s', (kernel) => {
    // The THP is pinned, so that it stays mapped and the second call finds it.
    const { world, task, pfn, folios } = inject(kernel, 'anon_thp', true, 'hwpoison');
    const before = folios.refcount.peek(pfn);
    let signalled = false;
    world.sim.on(MEMORY_ERROR_SIGNAL, () => {
      signalled = true;
    });
    expect(run(world, task, () => injectError(world.core, 1024, 1, 'hwpoison'))).toBe('EHWPOISON');
    expect(folios.refcount.peek(pfn)).toBe(before);
    expect(signalled).toBe(kernel === NEW);
  });

  it.each(['HWPOISON', 'PAGEOUT'])(
    'at once, or while it is reclaimed, has the references that it should (%s)',
    (other) => {
      const text = `title: T
kernel: ${NEW}
host: {cpus: 3, swap: 1MiB, memory: {normal: 16MiB}}
memory: {ram: {kind: anon, size: 4KiB, populate: write}}
processes: {p: {threads: 2, maps: {ram: {}}}}
actors:
  a: {on: p, do: [{madvise: {memory: ram, advice: HWPOISON}, expect: any}]}
  b: {on: p, do: [{madvise: {memory: ram, advice: ${other}}, expect: any}]}
`;
      const scenario = loadScenario('test.yaml', text, OPERATIONS);
      const searcher = new CaseSearcher(scenario, scenario.cases[0]!, { strategy: 'dpor', maxExecutions: 2000 });
      while (searcher.next());
      const { findings, verdict } = searcher.result();
      expect(findings.map(({ finding }) => finding.message)).toEqual([]);
      expect(verdict).toBe('verified');
    },
  );
});

describe('a frame that somebody has isolated', () => {
  it('stays where it is: nobody knows what to do with it', () => {
    const world = makeWorld({ kernel: NEW });
    const task = makeTask(world, 'a');
    const inode = makeInode(world, { kind: 'file' });
    sharedArea(task, inode, 1024, 8);
    const pfn = cachedPage(world, inode, 0, [[task, 1024]], { content: 'A' });
    expect(run(world, task, () => folioIsolateLru(world.core, pfn))).toBe(true);
    // Before, it left the file without being unmapped.
    expect(run(world, task, () => injectError(world.core, 1024, 1, 'hwpoison'))).toBe('EBUSY');
    expect(inode.pages.peek(0)).toBe(pfn + 1);
    expect(mmOf(task).pageTable.peekPte(1024).bits & PTE_PRESENT).toBe(PTE_PRESENT);
    expect(world.core.folios.has(pfn, PG_HWPOISON)).toBe(true);
  });
});

describe('soft-offlining a huge page', () => {
  it('does not poison it when somebody has taken it out of the pool meanwhile', () => {
    const text = `title: T
kernel: ${NEW}
host: {cpus: 3, memory: {normal: 64MiB}, hugepages: {2MiB: 2}}
memory: {ram: {kind: hugetlb, size: 2MiB, memfd: true, populate: write}, other: {kind: hugetlb, size: 2MiB, memfd: true}}
processes: {p: {maps: {ram: {}}}, q: {}}
actors:
  p:
    - madvise: {memory: ram, advice: SOFT_OFFLINE}
      hold: {at: page_handle_poison, until: q}
      expect: EBUSY
  q:
    - sleep: 1ms
    - mmap: {memory: other, name: m, shared: true, noreserve: true}
    - touch: {memory: m}
`;
    expect(findingsOf(text)).toEqual([]);
  });
});
