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

const WORDS: readonly (readonly [number, string])[] = [
  [PMD_INVALID, 'invalid'],
  [PMD_LEAF, 'huge'],
  [PTE_SPECIAL, 'special'],
  [PTE_PROTNONE, 'prot-none'],
  [PTE_UFFD_WP, 'uffd-wp'],
  [PTE_EXCLUSIVE, 'exclusive'],
];

/** What the entry names: `pfn 5`, `swap slot 7`, `table`. */
function target({ bits, pfn }: Pte): string {
  if ((bits & PTE_SWAP) !== 0) return `swap slot ${pfn}`;
  if ((bits & PTE_MIGRATION) !== 0) return `migration entry of pfn ${pfn}`;
  if ((bits & PTE_HWPOISON) !== 0) return `hwpoison entry of pfn ${pfn}`;
  if ((bits & PTE_MARKER) !== 0) return 'marker';
  return (bits & PMD_TABLE) !== 0 ? 'table' : `pfn ${pfn}`;
}

/** `huge rw dirty`; an entry that was not used since somebody looked is `old`. */
function attributes({ bits }: Pte): string[] {
  const words = WORDS.filter(([bit]) => (bits & bit) !== 0).map(([, word]) => word);
  if (ptePresent(bits) && (bits & PMD_TABLE) === 0) {
    words.push((bits & PTE_WRITE) !== 0 ? 'rw' : 'ro');
    if ((bits & PTE_YOUNG) === 0) words.push('old');
  }
  if ((bits & PTE_DIRTY) !== 0) words.push('dirty');
  return words;
}

/** `none -> pfn 5 rw dirty`; what an entry names is left out where it stays: `rw dirty -> ro dirty`. */
export function pteChangeText(was: Pte, is: Pte): string {
  const stays = was.bits !== 0 && is.bits !== 0 && target(was) === target(is);
  const words = (pte: Pte): string => {
    if (pte.bits === 0) return 'none';
    return [...(stays ? [] : [target(pte)]), ...attributes(pte)].join(' ');
  };
  const [before, after] = [words(was), words(is)];
  if (before !== after) return `${before} -> ${after}`;
  // Nearly every entry has the bit, so it is told only where it is the news (clear_refs).
  if (((was.bits ^ is.bits) & PTE_SOFT_DIRTY) === 0) return '';
  return (is.bits & PTE_SOFT_DIRTY) !== 0 ? '+soft-dirty' : '-soft-dirty';
}
