// The two-dimensional page fault (arch/x86/kvm/mmu/mmu.c kvm_tdp_mmu_page_fault, kvm_faultin_pfn): snapshot of the
// invalidation sequence, frame from the host, and under mmu_lock the test whether the frame may be stale.
import { call, type Steps } from '../engine/process.ts';
import { type Announced, type Step, step } from '../engine/step.ts';
import { until } from '../engine/wait.ts';
import { setupAsyncPf } from './async-pf.ts';
import { fastPageFault } from './fast-page-fault.ts';
import { gmemGetPfn } from './guest-memfd.ts';
import { type FoundPfn, hvaToPfn, type PfnError, releasePfn } from './hva-to-pfn.ts';
import { mustRetry, type Snapshot, waitWindow, willRetryCheck } from './invalidate.ts';
import type { Memslot, MemslotSet } from './memslot.ts';
import { mapMmio, tdpMap } from './tdp-map.ts';
import type { Vcpu } from './vcpu.ts';
import type { Vm } from './vm.ts';

const EXIT = step('handle_ept_violation:memslot', 'vm-exit');
const PRIVATE = step('kvm_mmu_page_fault:kvm_mem_is_private', 'vm-exit');
const STILL_PRIVATE = step('kvm_faultin_pfn:kvm_mem_is_private', 'op');
const SEQ = step('kvm_faultin_pfn:mmu_invalidate_seq', 'op');
const PRECHECK = step('kvm_faultin_pfn:precheck', 'op');
const RECHECK = step('kvm_faultin_pfn:recheck', 'op');
const LOCK = step('kvm_tdp_mmu_page_fault:is_page_fault_stale', 'lock');
const UNLOCK = step('kvm_tdp_mmu_page_fault:unlock', 'lock');
const LEAVE = step('vcpu_enter_guest:srcu_read_unlock', 'none');
const SLOT_WAIT = step('kvm_faultin_pfn:invalid-slot', 'vm-exit');
const GENERATION = step('make_mmio_spte:generation', 'op');

/**
 * `fixed`: the guest tries again. `async`: a worker faults the page in; the guest was told. `emulate`: no memory, or a
 * write to a read-only slot. Others end KVM_RUN: `EFAULT`, `EINTR` (a signal), `MEMORY_FAULT` (private or shared, but not
 * as the VMM has it: EFAULT), `HWPOISON` (SIGBUS with BUS_MCEERR_AR), `livelock` (it can never succeed).
 */
export type FaultOutcome =
  | 'fixed'
  | 'async'
  | 'emulate'
  | 'EFAULT'
  | 'EINTR'
  | 'ENOMEM'
  | 'HWPOISON'
  | 'MEMORY_FAULT'
  | 'livelock';

export interface GuestFault {
  readonly gfn: number;
  readonly write: boolean;
  /** The entry was present: a write to a write-protected page. */
  readonly present: boolean;
  /** On behalf of a completed asynchronous fault, or ahead of any. */
  readonly prefetch?: boolean;
}

/** Why the fault has to start again, if it has to wait for something first. */
type Retry = { readonly retry: 'now' | 'window' | 'slot'; readonly snapshot: Snapshot | null };

function again(retry: Retry['retry'], snapshot: Snapshot | null = null): Retry {
  return { retry, snapshot };
}

/** One exit of `vcpu` for a page fault. Runs in the VMM's thread; returns when the guest may go on or KVM_RUN ends. */
export function* tdpPageFault(vm: Vm, vcpu: Vcpu, fault: GuestFault): Steps<FaultOutcome> {
  const { active } = vm.spaces[0]!;
  active.willRead(EXIT);
  vm.srcu.readLock();
  yield vm.core.sim.local(EXIT);
  vm.srcu.enter();
  const set = vm.spaces[0]!.current;
  const result = yield* call(handleFault(vm, vcpu, fault, set));
  vm.srcu.readUnlock();
  yield vm.core.sim.local(LEAVE);
  vm.srcu.leave();
  if (typeof result === 'string') return result;
  if (result.retry === 'window' && result.snapshot !== null) yield waitWindow(vm, result.snapshot);
  if (result.retry === 'slot') yield waitPublish(vm, set, fault.gfn);
  return 'fixed';
}

function* handleFault(vm: Vm, vcpu: Vcpu, fault: GuestFault, set: MemslotSet): Steps<FaultOutcome | Retry> {
  const slot = set.peekGfn(fault.gfn);
  if (fault.present && fault.write) {
    const fast = yield* call(fastPageFault(vcpu.root.peek()!, slot, fault.gfn));
    if (fast !== 'invalid') return 'fixed';
  }
  let isPrivate = false;
  if (vm.privateMemory) {
    // kvm_mmu_page_fault: a software-protected VM tells by the attributes what hardware tells by the address.
    yield vm.attributes.willRead(fault.gfn, PRIVATE);
    isPrivate = vm.attributes.get(fault.gfn) === 1;
  }
  return yield* call(faultinAndMap(vm, vcpu, fault, slot, set, isPrivate));
}

function* faultinAndMap(
  vm: Vm,
  vcpu: Vcpu,
  fault: GuestFault,
  slot: Memslot | undefined,
  set: MemslotSet,
  isPrivate: boolean,
): Steps<FaultOutcome | Retry> {
  const { core } = vm;
  const { kernel } = core;
  const { gfn } = fault;
  yield vm.seq.willRead(SEQ);
  const snapshot: Snapshot = { seq: vm.seq.value, gfn, vpn: slot?.vpnOf(gfn) ?? -1 };
  if (vm.privateMemory) {
    yield vm.attributes.willRead(gfn, STILL_PRIVATE);
    if ((vm.attributes.get(gfn) === 1) !== isPrivate) return 'MEMORY_FAULT';
  }
  const invalid = slot?.invalid === true;
  if (invalid && kernel.has('kvm.retry-on-invalid-slot')) return again('slot');
  if (slot === undefined || invalid) return isPrivate ? 'MEMORY_FAULT' : yield* call(noSlot(vm, vcpu, gfn, set));
  if (fault.write && slot.readOnly) return 'emulate';
  const prechecks = kernel.has('kvm.fault-prechecks');
  if (prechecks && (yield* call(retryNeeded(vm, snapshot, PRECHECK)))) return stale(vm, snapshot);
  if (isPrivate) return yield* call(faultinPrivate(vm, vcpu, slot, snapshot));
  const vpn = slot.vpnOf(gfn);
  const request = { owner: `kvm ${vm.name}`, write: fault.write, wantsWritable: !slot.readOnly };
  let frame = yield* call(hvaToPfn(core, vm.mm, vpn, { ...request, nowait: vm.asyncPf }));
  if (frame === 'needs-io') {
    if (fault.prefetch !== true && (yield* call(setupAsyncPf(vm, vcpu, gfn, vpn)))) return 'async';
    frame = yield* call(hvaToPfn(core, vm.mm, vpn, request));
  }
  if (typeof frame === 'string') return pfnError(frame);
  if (prechecks && (yield* call(retryNeeded(vm, snapshot, RECHECK)))) {
    yield* call(releasePfn(core, frame));
    return stale(vm, snapshot);
  }
  return yield* call(lockAndMap(vm, vcpu, slot, snapshot, frame));
}

/** kvm_faultin_pfn_private */
function* faultinPrivate(vm: Vm, vcpu: Vcpu, slot: Memslot, snapshot: Snapshot): Steps<FaultOutcome | Retry> {
  if (slot.fields.gmem === undefined) return 'MEMORY_FAULT';
  const frame = yield* call(gmemGetPfn(vm, slot, snapshot.gfn));
  if (frame === 'ENOMEM') return 'ENOMEM';
  if (frame === 'EHWPOISON') return 'HWPOISON';
  if (typeof frame === 'string') return 'MEMORY_FAULT';
  if (vm.core.kernel.has('kvm.fault-prechecks') && (yield* call(retryNeeded(vm, snapshot, RECHECK)))) {
    yield* call(releasePfn(vm.core, frame));
    return stale(vm, snapshot);
  }
  return yield* call(lockAndMap(vm, vcpu, slot, snapshot, frame));
}

/** kvm_handle_error_pfn */
function pfnError(error: PfnError): FaultOutcome {
  switch (error) {
    case 'sigpending':
      return 'EINTR';
    case 'ro':
      return 'emulate';
    case 'hwpoison':
      return 'HWPOISON';
    case 'fault':
    case 'needs-io':
      return 'EFAULT';
  }
}

function* retryNeeded(vm: Vm, snapshot: Snapshot, at: Step): Steps<boolean> {
  yield willRetryCheck(vm, at);
  return mustRetry(vm, snapshot);
}

/** RET_PF_RETRY because of the handshake. */
function stale(vm: Vm, snapshot: Snapshot): Retry | 'livelock' {
  if (vm.core.kernel.has('kvm.seq-full-width') || snapshot.seq < 2 ** 31) return again('window', snapshot);
  const message = `page faults of ${vm.name} can never succeed again: the sequence ${snapshot.seq} does not survive being kept in 32 bits`;
  vm.core.sim.report({
    kind: 'livelock',
    message,
    reasons: ['is_page_fault_stale compares the full counter with a sign-extended snapshot'],
    actors: vm.core.sim.current === null ? [] : [vm.core.sim.current.name],
    objects: [vm.seq.name],
    steps: [],
    details: { sequence: snapshot.seq },
    identity: 'livelock|mmu_invalidate_seq',
  });
  return 'livelock';
}

/** The rest of kvm_tdp_mmu_page_fault: test and publish in one hold of mmu_lock, then drop the reference. */
function* lockAndMap(
  vm: Vm,
  vcpu: Vcpu,
  slot: Memslot,
  snapshot: Snapshot,
  frame: FoundPfn,
): Steps<FaultOutcome | Retry> {
  const { core } = vm;
  const { kernel } = core;
  const { gfn } = snapshot;
  // Only this thread changes the root that its vCPU uses.
  const root = vcpu.root.peek()!;
  willRetryCheck(vm, LOCK);
  root.willRead(gfn, LOCK);
  if (kernel.has('kvm.tdp-mmu')) yield vm.mmuLock.read(LOCK);
  else yield vm.mmuLock.write(LOCK);
  let result: FaultOutcome | Retry = 'fixed';
  let mappedPfn = frame.pfn;
  if (root.invalid.value && kernel.has('kvm.retry-if-root-invalid')) result = again('now');
  else if (mustRetry(vm, snapshot)) result = stale(vm, snapshot);
  else {
    const seen = root.read(gfn);
    const mapped = yield* call(tdpMap(vm, root, seen, slot, gfn, frame));
    mappedPfn = mapped.mappedPfn;
  }
  // The frame whose reference is dropped: aligned down for a large leaf by kernels that forgot what they had got (B12).
  const held: FoundPfn = kernel.has('kvm.releases-exact-pfn') ? frame : { ...frame, pfn: mappedPfn };
  if (kernel.has('kvm.refcounted-page-rework')) yield* call(releasePfn(core, held));
  yield vm.mmuLock.unlock(UNLOCK);
  if (!kernel.has('kvm.refcounted-page-rework')) yield* call(releasePfn(core, held));
  return result;
}

/** kvm_handle_noslot_fault: cache that nothing is here, then emulate. */
function* noSlot(vm: Vm, vcpu: Vcpu, gfn: number, set: MemslotSet): Steps<FaultOutcome | Retry> {
  const root = vcpu.root.peek()!;
  root.willRead(gfn, LOCK);
  yield vm.mmuLock.read(LOCK);
  let result: FaultOutcome | Retry = 'emulate';
  if (root.invalid.value && vm.core.kernel.has('kvm.retry-if-root-invalid')) result = again('now');
  else {
    const seen = root.read(gfn);
    yield set.generation.willRead(GENERATION);
    const mapped = yield* call(mapMmio(vm, root, seen, gfn, set.generation.value));
    if (mapped === 'retry') result = again('now');
  }
  yield vm.mmuLock.unlock(UNLOCK);
  return result;
}

/** RET_PF_RETRY over an invalid slot: every round ends alike until another set of memslots is published. */
function waitPublish(vm: Vm, seen: MemslotSet, gfn: number): Announced {
  const space = vm.spaces[0]!;
  // The same set may have come back with the update after the next one.
  const over = () => space.peekCurrent !== seen || space.peekCurrent.peekGfn(gfn)?.invalid !== true;
  return until(vm.core.sim, [space.active], over, SLOT_WAIT, {
    name: `the memslots of ${vm.name} that follow`,
  });
}
