// Charging pinned pages to mm->locked_vm (vfio_iommu_type1.c vfio_lock_acct, mm_lock_acct). The mm is the one that the
// entry was mapped from; before 6.3 the one its task has now, which after exec is another.
import { call, type Steps } from '../engine/process.ts';
import { step } from '../engine/step.ts';
import { accountLockedVmNow } from '../mm/accounting.ts';
import { refuse } from '../mm/gup/gup-flags.ts';
import type { Refusal } from '../mm/ledger.ts';
import type { Mm } from '../mm/mm.ts';
import { mmgetNotZero, mmput } from '../mm/process/exit.ts';
import type { VfioDma } from './dma.ts';
import type { VfioIommu } from './iommu.ts';

const LOCK = step('mm_lock_acct:mmap_write_lock', 'lock');
const ACCOUNT = step('mm_lock_acct:account', 'op');
const TASK_MM = step('vfio_lock_acct:get_task_mm', 'op');

/**
 * vfio_lock_acct: charge `pages` (negative: give back) to the entry at `iova`. `async`: the mm may be gone (ESRCH).
 * Errors: ENOMEM over the limit, EINTR when the running thread is killed while it waits for mmap_lock.
 */
export function* lockAcct(iommu: VfioIommu, iova: number, pages: number, async: boolean): Steps<Refusal | null> {
  if (pages === 0) return null;
  const { core } = iommu;
  const dma = iommu.entry(iova);
  const mm = yield* call(accountedMm(iommu, dma));
  if (mm === null || (async && !(yield* call(mmgetNotZero(mm))))) {
    return refuse(
      'ESRCH',
      `vfio_lock_acct: the address space of ${dma.fields.task.name} is gone`,
      'nothing to give back',
    );
  }
  const refused = yield* call(mmLockAcct(iommu, dma, mm, pages));
  if (async) yield* call(mmput(core, mm));
  return refused;
}

function* accountedMm(iommu: VfioIommu, dma: VfioDma): Steps<Mm | null> {
  if (iommu.core.kernel.way('type1.accounted-mm') === 'dma-mm') return dma.fields.mm;
  const { task } = dma.fields;
  yield task.mm.willRead(TASK_MM);
  return task.mm.value;
}

/** mm_lock_acct, and dma->locked_vm with it. */
function* mmLockAcct(iommu: VfioIommu, dma: VfioDma, mm: Mm, pages: number): Steps<Refusal | null> {
  const { core } = iommu;
  if (!(yield* call(mm.mmapLock.killable(true, core.current.task.killed, LOCK)))) return interrupted(mm, pages);
  dma.fields.task.memlockBytes.willRead(ACCOUNT);
  mm.lockedVm.willUpdate(ACCOUNT);
  iommu.dmaList.willUpdate(ACCOUNT);
  yield mm.mmapLock.up(ACCOUNT);
  const { task, lockCap, owner, lockedVm } = dma.fields;
  const refused = accountLockedVmNow(core, mm, pages, task, lockCap, owner);
  if (refused === null) iommu.dmaList.set(dma.iova, dma.with({ lockedVm: lockedVm + pages }));
  return refused;
}

/** mm_lock_acct without an entry: a charge that moves from one address space to another (VADDR update). */
export function* mmLockAcctMoved(iommu: VfioIommu, dma: VfioDma, mm: Mm, pages: number): Steps<Refusal | null> {
  const { core } = iommu;
  if (!(yield* call(mm.mmapLock.killable(true, core.current.task.killed, LOCK)))) return interrupted(mm, pages);
  dma.fields.task.memlockBytes.willRead(ACCOUNT);
  mm.lockedVm.willUpdate(ACCOUNT);
  yield mm.mmapLock.up(ACCOUNT);
  const { task, lockCap, owner } = dma.fields;
  return accountLockedVmNow(core, mm, pages, task, lockCap, owner);
}

function interrupted(mm: Mm, pages: number): Refusal {
  return refuse(
    'EINTR',
    `mmap_write_lock_killable of ${mm.name}: a fatal signal came while waiting to ${pages > 0 ? 'charge' : 'give back'} ${Math.abs(pages)} pages`,
    'a caller that lives until the lock is free',
  );
}
