// folio_check_references and folio_referenced (mm/vmscan.c, mm/rmap.c): has a folio been used since reclaim last looked?
// Every mapping's young bit is taken away, those of secondary MMUs with it. No notifier window: nothing is unmapped.
import { call, type Steps } from '../../engine/process.ts';
import { step } from '../../engine/step.ts';
import { PMD_PAGES } from '../../hw/machine.ts';
import type { CoreMm } from '../core.ts';
import { PG_ANON, PG_MLOCKED, PG_REFERENCED, PG_SWAPBACKED } from '../page-flags.ts';
import { pmdOf } from '../page-table.ts';
import { PMD_LEAF, PMD_TABLE, PTE_YOUNG, ptePresent } from '../pte.ts';
import { type RmapPlace, rmapLock } from '../rmap/rmap.ts';
import { walkPlaces } from '../rmap/rmap-walk.ts';

const TRYLOCK = step('folio_referenced:rmap-trylock', 'lock');
const UNLOCK = step('folio_referenced:rmap-unlock', 'lock');
const MAPPED = step('folio_referenced:mapcount', 'op');
const YOUNG = step('folio_referenced_one:clear-young', 'pte-op');
const YOUNG_PMD = step('folio_referenced_one:clear-young-pmd', 'pte-op');
const REFERENCED = step('folio_check_references', 'op');

export type References = 'activate' | 'keep' | 'reclaim' | 'reclaim-clean';

/** What the walk found. */
interface Found {
  /** Mappings that were young; -1: leave the folio alone (rmap lock contended, or only an exiting process maps it). */
  young: number;
  locked: boolean;
  exec: boolean;
}

/** folio_check_references of a locked folio. */
export function* checkReferences(core: CoreMm, head: number): Steps<References> {
  const { folios } = core;
  const found = yield* call(folioReferenced(core, head));
  yield folios.flags.willUpdate(head, REFERENCED);
  const flags = folios.flags.get(head);
  const wasReferenced = (flags & PG_REFERENCED) !== 0;
  const file = (flags & PG_SWAPBACKED) === 0;
  const again = found.young > 0 && !found.locked ? PG_REFERENCED : 0;
  folios.flags.set(head, (flags & ~PG_REFERENCED) | again);
  if (found.locked) return 'activate';
  if (found.young < 0) return 'keep';
  if (found.young > 0) return wasReferenced || found.young > 1 || (found.exec && file) ? 'activate' : 'keep';
  return wasReferenced && file ? 'reclaim-clean' : 'reclaim';
}

/** folio_referenced: the folio is locked. */
export function* folioReferenced(core: CoreMm, head: number): Steps<Found> {
  const { folios, kernel } = core;
  const found: Found = { young: 0, locked: false, exec: false };
  yield folios.mapcount.willRead(head, MAPPED);
  if (folios.mapcountOf(head) === 0) return found;
  const lock = rmapLock(core, head);
  if (lock === null) return found;
  if (kernel.has('reclaim.contended-rmap-keeps')) {
    yield lock.willChange(TRYLOCK);
    if (!lock.tryNow(false)) return { ...found, young: -1 };
  } else yield* call(lock.read(TRYLOCK));
  const places = yield* call(walkPlaces(core, head));
  for (const place of places) {
    const young = yield* call(referencedOne(core, head, place, found));
    if (young === 'stop') break;
    if (young) {
      found.young++;
      found.exec ||= place.vma.fields.exec;
    }
  }
  yield lock.up(UNLOCK);
  return found;
}

/** folio_referenced_one. True: this mapping was used. */
function* referencedOne(core: CoreMm, head: number, place: RmapPlace, found: Found): Steps<boolean | 'stop'> {
  const { folios } = core;
  const { mm, vma, vpn, pages } = place;
  const { pageTable } = mm;
  const row = pmdOf(vpn);
  if (folios.isLarge(head) && (pageTable.peekPmd(row).bits & PMD_LEAF) !== 0) {
    folios.flags.willUpdate(head, YOUNG_PMD);
    pageTable.willUpdatePmd(row, YOUNG_PMD);
    yield pageTable.ptl.pass(row, YOUNG_PMD);
    const pmd = pageTable.pmd(row);
    if ((pmd.bits & PMD_LEAF) === 0 || !ptePresent(pmd.bits) || folios.headOf(pmd.pfn) !== head) return false;
    if (vma.fields.locked) return mlocked(core, head, found);
    const young = (pmd.bits & PTE_YOUNG) !== 0;
    if (young) pageTable.setPmd(row, pmd.pfn, pmd.bits & ~PTE_YOUNG, pmd.generation);
    const secondary = yield* call(mm.notifiers.clearFlushYoung(row * PMD_PAGES, (row + 1) * PMD_PAGES));
    return young || secondary;
  }
  let referenced = false;
  for (let at = vpn; at < vpn + pages; at++) {
    const page = head + place.offset + (at - vpn);
    const seen = pageTable.peekPte(at);
    if (folios.isLarge(head) && (!ptePresent(seen.bits) || seen.pfn !== page)) continue;
    mm.users.willRead(YOUNG);
    mm.unstable.willRead(YOUNG);
    folios.mapcount.willRead(head, YOUNG);
    folios.flags.willUpdate(head, YOUNG);
    pageTable.willReadPmd(pmdOf(at), YOUNG);
    pageTable.willUpdatePte(at, YOUNG);
    yield pageTable.ptl.pass(pmdOf(at), YOUNG);
    const pte = pageTable.pte(at);
    if ((pageTable.pmd(pmdOf(at)).bits & PMD_TABLE) === 0 || !ptePresent(pte.bits) || pte.pfn !== page) continue;
    if (vma.fields.locked) return mlocked(core, head, found);
    if (onlyDying(core, head, place)) {
      found.young = -1;
      return 'stop';
    }
    const young = (pte.bits & PTE_YOUNG) !== 0;
    if (young) pageTable.setPte(at, pte.pfn, pte.bits & ~PTE_YOUNG, pte.generation);
    const secondary = yield* call(mm.notifiers.clearFlushYoung(at, at + 1));
    referenced = referenced || young || secondary;
  }
  return referenced;
}

/** In an mlocked area: restore what mlock missed, and stop. */
function mlocked(core: CoreMm, head: number, found: Found): 'stop' {
  core.folios.change(head, PG_MLOCKED);
  found.locked = true;
  return 'stop';
}

/** Swap-backed and mapped only by an mm that is going away: swapping it out would be wasted. */
function onlyDying(core: CoreMm, head: number, { mm }: RmapPlace): boolean {
  if (!core.kernel.has('reclaim.exiting-mapper-keeps')) return false;
  const kind = core.folios.flags.get(head);
  if ((kind & PG_ANON) === 0 || (kind & PG_SWAPBACKED) === 0) return false;
  return (mm.users.value === 0 || mm.unstable.value) && core.folios.mapcountOf(head) === 1;
}
