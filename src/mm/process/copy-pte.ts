// copy_present_pte, copy_nonpresent_pte, copy_present_page (mm/memory.c). What GUP-fast may run between stays apart,
// under one hold of the parent's page-table lock: reference and pin test | exclusive flag and mapcount | write
// protection. An early copy drops the lock to allocate, and starts over at the same entry.
import { call, type Steps } from '../../engine/process.ts';
import { step } from '../../engine/step.ts';
import { allocFolio } from '../alloc/page-alloc.ts';
import type { CoreMm } from '../core.ts';
import { addNewAnonNow, userGfp, willAddNewAnon } from '../fault/anon-page.ts';
import type { Vma } from '../mapping/vma.ts';
import type { Mm } from '../mm.ts';
import { PG_ANON } from '../page-flags.ts';
import {
  PMD_TABLE,
  PTE_DIRTY,
  PTE_EXCLUSIVE,
  PTE_MARKER,
  PTE_MIGRATION,
  PTE_PRESENT,
  PTE_SOFT_DIRTY,
  PTE_SWAP,
  PTE_UFFD_WP,
  PTE_WRITE,
  PTE_YOUNG,
  type Pte,
  ptePresent,
} from '../pte.ts';
import { folioAddLru } from '../reclaim/lru.ts';
import { folioPut, getNow } from '../refcount.ts';
import { swapDuplicateNow } from '../swap/swap-slots.ts';
import { normalHead } from '../zap/zap-entry.ts';

const TEST = step('copy_present_pte:get-and-test-pinned', 'refcount');
const DUP = step('folio_try_dup_anon_rmap_pte', 'pte-op');
const PROTECT = step('copy_present_pte:wrprotect', 'pte-op');
const COPY = step('copy_present_page:copy', 'copy-page');
const INSTALL = step('copy_present_page:install', 'pte-op');

/** One VMA being copied to a child. */
export interface ForkCopy {
  readonly core: CoreMm;
  readonly parent: Mm;
  readonly child: Mm;
  readonly src: Vma;
  readonly dst: Vma;
  /** is_cow_mapping(src) */
  readonly cow: boolean;
}

/** One entry of the batch, as it was under the lock. */
interface Copied {
  readonly vpn: number;
  readonly pte: Pte;
  readonly head: number | undefined;
}

/**
 * Copy up to `stepPages` populated entries from `vpn` on; returns where to go on. The caller holds mmap_lock of the
 * parent for write, so that no empty entry fills; reclaim and migration may still change the populated ones.
 */
export function* copySomePtes(copy: ForkCopy, row: number, vpn: number, to: number): Steps<number | 'ENOMEM'> {
  const { core, parent } = copy;
  const { ptl } = parent.pageTable;
  let prealloc: number | undefined;
  for (;;) {
    const [planned, end] = plan(copy, vpn, to);
    willTest(copy, planned, row, vpn, end);
    yield core.sim.times(Math.max(planned.length, 1), ptl.lock(row, TEST));
    // Whoever holds the lock may have taken an entry out only for the moment: what was empty is empty under the lock.
    if (filled(copy, planned, vpn, end)) {
      ptl.releaseNow(row);
      continue;
    }
    const { batch, pinnedAt, next } = testNow(copy, row, planned, end);
    if (batch.length > 0) yield* call(share(copy, row, batch, pinnedAt === undefined));
    if (pinnedAt === undefined) {
      if (batch.length === 0) ptl.releaseNow(row);
      if (prealloc !== undefined) yield* call(folioPut(core, prealloc, 1, 'copy_pte_range: unused preallocation'));
      return next;
    }
    if (prealloc !== undefined) {
      yield* call(copyPresentPage(copy, row, pinnedAt, prealloc));
      return pinnedAt.vpn + 1;
    }
    if (batch.length === 0) ptl.releaseNow(row);
    else yield ptl.unlock(row);
    // The sequence stays odd and mmap_lock held: nobody pins or faults meanwhile.
    prealloc = yield* call(allocFolio(core, userGfp(core, false, false)));
    if (prealloc === undefined) return 'ENOMEM';
    vpn = pinnedAt.vpn;
  }
}

/** The next populated entries, as they look now, and where the batch ends. */
function plan({ core, parent }: ForkCopy, vpn: number, to: number): readonly [readonly Copied[], number] {
  const planned: Copied[] = [];
  let at = vpn;
  for (; at < to && planned.length < core.params.stepPages; at++) {
    const pte = parent.pageTable.peekPte(at);
    if (pte.bits !== 0) planned.push({ vpn: at, pte, head: normalHead(core, pte) });
  }
  while (at < to && parent.pageTable.peekPte(at).bits === 0) at++;
  return [planned, at];
}

/** Is an entry of [from, to) there that the plan did not find? */
function filled({ parent }: ForkCopy, planned: readonly Copied[], from: number, to: number): boolean {
  for (let at = from, next = 0; at < to; at++) {
    if (planned[next]?.vpn === at) next++;
    else if (parent.pageTable.peekPte(at).bits !== 0) return true;
  }
  return false;
}

function willTest({ core, parent }: ForkCopy, planned: readonly Copied[], row: number, from: number, to: number): void {
  const { folios } = core;
  parent.pageTable.willReadPmd(row, TEST);
  parent.pageTable.willReadPtes(from, to - 1, TEST);
  parent.hasPinned.willRead(TEST);
  for (const { head, pte } of planned) {
    if (head === undefined) continue;
    folios.refcount.willUpdate(head, TEST);
    folios.flags.willRead(head, TEST);
    folios.anonExclusive.willRead(pte.pfn, TEST);
  }
}

interface Tested {
  readonly batch: readonly Copied[];
  /** The first entry that may not be shared; the batch ends before it. */
  readonly pinnedAt: Copied | undefined;
  readonly next: number;
}

/** K5, K6: take the child's reference, then ask whether the page may be pinned. */
function testNow(copy: ForkCopy, row: number, planned: readonly Copied[], end: number): Tested {
  const { core, parent } = copy;
  const batch: Copied[] = [];
  if ((parent.pageTable.pmd(row).bits & PMD_TABLE) === 0) return { batch, pinnedAt: undefined, next: end };
  for (const { vpn, pte: seen, head } of planned) {
    const pte = parent.pageTable.pte(vpn);
    // Reclaim or migration came first: the next round sees what is there now.
    if (pte.pfn !== seen.pfn || ptePresent(pte.bits) !== ptePresent(seen.bits)) {
      return { batch, pinnedAt: undefined, next: vpn };
    }
    if (head !== undefined) {
      getNow(core, head, 1);
      if (mustCopy(copy, head, pte.pfn)) {
        getNow(core, head, -1);
        return { batch, pinnedAt: { vpn, pte, head }, next: vpn };
      }
    }
    batch.push({ vpn, pte, head });
  }
  return { batch, pinnedAt: undefined, next: end };
}

/** folio_try_dup_anon_rmap: an exclusive page that may be pinned stays the parent's alone. */
export function mustCopy({ core, parent }: ForkCopy, head: number, pfn: number): boolean {
  const { folios } = core;
  if ((folios.flags.get(head) & PG_ANON) === 0 || !core.kernel.has('fork.early-copy-pinned')) return false;
  if (!parent.hasPinned.value || !folios.maybeDmaPinned(head)) return false;
  return !core.kernel.has('cow.anon-exclusive') || folios.anonExclusive.get(pfn) === 1;
}

/** K7 and K8 of a batch. Leaves the lock when `last`. */
function* share(copy: ForkCopy, row: number, batch: readonly Copied[], last: boolean): Steps<void> {
  const { core, parent, child } = copy;
  const { folios, swap } = core;
  for (const { pte, head } of batch) {
    if (head !== undefined) {
      folios.willMap(head, pte.pfn, DUP);
      folios.flags.willRead(head, DUP);
      folios.anonExclusive.willUpdate(pte.pfn, DUP);
    } else if ((pte.bits & PTE_SWAP) !== 0) swap.map.willUpdate(pte.pfn, DUP);
  }
  yield core.sim.local(DUP, batch.length);
  for (const { pte, head } of batch) {
    if (head !== undefined) {
      if ((folios.flags.get(head) & PG_ANON) !== 0) folios.anonExclusive.set(pte.pfn, 0);
      folios.addPteMapping(head, pte.pfn);
    } else if ((pte.bits & PTE_SWAP) !== 0) swapDuplicateNow(core, pte.pfn);
  }
  const from = batch[0]!.vpn;
  const to = batch[batch.length - 1]!.vpn;
  child.pageTable.willUpdatePtes(from, to, PROTECT);
  parent.pageTable.willUpdatePtes(from, to, PROTECT);
  yield core.sim.times(batch.length, last ? parent.pageTable.ptl.willChange(row, PROTECT) : core.sim.local(PROTECT));
  for (const { vpn } of batch) {
    // Accessed and dirty may have been set since; nothing else changes under the lock.
    const pte = parent.pageTable.pte(vpn);
    const bits = sharedBits(copy, pte);
    if (bits !== pte.bits) parent.pageTable.setPte(vpn, pte.pfn, bits, pte.generation);
    const own = childBits(copy, bits);
    if (own !== 0) child.pageTable.setPte(vpn, pte.pfn, own, pte.generation);
  }
  if (last) parent.pageTable.ptl.releaseNow(row);
}

/** What the parent's entry becomes: write-protected, no longer exclusive. */
export function sharedBits({ cow }: ForkCopy, pte: Pte): number {
  if (!cow) return pte.bits;
  if ((pte.bits & PTE_SWAP) !== 0) return pte.bits & ~PTE_EXCLUSIVE;
  if ((pte.bits & PTE_MIGRATION) !== 0) return pte.bits & ~(PTE_WRITE | PTE_EXCLUSIVE);
  return pte.bits & ~PTE_WRITE;
}

/** The child's entry: old; clean where the page is shared; without the parent's userfaultfd marks. */
export function childBits({ cow }: ForkCopy, bits: number): number {
  if ((bits & PTE_MARKER) !== 0) return 0;
  const kept = bits & ~(PTE_YOUNG | PTE_UFFD_WP);
  return cow ? kept : kept & ~PTE_DIRTY;
}

/** copy_present_page: the child gets a page of its own, writable; the parent's entry and flags stay as they are. */
function* copyPresentPage(copy: ForkCopy, row: number, entry: Copied, page: number): Steps<void> {
  const { core, parent, child, dst } = copy;
  const { ptl } = parent.pageTable;
  const { vpn, pte } = entry;
  core.frames.content.willRead(pte.pfn, COPY);
  yield core.frames.content.willWrite(page, COPY);
  core.frames.copy(pte.pfn, page, 1);
  willAddNewAnon(core, page, INSTALL);
  child.pageTable.willUpdatePte(vpn, INSTALL);
  yield ptl.willChange(row, INSTALL);
  addNewAnonNow(core, dst, vpn, page);
  const write = dst.fields.write ? PTE_WRITE : 0;
  const bits = PTE_PRESENT | PTE_DIRTY | PTE_SOFT_DIRTY | write;
  child.pageTable.setPte(vpn, page, bits, core.frames.peekGeneration(page));
  ptl.releaseNow(row);
  yield* call(folioAddLru(core, page));
}
