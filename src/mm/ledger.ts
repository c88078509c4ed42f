// The ledger: who pinned, charged or translated what. Model code reports through these events; checkers and reports
// listen. Runs are contiguous frames, so that a terabyte costs as few entries as it has runs.
import { eventType } from '../engine/event.ts';
import type { Errno } from './errno.ts';
import type { Mm } from './mm.ts';

/** `pages` frames from `pfn`. */
export interface FrameRun {
  readonly pfn: number;
  readonly pages: number;
}

export interface PinEvent {
  readonly runs: readonly FrameRun[];
  /** Who holds the pin: `vfio-type1 container0`, `io_uring ring`, `kvm_vcpu_map`. */
  readonly owner: string;
  /** The mm pinned through, and the first page of the address range. */
  readonly mm: string;
  readonly vpn: number;
  readonly longterm: boolean;
  readonly write: boolean;
}
export const PIN_TAKEN = eventType<PinEvent>('pin-taken');

export interface UnpinEvent {
  readonly runs: readonly FrameRun[];
  readonly owner: string;
  readonly dirty: boolean;
}
export const PIN_DROPPED = eventType<UnpinEvent>('pin-dropped');

/** Plain references (get_user_pages) that somebody keeps under a name. */
export interface ReferenceEvent {
  readonly runs: readonly FrameRun[];
  readonly owner: string;
}
export const REFERENCE_TAKEN = eventType<ReferenceEvent>('reference-taken');
export const REFERENCE_DROPPED = eventType<ReferenceEvent>('reference-dropped');

/** One check that refused, in words and numbers: the chain from the request down to it. */
export interface Refusal {
  readonly errno: Errno;
  /** Outermost first: what was asked, how far it got, which check refused with which numbers. */
  readonly reasons: readonly string[];
  /** What would have passed. */
  readonly remedy: string;
  /** Numbers by name, bytes where nothing else is said: `limit-bytes`, `charged-bytes`, `unique-bytes`, `short-by`... */
  readonly details: Readonly<Record<string, string | number>>;
  /** Ids of the objects that the check looked at, where who changed them is what one wants to know. */
  readonly about?: readonly number[];
}

export interface PinRefused extends Refusal {
  /** `VFIO_IOMMU_MAP_DMA by qemu` */
  readonly who: string;
  /** First page and length of the range asked for [pages]. */
  readonly vpn: number;
  readonly pages: number;
}
/** An operation that had to pin failed; emitted once, by the outermost operation. */
export const PIN_REFUSED = eventType<PinRefused>('pin-refused');

export interface ChargeEvent {
  /** Which counter: `locked_vm of mm vmm`, `locked_vm of uid 1000`, `pinned_vm of mm vmm`. */
  readonly account: string;
  /** Who is charged for: the owner of the pins, `mlock`. */
  readonly owner: string;
  /** Positive: charged; negative: given back [pages]. */
  readonly pages: number;
}
export const CHARGED = eventType<ChargeEvent>('charged');

/** An account is no more (its mm died): what stands on it will never be given back, and limits nobody. */
export interface AccountGone {
  readonly account: string;
}
export const ACCOUNT_GONE = eventType<AccountGone>('account-gone');

/** The holder of pins or charges is gone (container released, ring closed): it will drop nothing any more. */
export interface OwnerGone {
  readonly owner: string;
  /** What became of it, as a clause; default: it is gone. */
  readonly why?: string;
}
export const OWNER_GONE = eventType<OwnerGone>('owner-gone');

/** From now on this account must carry the owner's charges (live update, exec). */
export interface OwnerMoved {
  readonly owner: string;
  readonly account: string;
}
export const OWNER_MOVED = eventType<OwnerMoved>('owner-moved');

/**
 * A view of process memory: pages of `holder` (IOVAs of a domain, gfns of a VM, pages that a driver pins) that its owner
 * believes to be the same bytes as pages of `mm`. `runAt` looks without a step: the contiguous frames behind page `offset`
 * on (pfn 0: none).
 */
export interface View {
  readonly kind: 'dma' | 'guest' | 'pin';
  readonly holder: string;
  readonly page: number;
  readonly mm: Mm;
  readonly vpn: number;
  readonly pages: number;
  runAt(offset: number): FrameRun;
  /** Is page `offset` known as written since its log was last taken? Null: nobody logs. Looks without a step. */
  dirtyAt?(offset: number): boolean | null;
}
export const VIEW_ADDED = eventType<View>('view-added');
/** Before the translation goes: the view must still be comparable. */
export const VIEW_REMOVED = eventType<View>('view-removed');

/** A guest wrote a page, or KVM did for it. */
export interface GuestWrote {
  /** The VM, and its guest frame. */
  readonly holder: string;
  readonly page: number;
  readonly token: number;
  /** KVM wrote, through a memslot that it had looked up: does that log dirty pages? A CPU knows of no memslots. */
  readonly logs?: boolean;
}
export const GUEST_WROTE = eventType<GuestWrote>('guest-wrote');

/**
 * From now on (no more) the VMM may rely on logs of what the guest writes to these pages: in a step ordered with accesses
 * by vCPUs.
 */
export interface DirtyLogging {
  readonly holder: string;
  readonly page: number;
  readonly on: boolean;
}
export const DIRTY_LOGGING = eventType<DirtyLogging>('dirty-logging');

/** The log of dirty pages was handed to the VMM, which copies these pages next. */
export interface DirtyLogTaken {
  readonly holder: string;
  readonly pages: readonly number[];
}
export const DIRTY_LOG_TAKEN = eventType<DirtyLogTaken>('dirty-log-taken');

/** A data write that must reach the file or swap: by CPU, device or guest. */
export interface PageDirtied {
  readonly pfn: number;
  readonly token: number;
  readonly by: 'cpu' | 'device' | 'guest' | 'kernel';
}
export const PAGE_DIRTIED = eventType<PageDirtied>('page-dirtied');

/** The kernel dropped a page's contents on purpose (zap of anon, truncation, discard). */
export interface ContentDropped {
  readonly pfn: number;
  readonly pages: number;
  readonly why: string;
}
export const CONTENT_DROPPED = eventType<ContentDropped>('content-dropped');
