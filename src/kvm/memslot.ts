// Memslots (include/linux/kvm_host.h struct kvm_memory_slot, struct kvm_memslots). A slot is immutable once it can be
// seen; two sets per address space, of which one is active. Addresses in pages.
import { Cell } from '../engine/cell.ts';
import type { Column } from '../engine/column.ts';
import { hashText, mix } from '../engine/hash.ts';
import type { Sim } from '../engine/sim.ts';
import { PMD_PAGES } from '../hw/machine.ts';
import type { Kernel } from '../kernel/kernel.ts';
import type { GuestMemfd } from './gmem-file.ts';

export const KVM_MEM_LOG_DIRTY_PAGES = 1 << 0;
export const KVM_MEM_READONLY = 1 << 1;
export const KVM_MEM_GUEST_MEMFD = 1 << 2;
/** Internal: being deleted or moved. */
export const KVM_MEMSLOT_INVALID = 1 << 16;

/** User slots of an address space on x86 (KVM_CAP_NR_MEMSLOTS). */
export function userMemSlots(kernel: Kernel): number {
  return kernel.way('kvm.user-memslots') === 'five-hundred' ? 509 : 32764;
}

/** Set in a generation while an update waits for its readers (bit 63 of the kernel's counter). */
export const GENERATION_UPDATE_IN_PROGRESS = 2 ** 52;

export interface MemslotFields {
  readonly id: number;
  readonly asId: number;
  /** First guest frame, host page, and length. */
  readonly baseGfn: number;
  readonly vpn: number;
  readonly pages: number;
  readonly flags: number;
  /** One row per page, 1 = dirty; null while not logging. */
  readonly dirtyBitmap: Column | null;
  /** slot->gmem: what private frames are behind, from this index of the file on. */
  readonly gmem?: { readonly memfd: GuestMemfd; readonly start: number };
}

export class Memslot {
  readonly fields: MemslotFields;
  readonly identity: number;

  constructor(fields: MemslotFields) {
    this.fields = fields;
    let h = mix(fields.id, fields.asId);
    h = mix(mix(h, fields.baseGfn | 0), mix(fields.vpn | 0, fields.pages | 0));
    if (fields.gmem !== undefined) h = mix(mix(h, fields.gmem.memfd.identity), fields.gmem.start);
    this.identity = mix(mix(h, fields.flags), hashText(fields.dirtyBitmap?.name ?? ''));
  }

  with(changes: Partial<MemslotFields>): Memslot {
    return new Memslot({ ...this.fields, ...changes });
  }

  get id(): number {
    return this.fields.id;
  }

  get baseGfn(): number {
    return this.fields.baseGfn;
  }

  get pages(): number {
    return this.fields.pages;
  }

  get endGfn(): number {
    return this.fields.baseGfn + this.fields.pages;
  }

  get invalid(): boolean {
    return (this.fields.flags & KVM_MEMSLOT_INVALID) !== 0;
  }

  get readOnly(): boolean {
    return (this.fields.flags & KVM_MEM_READONLY) !== 0;
  }

  get logsDirty(): boolean {
    return (this.fields.flags & KVM_MEM_LOG_DIRTY_PAGES) !== 0;
  }

  contains(gfn: number): boolean {
    return gfn >= this.fields.baseGfn && gfn < this.fields.baseGfn + this.fields.pages;
  }

  /** __gfn_to_hva_memslot, in pages. */
  vpnOf(gfn: number): number {
    return this.fields.vpn + (gfn - this.fields.baseGfn);
  }

  /** hva_to_gfn_memslot */
  gfnOf(vpn: number): number {
    return this.fields.baseGfn + (vpn - this.fields.vpn);
  }

  /**
   * lpage_info: may 2 MiB around `gfn` be one entry? Not where the slot begins or ends inside, nor where guest and host
   * addresses are aligned differently.
   */
  allowsLarge(gfn: number): boolean {
    const { baseGfn, vpn, pages } = this.fields;
    if ((vpn - baseGfn) % PMD_PAGES !== 0) return false;
    const start = gfn - (gfn % PMD_PAGES);
    return start >= baseGfn && start + PMD_PAGES <= baseGfn + pages;
  }
}

/** What most notifier windows hit. */
const NONE: Memslot[] = [];

/** struct kvm_memslots. Readers of the active set are in an SRCU section, so that its contents stand. */
export class MemslotSet {
  readonly name: string;
  readonly identity: number;
  /** By first guest frame. */
  readonly slots: Cell<readonly Memslot[]>;
  readonly generation: Cell<number>;

  constructor(sim: Sim, name: string, generation: number) {
    this.name = name;
    this.identity = hashText(name);
    this.slots = new Cell<readonly Memslot[]>(sim, `slots of ${name}`, []);
    this.generation = new Cell(sim, `generation of ${name}`, generation);
  }

  /** __gfn_to_memslot. Looks without a step: the caller is in an SRCU section, or holds slots_lock. */
  peekGfn(gfn: number): Memslot | undefined {
    const slots = this.slots.peek();
    let low = 0;
    let high = slots.length - 1;
    while (low <= high) {
      const middle = (low + high) >> 1;
      const slot = slots[middle]!;
      if (gfn < slot.baseGfn) high = middle - 1;
      else if (gfn >= slot.endGfn) low = middle + 1;
      else return slot;
    }
    return undefined;
  }

  /** id_to_memslot, under slots_lock. */
  peekId(id: number): Memslot | undefined {
    return this.slots.peek().find((slot) => slot.id === id);
  }

  /** Slots whose host addresses meet [from, to), ascending by address. In an SRCU section. */
  peekHva(from: number, to: number): readonly Memslot[] {
    let found: Memslot[] = NONE;
    for (const slot of this.slots.peek()) {
      const { vpn, pages } = slot.fields;
      if (vpn >= to || vpn + pages <= from) continue;
      if (found === NONE) found = [slot];
      else found.push(slot);
    }
    return found.length < 2 ? found : found.sort((a, b) => a.fields.vpn - b.fields.vpn || a.id - b.id);
  }

  /** kvm_replace_memslot: `old` out, `now` in. The set is not active. */
  replace(old: Memslot | null, now: Memslot | null): void {
    const kept = this.slots.value.filter((slot) => old === null || slot.id !== old.id);
    if (now !== null) kept.push(now);
    this.slots.value = kept.sort((a, b) => a.baseGfn - b.baseGfn);
  }
}

/** One address space: two sets, and which is active. */
export class AddressSpace {
  readonly asId: number;
  readonly sets: readonly [MemslotSet, MemslotSet];
  /** Index of the active set: rcu_dereference(kvm->memslots[as_id]). */
  readonly active: Cell<number>;

  constructor(sim: Sim, vmName: string, asId: number) {
    this.asId = asId;
    const set = (which: string) => new MemslotSet(sim, `memslots ${asId}${which} of ${vmName}`, asId);
    this.sets = [set('a'), set('b')];
    this.active = new Cell(sim, `active memslots ${asId} of ${vmName}`, 0);
  }

  /** In a step that announced `active`. */
  get current(): MemslotSet {
    return this.sets[this.active.value]!;
  }

  /** Under slots_lock, which orders updates. */
  get peekCurrent(): MemslotSet {
    return this.sets[this.active.peek()]!;
  }

  get peekOther(): MemslotSet {
    return this.sets[1 - this.active.peek()]!;
  }
}
