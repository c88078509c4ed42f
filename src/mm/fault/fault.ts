// The page fault, from handle_mm_fault down to who handles it (mm/memory.c). mmap_lock is held for read; there is no
// per-VMA lock. Levels above the PMD are one step.
import { call, type Steps } from '../../engine/process.ts';
import { type Step, step } from '../../engine/step.ts';
import type { CoreMm } from '../core.ts';
import type { Vma } from '../mapping/vma.ts';
import type { Mm } from '../mm.ts';
import {
  PMD_LEAF,
  PMD_TABLE,
  PTE_MARKER,
  PTE_NONE,
  PTE_PRESENT,
  PTE_PROTNONE,
  PTE_WRITE,
  PTE_YOUNG,
  type Pte,
} from '../pte.ts';
import { doAnonymousPage } from './fault-anon.ts';
import { Fault, type FaultFlags, type FaultResult, PTE_MKDIRTY } from './fault-context.ts';
import { doWpPage } from './fault-cow.ts';
import { doFault } from './fault-file.ts';
import { createHugePmd, hugePmdFault, thpAllowed } from './fault-huge.ts';
import { hugetlbFault } from './fault-hugetlb.ts';
import { daxFault, pfnFault } from './fault-pfn.ts';
import { doSwapPage } from './fault-swap.ts';

export type { FaultFlags, FaultResult } from './fault-context.ts';

const WALK = step('__handle_mm_fault:walk', 'fault');
const LOOK = step('__handle_mm_fault:look-again', 'op');
const ACCESS = step('handle_pte_fault:ptep_set_access_flags', 'pte-op');
const NUMA = step('do_numa_page', 'pte-op');

export interface Wanted {
  readonly write: boolean;
  readonly exec?: boolean;
  readonly unshare?: boolean;
  /** Protection keys do not apply to a foreign address space; there are none in the model. */
  readonly foreign?: boolean;
}

/**
 * access_error and arch_vma_access_permitted (arch/x86/mm/fault.c): does the VMA allow this access? x86 can read
 * whatever it can write or run. GUP has stricter rules of its own (check_vma_flags).
 */
export function vmaAllows(vma: Vma, wanted: Wanted): boolean {
  const { read, write, exec } = vma.fields;
  if (wanted.exec === true) return exec;
  if (wanted.write) return write;
  return read || write || exec;
}

/** handle_mm_fault: resolve a fault at page `vpn` of `vma`. See FaultResult for what became of mmap_lock. */
export function* handleMmFault(core: CoreMm, mm: Mm, vma: Vma, vpn: number, flags: FaultFlags): Steps<FaultResult> {
  // sanitize_fault_flags: unsharing means nothing outside a COW mapping.
  const effective = flags.unshare && !vma.cow ? { ...flags, unshare: false } : flags;
  const fault = new Fault(mm, vma, vpn, effective);
  const { file } = vma.fields;
  if (file?.kind === 'hugetlb') return yield* call(hugetlbFault(core, fault, file));
  return yield* call(walk(core, fault));
}

/** __handle_mm_fault: the PMD level, then the entry below it. */
function* walk(core: CoreMm, fault: Fault): Steps<FaultResult> {
  core.vmstat.willAdd('pgfault', WALK);
  let pmd = yield* call(look(fault, WALK));
  core.vmstat.add('pgfault', 1);
  if (pmd.bits === 0 && thpAllowed(core, fault.vma, fault.vpn)) {
    const result = yield* call(createHugePmd(core, fault));
    if (result !== 'fallback') return result;
    pmd = yield* call(look(fault, LOOK));
  }
  if ((pmd.bits & PMD_LEAF) !== 0) {
    fault.orig = pmd;
    const result = yield* call(hugePmdFault(core, fault));
    if (result !== 'fallback') return result;
    pmd = yield* call(look(fault, LOOK));
    // Somebody mapped a huge page again: start over.
    if ((pmd.bits & PMD_LEAF) !== 0) return 'ok';
  }
  return yield* call(handlePteFault(core, fault));
}

/** Read PMD and entry without the page-table lock (pmdp_get_lockless, ptep_get_lockless). */
function* look(fault: Fault, at: Step): Steps<Pte> {
  const { pageTable } = fault.mm;
  pageTable.willReadPmd(fault.row, at);
  yield pageTable.willReadPte(fault.vpn, at);
  const pmd = pageTable.pmd(fault.row);
  fault.tableSeen = (pmd.bits & PMD_TABLE) !== 0;
  fault.orig = fault.tableSeen ? pageTable.pte(fault.vpn) : PTE_NONE;
  return pmd;
}

/** handle_pte_fault of the entry `fault.orig`. */
function* handlePteFault(core: CoreMm, fault: Fault): Steps<FaultResult> {
  const { bits } = fault.orig;
  if (bits === 0 || (bits & PTE_MARKER) !== 0) return yield* call(doPteMissing(core, fault));
  if ((bits & PTE_PROTNONE) !== 0) return yield* call(doNumaPage(core, fault));
  if ((bits & PTE_PRESENT) === 0) return yield* call(doSwapPage(core, fault));
  if ((fault.flags.write || fault.flags.unshare) && (bits & PTE_WRITE) === 0) {
    return yield* call(doWpPage(core, fault));
  }
  yield fault.pass(ACCESS);
  if (fault.same) {
    const dirty = fault.flags.write ? PTE_MKDIRTY : 0;
    const next = bits | PTE_YOUNG | dirty;
    if (next !== bits) fault.set(core, fault.orig.pfn, next);
  }
  return 'ok';
}

/** do_pte_missing */
function* doPteMissing(core: CoreMm, fault: Fault): Steps<FaultResult> {
  const { file, pfnMapping, shared } = fault.vma.fields;
  if (pfnMapping !== null) return yield* call(pfnFault(core, fault, pfnMapping));
  if (file === null) {
    // A shared mapping without a file has no fault handler; shared anonymous memory is shmem.
    return shared ? 'sigbus' : yield* call(doAnonymousPage(core, fault));
  }
  if (file.kind === 'fsdax') return yield* call(daxFault(core, fault, file));
  return yield* call(doFault(core, fault, file));
}

/** do_numa_page without a migration: the hint is taken, the entry gets its permissions back. */
function* doNumaPage(core: CoreMm, fault: Fault): Steps<FaultResult> {
  yield fault.pass(NUMA);
  if (!fault.same) return 'ok';
  const { pfn, bits } = fault.orig;
  fault.set(core, pfn, (bits & ~PTE_PROTNONE) | PTE_PRESENT | PTE_YOUNG);
  return 'ok';
}
