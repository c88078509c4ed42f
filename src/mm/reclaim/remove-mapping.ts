// Taking a clean page out of the page cache when nobody else needs it (mm/vmscan.c __remove_mapping, mm/filemap.c
// filemap_release_folio). The freeze of the count is what a reference or a pin taken at the last moment defeats.
import { call, type Steps } from '../../engine/process.ts';
import { step } from '../../engine/step.ts';
import type { CoreMm } from '../core.ts';
import type { Inode } from '../file/inode.ts';
import { leftFile, willLeaveFile } from '../file/leave-file.ts';
import { PG_DIRTY, PG_PRIVATE, PG_WRITEBACK } from '../page-flags.ts';
import { freezeNow, putNow, unfreezeNow, willPut } from '../refcount.ts';

const RELEASE = step('filemap_release_folio', 'op');
const REMOVE = step('__remove_mapping', 'op');

/**
 * filemap_release_folio of a locked folio: the filesystem drops its buffers, and their reference. False: they are busy.
 * A page that is dirtied after this has no buffers (reclaim-migration-writeback.md B27).
 */
export function* filemapReleaseFolio(core: CoreMm, head: number): Steps<boolean> {
  const { folios } = core;
  // Set and cleared under the folio lock, which the caller holds.
  if (!folios.has(head, PG_PRIVATE)) return true;
  yield willPut(core, head, RELEASE);
  const flags = folios.flags.get(head);
  // try_to_free_buffers: buffers are dirty or under IO exactly when the page is, as block_dirty_folio dirties them all.
  if ((flags & (PG_WRITEBACK | PG_DIRTY)) !== 0) return false;
  folios.flags.set(head, flags & ~PG_PRIVATE);
  putNow(core, head, 1, 'filemap_release_folio');
  return true;
}

/**
 * remove_mapping of a locked page-cache folio: false when anybody but the cache and the caller holds a reference, or it
 * is dirty. The caller's reference stays.
 */
export function* removeMapping(core: CoreMm, inode: Inode, head: number): Steps<boolean> {
  const { folios } = core;
  // The caller holds the folio lock: mapping and index stand.
  const index = folios.index.peek(head);
  const pages = folios.pagesOf(head);
  folios.flags.willRead(head, REMOVE);
  folios.refcount.willUpdate(head, REMOVE);
  folios.mapping.willUpdate(head, REMOVE);
  willLeaveFile(core, head, REMOVE);
  yield inode.pages.willUpdateRange(index, index + pages - 1, REMOVE);
  if (folios.mapping.get(head) !== inode.id || !freezeNow(core, head, 1 + pages)) return false;
  // Tested after the freeze: who dirtied it through a reference has dropped that reference since.
  if ((folios.flags.get(head) & PG_DIRTY) !== 0) {
    unfreezeNow(core, head, 1 + pages);
    return false;
  }
  inode.pages.fill(index, index + pages - 1, 0);
  folios.mapping.set(head, 0);
  leftFile(core, head);
  unfreezeNow(core, head, 1);
  return true;
}

/** How `mapping_evict_folio` ended: gone, or what kept the page. */
export type Evicted = 'evicted' | 'dirty' | 'referenced' | 'buffers-busy' | 'raced';

const TEST = step('mapping_evict_folio:test', 'op');

/**
 * mapping_evict_folio of a locked folio, of which the caller holds one reference. A pinned page is kept because its
 * count is elevated; a pin that comes after this test is met by the freeze, but by then the buffers are gone.
 */
export function* mappingEvictFolio(core: CoreMm, inode: Inode, head: number): Steps<Evicted> {
  const { folios } = core;
  folios.refcount.willRead(head, TEST);
  yield folios.flags.willRead(head, TEST);
  const flags = folios.flags.get(head);
  if ((flags & (PG_DIRTY | PG_WRITEBACK)) !== 0) return 'dirty';
  const explained = folios.pagesOf(head) + ((flags & PG_PRIVATE) !== 0 ? 1 : 0) + 1;
  if (folios.refcount.get(head) > explained) return 'referenced';
  if (!(yield* call(filemapReleaseFolio(core, head)))) return 'buffers-busy';
  return (yield* call(removeMapping(core, inode, head))) ? 'evicted' : 'raced';
}
