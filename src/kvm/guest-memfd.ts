// guest_memfd (virt/kvm/guest_memfd.c, 6.8 to 6.17): create, bind to memslots, private faults, fallocate and holes, the
// end of the file. Mapping it into a process (6.18) is not modelled: its flags are refused as kernels without it do.
import { call, type Steps } from '../engine/process.ts';
import { step } from '../engine/step.ts';
import { ZERO_TOKEN } from '../hw/token.ts';
import { allocFolio } from '../mm/alloc/page-alloc.ts';
import type { Errno } from '../mm/errno.ts';
import { filemapAddFolio, filemapGetFolio } from '../mm/file/page-cache.ts';
import { truncateInodePages } from '../mm/file/truncate.ts';
import { lockFolio, unlockNow, willUnlock } from '../mm/folio-lock.ts';
import { PG_HWPOISON, PG_UNEVICTABLE, PG_UPTODATE } from '../mm/page-flags.ts';
import { fput } from '../mm/process/exit.ts';
import type { OpenFile } from '../mm/process/task.ts';
import { folioAddLru } from '../mm/reclaim/lru.ts';
import { folioPut } from '../mm/refcount.ts';
import { putVm } from './create.ts';
import { GmemBinding, GuestMemfd } from './gmem-file.ts';
import type { FoundPfn } from './hva-to-pfn.ts';
import { dropInProgress, invalidateBegin, rangeAddNow } from './invalidate.ts';
import type { Memslot } from './memslot.ts';
import { flushRemoteTlbs } from './tlb-flush.ts';
import type { Vm } from './vm.ts';
import { type PendingFlush, unmapGfnRange } from './zap.ts';

const CREATE = step('__kvm_gmem_create:kvm_get_kvm', 'refcount');
const GET_FILE = step('kvm_gmem_get_file', 'refcount');
const BINDING = step('kvm_gmem_get_pfn:binding', 'op');
const BIND = step('kvm_gmem_bind', 'op');
const UNBIND = step('kvm_gmem_unbind', 'op');
const LOCK = step('filemap_grab_folio:lock', 'lock');
const PREPARE = step('kvm_gmem_prepare_folio', 'clear-page');
const UNLOCK = step('kvm_gmem_get_pfn:folio_unlock', 'lock');
const SIGNAL = step('kvm_gmem_allocate:signal_pending', 'none');
const BEGIN = step('kvm_gmem_invalidate_begin', 'lock');
const BEGIN_UNLOCK = step('kvm_gmem_invalidate_begin:unlock', 'lock');
const END = step('kvm_gmem_invalidate_end', 'lock');
const END_COUNT = step('kvm_gmem_invalidate_end:in_progress', 'lock');
const RELEASE = step('kvm_gmem_release:slots_lock', 'lock');
const RELEASE_UNLOCK = step('kvm_gmem_release:slots_unlock', 'lock');
const DESTROY = step('kvm_gmem_release:xa_destroy', 'op');

const PAGE = 4096n;
/** One past every index. */
const END_INDEX = 2 ** 52;

/** KVM_CREATE_GUEST_MEMFD: the open file. ENOTTY: not in this kernel; EINVAL: flags, or no whole number of pages. */
export function* createGuestMemfd(
  vm: Vm,
  request: { readonly name: string; readonly size: bigint; readonly flags: number },
): Steps<GuestMemfd | Errno> {
  const { core } = vm;
  if (!core.kernel.has('gmem.present')) return 'ENOTTY';
  const { name, size, flags } = request;
  if (flags !== 0 || BigInt.asIntN(64, size) <= 0n || size % PAGE !== 0n) return 'EINVAL';
  yield vm.users.willUpdate(CREATE);
  vm.users.value += 1;
  return new GuestMemfd(core, { name, vm, sizePages: Number(size / PAGE), release: (gmem) => release(vm, gmem) });
}

/**
 * kvm_gmem_bind of a slot that nobody sees yet, slots_lock held. EBADF: no file; EINVAL: another kind of file or of
 * another VM, beyond its end, or pages that a slot has already.
 */
export function* bindGuestMemfd(
  vm: Vm,
  file: OpenFile | null,
  offset: bigint,
  slot: Omit<GmemBinding, 'start' | 'identity' | 'meets' | 'gfnOf'>,
): Steps<GuestMemfd | Errno> {
  if (file === null) return 'EBADF';
  const gmem = file.object;
  if (!(gmem instanceof GuestMemfd) || gmem.vm !== vm) return 'EINVAL';
  const size = BigInt(slot.pages) * PAGE;
  const limit = BigInt(gmem.inode.sizePages.peek()) * PAGE;
  const unsigned = vm.core.kernel.has('gmem.bind-checks-unsigned');
  const given = unsigned ? offset : BigInt.asIntN(64, offset);
  const end = unsigned ? offset + size : BigInt.asIntN(64, given + size);
  if (given < 0n || offset % PAGE !== 0n || end > limit) return 'EINVAL';
  const start = Number(offset / PAGE);
  yield* call(gmem.inode.invalidateLock.write());
  yield gmem.bindings.willUpdate(BIND);
  const taken = gmem.bindings.value.some((one) => one.meets(start, start + slot.pages));
  if (!taken) gmem.bindings.value = [...gmem.bindings.value, new GmemBinding({ ...slot, start })];
  yield gmem.inode.invalidateLock.up();
  return taken ? 'EINVAL' : gmem;
}

/** kvm_gmem_unbind of a slot that is gone, slots_lock held. */
export function* unbindGuestMemfd(vm: Vm, slot: Memslot): Steps<void> {
  const gmem = slot.fields.gmem?.memfd;
  if (gmem === undefined) return;
  const held = yield* call(getFile(gmem));
  // The file is on its way out: kernels that leave its bindings alone leave pointers to a slot that is freed (B25).
  if (!held && !vm.core.kernel.has('gmem.unbinds-dying-file')) return;
  if (held) yield* call(gmem.inode.invalidateLock.write());
  yield gmem.bindings.willUpdate(UNBIND);
  gmem.bindings.value = gmem.bindings.value.filter((one) => one.slot !== slot.id || one.asId !== slot.fields.asId);
  if (!held) return;
  yield gmem.inode.invalidateLock.up();
  yield* call(fput(gmem.file));
}

/** get_file_active: false once the last reference is gone. */
function* getFile(gmem: GuestMemfd): Steps<boolean> {
  yield gmem.file.references.willUpdate(GET_FILE);
  if (gmem.file.references.value === 0) return false;
  gmem.file.references.value += 1;
  return true;
}

/**
 * kvm_gmem_get_pfn: the frame behind a private guest frame, with a reference. It takes no invalidate_lock: that the frame
 * is still the file's is for the caller's test of the sequence to say. EFAULT: file or binding gone; EHWPOISON; ENOMEM.
 */
export function* gmemGetPfn(vm: Vm, slot: Memslot, gfn: number): Steps<FoundPfn | Errno> {
  const { core } = vm;
  const gmem = slot.fields.gmem!;
  const index = gmem.start + (gfn - slot.baseGfn);
  if (!(yield* call(getFile(gmem.memfd)))) return 'EFAULT';
  const result = yield* call(boundFolio(vm, gmem.memfd, slot, index));
  yield* call(fput(gmem.memfd.file));
  if (typeof result === 'string') return result;
  const generation = core.frames.peekGeneration(result.head);
  return { pfn: result.head, generation, writable: true, counted: true, small: true };
}

function* boundFolio(vm: Vm, gmem: GuestMemfd, slot: Memslot, index: number): Steps<{ readonly head: number } | Errno> {
  const { core } = vm;
  const { folios, frames } = core;
  yield gmem.bindings.willRead(BINDING);
  const bound = gmem.bindings.value.find((one) => one.meets(index, index + 1));
  if (bound?.slot !== slot.id || bound.asId !== slot.fields.asId) return 'EFAULT';
  const head = yield* call(grabFolio(vm, gmem, index));
  if (head === undefined) return 'ENOMEM';
  if ((folios.flags.peek(head) & PG_HWPOISON) !== 0) {
    yield* call(unlockAndPut(vm, head));
    return 'EHWPOISON';
  }
  if ((folios.flags.peek(head) & PG_UPTODATE) === 0) {
    // Under the folio lock, before anybody can map it: the guest never sees what the frame held for its last owner.
    folios.flags.willUpdate(head, PREPARE);
    yield frames.content.willWrite(head, PREPARE);
    frames.content.set(head, ZERO_TOKEN);
    folios.change(head, PG_UPTODATE);
  }
  yield willUnlock(core, head, UNLOCK);
  unlockNow(core, head);
  return { head };
}

/** filemap_grab_folio: the page at `index`, locked, with a reference; made if need be. Undefined: no memory. */
function* grabFolio(vm: Vm, gmem: GuestMemfd, index: number): Steps<number | undefined> {
  const { core } = vm;
  const { inode } = gmem;
  for (;;) {
    const found = yield* call(filemapGetFolio(core, inode, index));
    if (found !== undefined) {
      core.folios.mapping.willRead(found, LOCK);
      yield lockFolio(core, found, LOCK);
      if (core.folios.mapping.get(found) === inode.id) return found;
      yield* call(unlockAndPut(vm, found));
      continue;
    }
    const head = yield* call(allocFolio(core, { order: 0, movable: false, zero: false }));
    if (head === undefined) return undefined;
    if (yield* call(filemapAddFolio(core, inode, index, head, PG_UNEVICTABLE))) {
      yield* call(folioAddLru(core, head));
      return head;
    }
    yield* call(folioPut(core, head, 1, 'filemap_grab_folio'));
  }
}

function* unlockAndPut(vm: Vm, head: number): Steps<void> {
  yield willUnlock(vm.core, head, UNLOCK);
  unlockNow(vm.core, head);
  yield* call(folioPut(vm.core, head, 1, 'kvm_gmem_get_pfn'));
}

/** fallocate of pages [from, from + pages), the size kept. EOPNOTSUPP: other modes; EINVAL: beyond the end; EINTR. */
export function* gmemFallocate(
  vm: Vm,
  gmem: GuestMemfd,
  mode: string,
  from: number,
  pages: number,
): Steps<'ok' | Errno> {
  if (pages <= 0) return 'EINVAL';
  if (mode === 'punch-hole') {
    yield* call(gmem.inode.invalidateLock.write());
    const open = yield* call(invalidateBeginGmem(vm, gmem, from, from + pages));
    yield* call(truncateInodePages(vm.core, gmem.inode, from, from + pages));
    if (open) yield* call(invalidateEndGmem(vm));
    yield gmem.inode.invalidateLock.up();
    return 'ok';
  }
  if (mode !== 'allocate') return 'EOPNOTSUPP';
  if (from + pages > gmem.inode.sizePages.peek()) return 'EINVAL';
  yield* call(gmem.inode.invalidateLock.read());
  const result = yield* call(allocate(vm, gmem, from, from + pages));
  yield gmem.inode.invalidateLock.up();
  return result;
}

function* allocate(vm: Vm, gmem: GuestMemfd, from: number, end: number): Steps<'ok' | Errno> {
  const { killed } = vm.core.current.task;
  for (let index = from; index < end; index++) {
    yield killed.willRead(SIGNAL);
    if (killed.value) return 'EINTR';
    const head = yield* call(grabFolio(vm, gmem, index));
    if (head === undefined) return 'ENOMEM';
    yield* call(unlockAndPut(vm, head));
  }
  return 'ok';
}

/** kvm_gmem_invalidate_begin: whether a window was opened. invalidate_lock, held for write, keeps the bindings. */
function* invalidateBeginGmem(vm: Vm, gmem: GuestMemfd, from: number, end: number): Steps<boolean> {
  const hit = gmem.bindings.peek().filter((one) => one.meets(from, end));
  if (hit.length === 0) return false;
  vm.inProgress.willUpdate(BEGIN);
  yield vm.mmuLock.write(BEGIN);
  invalidateBegin(vm);
  const pending: PendingFlush = { flush: false };
  for (const [i, one] of hit.entries()) {
    const first = one.gfnOf(Math.max(from, one.start));
    const last = one.gfnOf(Math.min(end, one.start + one.pages));
    if (i > 0) yield vm.inProgress.willUpdate(BEGIN);
    rangeAddNow(vm, first, last);
    yield* call(unmapGfnRange(vm, one.asId, first, last, true, pending));
  }
  if (pending.flush) yield* call(flushRemoteTlbs(vm));
  yield vm.mmuLock.unlock(BEGIN_UNLOCK);
  return true;
}

/** kvm_gmem_invalidate_end */
function* invalidateEndGmem(vm: Vm): Steps<void> {
  vm.seq.willUpdate(END);
  yield vm.mmuLock.write(END);
  vm.seq.value += 1;
  vm.inProgress.willUpdate(END_COUNT);
  yield vm.mmuLock.unlock(END_COUNT);
  dropInProgress(vm);
}

/** kvm_gmem_release: nothing maps the file any more, and no slot finds it; then the inode goes with its pages. */
function* release(vm: Vm, gmem: GuestMemfd): Steps<void> {
  const { inode } = gmem;
  yield vm.slotsLock.lock(RELEASE);
  yield* call(inode.invalidateLock.write());
  tellFreedSlots(vm, gmem);
  if (yield* call(invalidateBeginGmem(vm, gmem, 0, END_INDEX))) yield* call(invalidateEndGmem(vm));
  yield inode.invalidateLock.up();
  yield vm.slotsLock.unlock(RELEASE_UNLOCK);
  yield gmem.bindings.willWrite(DESTROY);
  gmem.bindings.value = [];
  yield* call(truncateInodePages(vm.core, inode, 0, END_INDEX));
  yield* call(putVm(vm));
}

/** A binding of a slot that is gone is a pointer to freed memory, which release writes through. */
function tellFreedSlots(vm: Vm, gmem: GuestMemfd): void {
  for (const one of gmem.bindings.peek()) {
    // Under slots_lock.
    if (vm.spaces[one.asId]!.peekCurrent.peekId(one.slot) !== undefined) continue;
    vm.core.sim.report({
      kind: 'use-after-free',
      message: `kvm_gmem_release of ${gmem.name} writes to memslot ${one.slot} of ${vm.name}, which is freed`,
      reasons: ['the slot was deleted while the file was closing, and kvm_gmem_unbind left its bindings'],
      actors: vm.core.sim.current === null ? [] : [vm.core.sim.current.name],
      objects: [gmem.name],
      steps: [],
      details: { slot: one.slot },
      identity: 'use-after-free|guest_memfd binding',
    });
  }
}
