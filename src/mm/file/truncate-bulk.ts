// The bulk lane of truncation: runs of small, unmapped, idle pages leave the page cache by column operations. Taken only
// where nobody journals, digests or watches; ends in the same state, and costs the same, as page by page.
import { call, type Steps } from '../../engine/process.ts';
import { step } from '../../engine/step.ts';
import type { CoreMm } from '../core.ts';
import { CONTENT_DROPPED } from '../ledger.ts';
import { PG_DIRTY, PG_LOCKED, PG_PRIVATE, PG_WRITEBACK } from '../page-flags.ts';
import { putRun } from '../refcount.ts';
import type { Inode } from './inode.ts';

const LOOKUP = step('find_lock_entries', 'op');
const GET = step('find_lock_entries:folio_try_get', 'refcount');
const LOCK = step('find_lock_entries:folio_trylock', 'lock');
const MAPPED = step('truncate_cleanup_folio:folio_mapped', 'op');
const REMOVE = step('delete_from_page_cache_batch', 'op');

/** Pages from `index` on that may go as one run, at most `stepPages` of them; fewer than 2: none. */
export function bulkTruncatable(core: CoreMm, inode: Inode, index: number, to: number): number {
  const { folios } = core;
  if (!folios.refcount.bulk || inode.kind === 'hugetlb' || core.params.stepPages < 2) return 0;
  const entry = inode.pages.peek(index);
  if (entry <= 0) return 0;
  const head = entry - 1;
  const limit = head + (inode.pages.endOfRise(index, Math.min(to, index + core.params.stepPages) - 1) - index);
  if (folios.headOf(head) !== head || folios.order.peek(head) !== 0 || folios.mapcount.peek(head) !== 0) return 0;
  if ((folios.flags.peek(head) & (PG_LOCKED | PG_WRITEBACK | PG_PRIVATE)) !== 0) return 0;
  let end = folios.order.endOfRun(head, limit);
  end = folios.mapcount.endOfRun(head, end);
  end = folios.flags.endOfRun(head, end);
  end = folios.refcount.endOfRun(head, end);
  return folios.mapping.endOfRun(head, end) - head + 1;
}

/** Take `pages` pages from `index` on out of the cache: each step of the page-by-page path, for all of them. */
export function* truncateRun(core: CoreMm, inode: Inode, index: number, pages: number): Steps<void> {
  const { folios, sim } = core;
  const head = inode.pages.peek(index) - 1;
  const last = head + pages - 1;
  for (const at of [LOOKUP, GET, LOCK, MAPPED]) {
    yield sim.times(pages, folios.refcount.willUpdateRange(head, last, at));
  }
  folios.flags.willUpdateRange(head, last, REMOVE);
  folios.mapping.willUpdateRange(head, last, REMOVE);
  // Writes are to the file, or not any more (leave-file.ts).
  if (inode.kind === 'file') core.frames.content.willReadRange(head, last, REMOVE);
  yield sim.times(pages, inode.pages.willUpdateRange(index, index + pages - 1, REMOVE));
  // Told while the pages still say which file they are of.
  if (sim.hears(CONTENT_DROPPED)) sim.emit(CONTENT_DROPPED, { pfn: head, pages, why: 'truncate' });
  folios.flags.fill(head, last, folios.flags.peek(head) & ~PG_DIRTY);
  folios.mapping.fill(head, last, 0);
  inode.pages.fill(index, index + pages - 1, 0);
  yield* call(putRun(core, head, pages, 'truncate_inode_pages_range'));
}
