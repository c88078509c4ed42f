// One process with mappings made by hand, for tests of page faults.
import { call } from '../../../src/engine/process.ts';
import { cpuAccess } from '../../../src/mm/fault/access.ts';
import { type FaultFlags, type FaultResult, handleMmFault } from '../../../src/mm/fault/fault.ts';
import { Inode, type InodeOptions } from '../../../src/mm/file/inode.ts';
import { Vma, type VmaFields } from '../../../src/mm/mapping/vma.ts';
import type { Mm } from '../../../src/mm/mm.ts';
import type { Task } from '../../../src/mm/process/task.ts';
import { AnonVma } from '../../../src/mm/rmap/anon-vma.ts';
import { makeTask, makeWorld, run, type TestWorld, type WorldOptions } from '../../support/world.ts';

/** First page of the mapping: 2 MiB aligned. */
export const BASE = 0x1000;

export interface Bench extends TestWorld {
  readonly task: Task;
  readonly mm: Mm;
}

export function bench(options: WorldOptions = {}): Bench {
  const world = makeWorld(options);
  const task = makeTask(world, 'vmm');
  return { ...world, task, mm: task.mm.peek()! };
}

/** A second process in the same world. */
export function other(b: Bench, name: string): Bench {
  const task = makeTask(b, name);
  return { sim: b.sim, core: b.core, task, mm: task.mm.peek()! };
}

/** Map `pages` pages at BASE: private anonymous 4 KiB pages unless said otherwise. */
export function mapped(b: Bench, fields: Partial<VmaFields> = {}, pages = 8): Vma {
  const vma = new Vma({ start: BASE, end: BASE + pages, name: 'mem', hugepage: 'never', ...fields });
  b.mm.vmas.set(vma.start, vma);
  const { file } = vma.fields;
  if (file !== null && !file.mms.peek().includes(b.mm)) file.mms.value = [...file.mms.value, b.mm];
  return vma;
}

/** A private mapping whose anon_vma is there already, to be shared with another process. */
export function mappedFamily(b: Bench, family: AnonVma, fields: Partial<VmaFields> = {}, pages = 8): Vma {
  if (!family.mms.peek().includes(b.mm)) family.mms.value = [...family.mms.value, b.mm];
  return mapped(b, { anonVma: family, ...fields }, pages);
}

export function family(b: Bench): AnonVma {
  return b.core.addAnonVma(new AnonVma(b.sim, 'family'));
}

export function inode(b: Bench, options: Partial<InodeOptions> = {}): Inode {
  return b.core.addInode(new Inode(b.sim, { kind: 'shmem', name: 'file', sizePages: 8, ...options }));
}

/** A CPU read, or a write of a token, by the process. */
export function touch(b: Bench, vpn: number, write: number | null = null) {
  return run(b, b.task, () => cpuAccess(b.core, vpn, write === null ? null : { token: write }));
}

const PLAIN: FaultFlags = {
  write: false,
  unshare: false,
  remote: false,
  allowRetry: false,
  killable: false,
  memallocPin: false,
};

/** handle_mm_fault as GUP calls it, with mmap_lock held for read. */
export function fault(b: Bench, vpn: number, flags: Partial<FaultFlags>): FaultResult {
  return run(b, b.task, function* () {
    yield* call(b.mm.mmapLock.read());
    const vma = b.sim.unwatched(() => b.mm.vmaAt(vpn)!);
    const result = yield* call(handleMmFault(b.core, b.mm, vma, vpn, { ...PLAIN, ...flags }));
    if (result !== 'retry' && result !== 'completed') yield b.mm.mmapLock.up();
    return result;
  });
}

/** Pages of the mapping that are present, as /proc/self/pagemap shows them. */
export function present(b: Bench, pages = 8): number {
  let count = 0;
  for (let i = 0; i < pages; i++) if (b.mm.pageTable.peekFrame(BASE + i) !== 0) count++;
  return count;
}

export function frameAt(b: Bench, vpn = BASE): number {
  return b.mm.pageTable.peekFrame(vpn);
}

/** What fork leaves behind: the page mapped read-only in both processes, one reference more, exclusive to neither. */
export function shareAsForkDoes(parent: Bench, child: Bench, vpn: number): void {
  const { folios } = parent.core;
  const { pfn, bits, generation } = parent.mm.pageTable.peekPte(vpn);
  const readOnly = bits & ~2;
  parent.mm.pageTable.setPte(vpn, pfn, readOnly, generation);
  child.mm.pageTable.setPmd(Math.floor(vpn / 512), 1, 1 << 14, 0);
  child.mm.pageTable.setPte(vpn, pfn, readOnly, generation);
  folios.refcount.set(pfn, folios.refcount.peek(pfn) + 1);
  folios.mapcount.set(pfn, folios.mapcount.peek(pfn) + 1);
  folios.anonExclusive.set(pfn, 0);
  for (const cpu of parent.core.cpus) cpu.tlb.value = [];
}
