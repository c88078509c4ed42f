// Helpers of lab.h in operations: opening VFIO with the scratch page, DMA, the evidence in /proc.
import { call, type Steps } from '../../src/engine/process.ts';
import { writes } from './image.ts';
import type { Result, Session } from './session.ts';

export const PG = 4096n;
export const IOVA0 = 0x10000000n;
export const IOVA_SCRATCH = 0x40000000n;
export const VR = 1;
export const VW = 2;
export const VRW = 3;

/** vf_open_bdf with the container of the process: group, device, BAR. The first register is read. */
export function* vfOpen(s: Session, type: 'type1' | 'type1v2' = 'type1v2'): Steps<void> {
  yield* call(must(s, 'vfio.attach', { device: 'edu', type }));
  yield* call(mapBar(s, 'edu', 'bar'));
  yield* call(must(s, 'mmap', { name: 'scratch', size: PG, shared: true }));
  yield* call(must(s, 'cpu.write', { memory: 'scratch', value: 'scratch' }));
}

/** vf_dev_init */
export function* mapBar(s: Session, device: string, name: string): Steps<void> {
  yield* call(must(s, 'vfio.mmap_bar', { device, name }));
  yield* call(must(s, 'cpu.read', { memory: name }));
}

/** vf_need: an open device, and the scratch page mapped at IOVA_SCRATCH. */
export function* vfNeed(s: Session, type: 'type1' | 'type1v2' = 'type1v2'): Steps<void> {
  yield* call(vfOpen(s, type));
  yield* call(must(s, 'vfio.map', { device: 'edu', memory: 'scratch', iova: IOVA_SCRATCH }));
}

/** vf_map of part of a mapping, READ and WRITE unless `flags` says otherwise. */
export function vfMap(
  s: Session,
  memory: string,
  offset: bigint,
  iova: bigint,
  length: bigint,
  flags = VRW,
): Steps<Result> {
  return s.op('vfio.map', { device: 'edu', memory, offset, iova, length, flags });
}

/** vf_unmap */
export function vfUnmap(s: Session, iova: bigint, size: bigint, flags = 0): Steps<Result> {
  return s.op('vfio.unmap', { device: 'edu', iova, size, flags });
}

/** drop_to_user: uid 1000 with this RLIMIT_MEMLOCK. */
export function* dropToUser(s: Session, memlock: bigint): Steps<void> {
  yield* call(must(s, 'setrlimit', { memlock }));
  yield* call(must(s, 'setuid', { uid: 1000 }));
}

/** A byte that the programs read, as a number: contents are single letters, or zero. */
export function byteOf(value: unknown): number {
  return value === 'zero' ? 0 : String(value).charCodeAt(0);
}

/** An operation that the program relies on. */
export function* must(s: Session, name: string, args: Readonly<Record<string, unknown>>): Steps<Result> {
  const result = yield* call(s.op(name, args));
  if (result.errno !== null) throw new Error(`${name} fails with ${result.errno}`);
  return result;
}

/** VmLck in kB. */
export function* vmlck(s: Session): Steps<number> {
  yield* call(writes(s, 'stdio'));
  return Number((yield* call(s.op('status'))).shows.VmLck) / 1024;
}

/** VmPin in kB. */
export function* vmpin(s: Session): Steps<number> {
  return Number((yield* call(s.op('status'))).shows.VmPin) / 1024;
}

/** mmap anonymous private memory of `pages`, not huge, every page written. */
export function* anonTouched(s: Session, name: string, pages: bigint, value = 'a'): Steps<void> {
  yield* call(must(s, 'mmap', { name, size: pages * PG }));
  yield* call(must(s, 'madvise', { memory: name, advice: 'NOHUGEPAGE' }));
  yield* call(must(s, 'touch', { memory: name, value }));
}

/** The address of a mapping. */
export function addressOf(s: Session, memory: string): bigint {
  const place = s.world.place('lab', memory);
  if (place === undefined) throw new Error(`no mapping ${memory}`);
  return BigInt(place.vpn) * PG;
}
