// userfaultfd (fs/userfaultfd.c, mm/userfaultfd.c): a fault waits, without mmap_lock, until the handler has resolved it.
// A registration with `fill` has a handler that answers at once: the faulting thread does the handler's ioctl in its
// stead. Without one the fault waits for somebody's UFFDIO_COPY, UFFDIO_WRITEPROTECT or a fatal signal.
import { call, type Steps } from '../engine/process.ts';
import { step } from '../engine/step.ts';
import { until } from '../engine/wait.ts';
import { addNewAnonNow, anonVmaPrepare, userGfp, willAddNewAnon } from './anon-page.ts';
import type { CoreMm } from './core.ts';
import type { Errno } from './errno.ts';
import { dropMmapLock, Fault, type FaultResult, maybeMkwrite, pteAlloc, putUnused } from './fault-context.ts';
import type { Inode } from './inode.ts';
import { folioAddLru } from './lru.ts';
import type { Mm } from './mm.ts';
import { allocFolio } from './page-alloc.ts';
import { filemapAddFolio, unlockFolio } from './page-cache.ts';
import { PG_UPTODATE } from './page-flags.ts';
import { hex, pmdOf } from './page-table.ts';
import { PMD_TABLE, PTE_MARKER, PTE_NONE, PTE_PRESENT, PTE_UFFD_WP, PTE_WRITE, PTE_YOUNG } from './pte.ts';
import { folioPut } from './refcount.ts';
import { flushTlbRange } from './tlb.ts';
import type { Vma } from './vma.ts';

const WAIT = step('handle_userfault:wait', 'none');
const FIND = step('mfill_atomic:find-vma', 'op');
const SIZE = step('mfill_atomic_install_pte:i_size', 'op');
const COPY = step('mfill_atomic_pte_copy', 'copy-page');
const LOCK = step('mfill_atomic_install_pte:lock', 'fault');
const SET = step('mfill_atomic_install_pte:set-pte', 'pte-op');
const PROTECT = step('uffd_wp_range', 'pte-op');

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
  return vma.fields.uffd?.mode === 'wp';
}

/**
 * handle_userfault. `sigbus`: the caller may not drop mmap_lock, so it cannot wait (type1 on the remote slow path);
 * otherwise `retry`, with mmap_lock dropped. Called without the page-table lock.
 */
export function* handleUserfault(core: CoreMm, fault: Fault, why: 'missing' | 'wp'): Steps<FaultResult> {
  if (!fault.flags.allowRetry) return 'sigbus';
  if (fault.flags.nowait === true) return 'retry';
  const { mm, vpn } = fault;
  yield* call(dropMmapLock(fault));
  const fill = fault.vma.fields.uffd?.fill ?? null;
  if (fill !== null) {
    if (why === 'missing') yield* call(uffdCopy(core, mm, vpn, fill));
    else yield* call(uffdWriteProtect(core, mm, vpn, vpn + 1, false));
    return 'retry';
  }
  const { pageTable } = mm;
  const { killed } = core.current.task;
  pageTable.willReadPmd(fault.row, WAIT);
  pageTable.willReadPte(vpn, WAIT);
  const resolved = () => {
    if (killed.peek()) return true;
    const { bits } = pageTable.peekLeaf(vpn).pte;
    return why === 'missing' ? bits !== 0 : (bits & PTE_UFFD_WP) === 0;
  };
  yield until(core.sim, [killed], resolved, WAIT, { name: `whoever handles userfaults, at ${hex(vpn)} of ${mm.name}` });
  return 'retry';
}

/**
 * UFFDIO_COPY (and UFFDIO_ZEROPAGE with the zero token) of one page of private anonymous memory or of shared shmem.
 * ENOENT: no registered area; EEXIST: a page is there; EFAULT: beyond the end of the file; ENOMEM.
 */
export function* uffdCopy(core: CoreMm, mm: Mm, vpn: number, token: number): Steps<Errno | null> {
  yield* call(mm.mmapLock.read());
  const result = yield* call(fillLocked(core, mm, vpn, token));
  yield mm.mmapLock.up();
  return result;
}

function* fillLocked(core: CoreMm, mm: Mm, vpn: number, token: number): Steps<Errno | null> {
  yield mm.vmas.willRead(FIND);
  const found = mm.vmaAt(vpn);
  if (found === undefined || found.fields.uffd === null) return 'ENOENT';
  const { file } = found.fields;
  if (file?.kind === 'shmem' && found.fields.shared) return yield* call(fillShmem(core, mm, found, vpn, file, token));
  if (!found.anonymous) return 'EINVAL';
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
  fault.set(core, head, PTE_PRESENT | PTE_YOUNG | maybeMkwrite(vma));
  fault.unlockNow();
  return null;
}

/** shmem_mfill_atomic_pte: a new page of the file, mapped here at once. */
function* fillShmem(core: CoreMm, mm: Mm, vma: Vma, vpn: number, file: Inode, token: number): Steps<Errno | null> {
  const { folios, frames } = core;
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
  const fault = new Fault(mm, vma, vpn, BY_HANDLER);
  const table = yield* call(pteAlloc(fault));
  folios.willMap(head, head, SET);
  yield fault.pass(SET);
  fault.orig = PTE_NONE;
  const mapped = table && fault.same;
  if (mapped) {
    folios.addPteMapping(head, head);
    fault.set(core, head, PTE_PRESENT | PTE_YOUNG | maybeMkwrite(vma));
  }
  yield* call(unlockFolio(core, head));
  if (mapped) return null;
  yield* call(folioPut(core, head, 1, 'mfill_atomic_install_pte'));
  return 'EEXIST';
}

/** UFFDIO_WRITEPROTECT of pages [from, to): set or clear the uffd-wp bit; PTE level. */
export function* uffdWriteProtect(
  core: CoreMm,
  mm: Mm,
  from: number,
  to: number,
  protect: boolean,
): Steps<Errno | null> {
  yield* call(mm.mmapLock.read());
  yield mm.vmas.willRead(FIND);
  const registered = mm.vmasIn(from, to).every((vma) => userfaultfdWp(vma));
  const vma = mm.vmaAt(from);
  if (!registered || vma === undefined) {
    yield mm.mmapLock.up();
    return 'ENOENT';
  }
  const range = { mm, start: from, end: to, event: 'PROTECTION_VMA', blockable: true } as const;
  yield* call(mm.notifiers.start(range));
  for (let vpn = from; vpn < to; vpn++) yield* call(protectOne(mm, vpn, protect));
  if (protect) yield* call(flushTlbRange(core, mm, from, to));
  yield* call(mm.notifiers.end(range));
  yield mm.mmapLock.up();
  return null;
}

function* protectOne(mm: Mm, vpn: number, protect: boolean): Steps<void> {
  const { pageTable } = mm;
  const row = pmdOf(vpn);
  pageTable.willReadPmd(row, PROTECT);
  pageTable.willUpdatePte(vpn, PROTECT);
  yield pageTable.ptl.pass(row, PROTECT);
  if ((pageTable.pmd(row).bits & PMD_TABLE) === 0) return;
  const { pfn, bits, generation } = pageTable.pte(vpn);
  if (bits === 0 || (bits & PTE_MARKER) !== 0) return;
  // Resolving leaves the entry read-only: the write fault that follows decides whether to reuse or copy.
  const next = protect ? (bits & ~PTE_WRITE) | PTE_UFFD_WP : bits & ~PTE_UFFD_WP;
  if (next !== bits) pageTable.setPte(vpn, pfn, next, generation);
}
