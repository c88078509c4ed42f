// Waiting for a folio lock in a fault (mm/filemap.c lock_folio_maybe_drop_mmap, __folio_lock_or_retry): a fault that may
// start over waits without mmap_lock, one that may not waits with it.
import { call, type Steps } from '../../engine/process.ts';
import { step } from '../../engine/step.ts';
import type { CoreMm } from '../core.ts';
import { lockFolio, tryLockNow, waitUnlocked, willTryLock } from '../folio-lock.ts';
import { folioPut } from '../refcount.ts';
import { dropMmapLock, type Fault, mayDropLock } from './fault-context.ts';

const TRYLOCK = step('__folio_lock_or_retry:trylock', 'lock');
const LOCK = step('__folio_lock_or_retry:folio_lock', 'lock');
const WAIT = step('__folio_lock_or_retry:folio_wait_locked', 'none');

/**
 * Lock the folio, of which the fault holds a reference. False: mmap_lock and the reference were dropped, and the lock
 * was waited for; the fault is to be retried.
 */
export function* lockOrDropMmap(core: CoreMm, fault: Fault, head: number, why: string): Steps<boolean> {
  yield willTryLock(core, head, TRYLOCK);
  if (tryLockNow(core, head)) return true;
  if (!mayDropLock(fault)) {
    yield lockFolio(core, head, LOCK);
    return true;
  }
  yield* call(dropMmapLock(fault));
  yield waitUnlocked(core, head, WAIT);
  yield* call(folioPut(core, head, 1, why));
  return false;
}
