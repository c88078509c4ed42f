// snap() and snap_map_obs() of mem.h: the evidence that pinning leaves behind.
import { call, type Steps } from '../../src/engine/process.ts';
import type { Mem } from './mem.ts';
import type { Session } from './session.ts';
import { vmlck, vmpin } from './vf.ts';

export interface Snap {
  readonly lck: number;
  readonly pin: number;
  readonly acquired: number;
  readonly released: number;
  readonly present: number;
  readonly pfn: number;
  readonly zero: boolean;
  readonly anon: boolean;
  readonly huge: boolean;
  readonly zone: string;
  readonly swapped: boolean;
}

/** Counters, and the pages of a mapping (none: only counters). */
export function* snap(s: Session, mem: Mem | null): Steps<Snap> {
  const stat = (yield* call(s.op('vmstat'))).shows;
  const lck = yield* call(vmlck(s));
  const pin = yield* call(vmpin(s));
  const counters = {
    lck,
    pin,
    acquired: Number(stat.nr_foll_pin_acquired),
    released: Number(stat.nr_foll_pin_released),
  };
  const nothing = { present: 0, pfn: 0, zero: false, anon: false, huge: false, zone: '?', swapped: false };
  if (mem === null || mem.address !== undefined) return { ...counters, ...nothing };
  const map = (yield* call(s.op('pagemap', { memory: mem.memory, length: mem.bytes }))).shows;
  return {
    ...counters,
    present: Number(map.present_pages),
    pfn: Number(map.pfn),
    zero: map.zero_page === true,
    anon: map.anon === true,
    huge: map.huge_page === true,
    zone: String(map.zone ?? '?'),
    swapped: map.swapped === true,
  };
}

/** The differences, as recorded. */
export function mapObserved(a: Snap, b: Snap): Record<string, unknown> {
  const observed: Record<string, unknown> = {
    pages_present_before: a.present,
    pages_present_after: b.present,
    vmlck_kb_delta: b.lck - a.lck,
    vmpin_kb_delta: b.pin - a.pin,
    foll_pin_acquired: b.acquired - a.acquired,
    foll_pin_released: b.released - a.released,
  };
  if (a.pfn !== 0 || b.pfn !== 0) observed.first_pfn_changed = a.pfn !== b.pfn;
  if (a.pfn !== 0) observed.zero_page_before = a.zero;
  if (b.pfn !== 0)
    Object.assign(observed, { zero_page_after: b.zero, anon_after: b.anon, huge_after: b.huge, zone_after: b.zone });
  if (a.pfn !== 0) observed.zone_before = a.zone;
  return observed;
}
