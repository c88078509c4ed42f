// struct vm_fault (include/linux/mm.h): one page fault while it is handled, and the looks at its entry under the
// page-table lock that every handler takes. The PTE level; huge entries are in fault-huge.ts and fault-hugetlb.ts.
import type { Steps } from '../../engine/process.ts';
import { type Announced, type Step, step } from '../../engine/step.ts';
import type { CoreMm } from '../core.ts';
import { UFFD_WP, type Vma } from '../mapping/vma.ts';
import type { Mm } from '../mm.ts';
import { pmdOf } from '../page-table.ts';
import { PMD_LEAF, PMD_TABLE, PTE_DIRTY, PTE_NONE, PTE_SOFT_DIRTY, PTE_WRITE, type Pte, pteSame } from '../pte.ts';
import { putNow, willPut } from '../refcount.ts';

const PTE_ALLOC = step('__pte_alloc', 'pte-op');
const MMAP_UNLOCK = step('fault:mmap_read_unlock', 'lock');
const UNUSED = step('fault:put-unused-folio', 'refcount');

/** FAULT_FLAG_*: what the caller wants and may bear. */
export interface FaultFlags {
  readonly write: boolean;
  /** Give the process its own page without making it writable; never together with `write`. */
  readonly unshare: boolean;
  /** The mm is not the running thread's. */
  readonly remote: boolean;
  /** mmap_lock may be dropped; the result is then `retry` or `completed`. */
  readonly allowRetry: boolean;
  readonly killable: boolean;
  /** PF_MEMALLOC_PIN: allocate only what a long-term pin may keep. */
  readonly memallocPin: boolean;
  /** FAULT_FLAG_TRIED: the second round of a retried fault; it does not drop mmap_lock for IO again. */
  readonly tried?: boolean;
  /**
   * How many pages from here on the caller is about to fault in the same way: a hint for the bulk lane, which may make
   * several of them in one act. The outcome is the same without it.
   */
  readonly ahead?: number;
  /** Where the bulk lane notes how many faults of the pages ahead it made needless. */
  readonly spared?: { faults: number };
  /** The caller marks each page accessed (FOLL_TOUCH); what the bulk lane makes, it marks itself, and says so here. */
  readonly marked?: { pages: number };
  /** FAULT_FLAG_RETRY_NOWAIT (FOLL_NOWAIT): would have to wait: `retry` without dropping the lock. */
  readonly nowait?: boolean;
}

/**
 * vm_fault_t. `retry`: mmap_lock was dropped (not with `nowait`), start over. `completed`: resolved, but mmap_lock was
 * dropped. With every other result mmap_lock is still held.
 */
export type FaultResult = 'ok' | 'oom' | 'sigbus' | 'sigsegv' | 'hwpoison' | 'retry' | 'completed';

/** struct vm_fault. Local to the faulting thread. */
export class Fault {
  readonly mm: Mm;
  readonly vpn: number;
  /** Row of the PMD entry and of its page-table lock. */
  readonly row: number;
  readonly flags: FaultFlags;
  /** Replaced when the fault gives the VMA its anon_vma. */
  vma: Vma;
  /** vmf->orig_pte: the entry as it was read without the lock. */
  orig: Pte = PTE_NONE;
  /** A page table was there. It stays while mmap_lock is held, or becomes a huge page, which `same` sees. */
  tableSeen = false;

  constructor(mm: Mm, vma: Vma, vpn: number, flags: FaultFlags) {
    this.mm = mm;
    this.vma = vma;
    this.vpn = vpn;
    this.row = pmdOf(vpn);
    this.flags = flags;
  }

  /** vmf->pgoff */
  get index(): number {
    return this.vma.indexOf(this.vpn);
  }

  /** pte_offset_map_lock: resumes with the page-table lock held. Announce other objects first. */
  lock(at: Step): Announced {
    const { pageTable } = this.mm;
    pageTable.willReadPmd(this.row, at);
    pageTable.willUpdatePte(this.vpn, at);
    return pageTable.ptl.lock(this.row, at);
  }

  /** As `lock`, for a critical section that is this one step. */
  pass(at: Step): Announced {
    const { pageTable } = this.mm;
    pageTable.willReadPmd(this.row, at);
    pageTable.willUpdatePte(this.vpn, at);
    return pageTable.ptl.pass(this.row, at);
  }

  /** Is the entry still the one that was read without the lock (pte_same, pte_none)? In a step of `lock` or `pass`. */
  get same(): boolean {
    return this.tablePresent && pteSame(this.mm.pageTable.pte(this.vpn), this.orig);
  }

  /** Is there a page table under the PMD? In a step that announced the PMD. */
  get tablePresent(): boolean {
    return (this.mm.pageTable.pmd(this.row).bits & PMD_TABLE) !== 0;
  }

  /** Announce the last step under the lock. */
  willUnlock(at: Step): Announced {
    this.mm.pageTable.willUpdatePte(this.vpn, at);
    return this.mm.pageTable.ptl.willChange(this.row, at);
  }

  /** pte_unmap_unlock, in a step that announced the lock. */
  unlockNow(): void {
    this.mm.pageTable.ptl.releaseNow(this.row);
  }

  /** pmd_lock: resumes with the lock held; `orig` is then compared as a PMD (`pmdSame`). */
  lockPmd(at: Step): Announced {
    this.mm.pageTable.willUpdatePmd(this.row, at);
    return this.mm.pageTable.ptl.lock(this.row, at);
  }

  passPmd(at: Step): Announced {
    this.mm.pageTable.willUpdatePmd(this.row, at);
    return this.mm.pageTable.ptl.pass(this.row, at);
  }

  /** Announce the last step under the lock, which changes the PMD. */
  willUnlockPmd(at: Step): Announced {
    this.mm.pageTable.willUpdatePmd(this.row, at);
    return this.mm.pageTable.ptl.willChange(this.row, at);
  }

  /** pmd_same */
  get pmdSame(): boolean {
    return pteSame(this.mm.pageTable.pmd(this.row), this.orig);
  }

  setPmd(core: CoreMm, pfn: number, bits: number): void {
    this.mm.pageTable.setPmd(this.row, pfn, bits | PMD_LEAF, core.frames.peekGeneration(pfn));
  }

  /** Map `pfn` here, in a step that announced the entry. The caller holds a reference, so the generation stands. */
  set(core: CoreMm, pfn: number, bits: number): void {
    this.mm.pageTable.setPte(this.vpn, pfn, bits, core.frames.peekGeneration(pfn));
  }
}

/** pte_mkdirty: the hardware bit and, on x86, the soft-dirty bit. */
export const PTE_MKDIRTY = PTE_DIRTY | PTE_SOFT_DIRTY;

/** maybe_mkwrite(pte_mkdirty(entry), vma): bits of a page that the fault wrote, or may write, for this process. */
export function maybeMkwrite(vma: Vma): number {
  return PTE_MKDIRTY | (vma.fields.write ? PTE_WRITE : 0);
}

/** vma_wants_writenotify: do shared writable pages start out read-only, so that the first write is seen? */
export function wantsWritenotify(vma: Vma): boolean {
  const { shared, write, file, softDirtyEnabled } = vma.fields;
  if (!shared || !write || file === null) return false;
  return file.dirtyTracking || vma.userfaults(UFFD_WP) || (softDirtyEnabled && !vma.hugetlb);
}

/** Bits that vm_page_prot gives a page of this VMA that was not written: shared writable memory is mapped writable. */
export function protBits(vma: Vma): number {
  return vma.fields.shared && vma.fields.write && !wantsWritenotify(vma) ? PTE_WRITE : 0;
}

/** __pte_alloc: a page table for the fault's entry. False: the PMD maps a huge page meanwhile; the fault starts over. */
export function* pteAlloc(fault: Fault): Steps<boolean> {
  const { pageTable } = fault.mm;
  if (fault.tableSeen) return true;
  pageTable.willUpdatePmd(fault.row, PTE_ALLOC);
  yield pageTable.ptl.pass(fault.row, PTE_ALLOC);
  const { bits, pfn } = pageTable.pmd(fault.row);
  fault.tableSeen = bits === 0 || (bits & PMD_TABLE) !== 0;
  if (bits !== 0) return fault.tableSeen;
  // A table's `pfn` is its generation, left in place when the table was freed.
  pageTable.setPmd(fault.row, pfn + 1, PMD_TABLE, 0);
  return true;
}

/** Drop a folio that the fault allocated and nobody else has seen. */
export function* putUnused(core: CoreMm, head: number): Steps<void> {
  yield willPut(core, head, UNUSED);
  putNow(core, head, 1, 'unused by a page fault');
}

/** fault_flag_allow_retry_first: may this fault drop mmap_lock to wait? */
export function mayDropLock(fault: Fault): boolean {
  return fault.flags.allowRetry && fault.flags.tried !== true && fault.flags.nowait !== true;
}

/** release_fault_lock */
export function* dropMmapLock(fault: Fault): Steps<void> {
  yield fault.mm.mmapLock.up(MMAP_UNLOCK);
}
