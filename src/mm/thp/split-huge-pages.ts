// Splitting on request: /sys/kernel/debug/split_huge_pages with a process and a range (mm/huge_memory.c
// split_huge_pages_pid). A huge page that somebody else holds, a pin above all, stays whole.
import { call, type Steps } from '../../engine/process.ts';
import { step } from '../../engine/step.ts';
import { PMD_PAGES } from '../../hw/machine.ts';
import type { CoreMm } from '../core.ts';
import { tryLockNow, unlockNow, willTryLock, willUnlock } from '../folio-lock.ts';
import { lookVma } from '../mapping/vma-edit.ts';
import type { Mm } from '../mm.ts';
import { PG_ANON, PG_HUGETLB, PG_SWAPCACHE } from '../page-flags.ts';
import { pmdOf } from '../page-table.ts';
import { ptePresent } from '../pte.ts';
import { folioPut, tryGetNow, willGet } from '../refcount.ts';
import { splitFolio } from './split-folio.ts';

const VMAS = step('split_huge_pages_pid:vma_lookup', 'op');
const FOLLOW = step('split_huge_pages_pid:follow_page', 'pte-op');
const CAN_SPLIT = step('split_huge_pages_pid:can_split_folio', 'refcount');
const TRYLOCK = step('split_huge_pages_pid:trylock', 'lock');
const UNLOCK = step('split_huge_pages_pid:unlock', 'lock');

/** split_huge_pages_pid of `pages` pages from `vpn` on; returns how many huge pages were split. */
export function* splitHugePagesPid(core: CoreMm, mm: Mm, vpn: number, pages: number): Steps<number> {
  const { folios } = core;
  let split = 0;
  yield* call(mm.mmapLock.read());
  yield mm.vmas.willRead(VMAS);
  for (let at = vpn; at < vpn + pages; ) {
    const vma = lookVma(mm, at);
    if (vma === undefined) break;
    if (vma.hugetlb || vma.fields.pfnMapping != null) {
      at = vma.end;
      continue;
    }
    const pfn = yield* call(followHuge(core, mm, at));
    if (pfn === null) {
      at++;
      continue;
    }
    const head = folios.headOf(pfn);
    const next = at + folios.pagesOf(head) - (pfn - head);
    if ((yield* call(canSplit(core, head))) && (yield* call(trylock(core, head)))) {
      const done = (yield* call(splitFolio(core, head, { keep: pfn }))) === 'ok';
      if (done) split++;
      const locked = done ? pfn : head;
      yield willUnlock(core, locked, UNLOCK);
      unlockNow(core, locked);
    }
    yield* call(folioPut(core, folios.headOf(pfn), 1, 'split_huge_pages_pid'));
    // A part of the kernel's loop that changes nothing: the other pages of a folio that could not be split.
    at = next;
  }
  yield mm.mmapLock.up();
  return split;
}

/** can_split_folio: nobody holds it but its mappings, the cache and this walk. */
function* canSplit(core: CoreMm, head: number): Steps<boolean> {
  const { folios } = core;
  yield folios.willCompareRefs(head, CAN_SPLIT);
  const flags = folios.flags.get(head);
  const cached = (flags & PG_ANON) === 0 || (flags & PG_SWAPCACHE) !== 0;
  const extra = cached ? folios.pagesOf(head) : 0;
  return folios.mapcountOf(head) === folios.refcount.get(head) - extra - 1;
}

function* trylock(core: CoreMm, head: number): Steps<boolean> {
  yield willTryLock(core, head, TRYLOCK);
  return tryLockNow(core, head);
}

/** follow_page(FOLL_GET | FOLL_DUMP) of a page that is part of a THP; null: nothing there to be split. */
function* followHuge(core: CoreMm, mm: Mm, vpn: number): Steps<number | null> {
  const { folios } = core;
  const { pageTable } = mm;
  const row = pmdOf(vpn);
  const mapped = (): number => {
    const { pte, huge } = pageTable.peekLeaf(vpn);
    return ptePresent(pte.bits) ? pte.pfn + (huge ? vpn % PMD_PAGES : 0) : 0;
  };
  for (;;) {
    // The look tells which count to announce; the act looks again, and so does whoever finds something else by then.
    const expected = mapped();
    const none = expected === 0 || expected === core.zeroPfn || !core.machine.hasStructPage(expected);
    const head = none ? 0 : folios.headOf(expected);
    const counted = !none && head !== core.hugeZeroPfn;
    if (counted) {
      willGet(core, head, FOLLOW);
      folios.flags.willRead(head, FOLLOW);
    }
    pageTable.willReadPmd(row, FOLLOW);
    pageTable.willReadPte(vpn, FOLLOW);
    yield pageTable.ptl.pass(row, FOLLOW);
    if (mapped() !== expected) continue;
    if (!counted || !folios.isLarge(head) || (folios.flags.get(head) & PG_HUGETLB) !== 0) return null;
    return tryGetNow(core, head, 1) ? expected : null;
  }
}
