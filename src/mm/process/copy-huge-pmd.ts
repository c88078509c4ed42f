// copy_huge_pmd (mm/huge_memory.c): a THP is shared whole, unless it may be pinned: then the parent's PMD is split and
// its pages are copied one by one.
import { call, type Steps } from '../../engine/process.ts';
import { step } from '../../engine/step.ts';
import { PMD_LEAF, type Pte } from '../pte.ts';
import { getNow } from '../refcount.ts';
import { splitHugePmd } from '../thp/huge-pmd.ts';
import { hugeHead } from '../zap/zap-huge.ts';
import { childBits, type ForkCopy, mustCopy, sharedBits } from './copy-pte.ts';

const TEST = step('copy_huge_pmd:get-and-test-pinned', 'refcount');
const DUP = step('folio_try_dup_anon_rmap_pmd', 'pte-op');
const PROTECT = step('copy_huge_pmd:wrprotect', 'pte-op');

/** `split`: the leaf is a table now, or was one already. */
export function* copyHugePmd(copy: ForkCopy, row: number): Steps<'done' | 'split'> {
  const { core, parent, src } = copy;
  const { pageTable } = parent;
  // File memory is faulted in again by the child.
  if (!src.anonymous) return 'done';
  const seen = pageTable.peekPmd(row);
  const head = hugeHead(copy, seen);
  pageTable.willReadPmd(row, TEST);
  parent.hasPinned.willRead(TEST);
  if (head !== undefined) {
    core.folios.refcount.willUpdate(head, TEST);
    core.folios.flags.willRead(head, TEST);
    core.folios.anonExclusive.willRead(head, TEST);
  }
  yield pageTable.ptl.lock(row, TEST);
  const pmd = pageTable.pmd(row);
  if ((pmd.bits & PMD_LEAF) === 0 || pmd.pfn !== seen.pfn || hugeHead(copy, pmd) !== head) {
    pageTable.ptl.releaseNow(row);
    return (pmd.bits & PMD_LEAF) === 0 ? 'split' : yield* call(copyHugePmd(copy, row));
  }
  if (head !== undefined) {
    getNow(core, head, 1);
    if (mustCopy(copy, head, head)) {
      getNow(core, head, -1);
      pageTable.ptl.releaseNow(row);
      yield* call(splitHugePmd(core, parent, src, row));
      return 'split';
    }
  }
  yield* call(shareHuge(copy, row, pmd, head));
  return 'done';
}

function* shareHuge(copy: ForkCopy, row: number, pmd: Pte, head: number | undefined): Steps<void> {
  const { core, parent, child } = copy;
  const { folios } = core;
  if (head !== undefined) {
    folios.willMap(head, head, DUP);
    yield folios.anonExclusive.willUpdate(head, DUP);
    folios.anonExclusive.set(head, 0);
    folios.addPmdMapping(head, 1);
  }
  child.pageTable.willUpdatePmd(row, PROTECT);
  parent.pageTable.willUpdatePmd(row, PROTECT);
  yield parent.pageTable.ptl.willChange(row, PROTECT);
  const now = parent.pageTable.pmd(row);
  const bits = sharedBits(copy, now);
  parent.pageTable.setPmd(row, pmd.pfn, bits, pmd.generation);
  child.pageTable.setPmd(row, pmd.pfn, childBits(copy, bits), pmd.generation);
  parent.pageTable.ptl.releaseNow(row);
}
