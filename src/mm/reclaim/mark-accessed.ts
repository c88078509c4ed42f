// folio_mark_accessed (mm/swap.c): the second use of an inactive folio makes it active: at once while it waits to be put
// on a list, through the batch of activations when it is on one. The multi-gen LRU only notes that there was a use.
import type { Announced, Step } from '../../engine/step.ts';
import type { CoreMm } from '../core.ts';
import { PG_ACTIVE, PG_LRU, PG_REFERENCED, PG_UNEVICTABLE } from '../page-flags.ts';
import { batchNow, batchRunNow, willBatch } from './lru-move.ts';

/** Announce marking the small folios first..last (or one large one, by its head). */
export function willMarkAccessed(core: CoreMm, first: number, last: number, at: Step): Announced {
  if (!core.kernel.has('reclaim.multigen-lru')) {
    core.local.lruAdd.willRead(at);
    willBatch(core, 'lruActivate', first, last - first + 1, at);
  }
  return core.folios.flags.willUpdateRange(first, last, at);
}

/** folio_mark_accessed, in a step announced by `willMarkAccessed`. */
export function markAccessedNow(core: CoreMm, head: number): void {
  const { flags } = core.folios;
  const now = flags.get(head);
  if ((now & PG_REFERENCED) === 0) {
    // folio_inc_refs passes unevictable folios over.
    if ((now & PG_UNEVICTABLE) === 0 || !core.kernel.has('reclaim.multigen-lru')) flags.set(head, now | PG_REFERENCED);
    return;
  }
  if ((now & (PG_ACTIVE | PG_UNEVICTABLE)) !== 0 || core.kernel.has('reclaim.multigen-lru')) return;
  if ((now & PG_LRU) !== 0) batchNow(core, 'lruActivate', head);
  else if (core.local.lruAdd.value.includes(head)) flags.set(head, now | PG_ACTIVE);
  // In another CPU's batch, or the zero page: it only loses the mark.
  flags.set(head, flags.get(head) & ~PG_REFERENCED);
}

/** The same for each of first..last: folios that do not change by it are passed over in stretches. */
export function markAccessedRun(core: CoreMm, first: number, last: number): void {
  const { flags } = core.folios;
  const multigen = core.kernel.has('reclaim.multigen-lru');
  for (let pfn = first; pfn <= last; pfn++) {
    const now = flags.get(pfn);
    const activates = (now & PG_REFERENCED) !== 0 && !multigen && (now & (PG_ACTIVE | PG_UNEVICTABLE)) === 0;
    if (activates && ((now & PG_LRU) === 0 || !flags.bulk)) {
      markAccessedNow(core, pfn);
      continue;
    }
    const end = flags.endOfRun(pfn, last);
    if ((now & PG_REFERENCED) === 0) {
      if (!multigen || (now & PG_UNEVICTABLE) === 0) flags.fill(pfn, end, now | PG_REFERENCED);
      pfn = end;
    } else {
      if (activates) batchRunNow(core, 'lruActivate', pfn, end, PG_REFERENCED);
      pfn = end;
    }
  }
}
