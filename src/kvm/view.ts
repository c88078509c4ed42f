// What the guest reaches through a memslot, told to checkers (src/mm/ledger.ts): the VMM believes it to be the same memory
// as its own at the slot's host address.
import { PMD_PAGES } from '../hw/machine.ts';
import type { FrameRun, VIEW_ADDED, VIEW_REMOVED, View } from '../mm/ledger.ts';
import type { Memslot } from './memslot.ts';
import { sptePresent } from './spte.ts';
import type { Vm } from './vm.ts';

/** The slot as a view of process memory: what the guest reaches must be what the process reaches. */
export function tellView(vm: Vm, slot: Memslot, event: typeof VIEW_ADDED | typeof VIEW_REMOVED): void {
  const { sim } = vm.core;
  if (!sim.hears(event)) return;
  const view: View = {
    kind: 'guest',
    holder: vm.name,
    page: slot.baseGfn,
    mm: vm.mm,
    vpn: slot.fields.vpn,
    pages: slot.pages,
    runAt: (offset) => runAt(vm, slot, offset),
  };
  sim.emit(event, view);
}

function runAt(vm: Vm, slot: Memslot, offset: number): FrameRun {
  const gfn = slot.baseGfn + offset;
  const left = slot.pages - offset;
  const root = vm.peekValidRoot(slot.fields.asId);
  if (root === undefined) return { pfn: 0, pages: left };
  const spte = root.peek(gfn);
  const within = gfn % PMD_PAGES;
  if (!sptePresent(spte.bits)) return { pfn: 0, pages: Math.min(left, spte.table ? 1 : PMD_PAGES - within) };
  if (spte.large) return { pfn: spte.pfn + within, pages: Math.min(left, PMD_PAGES - within) };
  return { pfn: spte.pfn, pages: 1 };
}
