// userfaultfd (fs/userfaultfd.c, mm/userfaultfd.c): a fault waits, without mmap_lock, until the handler has resolved it.
// A registration with `fill` has a handler that answers at once: the faulting thread does the handler's ioctl in its
// stead. Without one the fault waits for somebody's UFFDIO_COPY, UFFDIO_WRITEPROTECT or a fatal signal.

import { LimitReached } from '../../engine/limit.ts';
import { call, type Steps } from '../../engine/process.ts';
import { step } from '../../engine/step.ts';
import { until } from '../../engine/wait.ts';
import { allocFolio } from '../alloc/page-alloc.ts';
import type { CoreMm } from '../core.ts';
import type { Errno } from '../errno.ts';
import type { Inode } from '../file/inode.ts';
import { filemapAddFolio, unlockFolio } from '../file/page-cache.ts';
import { shmemGetOrMissing } from '../file/shmem.ts';
import { changeProtection } from '../mapping/change-protection.ts';
import { UFFD_WP, type Vma } from '../mapping/vma.ts';
import type { Mm } from '../mm.ts';
import { PG_UPTODATE } from '../page-flags.ts';
import { hex } from '../page-table.ts';
import { PTE_NONE, PTE_PRESENT, PTE_UFFD_WP, PTE_YOUNG } from '../pte.ts';
import { folioAddLru } from '../reclaim/lru.ts';
import { folioPut } from '../refcount.ts';
import { tlbFinish, tlbGather } from '../tlb.ts';
import { addNewAnonNow, anonVmaPrepare, userGfp, willAddNewAnon } from './anon-page.ts';
import { dropMmapLock, Fault, type FaultResult, maybeMkwrite, pteAlloc, putUnused } from './fault-context.ts';

const WAIT = step('handle_userfault:wait', 'none');
const FIND = step('mfill_atomic:find-vma', 'op');
const SIZE = step('mfill_atomic_install_pte:i_size', 'op');
const COPY = step('mfill_atomic_pte_copy', 'copy-page');
const LOCK = step('mfill_atomic_install_pte:lock', 'fault');
const SET = step('mfill_atomic_install_pte:set-pte', 'pte-op');

/** FAULT flags of the handler's own ioctl: it never comes here again. */
const BY_HANDLER = {
  write: true,
  unshare: false,
  remote: true,
  allowRetry: false,
  killable: false,
  memallocPin: false,
} as const;

/** userfaultfd_wp: is the VMA registered for write protection? */
export function userfaultfdWp(vma: Vma): boolean {
  return vma.userfaults(UFFD_WP);
}

/** What a userfault is about: a page that is nowhere, one in the file that is not mapped, a write. */
export type UserfaultReason = 'missing' | 'minor' | 'wp';

/**
 * handle_userfault. `sigbus`: the caller may not drop mmap_lock, so it cannot wait (type1 on the remote slow path);
 * otherwise `retry`, with mmap_lock dropped. Called without the page-table lock.
 */
export function* handleUserfault(core: CoreMm, fault: Fault, why: UserfaultReason): Steps<FaultResult> {
  if (!fault.flags.allowRetry) return 'sigbus';
  if (fault.flags.nowait === true) return 'retry';
  const { mm, vpn } = fault;
  const context = fault.vma.fields.uffd?.context;
  yield* call(dropMmapLock(fault));
  const fill = fault.vma.fields.uffd?.fill ?? null;
  if (fill !== null) {
    if (why === 'missing') yield* call(uffdCopy(core, mm, vpn, fill));
    else if (why === 'minor') yield* call(uffdFill(mm, vpn, vpn + 1, (vma, at) => continuePage(core, mm, vma, at)));
    else yield* call(uffdWriteProtect(core, mm, vpn, vpn + 1, false));
    return 'retry';
  }
  const { pageTable } = mm;
  const { killed } = core.current.task;
  pageTable.willReadPmd(fault.row, WAIT);
  pageTable.willReadPte(vpn, WAIT);
  mm.vmas.willRead(WAIT);
  const resolved = () => {
    if (killed.peek()) return true;
    // UFFDIO_UNREGISTER, munmap and the like wake whoever waits: the fault finds out by itself.
    const vma = core.sim.unwatched(() => mm.vmaAt(vpn));
    if (vma === undefined || vma.fields.uffd?.context !== context) return true;
    const { bits } = pageTable.peekLeaf(vpn).pte;
    return why === 'wp' ? (bits & PTE_UFFD_WP) === 0 : bits !== 0;
  };
  yield until(core.sim, [killed], resolved, WAIT, {
    name: `${context ?? 'uffd'} to resolve the ${why === 'wp' ? 'write' : why} fault at ${hex(vpn)} of ${mm.name}`,
  });
  return 'retry';
}

/** How far an ioctl came, and why not further. */
export interface Filled {
  readonly pages: number;
  readonly errno: Errno | null;
}

/**
 * mfill_atomic of pages [from, to), one after the other, with `fillPage`, under mmap_lock. ENOENT, and nothing is filled
 * in: they are not all in one registered area.
 */
export function* uffdFill(
  mm: Mm,
  from: number,
  to: number,
  fillPage: (vma: Vma, vpn: number) => Steps<Errno | null>,
): Steps<Filled> {
  yield* call(mm.mmapLock.read());
  let pages = 0;
  let errno: Errno | null = null;
  for (; from + pages < to && errno === null; pages++) {
    yield mm.vmas.willRead(FIND);
    const vma = mm.vmaAt(from + pages);
    const known = vma !== undefined && vma.fields.uffd !== null && to <= vma.end;
    errno = known ? yield* call(fillPage(vma, from + pages)) : 'ENOENT';
  }
  yield mm.mmapLock.up();
  return { pages: errno === null ? pages : pages - 1, errno };
}

/** UFFDIO_COPY of one page; see `copyPage`. ENOENT: no registered area. */
export function* uffdCopy(core: CoreMm, mm: Mm, vpn: number, token: number): Steps<Errno | null> {
  const { errno } = yield* call(uffdFill(mm, vpn, vpn + 1, (vma, at) => copyPage(core, mm, vma, at, token, false)));
  return errno;
}

/**
 * UFFDIO_COPY (and UFFDIO_ZEROPAGE with the zero token) of one page of anonymous memory or shmem; `wp`: write-protected.
 * EEXIST: a page is there; EFAULT: beyond the end of the file; EINVAL; ENOMEM.
 */
export function* copyPage(
  core: CoreMm,
  mm: Mm,
  found: Vma,
  vpn: number,
  token: number,
  wp: boolean,
): Steps<Errno | null> {
  const { file } = found.fields;
  if (wp && !userfaultfdWp(found)) return 'EINVAL';
  if (found.hugetlb) throw noHugetlb('UFFDIO_COPY');
  if (file !== null && isShmem(found) && found.fields.shared) {
    return yield* call(fillShmem(core, mm, found, vpn, file, token, wp));
  }
  // A private mapping of a memfd gets a page of its own.
  if (!found.anonymous && !isShmem(found)) return 'EINVAL';
  const vma = yield* call(anonVmaPrepare(core, mm, found));
  const fault = new Fault(mm, vma, vpn, BY_HANDLER);
  if (!(yield* call(pteAlloc(fault)))) return 'EEXIST';
  const head = yield* call(allocFolio(core, userGfp(core, false, false)));
  if (head === undefined) return 'ENOMEM';
  yield core.frames.content.willWrite(head, COPY);
  core.frames.content.set(head, token);

  willAddNewAnon(core, head, LOCK);
  yield fault.lock(LOCK);
  fault.orig = PTE_NONE;
  if (!fault.same) {
    fault.unlockNow();
    yield* call(putUnused(core, head));
    return 'EEXIST';
  }
  addNewAnonNow(core, vma, vpn, head);
  yield* call(folioAddLru(core, head));
  yield fault.willUnlock(SET);
  fault.set(core, head, PTE_PRESENT | PTE_YOUNG | (wp ? PTE_UFFD_WP : maybeMkwrite(vma)));
  fault.unlockNow();
  return null;
}

/** shmem_mfill_atomic_pte: a new page of the file, mapped here at once. */
function* fillShmem(
  core: CoreMm,
  mm: Mm,
  vma: Vma,
  vpn: number,
  file: Inode,
  token: number,
  wp: boolean,
): Steps<Errno | null> {
  const { frames } = core;
  const index = vma.indexOf(vpn);
  const head = yield* call(allocFolio(core, userGfp(core, false, false)));
  if (head === undefined) return 'ENOMEM';
  yield frames.content.willWrite(head, COPY);
  frames.content.set(head, token);
  yield file.sizePages.willRead(SIZE);
  const beyond = index >= file.sizePages.value;
  if (beyond || !(yield* call(filemapAddFolio(core, file, index, head, PG_UPTODATE)))) {
    yield* call(putUnused(core, head));
    return beyond ? 'EFAULT' : 'EEXIST';
  }
  yield* call(folioAddLru(core, head));
  return yield* call(mapFound(core, mm, vma, vpn, head, wp));
}

/** mfill_atomic_install_pte of a locked page of the file, with a reference that the mapping takes over. */
function* mapFound(core: CoreMm, mm: Mm, vma: Vma, vpn: number, head: number, wp = false): Steps<Errno | null> {
  const { folios } = core;
  const fault = new Fault(mm, vma, vpn, BY_HANDLER);
  const table = yield* call(pteAlloc(fault));
  folios.willMap(head, head, SET);
  yield fault.pass(SET);
  fault.orig = PTE_NONE;
  const mapped = table && fault.same;
  if (mapped) {
    folios.addPteMapping(head, head);
    fault.set(core, head, PTE_PRESENT | PTE_YOUNG | (wp ? PTE_UFFD_WP : maybeMkwrite(vma)));
  }
  yield* call(unlockFolio(core, head));
  if (mapped) return null;
  yield* call(folioPut(core, head, 1, 'mfill_atomic_install_pte'));
  return 'EEXIST';
}

/**
 * UFFDIO_CONTINUE of one page of shared shmem: the page of the file is mapped as it is. EINVAL: other memory; EFAULT: the
 * file has no page there; EEXIST: it is mapped.
 */
export function* continuePage(core: CoreMm, mm: Mm, vma: Vma, vpn: number): Steps<Errno | null> {
  const { file, shared } = vma.fields;
  if (!shared || file === null || !isShmem(vma)) {
    if (vma.hugetlb) throw noHugetlb('UFFDIO_CONTINUE');
    return 'EINVAL';
  }
  const got = yield* call(shmemGetOrMissing(core, file, vma.indexOf(vpn), false, true));
  if (typeof got === 'string') return got === 'oom' ? 'ENOMEM' : 'EFAULT';
  return yield* call(mapFound(core, mm, vma, vpn, got.head));
}

/**
 * UFFDIO_WRITEPROTECT of pages [from, to). ENOENT: they are not all in one area that is registered for that. Later kernels
 * take one area after the other, over holes, up to the first that is not registered, and ENOENT is that, or none at all.
 */
export function* uffdWriteProtect(
  core: CoreMm,
  mm: Mm,
  from: number,
  to: number,
  protect: boolean,
): Steps<Errno | null> {
  yield* call(mm.mmapLock.read());
  yield mm.vmas.willRead(FIND);
  const vmas = mm.vmasIn(from, to);
  const several = core.kernel.has('uffd.wp-several-areas');
  const [first] = vmas;
  const inside = first !== undefined && (several || (first.start <= from && to <= first.end));
  let errno: Errno | null = inside ? null : 'ENOENT';
  for (const vma of vmas) {
    if (errno === null && !userfaultfdWp(vma)) errno = 'ENOENT';
    if (errno !== null) break;
    yield* call(uffdWpRange(core, mm, vma, from, to, protect));
  }
  yield mm.mmapLock.up();
  return errno;
}

/** uffd_wp_range: what of [from, to) lies in the VMA. mmap_lock is held. */
export function* uffdWpRange(core: CoreMm, mm: Mm, vma: Vma, from: number, to: number, protect: boolean): Steps<void> {
  const gather = yield* call(tlbGather(core, mm));
  const uffdWp = protect ? 'set' : 'resolve';
  yield* call(changeProtection(core, gather, mm, vma, Math.max(from, vma.start), Math.min(to, vma.end), { uffdWp }));
  yield* call(tlbFinish(core, gather));
}

/** vma_is_shmem: its vm_ops are those of shmem itself; SysV shared memory has its own around them. */
export function isShmem(vma: Vma): boolean {
  return vma.fields.file?.kind === 'shmem' && vma.fields.vmFile !== 'sysv';
}

function noHugetlb(what: string): LimitReached {
  return new LimitReached(`${what} into hugetlb is not modelled: a userfault there waits for ever`);
}
