// A view of process memory is compared with what the process has where it begins and where it ends. The look is part of
// a step like any other: its order among the steps that change page tables decides what it finds.
import type { Announced, Step } from '../engine/step.ts';
import type { CoreMm } from './core.ts';
import type { View } from './ledger.ts';
import { lookVmas } from './mapping/vma-edit.ts';
import { pmdOf } from './page-table.ts';

/** Announce reading what the process has where the view leads: in the step in which the view is added or removed. */
export function willLookAtProcess(
  { swap }: CoreMm,
  { mm, vpn, pages }: Pick<View, 'mm' | 'vpn' | 'pages'>,
  at: Step,
): Announced {
  for (const vma of lookVmas(mm, vpn, vpn + pages)) {
    const { file } = vma.fields;
    if (file === null) continue;
    const from = Math.max(vma.start, vpn);
    const to = Math.min(vma.end, vpn + pages);
    file.pages.willReadRange(vma.indexOf(from), vma.indexOf(to - 1), at);
  }
  mm.users.willRead(at);
  mm.vmas.willRead(at);
  // Who holds a page-table lock may be in the middle of a change, and the swap cache tells what a swap entry leads to.
  mm.pageTable.ptl.willReadRange(pmdOf(vpn), pmdOf(vpn + pages - 1), at);
  if (swap.slots > 0) swap.map.willReadRange(0, swap.slots - 1, at);
  return mm.pageTable.willReadLeaves(vpn, pages, at);
}
