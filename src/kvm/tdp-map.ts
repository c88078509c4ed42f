// Installing a leaf for a fault (arch/x86/kvm/mmu/tdp_mmu.c kvm_tdp_mmu_map, mmu.c kvm_mmu_hugepage_adjust), under
// mmu_lock held for read: each entry is published by cmpxchg. The NX huge page workaround is not modelled.
import { call, type Steps } from '../engine/process.ts';
import { ADD, step } from '../engine/step.ts';
import { PMD_PAGES } from '../hw/machine.ts';
import { PG_DIRTY, PG_RESERVED } from '../mm/page-flags.ts';
import { pmdOf } from '../mm/page-table.ts';
import { PMD_LEAF, ptePresent } from '../mm/pte.ts';
import { markDirtyNow, willMarkDirty } from './dirty-bitmap.ts';
import type { FoundPfn } from './hva-to-pfn.ts';
import { mixedAttributes } from './memory-attributes.ts';
import type { Memslot } from './memslot.ts';
import {
  newLeafBits,
  SPTE_LARGE,
  SPTE_MMIO,
  SPTE_TABLE,
  SPTE_WRITE,
  type Spte,
  sptePresent,
  spteText,
} from './spte.ts';
import { rowOf, type TdpRoot } from './tdp-root.ts';
import { flushRemoteTlbs } from './tlb-flush.ts';
import type { Vm } from './vm.ts';
import { countTranslation, willCountTranslation } from './zap-leaf.ts';

const MIXED = step('hugepage_test_mixed', 'op');
const LEVEL = step('host_pfn_mapping_level', 'op');
const DIRTY = step('make_spte:mark_page_dirty_in_slot', 'op');
const INSTALL = step('tdp_mmu_map_handle_target_level:cmpxchg', 'pte-op');
const INSTALL_LARGE = step('tdp_mmu_map_handle_target_level:cmpxchg-2M', 'pte-op');
const SPLIT = step('tdp_mmu_split_huge_page', 'pte-op');
const MMIO = step('tdp_mmu_map_handle_target_level:mmio', 'pte-op');

/** MMIO_SPTE_GEN_MASK: 19 bits of the memslot generation fit into an entry. */
export const MMIO_GENERATIONS = 2 ** 19;

export type MapResult = 'fixed' | 'spurious' | 'retry';

/** kvm_tdp_mmu_map: the frame for `gfn` of `slot`; `seen` is the entry that the walk found under mmu_lock. */
export function* tdpMap(
  vm: Vm,
  root: TdpRoot,
  seen: Spte,
  slot: Memslot,
  gfn: number,
  frame: FoundPfn,
): Steps<{ readonly result: MapResult; readonly mappedPfn: number }> {
  const large = frame.small !== true && (yield* call(mapsLarge(vm, slot, gfn)));
  // VM_BUG_ON of the kernel: slot and host aligned alike means gfn and pfn are.
  const mappedPfn =
    large && frame.pfn % PMD_PAGES === gfn % PMD_PAGES ? frame.pfn - (frame.pfn % PMD_PAGES) : frame.pfn;
  const result = large
    ? yield* call(installLarge(vm, root, seen, gfn, mappedPfn, frame))
    : yield* call(installSmall(vm, root, seen, slot, gfn, frame));
  return { result, mappedPfn };
}

/** kvm_mmu_max_mapping_level: 2 MiB where slot and host allow it. No window is open over the page, so the PMD stands. */
function* mapsLarge(vm: Vm, slot: Memslot, gfn: number): Steps<boolean> {
  if (!vm.largePages || slot.logsDirty || !slot.allowsLarge(gfn)) return false;
  const { pageTable } = vm.mm;
  const row = pmdOf(slot.vpnOf(gfn));
  if (vm.privateMemory) {
    vm.changingAttributes.willRead(MIXED);
    yield vm.attributes.willReadRange(gfn - (gfn % PMD_PAGES), gfn - (gfn % PMD_PAGES) + PMD_PAGES - 1, MIXED);
    if (mixedAttributes(vm, gfn)) return false;
  }
  yield pageTable.willReadPmd(row, LEVEL);
  const pmd = pageTable.pmd(row);
  return (pmd.bits & PMD_LEAF) !== 0 && ptePresent(pmd.bits);
}

/** May this leaf replace what is there? A present leaf of another frame is a bug of KVM's: the kernel stops. */
function checkReplaced(vm: Vm, gfn: number, old: Spte, pfn: number): void {
  if (!sptePresent(old.bits) || old.pfn === pfn) return;
  vm.core.sim.fail(
    `BUG in handle_changed_spte: gfn ${gfn} of ${vm.name} is ${spteText(old)} and shall become pfn ${pfn} without a zap`,
  );
}

function* installSmall(
  vm: Vm,
  root: TdpRoot,
  seen: Spte,
  slot: Memslot,
  gfn: number,
  frame: FoundPfn,
): Steps<MapResult> {
  const { core } = vm;
  const row = rowOf(gfn);
  if (seen.large) yield* call(splitLarge(vm, root, row, seen));
  const bits = newLeafBits(frame.writable, false);
  if ((bits & SPTE_WRITE) !== 0 && willMarkDirty(slot, gfn, DIRTY) !== null) {
    yield core.sim.local(DIRTY);
    markDirtyNow(slot, gfn);
  }
  willMarkPage(vm, frame, INSTALL);
  willCountTranslation(core, frame.pfn, INSTALL);
  yield root.willUpdate(gfn, INSTALL);
  if ((root.rowBits(row) & SPTE_LARGE) !== 0) return 'retry';
  const old = root.read(gfn);
  if (sptePresent(old.bits) && old.pfn === frame.pfn && old.bits === bits) return 'spurious';
  checkReplaced(vm, gfn, old, frame.pfn);
  root.setSmall(gfn, bits, frame.pfn, frame.generation);
  if (!sptePresent(old.bits)) countTranslation(core, frame.pfn, 1);
  root.tellMade(gfn, frame.pfn, 1);
  markPage(vm, frame);
  return 'fixed';
}

function* installLarge(vm: Vm, root: TdpRoot, seen: Spte, gfn: number, pfn: number, frame: FoundPfn): Steps<MapResult> {
  const { core } = vm;
  const { sim, frames } = core;
  const row = rowOf(gfn);
  const first = row * PMD_PAGES;
  const bits = newLeafBits(frame.writable, true);
  // A table that stands here goes with all it maps, which others may still be changing: any frame may be concerned.
  const { base } = frames.translations;
  if (seen.table) sim.announce(base, base + core.machine.frames - 1, ADD, INSTALL_LARGE);
  else willCountTranslation(core, pfn, INSTALL_LARGE);
  willMarkPage(vm, frame, INSTALL_LARGE);
  frames.willCheck(pfn, INSTALL_LARGE);
  yield root.willUpdateTable(row, INSTALL_LARGE);
  const old = root.readRow(row);
  if (old.table !== seen.table) return 'retry';
  if (sptePresent(old.bits) && old.pfn === pfn && old.bits === bits) return 'spurious';
  checkReplaced(vm, first, old, pfn);
  if (old.table) {
    for (let at = first; at < first + PMD_PAGES; at++) {
      if (!sptePresent(root.peekLeafBits(at))) continue;
      const child = root.read(at);
      root.setSmall(at, 0, 0, 0);
      countTranslation(core, child.pfn, -1);
    }
  }
  root.setRow(row, bits, pfn, frames.generationOf(pfn));
  if (!sptePresent(old.bits)) countTranslation(core, pfn, 1);
  root.tellMade(first, pfn, PMD_PAGES);
  markPage(vm, frame);
  if (old.table) yield* call(flushRemoteTlbs(vm));
  return 'fixed';
}

/** tdp_mmu_split_huge_page: a table of 512 entries with the same rights takes the place of a large leaf. */
export function* splitLarge(vm: Vm, root: TdpRoot, row: number, seen: Spte): Steps<void> {
  const { core } = vm;
  for (let i = 0; i < PMD_PAGES; i++) willCountTranslation(core, seen.pfn + i, SPLIT);
  yield core.sim.times(PMD_PAGES, root.willUpdateTable(row, SPLIT));
  const large = root.readRow(row);
  if (!large.large || large.pfn !== seen.pfn) return;
  const bits = large.bits & ~SPTE_LARGE;
  root.setRow(row, SPTE_TABLE, 0, 0);
  countTranslation(core, large.pfn, -1);
  for (let i = 0; i < PMD_PAGES; i++) {
    root.setSmall(row * PMD_PAGES + i, bits, large.pfn + i, large.generation);
    countTranslation(core, large.pfn + i, 1);
  }
}

/** Since 6.13 the page is marked dirty when it is mapped writable, not when the entry goes. */
function willMarkPage(vm: Vm, frame: FoundPfn, at: Parameters<typeof willCountTranslation>[2]): void {
  if (!vm.core.kernel.has('kvm.refcounted-page-rework') || !frame.counted || !frame.writable) return;
  vm.core.folios.flags.willUpdate(vm.core.folios.headOf(frame.pfn), at);
}

function markPage(vm: Vm, frame: FoundPfn): void {
  const { folios, kernel } = vm.core;
  if (!kernel.has('kvm.refcounted-page-rework') || !frame.counted || !frame.writable) return;
  const head = folios.headOf(frame.pfn);
  if ((folios.flags.get(head) & PG_RESERVED) === 0) folios.change(head, PG_DIRTY);
}

/** make_mmio_spte: remember that nothing is here as of this generation of the memslots. */
export function* mapMmio(vm: Vm, root: TdpRoot, seen: Spte, gfn: number, generation: number): Steps<MapResult> {
  const row = rowOf(gfn);
  if (seen.large) {
    yield* call(splitLarge(vm, root, row, seen));
    return 'retry';
  }
  if (sptePresent(seen.bits)) willCountTranslation(vm.core, seen.pfn, MMIO);
  yield root.willUpdate(gfn, MMIO);
  if ((root.rowBits(row) & SPTE_LARGE) !== 0) return 'retry';
  const old = root.read(gfn);
  if (sptePresent(old.bits)) {
    // A direct MMU zaps before it asks again: only a fault that skipped a check gets here. The entry is overwritten.
    if (!sptePresent(seen.bits)) return 'retry';
    countTranslation(vm.core, old.pfn, -1);
  }
  root.setSmall(gfn, SPTE_MMIO, 0, generation % MMIO_GENERATIONS);
  return 'fixed';
}
