// Removing or changing one second-stage leaf (arch/x86/kvm/mmu/tdp_mmu.c handle_changed_spte): the frame loses a
// translation, and its page may be marked dirty on behalf of the guest. Marking accessed is not modelled.
import type { Announced, Step } from '../engine/step.ts';
import { FRAME_ACCESS } from '../hw/frames.ts';
import type { CoreMm } from '../mm/core.ts';
import { PG_DIRTY, PG_RESERVED } from '../mm/page-flags.ts';
import { SPTE_DIRTY, SPTE_WRITE, type Spte, sptePresent } from './spte.ts';
import { rowOf, type TdpRoot } from './tdp-root.ts';
import type { Vm } from './vm.ts';

/** Announce that one more (or one less) entry will lead to `pfn`. Large leaves count once, on their first frame. */
export function willCountTranslation(core: CoreMm, pfn: number, at: Step): Announced {
  return core.frames.translations.willAdd(core.folios.headOf(pfn), at);
}

export function countTranslation(core: CoreMm, pfn: number, by: 1 | -1): void {
  core.frames.translations.add(core.folios.headOf(pfn), by);
}

/** Does removing a dirty entry mark the page (before 6.13), and has it a page to mark? */
function marksPage(core: CoreMm, pfn: number): boolean {
  return !core.kernel.has('kvm.refcounted-page-rework') && core.machine.hasStructPage(pfn);
}

/** Announce zapping the leaf `spte` of `gfn`, as it was last seen. */
export function willZapLeaf(vm: Vm, root: TdpRoot, gfn: number, spte: Spte, at: Step): Announced {
  willSetPfnDirty(vm, spte, at);
  willCountTranslation(vm.core, spte.pfn, at);
  return spte.large ? root.willUpdateRow(rowOf(gfn), at) : root.willUpdate(gfn, at);
}

/** Zap what `willZapLeaf` announced, unless somebody else did. */
export function zapLeafNow(vm: Vm, root: TdpRoot, gfn: number, expected: Spte): boolean {
  const spte = expected.large ? root.readRow(rowOf(gfn)) : root.read(gfn);
  if (!sptePresent(spte.bits) || spte.pfn !== expected.pfn) return false;
  if (spte.large) root.setRow(rowOf(gfn), 0, 0, 0);
  else root.setSmall(gfn, 0, 0, 0);
  countTranslation(vm.core, spte.pfn, -1);
  if ((spte.bits & SPTE_DIRTY) !== 0) setPfnDirty(vm, gfn, spte);
  return true;
}

/** Announce `setPfnDirty` for an entry that is, or may turn, dirty. */
export function willSetPfnDirty(vm: Vm, spte: Spte, at: Step): void {
  const { core } = vm;
  if ((spte.bits & (SPTE_WRITE | SPTE_DIRTY)) === 0 || !marksPage(core, spte.pfn)) return;
  core.frames.willCheck(spte.pfn, at);
  core.folios.flags.willUpdate(core.folios.headOf(spte.pfn), at);
}

/** kvm_set_pfn_dirty: trusts that the entry's page is still the guest's. */
export function setPfnDirty(vm: Vm, gfn: number, spte: Spte): void {
  const { core } = vm;
  const { sim, frames, folios } = core;
  if (!marksPage(core, spte.pfn)) return;
  const generation = frames.generationOf(spte.pfn);
  if (generation !== spte.generation && sim.hears(FRAME_ACCESS)) {
    sim.emit(FRAME_ACCESS, {
      pfn: spte.pfn,
      write: false,
      madeFor: spte.generation,
      generation,
      through: 'kernel',
      holder: vm.name,
      page: gfn,
      token: frames.content.peek(spte.pfn),
      marksDirty: true,
    });
  }
  const head = folios.headOf(spte.pfn);
  if ((folios.flags.get(head) & PG_RESERVED) === 0) folios.change(head, PG_DIRTY);
}
