// Frames without struct page (mm/memory.c follow_pte, follow_pfnmap_start; mm/gup.c fixup_user_fault): the entry is read
// under its lock and the frame used afterwards. No reference is taken: after the look only an mmu notifier would tell
// that it is stale.
import { call, type Steps } from '../../engine/process.ts';
import { step } from '../../engine/step.ts';
import { PMD_PAGES } from '../../hw/machine.ts';
import type { CoreMm } from '../core.ts';
import { handleMmFault } from '../fault/fault.ts';
import type { Refusal } from '../ledger.ts';
import type { Vma } from '../mapping/vma.ts';
import type { Mm } from '../mm.ts';
import { hex, pmdOf } from '../page-table.ts';
import { PMD_LEAF, PMD_TABLE, PTE_SPECIAL, PTE_WRITE, type Pte, ptePresent } from '../pte.ts';
import { noVma } from './gup-checks.ts';
import { refuse, within } from './gup-flags.ts';

const FOLLOW_PTE = step('follow_pte', 'pte-op');
const FOLLOW_PFNMAP = step('follow_pfnmap_start', 'pte-op');
const LOOKUP = step('fixup_user_fault:vma_lookup', 'op');
const SIGNAL = step('fixup_user_fault:fatal_signal_pending', 'none');

/** An entry as it was while its lock was held. */
export interface FollowedPfn {
  readonly pfn: number;
  readonly writable: boolean;
  readonly special: boolean;
  /** Pages from the address on that the same leaf maps contiguously. */
  readonly pages: number;
  /** Generation of the frame that the entry was made for. */
  readonly generation: number;
}

/**
 * The frame behind a page of an VM_IO or VM_PFNMAP area: follow_pfnmap_start and _end since 6.12, follow_pte before.
 * mmap_lock is held. Null: -EINVAL (nothing is mapped, or the area is of another kind, which follow_pte did not test).
 */
export function* followPfn(core: CoreMm, mm: Mm, vma: Vma, vpn: number): Steps<FollowedPfn | null> {
  const { pageTable } = mm;
  const modern = core.kernel.has('gup.follow-pfnmap');
  if (modern && vma.fields.pfnMapping === null && !vma.fields.io) return null;
  const at = modern ? FOLLOW_PFNMAP : FOLLOW_PTE;
  const row = pmdOf(vpn);
  pageTable.willReadPmd(row, at);
  pageTable.willReadPte(vpn, at);
  yield pageTable.ptl.pass(row, at);
  const pmd = pageTable.pmd(row);
  if ((pmd.bits & PMD_LEAF) !== 0) {
    // follow_pte knows no huge entries; a driver that maps them came after it.
    return modern ? seen(pmd, vpn % PMD_PAGES, PMD_PAGES) : null;
  }
  if ((pmd.bits & PMD_TABLE) === 0) return null;
  return seen(pageTable.pte(vpn), 0, 1);
}

function seen(entry: Pte, within: number, pages: number): FollowedPfn | null {
  if (!ptePresent(entry.bits)) return null;
  return {
    pfn: entry.pfn + within,
    writable: (entry.bits & PTE_WRITE) !== 0,
    special: (entry.bits & PTE_SPECIAL) !== 0,
    pages: pages - within,
    generation: entry.generation,
  };
}

export interface FixedUp {
  readonly refusal: Refusal | null;
  /** mmap_lock was dropped and taken again: VMAs looked up before are stale. */
  readonly unlocked: boolean;
}

/**
 * fixup_user_fault: fault a page in without taking a reference. mmap_lock is held for read on entry and on return.
 * Errors: EFAULT, ENOMEM, EINTR.
 */
export function* fixupUserFault(
  core: CoreMm,
  mm: Mm,
  vpn: number,
  options: { readonly write: boolean; readonly remote: boolean; readonly mayUnlock: boolean },
): Steps<FixedUp> {
  const { killed } = core.current.task;
  const failed = (refusal: Refusal, unlocked: boolean): FixedUp => ({
    refusal: within(`fixup_user_fault(${hex(vpn)}${options.write ? ', write' : ''}) of ${mm.name}`, refusal),
    unlocked,
  });
  let unlocked = false;
  for (;;) {
    yield mm.vmas.willRead(LOOKUP);
    const vma = mm.vmaAt(vpn);
    if (vma === undefined) return failed(noVma(vpn), unlocked);
    const { read, write, name } = vma.fields;
    if (options.write ? !write : !read) {
      const missing = options.write ? 'VM_WRITE' : 'VM_READ';
      const what = `vma_permits_fault: '${name}' has no ${missing}`;
      return failed(refuse('EFAULT', what, 'mprotect the mapping, or ask for less'), unlocked);
    }
    if (options.mayUnlock) {
      yield killed.willRead(SIGNAL);
      if (killed.value) return failed(refuse('EINTR', 'fatal_signal_pending', 'a caller that lives'), unlocked);
    }
    const result = yield* call(
      handleMmFault(core, mm, vma, vpn, {
        write: options.write,
        unshare: false,
        remote: options.remote,
        allowRetry: options.mayUnlock,
        killable: options.mayUnlock,
        memallocPin: false,
        tried: unlocked,
      }),
    );
    if (result === 'ok') return { refusal: null, unlocked };
    if (result === 'completed' || result === 'retry') {
      yield* call(mm.mmapLock.read());
      unlocked = true;
      if (result === 'completed') return { refusal: null, unlocked };
      continue;
    }
    const errno = result === 'oom' ? 'ENOMEM' : 'EFAULT';
    return failed(refuse(errno, `handle_mm_fault: ${result} in '${name}'`, 'memory behind the mapping'), unlocked);
  }
}
