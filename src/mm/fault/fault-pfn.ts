// Faults on memory without counted pages: raw frames inserted by a driver (mm/memory.c vmf_insert_pfn; vfio-pci BARs,
// vvar) and fsdax (fs/dax.c dax_iomap_fault), whose frames are the file's blocks on the device.
import { call, type Steps } from '../../engine/process.ts';
import { step } from '../../engine/step.ts';
import { PMD_PAGES } from '../../hw/machine.ts';
import { takeRun } from '../alloc/free-runs.ts';
import { allocFolio } from '../alloc/page-alloc.ts';
import type { CoreMm } from '../core.ts';
import type { Inode } from '../file/inode.ts';
import type { PfnMapping } from '../mapping/vma.ts';
import { pmdOf } from '../page-table.ts';
import { PTE_DEVMAP, PTE_NONE, PTE_PRESENT, PTE_SPECIAL, PTE_YOUNG } from '../pte.ts';
import { anonVmaPrepare, userGfp } from './anon-page.ts';
import { Fault, type FaultResult, maybeMkwrite, PTE_MKDIRTY, protBits, pteAlloc, putUnused } from './fault-context.ts';
import { mapCopy } from './fault-file.ts';

const INSERT = step('vmf_insert_pfn', 'fault');
const INSERT_PMD = step('vmf_insert_pfn_pmd', 'fault');
const INVALIDATE_LOCK = step('dax_iomap_fault:invalidate_lock', 'lock');
const INVALIDATE_UNLOCK = step('dax_iomap_fault:invalidate_unlock', 'lock');
const SIZE = step('dax_iomap_fault:i_size', 'op');
const BLOCK = step('dax_iomap_fault:iomap_begin', 'op');
const ALLOCATE = step('dax_iomap_fault:allocate', 'alloc');
const COPY = step('dax_fault_cow_page', 'copy-page');
const WP_SET = step('wp_pfn_shared', 'pte-op');

/** vm_ops->fault of a VMA of raw frames. `sigbus`: no frame there now (memory decoding off), or mapped at mmap only. */
export function* pfnFault(core: CoreMm, fault: Fault, mapping: PfnMapping): Steps<FaultResult> {
  if (mapping.eager) return 'sigbus';
  const { mm, vma, vpn } = fault;
  if (mapping.inserts === 'leaf' && (yield* call(insertPmd(core, fault, mapping)))) return 'ok';
  if (mapping.inserts !== 'area') return yield* call(insertPages(core, fault, mapping, vpn, vpn + 1));
  const first = yield* call(insertPages(core, fault, mapping, vpn, vpn + 1));
  if (first !== 'ok') return first;
  for (let from = vma.start; from < vma.end; ) {
    const to = Math.min(vma.end, (pmdOf(from) + 1) * PMD_PAGES, from + core.params.stepPages);
    yield* call(insertPages(core, new Fault(mm, vma, from, fault.flags), mapping, from, to));
    from = to;
  }
  return 'ok';
}

/** insert_pfn of pages [from, to) of one page table; entries that are there stay. */
function* insertPages(
  core: CoreMm,
  fault: Fault,
  mapping: PfnMapping,
  from: number,
  to: number,
): Steps<'ok' | 'sigbus'> {
  const { pageTable } = fault.mm;
  if (!(yield* call(pteAlloc(fault)))) return 'ok';
  pageTable.willUpdatePtes(from, to - 1, INSERT);
  yield core.sim.times(to - from, fault.pass(INSERT));
  if (!fault.tablePresent) return 'ok';
  for (let vpn = from; vpn < to; vpn++) {
    const pfn = mapping.frameAt(fault.vma.indexOf(vpn));
    if (pfn === undefined) return 'sigbus';
    if (pageTable.pte(vpn).bits !== 0) continue;
    // insert_pfn takes vm_page_prot as it is: a shared mapping is writable from the first touch.
    const bits = PTE_PRESENT | PTE_SPECIAL | PTE_YOUNG | protBits(fault.vma);
    pageTable.setPte(vpn, pfn, bits, core.frames.peekGeneration(pfn));
  }
  return 'ok';
}

/** vmf_insert_pfn_pmd: one leaf for 2 MiB, where VMA and frames are aligned to it. False: fall back to pages. */
function* insertPmd(core: CoreMm, fault: Fault, mapping: PfnMapping): Steps<boolean> {
  const { mm, vma, row } = fault;
  const first = row * PMD_PAGES;
  if (first < vma.start || first + PMD_PAGES > vma.end) return false;
  yield fault.passPmd(INSERT_PMD);
  const pfn = mapping.frameAt(vma.indexOf(first));
  if (pfn === undefined || pfn % PMD_PAGES !== 0) return false;
  if (mapping.frameAt(vma.indexOf(first + PMD_PAGES - 1)) !== pfn + PMD_PAGES - 1) return false;
  if (mm.pageTable.pmd(row).bits !== 0) return false;
  fault.setPmd(core, pfn, PTE_PRESENT | PTE_SPECIAL | PTE_YOUNG | protBits(vma));
  return true;
}

/**
 * dax_iomap_fault (until 6.14: entries are pte_devmap and hold no reference). A private write copies; a shared write
 * maps writable at once.
 */
export function* daxFault(core: CoreMm, fault: Fault, inode: Inode): Steps<FaultResult> {
  yield* call(inode.invalidateLock.read(INVALIDATE_LOCK));
  const result = yield* call(daxIomapFault(core, fault, inode));
  yield inode.invalidateLock.up(INVALIDATE_UNLOCK);
  return result;
}

function* daxIomapFault(core: CoreMm, fault: Fault, inode: Inode): Steps<FaultResult> {
  const { write } = fault.flags;
  yield inode.sizePages.willRead(SIZE);
  if (fault.index >= inode.sizePages.value) return 'sigbus';
  const pfn = yield* call(daxBlock(core, inode, fault.index));
  if (pfn === undefined) return 'sigbus';
  if (write && !fault.vma.fields.shared) return yield* call(daxCow(core, fault, pfn));
  if (!(yield* call(pteAlloc(fault)))) return 'ok';
  yield fault.pass(INSERT);
  fault.orig = PTE_NONE;
  if (!fault.same) return 'ok';
  fault.set(core, pfn, PTE_PRESENT | PTE_DEVMAP | PTE_YOUNG | (write ? maybeMkwrite(fault.vma) : 0));
  return 'ok';
}

/** The device frame of a block of the file, allotted at the first touch; undefined when the device is full. */
export function* daxBlock(core: CoreMm, inode: Inode, index: number): Steps<number | undefined> {
  yield inode.pages.willRead(index, BLOCK);
  const known = inode.pages.get(index);
  if (known > 0) return known - 1;
  const { frames } = core;
  for (const state of core.zones) {
    if (state.zone.kind !== 'DEVICE') continue;
    // Frames of the device are handed out one by one; the block's contents move in with it.
    const next = state.freeRuns.peekLowest();
    if (next === undefined) continue;
    state.freePages.willAdd(ALLOCATE);
    state.isolated.willRead(ALLOCATE);
    state.freeRuns.willUpdate(ALLOCATE);
    inode.disk.willRead(index, ALLOCATE);
    frames.content.willWrite(next, ALLOCATE);
    core.folios.refcount.willWrite(next, ALLOCATE);
    yield inode.pages.willUpdate(index, ALLOCATE);
    if (inode.pages.get(index) > 0) return inode.pages.get(index) - 1;
    if (state.freeRuns.from(0)?.[0] !== next) return yield* call(daxBlock(core, inode, index));
    takeRun(state, 1, 1);
    inode.pages.set(index, next + 1);
    frames.content.set(next, inode.disk.get(index));
    // Until 6.14 the idle count of a DAX page is 1, which belongs to its dev_pagemap.
    core.folios.refcount.set(next, 1);
    return next;
  }
  return undefined;
}

/** dax_fault_cow_page */
function* daxCow(core: CoreMm, fault: Fault, pfn: number): Steps<FaultResult> {
  const { frames } = core;
  fault.vma = yield* call(anonVmaPrepare(core, fault.mm, fault.vma));
  const copy = yield* call(allocFolio(core, userGfp(core, fault.flags.memallocPin, false)));
  if (copy === undefined) return 'oom';
  frames.content.willRead(pfn, COPY);
  yield frames.content.willWrite(copy, COPY);
  frames.copy(pfn, copy, 1);
  const result = yield* call(mapCopy(core, fault, copy));
  if (result !== 'mapped') yield* call(putUnused(core, copy));
  return result === 'mapped' ? 'ok' : result;
}

/** wp_pfn_shared: the first write to a clean page of a shared mapping without a counted page. PTL is held. */
export function* wpPfnShared(core: CoreMm, fault: Fault): Steps<FaultResult> {
  yield fault.willUnlock(WP_SET);
  if (fault.vma.fields.file?.kind !== 'fsdax') {
    makeWritable(core, fault);
    fault.unlockNow();
    return 'ok';
  }
  // pfn_mkwrite runs without the page-table lock; then finish_mkwrite_fault looks again.
  fault.unlockNow();
  yield fault.pass(WP_SET);
  if (fault.same) makeWritable(core, fault);
  return 'ok';
}

function makeWritable(core: CoreMm, fault: Fault): void {
  fault.set(core, fault.orig.pfn, fault.orig.bits | maybeMkwrite(fault.vma) | PTE_MKDIRTY | PTE_YOUNG);
}
