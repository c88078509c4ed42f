// Page table entries. Three numbers per entry: frame (or swap slot), bits, and the generation of the frame that the
// entry was made for. One object per entry.

export const PTE_PRESENT = 1 << 0;
export const PTE_WRITE = 1 << 1;
export const PTE_DIRTY = 1 << 2;
export const PTE_YOUNG = 1 << 3;
/** pte_special: zero page and raw pfns without a counted struct page. */
export const PTE_SPECIAL = 1 << 4;
export const PTE_PROTNONE = 1 << 5;
export const PTE_UFFD_WP = 1 << 6;
export const PTE_SOFT_DIRTY = 1 << 7;
/** Not present: swap entry (frame = slot). */
export const PTE_SWAP = 1 << 8;
/** Not present: migration entry (frame = old pfn); WRITE and EXCLUSIVE tell the kind. */
export const PTE_MIGRATION = 1 << 9;
/** Not present: the page is poisoned. */
export const PTE_HWPOISON = 1 << 10;
/** Swap or migration entry of an exclusive anon page. */
export const PTE_EXCLUSIVE = 1 << 11;
/** Not present: uffd marker without a page. */
export const PTE_MARKER = 1 << 12;
/** pte_devmap: a device-dax or fsdax page, refcounted through its dev_pagemap. */
export const PTE_DEVMAP = 1 << 13;
/** PMD entry: points to a PTE table. */
export const PMD_TABLE = 1 << 14;
/** PMD entry: maps a huge page itself. Comes with PTE_PRESENT, or with PTE_MIGRATION. */
export const PMD_LEAF = 1 << 15;
/** PMD entry: invalidated for a moment during a split (pmdp_invalidate). */
export const PMD_INVALID = 1 << 16;

/** A decoded entry. */
export interface Pte {
  readonly pfn: number;
  readonly bits: number;
  readonly generation: number;
}

export const PTE_NONE: Pte = { pfn: 0, bits: 0, generation: 0 };

export function ptePresent(bits: number): boolean {
  return (bits & (PTE_PRESENT | PTE_PROTNONE)) !== 0;
}

export function pteNone(bits: number): boolean {
  return bits === 0;
}

/** pte_same. An empty PMD entry keeps the number of its last table, which is not part of its value. */
export function pteSame(a: Pte, b: Pte): boolean {
  return a.bits === b.bits && (a.bits === 0 || a.pfn === b.pfn);
}

/** `pfn 5 rw dirty` */
export function pteText(pte: Pte): string {
  if (pte.bits === 0) return 'none';
  const words: string[] = [];
  if ((pte.bits & PTE_SWAP) !== 0) words.push(`swap slot ${pte.pfn}`);
  else if ((pte.bits & PTE_MIGRATION) !== 0) words.push(`migration entry of pfn ${pte.pfn}`);
  else if ((pte.bits & PTE_HWPOISON) !== 0) words.push(`hwpoison entry of pfn ${pte.pfn}`);
  else if ((pte.bits & PMD_TABLE) !== 0) words.push('table');
  else words.push(`pfn ${pte.pfn}`);
  if (ptePresent(pte.bits)) words.push((pte.bits & PTE_WRITE) !== 0 ? 'rw' : 'ro');
  if ((pte.bits & PTE_DIRTY) !== 0) words.push('dirty');
  if ((pte.bits & PTE_EXCLUSIVE) !== 0) words.push('exclusive');
  return words.join(' ');
}
