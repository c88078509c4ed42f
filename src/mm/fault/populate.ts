// Faulting ranges in for mmap(MAP_POPULATE), mlock and mremap (mm/gup.c __mm_populate). mmap_lock is taken for read, one
// VMA at a time; holes are passed over.
import { call, type Steps } from '../../engine/process.ts';
import { step } from '../../engine/step.ts';
import type { CoreMm } from '../core.ts';
import type { Errno } from '../errno.ts';
import { populateUserPages } from '../gup/gup.ts';
import type { Mm } from '../mm.ts';

const FIND = step('__mm_populate:find_vma', 'op');

/** mm_populate: errors are ignored. */
export function* mmPopulate(core: CoreMm, mm: Mm, from: number, to: number): Steps<void> {
  yield* call(populateRange(core, mm, from, to, true));
}

/** __mm_populate. The errno of the first page that could not be faulted in, unless errors are ignored. */
export function* populateRange(
  core: CoreMm,
  mm: Mm,
  from: number,
  to: number,
  ignoreErrors: boolean,
): Steps<'ok' | Errno> {
  for (let vpn = from; vpn < to; ) {
    yield* call(mm.mmapLock.read());
    yield mm.vmas.willRead(FIND);
    const vma = mm.vmasIn(vpn, to)[0];
    if (vma === undefined) {
      yield mm.mmapLock.up();
      return 'ok';
    }
    const start = Math.max(vpn, vma.start);
    const end = Math.min(to, vma.end);
    vpn = end;
    const { fields } = vma;
    const skipped = fields.io || fields.pfnMapping !== null || (fields.locked && fields.lockOnFault);
    if (!skipped) {
      // A private writable mapping gets its own pages at once; a shared one is not dirtied.
      const write = fields.write && !fields.shared;
      const { done, reason } = yield* call(populateUserPages(core, mm, start, end - start, write));
      if (reason !== undefined && done === 0 && !ignoreErrors) {
        yield mm.mmapLock.up();
        return reason.errno;
      }
      if (reason !== undefined && done > 0) vpn = start + done;
    }
    yield mm.mmapLock.up();
  }
  return 'ok';
}
