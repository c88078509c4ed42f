// What makes a world's memory management complete: reclaim with a kswapd per node, migration for long-term pins, and what
// madvise hands on (reclaim, collapse, memory failure, KSM). Called once while the world is built, after the actors of the
// set-up are forgotten (finishSetUp): kswapd is an actor.
import { call } from '../engine/process.ts';
import type { CoreMm } from './core.ts';
import { Ksm } from './ksm/ksm.ts';
import { installMadvise } from './madvise/madvise-hooks.ts';
import { injectError } from './migrate/soft-offline.ts';
import { type ReclaimOptions, startReclaim } from './reclaim/kswapd.ts';
import { reclaimPages } from './reclaim/reclaim.ts';
import { khugepagedScanMm, madviseCollapse } from './thp/collapse.ts';

/** What somebody must play: ksmd's and khugepaged's scans do not run by themselves. */
export interface Scanners {
  readonly ksm: Ksm;
  /** One pass of khugepaged over an address space. */
  readonly khugepaged: typeof khugepagedScanMm;
}

export function startCoreMm(core: CoreMm, options: ReclaimOptions = {}): Scanners {
  const ksm = new Ksm(core);
  startReclaim(core, options);
  installMadvise(core, {
    reclaimPages: (_core, heads) => reclaimPages(core, heads),
    collapse: madviseCollapse,
    hwpoison: (_core, vpn, pages) => injectError(core, vpn, pages, 'hwpoison'),
    softOffline: (_core, vpn, pages) => injectError(core, vpn, pages, 'soft-offline'),
    *ksmEnter(_core, mm) {
      yield* call(ksm.enter(mm));
    },
    *ksmUnmerge(_core, mm, _vma, from, to) {
      return yield* call(ksm.unmerge(mm, from, to));
    },
  });
  return { ksm, khugepaged: khugepagedScanMm };
}
