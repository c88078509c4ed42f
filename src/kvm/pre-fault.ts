// KVM_PRE_FAULT_MEMORY (virt/kvm/kvm_main.c kvm_vcpu_pre_fault_memory, arch/x86/kvm/mmu/mmu.c kvm_tdp_map_page): map guest
// memory for a vCPU before it touches it, as read faults would.
import { call, type Steps } from '../engine/process.ts';
import { step } from '../engine/step.ts';
import { PMD_PAGES } from '../hw/machine.ts';
import type { Errno } from '../mm/errno.ts';
import { tdpPageFault } from './page-fault.ts';
import { loadRoot } from './root-load.ts';
import { sptePresent } from './spte.ts';
import type { Vcpu } from './vcpu.ts';
import type { Vm } from './vm.ts';

const RELOAD = step('kvm_arch_vcpu_pre_fault_memory:reload', 'op');
const LEVEL = step('kvm_tdp_map_page:level', 'op');
const SIGNAL = step('kvm_vcpu_pre_fault_memory:signal_pending', 'none');

export interface PreFault {
  /** Bytes. */
  readonly gpa: bigint;
  readonly size: bigint;
  readonly flags: number;
}

/** What is left to map, in bytes; an errno only when nothing was mapped. */
export type PreFaulted = { readonly gpa: bigint; readonly size: bigint; readonly errno?: Errno };

/**
 * Map `request` page by page until it is done or a page refuses. ENOTTY: the kernel has no such call (before 6.11);
 * EINVAL: flags, alignment, size; ENOENT: no memslot; EFAULT: no memory behind one; EINTR: killed.
 */
export function* preFaultMemory(vm: Vm, vcpu: Vcpu, request: PreFault): Steps<PreFaulted> {
  let { gpa, size } = request;
  if (!vm.core.kernel.has('kvm.pre-fault-memory')) return { gpa, size, errno: 'ENOTTY' };
  const end = gpa + size;
  if (request.flags !== 0 || gpa % 4096n !== 0n || size % 4096n !== 0n || end <= gpa || end >= 2n ** 64n) {
    return { gpa, size, errno: 'EINVAL' };
  }
  const { killed } = vm.core.current.task;
  let errno: Errno | undefined;
  while (size > 0n) {
    yield killed.willRead(SIGNAL);
    const mapped = killed.value ? 'EINTR' : yield* call(mapPage(vm, vcpu, Number(gpa / 4096n)));
    if (typeof mapped === 'string') {
      errno = mapped;
      break;
    }
    const bytes = BigInt(mapped) * 4096n;
    const done = bytes < size ? bytes : size;
    gpa += done;
    size -= done;
  }
  return errno !== undefined && size === request.size ? { gpa, size, errno } : { gpa, size };
}

/** kvm_tdp_map_page: pages mapped from `gfn` to the end of its entry. */
function* mapPage(vm: Vm, vcpu: Vcpu, gfn: number): Steps<number | Errno> {
  for (;;) {
    // Only this thread changes the vCPU's root; whether another is wanted shows in the act.
    yield vcpu.tlb.willRead(RELOAD);
    if (vcpu.reload.value || vcpu.root.value === null) yield* call(loadRoot(vm, vcpu));
    const outcome = yield* call(tdpPageFault(vm, vcpu, { gfn, write: false, present: false, prefetch: true }));
    if (outcome === 'emulate') return 'ENOENT';
    if (outcome === 'EINTR' || outcome === 'EFAULT') return outcome;
    if (outcome !== 'fixed') return 'EINTR';
    const root = vcpu.root.peek()!;
    yield root.willRead(gfn, LEVEL);
    const spte = root.read(gfn);
    if (sptePresent(spte.bits)) return spte.large ? PMD_PAGES - (gfn % PMD_PAGES) : 1;
  }
}
