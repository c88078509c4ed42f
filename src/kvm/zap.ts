// Zapping ranges and roots (arch/x86/kvm/mmu/tdp_mmu.c): tdp_mmu_zap_leafs under mmu_lock held for write, with lock
// breaks; fast invalidation of all roots for memslot updates, whose entries are then zapped under the lock held for read.
import { call, type Steps } from '../engine/process.ts';
import { step } from '../engine/step.ts';
import { PMD_PAGES } from '../hw/machine.ts';
import { invalidateBegin, invalidateEnd, rangeAddNow } from './invalidate.ts';
import { SPTE_LARGE, SPTE_TABLE, type Spte, sptePresent } from './spte.ts';
import { MAX_GFNS, rowOf, type TdpRoot } from './tdp-root.ts';
import { flushRemoteTlbs, requestReload } from './tlb-flush.ts';
import type { Vm } from './vm.ts';
import { willZapLeaf, zapLeafNow } from './zap-leaf.ts';

const ZAP = step('tdp_mmu_zap_leafs:zap', 'pte-op');
const YIELD = step('tdp_mmu_iter_cond_resched:unlock', 'lock');
const RELOCK = step('tdp_mmu_iter_cond_resched:relock', 'lock');
const INVALIDATE = step('kvm_tdp_mmu_invalidate_all_roots', 'lock');
const FAST_UNLOCK = step('kvm_mmu_zap_all_fast:unlock', 'lock');
const ROOTS_LOCK = step('kvm_tdp_mmu_zap_invalidated_roots:lock', 'lock');
const ROOTS_WALK = step('tdp_mmu_zap_root:walk', 'op');
const ROOTS_ZAP = step('tdp_mmu_zap_root:zap', 'pte-op');
const ROOTS_PUT = step('kvm_tdp_mmu_put_root', 'refcount');
const ROOTS_UNLOCK = step('kvm_tdp_mmu_zap_invalidated_roots:unlock', 'lock');
const GFN_RANGE_LOCK = step('kvm_zap_gfn_range:lock', 'lock');
const GFN_RANGE_UNLOCK = step('kvm_zap_gfn_range:unlock', 'lock');

/** Present leaves of [from, end), at most `limit`, from `from` on. Looks without a step: mmu_lock is held for write. */
function nextLeafs(root: TdpRoot, from: number, end: number, limit: number): { gfn: number; spte: Spte }[] {
  const found: { gfn: number; spte: Spte }[] = [];
  for (let gfn = from; gfn < end && found.length < limit; ) {
    const bits = root.peekRowBits(rowOf(gfn));
    const next = (rowOf(gfn) + 1) * PMD_PAGES;
    if ((bits & SPTE_LARGE) !== 0) found.push({ gfn, spte: root.peek(gfn) });
    else if ((bits & SPTE_TABLE) !== 0) {
      for (const last = Math.min(end, next); gfn < last && found.length < limit; gfn++) {
        if (sptePresent(root.peekLeafBits(gfn))) found.push({ gfn, spte: root.peek(gfn) });
      }
      if (gfn < Math.min(end, next)) break;
      continue;
    }
    gfn = next;
  }
  return found;
}

/** What a zap under mmu_lock held for write still owes: a flush of the vCPUs. */
export interface PendingFlush {
  flush: boolean;
}

/**
 * tdp_mmu_zap_leafs: zap the leaves of [from, end) in one root. mmu_lock is held for write; with `mayYield` it may be
 * dropped in between.
 */
export function* zapLeafs(
  vm: Vm,
  root: TdpRoot,
  from: number,
  end: number,
  mayYield: boolean,
  pending: PendingFlush,
): Steps<void> {
  const { core } = vm;
  const last = Math.min(end, MAX_GFNS);
  let gfn = from;
  for (;;) {
    const leafs = nextLeafs(root, gfn, last, core.params.stepPages);
    const final = leafs[leafs.length - 1];
    if (final === undefined) return;
    for (const leaf of leafs) willZapLeaf(vm, root, leaf.gfn, leaf.spte, ZAP);
    yield core.sim.local(ZAP, leafs.length);
    for (const leaf of leafs) zapLeafNow(vm, root, leaf.gfn, leaf.spte);
    // Nobody translates through an invalid root: vCPUs flush when they load another one.
    if (!root.invalid.peek()) pending.flush = true;
    gfn = final.spte.large ? (rowOf(final.gfn) + 1) * PMD_PAGES : final.gfn + 1;
    if (mayYield && vm.yields && core.sim.choose(2, 'tdp_mmu_iter_cond_resched') === 1) {
      yield* call(yieldLock(vm, pending));
    }
  }
}

/** tdp_mmu_iter_cond_resched with the lock contended. */
function* yieldLock(vm: Vm, pending: PendingFlush): Steps<void> {
  if (pending.flush && vm.core.kernel.has('kvm.yield-flushes-first')) {
    yield* call(flushRemoteTlbs(vm));
    pending.flush = false;
  }
  yield vm.mmuLock.unlock(YIELD);
  yield vm.mmuLock.write(RELOCK);
}

/**
 * kvm_tdp_mmu_unmap_gfn_range: in every root of the address space, also in those that a memslot update made invalid and
 * has not zapped yet. mmu_lock is held for write.
 */
export function* unmapGfnRange(
  vm: Vm,
  asId: number,
  from: number,
  end: number,
  mayYield: boolean,
  pending: PendingFlush,
): Steps<void> {
  const all = vm.core.kernel.has('kvm.zap-covers-invalid-roots');
  yield* call(forEachRoot(vm, asId, all, (root) => zapLeafs(vm, root, from, end, mayYield, pending)));
}

/** for_each_tdp_mmu_root_yield_safe. The list changes only while mmu_lock is dropped, and then at its end. */
function* forEachRoot(
  vm: Vm,
  asId: number | null,
  invalidToo: boolean,
  body: (root: TdpRoot) => Steps<void>,
): Steps<void> {
  const done: TdpRoot[] = [];
  for (;;) {
    const root = vm.roots
      .peek()
      .find((r) => !done.includes(r) && (asId === null || r.asId === asId) && (invalidToo || !r.invalid.peek()));
    if (root === undefined) return;
    done.push(root);
    yield* call(body(root));
  }
}

/** kvm_zap_gfn_range: the memory types or attributes of [from, end) change; nothing may be mapped meanwhile. */
export function* zapGfnRange(vm: Vm, from: number, end: number): Steps<void> {
  const { kernel } = vm.core;
  yield vm.srcu.readLock();
  vm.srcu.enter();
  vm.inProgress.willUpdate(GFN_RANGE_LOCK);
  yield vm.mmuLock.write(GFN_RANGE_LOCK);
  invalidateBegin(vm);
  // Before ranges were kept in guest frames the field held host addresses, and frames given there blocked nobody.
  if (kernel.way('kvm.retry-unit') !== 'gfn' && kernel.has('kvm.zap-gfn-range-blocks-faults')) {
    rangeAddNow(vm, 0, Number.POSITIVE_INFINITY);
  } else rangeAddNow(vm, from, end);
  const pending: PendingFlush = { flush: false };
  yield* call(forEachRoot(vm, null, false, (root) => zapLeafs(vm, root, from, end, true, pending)));
  if (pending.flush) yield* call(flushRemoteTlbs(vm));
  yield* call(invalidateEnd(vm, GFN_RANGE_UNLOCK));
}

/** kvm_mmu_zap_all_fast: mark all roots invalid, make every vCPU load another, and zap the old ones. */
export function* zapAllFast(vm: Vm): Steps<void> {
  vm.roots.willUpdate(INVALIDATE);
  yield vm.mmuLock.write(INVALIDATE);
  // kvm_tdp_mmu_zap_invalidated_roots inherits the reference of the MMU itself.
  const victims = vm.roots.value.filter((root) => !root.invalid.value);
  for (const root of victims) root.invalid.value = true;
  yield* call(requestReload(vm));
  yield vm.mmuLock.unlock(FAST_UNLOCK);
  if (victims.length === 0) return;
  yield vm.mmuLock.read(ROOTS_LOCK);
  for (const root of victims) {
    yield* call(zapRootShared(vm, root));
    yield vm.roots.willUpdate(ROOTS_PUT);
    putRootNow(vm, root);
  }
  yield vm.mmuLock.unlock(ROOTS_UNLOCK);
}

/**
 * tdp_mmu_zap_root under mmu_lock held for read: each entry by cmpxchg. Entries are listed when the walk starts; what
 * is installed into a dead root later stays, as it does behind the kernel's walker.
 */
function* zapRootShared(vm: Vm, root: TdpRoot): Steps<void> {
  const { core } = vm;
  const per = core.params.stepPages;
  yield root.willReadAll(ROOTS_WALK);
  const leafs = root.readAll();
  for (let i = 0; i < leafs.length; i += per) {
    const batch = leafs.slice(i, i + per);
    for (const leaf of batch) willZapLeaf(vm, root, leaf.gfn, leaf.spte, ROOTS_ZAP);
    yield core.sim.local(ROOTS_ZAP, batch.length);
    for (const leaf of batch) zapLeafNow(vm, root, leaf.gfn, leaf.spte);
    if (vm.yields && core.sim.choose(2, 'tdp_mmu_iter_cond_resched') === 1) {
      yield vm.mmuLock.unlock(YIELD);
      yield vm.mmuLock.read(RELOCK);
    }
  }
}

/** kvm_tdp_mmu_put_root, in a step that announced `roots`. What a dead root still maps is lost with it. */
export function putRootNow(vm: Vm, root: TdpRoot): void {
  const left = root.references.value - 1;
  root.references.value = left;
  if (left === 0) vm.roots.value = vm.roots.value.filter((other) => other !== root);
}

/** kvm_tdp_mmu_zap_all: the address space or the VM goes away. mmu_lock is held for write; no vCPU runs any more. */
export function* zapAllRoots(vm: Vm): Steps<void> {
  const { core } = vm;
  const per = core.params.stepPages;
  for (const root of vm.roots.peek()) {
    // mmu_lock is held for write: nothing is added or removed meanwhile.
    const leafs = [...root.peekAll()];
    for (let i = 0; i < leafs.length; i += per) {
      const batch = leafs.slice(i, i + per);
      for (const leaf of batch) willZapLeaf(vm, root, leaf.gfn, leaf.spte, ZAP);
      yield core.sim.local(ZAP, batch.length);
      for (const leaf of batch) zapLeafNow(vm, root, leaf.gfn, leaf.spte);
    }
  }
}
