// What mmap of hugetlb promises (mm/hugetlb.c), as meminfo shows it: pages of 2 MiB, free and reserved.
import { describe, expect, it } from 'vitest';
import { loadScenario } from '../../src/scenario/file/load.ts';
import { OPERATIONS } from '../../src/scenario/operations/index.ts';
import { runScenario } from '../../src/scenario/run.ts';
import { failures } from './failures.ts';

const NEW = 'v6.12.117';
const OLD = 'v6.1.192';

interface Story {
  readonly pool?: number;
  readonly kernel?: string;
  /** Size and options of the memory `h`. */
  readonly h?: string;
  readonly maps?: string;
  readonly more?: string;
}

/** A process `p` that runs these steps, with `h` mapped from the start unless said otherwise. */
function story(steps: string, { pool = 4, kernel = NEW, h = 'size: 4MiB', maps = 'h: {}', more = '' }: Story = {}) {
  return failures(`
title: huge pages are promised
kernel: ${kernel}
host: {memory: {normal: 64MiB}, hugepages: {2MiB: ${pool}}}
memory: {h: {kind: hugetlb, ${h}}}
processes: {p: {maps: {${maps}}}, q: {}}
actors:
  p:
${steps.replaceAll(/^/gm, '    ')}
${more}
`);
}

const pool = (free: number, reserved: number) => `- meminfo: {}
  shows: {HugePages_Free: ${free}, HugePages_Rsvd: ${reserved}}`;

describe('hugetlb_reserve_pages', () => {
  it('promises a private mapping all of its pages, and hugetlb_vm_op_close takes back what was not used', () => {
    const steps = `
${pool(4, 2)}
- cpu.write: {memory: h, value: A}
${pool(3, 1)}
- munmap: {memory: h, length: 2MiB}
${pool(4, 1)}
- munmap: {memory: h, offset: 2MiB, length: 2MiB}
${pool(4, 0)}`;
    for (const kernel of [OLD, NEW]) expect(story(steps, { kernel })).toEqual([]);
  });

  it('fails with ENOMEM at mmap when the pool has not so many, and leaves no trace', () => {
    for (const shared of [false, true]) {
      const steps = `
- mmap: {memory: h, shared: ${shared}}
  expect: ENOMEM
${pool(2, 0)}
- mmap: {memory: h, shared: ${shared}, size: 4MiB}
${pool(2, 2)}
- mmap: {memory: h, shared: ${shared}, name: more, offset: 4MiB, size: 2MiB}
  expect: ENOMEM`;
      expect(story(steps, { pool: 2, h: 'size: 8MiB', maps: '' }), `${shared}`).toEqual([]);
    }
  });

  it('promises nothing with MAP_NORESERVE: the fault is SIGBUS', () => {
    const steps = `
- mmap: {memory: h, shared: false, noreserve: true}
${pool(1, 0)}
- cpu.write: {memory: h, value: A}
- cpu.write: {memory: h, offset: 2MiB, value: A}
  expect: SIGBUS
- munmap: {memory: h}
${pool(1, 0)}`;
    expect(story(steps, { pool: 1, maps: '' })).toEqual([]);
  });

  it('keeps what others were promised from a mapping without promises (available_huge_pages)', () => {
    const steps = `
- mmap: {memory: h, name: greedy, shared: false, size: 2MiB, noreserve: true}
- cpu.write: {memory: greedy, value: A}
  expect: SIGBUS
- cpu.write: {memory: h, value: A}
- cpu.write: {memory: h, offset: 2MiB, value: A}
${pool(0, 0)}`;
    expect(story(steps, { pool: 2 })).toEqual([]);
  });

  it('promises a range of a file once, whoever maps it (region_chg), and until truncation or hole', () => {
    const steps = `
${pool(4, 2)}
- mmap: {memory: h, name: again}
${pool(4, 2)}
- cpu.write: {memory: h, value: A}
- munmap: {memory: h}
- munmap: {memory: again}
${pool(3, 1)}
- fallocate: {memory: h, mode: punch-hole, offset: 0, length: 2MiB}
${pool(4, 1)}
- truncate: {memory: h, size: 2MiB}
${pool(4, 0)}`;
    expect(story(steps, { h: 'size: 4MiB, memfd: true' })).toEqual([]);
  });

  it('gives all back when the file goes: with the last mapping and the descriptor', () => {
    const steps = `
- cpu.write: {memory: h, value: A}
- close: {fd: h}
${pool(3, 1)}
- munmap: {memory: h}
${pool(4, 0)}`;
    expect(story(steps, { h: 'size: 4MiB, memfd: true' })).toEqual([]);
  });

  it('grows the file to what is mapped for writing (hugetlbfs_file_mmap)', () => {
    const steps = `
- mmap: {memory: h, name: look, size: 4MiB, prot: r}
- cpu.read: {memory: look, offset: 2MiB}
  expect: SIGBUS
- mmap: {memory: h, name: more, size: 4MiB}
${pool(4, 2)}
- cpu.write: {memory: more, offset: 2MiB, value: A}
- cpu.read: {memory: look, offset: 2MiB}
  shows: {value: A}`;
    expect(story(steps, { h: 'size: 2MiB, memfd: true' })).toEqual([]);
  });

  it('punches a hole without promise: the next fault takes what is left', () => {
    const steps = `
- cpu.write: {memory: h, value: A}
- fallocate: {memory: h, mode: punch-hole, offset: 0, length: 2MiB}
${pool(2, 1)}
- mmap: {memory: h, name: other, size: 2MiB, shared: false}
${pool(2, 2)}
- cpu.write: {memory: h, value: A}
  expect: SIGBUS
- munmap: {memory: other}
- cpu.write: {memory: h, value: A}
${pool(1, 1)}`;
    expect(story(steps, { pool: 2, h: 'size: 4MiB, memfd: true' })).toEqual([]);
  });
});

describe('hugetlbfs_fallocate', () => {
  it('uses what the file was promised, then what is left of the pool, and fails with ENOSPC', () => {
    const steps = `
${pool(3, 1)}
- fallocate: {memory: h, offset: 0, length: 2MiB}
${pool(2, 0)}
- fallocate: {memory: h, offset: 0, length: 4MiB}
${pool(1, 0)}
- mmap: {name: other, memory: h, shared: false, size: 2MiB}
- fallocate: {memory: h, offset: 4MiB, length: 2MiB}
  expect: ENOSPC
${pool(1, 1)}
- munmap: {memory: other}
- fallocate: {memory: h, offset: 4MiB, length: 2MiB}
${pool(0, 0)}
- truncate: {memory: h, size: 0}
${pool(3, 0)}`;
    expect(story(steps, { pool: 3, h: 'size: 2MiB, memfd: true' })).toEqual([]);
  });
});

describe('what MADV_DONTNEED of a private mapping zaps (__unmap_hugepage_range)', () => {
  const steps = (reserved: number) => `
- cpu.write: {memory: h, value: A}
${pool(3, 1)}
- madvise: {memory: h, length: 2MiB, advice: DONTNEED}
${pool(4, reserved)}
- cpu.write: {memory: h, value: B}
${pool(3, 1)}
- munmap: {memory: h}
${pool(4, 0)}`;

  it('is promised again since df7a6d1f6405', () => {
    expect(story(steps(2), { kernel: NEW })).toEqual([]);
  });

  it('was not before', () => {
    expect(story(steps(1), { kernel: OLD })).toEqual([]);
  });
});

describe('fork', () => {
  it('leaves the promise with the parent (hugetlb_dup_vma_private); the child takes what is left, or SIGBUS', () => {
    const child = '[{cpu.write: {memory: h, value: C}, expect: SIGBUS}, {exit: {}}]';
    const steps = `
- cpu.write: {memory: h, value: A}
- fork: {as: child, child: ${child}}
- wait: child
${pool(1, 1)}
- cpu.write: {memory: h, value: B}
- cpu.write: {memory: h, offset: 2MiB, value: B}
${pool(0, 0)}
- munmap: {memory: h}
${pool(2, 0)}`;
    for (const kernel of [OLD, NEW]) expect(story(steps, { kernel, pool: 2 }), kernel).toEqual([]);
  });

  it('with an empty pool lets the owner take the page from the child (unmap_ref_private)', () => {
    const child =
      '[{wait: {actor: p, step: taken}}, {cpu.read: {memory: h}, expect: SIGBUS}, {meminfo: {}, shows: {HugePages_Free: 0, HugePages_Rsvd: 0}}]';
    const steps = `
- cpu.write: {memory: h, value: A}
- fork: {as: child, child: ${child}}
- cpu.write: {memory: h, value: B}
- cpu.read: {memory: h}
  as: taken
  shows: {value: B}
- wait: child`;
    for (const kernel of [OLD, NEW]) expect(story(steps, { kernel, pool: 1, h: 'size: 2MiB' }), kernel).toEqual([]);
  });
});

describe('mremap (clear_vma_resv_huge_pages)', () => {
  const moved = (rest: string) => `
- cpu.write: {memory: h, value: A}
- mremap: {memory: h, ${rest}}`;

  it('takes the promise along', () => {
    const steps = `${moved('to: 0x7e0000000000, may_move: true')}
${pool(3, 1)}
- munmap: {memory: h}
${pool(4, 0)}`;
    expect(story(steps)).toEqual([]);
  });

  it('of a part leaves the rest without: what it was promised is lost to the pool', () => {
    const steps = `${moved('length: 2MiB, new_size: 2MiB, to: 0x7e0000000000, may_move: true, name: part')}
- munmap: {memory: h, offset: 2MiB, length: 2MiB}
- munmap: {memory: part}
${pool(4, 1)}`;
    expect(story(steps)).toEqual([]);
  });

  it('gives back what shrinking cuts off', () => {
    const steps = `
- mremap: {memory: h, new_size: 2MiB}
${pool(4, 1)}`;
    expect(story(steps)).toEqual([]);
  });
});

describe('soft-offlining a huge page', () => {
  it('whose neighbours are promised takes another page of memory, and leaves the pool as it is', () => {
    // alloc_hugetlb_folio_nodemask: a temporary page, which takes the place of the old one (move_hugetlb_state).
    const steps = `
- cpu.write: {memory: h, value: A}
${pool(1, 1)}
- madvise: {memory: h, advice: SOFT_OFFLINE, length: 4KiB}
${pool(1, 1)}
- cpu.write: {memory: h, offset: 2MiB, value: A}
- munmap: {memory: h}
${pool(2, 0)}`;
    expect(story(steps, { pool: 2 })).toEqual([]);
  });
});

describe('memfd_pin_folios', () => {
  it('takes what a mapping of the file was promised since 26a8ea80929c (alloc_hugetlb_folio_reserve)', () => {
    const steps = `
${pool(4, 2)}
- memfd.pin_folios: {as: pins, memory: h, length: 2MiB}
${pool(3, 1)}`;
    expect(story(steps, { h: 'size: 4MiB, memfd: true' })).toEqual([]);
  });
});

describe('a scenario that maps more than the pool', () => {
  const text = `title: too much
kernel: v6.12
host: {memory: {normal: 64MiB}, hugepages: {2MiB: 1}}
memory: {h: {kind: hugetlb, size: 4MiB}}
processes:
  p:
    maps:
      h: {}
actors: {p: [{sleep: 1us}]}
`;

  it('cannot be built, and says where', () => {
    const scenario = loadScenario('test.yaml', text, OPERATIONS);
    expect(() => runScenario(scenario, {})).toThrow(/test\.yaml:8:\d+.*mmap of `h` by `p` fails with ENOMEM/s);
  });

  it('can with `noreserve`', () => {
    expect(failures(text.replace('h: {}', 'h: {noreserve: true}'))).toEqual([]);
  });
});
