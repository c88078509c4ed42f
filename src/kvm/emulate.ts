// Emulating one access that has no second-stage mapping (arch/x86/kvm/x86.c emulator_read_write): through the host
// mapping when there is a memslot by now, else an MMIO exit to the VMM.
import { call, type Steps } from '../engine/process.ts';
import { step } from '../engine/step.ts';
import { cpuAccess } from '../mm/fault/access.ts';
import { GUEST_WROTE } from '../mm/ledger.ts';
import { markDirtyNow, willMarkDirty } from './dirty-bitmap.ts';
import type { Memslot } from './memslot.ts';
import type { Vm } from './vm.ts';

const SLOT = step('emulator_read_write:memslot', 'op');
const DIRTY = step('kvm_write_guest_page:mark_page_dirty', 'op');
const LEAVE = step('emulator_read_write:srcu_read_unlock', 'none');

function tellWrite(vm: Vm, slot: Memslot, gfn: number, token: number): void {
  const { sim } = vm.core;
  if (sim.hears(GUEST_WROTE)) sim.emit(GUEST_WROTE, { holder: vm.name, page: gfn, token, logs: slot.logsDirty });
}

export type EmulatedAccess = { readonly token: number } | { readonly exit: 'MMIO' };

/** One emulated access to guest frame `gfn`. */
export function* emulateAccess(vm: Vm, gfn: number, write: { readonly token: number } | null): Steps<EmulatedAccess> {
  const space = vm.spaces[0]!;
  space.active.willRead(SLOT);
  vm.srcu.readLock();
  yield vm.core.sim.local(SLOT);
  vm.srcu.enter();
  const slot = space.current.peekGfn(gfn);
  let result: EmulatedAccess;
  if (slot === undefined || slot.invalid || (write !== null && slot.readOnly)) {
    result = { exit: 'MMIO' };
  } else {
    // kvm_read_guest_page, kvm_write_guest_page: copy_from_user, copy_to_user. A fault there falls back to MMIO.
    const done = yield* call(cpuAccess(vm.core, slot.vpnOf(gfn), write));
    result = 'token' in done ? done : { exit: 'MMIO' };
    if ('token' in done && write !== null) {
      tellWrite(vm, slot, gfn, write.token);
      const announced = willMarkDirty(slot, gfn, DIRTY);
      if (announced !== null) {
        yield announced;
        markDirtyNow(slot, gfn);
      }
    }
  }
  vm.srcu.readUnlock();
  yield vm.core.sim.local(LEAVE);
  vm.srcu.leave();
  return result;
}

/**
 * emulator_cmpxchg_emulated: a locked compare-and-exchange that KVM does for the guest through the host mapping. Returns
 * what was there. The read and the write are two accesses here: a CPU that writes in between is not kept out.
 */
export function* emulateCmpxchg(vm: Vm, gfn: number, expected: number, token: number): Steps<EmulatedAccess> {
  const space = vm.spaces[0]!;
  space.active.willRead(SLOT);
  vm.srcu.readLock();
  yield vm.core.sim.local(SLOT);
  vm.srcu.enter();
  const slot = space.current.peekGfn(gfn);
  let result: EmulatedAccess = { exit: 'MMIO' };
  if (slot !== undefined && !slot.invalid && !slot.readOnly) {
    const vpn = slot.vpnOf(gfn);
    const old = yield* call(cpuAccess(vm.core, vpn, null));
    if ('token' in old) {
      result = old;
      if (old.token === expected) {
        const done = yield* call(cpuAccess(vm.core, vpn, { token }));
        if ('token' in done) tellWrite(vm, slot, gfn, token);
      }
      // Attempted without a fault is enough: the comparison may have failed.
      const marks = vm.core.kernel.has('kvm.dirty-log-emulated-cmpxchg');
      const announced = marks ? willMarkDirty(slot, gfn, DIRTY) : null;
      if (announced !== null) {
        yield announced;
        markDirtyNow(slot, gfn);
      }
    }
  }
  vm.srcu.readUnlock();
  yield vm.core.sim.local(LEAVE);
  vm.srcu.leave();
  return result;
}
