// UFFDIO_REGISTER and UFFDIO_UNREGISTER (fs/userfaultfd.c): areas begin or end to send their faults to a userfaultfd. All
// of a range is judged before any of it changes; areas are split at its borders.
import { call, type Steps } from '../../engine/process.ts';
import type { CoreMm } from '../core.ts';
import type { Errno } from '../errno.ts';
import { UFFD_MINOR, UFFD_WP, type UffdRegistration, type Vma } from '../mapping/vma.ts';
import { findVmas, lookVma, mergeVmas, replaceVma, sameUffd, splitVma } from '../mapping/vma-edit.ts';
import type { Mm } from '../mm.ts';
import { isShmem, uffdWpRange } from './uffd.ts';

/**
 * userfaultfd_register of pages [from, to). EINVAL: no area, memory of a kind or a mode that this kernel does not do, part
 * of a huge page; EPERM: a file that may not be written; EBUSY: registered with another userfaultfd.
 */
export function* userfaultfdRegister(
  core: CoreMm,
  mm: Mm,
  from: number,
  to: number,
  registration: UffdRegistration,
): Steps<'ok' | Errno> {
  const { modes, context } = registration;
  if (modes === 0 || !modesKnown(core, modes)) return 'EINVAL';
  yield* call(mm.mmapLock.write());
  const vmas = yield* call(findVmas(mm, from, to));
  const refused = checkAreas(core, vmas, from, to, modes, context);
  if (refused === null) {
    for (const vma of vmas) {
      if (!sameUffd(vma.fields.uffd, registration)) yield* call(change(core, mm, vma, from, to, registration));
    }
    yield* call(mergeVmas(mm, from, to));
  }
  yield mm.mmapLock.up();
  return refused ?? 'ok';
}

/** userfaultfd_unregister of pages [from, to): who waits there goes on, and finds nobody to ask. EINVAL. */
export function* userfaultfdUnregister(core: CoreMm, mm: Mm, from: number, to: number): Steps<'ok' | Errno> {
  yield* call(mm.mmapLock.write());
  const vmas = yield* call(findVmas(mm, from, to));
  const known = vmas.length > 0 && !splitsHuge(vmas, from, to) && vmas.every((vma) => canUserfault(core, vma, 0));
  if (known) {
    for (const vma of vmas) {
      if (vma.fields.uffd === null) continue;
      if (vma.userfaults(UFFD_WP)) yield* call(uffdWpRange(core, mm, vma, from, to, false));
      yield* call(change(core, mm, vma, from, to, null));
    }
    yield* call(mergeVmas(mm, from, to));
  }
  yield mm.mmapLock.up();
  return known ? 'ok' : 'EINVAL';
}

/** Modes that the ioctl of this kernel has at all. */
function modesKnown({ kernel }: CoreMm, modes: number): boolean {
  if ((modes & UFFD_WP) !== 0 && !kernel.has('uffd.wp')) return false;
  return (modes & UFFD_MINOR) === 0 || kernel.has('uffd.minor-hugetlb');
}

function checkAreas(
  core: CoreMm,
  vmas: readonly Vma[],
  from: number,
  to: number,
  modes: number,
  context: string,
): Errno | null {
  if (vmas.length === 0 || splitsHuge(vmas.slice(0, 1), from, Number.POSITIVE_INFINITY)) return 'EINVAL';
  for (const vma of vmas) {
    const { uffd, mayWrite } = vma.fields;
    if (!canUserfault(core, vma, modes)) return 'EINVAL';
    // Filling in pages of a file that was opened read-only would write it.
    if (!mayWrite) return 'EPERM';
    if (splitsHuge([vma], 0, to)) return 'EINVAL';
    if (uffd !== null && uffd.context !== context) return 'EBUSY';
  }
  return null;
}

/** vma_can_userfault */
function canUserfault({ kernel }: CoreMm, vma: Vma, modes: number): boolean {
  const shmem = isShmem(vma);
  const { hugetlb } = vma;
  if ((modes & UFFD_MINOR) !== 0 && !(hugetlb || (shmem && kernel.has('uffd.minor-shmem')))) return false;
  if ((modes & UFFD_WP) !== 0 && !vma.anonymous && !kernel.has('uffd.wp-shmem-hugetlb')) return false;
  return vma.anonymous || hugetlb || shmem;
}

/** Does a border of the range lie inside a huge page? */
function splitsHuge(vmas: readonly Vma[], from: number, to: number): boolean {
  return vmas.some((vma) => {
    if (!vma.hugetlb) return false;
    const pages = 2 ** vma.fields.file!.hugeOrder;
    return (from > vma.start && from % pages !== 0) || (to < vma.end && to % pages !== 0);
  });
}

function* change(core: CoreMm, mm: Mm, vma: Vma, from: number, to: number, uffd: UffdRegistration | null): Steps<void> {
  const start = Math.max(from, vma.start);
  yield* call(splitVma(core, mm, start));
  if (to < vma.end) yield* call(splitVma(core, mm, to));
  yield* call(replaceVma(mm, lookVma(mm, start)!.with({ uffd })));
}
