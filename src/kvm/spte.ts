// Second-stage page table entries (arch/x86/kvm/mmu/spte.h): A/D bits are enabled, W is hardware's, MMU-writable says
// that KVM itself may set W again without the host's page tables (a page write-protected for dirty logging).

export const SPTE_PRESENT = 1 << 0;
export const SPTE_WRITE = 1 << 1;
/** The host maps it writable. */
export const SPTE_HOST_WRITABLE = 1 << 2;
export const SPTE_MMU_WRITABLE = 1 << 3;
export const SPTE_ACCESSED = 1 << 4;
export const SPTE_DIRTY = 1 << 5;
/** Not present; the generation column holds the memslot generation that it was made for. */
export const SPTE_MMIO = 1 << 6;
/** 2 MiB entry that points to a table. */
export const SPTE_TABLE = 1 << 7;
/** 2 MiB entry that maps memory. */
export const SPTE_LARGE = 1 << 8;

/** A decoded leaf, or what is there instead. */
export interface Spte {
  readonly bits: number;
  readonly pfn: number;
  /** Generation of the frame that it was made for. */
  readonly generation: number;
  /** 2 MiB leaf. */
  readonly large: boolean;
  /** A table hangs at the 2 MiB level above the entry (or is the entry). */
  readonly table: boolean;
}

export function sptePresent(bits: number): boolean {
  return (bits & SPTE_PRESENT) !== 0;
}

/** Bits of a new leaf (make_spte): accessed at once, dirty as soon as it is writable. */
export function newLeafBits(hostWritable: boolean, large: boolean): number {
  const write = hostWritable ? SPTE_WRITE | SPTE_HOST_WRITABLE | SPTE_MMU_WRITABLE | SPTE_DIRTY : 0;
  return SPTE_PRESENT | SPTE_ACCESSED | write | (large ? SPTE_LARGE : 0);
}

/** `pfn 5 rw dirty 2M` */
export function spteText(spte: Spte): string {
  if ((spte.bits & SPTE_MMIO) !== 0) return `MMIO of generation ${spte.generation}`;
  if ((spte.bits & SPTE_TABLE) !== 0) return 'table';
  if (!sptePresent(spte.bits)) return 'none';
  const words = [`pfn ${spte.pfn}`, (spte.bits & SPTE_WRITE) !== 0 ? 'rw' : 'ro'];
  if ((spte.bits & SPTE_DIRTY) !== 0) words.push('dirty');
  if (spte.large) words.push('2M');
  return words.join(' ');
}

/** `none -> pfn 5 rw dirty`; the frame is left out where it stays. */
export function spteChangeText(was: Spte, is: Spte): string {
  const frame = `pfn ${was.pfn} `;
  let [before, after] = [spteText(was), spteText(is)];
  if (before === after) return '';
  if (before.startsWith(frame) && after.startsWith(frame)) {
    before = before.slice(frame.length);
    after = after.slice(frame.length);
  }
  return `${before} -> ${after}`;
}
