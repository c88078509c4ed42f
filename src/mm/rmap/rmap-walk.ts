// rmap_walk (mm/rmap.c): visit every place where a folio may be mapped, under the lock of its anon_vma or mapping, until
// a visitor stops the walk or nothing maps the folio any more.
import { call, type Steps } from '../../engine/process.ts';
import { step } from '../../engine/step.ts';
import type { CoreMm } from '../core.ts';
import { ksmPlaces, StableNode } from '../ksm/ksm-stable-node.ts';
import { type RmapPlace, rmapLock, rmapPlaces } from './rmap.ts';

const LOCK = step('rmap_walk:lock', 'lock');
const UNLOCK = step('rmap_walk:unlock', 'lock');
const NOT_MAPPED = step('rmap_walk:folio_not_mapped', 'none');

/** enum ttu_flags, and what is asked of a walk besides. */
export interface TtuFlags {
  /** TTU_BATCH_FLUSH: the caller flushes later, with try_to_unmap_flush. */
  readonly batchFlush?: boolean;
  /** TTU_SPLIT_HUGE_PMD */
  readonly splitHugePmd?: boolean;
  /** TTU_IGNORE_MLOCK */
  readonly ignoreMlock?: boolean;
  /** TTU_HWPOISON: leave hwpoison entries. */
  readonly hwpoison?: boolean;
  /** TTU_RMAP_LOCKED: the caller holds the lock of the walk. */
  readonly rmapLocked?: boolean;
}

/** Visits one place; false stops the walk. */
export type RmapOne<A> = (core: CoreMm, head: number, place: RmapPlace, argument: A) => Steps<boolean>;

/** The places of a folio, KSM pages included. Its lock is held. */
export function* walkPlaces(core: CoreMm, head: number): Steps<readonly RmapPlace[]> {
  const family = core.rmapAnon(head);
  return yield* call(family instanceof StableNode ? ksmPlaces(core, family) : rmapPlaces(core, head));
}

/**
 * rmap_walk with the lock taken for reading. With `untilUnmapped` (rwc.done = folio_not_mapped) it ends as soon as the
 * folio has no mapping. False: a visitor stopped it.
 */
export function* rmapWalk<A>(
  core: CoreMm,
  head: number,
  one: RmapOne<A>,
  argument: A,
  options: { readonly locked?: boolean; readonly untilUnmapped?: boolean } = {},
): Steps<boolean> {
  const lock = options.locked === true ? null : rmapLock(core, head);
  if (lock !== null) yield* call(lock.read(LOCK));
  const places = yield* call(walkPlaces(core, head));
  let done = true;
  for (let i = 0; i < places.length && done; i++) {
    done = yield* call(one(core, head, places[i]!, argument));
    if (!done || options.untilUnmapped !== true || i === places.length - 1) continue;
    yield core.folios.mapcount.willRead(head, NOT_MAPPED);
    if (core.folios.mapcountOf(head) === 0) break;
  }
  if (lock !== null) yield lock.up(UNLOCK);
  return done;
}
