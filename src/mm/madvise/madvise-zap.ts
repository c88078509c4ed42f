// MADV_DONTNEED and MADV_DONTNEED_LOCKED (mm/madvise.c madvise_dontneed_free). mmap_lock is held for read. Pins are not
// asked: a pinned page loses its mapping, and the next touch gets another page.
import { call, type Steps } from '../../engine/process.ts';
import type { CoreMm } from '../core.ts';
import type { Errno } from '../errno.ts';
import type { Vma } from '../mapping/vma.ts';
import type { Mm } from '../mm.ts';
import { zapVmaRange } from '../zap/zap.ts';

/** EINVAL: locked (unless asked for by name), raw frames, or inside a hugetlb page. */
export function* madviseDontneed(
  core: CoreMm,
  mm: Mm,
  vma: Vma,
  from: number,
  to: number,
  evenLocked: boolean,
): Steps<'ok' | Errno> {
  const end = dontneedEnd(core, vma, from, to, evenLocked);
  if (end === null) return 'EINVAL';
  if (from < end) yield* call(zapVmaRange(core, mm, vma, from, end, 'CLEAR'));
  return 'ok';
}

/** madvise_dontneed_free_valid_vma: where the range really ends, or null. hugetlb ranges are cut to whole pages. */
export function dontneedEnd(
  { kernel }: CoreMm,
  vma: Vma,
  from: number,
  to: number,
  evenLocked: boolean,
): number | null {
  if (vma.hugetlb) {
    const huge = 2 ** vma.fields.file!.hugeOrder;
    const way = kernel.way('madvise.dontneed-hugetlb');
    if (way === 'refused' || from % huge !== 0) return null;
    return (way === 'rounds-up' ? Math.ceil(to / huge) : Math.floor(to / huge)) * huge;
  }
  if (vma.fields.pfnMapping !== null || (vma.fields.locked && !evenLocked)) return null;
  return to;
}
