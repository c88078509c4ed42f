// What the guest reaches through a memslot, told to checkers (src/mm/ledger.ts): the VMM believes it to be the same memory
// as its own at the slot's host address.
import type { Steps } from '../engine/process.ts';
import type { Announced, Step } from '../engine/step.ts';
import { PMD_PAGES } from '../hw/machine.ts';
import { type FrameRun, type VIEW_ADDED, VIEW_REMOVED, type View } from '../mm/ledger.ts';
import { lookVmas } from '../mm/mapping/vma-edit.ts';
import { willLookAtProcess } from '../mm/view-look.ts';
import type { Memslot } from './memslot.ts';
import { sptePresent } from './spte.ts';
import { willOrderAccesses } from './tlb-flush.ts';
import type { Vm } from './vm.ts';

/** Announce what whoever hears of a new view looks at. */
export function willAddView(vm: Vm, slot: Memslot, at: Step): Announced {
  if (slot.logsDirty || hasRawFrames(vm, slot)) willOrderAccesses(vm, at);
  return vm.mm.vmas.willRead(at);
}

/**
 * Only of raw frames could a guest write what its VMM may only read: of such a slot the guest's accesses count from the
 * moment its view is added until it is removed.
 */
function hasRawFrames(vm: Vm, { fields, pages }: Memslot): boolean {
  return lookVmas(vm.mm, fields.vpn, fields.vpn + pages).some((vma) => vma.fields.pfnMapping !== null);
}

/** Compare the slot, which is removed next, with the process. The caller holds slots_lock. */
export function* viewRemoved(vm: Vm, slot: Memslot, at: Step): Steps<void> {
  for (;;) {
    const roots = vm.roots.peek();
    yield willLookAtView(vm, slot, at);
    if (vm.roots.value === roots) break;
  }
  tellView(vm, slot, VIEW_REMOVED);
}

/** Announce what comparing the slot with the process looks at, as long as there are no other roots. */
export function willLookAtView(vm: Vm, slot: Memslot, at: Step): Announced {
  const { asId, vpn } = slot.fields;
  for (const root of vm.roots.peek()) {
    if (root.asId !== asId || root.nested) continue;
    root.invalid.willRead(at);
    root.willReadRange(slot.baseGfn, slot.endGfn, at);
  }
  if (vm.privateMemory) vm.attributes.willReadRange(slot.baseGfn, slot.endGfn - 1, at);
  vm.roots.willRead(at);
  if (hasRawFrames(vm, slot)) willOrderAccesses(vm, at);
  return willLookAtProcess(vm.core, { mm: vm.mm, vpn, pages: slot.pages }, at);
}

/**
 * The slot as a view of process memory: what the guest reaches must be what the process reaches. In a step announced by
 * `willAddView` or `willLookAtView`.
 */
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
    dirtyAt: (offset) => dirtyAt(vm, slot.fields.asId, slot.baseGfn + offset),
  };
  sim.emit(event, view);
}

/** The bitmap, and what CPUs have logged without having told it yet. */
function dirtyAt(vm: Vm, asId: number, gfn: number): boolean | null {
  const now = vm.spaces[asId]!.peekCurrent.peekGfn(gfn);
  const bitmap = now?.fields.dirtyBitmap ?? null;
  if (now === undefined || bitmap === null || !now.logsDirty) return null;
  return bitmap.peek(gfn - now.baseGfn) === 1 || vm.vcpus.peek().some((vcpu) => vcpu.pmlBuffer.peek().includes(gfn));
}

function runAt(vm: Vm, slot: Memslot, offset: number): FrameRun {
  const gfn = slot.baseGfn + offset;
  // Private memory is nobody else's: the process has other pages there, and means to.
  if (vm.privateMemory && vm.attributes.peek(gfn) === 1) return { pfn: 0, pages: 1 };
  const left = slot.pages - offset;
  const root = vm.peekValidRoot(slot.fields.asId);
  if (root === undefined) return { pfn: 0, pages: left };
  const spte = root.peek(gfn);
  const within = gfn % PMD_PAGES;
  if (!sptePresent(spte.bits)) return { pfn: 0, pages: Math.min(left, spte.table ? 1 : PMD_PAGES - within) };
  if (spte.large) return { pfn: spte.pfn + within, pages: Math.min(left, PMD_PAGES - within) };
  return { pfn: spte.pfn, pages: 1 };
}
