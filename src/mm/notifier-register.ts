// mmu_notifier_register (mm/mmu_notifier.c): a notifier joins while nobody can have a window open, so that it is never told
// the end of a window whose start it did not hear. mmap_lock keeps out who works on addresses, mm_take_all_locks (mm/vma.c,
// before 6.7 mm/mmap.c) who comes by way of the pages. A pending signal ends the kernel's with EINTR; here only fatal ones
// exist, and who dies has no use for the answer. Walks of KSM pages, whose lock is of their tree node here, are not waited for.
import { call, type Steps } from '../engine/process.ts';
import type { RwSem } from '../engine/rwsem.ts';
import { step } from '../engine/step.ts';
import type { CoreMm } from './core.ts';
import type { Mm } from './mm.ts';
import type { NotifierOps } from './notifier.ts';

const MUTEX = step('mm_take_all_locks:mm_all_locks_mutex', 'lock');
const MUTEX_UNLOCK = step('mm_drop_all_locks:mm_all_locks_mutex', 'lock');
const TAKE = step('mm_take_all_locks', 'lock');
const DROP = step('mm_drop_all_locks', 'lock');

/** Make `ops` known to `mm`; null: only that interval notifiers may follow. */
export function* registerNotifier(core: CoreMm, mm: Mm, ops: NotifierOps | null): Steps<void> {
  yield* call(mm.mmapLock.write());
  yield core.allLocks.lock(MUTEX);
  const locks = core.sim.unwatched(() => reverseMappingLocks(mm));
  for (const lock of locks) yield* call(lock.write(TAKE));
  yield* call(mm.notifiers.register(ops));
  for (const lock of locks) yield lock.up(DROP);
  yield core.allLocks.unlock(MUTEX_UNLOCK);
  yield mm.mmapLock.up();
}

/** i_mmap_rwsem of every file that is mapped, of hugetlbfs first, then the lock of every anon_vma. mmap_lock is held for write. */
function reverseMappingLocks(mm: Mm): readonly RwSem[] {
  const fields = mm.vmas.entries().map(([, vma]) => vma.fields);
  const files = fields.flatMap(({ file }) => (file === null ? [] : [file]));
  const ordered = [
    ...files.filter(({ kind }) => kind === 'hugetlb'),
    ...files.filter(({ kind }) => kind !== 'hugetlb'),
  ];
  const anonymous = fields.flatMap(({ anonVma }) => (anonVma === null ? [] : [anonVma.lock]));
  return [...new Set([...ordered.map(({ iMmapLock }) => iMmapLock), ...anonymous])];
}
