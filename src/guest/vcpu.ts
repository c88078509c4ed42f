// Guest memory accesses by a vCPU: guest TLB, second-stage walk, exit. The actor is a thread of the VMM inside KVM_RUN; a
// hit acts in one step with the memory access, because exits happen only between instructions.
import { call, type Steps } from '../engine/process.ts';
import { step } from '../engine/step.ts';
import { FRAME_ACCESS } from '../hw/frames.ts';
import { PMD_PAGES } from '../hw/machine.ts';
import { waitAsyncPf } from '../kvm/async-pf.ts';
import { emulateAccess } from '../kvm/emulate.ts';
import { GENERATION_UPDATE_IN_PROGRESS } from '../kvm/memslot.ts';
import { type FaultOutcome, type GuestFault, tdpPageFault } from '../kvm/page-fault.ts';
import { loadRoot } from '../kvm/root-load.ts';
import { SPTE_ACCESSED, SPTE_DIRTY, SPTE_MMIO, SPTE_WRITE, sptePresent } from '../kvm/spte.ts';
import { MMIO_GENERATIONS } from '../kvm/tdp-map.ts';
import { GuestTlbEntry, type Vcpu } from '../kvm/vcpu.ts';
import type { Vm } from '../kvm/vm.ts';
import { GUEST_WROTE, PAGE_DIRTIED } from '../mm/ledger.ts';

const ACCESS = step('guest:access', 'guest-op');
const WALK = step('guest:second-stage-walk', 'guest-op');
const MMIO_CHECK = step('handle_mmio_page_fault:check_mmio_spte', 'vm-exit');

/**
 * Why KVM_RUN returned to the VMM. `MMIO`: no memory there, or a write to a read-only slot. `HWPOISON`: SIGBUS with
 * BUS_MCEERR_AR. `EIO`: not the VM's process, or the VM is gone. The guest's code is not part of the model: a VM without
 * any memslot gives MMIO here, KVM_EXIT_INTERNAL_ERROR on a real machine.
 */
export type GuestExit = 'EFAULT' | 'EINTR' | 'ENOMEM' | 'MMIO' | 'MEMORY_FAULT' | 'HWPOISON' | 'livelock' | 'EIO';

export type GuestResult = { readonly token: number } | { readonly exit: GuestExit };

/** Read the content token of guest frame `gfn`. */
export function* vcpuRead(vm: Vm, vcpu: Vcpu, gfn: number): Steps<GuestResult> {
  return yield* call(access(vm, vcpu, gfn, null));
}

/** Write `token` to guest frame `gfn`. */
export function* vcpuWrite(vm: Vm, vcpu: Vcpu, gfn: number, token: number): Steps<GuestResult> {
  return yield* call(access(vm, vcpu, gfn, { token }));
}

function* access(vm: Vm, vcpu: Vcpu, gfn: number, write: { readonly token: number } | null): Steps<GuestResult> {
  // kvm_vcpu_ioctl: only the process that made the VM may run it. Neither can change under the caller: it is a thread of that
  // process, and holds the VM where others may let it go.
  if (vm.core.current.task.mm.peek() !== vm.mm || vm.dead.peek()) return { exit: 'EIO' };
  let through: 'stage2' | 'guest-tlb' = 'guest-tlb';
  for (;;) {
    // Only this vCPU fills its TLB; others can only empty it, which the act looks for.
    const cached = vcpu.tlb.peek().find((entry) => entry.covers(gfn));
    if (cached !== undefined && (write === null || cached.write)) {
      const done = yield* call(throughTlb(vm, vcpu, cached, gfn, write, through));
      if (done !== null) return done;
      through = 'guest-tlb';
      continue;
    }
    const walked = yield* call(walk(vm, vcpu, gfn, write !== null));
    through = 'stage2';
    if (walked === 'filled') continue;
    if (walked === 'enter') {
      yield* call(loadRoot(vm, vcpu));
      continue;
    }
    const outcome = yield* call(tdpExit(vm, vcpu, walked));
    if (outcome === 'fixed') continue;
    if (outcome === 'async') {
      // kvm_arch_async_page_ready maps the page before the guest is told.
      const work = yield* call(waitAsyncPf(vm, vcpu));
      yield* call(tdpPageFault(vm, vcpu, { gfn: work.gfn, write: false, present: false, prefetch: true }));
      continue;
    }
    if (outcome !== 'emulate') return { exit: outcome };
    return yield* call(emulateAccess(vm, gfn, write));
  }
}

/** A fault whose entry says MMIO carries the generation that it was made for. */
interface Violation extends GuestFault {
  readonly mmio: number | null;
}

/** handle_ept_misconfig, handle_ept_violation */
function* tdpExit(vm: Vm, vcpu: Vcpu, fault: Violation): Steps<FaultOutcome> {
  if (fault.mmio !== null) {
    const space = vm.spaces[0]!;
    space.active.willRead(MMIO_CHECK);
    for (const set of space.sets) set.generation.willRead(MMIO_CHECK);
    yield vm.core.sim.local(MMIO_CHECK);
    // While an update is under way the generation carries a flag that no entry can have.
    const generation = space.current.generation.value;
    if (generation < GENERATION_UPDATE_IN_PROGRESS && generation % MMIO_GENERATIONS === fault.mmio) return 'emulate';
  }
  return yield* call(tdpPageFault(vm, vcpu, fault));
}

function* throughTlb(
  vm: Vm,
  vcpu: Vcpu,
  expected: GuestTlbEntry,
  gfn: number,
  write: { readonly token: number } | null,
  through: 'stage2' | 'guest-tlb',
): Steps<GuestResult | null> {
  const { frames, sim } = vm.core;
  const pfn = expected.pfnOf(gfn);
  vcpu.tlb.willRead(ACCESS);
  // The generation that counts is that of the leaf's first frame, for which the entry was made.
  frames.willCheck(expected.pfn, ACCESS);
  yield write === null ? frames.content.willRead(pfn, ACCESS) : frames.content.willWrite(pfn, ACCESS);
  // Kicked or flushed since: the instruction has not run yet.
  if (vcpu.reload.value || vcpu.lookup(gfn) !== expected) return null;
  if (write !== null) frames.content.set(pfn, write.token);
  const token = write === null ? frames.content.get(pfn) : write.token;
  const generation = frames.generationOf(expected.pfn);
  if (sim.hears(FRAME_ACCESS)) {
    sim.emit(FRAME_ACCESS, {
      pfn,
      write: write !== null,
      madeFor: expected.generation,
      generation,
      through,
      holder: vm.name,
      page: gfn,
      token,
    });
  }
  if (write !== null && sim.hears(PAGE_DIRTIED)) sim.emit(PAGE_DIRTIED, { pfn, token, by: 'guest' });
  if (write !== null && sim.hears(GUEST_WROTE)) sim.emit(GUEST_WROTE, { holder: vm.name, page: gfn, token });
  return { token };
}

/** The hardware walk of the second stage: sets accessed and dirty bits, fills the TLB. */
function* walk(vm: Vm, vcpu: Vcpu, gfn: number, write: boolean): Steps<'filled' | 'enter' | Violation> {
  // Only the vCPU's own thread changes its root.
  const root = vcpu.root.peek();
  if (root !== null) root.willUpdate(gfn, WALK);
  yield vcpu.tlb.willUpdate(WALK);
  if (vcpu.reload.value || root === null) return 'enter';
  const spte = root.read(gfn);
  if ((spte.bits & SPTE_MMIO) !== 0) return { gfn, write, present: false, mmio: spte.generation };
  const present = sptePresent(spte.bits);
  if (!present || (write && (spte.bits & SPTE_WRITE) === 0)) return { gfn, write, present, mmio: null };
  const bits = spte.bits | SPTE_ACCESSED | (write ? SPTE_DIRTY : 0);
  if (bits !== spte.bits) root.setBits(gfn, spte, bits);
  if (vm.pml && write && (spte.bits & SPTE_DIRTY) === 0 && !root.nested) {
    vcpu.pmlBuffer.value = [...vcpu.pmlBuffer.value, gfn];
  }
  vcpu.fill(
    new GuestTlbEntry({
      gfn: spte.large ? gfn - (gfn % PMD_PAGES) : gfn,
      pages: spte.large ? PMD_PAGES : 1,
      pfn: spte.pfn,
      // Only an entry that is dirty already may be written through without another walk.
      write: (bits & (SPTE_WRITE | SPTE_DIRTY)) === (SPTE_WRITE | SPTE_DIRTY),
      generation: spte.generation,
    }),
  );
  return 'filled';
}
