// folio_mark_dirty and __mark_inode_dirty (mm/page-writeback.c, fs/fs-writeback.c): the dirty flag of a page, and the word
// to the flusher that its file has one. Who dirties a page cache page must use these.
import type { Announced, Step } from '../../engine/step.ts';
import type { CoreMm } from '../core.ts';
import { PG_DIRTY } from '../page-flags.ts';

/** Announce marking `head` dirty. It may be truncated until then, but not given to another file. */
export function willMarkDirty(core: CoreMm, head: number, at: Step): Announced {
  const inode = core.rmapInode(head);
  if (inode?.kind === 'file') {
    inode.dirty.willUpdate(at);
    core.folios.mapping.willRead(head, at);
  }
  return core.folios.flags.willUpdate(head, at);
}

/** folio_mark_dirty, in a step announced by `willMarkDirty`: true when it was clean. A truncated folio tells nobody. */
export function markDirtyNow(core: CoreMm, head: number): boolean {
  const { folios } = core;
  if ((folios.flags.get(head) & PG_DIRTY) !== 0) return false;
  folios.change(head, PG_DIRTY);
  const inode = core.rmapInode(head);
  if (inode?.kind !== 'file') return true;
  // The flusher learns of it only if the page is still the file's.
  if (folios.mapping.get(head) !== 0 && !inode.dirty.value) inode.dirty.value = true;
  return true;
}
