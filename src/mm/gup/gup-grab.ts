// Counting a grab and its release on folios (mm/gup.c try_grab_folio, gup_put_folio): FOLL_GET adds 1; FOLL_PIN adds
// GUP_PIN_COUNTING_BIAS to a small folio, and 1 reference and 1 pin per page to a large one. Reference and pin of a
// large folio are one step: nobody concludes anything from seeing the reference first.
import type { Announced, Step } from '../../engine/step.ts';
import type { CoreMm } from '../core.ts';
import { GUP_PIN_COUNTING_BIAS, REFCOUNT_MAX } from '../folio.ts';
import type { Refusal } from '../ledger.ts';
import { type GupFlags, refuse } from './gup-flags.ts';

/** References that one grabbed page adds to its folio. */
export function referencesPerPage(core: CoreMm, grab: 'pin' | 'get', large: boolean): number {
  if (grab === 'get' || !core.kernel.has('gup.foll-pin')) return 1;
  return large && core.kernel.has('gup.huge-pincount') ? 1 : GUP_PIN_COUNTING_BIAS;
}

/** Is a pin of this folio also counted in its pincount? */
export function hasPincount(core: CoreMm, large: boolean): boolean {
  return large && core.kernel.has('gup.foll-pin') && core.kernel.has('gup.huge-pincount');
}

/** Does pinning the 4 KiB zero page count nothing? */
export function ignoresZeroPage(core: CoreMm, head: number): boolean {
  return head === core.zeroPfn && core.kernel.has('gup.zeropage-not-pinned');
}

/** A 32-bit signed counter wraps. */
function wrap(count: number): number {
  return count | 0;
}

/** Announce counting grabs or releases of `head`. */
export function willCount(core: CoreMm, head: number, at: Step): Announced {
  core.vmstat.willAdd('nr_foll_pin_acquired', at);
  return core.folios.refcount.willUpdate(head, at);
}

/** Announce counting one grab on each of the small folios first..last. */
export function willCountRun(core: CoreMm, first: number, last: number, at: Step): Announced {
  core.vmstat.willAdd('nr_foll_pin_acquired', at);
  return core.folios.refcount.willUpdateRange(first, last, at);
}

/** Add the references and pins of `pages` grabs to a folio known to be alive. In a step announced by `willCount`. */
export function countGrab(core: CoreMm, grab: 'pin' | 'get', head: number, pages: number): void {
  const { refcount, pincount } = core.folios;
  const large = core.folios.isLarge(head);
  refcount.set(head, wrap(refcount.get(head) + pages * referencesPerPage(core, grab, large)));
  if (grab === 'get') return;
  if (hasPincount(core, large)) pincount.set(head, pincount.get(head) + pages);
  core.vmstat.add('nr_foll_pin_acquired', pages);
}

/**
 * try_grab_folio of the slow path (6.1: try_grab_page), under the page-table lock or with a reference already held, in
 * a step announced by `willCount`. Error: ENOMEM when the reference count is not positive (it has wrapped).
 */
export function grabSlow(core: CoreMm, flags: GupFlags, head: number, pages: number): Refusal | null {
  const references = core.folios.refcount.get(head);
  if (references <= 0) {
    return refuse(
      'ENOMEM',
      `try_grab_folio: the reference count of pfn ${head} is ${references}; it has wrapped`,
      `fewer pins of the same page: a small page bears ${Math.floor((REFCOUNT_MAX + 1) / GUP_PIN_COUNTING_BIAS)}`,
      { refcount: references },
    );
  }
  if (flags.grab === 'none') return null;
  if (flags.grab === 'pin' && ignoresZeroPage(core, head)) {
    if (core.kernel.has('gup.slow.zeropage-grab-succeeds')) return null;
    return refuse(
      'ENOMEM',
      'try_grab_page: the zero page is not pinned, and this kernel takes that for a failure (6.1.130 to 6.1.134)',
      'write to the memory before pinning it, or a kernel with "mm: Fix is_zero_page() usage in try_grab_page()"',
    );
  }
  countGrab(core, flags.grab, head, pages);
  return null;
}

/**
 * As grabSlow, `want` times on the zero page: how many of them succeeded before one was refused, or the refusal of the
 * first.
 */
export function grabZeros(core: CoreMm, flags: GupFlags, head: number, want: number): number | Refusal {
  const { grab } = flags;
  const before = core.folios.refcount.get(head);
  const counts = grab === 'get' || (grab === 'pin' && !ignoresZeroPage(core, head));
  const each = counts ? referencesPerPage(core, grab, false) : 0;
  // The one that makes the count wrap still succeeds.
  const fit = each === 0 || before <= 0 ? want : Math.min(want, Math.floor((REFCOUNT_MAX - before) / each) + 1);
  return grabSlow(core, flags, head, fit) ?? fit;
}

/**
 * How many of the small folios first..last, from the first on, can take another grab without any special case. In a
 * step announced by `willCountRun`.
 */
export function grabbableRun(core: CoreMm, grab: 'pin' | 'get', first: number, last: number): number {
  const { refcount } = core.folios;
  const most = REFCOUNT_MAX - referencesPerPage(core, grab, false);
  if (core.sim.watching) for (let pfn = first; pfn <= last; pfn++) refcount.get(pfn);
  return refcount.firstOutside(first, last, 1, most) - first;
}

/** One grab on each of the small folios first..last, checked by `grabbableRun`. */
export function countGrabRun(core: CoreMm, grab: 'pin' | 'get', first: number, last: number): void {
  core.folios.refcount.addRange(first, last, referencesPerPage(core, grab, false));
  if (grab === 'pin') core.vmstat.add('nr_foll_pin_acquired', last - first + 1);
}
