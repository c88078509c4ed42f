// Emulating one access that has no second-stage mapping (arch/x86/kvm/x86.c emulator_read_write): through the host
// mapping when there is a memslot by now, else an MMIO exit to the VMM.
import { call, type Steps } from '../engine/process.ts';
import { step } from '../engine/step.ts';
import { cpuAccess } from '../mm/access.ts';
import { markDirtyNow, willMarkDirty } from './dirty-bitmap.ts';
import type { Vm } from './vm.ts';

const SLOT = step('emulator_read_write:memslot', 'op');
const DIRTY = step('kvm_write_guest_page:mark_page_dirty', 'op');
const LEAVE = step('emulator_read_write:srcu_read_unlock', 'none');

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
