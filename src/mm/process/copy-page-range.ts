// copy_page_range (mm/memory.c, mm/huge_memory.c, mm/hugetlb.c): sharing a VMA's pages with the child, read-only, or
// copying at once what may be pinned. The parent's TLB is not flushed here: dup_mmap does that once at its end.
import { call, type Steps } from '../../engine/process.ts';
import { step } from '../../engine/step.ts';
import { PMD_PAGES } from '../../hw/machine.ts';
import type { CoreMm } from '../core.ts';
import type { Errno } from '../errno.ts';
import type { Vma } from '../mapping/vma.ts';
import type { Mm } from '../mm.ts';
import { pmdOf } from '../page-table.ts';
import { PMD_LEAF, PMD_TABLE } from '../pte.ts';
import { notifierRange } from '../zap/zap.ts';
import { copyHugePmd } from './copy-huge-pmd.ts';
import { copyHugetlbRow } from './copy-hugetlb.ts';
import { copySomePtes, type ForkCopy } from './copy-pte.ts';

const WALK = step('copy_pmd_range:walk', 'none');
const SEQ_BEGIN = step('copy_page_range:write_protect_seq_begin', 'op');
const SEQ_END = step('copy_page_range:write_protect_seq_end', 'op');
const CHILD_TABLE = step('pte_alloc:child', 'pte-op');

/** ENOMEM: no page for an early copy. The pages copied so far stay; exit of the half-made child drops them. */
export function* copyPageRange(core: CoreMm, parent: Mm, child: Mm, src: Vma, dst: Vma): Steps<'ok' | Errno> {
  const cow = src.cow;
  const range = notifierRange(core, parent, src, src.start, src.end, src.hugetlb ? 'CLEAR' : 'PROTECTION_PAGE');
  if (cow) {
    yield* call(parent.notifiers.start(range));
    if (countsSequence(core)) yield* call(bumpSequence(parent, SEQ_BEGIN));
  }
  const result = yield* call(copyRows({ core, parent, child, src, dst, cow }));
  if (cow) {
    if (countsSequence(core)) yield* call(bumpSequence(parent, SEQ_END));
    yield* call(parent.notifiers.end(range));
  }
  return result;
}

/** write_protect_seq exists where GUP-fast looks at it (57efa1fe5957). */
function countsSequence(core: CoreMm): boolean {
  return core.kernel.has('gup.fast.write-protect-seq');
}

function* bumpSequence(mm: Mm, at: typeof SEQ_BEGIN): Steps<void> {
  yield mm.writeProtectSeq.willUpdate(at);
  mm.writeProtectSeq.value = mm.writeProtectSeq.value + 1;
}

function* copyRows(copy: ForkCopy): Steps<'ok' | Errno> {
  const { parent, src } = copy;
  const first = pmdOf(src.start);
  const last = pmdOf(src.end - 1);
  yield parent.pageTable.willReadPmds(first, last, WALK);
  for (const row of parent.pageTable.populatedRows(first, last)) {
    const from = Math.max(src.start, row * PMD_PAGES);
    const to = Math.min(src.end, (row + 1) * PMD_PAGES);
    const result = yield* call(copyRow(copy, row, from, to));
    if (result !== 'ok') return result;
  }
  return 'ok';
}

function* copyRow(copy: ForkCopy, row: number, from: number, to: number): Steps<'ok' | Errno> {
  const { parent, src } = copy;
  // mmap_lock is held for write: only file collapse, which leaves none, may still change the entry.
  if ((parent.pageTable.peekPmd(row).bits & PMD_LEAF) !== 0) {
    if (src.hugetlb) return yield* call(copyHugetlbRow(copy, row));
    // A leaf that is not copied whole was split: its pages go one by one.
    if ((yield* call(copyHugePmd(copy, row))) === 'done') return 'ok';
  }
  if ((parent.pageTable.peekPmd(row).bits & PMD_TABLE) === 0) return 'ok';
  yield* call(allocChildTable(copy, row));
  for (let vpn = from; vpn < to; ) {
    const next = yield* call(copySomePtes(copy, row, vpn, to));
    if (next === 'ENOMEM') return 'ENOMEM';
    vpn = next;
  }
  return 'ok';
}

function* allocChildTable({ child }: ForkCopy, row: number): Steps<void> {
  yield child.pageTable.willUpdatePmd(row, CHILD_TABLE);
  const { bits, pfn } = child.pageTable.pmd(row);
  if (bits === 0) child.pageTable.setPmd(row, pfn + 1, PMD_TABLE, 0);
}
