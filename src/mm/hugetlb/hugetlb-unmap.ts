// unmap_ref_private (mm/hugetlb.c): with an empty pool the process that reserved a private hugetlb page takes it from the
// processes that share it since fork. Each of them gets SIGBUS when it touches the page again.
import { call, type Steps } from '../../engine/process.ts';
import { step } from '../../engine/step.ts';
import type { CoreMm } from '../core.ts';
import type { Fault } from '../fault/fault-context.ts';
import type { Inode } from '../file/inode.ts';
import type { Mm } from '../mm.ts';
import { pmdOf } from '../page-table.ts';
import { PMD_LEAF, PTE_MARKER } from '../pte.ts';
import { folioPut } from '../refcount.ts';
import { flushTlbRange } from '../tlb.ts';

const WALK = step('unmap_ref_private', 'op');
const ZAP = step('__unmap_hugepage_range:ref-page', 'pte-op');

export function* unmapRefPrivate(core: CoreMm, fault: Fault, inode: Inode, head: number): Steps<void> {
  yield* call(inode.iMmapLock.write());
  const others = inode.mms.peek().filter((mm) => mm !== fault.mm);
  for (const mm of others) mm.vmas.willRead(WALK);
  yield core.sim.local(WALK);
  const places = others.flatMap((mm) =>
    mm.vmas
      .entries()
      .map(([, vma]) => vma)
      .filter((vma) => vma.fields.file === inode && !vma.mayShare && vma.fields.reservation === null)
      .map((vma) => ({ mm, vpn: vma.addressOf(fault.index) })),
  );
  for (const { mm, vpn } of places) if (vpn !== undefined) yield* call(unmapFrom(core, mm, vpn, inode, head));
  yield inode.iMmapLock.up();
}

function* unmapFrom(core: CoreMm, mm: Mm, vpn: number, inode: Inode, head: number): Steps<void> {
  const { folios } = core;
  const { pageTable } = mm;
  const row = pmdOf(vpn);
  const pages = 2 ** inode.hugeOrder;
  const range = { mm, start: vpn, end: vpn + pages, event: 'CLEAR', blockable: true } as const;
  yield* call(mm.notifiers.start(range));
  folios.willMap(head, head, ZAP);
  for (let i = 0; i < pages / 512; i++) pageTable.willUpdatePmd(row + i, ZAP);
  yield pageTable.ptl.pass(row, ZAP);
  const mapped = pageTable.pmd(row).pfn === head;
  if (mapped) {
    // HPAGE_RESV_UNMAPPED is a flag of the whole VMA; here the entry itself remembers it.
    for (let i = 0; i < pages / 512; i++) pageTable.setPmd(row + i, 0, PMD_LEAF | PTE_MARKER, 0);
    folios.addPmdMapping(head, -1);
  }
  yield* call(mm.notifiers.end(range));
  if (!mapped) return;
  yield* call(flushTlbRange(core, mm, vpn, vpn + pages));
  yield* call(folioPut(core, head, 1, 'unmap_ref_private'));
}
