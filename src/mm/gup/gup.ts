// The exported functions of GUP-slow (mm/gup.c): which flags each adds, whether the caller holds mmap_lock, what it
// refuses before it starts. GUP-fast is in gup-fast.ts.
import { call, type Steps } from '../../engine/process.ts';
import type { CoreMm } from '../core.ts';
import { PIN_TAKEN, type Refusal } from '../ledger.ts';
import type { Mm } from '../mm.ts';
import { hex } from '../page-table.ts';
import { lruAddDrain } from '../reclaim/lru.ts';
import { flagsText, type GupFlags, type GupRequest, type GupResult, gupFlags, refuse, within } from './gup-flags.ts';
import { gupLongtermLocked } from './gup-longterm.ts';
import { failureOf, getUserPagesLocked, newWalk, type Walk, walkUserPages } from './gup-slow.ts';

export type { GupRequest, GupResult } from './gup-flags.ts';

/**
 * pin_user_pages_remote: pin pages of any address space. The caller holds `mm.mmapLock`; with `request.unlockable` it
 * may come back dropped (`result.locked`). Errors: EFAULT, ENOMEM, EOPNOTSUPP, EEXIST, EINTR, EINVAL.
 */
export function* pinUserPagesRemote(
  core: CoreMm,
  mm: Mm,
  vpn: number,
  pages: number,
  request: GupRequest,
): Steps<GupResult> {
  const flags = gupFlags(request, 'pin', { touch: true, remote: true });
  if (flags.longterm && flags.unlockable && !core.kernel.has('gup.slow.may-drop-mmap-lock')) {
    return refused(true, within(asked('pin_user_pages_remote', mm, vpn, pages, flags), longtermUnlockable()));
  }
  const walk = newWalk(core, true);
  const done = yield* call(gupLongtermLocked(core, mm, vpn, pages, flags, walk));
  return finish(core, 'pin_user_pages_remote', mm, vpn, pages, flags, walk, done);
}

/** pin_user_pages: pin pages of the running thread's address space, whose mmap_lock it holds and keeps. */
export function* pinUserPages(core: CoreMm, vpn: number, pages: number, request: GupRequest): Steps<GupResult> {
  const mm = ownMm(core);
  const flags = gupFlags(request, 'pin', { unlockable: false });
  const walk = newWalk(core, true);
  const done = yield* call(gupLongtermLocked(core, mm, vpn, pages, flags, walk));
  return finish(core, 'pin_user_pages', mm, vpn, pages, flags, walk, done);
}

/** pin_user_pages_unlocked: as pin_user_pages; takes and drops mmap_lock itself. Error: EAGAIN when killed first. */
export function* pinUserPagesUnlocked(core: CoreMm, vpn: number, pages: number, request: GupRequest): Steps<GupResult> {
  const mm = ownMm(core);
  const flags = gupFlags(request, 'pin', { touch: true, unlockable: true });
  if (flags.longterm && !core.kernel.has('gup.slow.may-drop-mmap-lock')) {
    return refused(false, within(asked('pin_user_pages_unlocked', mm, vpn, pages, flags), longtermUnlockable()));
  }
  const walk = newWalk(core, false);
  const done = yield* call(gupLongtermLocked(core, mm, vpn, pages, flags, walk));
  return finish(core, 'pin_user_pages_unlocked', mm, vpn, pages, flags, walk, done);
}

/** get_user_pages_remote: plain references. The caller holds `mm.mmapLock`. */
export function* getUserPagesRemote(
  core: CoreMm,
  mm: Mm,
  vpn: number,
  pages: number,
  request: GupRequest,
): Steps<GupResult> {
  const flags = gupFlags(request, 'get', { touch: true, remote: true });
  return yield* call(getPages(core, 'get_user_pages_remote', mm, vpn, pages, flags, true));
}

/** get_user_pages: plain references to the running thread's pages; it holds mmap_lock. */
export function* getUserPages(core: CoreMm, vpn: number, pages: number, request: GupRequest): Steps<GupResult> {
  const flags = gupFlags(request, 'get', { touch: true, unlockable: false });
  return yield* call(getPages(core, 'get_user_pages', ownMm(core), vpn, pages, flags, true));
}

/** get_user_pages_unlocked: takes and drops mmap_lock itself. */
export function* getUserPagesUnlocked(core: CoreMm, vpn: number, pages: number, request: GupRequest): Steps<GupResult> {
  const flags = gupFlags(request, 'get', { touch: true, unlockable: true });
  return yield* call(getPages(core, 'get_user_pages_unlocked', ownMm(core), vpn, pages, flags, false));
}

function* getPages(
  core: CoreMm,
  name: string,
  mm: Mm,
  vpn: number,
  pages: number,
  flags: GupFlags,
  locked: boolean,
): Steps<GupResult> {
  if (flags.longterm) {
    const reason = refuse('EINVAL', 'is_valid_gup_args: FOLL_LONGTERM without FOLL_PIN', 'pin_user_pages');
    return refused(locked, within(asked(name, mm, vpn, pages, flags), reason));
  }
  const walk = newWalk(core, locked);
  const done = yield* call(getUserPagesLocked(core, mm, vpn, pages, flags, walk));
  return finish(core, name, mm, vpn, pages, flags, walk, done);
}

/**
 * populate_vma_page_range, faultin_page_range: fault pages of one VMA in without keeping them (mlock, MAP_POPULATE,
 * MADV_POPULATE). The caller holds `mm.mmapLock`.
 */
export function* populateUserPages(
  core: CoreMm,
  mm: Mm,
  vpn: number,
  pages: number,
  write: boolean,
): Steps<{ readonly done: number; readonly reason?: Refusal }> {
  // mlock is to succeed on whatever is not PROT_NONE. VMAs do not change under mmap_lock.
  const fields = core.sim.unwatched(() => mm.vmaAt(vpn))?.fields;
  const force = fields !== undefined && (fields.read || fields.write || fields.exec);
  const flags = gupFlags({ owner: 'populate', write, force }, 'none', { touch: true });
  const walk = newWalk(core, true);
  const done = yield* call(walkUserPages(core, mm, vpn, pages, flags, walk));
  yield* call(lruAddDrain(core));
  const reason = failureOf(walk, vpn, pages);
  return reason === null ? { done } : { done, reason };
}

/** The address space of the running thread. */
export function ownMm(core: CoreMm): Mm {
  const mm = core.current.task.mm.peek();
  if (mm === null) throw new Error(`${core.current.task.name} has no address space any more`);
  return mm;
}

function longtermUnlockable(): Refusal {
  return refuse(
    'EINVAL',
    '__get_user_pages_remote: FOLL_LONGTERM with a `locked` argument; this kernel cannot drop mmap_lock in a long-term pin',
    'hold mmap_lock over the call (locked = NULL), or a kernel from 6.3 on',
  );
}

/** What was asked, for the outermost reason. */
export function asked(name: string, mm: Mm, vpn: number, pages: number, flags: GupFlags): string {
  return `${name}(${hex(vpn)}, ${pages} page${pages === 1 ? '' : 's'}, ${flagsText(flags)}) of ${mm.name}`;
}

/** Nothing was even tried. */
export function refused(locked: boolean, reason: Refusal): GupResult {
  return { runs: [], pinned: 0, errno: reason.errno, reason, locked };
}

/** The kernel's return value: pages if any, else the errno. Tells the ledger of pins. */
export function finish(
  core: CoreMm,
  name: string,
  mm: Mm,
  vpn: number,
  pages: number,
  flags: GupFlags,
  walk: Walk,
  done: number,
): GupResult {
  const { runs } = walk.runs;
  if (flags.grab === 'pin' && done > 0 && core.sim.hears(PIN_TAKEN)) {
    const { owner, longterm, write } = flags;
    core.sim.emit(PIN_TAKEN, { runs, owner, mm: mm.name, vpn, longterm, write });
  }
  const result = { runs, pinned: done, locked: walk.locked };
  const failure = failureOf(walk, vpn, pages);
  if (done === pages || failure === null) return result;
  const reason = within(asked(name, mm, vpn, pages, flags), failure);
  return done > 0 ? { ...result, reason } : { ...result, errno: reason.errno, reason };
}
