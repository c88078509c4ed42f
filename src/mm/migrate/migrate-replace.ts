// Replacing one folio by another in its page cache or the swap cache (mm/migrate.c folio_migrate_mapping,
// folio_migrate_flags): the reference count must be exactly what is known, else somebody else holds the folio.
import type { Announced, Step } from '../../engine/step.ts';
import type { CoreMm } from '../core.ts';
import { leftFile, willLeaveFile } from '../file/leave-file.ts';
import { StableNode } from '../ksm/ksm-stable-node.ts';
import {
  PG_ACTIVE,
  PG_ANON,
  PG_DIRTY,
  PG_HUGETLB_TEMPORARY,
  PG_KSM,
  PG_MLOCKED,
  PG_PARTIALLY_MAPPED,
  PG_PRIVATE,
  PG_REFERENCED,
  PG_SWAPBACKED,
  PG_SWAPCACHE,
  PG_UNEVICTABLE,
  PG_UPTODATE,
  PG_WORKINGSET,
} from '../page-flags.ts';

/** What folio_migrate_flags carries over. */
const CARRIED =
  PG_UPTODATE |
  PG_REFERENCED |
  PG_ACTIVE |
  PG_UNEVICTABLE |
  PG_MLOCKED |
  PG_WORKINGSET |
  PG_DIRTY |
  PG_SWAPBACKED |
  PG_ANON |
  PG_KSM |
  PG_SWAPCACHE |
  PG_PRIVATE |
  PG_PARTIALLY_MAPPED;

/** Does the folio lie in a page cache or the swap cache (folio_mapping)? The folio is locked. */
function inCache(core: CoreMm, head: number): boolean {
  return core.folios.has(head, PG_SWAPCACHE) || core.rmapInode(head) !== undefined;
}

/** Announce `replaceNow`. Both folios are locked, so that place and slot of the old one stand. */
export function willReplace(core: CoreMm, src: number, dst: number, at: Step): Announced {
  const { folios, swap } = core;
  const pages = folios.pagesOf(src);
  for (const head of [src, dst]) {
    folios.flags.willUpdate(head, at);
    folios.mapping.willUpdate(head, at);
    folios.refcount.willUpdate(head, at);
  }
  folios.mapcount.willRead(src, at);
  const inode = core.rmapInode(src);
  const index = folios.index.peek(src);
  if (inode !== undefined) inode.pages.willUpdateRange(index, index + pages - 1, at);
  if (folios.has(src, PG_SWAPCACHE)) {
    const slot = folios.swapEntry.peek(src) - 1;
    swap.map.willUpdateRange(slot, slot + pages - 1, at);
  }
  const node = core.rmapAnon(src);
  if (node instanceof StableNode) node.pfn.willUpdate(at);
  return folios.refcount.willUpdate(src, at);
}

/**
 * folio_migrate_mapping, one act: compare or freeze, replace, unfreeze. False (-EAGAIN): a reference nobody can explain;
 * nothing has changed. A small anonymous folio outside the swap cache is only compared, and only where the kernel does.
 */
export function replaceNow(core: CoreMm, src: number, dst: number, compareUncached: boolean): boolean {
  const { folios, swap } = core;
  const expected = folios.expectedRefs(src) + 1;
  const cached = inCache(core, src);
  const large = folios.isLarge(src);
  const freezes = cached || (large && core.kernel.has('thp.deferred-split.migration-freezes'));
  if ((freezes || compareUncached) && folios.refcount.get(src) !== expected) return false;

  folios.index.set(dst, folios.index.peek(src));
  folios.mapping.set(dst, folios.mapping.get(src));
  const flags = folios.flags.get(src);
  const pages = folios.pagesOf(src);
  if (cached) {
    folios.refcount.set(dst, folios.refcount.get(dst) + pages);
    folios.refcount.set(src, expected - pages);
    const inode = core.rmapInode(src);
    const index = folios.index.peek(src);
    if (inode !== undefined) inode.pages.fill(index, index + pages - 1, dst + 1);
    if ((flags & PG_SWAPCACHE) !== 0) {
      const slot = folios.swapEntry.peek(src) - 1;
      folios.swapEntry.set(dst, slot + 1);
      folios.swapEntry.set(src, 0);
      for (let i = 0; i < pages; i++) swap.cache.set(slot + i, dst + 1);
    }
    // Dirty moves while the old folio is frozen and the new one not yet exposed.
    folios.change(dst, flags & (PG_DIRTY | PG_SWAPBACKED | PG_SWAPCACHE));
    folios.change(src, 0, PG_DIRTY | PG_SWAPCACHE);
  } else folios.change(dst, flags & PG_SWAPBACKED);
  return true;
}

/** Announce `carryFlagsNow`. */
export function willCarryFlags(core: CoreMm, src: number, dst: number, at: Step): Announced {
  const { folios } = core;
  for (const head of [src, dst]) {
    folios.refcount.willUpdate(head, at);
    folios.mapping.willUpdate(head, at);
  }
  const node = core.rmapAnon(src);
  if (node instanceof StableNode) node.pfn.willUpdate(at);
  willLeaveFile(core, src, at);
  folios.flags.willUpdate(dst, at);
  return folios.flags.willUpdate(src, at);
}

/** folio_migrate_flags and the filesystem's private data; the old folio leaves its file. Anonymous ones stay so. */
export function carryFlagsNow(core: CoreMm, src: number, dst: number): void {
  const { folios } = core;
  const flags = folios.flags.get(src);
  folios.change(dst, flags & CARRIED);
  if ((flags & PG_PRIVATE) !== 0) {
    folios.refcount.set(dst, folios.refcount.get(dst) + 1);
    folios.refcount.set(src, folios.refcount.get(src) - 1);
  }
  folios.change(src, 0, PG_ACTIVE | PG_UNEVICTABLE | PG_PRIVATE | PG_SWAPCACHE);
  // move_hugetlb_state
  if (folios.has(dst, PG_HUGETLB_TEMPORARY)) {
    folios.change(dst, 0, PG_HUGETLB_TEMPORARY);
    folios.change(src, PG_HUGETLB_TEMPORARY);
  }
  const node = core.rmapAnon(src);
  // ksm_migrate_page
  if (node instanceof StableNode && node.pfn.value === src) node.pfn.value = dst;
  if ((flags & PG_ANON) === 0) {
    folios.mapping.set(src, 0);
    leftFile(core, src);
  }
}
