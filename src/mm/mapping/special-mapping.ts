// install_special_mapping (mm/mmap.c): pages of the kernel image in a user address space. They are reserved, have no
// mapping of their own, and every process maps the same ones: the vdso by struct page, vvar (vvar_fault) by frame number.
import { call, type Steps } from '../../engine/process.ts';
import { step } from '../../engine/step.ts';
import { takeRun } from '../alloc/free-runs.ts';
import type { CoreMm, ZoneState } from '../core.ts';
import { Inode } from '../file/inode.ts';
import { filemapGetFolio } from '../file/page-cache.ts';
import type { GotFolio } from '../file/shmem.ts';
import { lockFolio } from '../folio-lock.ts';
import { REFERENCE_TAKEN } from '../ledger.ts';
import { PG_RESERVED, PG_UPTODATE } from '../page-flags.ts';
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
  return { name, frameAt: (offset) => pages[offset], writable: false, eager: false, special: true };
}

/**
 * Pages that a driver maps with remap_pfn_range: all but the first of a larger block, so that they have struct pages but
 * no count of their own (a block that is not compound counts in its first page). Called while the world is built.
 */
export function makeDriverFrames(core: CoreMm, name: string, tokens: readonly number[]): PfnMapping {
  const first = takePages(core, name, tokens.length + 1);
  core.folios.refcount.set(first, 1);
  core.folios.flags.set(first, PG_RESERVED);
  for (const [offset, token] of tokens.entries()) core.frames.content.set(first + 1 + offset, token);
  return { name, frameAt: (offset) => first + 1 + offset, writable: true, eager: true };
}

/**
 * Pages of a dma-buf from the system heap (drivers/dma-buf/heaps/system_heap.c): ordinary pages that the buffer holds one
 * reference to each, mapped with remap_pfn_range, so that GUP refuses them. Called while the world is built.
 */
export function makeHeapFrames(core: CoreMm, name: string, tokens: readonly number[]): PfnMapping {
  const { folios, frames, sim } = core;
  const pages = tokens.map((token) => {
    const pfn = takePages(core, name, 1);
    folios.refcount.set(pfn, 1);
    folios.flags.set(pfn, PG_UPTODATE);
    frames.content.set(pfn, token);
    return pfn;
  });
  if (sim.hears(REFERENCE_TAKEN)) {
    sim.emit(REFERENCE_TAKEN, { runs: pages.map((pfn) => ({ pfn, pages: 1 })), owner: `dma-buf ${name}` });
  }
  return { name, frameAt: (offset) => pages[offset], writable: true, eager: true };
}

/** A page of the kernel image. */
function kernelPage(core: CoreMm, name: string, token: number): number {
  const { folios, frames } = core;
  const pfn = takePages(core, name, 1);
  folios.refcount.set(pfn, 1);
  folios.flags.set(pfn, PG_RESERVED | PG_UPTODATE);
  frames.content.set(pfn, token);
  return pfn;
}

/** Pages of a zone that hold data of the kernel (slab, page tables): in use for good, on no list, and nothing can move them. */
export function takeKernelPages(core: CoreMm, zone: ZoneState, pages: number): void {
  for (let i = 0; i < pages; i++) {
    const run = takeRun(zone, 1, 1);
    if (run === undefined) throw new Error(`no memory for ${pages} pages of the kernel in ${zone.zone.name}`);
    core.folios.refcount.set(run[0], 1);
    core.folios.flags.set(run[0], PG_RESERVED);
  }
}

/** Contiguous frames that the kernel keeps for good. */
function takePages(core: CoreMm, name: string, pages: number): number {
  let align = 1;
  while (align < pages) align *= 2;
  for (const state of core.zones) {
    if (state.zone.kind !== 'NORMAL' && state.zone.kind !== 'DMA32') continue;
    const run = takeRun(state, pages, align);
    if (run !== undefined) return run[0];
  }
  throw new Error(`no memory for the pages of ${name}`);
}

/** special_mapping_fault, and the lock that __do_fault takes of a page that comes unlocked. */
export function* specialMappingFault(core: CoreMm, inode: Inode, index: number): Steps<GotFolio> {
  const head = yield* call(filemapGetFolio(core, inode, index));
  if (head === undefined) return 'sigbus';
  yield lockFolio(core, head, LOCK);
  return { head };
}
