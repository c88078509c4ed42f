// How an IO page table entry is kept in numbers: permissions, table or leaf, size, and the generation of the frames it
// was made for; and where in the columns an IO virtual address has its entries.
import type { Frames } from './frames.ts';

export const IO_READ = 1;
export const IO_WRITE = 2;
/** The entry points to a table of the next level. */
export const TABLE = 4;
/** The frames of a large leaf differ in generation: the rows of the lowest level below the leaf hold them. */
export const MIXED = 8;
export const ORDER_SHIFT = 4;
export const GENERATION_SHIFT = 10;
const GENERATION_MASK = 2 ** 22 - 1;

export const LEVELS = 4;
export const ENTRIES = 512;
/** IO virtual addresses are kept in two windows: the lowest 2^51 bytes, and the highest 2^51 bytes of 64 bits. */
export const WINDOW_PAGES = 2 ** 39;
const SPACE_PAGES = 2 ** 52;

/** A leaf as a walk finds it. */
export interface IoLeaf {
  /** First page that it translates, and how many. */
  readonly page: number;
  readonly pages: number;
  readonly order: number;
  /** Frame of its first page. */
  readonly pfn: number;
  readonly prot: number;
  /** Its frames do not share one generation. */
  readonly mixed: boolean;
}

export type IoEntry =
  | { readonly kind: 'none' }
  | { readonly kind: 'table' }
  | { readonly kind: 'leaf'; readonly leaf: IoLeaf };

export const NO_ENTRY: IoEntry = { kind: 'none' };
export const TABLE_ENTRY: IoEntry = { kind: 'table' };

const SPANS = [1, ENTRIES, ENTRIES ** 2, ENTRIES ** 3] as const;

/** Pages that one entry of `level` spans: 1, 512, 2^18, 2^27. */
export function ioSpan(level: number): number {
  return SPANS[level]!;
}

/** The level that holds leaves of 2^order pages. */
export function ioLevelOf(order: number): number {
  return Math.floor(order / 9);
}

/** The generation that all frames of a run share, or undefined. Looks: whoever maps frames keeps them from going. */
export function uniformGeneration(frames: Frames, pfn: number, pages: number): number | undefined {
  const last = pfn + pages - 1;
  const first = frames.peekGeneration(pfn);
  for (let at = pfn; at <= last; ) {
    if (at !== pfn && frames.peekGeneration(at) !== first) return undefined;
    const end = frames.endOfGeneration(at, last);
    if (end < last && (end + 1) % ENTRIES !== 0) return undefined;
    at = end + 1;
  }
  return first;
}

export function tagged(generation: number): number {
  return (generation & GENERATION_MASK) << GENERATION_SHIFT;
}

/** Generations are compared as far as entries can hold them. */
export function sameGeneration(madeFor: number, now: number): boolean {
  return madeFor === (now & GENERATION_MASK);
}

/** `pfn 5 rw`, `pfn 512 r 2M`, `table`, `none`; the page of a size between two levels is told apart by its frame. */
export function ioEntryText(bits: number, pfn: number): string {
  if ((bits & TABLE) !== 0) return 'table';
  if ((bits & (IO_READ | IO_WRITE)) === 0) return 'none';
  const rights = `${(bits & IO_READ) !== 0 ? 'r' : ''}${(bits & IO_WRITE) !== 0 ? 'w' : ''}`;
  const order = (bits >> ORDER_SHIFT) & 63;
  return `pfn ${pfn} ${rights}${order === 0 ? '' : ` ${sizeText(order)}`}`;
}

/** `8K`, `2M`, `1G`: the size of a leaf of 2^order pages. */
function sizeText(order: number): string {
  const kib = 4 * 2 ** order;
  if (kib >= 2 ** 20) return `${kib / 2 ** 20}G`;
  return kib >= 2 ** 10 ? `${kib / 2 ** 10}M` : `${kib}K`;
}

/** A leaf of one page. */
export function smallLeaf(bits: number): boolean {
  return (bits & 3) !== 0 && ((bits >> ORDER_SHIFT) & 63) === 0;
}

export function rowAt(row: number, level: number): number {
  return level === 0 ? row : Math.floor(row / SPANS[level]!);
}

/** Do tables hold this page? Between the two windows nothing can be mapped, and so nothing is. */
export function inWindows(page: number): boolean {
  return page < WINDOW_PAGES || page - SPACE_PAGES + 2 * WINDOW_PAGES >= WINDOW_PAGES;
}

export function rowOf(page: number): number {
  if (page < WINDOW_PAGES) return page;
  if (inWindows(page)) return page - SPACE_PAGES + 2 * WINDOW_PAGES;
  throw new Error(`IOVA 0x${(page * 4096).toString(16)} lies between 2^51 and 2^64 - 2^51, which is not modelled`);
}

export function pageOf(row: number): number {
  return row < WINDOW_PAGES ? row : row + SPACE_PAGES - 2 * WINDOW_PAGES;
}
