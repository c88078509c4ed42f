// copy_hugetlb_page_range (mm/hugetlb.c), one huge page. A pinned page is copied at once, which takes another page of
// the pool that nobody was promised: without one fork fails.
import { call, type Steps } from '../../engine/process.ts';
import { step } from '../../engine/step.ts';
import { PMD_PAGES } from '../../hw/machine.ts';
import { allocHugetlb } from '../alloc/page-alloc.ts';
import type { Errno } from '../errno.ts';
import { PG_ANON, PG_UPTODATE } from '../page-flags.ts';
import { PMD_LEAF, PTE_DIRTY, PTE_PRESENT, PTE_WRITE, PTE_YOUNG, type Pte } from '../pte.ts';
import { folioPut, getNow } from '../refcount.ts';
import { hugeHead, rowsOf } from '../zap/zap-huge.ts';
import { childBits, type ForkCopy, mustCopy, sharedBits } from './copy-pte.ts';

const TEST = step('copy_hugetlb_page_range:get-and-test-pinned', 'refcount');
const DUP = step('hugetlb_try_dup_anon_rmap', 'pte-op');
const PROTECT = step('copy_hugetlb_page_range:wrprotect', 'pte-op');
const COPY = step('copy_user_large_folio', 'copy-page');
const INSTALL = step('hugetlb_install_folio', 'pte-op');
const PUT = 'copy_hugetlb_page_range';

export function* copyHugetlbRow(copy: ForkCopy, row: number): Steps<'ok' | Errno> {
  const { core, parent } = copy;
  const { pageTable } = parent;
  const { folios } = core;
  const seen = pageTable.peekPmd(row);
  const head = hugeHead(copy, seen);
  // The rows of a 1 GiB page go with its first.
  if (head !== undefined && seen.pfn !== head) return 'ok';
  const rows = rowsOf(core, head);
  pageTable.willReadPmd(row, TEST);
  parent.hasPinned.willRead(TEST);
  if (head !== undefined) {
    folios.refcount.willUpdate(head, TEST);
    folios.flags.willRead(head, TEST);
    folios.anonExclusive.willRead(head, TEST);
  }
  yield pageTable.ptl.lock(row, TEST);
  const pmd = pageTable.pmd(row);
  if ((pmd.bits & PMD_LEAF) === 0 || pmd.pfn !== seen.pfn || hugeHead(copy, pmd) !== head) {
    pageTable.ptl.releaseNow(row);
    return (pmd.bits & PMD_LEAF) === 0 ? 'ok' : yield* call(copyHugetlbRow(copy, row));
  }
  if (head !== undefined) {
    getNow(core, head, 1);
    if (core.kernel.has('fork.early-copy-hugetlb') && mustCopy(copy, head, head)) {
      pageTable.ptl.releaseNow(row);
      return yield* call(earlyCopy(copy, row, head, pmd));
    }
    yield* call(duplicate(copy, head));
  }
  for (let i = 0; i < rows; i++) {
    copy.child.pageTable.willUpdatePmd(row + i, PROTECT);
    pageTable.willUpdatePmd(row + i, PROTECT);
  }
  yield pageTable.ptl.willChange(row, PROTECT);
  const bits = sharedBits(copy, pageTable.pmd(row));
  const own = childBits(copy, bits);
  for (let i = 0; i < rows; i++) {
    pageTable.setPmd(row + i, pmd.pfn + i * PMD_PAGES, bits, pmd.generation);
    copy.child.pageTable.setPmd(row + i, pmd.pfn + i * PMD_PAGES, own, pmd.generation);
  }
  pageTable.ptl.releaseNow(row);
  return 'ok';
}

function* duplicate({ core }: ForkCopy, head: number): Steps<void> {
  const { folios } = core;
  folios.willMap(head, head, DUP);
  folios.flags.willRead(head, DUP);
  yield folios.anonExclusive.willUpdate(head, DUP);
  if ((folios.flags.get(head) & PG_ANON) !== 0) folios.anonExclusive.set(head, 0);
  folios.addPmdMapping(head, 1);
}

/** The page may be pinned: the child gets a page of its own. The source is held while the locks are dropped. */
function* earlyCopy(copy: ForkCopy, row: number, head: number, seen: Pte): Steps<'ok' | Errno> {
  const { core, parent, child, dst } = copy;
  const { folios, frames } = core;
  const pages = folios.pagesOf(head);
  const page = yield* call(allocHugetlb(core, { order: folios.orderOf(head), movable: true, zero: false }, false));
  if (page === undefined) {
    yield* call(folioPut(core, head, 1, PUT));
    return 'ENOMEM';
  }
  frames.content.willReadRange(head, head + pages - 1, COPY);
  yield core.sim.times(pages, frames.content.willUpdateRange(page, page + pages - 1, COPY));
  frames.copy(head, page, pages);
  yield* call(folioPut(core, head, 1, PUT));

  folios.flags.willUpdate(page, INSTALL);
  folios.mapping.willUpdate(page, INSTALL);
  folios.anonExclusive.willUpdate(page, INSTALL);
  folios.willMap(page, page, INSTALL);
  const rows = rowsOf(core, page);
  for (let i = 0; i < rows; i++) child.pageTable.willUpdatePmd(row + i, INSTALL);
  parent.pageTable.willReadPmd(row, INSTALL);
  yield parent.pageTable.ptl.pass(row, INSTALL);
  if (parent.pageTable.pmd(row).pfn !== seen.pfn) {
    yield* call(folioPut(core, page, 1, PUT));
    return yield* call(copyHugetlbRow(copy, row));
  }
  const vpn = row * PMD_PAGES;
  folios.change(page, PG_ANON | PG_UPTODATE);
  folios.mapping.set(page, dst.fields.anonVma!.id);
  folios.index.set(page, dst.indexOf(vpn));
  folios.anonExclusive.set(page, core.kernel.has('cow.anon-exclusive') ? 1 : 0);
  folios.addPmdMapping(page, 1);
  const write = dst.fields.write ? PTE_WRITE | PTE_DIRTY : 0;
  const bits = PMD_LEAF | PTE_PRESENT | PTE_YOUNG | write;
  for (let i = 0; i < rows; i++) {
    child.pageTable.setPmd(row + i, page + i * PMD_PAGES, bits, frames.peekGeneration(page));
  }
  return 'ok';
}
