// The vocabulary of a step: what a process announces before it touches shared state, and the module-level constant
// that names the kernel code being modelled. One Access is one announced step; its arrays are reused, never reallocated.
import type { Gate } from './gate.ts';
import { hashText } from './hash.ts';

/** Kinds of announced access. ADD commutes with ADD and conflicts with everything else (LRU adds, vmstat counters). */
export const READ = 1;
export const WRITE = 2;
/** Read-modify-write: counts as a read when nothing gets assigned. */
export const UPDATE = 3;
export const ADD = 4;
/**
 * Touched only if the step turns out one way (what the last put of a page frees): counts for nothing when it was not,
 * else as what was done. The act must look at such an object in ways that are noted (`value`, `get`), never with `peek`.
 */
export const PERHAPS = 5;
export type AccessKind = typeof READ | typeof WRITE | typeof UPDATE | typeof ADD | typeof PERHAPS;

/** Bits of `Access.did`: what the act really did to the object. */
export const DID_READ = 1;
export const DID_WRITE = 2;
export const DID_ADD = 4;

/**
 * A labelled scheduling point. Made once per call site, at module level.
 * `label` is `kernel_function:what`; `latency` names the class of quantile table that prices it.
 */
export interface Step {
  readonly label: string;
  readonly latency: string;
  /** Dense number, for arrays indexed by latency class. Never part of a digest: it depends on import order. */
  readonly latencyIndex: number;
  /** Of the label, for digests. */
  readonly hash: number;
  /** What stands for an announcement of this step that touches nothing; made when first needed, never changed. */
  plain: Access | null;
}

const latencyClasses = new Map<string, number>();

/** The dense number of a latency class, allotted on first use. */
export function latencyIndexOf(name: string): number {
  let index = latencyClasses.get(name);
  if (index === undefined) {
    index = latencyClasses.size;
    latencyClasses.set(name, index);
  }
  return index;
}

const declared = new Set<string>();

/** Labels of all steps declared so far: what a scenario may wait for once the model is loaded. */
export function knownLabels(): ReadonlySet<string> {
  return declared;
}

/** Declare a step. Default latency class: `op`. */
export function step(label: string, latency = 'op'): Step {
  declared.add(label);
  return { label, latency, latencyIndex: latencyIndexOf(latency), hash: hashText(label), plain: null };
}

/** What a process yields after announcing. Nothing comes back through the yield. */
export const ANNOUNCED = { announced: true } as const;
export type Announced = typeof ANNOUNCED;

export const START = step('start', 'none');

const NONE: number[] = [];

/** The accesses of one step: `count` entries over object ids lo..hi inclusive. */
export class Access {
  count = 0;
  gate: Gate | null = null;
  step: Step = START;
  /** How many units of the step's latency this step costs (pages of a bulk step). */
  times = 1;
  /** Extra simulated time before acting [ns]: sleeps and timers; ignored when explored. */
  delayNs = 0;
  /** One for many processes: it is not to be built in. */
  shared = false;
  // Made at the first access: of thousands of actors that sleep, none needs them.
  lo: number[] = NONE;
  hi: number[] = NONE;
  kind: AccessKind[] = NONE as AccessKind[];
  did: number[] = NONE;

  reset(): void {
    this.count = 0;
    this.gate = null;
    this.times = 1;
    this.delayNs = 0;
  }

  add(lo: number, hi: number, kind: AccessKind): void {
    if (this.lo === NONE) {
      this.lo = [];
      this.hi = [];
      this.kind = [];
      this.did = [];
    }
    const i = this.count++;
    this.lo[i] = lo;
    this.hi[i] = hi;
    this.kind[i] = kind;
    this.did[i] = 0;
  }
}

/** May these two announced accesses not commute? Judged on announced kinds (an UPDATE may write). */
export function mayConflict(a: Access, b: Access): boolean {
  for (let i = 0; i < a.count; i++) {
    const aKind = a.kind[i]!;
    for (let j = 0; j < b.count; j++) {
      if (a.lo[i]! > b.hi[j]! || b.lo[j]! > a.hi[i]!) continue;
      const bKind = b.kind[j]!;
      if (aKind === READ && bKind === READ) continue;
      if (aKind === ADD && bKind === ADD) continue;
      return true;
    }
  }
  return false;
}
