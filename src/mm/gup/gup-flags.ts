// What a caller of get_user_pages / pin_user_pages asks for and gets (include/linux/mm_types.h FOLL_*). Pages come back
// as runs of contiguous frames: a terabyte of THP is a handful of numbers.
import type { Errno } from '../errno.ts';
import type { FrameRun, Refusal } from '../ledger.ts';

/** What a caller may ask for. FOLL_PIN or FOLL_GET is set by the function called. */
export interface GupRequest {
  /** Who holds the pages, for the ledger: `vfio-type1 container0`. */
  readonly owner: string;
  /** FOLL_WRITE */
  readonly write: boolean;
  /** FOLL_LONGTERM: needs a pin. */
  readonly longterm?: boolean;
  /** FOLL_FORCE: ptrace's disregard of VM_READ and VM_WRITE on COW mappings. */
  readonly force?: boolean;
  /** FOLL_NOFAULT: an absent page is EFAULT. */
  readonly nofault?: boolean;
  /** FOLL_NOWAIT: give up instead of waiting for IO; 0 pages and no errno are then possible. */
  readonly nowait?: boolean;
  /** FOLL_FAST_ONLY: never enter the slow path. */
  readonly fastOnly?: boolean;
  /** FOLL_TOUCH, where the entry point does not set it anyway. */
  readonly touch?: boolean;
  /** FOLL_HONOR_NUMA_FAULT: do not follow PROT_NONE entries (KVM). */
  readonly honorNumaFault?: boolean;
  /** FOLL_HWPOISON: a page with a memory error is EHWPOISON instead of EFAULT (KVM). */
  readonly hwpoison?: boolean;
  /** FOLL_SPLIT_PMD */
  readonly splitPmd?: boolean;
  /** FOLL_ANON */
  readonly anon?: boolean;
  /** The caller passed `locked`: mmap_lock may be dropped (FOLL_UNLOCKABLE). */
  readonly unlockable?: boolean;
}

/** The flags of one walk, complete. */
export interface GupFlags {
  readonly owner: string;
  /** FOLL_PIN, FOLL_GET, or neither: only fault the pages in (populate). */
  readonly grab: 'pin' | 'get' | 'none';
  readonly write: boolean;
  readonly longterm: boolean;
  readonly force: boolean;
  readonly nofault: boolean;
  readonly nowait: boolean;
  readonly fastOnly: boolean;
  readonly touch: boolean;
  readonly honorNumaFault: boolean;
  readonly hwpoison: boolean;
  readonly splitPmd: boolean;
  readonly anon: boolean;
  readonly remote: boolean;
  readonly unlockable: boolean;
  /** FOLL_TRIED: the second attempt after mmap_lock was dropped. */
  readonly tried: boolean;
  /** PF_MEMALLOC_PIN of the running task: faults allocate from memory that may be pinned for long. */
  readonly memallocPin: boolean;
}

/** What an entry point adds to a request. */
export interface EntryPoint {
  readonly touch?: boolean;
  readonly remote?: boolean;
  readonly unlockable?: boolean;
  readonly fastOnly?: boolean;
}

/** The request with everything not asked for switched off, and what the entry point adds. */
export function gupFlags(request: GupRequest, grab: GupFlags['grab'], entry: EntryPoint = {}): GupFlags {
  // Written out: spreading objects costs more than the rest of a call on a 2 MiB page.
  return {
    owner: request.owner,
    grab,
    write: request.write,
    longterm: request.longterm ?? false,
    force: request.force ?? false,
    nofault: request.nofault ?? false,
    nowait: request.nowait ?? false,
    fastOnly: entry.fastOnly ?? request.fastOnly ?? false,
    touch: entry.touch ?? request.touch ?? false,
    honorNumaFault: request.honorNumaFault ?? false,
    hwpoison: request.hwpoison ?? false,
    splitPmd: request.splitPmd ?? false,
    anon: request.anon ?? false,
    remote: entry.remote ?? false,
    unlockable: entry.unlockable ?? request.unlockable ?? false,
    tried: false,
    memallocPin: request.longterm ?? false,
  };
}

export interface GupResult {
  /** What is held, in address order; the pages of all runs together are `pinned`. */
  readonly runs: readonly FrameRun[];
  readonly pinned: number;
  /** Set only when nothing is held: the kernel loses the errno of a partial pin. */
  readonly errno?: Errno;
  /** Why it ended before the end of the range, also after a partial pin. */
  readonly reason?: Refusal;
  /** Is mmap_lock still held? False only with `unlockable`. */
  readonly locked: boolean;
}

/** Runs of frames being collected; neighbours merge. The zero page stays alone: it is not counted like the others. */
export class RunList {
  readonly runs: { pfn: number; pages: number }[] = [];
  pages = 0;
  private readonly zeroPfn: number;

  constructor(zeroPfn: number) {
    this.zeroPfn = zeroPfn;
  }

  add(pfn: number, pages: number): void {
    this.pages += pages;
    const last = this.runs[this.runs.length - 1];
    if (last !== undefined && last.pfn + last.pages === pfn && pfn !== this.zeroPfn && last.pfn !== this.zeroPfn) {
      last.pages += pages;
    } else this.runs.push({ pfn, pages });
  }

  clear(): void {
    this.runs.length = 0;
    this.pages = 0;
  }
}

/** `WRITE|LONGTERM`, for reasons. */
export function flagsText(flags: GupFlags): string {
  const words: string[] = [];
  if (flags.grab === 'pin') words.push('FOLL_PIN');
  if (flags.grab === 'get') words.push('FOLL_GET');
  if (flags.write) words.push('FOLL_WRITE');
  if (flags.longterm) words.push('FOLL_LONGTERM');
  if (flags.force) words.push('FOLL_FORCE');
  if (flags.nofault) words.push('FOLL_NOFAULT');
  if (flags.nowait) words.push('FOLL_NOWAIT');
  return words.join('|');
}

/** A refusal of the innermost check. */
export function refuse(
  errno: Errno,
  reason: string,
  remedy: string,
  details: Readonly<Record<string, string | number>> = {},
  about: readonly number[] = [],
): Refusal {
  return { errno, reasons: [reason], remedy, details, about };
}

/** The same refusal seen one caller further out. */
export function within(
  outer: string,
  inner: Refusal,
  details: Readonly<Record<string, string | number>> = {},
): Refusal {
  return { ...inner, reasons: [outer, ...inner.reasons], details: { ...details, ...inner.details } };
}
