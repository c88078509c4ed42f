// KVM_SET_USER_MEMORY_REGION and _REGION2 (virt/kvm/kvm_main.c __kvm_set_memory_region): the checks in the kernel's
// order, then create, delete, move or change of flags. Slots of guest_memfd can only be created and deleted.
import { Column } from '../engine/column.ts';
import { call, type Steps } from '../engine/process.ts';
import { step } from '../engine/step.ts';
import type { Errno } from '../mm/errno.ts';
import { VIEW_ADDED } from '../mm/ledger.ts';
import type { OpenFile } from '../mm/process/task.ts';
import { applyLogging } from './dirty-log.ts';
import { bindGuestMemfd, unbindGuestMemfd } from './guest-memfd.ts';
import {
  KVM_MEM_GUEST_MEMFD,
  KVM_MEM_LOG_DIRTY_PAGES,
  KVM_MEM_READONLY,
  Memslot,
  type MemslotFields,
  type MemslotSet,
  userMemSlots,
} from './memslot.ts';
import { setMemslot } from './memslot-update.ts';
import { MAX_GFNS } from './tdp-root.ts';
import { tellView, viewRemoved, willAddView } from './view.ts';
import type { Vm } from './vm.ts';

const LOCK = step('kvm_set_memory_region:slots_lock', 'lock');
const UNLOCK = step('kvm_set_memory_region:slots_unlock', 'lock');
const VIEW = step('kvm_set_memory_region:view', 'none');

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
  /** guest_memfd (null: a descriptor that is not open) and guest_memfd_offset of _REGION2. */
  readonly guestMemfd?: { readonly file: OpenFile | null; readonly offset: bigint };
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
  if ((flags & ~validFlags(vm, flags)) !== 0) return 'EINVAL';
  if (memorySize % PAGE !== 0n || guestPhysAddr % PAGE !== 0n || userspaceAddr % PAGE !== 0n) return 'EINVAL';
  if (userspaceAddr + memorySize > TASK_SIZE_BYTES) return 'EINVAL';
  const offset = region.guestMemfd?.offset ?? 0n;
  if (bindsGmem(flags) && (offset % PAGE !== 0n || offset + memorySize >= 2n ** 64n)) return 'EINVAL';
  if (slot >>> 16 >= vm.spaces.length || (slot & 0xffff) >= userMemSlots(vm.core.kernel)) return 'EINVAL';
  if (guestPhysAddr + memorySize >= 2n ** 64n) return 'EINVAL';
  if (memorySize / PAGE > MAX_PAGES) return 'EINVAL';
  return 'ok';
}

function bindsGmem(flags: number): boolean {
  return (flags & KVM_MEM_GUEST_MEMFD) !== 0;
}

/** check_memory_region_flags: private memory excludes dirty logging and read-only slots. */
function validFlags(vm: Vm, flags: number): number {
  const gmem = vm.privateMemory ? KVM_MEM_GUEST_MEMFD : 0;
  return bindsGmem(flags) ? gmem : KVM_MEM_LOG_DIRTY_PAGES | KVM_MEM_READONLY | gmem;
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
    yield* call(viewRemoved(vm, old, VIEW));
    yield* call(setMemslot(vm, old, null));
    yield* call(unbindGuestMemfd(vm, old));
    return 'ok';
  }
  const baseGfn = Number(region.guestPhysAddr / PAGE);
  const vpn = Number(region.userspaceAddr / PAGE);
  const { flags } = region;
  if (old !== undefined) {
    if (bindsGmem(flags)) return 'EINVAL';
    const fixed = vm.core.kernel.has('gmem.flag-cannot-toggle') ? KVM_MEM_GUEST_MEMFD : 0;
    if (((flags ^ old.fields.flags) & fixed) !== 0) return 'EINVAL';
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
  const gmem = bindsGmem(flags) ? yield* call(bind(vm, region, { asId, slot: id, baseGfn, pages })) : undefined;
  if (typeof gmem === 'string') return gmem;
  const behind = gmem === undefined ? {} : { gmem };
  const now = new Memslot({ id, asId, baseGfn, vpn, pages, flags, dirtyBitmap, ...behind });
  if (old !== undefined && moves) {
    yield* call(viewRemoved(vm, old, VIEW));
  }
  yield* call(setMemslot(vm, old ?? null, now));
  if (old === undefined || moves) {
    yield willAddView(vm, now, VIEW);
    tellView(vm, now, VIEW_ADDED);
  }
  yield* call(applyLogging(vm, old ?? null, now));
  return 'ok';
}

function* bind(
  vm: Vm,
  { guestMemfd }: MemoryRegion,
  slot: Parameters<typeof bindGuestMemfd>[3],
): Steps<NonNullable<MemslotFields['gmem']> | Errno> {
  const offset = guestMemfd?.offset ?? 0n;
  const memfd = yield* call(bindGuestMemfd(vm, guestMemfd?.file ?? null, offset, slot));
  return typeof memfd === 'string' ? memfd : { memfd, start: Number(offset / PAGE) };
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
