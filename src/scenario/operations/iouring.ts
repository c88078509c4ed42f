// io_uring as far as memory goes: rings, registered buffers, and IO through them.
import * as z from 'zod';
import { call, type Steps } from '../../engine/process.ts';
import { step } from '../../engine/step.ts';
import { closeRing, fixedIo, IoUring, type Iovec, registerBuffers, unregisterBuffers } from '../../iouring/index.ts';
import { OpenFile } from '../../mm/process/task.ts';
import { type Ref, zDeclares, zRef } from '../file/reference.ts';
import { zAddress, zContent, zCount, zSize } from '../file/scalar.ts';
import { ScriptMistake } from '../mistake.ts';
import { defineOperation, type Outcome } from '../operation.ts';
import type { OperationContext } from '../world/context.ts';
import { fileNamed, installFile } from '../world/devices.ts';
import { ownContent, tokensOf } from './access.ts';
import { defineIoctl } from './descriptor.ts';
import { mustRange, processOf, WHERE, type WhereArgs } from './place.ts';

const PAGE = 4096n;
const SETUP = step('io_uring_setup', 'op');

const RING = { ring: zRef('ring').describe('A ring of the process.') } as const;

function ringOf(context: OperationContext, ref: Ref): IoUring {
  const ring = fileNamed(context.performance.world, ref.name)?.object;
  if (!(ring instanceof IoUring)) throw new ScriptMistake(`${processOf(context)} has no ring ${ref.name}`);
  return ring;
}

const zBuffer = z
  .strictObject({
    ...WHERE,
    base: zAddress.optional().describe('iov_base as a number, when it is not a mapping of the process.'),
    bytes: zSize.optional().describe('iov_len, beside `base`.'),
  })
  .describe('struct iovec: a mapping of the process or part of it, or a bare base and length.');

function iovecOf(context: OperationContext, buffer: z.output<typeof zBuffer>): Iovec {
  if (buffer.memory === undefined && buffer.at === undefined) {
    return { base: buffer.base ?? 0n, bytes: buffer.bytes ?? 0n };
  }
  const range = mustRange(context, buffer);
  return { base: range.address, bytes: buffer.length ?? range.bytes };
}

/** One request on the pages of a range; they lie in buffer `buffer` or the request fails. */
function* transfer(
  context: OperationContext,
  args: WhereArgs & { readonly buffer?: number | undefined },
  ring: IoUring,
  text: string | null,
): Steps<Outcome> {
  const { core } = context.performance.world;
  const slot = args.buffer ?? 0;
  const { address, bytes, vpn, pages } = mustRange(context, { ...args, length: args.length ?? 1n });
  // io_import_fixed counts from the start of the buffer; where none is, any page of it is as wrong.
  const buffer = ring.buffers.peek()?.[slot];
  const base = buffer?.base ?? 0n;
  // All of it lies in the buffer, or nothing is moved.
  if (buffer && (address < base || address + bytes > base + BigInt(buffer.bytes))) return { errno: 'EFAULT' };
  const write = text === null ? null : { token: tokensOf(context).of(text) };
  const seen: string[] = [];
  for (let page = vpn - Number(base / PAGE), i = 0; i < pages; i++) {
    const result = yield* call(fixedIo(core, ring, slot, page + i, write));
    if ('errno' in result) return { errno: result.errno };
    const value = tokensOf(context).text(result.token);
    if (seen[seen.length - 1] !== value) seen.push(value);
  }
  return { returns: 0, shows: { value: seen.join(' ') } };
}

const TRANSFER_ARGS = {
  ...RING,
  ...WHERE,
  buffer: zCount().optional().describe('Number of the registered buffer; default 0.'),
} as const;
const VALUE_SHOWN = { value: 'What was moved: one word, or words in order where it changes.' };

export const iouringOperations = [
  defineOperation({
    name: 'iouring.setup',
    summary: 'io_uring_setup(). The ring charges whoever set it up; `close` ends it.',
    on: ['process'],
    args: z.strictObject({ as: zDeclares('ring', 'fd') }),
    *run(context, args) {
      const { world } = context.performance;
      const { core } = world;
      const { current } = core;
      const { process } = current;
      const name = args.as.name;
      yield world.sim.local(SETUP);
      const ring = new IoUring(world.sim, current, `${name} of ${process.name}#${process.nextNumber()}`);
      const release = () => closeRing(core, ring);
      const file = new OpenFile(world.sim, { name: `${ring.name} file`, kind: 'io_uring', object: ring, release });
      yield* call(installFile(world, name, file));
      return { returns: 0 };
    },
  }),
  defineIoctl({
    name: 'iouring.register',
    summary: 'IORING_REGISTER_BUFFERS: pins buffers for as long as they are registered.',
    on: ['process'],
    args: z.strictObject({
      ...RING,
      buffers: z.array(zBuffer),
      count: zCount().optional().describe('nr_args; default: as many as there are.'),
    }),
    target: (context, args) => ringOf(context, args.ring),
    *run(context, args, ring) {
      const { core } = context.performance.world;
      const iovecs = args.buffers.map((buffer) => iovecOf(context, buffer));
      const count = args.count ?? iovecs.length;
      const given = Array.from({ length: count }, (_, i): Iovec => iovecs[i] ?? { base: 0n, bytes: 0n });
      const errno = yield* call(registerBuffers(core, ring, given));
      return errno === null ? { returns: 0 } : { errno };
    },
  }),
  defineIoctl({
    name: 'iouring.unregister',
    summary: 'IORING_UNREGISTER_BUFFERS: waits for requests that use the buffers, then unpins them.',
    on: ['process'],
    args: z.strictObject(RING),
    target: (context, args) => ringOf(context, args.ring),
    *run(context, _args, ring) {
      const errno = yield* call(unregisterBuffers(context.performance.world.core, ring));
      return errno === null ? { returns: 0 } : { errno };
    },
  }),
  defineIoctl({
    name: 'iouring.read_fixed',
    summary: 'IORING_OP_READ_FIXED: data comes from outside and lands in the pinned pages of a buffer.',
    on: ['process'],
    args: z.strictObject({ ...TRANSFER_ARGS, value: zContent.optional().describe('What comes in.') }),
    shows: VALUE_SHOWN,
    target: (context, args) => ringOf(context, args.ring),
    run: (context, args, ring) => transfer(context, args, ring, args.value ?? ownContent(context)),
  }),
  defineIoctl({
    name: 'iouring.write_fixed',
    summary: 'IORING_OP_WRITE_FIXED: what the pinned pages of a buffer hold goes out.',
    on: ['process'],
    args: z.strictObject(TRANSFER_ARGS),
    shows: VALUE_SHOWN,
    target: (context, args) => ringOf(context, args.ring),
    run: (context, args, ring) => transfer(context, args, ring, null),
  }),
];
