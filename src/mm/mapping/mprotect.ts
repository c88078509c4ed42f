// mprotect (mm/mprotect.c do_mprotect_pkey): VMA by VMA, so that a failure leaves the earlier ones changed. DMA does not
// notice: an IOMMU mapping keeps the rights that it was made with.
import { call, type Steps } from '../../engine/process.ts';
import type { CoreMm } from '../core.ts';
import type { Errno } from '../errno.ts';
import { populateUserPages } from '../gup/gup.ts';
import type { Mm } from '../mm.ts';
import { type MmuGather, tlbFinish, tlbGather } from '../tlb.ts';
import { changeProtection } from './change-protection.ts';
import type { Vma } from './vma.ts';
import { findVmas, lookVma, maySplit, mergeVmas, replaceVma, splitVma } from './vma-edit.ts';

/** PROT_*; all absent: PROT_NONE. */
export interface Protection {
  readonly read?: boolean;
  readonly write?: boolean;
  readonly exec?: boolean;
}

/** mprotect. ENOMEM: a hole; EACCES: beyond VM_MAYREAD or VM_MAYWRITE; EINTR: killed while waiting. */
export function* mprotect(core: CoreMm, vpn: number, pages: number, protection: Protection): Steps<'ok' | Errno> {
  const { task } = core.current;
  const mm = task.mm.peek()!;
  if (pages === 0) return 'ok';
  if (!(yield* call(mm.mmapLock.killable(true, task.killed)))) return 'EINTR';
  const result = yield* call(doMprotect(core, mm, vpn, vpn + pages, protection));
  yield mm.mmapLock.up();
  return result;
}

function* doMprotect(core: CoreMm, mm: Mm, from: number, to: number, protection: Protection): Steps<'ok' | Errno> {
  const vmas = yield* call(findVmas(mm, from, to));
  if (vmas.length === 0 || vmas[0]!.start > from) return 'ENOMEM';
  const gather = yield* call(tlbGather(core, mm));
  let result: 'ok' | Errno = 'ok';
  let reached = from;
  for (const vma of vmas) {
    const start = Math.max(from, vma.start);
    if (start !== reached) {
      result = 'ENOMEM';
      break;
    }
    const end = Math.min(to, vma.end);
    result = yield* call(mprotectFixup(core, mm, gather, vma, start, end, protection));
    if (result !== 'ok') break;
    reached = end;
  }
  yield* call(tlbFinish(core, gather));
  yield* call(mergeVmas(mm, from, to));
  return result === 'ok' && reached < to ? 'ENOMEM' : result;
}

function* mprotectFixup(
  core: CoreMm,
  mm: Mm,
  gather: MmuGather,
  vma: Vma,
  from: number,
  to: number,
  protection: Protection,
): Steps<'ok' | Errno> {
  const { read = false, write = false, exec = false } = protection;
  const old = vma.fields;
  if ((read && !old.mayRead) || (write && !old.mayWrite)) return 'EACCES';
  if (read === old.read && write === old.write && exec === old.exec) return 'ok';
  if (!maySplit(core, vma, from) || !maySplit(core, vma, to)) return 'EINVAL';
  yield* call(splitVma(core, mm, from));
  yield* call(splitVma(core, mm, to));
  const changed = lookVma(mm, from)!.with({ read, write, exec });
  yield* call(replaceVma(mm, changed));
  yield* call(changeProtection(core, gather, mm, changed, from, to));
  // A private locked VMA that becomes writable gets its own pages now.
  if (old.locked && !old.shared && !old.write && write) {
    yield* call(populateUserPages(core, mm, from, to - from, true));
  }
  return 'ok';
}
