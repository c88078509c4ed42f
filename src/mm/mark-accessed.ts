// folio_mark_accessed (mm/swap.c): the second use of an inactive folio makes it active. Activation of a folio on a list is
// immediate here; the kernel lets it wait in a batch. The multi-gen LRU only notes that there was a use.
import type { Announced, Step } from '../engine/step.ts';
import type { CoreMm } from './core.ts';
import { PG_ACTIVE, PG_IN_LRU_BATCH, PG_LRU, PG_LRU_YOUNG, PG_REFERENCED, PG_UNEVICTABLE } from './page-flags.ts';

/** Announce marking the small folios first..last. */
export function willMarkAccessed(core: CoreMm, first: number, last: number, at: Step): Announced {
  return core.folios.flags.willUpdateRange(first, last, at);
}

/** folio_mark_accessed, in a step that announced the folio's flags. */
export function markAccessedNow(core: CoreMm, head: number): void {
  const { flags } = core.folios;
  const now = flags.get(head);
  const next = accessed(core, now);
  if (next !== now) flags.set(head, next);
}

/**
 * The mark of GUP (FOLL_TOUCH) on the small folios first..last. Limit: generations do not note it for folios of the
 * youngest ones. GUP faults and marks page by page, and a batch that drains in between takes the mark away; lanes that
 * fault many pages before they grab the first could not tell.
 */
export function markTouchedRun(core: CoreMm, first: number, last: number): void {
  const { flags } = core.folios;
  for (let pfn = first; pfn <= last; ) {
    const end = flags.endOfRun(pfn, last);
    const now = flags.get(pfn);
    const next = (now & PG_LRU_YOUNG) !== 0 ? now : accessed(core, now);
    if (next !== now) flags.fill(pfn, end, next);
    pfn = end + 1;
  }
}

function accessed(core: CoreMm, flags: number): number {
  if ((flags & PG_REFERENCED) === 0) return flags | PG_REFERENCED;
  if ((flags & (PG_ACTIVE | PG_UNEVICTABLE)) !== 0 || core.kernel.has('reclaim.multigen-lru')) return flags;
  // Neither on a list nor in a batch (the zero page): it only loses the mark.
  const active = (flags & (PG_LRU | PG_IN_LRU_BATCH)) !== 0 ? PG_ACTIVE : 0;
  return (flags & ~PG_REFERENCED) | active;
}
