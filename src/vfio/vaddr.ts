// New addresses for live mappings (VFIO_DMA_MAP_FLAG_VADDR, live update of a VMM): DMA goes on, the charge moves to the
// new process, and nobody checks that the pages behind the new address are the same.
import { call, type Steps } from '../engine/process.ts';
import { step } from '../engine/step.ts';
import { lockedVmOf } from '../mm/accounting.ts';
import { refuse } from '../mm/gup/gup-flags.ts';
import { OWNER_MOVED, type Refusal } from '../mm/ledger.ts';
import { mmgetNotZero, mmput } from '../mm/process/exit.ts';
import { mmLockAcctMoved } from './account.ts';
import type { VfioDma } from './dma.ts';
import type { VfioIommu } from './iommu.ts';
import { addViews, willAddViews } from './views.ts';

const SET = step('vfio_dma_do_map:set-vaddr', 'op');

/** MAP_DMA with VADDR, iommu.lock held by the step that calls. Errors: ENOENT, EINVAL, ENOMEM, EINTR. */
export function* mapVaddr(
  iommu: VfioIommu,
  { iova, pages, vpn }: { readonly iova: number; readonly pages: number; readonly vpn: number },
): Steps<Refusal | null> {
  const dma = iommu.findDma(iova, pages);
  if (dma === undefined) return refuse('ENOENT', 'vfio_find_dma: nothing is mapped there', 'the IOVA of a mapping');
  if (!dma.fields.vaddrInvalid) {
    return refuse('EINVAL', 'vfio_dma_do_map: the mapping has a valid address', 'UNMAP_DMA with VADDR first');
  }
  if (dma.iova !== iova || dma.pages !== pages) {
    return refuse('EINVAL', 'vfio_dma_do_map: not the range of the mapping', 'iova and size as they were mapped');
  }
  const refused = yield* call(changeOwner(iommu, dma));
  if (refused !== null) return refused;
  willAddViews(iommu, dma, SET, iommu.core.current.task.mm.peek()!);
  yield iommu.will(SET);
  const now = iommu.entry(dma.iova);
  const next = now.with({ vaddr: vpn, vaddrInvalid: false });
  iommu.dmaList.set(dma.iova, next);
  iommu.vaddrInvalidCount.value -= 1;
  // Of the caller, also where the kernel forgets whose the address is (before 90fdd158a695).
  if (now.fields.iommuMapped) addViews(iommu, next, iommu.core.current.task.mm.peek()!);
  return null;
}

/** vfio_change_dma_owner: charge the caller, give back to the old mm if it lives, remember the new owner. */
function* changeOwner(iommu: VfioIommu, dma: VfioDma): Steps<Refusal | null> {
  const { core } = iommu;
  const { task } = core.current;
  const mm = task.mm.peek()!;
  if (mm === dma.fields.mm) return null;
  const moved = () => {
    const { sim } = core;
    if (sim.hears(OWNER_MOVED)) sim.emit(OWNER_MOVED, { owner: dma.fields.owner, account: lockedVmOf(mm) });
  };
  if (!core.kernel.has('type1.owner-change-recharges')) {
    // The charge stays with the old process (fixed by 90fdd158a695); the books tell whose it should be.
    moved();
    return null;
  }
  const { lockedVm } = dma.fields;
  const lockCap = core.current.capable('CAP_IPC_LOCK');
  const ours = dma.with({ task, lockCap });
  const refused = lockedVm === 0 ? null : yield* call(mmLockAcctMoved(iommu, ours, mm, lockedVm));
  if (refused !== null) return refused;
  if (lockedVm > 0 && (yield* call(mmgetNotZero(dma.fields.mm)))) {
    yield* call(mmLockAcctMoved(iommu, dma, dma.fields.mm, -lockedVm));
    yield* call(mmput(core, dma.fields.mm));
  }
  yield iommu.will(SET);
  iommu.dmaList.set(dma.iova, iommu.entry(dma.iova).with({ task, mm, lockCap }));
  moved();
  return null;
}
