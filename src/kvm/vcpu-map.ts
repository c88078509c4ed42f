// kvm_vcpu_map, kvm_vcpu_unmap (virt/kvm/kvm_main.c): a kernel mapping of a guest page for as long as KVM likes (nested
// structures, SEV-ES communication blocks). No notifier takes it away: a reference keeps the page, since 6.13 a pin.
import { Cell } from '../engine/cell.ts';
import { hashText, mix } from '../engine/hash.ts';
import { call, type Steps } from '../engine/process.ts';
import { step } from '../engine/step.ts';
import { FRAME_ACCESS } from '../hw/frames.ts';
import type { Errno } from '../mm/errno.ts';
import { pinUserPagesFast } from '../mm/gup/gup-fast.ts';
import type { GupResult } from '../mm/gup/gup-flags.ts';
import { unpinUserPages } from '../mm/gup/unpin.ts';
import { PAGE_DIRTIED, REFERENCE_DROPPED, REFERENCE_TAKEN } from '../mm/ledger.ts';
import { PG_DIRTY } from '../mm/page-flags.ts';
import { markDirtyNow, willMarkDirty } from './dirty-bitmap.ts';
import { type FoundPfn, hvaToPfn, releasePfn } from './hva-to-pfn.ts';
import type { Vm } from './vm.ts';

const UNMAP = step('kvm_vcpu_unmap:hva', 'none');
const SLOT = step('kvm_vcpu_map:memslot', 'op');
const LEAVE = step('kvm_vcpu_map:srcu_read_unlock', 'none');
const USE = step('kvm_host_map:access', 'op');
const DIRTY = step('kvm_vcpu_unmap:mark_page_dirty', 'op');
const PAGE_DIRTY = step('kvm_vcpu_unmap:set_page_dirty', 'op');

/** struct kvm_host_map: held until `vcpuUnmap`. */
export interface HostMap {
  readonly identity: number;
  readonly gfn: number;
  readonly pfn: number;
  /** Generation of the frame when it was mapped. */
  readonly generation: number;
  readonly held: FoundPfn | GupResult;
  /** map->hva: kvm_vcpu_unmap clears it, and does nothing without. */
  readonly mapped: Cell<boolean>;
}

function owner(vm: Vm): string {
  return `kvm_vcpu_map ${vm.name}`;
}

/** kvm_vcpu_map. EINVAL: no memory there, or (since 6.13) memory without counted pages. */
export function* vcpuMap(vm: Vm, gfn: number): Steps<HostMap | Errno> {
  const { core } = vm;
  vm.spaces[0]!.active.willRead(SLOT);
  vm.srcu.readLock();
  yield core.sim.local(SLOT);
  vm.srcu.enter();
  const slot = vm.spaces[0]!.current.peekGfn(gfn);
  let result: HostMap | Errno = 'EINVAL';
  if (slot !== undefined && !slot.invalid && !slot.readOnly) {
    const vpn = slot.vpnOf(gfn);
    if (core.kernel.has('kvm.vcpu-map-pins')) {
      const pinned = yield* call(pinUserPagesFast(core, vpn, 1, { owner: owner(vm), write: true }));
      const pfn = pinned.runs[0]?.pfn;
      if (pfn !== undefined) result = mapOf(vm, gfn, pfn, core.frames.peekGeneration(pfn), pinned);
    } else {
      const request = { owner: owner(vm), write: true, wantsWritable: false };
      const found = yield* call(hvaToPfn(core, vm.mm, vpn, request));
      if (typeof found !== 'string') result = mapOf(vm, gfn, found.pfn, found.generation, found);
    }
  }
  vm.srcu.readUnlock();
  yield typeof result === 'string' ? core.sim.local(LEAVE) : vm.hostMaps.willUpdate(LEAVE);
  vm.srcu.leave();
  if (typeof result === 'string') return result;
  vm.hostMaps.value = [...vm.hostMaps.value, result];
  tellReference(vm, result, REFERENCE_TAKEN);
  return result;
}

/** The ledger hears of pins from GUP itself. */
function tellReference(vm: Vm, { held, pfn }: HostMap, what: typeof REFERENCE_TAKEN): void {
  const { sim } = vm.core;
  if ('runs' in held || !held.counted || !sim.hears(what)) return;
  sim.emit(what, { runs: [{ pfn, pages: 1 }], owner: owner(vm) });
}

function mapOf(vm: Vm, gfn: number, pfn: number, generation: number, held: FoundPfn | GupResult): HostMap {
  const { sim } = vm.core;
  const name = `host map of gfn ${gfn} by ${sim.current?.name ?? 'set-up'}`;
  return { identity: mix(hashText(name), pfn), gfn, pfn, generation, held, mapped: new Cell<boolean>(sim, name, true) };
}

/** KVM reads (null) or writes the page through its mapping. */
export function* hostMapAccess(vm: Vm, map: HostMap, write: { readonly token: number } | null): Steps<number> {
  const { sim, frames } = vm.core;
  const { pfn, gfn } = map;
  frames.willCheck(pfn, USE);
  yield write === null ? frames.content.willRead(pfn, USE) : frames.content.willWrite(pfn, USE);
  if (write !== null) frames.content.set(pfn, write.token);
  const token = write === null ? frames.content.get(pfn) : write.token;
  const generation = frames.generationOf(pfn);
  if (sim.hears(FRAME_ACCESS)) {
    const holder = owner(vm);
    const madeFor = map.generation;
    sim.emit(FRAME_ACCESS, {
      pfn,
      write: write !== null,
      madeFor,
      generation,
      through: 'kernel',
      holder,
      page: gfn,
      token,
    });
  }
  if (write !== null && sim.hears(PAGE_DIRTIED)) sim.emit(PAGE_DIRTIED, { pfn, token, by: 'kernel' });
  return token;
}

/** kvm_vcpu_unmap: `dirty` marks both the guest frame and the page. */
export function* vcpuUnmap(vm: Vm, map: HostMap, dirty: boolean): Steps<void> {
  const { core } = vm;
  vm.hostMaps.willUpdate(UNMAP);
  yield map.mapped.willUpdate(UNMAP);
  if (!map.mapped.value) return;
  map.mapped.value = false;
  vm.hostMaps.value = vm.hostMaps.value.filter((other) => other !== map);
  if (dirty) {
    vm.spaces[0]!.active.willRead(SLOT);
    vm.srcu.readLock();
    yield core.sim.local(SLOT);
    vm.srcu.enter();
    const slot = vm.spaces[0]!.current.peekGfn(map.gfn);
    const announced = slot === undefined ? null : willMarkDirty(slot, map.gfn, DIRTY);
    if (announced !== null) {
      yield announced;
      markDirtyNow(slot!, map.gfn);
    }
    vm.srcu.readUnlock();
    yield core.sim.local(LEAVE);
    vm.srcu.leave();
    if (core.machine.hasStructPage(map.pfn)) {
      const head = core.folios.headOf(map.pfn);
      yield core.folios.flags.willUpdate(head, PAGE_DIRTY);
      core.folios.change(head, PG_DIRTY);
    }
  }
  const { held } = map;
  if ('runs' in held) yield* call(unpinUserPages(core, held.runs, { owner: owner(vm) }));
  else yield* call(releasePfn(core, held));
  tellReference(vm, map, REFERENCE_DROPPED);
}
