// How madvise treats large folios mapped by PTEs (mm/madvise.c madvise_folio_pte_batch): whole, or split first.
import { call, type Steps } from '../../engine/process.ts';
import { step } from '../../engine/step.ts';
import type { CoreMm } from '../core.ts';
import { tryLockNow, unlockNow, willTryLock, willUnlock } from '../folio-lock.ts';
import type { Mm } from '../mm.ts';
import { ptePresent } from '../pte.ts';
import { getNow, putNow, willGet, willPut } from '../refcount.ts';
import { splitFolio } from '../thp/split-folio.ts';

const TRYLOCK = step('madvise:folio_trylock', 'lock');
const PUT = step('madvise:folio_put', 'refcount');

/** Entries from `vpn` on that map the whole folio in order: its pages, or null when the range covers it only in part. */
export function wholeFolio(core: CoreMm, mm: Mm, vpn: number, to: number, head: number): number | null {
  const pages = core.folios.pagesOf(head);
  if (pages === 1) return 1;
  if (vpn + pages > to) return null;
  for (let i = 0; i < pages; i++) {
    const pte = mm.pageTable.peekPte(vpn + i);
    if (!ptePresent(pte.bits) || pte.pfn !== head + i) return null;
  }
  return pages;
}

/** folio_trylock, folio_get, split_folio. False: busy, pinned, or held by others; the folio stays as it is. */
export function* splitLocked(core: CoreMm, _mm: Mm, head: number): Steps<boolean> {
  willGet(core, head, TRYLOCK);
  yield willTryLock(core, head, TRYLOCK);
  if (core.folios.refcount.get(head) === 0 || !tryLockNow(core, head)) return false;
  getNow(core, head, 1);
  const split = yield* call(splitFolio(core, head));
  willPut(core, head, PUT);
  yield willUnlock(core, head, PUT);
  unlockNow(core, head);
  putNow(core, head, 1, 'madvise');
  return split === 'ok';
}
