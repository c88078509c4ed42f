// hugetlb reservations (mm/hugetlb.c hugetlb_reserve_pages, hugetlb_unreserve_pages, alloc_hugetlb_folio,
// restore_reserve_on_error, hugetlb_vm_op_close): mmap promises pages of the pool, so that faults find them. What a shared
// mapping reserves belongs to the file, what a private one reserves to its VMA. No subpools, no surplus pages.
import { call, type Steps } from '../../engine/process.ts';
import { step } from '../../engine/step.ts';
import { allocHugetlb, type Gfp } from '../alloc/page-alloc.ts';
import type { CoreMm } from '../core.ts';
import type { Inode } from '../file/inode.ts';
import type { Vma } from '../mapping/vma.ts';
import type { Mm } from '../mm.ts';
import { PG_RESTORE_RESERVE } from '../page-flags.ts';
import { ResvMap } from './resv-map.ts';

const ACCT = step('hugetlb_acct_memory', 'op');
const SIZE = step('hugetlbfs_file_mmap:i_size', 'op');
const CHG = step('region_chg', 'op');
const ADD = step('region_add', 'op');
const UNRESERVE = step('hugetlb_unreserve_pages', 'op');
const CLOSE = step('hugetlb_vm_op_close', 'op');
const NEEDS = step('vma_needs_reservation', 'op');
const COMMIT = step('vma_commit_reservation', 'op');
const RESTORE = step('restore_reserve_on_error', 'op');
const RESTORE_ZAPPED = step('__unmap_hugepage_range:restore-reservation', 'op');

/** available_huge_pages: what nobody was promised. In a step that announced the pool of that order. */
export function availableHugePages(core: CoreMm, order: number): number {
  return (core.hugePool.get(order)?.value.length ?? 0) - (core.hugeReserved.get(order)?.value ?? 0);
}

/** hugetlb_acct_memory: promise `delta` pages of the pool, or take promises back. False: there are not so many. */
export function* hugetlbAcctMemory(core: CoreMm, order: number, delta: number): Steps<boolean> {
  if (delta === 0) return true;
  const pool = core.hugePool.get(order);
  const reserved = core.hugeReserved.get(order);
  if (pool === undefined || reserved === undefined) return false;
  yield pool.willUpdate(ACCT);
  if (delta > 0 && availableHugePages(core, order) < delta) return false;
  reserved.value += delta;
  return true;
}

/** vma_hugecache_offset: the range of a VMA in its file, in huge pages. */
function hugeRange(inode: Inode, vma: Vma): readonly [number, number] {
  const pages = 2 ** inode.hugeOrder;
  const from = Math.floor(vma.fields.pgoff / pages);
  return [from, from + vma.pages / pages];
}

/**
 * hugetlbfs_file_mmap: the VMA with what it was promised, or ENOMEM. A file grows with what is mapped for writing. i_rwsem
 * keeps truncation out, and others who map the file; faults go on.
 */
export function* hugetlbfsFileMmap(core: CoreMm, mm: Mm, inode: Inode, vma: Vma): Steps<Vma | 'ENOMEM'> {
  yield* call(inode.rwsem.write());
  const reservation = yield* call(hugetlbReservePages(core, mm, inode, vma));
  if (reservation !== 'ENOMEM') {
    const end = vma.fields.pgoff + vma.pages;
    yield inode.sizePages.willUpdate(SIZE);
    if (vma.fields.write && inode.sizePages.value < end) inode.sizePages.value = end;
  }
  yield inode.rwsem.up();
  return reservation === 'ENOMEM' ? 'ENOMEM' : vma.with({ reservation });
}

/**
 * hugetlb_reserve_pages for a mapping that mmap is about to make: what it is promised if it is private (null otherwise).
 * ENOMEM: the pool has not so many pages that nobody else was promised.
 */
function* hugetlbReservePages(core: CoreMm, mm: Mm, inode: Inode, vma: Vma): Steps<ResvMap | null | 'ENOMEM'> {
  if (vma.fields.noReserve) return null;
  const [from, to] = hugeRange(inode, vma);
  if (vma.mayShare) return (yield* call(reserveRange(core, inode, from, to))) ? null : 'ENOMEM';
  const map = new ResvMap(core.sim, `reservation of ${mm.name} for ${vma.fields.name} at ${vma.start.toString(16)}`);
  return (yield* call(hugetlbAcctMemory(core, inode.hugeOrder, to - from))) ? map : 'ENOMEM';
}

/** hugetlb_reserve_pages of a range of the file: only what it does not have yet counts. */
function* reserveRange(core: CoreMm, inode: Inode, from: number, to: number): Steps<boolean> {
  const map = inode.reservations!;
  yield map.willCount(from, to, CHG);
  const change = to - from - map.count(from, to);
  if (!(yield* call(hugetlbAcctMemory(core, inode.hugeOrder, change)))) return false;
  yield map.willChange(from, to, ADD);
  const added = map.add(from, to);
  // Somebody faulted some of it in meanwhile.
  if (change > added) yield* call(hugetlbAcctMemory(core, inode.hugeOrder, added - change));
  return true;
}

/** hugetlb_unreserve_pages of huge pages [from, to) of a file, of which `freed` were in the page cache. */
export function* hugetlbUnreservePages(
  core: CoreMm,
  inode: Inode,
  from: number,
  to: number,
  freed: number,
): Steps<void> {
  const map = inode.reservations!;
  yield map.willChange(from, to, UNRESERVE);
  const change = map.delete(from, to);
  yield* call(hugetlbAcctMemory(core, inode.hugeOrder, freed - change));
}

/** hugetlb_vm_op_close: what a private mapping was promised and has not used goes back. */
export function* hugetlbVmOpClose(core: CoreMm, vma: Vma): Steps<void> {
  const { reservation, file } = vma.fields;
  if (reservation === null || file === null) return;
  const [from, to] = hugeRange(file, vma);
  yield reservation.willCount(from, to, CLOSE);
  const unused = to - from - reservation.count(from, to);
  yield* call(hugetlbAcctMemory(core, file.hugeOrder, -unused));
}

/** vma_resv_map: that of the file, or of the private mapping; null: nothing was promised. */
function mapOf(inode: Inode, vma: Vma): ResvMap | null {
  return vma.mayShare ? inode.reservations : vma.fields.reservation;
}

/**
 * alloc_hugetlb_folio for page `index` of the file, in small pages. Undefined (ENOSPC): what is left of the pool has been
 * promised to others. `avoidReserve`: the promise for this page is used up by the page that is to be copied.
 */
export function* allocHugetlbFolio(
  core: CoreMm,
  inode: Inode,
  vma: Vma,
  index: number,
  gfp: Gfp,
  avoidReserve = false,
): Steps<number | undefined> {
  const map = mapOf(inode, vma);
  const at = Math.floor(index / 2 ** inode.hugeOrder);
  if (map === null) return yield* call(allocHugetlb(core, gfp, false));
  yield map.willCount(at, at + 1, NEEDS);
  const promised = map.has(at) === vma.mayShare;
  const head = yield* call(allocHugetlb(core, gfp, promised && !avoidReserve));
  if (head === undefined) return undefined;
  yield map.willChange(at, at + 1, COMMIT);
  const added = map.add(at, at + 1) === 1;
  // Raced with hugetlb_reserve_pages, which counted this page as well.
  if (!promised && added !== vma.mayShare) yield* call(hugetlbAcctMemory(core, inode.hugeOrder, -1));
  return head;
}

/** restore_reserve_on_error: a page that allocHugetlbFolio gave will not be used; its last put comes next. */
export function* restoreReserveOnError(core: CoreMm, inode: Inode, vma: Vma, head: number, index: number): Steps<void> {
  const map = mapOf(inode, vma);
  if (map === null) return;
  const at = Math.floor(index / 2 ** inode.hugeOrder);
  core.folios.flags.willRead(head, RESTORE);
  yield map.willChange(at, at + 1, RESTORE);
  const restores = (core.folios.flags.get(head) & PG_RESTORE_RESERVE) !== 0;
  // What freeing it counts as reserved is promised again; what came without a promise leaves no trace.
  if (vma.mayShare === restores) map.add(at, at + 1);
  else map.delete(at, at + 1);
}

/** The owner of a private mapping gave a page up, as the last to map it: it is promised again (df7a6d1f6405). */
export function* restoreZapped(vma: Vma, vpn: number): Steps<void> {
  const { reservation, file } = vma.fields;
  const at = Math.floor(vma.indexOf(vpn) / 2 ** file!.hugeOrder);
  yield reservation!.willChange(at, at + 1, RESTORE_ZAPPED);
  reservation!.delete(at, at + 1);
}
