// What madvise hands to other parts of the memory model: reclaim, collapse, memory failure, KSM. They install themselves
// here when the world is built, because they use what madvise uses: an import each way would be a cycle.
import { call, type Steps } from '../../engine/process.ts';
import type { CoreMm } from '../core.ts';
import type { Errno } from '../errno.ts';
import type { Vma } from '../mapping/vma.ts';
import type { Mm } from '../mm.ts';
import { folioPutbackLru } from '../reclaim/lru.ts';

export interface MadviseHooks {
  /** reclaim_pages of isolated folios; returns how many were freed. What is kept goes back to its list. */
  reclaimPages?(core: CoreMm, heads: readonly number[], options: { readonly madvPageout: true }): Steps<number>;
  /** madvise_collapse of [from, to); mmap_lock is held for read on entry and on return, and dropped in between. */
  collapse?(core: CoreMm, mm: Mm, vma: Vma, from: number, to: number): Steps<'ok' | Errno>;
  /** madvise_inject_error: MADV_HWPOISON and MADV_SOFT_OFFLINE of pages of the caller, without mmap_lock. */
  hwpoison?(core: CoreMm, vpn: number, pages: number): Steps<'ok' | Errno>;
  softOffline?(core: CoreMm, vpn: number, pages: number): Steps<'ok' | Errno>;
  /** __ksm_enter: the scanner will look at this mm. */
  ksmEnter?(core: CoreMm, mm: Mm): Steps<void>;
  /** unmerge_ksm_pages of [from, to): every KSM page there becomes the process's own again. */
  ksmUnmerge?(core: CoreMm, mm: Mm, vma: Vma, from: number, to: number): Steps<'ok' | Errno>;
  /** khugepaged_enter_vma */
  khugepagedEnter?(core: CoreMm, mm: Mm): Steps<void>;
}

const installed = new WeakMap<CoreMm, MadviseHooks>();

/** Add hooks to those installed already. */
export function installMadvise(core: CoreMm, hooks: MadviseHooks): void {
  installed.set(core, { ...installed.get(core), ...hooks });
}

export function madviseHooks(core: CoreMm): MadviseHooks {
  return installed.get(core) ?? {};
}

/** reclaim_pages. In a world without reclaim every page is kept. */
export function* reclaimIsolated(core: CoreMm, heads: readonly number[]): Steps<number> {
  if (heads.length === 0) return 0;
  const { reclaimPages } = madviseHooks(core);
  if (reclaimPages !== undefined) return yield* call(reclaimPages(core, heads, { madvPageout: true }));
  for (const head of heads) yield* call(folioPutbackLru(core, head));
  return 0;
}
