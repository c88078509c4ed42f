// access_remote_vm (mm/memory.c): what ptrace and /proc/PID/mem do with the memory of a process. FOLL_FORCE disregards
// what the mapping allows: a forced write to a private mapping breaks COW, one to a shared mapping needs VM_WRITE.
import { call, type Steps } from '../../engine/process.ts';
import { step } from '../../engine/step.ts';
import { FRAME_ACCESS } from '../../hw/frames.ts';
import type { CoreMm } from '../core.ts';
import { lockFolio, unlockNow } from '../folio-lock.ts';
import { PAGE_DIRTIED } from '../ledger.ts';
import type { Mm } from '../mm.ts';
import { markDirtyNow, willMarkDirty } from '../writeback/mark-dirty.ts';
import { getUserPagesRemote } from './gup.ts';
import { putUserPages } from './unpin.ts';

const COPY = step('access_remote_vm:copy', 'copy-page');
const DIRTY = step('access_remote_vm:set_page_dirty_lock', 'op');

/**
 * mem_rw, ptrace_access_vm: read (null) or write a page of `mm`, past its protection. EIO: not one byte could be
 * copied, whatever the reason; a page at a time, so that a longer access stops where it fails.
 */
export function* accessRemoteVm(
  core: CoreMm,
  mm: Mm,
  vpn: number,
  write: { readonly token: number } | null,
): Steps<{ readonly token: number } | { readonly errno: 'EIO' }> {
  const owner = `access_remote_vm by ${core.current.task.name}`;
  if (!(yield* call(mm.mmapLock.killable(false, core.current.task.killed)))) return { errno: 'EIO' };
  const got = yield* call(getUserPagesRemote(core, mm, vpn, 1, { owner, write: write !== null, force: true }));
  const run = got.runs[0];
  if (run === undefined) {
    yield mm.mmapLock.up();
    return { errno: 'EIO' };
  }
  const token = yield* call(copy(core, mm, vpn, run.pfn, write));
  if (write !== null) yield* call(setPageDirtyLock(core, run.pfn));
  yield* call(putUserPages(core, got.runs, owner));
  yield mm.mmapLock.up();
  return { token };
}

/** copy_to_user_page, copy_from_user_page: through the kernel's own mapping, which is always of the frame as it is. */
function* copy(
  core: CoreMm,
  mm: Mm,
  vpn: number,
  pfn: number,
  write: { readonly token: number } | null,
): Steps<number> {
  const { frames, sim } = core;
  const { content } = frames;
  yield write === null ? content.willRead(pfn, COPY) : content.willWrite(pfn, COPY);
  if (write !== null) content.set(pfn, write.token);
  const token = write === null ? content.get(pfn) : write.token;
  if (sim.hears(FRAME_ACCESS)) {
    const generation = frames.peekGeneration(pfn);
    sim.emit(FRAME_ACCESS, {
      pfn,
      write: write !== null,
      madeFor: generation,
      generation,
      through: 'kernel',
      holder: mm.name,
      page: vpn,
      token,
    });
  }
  if (write !== null && sim.hears(PAGE_DIRTIED)) sim.emit(PAGE_DIRTIED, { pfn, token, by: 'kernel' });
  return token;
}

function* setPageDirtyLock(core: CoreMm, pfn: number): Steps<void> {
  const head = core.folios.headOf(pfn);
  willMarkDirty(core, head, DIRTY);
  yield lockFolio(core, head, DIRTY);
  markDirtyNow(core, head);
  unlockNow(core, head);
}
