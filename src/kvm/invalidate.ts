// The handshake between page faults and whoever removes mappings (virt/kvm/kvm_main.c kvm_mmu_invalidate_begin/end,
// include/linux/kvm_host.h mmu_invalidate_retry*): a count with one bounding range, and a sequence number.
import type { Steps } from '../engine/process.ts';
import { type Announced, type Step, step } from '../engine/step.ts';
import { until } from '../engine/wait.ts';
import { NO_RANGE, type Vm } from './vm.ts';

const SEQ = step('kvm_mmu_invalidate_end:seq', 'op');
const WAIT = step('kvm_faultin_pfn:retry', 'vm-exit');

/** kvm_mmu_invalidate_begin, in a step that holds mmu_lock for write and announced `inProgress`. */
export function invalidateBegin(vm: Vm): void {
  const count = vm.inProgress.value + 1;
  vm.inProgress.value = count;
  if (count !== 1) return;
  vm.rangeStart.value = NO_RANGE;
  vm.rangeEnd.value = NO_RANGE;
}

/** kvm_mmu_invalidate_range_add: one interval around all open windows. In a step as `invalidateBegin`. */
export function rangeAddNow(vm: Vm, start: number, end: number): void {
  const empty = vm.rangeStart.value === NO_RANGE;
  vm.rangeStart.value = empty ? start : Math.min(vm.rangeStart.value, start);
  vm.rangeEnd.value = empty ? end : Math.max(vm.rangeEnd.value, end);
}

/**
 * kvm_mmu_invalidate_end under mmu_lock held for write, with the unlock and the end of the SRCU section: the sequence
 * grows, then the count drops.
 */
export function* invalidateEnd(vm: Vm, unlock: Step): Steps<void> {
  yield vm.seq.willUpdate(SEQ);
  vm.seq.value += 1;
  vm.inProgress.willUpdate(unlock);
  vm.srcu.readUnlock();
  yield vm.mmuLock.unlock(unlock);
  dropInProgress(vm);
  vm.srcu.leave();
}

/** In a step that announced `inProgress`. */
export function dropInProgress(vm: Vm): void {
  const count = vm.inProgress.value - 1;
  vm.inProgress.value = count;
  if (count < 0) unpaired(vm, count);
}

/** WARN_ON_ONCE(kvm->mmu_invalidate_in_progress < 0): an end of a window whose start was not counted. */
function unpaired({ name, inProgress, core: { sim } }: Vm, count: number): void {
  sim.report({
    kind: 'refcount-underflow',
    message: `kvm_mmu_invalidate_end: mmu_invalidate_in_progress of ${name} becomes ${count}`,
    reasons: ['the start of this window hit no memslot and was not counted, its end does'],
    actors: sim.current === null ? [] : [sim.current.name],
    objects: [inProgress.name],
    steps: [],
    details: { counter: 'mmu_invalidate_in_progress' },
    identity: 'refcount-underflow|mmu_invalidate_in_progress',
  });
}

/** What a fault remembers of the handshake. */
export interface Snapshot {
  readonly seq: number;
  readonly gfn: number;
  /** Host page. */
  readonly vpn: number;
}

/** Announce what `mustRetry` looks at. */
export function willRetryCheck(vm: Vm, at: Step): Announced {
  vm.inProgress.willRead(at);
  return vm.seq.willRead(at);
}

/** mmu_invalidate_retry_gfn / _hva: has a window been open over the page since the snapshot, or is one now? */
export function mustRetry(vm: Vm, snapshot: Snapshot): boolean {
  return blocked(vm, snapshot) || !sameSeq(vm, snapshot.seq);
}

function blocked(vm: Vm, snapshot: Snapshot): boolean {
  if (vm.inProgress.value === 0) return false;
  return within(vm, snapshot, vm.rangeStart.value, vm.rangeEnd.value);
}

function within(vm: Vm, { gfn, vpn }: Snapshot, start: number, end: number): boolean {
  const unit = vm.core.kernel.way('kvm.retry-unit');
  if (unit === 'any') return true;
  const page = unit === 'gfn' ? gfn : vpn;
  return page >= start && page < end;
}

/** The counter is 64 bits wide; a fault that keeps 32 of them sign-extended never matches once bit 31 is set (B10). */
function sameSeq(vm: Vm, snapshot: number): boolean {
  const kept = vm.core.kernel.has('kvm.seq-full-width') ? snapshot : snapshot | 0;
  return vm.seq.value === kept;
}

/**
 * RET_PF_RETRY: the guest touches the page again and faults again. While a window stays open over it, every round would
 * end alike, so that the model waits for the end of the window instead of going round.
 */
export function waitWindow(vm: Vm, snapshot: Snapshot): Announced {
  const open = () => vm.inProgress.peek() !== 0 && within(vm, snapshot, vm.rangeStart.peek(), vm.rangeEnd.peek());
  return until(vm.core.sim, [vm.inProgress], () => !open(), WAIT, {
    name: `end of the invalidation over gfn ${snapshot.gfn} of ${vm.name}`,
  });
}
