// folio_try_share_anon_rmap (include/linux/rmap.h): an exclusive anonymous page stops being exclusive, for a moment or
// for good, unless it may be pinned. The entry is cleared first (H1), then the pin test (H3), then the flag (H4).
import type { Announced, Step } from '../../engine/step.ts';
import type { CoreMm } from '../core.ts';

/** Announce `tryShareNow`. */
export function willTryShare(core: CoreMm, head: number, page: number, at: Step): Announced {
  core.folios.anonExclusive.willUpdate(page, at);
  return core.folios.refcount.willRead(head, at);
}

/** False (-EBUSY): it may be pinned. For a PMD or hugetlb mapping `page` is the head. */
export function tryShareNow(core: CoreMm, head: number, page: number): boolean {
  const { folios } = core;
  if (folios.maybeDmaPinned(head)) return false;
  folios.anonExclusive.set(page, 0);
  return true;
}

/**
 * Can the pin test run before others see the entry cleared? Before 088b8aa537c2 only the flush ordered the two, and
 * neither a deferred flush nor one without interrupts does.
 */
export function shareTestMayRunEarly(core: CoreMm, deferred: boolean): boolean {
  return !core.kernel.has('cow.share-barriers') && (deferred || !core.machine.arch.tlbFlushIsIpi);
}
