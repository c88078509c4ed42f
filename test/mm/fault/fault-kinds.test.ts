// What a read and then a write of the first page leave behind, for every kind of memory that the case tables hold. The
// facts are those of the recorded kvm/mem cases, alike on 6.1.192 and 6.12.117: a guest's access goes through the same
// page fault as the CPU's. Where the guest got EFAULT, the CPU gets a signal.
import { describe, expect, it } from 'vitest';
import { type Kind, makeKind } from '../../support/kinds.ts';
import { Lab, RECORDED } from '../../support/lab.ts';
import { tokenOf } from '../../support/tokens.ts';

interface Row {
  readonly before: number;
  readonly afterRead: number;
  readonly reads: string;
  readonly zeroPage: boolean;
  readonly write: 'ok' | 'SIGSEGV';
  readonly afterWrite: number;
}

function row(
  ...[before, afterRead, reads, zeroPage, write, afterWrite]: [number, number, string, boolean, Row['write'], number]
): Row {
  return { before, afterRead, reads, zeroPage, write, afterWrite };
}

/** Kinds that other tests have no use for. */
const MORE = {
  anon_thp_untouched: (lab: Lab) => huge(lab),
  anon_thp: (lab: Lab) => {
    huge(lab);
    lab.write('c');
  },
  memfd_private_rw_touched: (lab: Lab) => {
    lab.map({ file: lab.inode({ kind: 'shmem' }) });
    lab.touchAll('c');
  },
  tmpfs_shared_rw: (lab: Lab) => {
    written(lab);
    lab.map({ shared: true, file: lab.file! });
  },
  tmpfs_shared_ro: (lab: Lab) => {
    written(lab);
    lab.map({ shared: true, write: false, file: lab.file! });
  },
  ext4_shared_rw_touched: (lab: Lab) => {
    lab.map({ shared: true, file: onDisk(lab) });
    lab.touchAll('c');
  },
  ext4_shared_ro_f: (lab: Lab) => lab.map({ shared: true, write: false, file: onDisk(lab) }),
  ext4_private_rw_f: (lab: Lab) => lab.map({ file: onDisk(lab) }),
  ext4_private_rw_touched: (lab: Lab) => {
    lab.map({ file: onDisk(lab) });
    lab.touchAll('c');
  },
  fsdax_shared_rw_f: (lab: Lab) => lab.map({ shared: true, file: onDisk(lab, 'fsdax') }),
  hugetlb_2m: (lab: Lab) => {
    lab.map({ pages: 512, file: lab.inode({ kind: 'hugetlb', hugeOrder: 9, sizePages: 512 }) });
    lab.write('c');
  },
  memfd_hugetlb: (lab: Lab) =>
    lab.map({ pages: 512, shared: true, file: lab.inode({ kind: 'hugetlb', hugeOrder: 9, sizePages: 512 }) }),
} as const;

function huge(lab: Lab): void {
  lab.map({ pages: 512 });
  const vma = lab.vma();
  lab.world.sim.unwatched(() => lab.mm.vmas.set(vma.start, vma.with({ hugepage: 'always' })));
}

/** A tmpfs file of eight pages, written through write(2). */
function written(lab: Lab): void {
  const file = lab.inode({ kind: 'shmem' });
  lab.map({ shared: true, file });
  lab.touchAll('f');
}

function onDisk(lab: Lab, kind: 'file' | 'fsdax' = 'file') {
  const file = lab.inode({ kind, fs: 'ext4' });
  for (let i = 0; i < 8; i++) file.disk.set(i, tokenOf('f'));
  return file;
}

const TABLE: readonly (readonly [Kind | keyof typeof MORE, Row])[] = [
  ['anon_rw_untouched', row(0, 1, 'zero', true, 'ok', 1)],
  ['anon_rw_touched', row(8, 8, 'c', false, 'ok', 8)],
  ['anon_rw_zeropage', row(8, 8, 'zero', true, 'ok', 8)],
  ['anon_ro_untouched', row(0, 1, 'zero', true, 'SIGSEGV', 1)],
  ['anon_ro_zeropage', row(8, 8, 'zero', true, 'SIGSEGV', 8)],
  ['anon_ro_after_write', row(8, 8, 'c', false, 'SIGSEGV', 8)],
  ['anon_wo', row(8, 8, 'c', false, 'ok', 8)],
  ['anon_thp_untouched', row(0, 512, 'zero', true, 'ok', 512)],
  ['anon_thp', row(512, 512, 'c', false, 'ok', 512)],
  ['shared_anon', row(0, 1, 'zero', false, 'ok', 1)],
  ['sysv_shm', row(0, 1, 'zero', false, 'ok', 1)],
  ['dev_zero_private', row(0, 1, 'zero', true, 'ok', 1)],
  ['memfd_shared_rw', row(0, 1, 'zero', false, 'ok', 1)],
  ['memfd_shared_rw_touched', row(8, 8, 'c', false, 'ok', 8)],
  ['memfd_shared_ro', row(0, 1, 'zero', false, 'SIGSEGV', 1)],
  ['memfd_write_sealed_ro', row(0, 1, 'zero', false, 'SIGSEGV', 1)],
  ['memfd_private_rw', row(0, 1, 'zero', false, 'ok', 1)],
  ['memfd_private_rw_touched', row(8, 8, 'c', false, 'ok', 8)],
  ['memfd_private_ro', row(0, 1, 'zero', false, 'SIGSEGV', 1)],
  ['tmpfs_shared_rw', row(0, 8, 'f', false, 'ok', 8)],
  ['tmpfs_shared_ro', row(0, 8, 'f', false, 'SIGSEGV', 8)],
  ['ext4_shared_rw_touched', row(8, 8, 'c', false, 'ok', 8)],
  ['ext4_shared_ro_f', row(0, 8, 'f', false, 'SIGSEGV', 8)],
  ['ext4_private_rw_f', row(0, 8, 'f', false, 'ok', 8)],
  ['ext4_private_rw_touched', row(8, 8, 'c', false, 'ok', 8)],
  ['fsdax_shared_rw_f', row(0, 1, 'f', false, 'ok', 1)],
  ['fsdax_private_rw_touched', row(8, 8, 'c', false, 'ok', 8)],
  ['hugetlb_2m', row(512, 512, 'c', false, 'ok', 512)],
  ['memfd_hugetlb', row(0, 512, 'zero', false, 'ok', 512)],
  // The guest cannot reach secret memory, but the process that mapped it can.
  ['memfd_secret', row(8, 8, 'c', false, 'ok', 8)],
  ['prot_none', row(0, 0, 'SIGSEGV', false, 'SIGSEGV', 0)],
  ['prot_none_after_touch', row(0, 0, 'SIGSEGV', false, 'SIGSEGV', 0)],
  ['hole', row(0, 0, 'SIGSEGV', false, 'SIGSEGV', 0)],
  ['half_ro', row(8, 8, 'c', false, 'ok', 8)],
  ['uffd_missing', row(0, 1, 'w', false, 'ok', 1)],
  ['uffd_wp', row(8, 8, 'c', false, 'ok', 8)],
  ['anon_after_fork_cow', row(8, 8, 'c', false, 'ok', 8)],
];

function make(kind: string, kernel: string): Lab {
  const params = { hugePages: { 9: 2 }, thp: 'madvise' } as const;
  const more = MORE[kind as keyof typeof MORE];
  if (more === undefined) return makeKind(kind as Kind, { kernel, params });
  const zones = [
    { kind: 'NORMAL', node: 0, pages: 8192 },
    { kind: 'DEVICE', node: 0, pages: 1024 },
  ] as const;
  const lab = new Lab({ kernel, params, zones });
  more(lab);
  return lab;
}

/** Entries with the present bit. A PROT_NONE entry has it for pagemap, but not for the CPU. */
function present(lab: Lab): number {
  let count = 0;
  for (let i = 0; i < lab.pages; i++) if (lab.pfn(i) !== 0) count++;
  return count;
}

describe.each(RECORDED)('reading, then writing, the first page on %s', (kernel) => {
  for (const [kind, expected] of TABLE) {
    it(`of ${kind}`, () => {
      const lab = make(kind, kernel);
      const before = present(lab);
      const reads = lab.read();
      const afterRead = present(lab);
      const zeroPage = lab.pfn() === lab.core.zeroPfn || (lab.pfn() !== 0 && lab.pfn() === lab.core.hugeZeroPfn);
      const write = lab.write('W');
      expect({ before, afterRead, reads, zeroPage, write, afterWrite: present(lab) }).toEqual(expected);
      if (expected.write === 'ok') {
        expect(lab.read()).toBe('W');
        expect([lab.core.zeroPfn, lab.core.hugeZeroPfn]).not.toContain(lab.pfn());
      }
    });
  }
});

describe('after the write', () => {
  it.each(['memfd_shared_rw', 'ext4_shared_ro_f'] as const)('a page of %s belongs to the file', (kind) => {
    const lab = make(kind, 'v6.12.117');
    lab.write('W');
    lab.read();
    expect(lab.core.folios.isAnon(lab.pfn())).toBe(false);
    expect(lab.file!.pages.peek(0) - 1).toBe(lab.pfn());
  });

  it.each(['memfd_private_rw', 'ext4_private_rw_f', 'fsdax_private_rw_touched'] as const)(
    'a page of %s is an anonymous copy, and the file is as it was',
    (kind) => {
      const lab = make(kind, 'v6.12.117');
      const before = lab.file!.disk.peek(0);
      lab.write('W');
      expect(lab.core.folios.isAnon(lab.pfn())).toBe(true);
      expect(lab.core.folios.anonExclusive.peek(lab.pfn())).toBe(1);
      const original = lab.file!.pages.peek(0) - 1;
      expect(lab.core.frames.content.peek(original)).toBe(before);
    },
  );

  it('a shared fsdax page is the block on the device, which alone holds a reference', () => {
    const lab = make('fsdax_shared_rw_f', 'v6.12.117');
    lab.write('W');
    expect(lab.core.machine.zoneOf(lab.pfn())?.kind).toBe('DEVICE');
    expect(lab.core.folios.refcount.peek(lab.pfn())).toBe(1);
    expect(lab.core.frames.content.peek(lab.file!.pages.peek(0) - 1)).toBe(tokenOf('W'));
  });
});
