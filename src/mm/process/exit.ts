// The end of an address space and of a task (mm/mmap.c exit_mmap, kernel/fork.c mmput, kernel/exit.c do_exit). Secondary
// MMUs are released before the first page is zapped; the mm goes before the files, so that pins held by a descriptor
// outlive the page tables.
import { call, type Steps } from '../../engine/process.ts';
import { step } from '../../engine/step.ts';
import { lockedVmOf, tellCharge } from '../accounting.ts';
import type { CoreMm } from '../core.ts';
import { hugetlbVmOpClose } from '../hugetlb/hugetlb-reserve.ts';
import { ACCOUNT_GONE } from '../ledger.ts';
import { LOCKED_AREAS } from '../mapping/mmap.ts';
import { findVmas, unlinkVmas } from '../mapping/vma-edit.ts';
import type { Mm } from '../mm.ts';
import { lruAddDrain } from '../reclaim/lru.ts';
import { tlbFinish, tlbGather } from '../tlb.ts';
import { freePgtables, unmapVmas } from '../zap/zap.ts';
import type { OpenFile, Task } from './task.ts';

const MMPUT = step('mmput', 'op');
const MMGET = step('mmget_not_zero', 'op');
const TASK_MM = step('get_task_mm', 'op');
const EXIT_MM = step('exit_mm', 'op');
const OOM_SKIP = step('exit_mmap:MMF_OOM_SKIP', 'none');
const REMOVE = step('exit_mmap:remove_vmas', 'op');
const FPUT = step('fput', 'op');
const CLOSE = step('close_files', 'op');
const EXITED = step('do_exit:exited', 'op');

/** mmget_not_zero: keep an address space alive; false once its exit has begun. */
export function* mmgetNotZero(mm: Mm): Steps<boolean> {
  yield mm.users.willUpdate(MMGET);
  if (mm.users.value === 0) return false;
  mm.users.value = mm.users.value + 1;
  return true;
}

/**
 * get_task_mm: keep the address space that another process has now; null: it has none any more. `putTaskMm` lets it go. A
 * thread's own needs no reference: it goes with the thread.
 */
export function* getTaskMm(core: CoreMm, task: Task): Steps<Mm | null> {
  if (task === core.current.task) return task.mm.peek();
  for (;;) {
    // The look tells what to announce; the act looks again.
    const seen = task.mm.peek();
    seen?.users.willUpdate(TASK_MM);
    yield task.mm.willRead(TASK_MM);
    if (task.mm.value !== seen) continue;
    // task_lock: the reference of the task itself has not been put.
    if (seen !== null) seen.users.value = seen.users.value + 1;
    return seen;
  }
}

export function* putTaskMm(core: CoreMm, task: Task, mm: Mm): Steps<void> {
  if (task !== core.current.task) yield* call(mmput(core, mm));
}

/** mmput: the last user takes the address space down. */
export function* mmput(core: CoreMm, mm: Mm): Steps<void> {
  yield mm.users.willUpdate(MMPUT);
  mm.users.value = mm.users.value - 1;
  if (mm.users.value > 0) return;
  yield* call(exitMmap(core, mm));
  // The kernel says so before it frees the tables; what the gather still held then may be all memory of a small world.
  yield mm.oomSkip.willWrite(OOM_SKIP);
  mm.oomSkip.value = true;
  if (core.sim.hears(ACCOUNT_GONE)) core.sim.emit(ACCOUNT_GONE, { account: lockedVmOf(mm) });
}

/** exit_mmap: release of notifiers | zap everything | tables | flush and free. locked_vm is not given back one by one. */
export function* exitMmap(core: CoreMm, mm: Mm): Steps<void> {
  yield* call(mm.notifiers.release());
  yield* call(mm.mmapLock.read());
  const vmas = yield* call(findVmas(mm, 0, Number.POSITIVE_INFINITY));
  const first = vmas[0];
  const last = vmas[vmas.length - 1];
  if (first === undefined || last === undefined) {
    yield mm.mmapLock.up();
    return;
  }
  yield* call(lruAddDrain(core));
  const gather = yield* call(tlbGather(core, mm));
  yield* call(unmapVmas(core, gather, mm, vmas, first.start, last.end));
  yield mm.mmapLock.up();
  yield* call(mm.mmapLock.write());
  yield mm.vmas.willUpdate(REMOVE);
  for (const vma of vmas) mm.vmas.delete(vma.start);
  yield* call(freePgtables(core, gather, mm, first.start, last.end));
  yield* call(tlbFinish(core, gather));
  for (const vma of vmas) yield* call(hugetlbVmOpClose(core, vma));
  yield* call(unlinkVmas(core, mm, vmas));
  yield mm.mmapLock.up();
  const locked = core.sim.unwatched(() => vmas.reduce((sum, vma) => sum + (vma.fields.locked ? vma.pages : 0), 0));
  // The counter dies with the mm; what was locked is off the books, what pins charged stays until they are dropped.
  tellCharge(core, lockedVmOf(mm), LOCKED_AREAS, -locked);
}

/** exit_mm: this task lets go of its address space. */
export function* exitMm(core: CoreMm, task: Task): Steps<void> {
  yield task.mm.willUpdate(EXIT_MM);
  const mm = task.mm.value;
  if (mm === null) return;
  task.mm.value = null;
  yield* call(mmput(core, mm));
}

/** do_exit of the running thread's task: exit_mm, then exit_files. */
export function* exit(core: CoreMm): Steps<void> {
  const { task } = core.current;
  yield* call(exitMm(core, task));
  yield* call(exitFiles(task));
  yield task.exited.willWrite(EXITED);
  task.exited.value = true;
}

/** exit_files: close every descriptor, in order. */
function* exitFiles(task: Task): Steps<void> {
  yield task.files.willUpdate(CLOSE);
  const files = task.files.value;
  task.files.value = [];
  for (const file of files) yield* call(fput(file));
}

/** fput: the last reference runs the file's release. */
export function* fput(file: OpenFile): Steps<void> {
  yield file.references.willUpdate(FPUT);
  file.references.value = file.references.value - 1;
  if (file.references.value === 0 && file.release !== null) yield* call(file.release());
}
