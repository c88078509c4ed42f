// Advice that only changes flags of VMAs (mm/madvise.c madvise_vma_behavior, madvise_update_vma, mm/ksm.c ksm_madvise).
// mmap_lock is held for write.
import { call, type Steps } from '../../engine/process.ts';
import type { CoreMm } from '../core.ts';
import type { Errno } from '../errno.ts';
import type { Vma, VmaFields } from '../mapping/vma.ts';
import { lookVma, maySplit, mergeVmas, replaceVma, splitVma } from '../mapping/vma-edit.ts';
import type { Mm } from '../mm.ts';
import { madviseHooks } from './madvise-hooks.ts';

export type VmaAdvice =
  | 'DONTFORK'
  | 'DOFORK'
  | 'WIPEONFORK'
  | 'KEEPONFORK'
  | 'MERGEABLE'
  | 'UNMERGEABLE'
  | 'HUGEPAGE'
  | 'NOHUGEPAGE';

/** EINVAL: not for this kind of memory. */
export function* adviseVma(
  core: CoreMm,
  mm: Mm,
  vma: Vma,
  from: number,
  to: number,
  advice: VmaAdvice,
): Steps<'ok' | Errno> {
  const change = changeOf(vma, advice);
  if (change === 'EINVAL') return 'EINVAL';
  const hooks = madviseHooks(core);
  if (advice === 'UNMERGEABLE' && vma.fields.mergeable && hooks.ksmUnmerge !== undefined) {
    const unmerged = yield* call(hooks.ksmUnmerge(core, mm, vma, from, to));
    if (unmerged !== 'ok') return unmerged;
  }
  if (advice === 'MERGEABLE' && change !== null && hooks.ksmEnter !== undefined) yield* call(hooks.ksmEnter(core, mm));
  if (advice === 'HUGEPAGE' && hooks.khugepagedEnter !== undefined) yield* call(hooks.khugepagedEnter(core, mm));
  if (change === null || already(vma, change)) return 'ok';
  if (!maySplit(core, vma, from) || !maySplit(core, vma, to)) return 'EINVAL';
  yield* call(splitVma(core, mm, from));
  yield* call(splitVma(core, mm, to));
  yield* call(replaceVma(mm, lookVma(mm, from)!.with(change)));
  yield* call(mergeVmas(mm, from, to));
  return 'ok';
}

/** The new flags; null: accepted, but without effect. */
function changeOf(vma: Vma, advice: VmaAdvice): Partial<VmaFields> | 'EINVAL' | null {
  const { io, file, vmFile, shared } = vma.fields;
  switch (advice) {
    case 'DONTFORK':
      return { dontFork: true };
    case 'DOFORK':
      return io ? 'EINVAL' : { dontFork: false };
    case 'WIPEONFORK':
      return file !== null || vmFile !== null || shared ? 'EINVAL' : { wipeOnFork: true };
    case 'KEEPONFORK':
      return { wipeOnFork: false };
    case 'MERGEABLE':
      // vma_ksm_compatible: KSM passes over shared, raw and hugetlb memory.
      return shared || io || vma.dontExpand ? null : { mergeable: true };
    case 'UNMERGEABLE':
      return { mergeable: false };
    case 'HUGEPAGE':
      return { hugepage: 'always' };
    case 'NOHUGEPAGE':
      return { hugepage: 'never' };
  }
}

function already(vma: Vma, change: Partial<VmaFields>): boolean {
  const fields: Partial<VmaFields> = vma.fields;
  return (Object.keys(change) as (keyof VmaFields)[]).every((key) => fields[key] === change[key]);
}
