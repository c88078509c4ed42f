// Helpers of iouring.c in operations: registering, and IO through the pipe as the "device".
import { call, type Steps } from '../../src/engine/process.ts';
import type { Mem } from './mem.ts';
import type { Result, Session } from './session.ts';
import { byteOf, PG } from './vf.ts';

/** reg() of part of a mapping. */
export function reg(s: Session, ring: string, memory: string, offset: bigint, length: bigint): Steps<Result> {
  return s.op('iouring.register', { ring, buffers: [{ memory, offset, length }] });
}

/** reg() of a bare address. */
export function regAt(s: Session, ring: string, base: bigint, bytes: bigint): Steps<Result> {
  return s.op('iouring.register', { ring, buffers: [{ base, bytes }] });
}

/** reg() of a whole memory type. */
export function regMem(s: Session, ring: string, mem: Mem): Steps<Result> {
  return mem.address === undefined ? reg(s, ring, mem.memory, 0n, mem.bytes) : regAt(s, ring, mem.address, mem.bytes);
}

/** unreg() */
export function unreg(s: Session, ring: string): Steps<Result> {
  return s.op('iouring.unregister', { ring });
}

/** d_write: bytes from the pipe into the first page of the buffer. */
export function deviceWrite(s: Session, ring: string, memory: string, value: string): Steps<Result> {
  return s.op('iouring.read_fixed', { ring, memory, length: PG, value });
}

/** d_read: the byte that goes out from the first page of the buffer. */
export function* deviceRead(s: Session, ring: string, memory: string): Steps<number> {
  const result = yield* call(s.op('iouring.write_fixed', { ring, memory, length: PG }));
  return result.errno === null ? byteOf(result.shows.value) : -1;
}
