// install_special_mapping (mm/mmap.c): pages of the kernel image in a user address space. They are reserved, have no
// mapping of their own, and every process maps the same ones: the vdso by struct page, vvar (vvar_fault) by frame number.
import { call, type Steps } from '../engine/process.ts';
import { step } from '../engine/step.ts';
import type { CoreMm } from './core.ts';
import { lockFolio } from './folio-lock.ts';
import { takeRun } from './free-runs.ts';
import { Inode } from './inode.ts';
import { filemapGetFolio } from './page-cache.ts';
import { PG_RESERVED, PG_UPTODATE } from './page-flags.ts';
import type { GotFolio } from './shmem.ts';
import type { PfnMapping } from './vma.ts';

const LOCK = step('__do_fault:lock_page', 'lock');

/** The pages of a special mapping with these contents. Called while the world is built. */
export function makeSpecialMapping(core: CoreMm, name: string, tokens: readonly number[]): Inode {
  const inode = new Inode(core.sim, { kind: 'special', name, sizePages: tokens.length });
  for (const [index, token] of tokens.entries()) inode.pages.set(index, kernelPage(core, name, token) + 1);
  return core.addInode(inode);
}

/** vvar: pages of the kernel image as raw frames of a VM_PFNMAP mapping that nobody can write through. */
export function makeSpecialFrames(core: CoreMm, name: string, tokens: readonly number[]): PfnMapping {
  const pages = tokens.map((token) => kernelPage(core, name, token));
  return { name, frameAt: (offset) => pages[offset], writable: false, eager: false };
}

/** A page of the kernel image. */
function kernelPage(core: CoreMm, name: string, token: number): number {
  const { folios, frames } = core;
  const zones = core.zones.filter((state) => state.zone.kind === 'NORMAL' || state.zone.kind === 'DMA32');
  const run = zones.map((state) => takeRun(state, 1, 1)).find((found) => found !== undefined);
  if (run === undefined) throw new Error(`no memory for the pages of ${name}`);
  const pfn = run[0];
  folios.refcount.set(pfn, 1);
  folios.flags.set(pfn, PG_RESERVED | PG_UPTODATE);
  frames.content.set(pfn, token);
  return pfn;
}

/** special_mapping_fault, and the lock that __do_fault takes of a page that comes unlocked. */
export function* specialMappingFault(core: CoreMm, inode: Inode, index: number): Steps<GotFolio> {
  const head = yield* call(filemapGetFolio(core, inode, index));
  if (head === undefined) return 'sigbus';
  yield lockFolio(core, head, LOCK);
  return { head };
}
