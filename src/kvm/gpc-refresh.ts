// Using a gfn-to-pfn cache (virt/kvm/pfncache.c kvm_gpc_activate, _refresh, _check, _deactivate, hva_to_pfn_retry). The
// caller is a thread of the VMM. Offsets in the page are below the model's grain.
import { call, type Steps } from '../engine/process.ts';
import type { RwLock } from '../engine/rwlock.ts';
import { type Step, step } from '../engine/step.ts';
import { until } from '../engine/wait.ts';
import { FRAME_ACCESS } from '../hw/frames.ts';
import type { Errno } from '../mm/errno.ts';
import { GUEST_WROTE, PAGE_DIRTIED, REFERENCE_DROPPED, REFERENCE_TAKEN } from '../mm/ledger.ts';
import { markDirtyNow, willMarkDirty } from './dirty-bitmap.ts';
import type { GfnToPfnCache } from './gpc.ts';
import { type FoundPfn, hvaToPfn, releasePfn } from './hva-to-pfn.ts';
import { mustRetry, waitWindow, willRetryCheck } from './invalidate.ts';
import type { MemslotSet } from './memslot.ts';
import type { Vm } from './vm.ts';

const LIST = step('kvm_gpc_activate:list_add', 'op');
const ACTIVE = step('kvm_gpc_activate:active', 'lock');
const REFRESH = step('__kvm_gpc_refresh:lock', 'lock');
const REFRESH_UNLOCK = step('__kvm_gpc_refresh:unlock', 'lock');
const RETRY = step('hva_to_pfn_retry:mmu_notifier_retry_cache', 'lock');
const OLD_RETRY = step('hva_to_pfn_retry:mmu_notifier_retry_hva', 'lock');
const AGAIN = step('hva_to_pfn_retry:again', 'op');
const PUBLISH = step('__kvm_gpc_refresh:publish', 'lock');
const MUTEX = step('kvm_gpc_refresh:refresh_lock', 'lock');
const MUTEX_UNLOCK = step('kvm_gpc_refresh:refresh_unlock', 'lock');
const CHECK = step('kvm_gpc_check', 'lock');
const USE = step('gpc:access', 'op');
const DEACTIVATE = step('kvm_gpc_deactivate', 'lock');
const UNLIST = step('kvm_gpc_deactivate:list_del', 'op');

/** What a cache is for: a guest frame, or a page of the VMM (a Xen guest's shared info). */
export type GpcTarget = { readonly gfn: number } | { readonly vpn: number };

/** kvm_gpc_activate. EFAULT: nothing behind the target. */
export function* gpcActivate(vm: Vm, gpc: GfnToPfnCache, target: GpcTarget): Steps<'ok' | Errno> {
  yield* call(enterRefresh(vm, gpc));
  if (!gpc.state.peek().active) {
    // On the list first: from when it is active every window finds it.
    yield vm.caches.willUpdate(LIST);
    vm.caches.value = [...vm.caches.value, gpc];
    if (!vm.core.kernel.has('gpc.locks-set-up-once')) {
      yield gpc.lock.willReset(ACTIVE);
      gpc.lock.resetNow();
    }
    gpc.state.willUpdate(ACTIVE);
    yield gpc.lock.write(ACTIVE);
    gpc.state.value = gpc.state.value.with({ active: true });
    gpc.lock.releaseNow();
  }
  const result = yield* call(refreshLocked(vm, gpc, target));
  yield* call(leaveRefresh(vm, gpc));
  return result;
}

/** kvm_gpc_refresh. EINVAL: not active; EFAULT: nothing behind it any more. */
export function* gpcRefresh(vm: Vm, gpc: GfnToPfnCache): Steps<'ok' | Errno> {
  yield* call(enterRefresh(vm, gpc));
  const { gfn, vpn } = gpc.state.peek();
  const target = gfn !== null ? { gfn } : vpn !== null ? { vpn } : null;
  const result = target === null ? 'EINVAL' : yield* call(refreshLocked(vm, gpc, target));
  yield* call(leaveRefresh(vm, gpc));
  return result;
}

/** refresh_lock, and the caller's SRCU section. What the cache is for and whether it is active can be looked at then. */
function* enterRefresh(vm: Vm, gpc: GfnToPfnCache): Steps<void> {
  vm.srcu.readLock();
  if (vm.core.kernel.has('gpc.refresh-serialized')) yield gpc.refreshLock.lock(MUTEX);
  else yield gpc.state.willRead(MUTEX);
  vm.srcu.enter();
}

function* leaveRefresh(vm: Vm, gpc: GfnToPfnCache): Steps<void> {
  vm.srcu.readUnlock();
  if (vm.core.kernel.has('gpc.refresh-serialized')) yield gpc.refreshLock.unlock(MUTEX_UNLOCK);
  else yield vm.core.sim.local(MUTEX_UNLOCK);
  vm.srcu.leave();
}

function willReadSlots(vm: Vm, at: Step): void {
  const space = vm.spaces[0]!;
  space.active.willRead(at);
  for (const set of space.sets) set.generation.willRead(at);
}

/** __kvm_gpc_refresh */
function* refreshLocked(vm: Vm, gpc: GfnToPfnCache, target: GpcTarget): Steps<'ok' | Errno> {
  const { kernel } = vm.core;
  willReadSlots(vm, REFRESH);
  gpc.state.willUpdate(REFRESH);
  vm.seq.willRead(REFRESH);
  const { lock } = gpc;
  yield lock.write(REFRESH);
  const old = gpc.state.value;
  if (!old.active && kernel.has('gpc.rejects-inactive')) {
    lock.releaseNow();
    return 'EINVAL';
  }
  const set = vm.spaces[0]!.current;
  const vpn = 'vpn' in target ? target.vpn : hostPage(set, target.gfn);
  const gfn = 'gfn' in target ? target.gfn : null;
  const slotGeneration = set.generation.value;
  if (vpn === null) {
    gpc.state.value = old.with({ gfn, vpn, slotGeneration, valid: false, pfn: 0, generation: 0 });
    lock.releaseNow();
    yield* call(dropHeld(vm, gpc, null));
    return 'EFAULT';
  }
  if (old.valid && vpn === old.vpn) {
    gpc.state.value = old.with({ gfn, slotGeneration });
    lock.releaseNow();
    return 'ok';
  }
  const guarded = kernel.has('gpc.refresh-sees-open-windows');
  gpc.state.value = old.with({ gfn, vpn, slotGeneration, valid: guarded ? false : old.valid });
  const seq = vm.seq.value;
  lock.releaseNow();
  return yield* call(guarded ? resolve(vm, gpc, vpn, seq) : resolveUnguarded(vm, gpc, vpn, seq));
}

function hostPage(set: MemslotSet, gfn: number): number | null {
  const slot = set.peekGfn(gfn);
  return slot === undefined || slot.invalid ? null : slot.vpnOf(gfn);
}

function lookUp(vm: Vm, gpc: GfnToPfnCache, vpn: number) {
  return hvaToPfn(vm.core, vm.mm, vpn, { owner: gpc.name, write: true, wantsWritable: false });
}

/**
 * hva_to_pfn_retry: again and again until no window was open since the snapshot. mn_active_invalidate_count is what
 * counts, because a window invalidates caches before it raises mmu_invalidate_in_progress.
 */
function* resolve(vm: Vm, gpc: GfnToPfnCache, vpn: number, first: number): Steps<'ok' | Errno> {
  let seq = first;
  for (;;) {
    const frame = yield* call(lookUp(vm, gpc, vpn));
    if (typeof frame === 'string') {
      yield* call(publish(vm, gpc, null));
      return 'EFAULT';
    }
    vm.mnActive.willRead(RETRY);
    vm.seq.willRead(RETRY);
    gpc.state.willUpdate(RETRY);
    const { lock } = gpc;
    yield lock.write(RETRY);
    if (vm.mnActive.value === 0 && vm.seq.value === seq) {
      const { pfn, generation } = frame;
      gpc.state.value = gpc.state.value.with({ valid: true, pfn, generation });
      lock.releaseNow();
      yield* call(dropHeld(vm, gpc, frame));
      return 'ok';
    }
    lock.releaseNow();
    yield* call(releasePfn(vm.core, frame));
    // While a window stays open every round ends here again: wait for its end instead, then take a new snapshot.
    vm.seq.willRead(AGAIN);
    yield until(vm.core.sim, [vm.mnActive], () => vm.mnActive.peek() === 0, AGAIN, {
      name: `the end of all invalidations of ${vm.name}`,
    });
    seq = vm.seq.value;
  }
}

/** As it was before 58cd407ca4c6: the count of the fault path, and no look at the cache between look-up and publishing. */
function* resolveUnguarded(vm: Vm, gpc: GfnToPfnCache, vpn: number, first: number): Steps<'ok' | Errno> {
  const gfn = gpc.state.peek().gfn ?? -1;
  let seq = first;
  for (;;) {
    const frame = yield* call(lookUp(vm, gpc, vpn));
    if (typeof frame === 'string') {
      yield* call(publish(vm, gpc, null));
      return 'EFAULT';
    }
    willRetryCheck(vm, OLD_RETRY);
    yield vm.mmuLock.read(OLD_RETRY);
    const snapshot = { seq, gfn, vpn };
    const retry = mustRetry(vm, snapshot);
    vm.mmuLock.releaseNow();
    if (!retry) {
      yield* call(publish(vm, gpc, frame));
      return 'ok';
    }
    yield* call(releasePfn(vm.core, frame));
    vm.seq.willRead(AGAIN);
    yield waitWindow(vm, snapshot);
    seq = vm.seq.value;
  }
}

function* publish(vm: Vm, gpc: GfnToPfnCache, frame: FoundPfn | null): Steps<void> {
  gpc.state.willUpdate(PUBLISH);
  const { lock } = gpc;
  yield lock.write(PUBLISH);
  const { pfn, generation } = frame ?? { pfn: 0, generation: 0 };
  gpc.state.value = gpc.state.value.with({ valid: frame !== null, pfn, generation });
  yield lock.unlock(REFRESH_UNLOCK);
  yield* call(dropHeld(vm, gpc, frame));
}

/** The reference: dropped at once, or kept until the next refresh by kernels that pinned what they cached. */
function* dropHeld(vm: Vm, gpc: GfnToPfnCache, frame: FoundPfn | null): Steps<void> {
  if (vm.core.kernel.has('gpc.no-page-reference')) {
    if (frame !== null) yield* call(releasePfn(vm.core, frame));
    return;
  }
  yield gpc.heldPfn.willUpdate(REFRESH_UNLOCK);
  const pfn = gpc.heldPfn.value;
  gpc.heldPfn.value = frame?.counted === true ? frame.pfn : 0;
  tellReference(vm, gpc, gpc.heldPfn.value, REFERENCE_TAKEN);
  if (pfn !== 0) yield* call(releasePfn(vm.core, { pfn, generation: 0, writable: true, counted: true }));
  tellReference(vm, gpc, pfn, REFERENCE_DROPPED);
}

function tellReference({ core: { sim } }: Vm, gpc: GfnToPfnCache, pfn: number, what: typeof REFERENCE_TAKEN): void {
  if (pfn !== 0 && sim.hears(what)) sim.emit(what, { runs: [{ pfn, pages: 1 }], owner: gpc.name });
}

/**
 * One access as KVM makes it (Xen shared info, runstate areas): check under the lock held for read, refresh when it
 * fails, touch the page. Null: the cache cannot be refreshed.
 */
export function* gpcAccess(
  vm: Vm,
  gpc: GfnToPfnCache,
  write: { readonly token: number } | null,
): Steps<{ readonly token: number } | { readonly errno: Errno }> {
  const { core } = vm;
  for (;;) {
    willReadSlots(vm, CHECK);
    gpc.state.willRead(CHECK);
    vm.srcu.readLock();
    const { lock } = gpc;
    yield lock.read(CHECK);
    vm.srcu.enter();
    const state = gpc.state.value;
    const set = vm.spaces[0]!.current;
    const current = state.gfn === null || state.slotGeneration === set.generation.value;
    const usable = state.active || !core.kernel.has('gpc.rejects-inactive');
    if (usable && state.valid && current) {
      const token = yield* call(touch(vm, gpc, lock, set, write));
      return { token };
    }
    vm.srcu.readUnlock();
    yield lock.willChange(CHECK);
    readUnlockNow(vm, gpc);
    vm.srcu.leave();
    const refreshed = yield* call(gpcRefresh(vm, gpc));
    if (refreshed !== 'ok') return { errno: refreshed };
  }
}

/** Access, mark dirty and unlock. */
function* touch(
  vm: Vm,
  gpc: GfnToPfnCache,
  lock: RwLock,
  set: MemslotSet,
  write: { readonly token: number } | null,
): Steps<number> {
  const { sim, frames } = vm.core;
  // The lock is held for read: the state stands.
  const { pfn, generation: madeFor, gfn, vpn } = gpc.state.peek();
  const slot = gfn === null ? undefined : set.peekGfn(gfn);
  if (write !== null && slot !== undefined) willMarkDirty(slot, gfn!, USE);
  frames.willCheck(pfn, USE);
  vm.srcu.readUnlock();
  lock.willChange(USE);
  yield write === null ? frames.content.willRead(pfn, USE) : frames.content.willWrite(pfn, USE);
  if (write !== null) frames.content.set(pfn, write.token);
  const token = write === null ? frames.content.get(pfn) : write.token;
  const generation = frames.generationOf(pfn);
  if (sim.hears(FRAME_ACCESS)) {
    const through = 'kernel';
    const page = gfn ?? vpn ?? 0;
    sim.emit(FRAME_ACCESS, { pfn, write: write !== null, madeFor, generation, through, holder: gpc.name, page, token });
  }
  if (write !== null && sim.hears(PAGE_DIRTIED)) sim.emit(PAGE_DIRTIED, { pfn, token, by: 'kernel' });
  if (write !== null && slot !== undefined) {
    markDirtyNow(slot, gfn!);
    const logs = slot.logsDirty;
    if (sim.hears(GUEST_WROTE)) sim.emit(GUEST_WROTE, { holder: vm.name, page: gfn!, token, logs });
  }
  readUnlockNow(vm, gpc);
  vm.srcu.leave();
  return token;
}

/** read_unlock(&gpc->lock), in a step that announced it. */
function readUnlockNow(vm: Vm, gpc: GfnToPfnCache): void {
  if (!gpc.lock.heldBy(vm.core.sim.current!)) lostLock(vm, gpc);
  gpc.lock.releaseNow();
}

/** The caller's lock was initialised anew while it held it (before 52491a38b2c2). */
function lostLock({ core: { sim } }: Vm, gpc: GfnToPfnCache): void {
  sim.report({
    kind: 'refcount-underflow',
    message: `${gpc.name} is unlocked after its lock was initialised anew: the count of readers becomes -1`,
    reasons: ['kvm_gpc_activate set up the lock while somebody held it'],
    actors: sim.current === null ? [] : [sim.current.name],
    objects: [gpc.name],
    steps: [],
    details: { counter: 'readers of the lock' },
    identity: 'refcount-underflow|gpc lock',
  });
}

/** kvm_gpc_deactivate: not active, then off the list. */
export function* gpcDeactivate(vm: Vm, gpc: GfnToPfnCache): Steps<void> {
  yield* call(enterRefresh(vm, gpc));
  gpc.state.willUpdate(DEACTIVATE);
  const { lock } = gpc;
  yield lock.write(DEACTIVATE);
  gpc.state.value = gpc.state.value.with({ active: false, valid: false });
  lock.releaseNow();
  yield vm.caches.willUpdate(UNLIST);
  vm.caches.value = vm.caches.value.filter((other) => other !== gpc);
  yield* call(dropHeld(vm, gpc, null));
  yield* call(leaveRefresh(vm, gpc));
}
