// Merging one page with another (mm/ksm.c try_to_merge_one_page): the page is made read-only, with the count and the pin
// tested while its entry is gone; then its entry is turned to the KSM page. Pinned, or held by anybody: refused.
import { call, type Steps } from '../../engine/process.ts';
import { step } from '../../engine/step.ts';
import type { CoreMm } from '../core.ts';
import { tryLockNow, unlockNow, willTryLock, willUnlock } from '../folio-lock.ts';
import type { Vma } from '../mapping/vma.ts';
import type { Mm } from '../mm.ts';
import { PG_DIRTY, PG_KSM, PG_REFERENCED, PG_SWAPCACHE } from '../page-flags.ts';
import { pmdOf } from '../page-table.ts';
import { PMD_TABLE, PTE_DIRTY, PTE_PRESENT, PTE_WRITE, PTE_YOUNG, type Pte, ptePresent, pteSame } from '../pte.ts';
import { getNow, putNow, willGet, willPut } from '../refcount.ts';
import { tryShareNow, willTryShare } from '../rmap/share-anon-rmap.ts';
import { folioFreeSwap } from '../swap/swap-cache.ts';
import { splitFolio } from '../thp/split-folio.ts';
import { flushTlbRange } from '../tlb.ts';
import { KsmRmapItem, StableNode } from './ksm-stable-node.ts';

const TRYLOCK = step('try_to_merge_one_page:trylock', 'lock');
const UNLOCK = step('try_to_merge_one_page:unlock', 'lock');
const CLEAR = step('write_protect_page:ptep_clear_flush', 'pte-op');
const TEST = step('write_protect_page:ref-test', 'refcount');
const PROTECT = step('write_protect_page:set_pte_at', 'pte-op');
const STABLE = step('folio_set_stable_node', 'op');
const COMPARE = step('pages_identical', 'op');
const REPLACE = step('replace_page:ptep_clear_flush', 'pte-op');
const INSTALL = step('replace_page:set_pte_at', 'pte-op');
const PUT = step('replace_page:folio_put', 'refcount');

/** A page under KSM's eyes, with a reference of the scanner's. */
export interface Candidate {
  readonly mm: Mm;
  readonly vma: Vma;
  readonly vpn: number;
  readonly pfn: number;
}

/**
 * try_to_merge_one_page: `kpage` null makes the page itself the KSM page and returns its node; otherwise the address is
 * turned to `kpage`. mmap_lock is held for read. False: -EFAULT.
 */
export function* mergeOnePage(core: CoreMm, page: Candidate, kpage: number | null): Steps<boolean | StableNode> {
  const { folios } = core;
  const { pfn } = page;
  if (pfn === kpage) return true;
  const large = folios.headOf(pfn);
  yield willTryLock(core, large, TRYLOCK);
  if (!tryLockNow(core, large)) return false;
  if (folios.isLarge(large) && (yield* call(splitFolio(core, large, { keep: pfn }))) !== 'ok') {
    yield willUnlock(core, large, UNLOCK);
    unlockNow(core, large);
    return false;
  }
  const result = yield* call(mergeLocked(core, page, kpage));
  yield willUnlock(core, pfn, UNLOCK);
  unlockNow(core, pfn);
  return result;
}

function* mergeLocked(core: CoreMm, page: Candidate, kpage: number | null): Steps<boolean | StableNode> {
  const { folios } = core;
  const { pfn } = page;
  const entry = yield* call(writeProtectPage(core, page));
  if (entry === null) return false;
  if (kpage === null) return yield* call(makeStable(core, page));
  core.frames.content.willRead(kpage, COMPARE);
  yield core.frames.content.willRead(pfn, COMPARE);
  if (core.frames.content.get(pfn) !== core.frames.content.get(kpage)) return false;
  const replaced = yield* call(replacePage(core, page, kpage, entry));
  if (replaced && folios.has(pfn, PG_SWAPCACHE)) yield* call(folioFreeSwap(core, pfn));
  return replaced;
}

/** write_protect_page: the entry read-only and clean, or null: somebody else holds the page, or it may be pinned. */
function* writeProtectPage(core: CoreMm, { mm, vpn, pfn }: Candidate): Steps<Pte | null> {
  const { folios, kernel } = core;
  const { pageTable } = mm;
  const row = pmdOf(vpn);
  const range = { mm, start: vpn, end: vpn + 1, event: 'CLEAR', blockable: true } as const;
  yield* call(mm.notifiers.start(range));
  folios.anonExclusive.willRead(pfn, CLEAR);
  mm.tlbFlushPending.willRead(CLEAR);
  pageTable.willReadPmd(row, CLEAR);
  pageTable.willUpdatePte(vpn, CLEAR);
  yield pageTable.ptl.lock(row, CLEAR);
  let entry = pageTable.pte(vpn);
  const mapped = (pageTable.pmd(row).bits & PMD_TABLE) !== 0 && ptePresent(entry.bits) && entry.pfn === pfn;
  const exclusive = kernel.has('cow.anon-exclusive') && folios.anonExclusive.get(pfn) === 1;
  let ok = mapped;
  if (mapped && ((entry.bits & (PTE_WRITE | PTE_DIRTY)) !== 0 || exclusive || mm.tlbFlushPending.value > 0)) {
    pageTable.clearPte(vpn);
    yield* call(flushTlbRange(core, mm, vpn, vpn + 1));
    folios.mapcount.willRead(pfn, TEST);
    folios.flags.willUpdate(pfn, TEST);
    yield willTryShare(core, pfn, pfn, TEST);
    const cached = (folios.flags.get(pfn) & PG_SWAPCACHE) !== 0 ? 1 : 0;
    ok = folios.mapcountOf(pfn) + 1 + cached === folios.refcount.get(pfn);
    if (ok && exclusive) ok = tryShareNow(core, pfn, pfn);
    if (ok) {
      if ((entry.bits & PTE_DIRTY) !== 0) folios.change(pfn, PG_DIRTY);
      entry = { ...entry, bits: entry.bits & ~(PTE_WRITE | PTE_DIRTY) };
    }
    pageTable.willUpdatePte(vpn, PROTECT);
    yield pageTable.ptl.willChange(row, PROTECT);
    pageTable.setPte(vpn, entry.pfn, entry.bits, entry.generation);
    pageTable.ptl.releaseNow(row);
  } else pageTable.ptl.releaseNow(row);
  yield* call(mm.notifiers.end(range));
  return ok ? entry : null;
}

/** The page becomes a KSM page: its mapping is its node of the stable tree from now on. */
function* makeStable(core: CoreMm, { mm, vma, vpn, pfn }: Candidate): Steps<StableNode> {
  const { folios, sim } = core;
  const number = sim.current?.nextNumber() ?? 0;
  const node = new StableNode(sim, `KSM page of ${mm.name}@${vpn}#${number}`);
  core.addAnonVma(node);
  const item = new KsmRmapItem(mm, vpn, vma.fields.anonVma!);
  folios.mapping.willUpdate(pfn, STABLE);
  node.items.willWrite(STABLE);
  node.pfn.willWrite(STABLE);
  yield folios.flags.willUpdate(pfn, STABLE);
  folios.mapping.set(pfn, node.id);
  folios.change(pfn, PG_KSM | PG_REFERENCED | PG_DIRTY);
  node.items.value = [item];
  node.pfn.value = pfn;
  return node;
}

/** replace_page: the entry must still be the protected one. */
function* replacePage(core: CoreMm, page: Candidate, kpage: number, expected: Pte): Steps<boolean> {
  const { folios } = core;
  const { mm, vpn, pfn } = page;
  const { pageTable } = mm;
  const row = pmdOf(vpn);
  const range = { mm, start: vpn, end: vpn + 1, event: 'CLEAR', blockable: true } as const;
  yield* call(mm.notifiers.start(range));
  pageTable.willReadPmd(row, REPLACE);
  pageTable.willUpdatePte(vpn, REPLACE);
  yield pageTable.ptl.lock(row, REPLACE);
  const table = (pageTable.pmd(row).bits & PMD_TABLE) !== 0;
  const now = pageTable.pte(vpn);
  const same =
    table && pteSame({ ...now, bits: now.bits & ~PTE_YOUNG }, { ...expected, bits: expected.bits & ~PTE_YOUNG });
  if (same) {
    pageTable.clearPte(vpn);
    yield* call(flushTlbRange(core, mm, vpn, vpn + 1));
    willGet(core, kpage, INSTALL);
    folios.willMap(kpage, kpage, INSTALL);
    folios.willMap(pfn, pfn, INSTALL);
    pageTable.willUpdatePte(vpn, INSTALL);
    yield pageTable.ptl.willChange(row, INSTALL);
    getNow(core, kpage, 1);
    folios.addPteMapping(kpage, kpage);
    pageTable.setPte(vpn, kpage, PTE_PRESENT | PTE_YOUNG, core.frames.peekGeneration(kpage));
    folios.removePteMapping(pfn, pfn);
    pageTable.ptl.releaseNow(row);
  } else pageTable.ptl.releaseNow(row);
  yield* call(mm.notifiers.end(range));
  if (same) {
    yield willPut(core, pfn, PUT);
    putNow(core, pfn, 1, 'replace_page');
  }
  return same;
}
