// Dirty logging (virt/kvm/kvm_main.c kvm_get_dirty_log_protect, kvm_clear_dirty_log_protect; arch/x86/kvm/mmu): by write
// protection, or by dirty bits that the CPU logs (PML). A write between protection and flush is covered by the bit already
// taken. Rings are not modelled.
import { call, type Steps } from '../engine/process.ts';
import { type Step, step } from '../engine/step.ts';
import type { Errno } from '../mm/errno.ts';
import { DIRTY_LOG_TAKEN, DIRTY_LOGGING } from '../mm/ledger.ts';
import { pmdOf } from '../mm/page-table.ts';
import { PMD_LEAF } from '../mm/pte.ts';
import { markDirtyNow, willMarkDirty } from './dirty-bitmap.ts';
import { type Memslot, userMemSlots } from './memslot.ts';
import { SPTE_DIRTY, SPTE_WRITE, type Spte, sptePresent } from './spte.ts';
import { splitLarge } from './tdp-map.ts';
import { rowOf, type TdpRoot } from './tdp-root.ts';
import { flushRemoteTlbs, willOrderAccesses } from './tlb-flush.ts';
import type { Vm } from './vm.ts';
import { setPfnDirty, willSetPfnDirty, willZapLeaf, zapLeafNow } from './zap-leaf.ts';

const LOCK = step('kvm_vm_ioctl_get_dirty_log:slots_lock', 'lock');
const UNLOCK = step('kvm_vm_ioctl_get_dirty_log:slots_unlock', 'lock');
const READ = step('kvm_get_dirty_log_protect:read', 'op');
const MMU_LOCK = step('kvm_get_dirty_log_protect:mmu_lock', 'lock');
const XCHG = step('kvm_get_dirty_log_protect:xchg', 'op');
const PROTECT = step('kvm_tdp_mmu_clear_dirty_pt_masked', 'pte-op');
const MMU_UNLOCK = step('kvm_get_dirty_log_protect:mmu_unlock', 'lock');
const CLEAR = step('kvm_clear_dirty_log_protect:fetch_andnot', 'op');
const SLOT_LOCK = step('kvm_mmu_slot_apply_flags:mmu_lock', 'lock');
const WALK = step('kvm_mmu_slot_apply_flags:walk', 'op');
const WRPROT = step('kvm_tdp_mmu_wrprot_slot', 'pte-op');
const PML = step('kvm_arch_sync_dirty_log', 'tlb-ipi');
const COLLAPSE = step('kvm_tdp_mmu_zap_collapsible_sptes', 'pte-op');
const SLOT_UNLOCK = step('kvm_mmu_slot_apply_flags:mmu_unlock', 'lock');

/** Bits of one word of the bitmap: what one xchg covers. */
const WORD = 64;

/** The slot's log: offsets of dirty pages in the slot, ascending. */
export type DirtyLog = { readonly dirty: readonly number[] } | { readonly errno: Errno };

/**
 * KVM_GET_DIRTY_LOG: returns and clears the log, unless the VM protects by hand. EINVAL: bad slot number; ENOENT: no such
 * slot, or it does not log.
 */
export function* getDirtyLog(vm: Vm, slotId: number): Steps<DirtyLog> {
  yield vm.slotsLock.lock(LOCK);
  const slot = loggingSlot(vm, slotId);
  const result: DirtyLog = typeof slot === 'string' ? { errno: slot } : yield* call(harvest(vm, slot));
  yield vm.slotsLock.unlock(UNLOCK);
  if (typeof slot !== 'string' && 'dirty' in result) tellTaken(vm, slot, result.dirty);
  return result;
}

function tellTaken(vm: Vm, slot: Memslot, offsets: readonly number[]): void {
  const { sim } = vm.core;
  if (!sim.hears(DIRTY_LOG_TAKEN)) return;
  sim.emit(DIRTY_LOG_TAKEN, { holder: vm.name, pages: offsets.map((offset) => slot.baseGfn + offset) });
}

function loggingSlot(vm: Vm, slotId: number): Memslot | Errno {
  const asId = slotId >>> 16;
  const id = slotId & 0xffff;
  if (asId >= vm.spaces.length || id >= userMemSlots(vm.core.kernel)) return 'EINVAL';
  const slot = vm.spaces[asId]!.peekCurrent.peekId(id);
  return slot === undefined || slot.fields.dirtyBitmap === null ? 'ENOENT' : slot;
}

function* harvest(vm: Vm, slot: Memslot): Steps<DirtyLog> {
  const bitmap = slot.fields.dirtyBitmap!;
  const dirty: number[] = [];
  yield* call(syncPml(vm));
  if (vm.manualProtect) {
    for (let from = 0; from < slot.pages; from += WORD) {
      const to = Math.min(slot.pages, from + WORD) - 1;
      yield bitmap.willReadRange(from, to, READ);
      for (let i = from; i <= to; i++) if (bitmap.get(i) === 1) dirty.push(i);
    }
    return { dirty };
  }
  yield vm.mmuLock.write(MMU_LOCK);
  for (let from = 0; from < slot.pages; from += WORD) {
    const taken = yield* call(takeWord(vm, slot, from, null));
    dirty.push(...taken);
  }
  yield vm.mmuLock.unlock(MMU_UNLOCK);
  if (dirty.length > 0) yield* call(flushRemoteTlbs(vm, true));
  return { dirty };
}

/** Take (and clear) the bits of one word, all or those in `wanted`, and write-protect their pages. mmu_lock is held. */
function* takeWord(vm: Vm, slot: Memslot, from: number, wanted: readonly number[] | null): Steps<number[]> {
  const bitmap = slot.fields.dirtyBitmap!;
  const to = Math.min(slot.pages, from + WORD) - 1;
  yield bitmap.willUpdateRange(from, to, wanted === null ? XCHG : CLEAR);
  const taken: number[] = [];
  for (let i = from; i <= to; i++) {
    if (bitmap.get(i) !== 1 || (wanted !== null && !wanted.includes(i))) continue;
    bitmap.set(i, 0);
    taken.push(i);
  }
  for (const offset of taken) yield* call(protectGfn(vm, slot.fields.asId, slot.baseGfn + offset));
  return taken;
}

/** kvm_arch_mmu_enable_log_dirty_pt_masked: watch the page again in every valid root. mmu_lock is held for write. */
function* protectGfn(vm: Vm, asId: number, gfn: number): Steps<void> {
  for (const root of vm.roots.peek()) {
    if (root.asId !== asId || root.invalid.peek()) continue;
    const spte = root.peek(gfn);
    if (!sptePresent(spte.bits) || spte.large) continue;
    yield* call(watchLeaf(vm, root, gfn, spte, PROTECT));
  }
}

/**
 * Take W from an entry, or D where the CPU logs dirty pages. It does not while a nested guest runs: entries used then
 * must be write-protected.
 */
function* watchLeaf(vm: Vm, root: TdpRoot, gfn: number, seen: Spte, at: Step): Steps<void> {
  const { core } = vm;
  const logged = vm.pml && !(root.nested && core.kernel.has('kvm.dirty-log-nested-write-protects'));
  if (logged) willSetPfnDirty(vm, seen, at);
  yield root.willUpdate(gfn, at);
  const spte = root.read(gfn);
  const bit = logged ? SPTE_DIRTY : SPTE_WRITE;
  if (!sptePresent(spte.bits) || spte.large || spte.pfn !== seen.pfn || (spte.bits & bit) === 0) return;
  root.setBits(gfn, spte, spte.bits & ~bit);
  // The page keeps the news that the entry loses.
  if (logged) setPfnDirty(vm, gfn, spte);
}

/** kvm_arch_sync_dirty_log: vCPUs are kicked, and write their buffers out at the exit. */
function* syncPml(vm: Vm): Steps<void> {
  if (!vm.pml) return;
  const set = vm.spaces[0]!.peekCurrent;
  for (const vcpu of vm.vcpus.peek()) {
    // slots_lock is held. What the CPU logs between announcement and act waits for the next round.
    const frames = vcpu.pmlBuffer.peek();
    for (const gfn of frames) {
      const slot = set.peekGfn(gfn);
      if (slot !== undefined) willMarkDirty(slot, gfn, PML);
    }
    yield vcpu.tlb.willUpdate(PML);
    for (const gfn of frames) {
      const slot = set.peekGfn(gfn);
      if (slot !== undefined) markDirtyNow(slot, gfn);
    }
    vcpu.pmlBuffer.value = vcpu.pmlBuffer.value.filter((gfn) => !frames.includes(gfn));
  }
}

/**
 * KVM_CLEAR_DIRTY_LOG: clear the given pages of the log (`dirty`: offsets in the slot) and watch them again. EINVAL:
 * `firstPage` or the number of pages not a multiple of 64, or beyond the slot.
 */
export function* clearDirtyLog(
  vm: Vm,
  slotId: number,
  request: { readonly firstPage: number; readonly pages: number; readonly dirty: readonly number[] },
): Steps<'ok' | Errno> {
  yield vm.slotsLock.lock(LOCK);
  const result = yield* call(clearLocked(vm, slotId, request));
  yield vm.slotsLock.unlock(UNLOCK);
  return result;
}

function* clearLocked(
  vm: Vm,
  slotId: number,
  request: { readonly firstPage: number; readonly pages: number; readonly dirty: readonly number[] },
): Steps<'ok' | Errno> {
  const { firstPage, pages } = request;
  if (slotId >>> 16 >= vm.spaces.length || firstPage % WORD !== 0) return 'EINVAL';
  const slot = loggingSlot(vm, slotId);
  if (typeof slot === 'string') return slot;
  if (firstPage > slot.pages || pages > slot.pages - firstPage) return 'EINVAL';
  if (pages < slot.pages - firstPage && pages % WORD !== 0) return 'EINVAL';
  yield* call(syncPml(vm));
  yield vm.mmuLock.write(MMU_LOCK);
  let flush = false;
  for (let from = firstPage; from < firstPage + pages; from += WORD) {
    const wanted = request.dirty.filter((i) => i >= from && i < from + WORD);
    if (wanted.length === 0) continue;
    const taken = yield* call(takeWord(vm, slot, from, wanted));
    flush ||= taken.length > 0;
  }
  yield vm.mmuLock.unlock(MMU_UNLOCK);
  if (flush) yield* call(flushRemoteTlbs(vm, true));
  // Whoever clears pages of the log by hand copies them after that.
  tellTaken(vm, slot, request.dirty);
  return 'ok';
}

/** kvm_mmu_slot_apply_flags: what switching logging on or off does to the slot's entries. slots_lock is held. */
export function* applyLogging(vm: Vm, old: Memslot | null, now: Memslot): Steps<void> {
  const was = old?.logsDirty ?? false;
  if (was === now.logsDirty || old === null) return;
  yield vm.mmuLock.read(SLOT_LOCK);
  for (const root of vm.roots.peek()) {
    if (root.asId !== now.fields.asId || root.invalid.peek()) continue;
    yield* call(now.logsDirty ? watchSlot(vm, root, now) : zapCollapsible(vm, root, now));
  }
  // The flush happens under the lock when entries went, and after it otherwise; always before the ioctl returns.
  yield* call(flushRemoteTlbs(vm));
  willOrderAccesses(vm, SLOT_UNLOCK);
  yield vm.mmuLock.unlock(SLOT_UNLOCK);
  const { sim } = vm.core;
  // What vCPUs wrote until here the VMM copies after the ioctl.
  if (sim.hears(DIRTY_LOGGING)) sim.emit(DIRTY_LOGGING, { holder: vm.name, page: now.baseGfn, on: now.logsDirty });
}

/** kvm_tdp_mmu_wrprot_slot, with the eager split of large entries (module parameter eager_page_split, on). */
function* watchSlot(vm: Vm, root: TdpRoot, slot: Memslot): Steps<void> {
  yield root.willReadRange(slot.baseGfn, slot.endGfn, WALK);
  const large = root.readRange(slot.baseGfn, slot.endGfn).filter(({ spte }) => spte.large);
  for (const { gfn, spte } of large) yield* call(splitLarge(vm, root, rowOf(gfn), spte));
  yield root.willReadRange(slot.baseGfn, slot.endGfn, WALK);
  for (const { gfn, spte } of root.readRange(slot.baseGfn, slot.endGfn)) {
    yield* call(watchLeaf(vm, root, gfn, spte, WRPROT));
  }
}

/** kvm_mmu_zap_collapsible_sptes: small entries where the host maps 2 MiB go, so that the next fault maps all at once. */
function* zapCollapsible(vm: Vm, root: TdpRoot, slot: Memslot): Steps<void> {
  yield root.willReadRange(slot.baseGfn, slot.endGfn, WALK);
  for (const { gfn, spte } of root.readRange(slot.baseGfn, slot.endGfn)) {
    if (spte.large || !slot.allowsLarge(gfn)) continue;
    const row = pmdOf(slot.vpnOf(gfn));
    vm.mm.pageTable.willReadPmd(row, COLLAPSE);
    yield willZapLeaf(vm, root, gfn, spte, COLLAPSE);
    if ((vm.mm.pageTable.pmd(row).bits & PMD_LEAF) !== 0) zapLeafNow(vm, root, gfn, spte);
  }
}
