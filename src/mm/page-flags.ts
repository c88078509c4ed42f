// Page flags that decide outcomes (include/linux/page-flags.h). AnonExclusive lives in a column of its own: it is a
// property of each page, not of the folio.

export const PG_LOCKED = 1 << 0;
export const PG_REFERENCED = 1 << 1;
export const PG_UPTODATE = 1 << 2;
export const PG_DIRTY = 1 << 3;
/** On an LRU list: the isolation token (test-and-clear wins isolation). */
export const PG_LRU = 1 << 4;
export const PG_ACTIVE = 1 << 5;
export const PG_WRITEBACK = 1 << 6;
/** Rotate when writeback ends. */
export const PG_RECLAIM = 1 << 7;
/** Anon or shmem; anon without it is lazyfree (MADV_FREE). */
export const PG_SWAPBACKED = 1 << 8;
export const PG_UNEVICTABLE = 1 << 9;
export const PG_MLOCKED = 1 << 10;
export const PG_SWAPCACHE = 1 << 11;
/** Filesystem metadata hangs on the folio (buffer heads): one reference. */
export const PG_PRIVATE = 1 << 12;
export const PG_HWPOISON = 1 << 13;
/** Never freed, never counted by VFIO: zero page, firmware, kernel image. */
export const PG_RESERVED = 1 << 14;
/** PAGE_MAPPING_ANON: `mapping` is an anon_vma. */
export const PG_ANON = 1 << 15;
/** PAGE_MAPPING_KSM: shared by merging. */
export const PG_KSM = 1 << 16;
export const PG_HUGETLB = 1 << 17;
/** Isolated by reclaim, compaction or migration (PG_isolated of the LRU: lru clear and a reference held). */
export const PG_ISOLATED = 1 << 18;
/** On the deferred split queue: partially unmapped THP. */
export const PG_PARTIALLY_MAPPED = 1 << 19;
export const PG_WORKINGSET = 1 << 20;
/** In a per-CPU LRU batch: the batch holds a reference. */
export const PG_IN_LRU_BATCH = 1 << 21;
/** On a list of the two youngest generations of the multi-gen LRU: active in all but its flag. */
export const PG_LRU_YOUNG = 1 << 22;
/** PG_error: on a dirty page that had a memory error, in kernels that have the flag. */
export const PG_ERROR = 1 << 23;
/** HPG_temporary: a hugetlb page that does not belong to its pool, and goes back to its zone when it is freed. */
export const PG_HUGETLB_TEMPORARY = 1 << 24;
/** HPG_restore_reserve: the hugetlb page came out of a reservation, which is there again when it is freed. */
export const PG_RESTORE_RESERVE = 1 << 25;

const NAMES: readonly (readonly [number, string])[] = [
  [PG_LOCKED, 'LOCKED'],
  [PG_ERROR, 'ERROR'],
  [PG_REFERENCED, 'REFERENCED'],
  [PG_UPTODATE, 'UPTODATE'],
  [PG_DIRTY, 'DIRTY'],
  [PG_LRU, 'LRU'],
  [PG_ACTIVE, 'ACTIVE'],
  [PG_WRITEBACK, 'WRITEBACK'],
  [PG_RECLAIM, 'RECLAIM'],
  [PG_SWAPBACKED, 'SWAPBACKED'],
  [PG_UNEVICTABLE, 'UNEVICTABLE'],
  [PG_MLOCKED, 'MLOCKED'],
  [PG_SWAPCACHE, 'SWAPCACHE'],
  [PG_PRIVATE, 'PRIVATE'],
  [PG_HWPOISON, 'HWPOISON'],
  [PG_RESERVED, 'RESERVED'],
  [PG_ANON, 'ANON'],
  [PG_KSM, 'KSM'],
  [PG_HUGETLB, 'HUGETLB'],
  [PG_ISOLATED, 'ISOLATED'],
  [PG_PARTIALLY_MAPPED, 'PARTIALLY_MAPPED'],
  [PG_WORKINGSET, 'WORKINGSET'],
  [PG_IN_LRU_BATCH, 'IN_LRU_BATCH'],
  [PG_LRU_YOUNG, 'LRU_YOUNG'],
  [PG_HUGETLB_TEMPORARY, 'HUGETLB_TEMPORARY'],
  [PG_RESTORE_RESERVE, 'RESTORE_RESERVE'],
];

/** `+LOCKED -LRU`. */
export function flagChangeText(was: number, is: number): string {
  const set = flagNames(is & ~was).map((name) => `+${name}`);
  const cleared = flagNames(was & ~is).map((name) => `-${name}`);
  return [...set, ...cleared].join(' ');
}

/** The names of the set flags, for reports. */
export function flagNames(flags: number): string[] {
  return NAMES.filter(([bit]) => (flags & bit) !== 0).map(([, name]) => name);
}
