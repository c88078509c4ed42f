// mremap (mm/mremap.c): shrink, grow in place, move, MREMAP_FIXED, MREMAP_DONTUNMAP. Pinned pages move along; what the
// pinner recorded as their address does not.
import { call, type Steps } from '../../engine/process.ts';
import { step } from '../../engine/step.ts';
import { PMD_PAGES } from '../../hw/machine.ts';
import type { CoreMm } from '../core.ts';
import type { Errno } from '../errno.ts';
import { mmPopulate } from '../fault/populate.ts';
import { madviseHooks } from '../madvise/madvise-hooks.ts';
import type { Mm } from '../mm.ts';
import { mayMapAt, mlockFutureOk, TASK_SIZE_PAGES, unmappedArea } from './address-space.ts';
import { chargeLocked, doMunmap, type MmapResult } from './mmap.ts';
import { movePageTables } from './move-page-tables.ts';
import type { Vma } from './vma.ts';
import {
  editVmas,
  findVmas,
  linkVma,
  lookVma,
  lookVmas,
  MAX_MAP_COUNT,
  maySplit,
  mergeVmas,
  replaceVma,
  rmapLocksOf,
  splitVma,
  unlinkVmas,
} from './vma-edit.ts';

const CHECK = step('mremap:checks', 'op');
const EXPAND = step('vma_merge_extend', 'op');

export interface MremapRequest {
  readonly at: number;
  readonly pages: number;
  readonly newPages: number;
  /** MREMAP_MAYMOVE */
  readonly mayMove?: boolean;
  /** MREMAP_FIXED: to this address; what is there goes. */
  readonly fixedAt?: number;
  /** MREMAP_DONTUNMAP: the old VMA stays, empty. */
  readonly dontUnmap?: boolean;
}

/**
 * mremap. EPERM: to below mmap_min_addr; EINVAL: a senseless combination, overlap, hugetlb misaligned or growing, a
 * private mapping of length 0; EFAULT: not one VMA, or one that may not grow; EAGAIN: over RLIMIT_MEMLOCK; ENOMEM: no room;
 * EINTR.
 */
export function* mremap(core: CoreMm, request: MremapRequest): Steps<MmapResult> {
  const { task } = core.current;
  const mm = task.mm.peek()!;
  const { fixedAt, dontUnmap = false, mayMove = false, pages, newPages } = request;
  if (fixedAt !== undefined && !mayMove) return { errno: 'EINVAL' };
  if (dontUnmap && !core.kernel.has('mremap.dontunmap')) return { errno: 'EINVAL' };
  if (dontUnmap && (!mayMove || pages !== newPages)) return { errno: 'EINVAL' };
  if (newPages <= 0) return { errno: 'EINVAL' };
  if (!(yield* call(mm.mmapLock.killable(true, task.killed)))) return { errno: 'EINTR' };
  const result = yield* call(doMremap(core, mm, request));
  yield mm.mmapLock.up();
  if ('vpn' in result && newPages > pages) {
    // mm->locked_vm grew: the new part is filled (only where the VMA is locked).
    const vma = lookVma(mm, result.vpn);
    if (vma?.fields.locked === true) yield* call(mmPopulate(core, mm, result.vpn + pages, result.vpn + newPages));
  }
  return result;
}

function* doMremap(core: CoreMm, mm: Mm, request: MremapRequest): Steps<MmapResult> {
  const { at, fixedAt, dontUnmap = false, mayMove = false } = request;
  let { pages, newPages } = request;
  const vma = (yield* call(findVmas(mm, at, at + 1)))[0];
  if (vma === undefined) return { errno: 'EFAULT' };
  if (vma.hugetlb && core.kernel.has('mremap.hugetlb')) {
    const huge = 2 ** vma.fields.file!.hugeOrder;
    pages = Math.ceil(pages / huge) * huge;
    newPages = Math.ceil(newPages / huge) * huge;
    if (at % huge !== 0 || (fixedAt ?? 0) % huge !== 0 || newPages > pages) return { errno: 'EINVAL' };
  }
  if (fixedAt !== undefined || dontUnmap) return yield* call(mremapTo(core, mm, { ...request, pages, newPages }));
  if (newPages <= pages) {
    if (newPages === pages) return { vpn: at };
    const unmapped = yield* call(doMunmap(core, mm, at + newPages, at + pages, true));
    return unmapped === 'ok' ? { vpn: at } : { errno: unmapped };
  }
  const refused = yield* call(vmaToResize(core, mm, vma, request));
  if (refused !== 'ok') return { errno: refused };
  if (pages === vma.end - at && (yield* call(expandInPlace(core, mm, vma, newPages - pages)))) return { vpn: at };
  if (!mayMove) return { errno: 'ENOMEM' };
  const target = lookUnmapped(mm, vma, newPages);
  if (target === undefined) return { errno: 'ENOMEM' };
  return yield* call(moveVma(core, mm, request, pages, target));
}

/** vma_to_resize */
function* vmaToResize(core: CoreMm, mm: Mm, vma: Vma, request: MremapRequest): Steps<'ok' | Errno> {
  const { at, pages, newPages, dontUnmap = false } = request;
  // VM_MAYSHARE: only a shared mapping can be duplicated.
  if (pages === 0 && vma.cow) return 'EINVAL';
  if (dontUnmap && vma.dontExpand) return 'EINVAL';
  if (vma.hugetlb && !core.kernel.has('mremap.hugetlb')) return 'EINVAL';
  const anonymous = vma.fields.file === null && !vma.fields.shared;
  if (dontUnmap && !anonymous && !core.kernel.has('mremap.dontunmap-files')) return 'EINVAL';
  if (pages > vma.end - at) return 'EFAULT';
  if (newPages === pages) return 'ok';
  if (vma.dontExpand) return 'EFAULT';
  core.current.task.memlockBytes.willRead(CHECK);
  yield mm.lockedVm.willRead(CHECK);
  if (vma.fields.locked && !mlockFutureOk(core.current, mm, newPages - pages)) return 'EAGAIN';
  return 'ok';
}

/** vma_expandable and vma_merge_extend: grow into the free space behind. */
function* expandInPlace(core: CoreMm, mm: Mm, vma: Vma, delta: number): Steps<boolean> {
  const end = vma.end + delta;
  if (end > TASK_SIZE_PAGES || lookVmas(mm, vma.end, end).length > 0) return false;
  yield* call(editVmas(mm, rmapLocksOf(vma), EXPAND, () => mm.vmas.set(vma.start, vma.with({ end }))));
  yield* call(mergeVmas(mm, vma.start, end));
  if (vma.fields.locked) yield* call(chargeLocked(core, mm, delta));
  return true;
}

function lookUnmapped(mm: Mm, vma: Vma, pages: number): number | undefined {
  const huge = vma.hugetlb ? 2 ** vma.fields.file!.hugeOrder : pages >= PMD_PAGES ? PMD_PAGES : 1;
  return mm.sim.unwatched(() => unmappedArea(mm, pages, huge));
}

/** mremap_to: MREMAP_FIXED or MREMAP_DONTUNMAP. */
function* mremapTo(core: CoreMm, mm: Mm, request: MremapRequest): Steps<MmapResult> {
  const { at, newPages, fixedAt, dontUnmap = false } = request;
  let { pages } = request;
  if (fixedAt !== undefined) {
    if (fixedAt + newPages > TASK_SIZE_PAGES) return { errno: 'EINVAL' };
    if (at + pages > fixedAt && fixedAt + newPages > at) return { errno: 'EINVAL' };
    if (!mayMapAt(core.current, fixedAt)) return { errno: 'EPERM' };
    const cleared = yield* call(doMunmap(core, mm, fixedAt, fixedAt + newPages, false));
    if (cleared !== 'ok') return { errno: cleared };
  }
  if (pages > newPages) {
    const cut = yield* call(doMunmap(core, mm, at + newPages, at + pages, false));
    if (cut !== 'ok') return { errno: cut };
    pages = newPages;
  }
  const vma = lookVma(mm, at);
  if (vma === undefined) return { errno: 'EFAULT' };
  const refused = yield* call(vmaToResize(core, mm, vma, { ...request, pages }));
  if (refused !== 'ok') return { errno: refused };
  const target = fixedAt ?? lookUnmapped(mm, vma, newPages);
  if (target === undefined) return { errno: 'ENOMEM' };
  return yield* call(moveVma(core, mm, { ...request, dontUnmap }, pages, target));
}

/** move_vma: a copy of the VMA at the new place, the entries moved over, then the old part unmapped (or left empty). */
function* moveVma(core: CoreMm, mm: Mm, request: MremapRequest, pages: number, target: number): Steps<MmapResult> {
  const { at, newPages, dontUnmap = false } = request;
  if (core.sim.unwatched(() => mm.vmas.size) >= MAX_MAP_COUNT - 3) return { errno: 'ENOMEM' };
  // Merged pages become the process's own before they move: others of KSM may be at the new place.
  const { ksmUnmerge } = madviseHooks(core);
  const old = lookVma(mm, at)!;
  if (!maySplit(core, old, at) || !maySplit(core, old, at + pages)) return { errno: 'EINVAL' };
  if (old.fields.mergeable && ksmUnmerge !== undefined) {
    const unmerged = yield* call(ksmUnmerge(core, mm, old, at, at + pages));
    if (unmerged !== 'ok') return { errno: unmerged };
  }
  if (dontUnmap && lookVma(mm, at)!.fields.locked) {
    yield* call(splitVma(core, mm, at));
    yield* call(splitVma(core, mm, at + pages));
  }
  const vma = lookVma(mm, at)!;
  const untouched = vma.anonymous && vma.fields.anonVma === null;
  const copy = vma.with({
    start: target,
    end: target + newPages,
    pgoff: untouched ? target : vma.indexOf(at),
    // Without UFFD_FEATURE_EVENT_REMAP the registration does not move along.
    uffd: null,
  });
  yield* call(linkVma(mm, copy));
  if (pages > 0) yield* call(movePageTables(core, mm, vma, at, at + pages, target - at));
  if (vma.fields.reservation !== null) yield* call(clearVmaResvHugePages(mm, at));
  if (dontUnmap) {
    yield* call(emptyOld(core, mm, vma, at, pages));
    yield* call(mergeVmas(mm, target, target + newPages));
    return { vpn: target };
  }
  if (pages > 0) yield* call(doMunmap(core, mm, at, at + pages, false));
  if (vma.fields.locked) yield* call(chargeLocked(core, mm, newPages));
  yield* call(mergeVmas(mm, target, target + newPages));
  return { vpn: target };
}

/**
 * clear_vma_resv_huge_pages: the reservation has gone with the copy. Of a part that was moved it is that of the whole VMA:
 * what stays behind gives nothing back when it is unmapped, as in the kernel.
 */
function* clearVmaResvHugePages(mm: Mm, at: number): Steps<void> {
  const old = lookVma(mm, at)!;
  yield* call(replaceVma(mm, old.with({ reservation: null })));
}

/** MREMAP_DONTUNMAP: never locked any more; wholly moved, it is as if nobody had touched it yet. */
function* emptyOld(core: CoreMm, mm: Mm, vma: Vma, at: number, pages: number): Steps<void> {
  const whole = vma.start === at && vma.pages === pages;
  const { anonVma } = vma.fields;
  const forgotten = whole ? { anonVma: null, ...(vma.anonymous ? { pgoff: vma.start } : {}) } : {};
  yield* call(replaceVma(mm, vma.with({ locked: false, lockOnFault: false, ...forgotten })));
  if (whole && anonVma !== null) yield* call(unlinkVmas(core, mm, [vma]));
}
