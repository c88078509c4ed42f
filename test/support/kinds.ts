// The memory kinds of the recorded case tables, made as the recording programs made them, eight pages each (2 MiB where
// the kind is huge).

import { call, type Steps } from '../../src/engine/process.ts';
import { step } from '../../src/engine/step.ts';
import { mlock } from '../../src/mm/mapping/mlock.ts';
import { type PfnMapping, uffdModes, type VmaFields } from '../../src/mm/mapping/vma.ts';
import { fork } from '../../src/mm/process/fork.ts';
import { PTE_PRESENT, PTE_PROTNONE, PTE_WRITE } from '../../src/mm/pte.ts';
import { folioIsolateLru, lruAddDrainAll } from '../../src/mm/reclaim/lru.ts';
import { reclaimPages } from '../../src/mm/reclaim/reclaim.ts';
import { Lab } from './lab.ts';
import { tokenOf } from './tokens.ts';
import type { WorldOptions } from './world.ts';

/** Ordinary memory, some movable memory nobody asks for, a device with frames that have no struct page. */
const ZONES = [
  { kind: 'NORMAL', node: 0, pages: 8192 },
  { kind: 'DEVICE', node: 0, pages: 1024 },
] as const;

const MAKERS = {
  anon_rw_untouched: (lab: Lab) => lab.map(),
  anon_rw_touched: (lab: Lab) => touched(lab),
  anon_rw_zeropage: (lab: Lab) => {
    lab.map();
    for (let i = 0; i < lab.pages; i++) lab.read(i);
  },
  anon_ro_untouched: (lab: Lab) => lab.map({ write: false }),
  anon_ro_zeropage: (lab: Lab) => {
    lab.map({ write: false });
    for (let i = 0; i < lab.pages; i++) lab.read(i);
  },
  anon_ro_after_write: (lab: Lab) => {
    touched(lab);
    protect(lab, 0, 8, { write: false });
  },
  anon_wo: (lab: Lab) => {
    lab.map({ read: false });
    lab.touchAll('c');
  },
  anon_thp: (lab: Lab) => {
    lab.map({ pages: 512 });
    change(lab, { hugepage: 'always' });
    lab.write('c');
  },
  anon_thp_untouched: (lab: Lab) => {
    lab.map({ pages: 512 });
    change(lab, { hugepage: 'always' });
  },
  hugetlb_2m: (lab: Lab) => {
    hugetlb(lab, false);
    lab.write('c');
  },
  memfd_hugetlb: (lab: Lab) => hugetlb(lab, true),
  anon_mlocked: (lab: Lab) => {
    lab.map();
    lab.do(() => mlock(lab.core, lab.vpn, lab.pages));
  },
  swapped_out: (lab: Lab) => {
    touched(lab);
    // Before 6.9 MADV_PAGEOUT keeps a page with a referenced bit once, and clears the bit.
    for (let turn = 0; turn < 2 && lab.pfn() !== 0; turn++) lab.do(() => pageOut(lab));
    if (lab.pfn() !== 0) throw new Error('the page did not go to swap');
  },
  shared_anon: (lab: Lab) => lab.map({ shared: true, file: lab.inode({ kind: 'shmem' }) }),
  sysv_shm: (lab: Lab) => {
    lab.map({ shared: true, file: lab.inode({ kind: 'shmem' }) });
    change(lab, { vmFile: 'sysv' });
  },
  dev_zero_private: (lab: Lab) => {
    lab.map();
    change(lab, { vmFile: 'dev-zero' });
  },
  memfd_shared_rw: (lab: Lab) => lab.map({ shared: true, file: lab.inode({ kind: 'shmem' }) }),
  memfd_shared_rw_touched: (lab: Lab) => {
    lab.map({ shared: true, file: lab.inode({ kind: 'shmem' }) });
    lab.touchAll('c');
  },
  memfd_shared_ro: (lab: Lab) => lab.map({ shared: true, write: false, file: lab.inode({ kind: 'shmem' }) }),
  memfd_write_sealed_ro: (lab: Lab) =>
    lab.map({ shared: true, write: false, file: lab.inode({ kind: 'shmem', seals: ['write'] }) }),
  memfd_private_rw: (lab: Lab) => lab.map({ file: lab.inode({ kind: 'shmem' }) }),
  memfd_private_ro: (lab: Lab) => lab.map({ write: false, file: lab.inode({ kind: 'shmem' }) }),
  ext4_shared_rw: (lab: Lab) => lab.map({ shared: true, file: lab.inode({ kind: 'file', fs: 'ext4' }) }),
  ext4_shared_ro: (lab: Lab) => lab.map({ shared: true, write: false, file: lab.inode({ kind: 'file', fs: 'ext4' }) }),
  ext4_private_rw: (lab: Lab) => lab.map({ file: lab.inode({ kind: 'file', fs: 'ext4' }) }),
  ext4_private_ro: (lab: Lab) => lab.map({ write: false, file: lab.inode({ kind: 'file', fs: 'ext4' }) }),
  ext4_shared_rw_past_eof: (lab: Lab) =>
    lab.map({ shared: true, file: lab.inode({ kind: 'file', fs: 'ext4', sizePages: 1 }) }),
  fsdax_shared_rw: (lab: Lab) => lab.map({ shared: true, file: lab.inode({ kind: 'fsdax' }) }),
  fsdax_private_rw_touched: (lab: Lab) => {
    lab.map({ file: lab.inode({ kind: 'fsdax' }) });
    lab.touchAll('c');
  },
  memfd_secret: (lab: Lab) => {
    lab.map({ shared: true, file: lab.inode({ kind: 'secret' }) });
    lab.touchAll('c');
  },
  prot_none: (lab: Lab) => lab.map({ read: false, write: false }),
  prot_none_after_touch: (lab: Lab) => {
    touched(lab);
    protect(lab, 0, 8, { read: false, write: false });
  },
  hole: (lab: Lab) => {
    lab.vpn = 0x50000;
    lab.pages = 8;
  },
  half_ro: (lab: Lab) => {
    touched(lab);
    protect(lab, 4, 8, { write: false });
  },
  pfnmap_bar: (lab: Lab) => lab.map({ shared: true, pfnMapping: bar(lab) }),
  uffd_missing: (lab: Lab) => {
    lab.map();
    change(lab, { uffd: uffdModes(['missing'], tokenOf('w')) });
  },
  uffd_wp: (lab: Lab) => {
    touched(lab);
    change(lab, { uffd: uffdModes(['wp'], null) });
  },
  anon_after_fork_cow: (lab: Lab) => {
    touched(lab);
    forkedChild(lab);
  },
} as const;

export type Kind = keyof typeof MAKERS;
export const KINDS = Object.keys(MAKERS) as Kind[];

/** A fresh world on `kernel` with memory of that kind at `lab.vpn`. */
export function makeKind(kind: Kind, options: WorldOptions = {}): Lab {
  const lab = new Lab({ zones: ZONES, ...options, params: { hugePages: { 9: 2 }, swapSlots: 64, ...options.params } });
  MAKERS[kind](lab);
  return lab;
}

/** What MADV_PAGEOUT does: isolate the pages and reclaim them. */
function* pageOut(lab: Lab): Steps<void> {
  const { core } = lab;
  yield* call(lruAddDrainAll(core));
  const heads: number[] = [];
  for (let i = 0; i < lab.pages; i++) {
    if (yield* call(folioIsolateLru(core, lab.pfn(i)))) heads.push(lab.pfn(i));
  }
  yield* call(reclaimPages(core, heads));
}

function hugetlb(lab: Lab, shared: boolean): void {
  lab.map({ pages: 512, shared, file: lab.inode({ kind: 'hugetlb', hugeOrder: 9, sizePages: 512 }) });
}

function touched(lab: Lab): void {
  lab.map();
  lab.touchAll('c');
}

/** A child that keeps its copy of the address space and does nothing more. */
export function forkedChild(lab: Lab): void {
  const { sim } = lab.world;
  const forked = lab.do(() =>
    fork(lab.core, {}, function* () {
      yield sim.local(step('pause', 'none'));
    }),
  );
  if ('errno' in forked) throw new Error(`fork: ${forked.errno}`);
}

/** Change what is said of the whole mapping. */
function change(lab: Lab, fields: Partial<VmaFields>): void {
  const vma = lab.vma();
  lab.world.sim.unwatched(() => lab.mm.vmas.set(vma.start, vma.with(fields)));
}

/** What mprotect leaves behind for pages [from, to) of small present pages: VMAs, entries, nothing cached. */
export function protect(lab: Lab, from: number, to: number, rights: { read?: boolean; write?: boolean }): void {
  const vma = lab.vma();
  lab.world.sim.unwatched(() => {
    const { vmas, pageTable } = lab.mm;
    if (from > 0) vmas.set(vma.start, vma.slice(vma.start, lab.vpn + from));
    vmas.set(lab.vpn + from, vma.slice(lab.vpn + from, lab.vpn + to).with(rights));
    for (let vpn = lab.vpn + from; vpn < lab.vpn + to; vpn++) {
      const { bits, pfn, generation } = pageTable.peekPte(vpn);
      const none = rights.read === false && rights.write === false;
      const next = none ? (bits & ~(PTE_PRESENT | PTE_WRITE)) | PTE_PROTNONE : bits & ~PTE_WRITE;
      pageTable.setPte(vpn, pfn, next, generation);
    }
    for (const cpu of lab.core.cpus) cpu.flush(lab.mm.asid, lab.vpn, lab.vpn + to);
  });
}

/** A BAR of the device, inserted on fault. */
function bar(lab: Lab): PfnMapping {
  const device = lab.core.zones.find((z) => z.zone.kind === 'DEVICE')!;
  const first = device.zone.firstPfn + 512;
  return { name: 'BAR 0', frameAt: (offset) => first + offset, writable: true, eager: false };
}
