// KVM_SET_USER_MEMORY_REGION and _REGION2 (virt/kvm/kvm_main.c __kvm_set_memory_region): the checks in the kernel's
// order, then create, delete, move or change of flags. guest_memfd slots are refused where the kernel has no private
// memory for the VM; binding one is not modelled.
import { Column } from '../engine/column.ts';
import { call, type Steps } from '../engine/process.ts';
import { step } from '../engine/step.ts';
import type { Errno } from '../mm/errno.ts';
import { VIEW_ADDED, VIEW_REMOVED } from '../mm/ledger.ts';
import { applyLogging } from './dirty-log.ts';
import { KVM_MEM_LOG_DIRTY_PAGES, KVM_MEM_READONLY, KVM_USER_MEM_SLOTS, Memslot, type MemslotSet } from './memslot.ts';
import { setMemslot } from './memslot-update.ts';
import { MAX_GFNS } from './tdp-root.ts';
import { tellView } from './view.ts';
import type { Vm } from './vm.ts';

const LOCK = step('kvm_set_memory_region:slots_lock', 'lock');
const UNLOCK = step('kvm_set_memory_region:slots_unlock', 'lock');

/** KVM_MEM_SLOTS_NUM: three more than user space may use; those are the kernel's own. */
const MEM_SLOTS = KVM_USER_MEM_SLOTS + 3;
/** KVM_MEM_MAX_NR_PAGES */
const MAX_PAGES = 2 ** 31 - 1;
/** TASK_SIZE_MAX of 4-level x86 [bytes]: access_ok. */
const TASK_SIZE_BYTES = 2n ** 47n - 4096n;
const PAGE = 4096n;

/** struct kvm_userspace_memory_region, in bytes as user space gives them. */
export interface MemoryRegion {
  /** Low 16 bits: slot; high 16 bits: address space. */
  readonly slot: number;
  readonly flags: number;
  readonly guestPhysAddr: bigint;
  readonly memorySize: bigint;
  readonly userspaceAddr: bigint;
}

/**
 * Set one memslot; a size of 0 deletes it. EINVAL: flags, alignment, addresses, ids, deleting what is not there, changing
 * what cannot change; EEXIST: overlaps another slot; EIO: not the VM's process, or the VM is gone.
 */
export function* setUserMemoryRegion(vm: Vm, region: MemoryRegion): Steps<'ok' | Errno> {
  if (vm.core.current.task.mm.peek() !== vm.mm || vm.dead.peek()) return 'EIO';
  yield vm.slotsLock.lock(LOCK);
  const result = yield* call(setLocked(vm, region));
  yield vm.slotsLock.unlock(UNLOCK);
  return result;
}

/** The checks that need no look at the slots. */
function checkArguments(vm: Vm, region: MemoryRegion): 'ok' | Errno {
  const { flags, slot, guestPhysAddr, memorySize, userspaceAddr } = region;
  if ((flags & ~(KVM_MEM_LOG_DIRTY_PAGES | KVM_MEM_READONLY)) !== 0) return 'EINVAL';
  if (memorySize % PAGE !== 0n || guestPhysAddr % PAGE !== 0n || userspaceAddr % PAGE !== 0n) return 'EINVAL';
  if (userspaceAddr + memorySize > TASK_SIZE_BYTES) return 'EINVAL';
  if (slot >>> 16 >= vm.spaces.length || (slot & 0xffff) >= MEM_SLOTS) return 'EINVAL';
  if (guestPhysAddr + memorySize >= 2n ** 64n) return 'EINVAL';
  if (memorySize / PAGE > MAX_PAGES) return 'EINVAL';
  return 'ok';
}

function* setLocked(vm: Vm, region: MemoryRegion): Steps<'ok' | Errno> {
  const checked = checkArguments(vm, region);
  if (checked !== 'ok') return checked;
  const asId = region.slot >>> 16;
  const id = region.slot & 0xffff;
  const set = vm.spaces[asId]!.peekCurrent;
  const old = set.peekId(id);
  const pages = Number(region.memorySize / PAGE);
  if (pages === 0) {
    if (old === undefined) return 'EINVAL';
    tellView(vm, old, VIEW_REMOVED);
    yield* call(setMemslot(vm, old, null));
    return 'ok';
  }
  const baseGfn = Number(region.guestPhysAddr / PAGE);
  const vpn = Number(region.userspaceAddr / PAGE);
  const { flags } = region;
  if (old !== undefined) {
    if (vpn !== old.fields.vpn || pages !== old.pages) return 'EINVAL';
    if (((flags ^ old.fields.flags) & KVM_MEM_READONLY) !== 0) return 'EINVAL';
    if (baseGfn === old.baseGfn && flags === old.fields.flags) return 'ok';
  }
  const moves = old !== undefined && baseGfn !== old.baseGfn;
  if ((old === undefined || moves) && overlaps(set, id, baseGfn, pages)) return 'EEXIST';
  // kvm_arch_prepare_memory_region. A move finds this out only after the slot went through INVALID; the end is the same.
  if ((old === undefined || moves) && baseGfn + pages > MAX_GFNS) return 'EINVAL';
  const dirtyBitmap =
    (flags & KVM_MEM_LOG_DIRTY_PAGES) === 0 ? null : (old?.fields.dirtyBitmap ?? newBitmap(vm, id, pages));
  const now = new Memslot({ id, asId, baseGfn, vpn, pages, flags, dirtyBitmap });
  if (old !== undefined && moves) tellView(vm, old, VIEW_REMOVED);
  yield* call(setMemslot(vm, old ?? null, now));
  if (old === undefined || moves) tellView(vm, now, VIEW_ADDED);
  yield* call(applyLogging(vm, old ?? null, now));
  return 'ok';
}

/** kvm_check_memslot_overlap */
function overlaps(set: MemslotSet, id: number, baseGfn: number, pages: number): boolean {
  return set.slots.peek().some((slot) => slot.id !== id && slot.baseGfn < baseGfn + pages && slot.endGfn > baseGfn);
}

/** kvm_alloc_dirty_bitmap */
function newBitmap(vm: Vm, id: number, pages: number): Column {
  const { sim } = vm.core;
  const process = sim.current!;
  const name = `dirty bitmap ${process.name}.${process.nextNumber()} of slot ${id} of ${vm.name}`;
  return new Column(sim, name, { rows: pages, width: 'u8', sparse: true });
}
