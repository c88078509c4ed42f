// O_DIRECT: reads and writes that the device does straight to and from pages of the process.
import * as z from 'zod';
import { call } from '../../engine/process.ts';
import { DirectIo } from '../../mm/file/dio-bio.ts';
import { directRead, directWrite, submitDirectRead } from '../../mm/file/direct-io.ts';
import { type Ref, zDeclares, zRef } from '../file/reference.ts';
import { zAddress } from '../file/scalar.ts';
import { ScriptMistake } from '../mistake.ts';
import { defineOperation } from '../operation.ts';
import type { OperationContext } from '../world/context.ts';
import { isOpen } from './descriptor.ts';
import { inodeOf } from './files.ts';
import { outcome } from './mapping.ts';
import { mustRange, WHERE, type WhereArgs } from './place.ts';

const PAGE = 4096n;
const ARGS = {
  file: zRef('memory').describe('The file (a memory object of kind file) that was opened with O_DIRECT.'),
  file_offset: zAddress.optional().describe('Byte in the file; default 0.'),
  ...WHERE,
} as const;

/** Logical blocks and the DMA alignment of most disks [bytes]. */
const BLOCK = 512n;

/** EINVAL: position, length or memory are not aligned to the blocks of the disk (iomap_dio_bio_iter); btrfs goes through the cache. */
function request(context: OperationContext, args: WhereArgs & { file: Ref; file_offset?: bigint | undefined }) {
  const { address, bytes, vpn, pages } = mustRange(context, args);
  const inode = inodeOf(context, args.file);
  const position = args.file_offset ?? 0n;
  const aligned = inode.fs === 'btrfs' || (position | bytes | address) % BLOCK === 0n;
  return { inode, index: Number(position / PAGE), vpn, pages, aligned };
}

export const directIoOperations = [
  defineOperation({
    name: 'dio.read',
    summary: 'read() of an O_DIRECT file: the device writes into pages of the process.',
    on: ['process'],
    args: z.strictObject(ARGS),
    *run(context, args) {
      const { inode, index, vpn, pages, aligned } = request(context, args);
      if (!(yield* call(isOpen(context, inode)))) return { errno: 'EBADF' };
      if (!aligned) return { errno: 'EINVAL' };
      return outcome(yield* call(directRead(context.performance.world.core, inode, index, vpn, pages)));
    },
  }),
  defineOperation({
    name: 'dio.write',
    summary: 'write() of an O_DIRECT file: the device reads pages of the process.',
    on: ['process'],
    args: z.strictObject(ARGS),
    *run(context, args) {
      const { inode, index, vpn, pages, aligned } = request(context, args);
      if (!(yield* call(isOpen(context, inode)))) return { errno: 'EBADF' };
      if (!aligned) return { errno: 'EINVAL' };
      return outcome(yield* call(directWrite(context.performance.world.core, inode, index, vpn, pages)));
    },
  }),
  defineOperation({
    name: 'dio.submit_read',
    summary: 'io_submit() of an O_DIRECT read: returns while the device is still at it.',
    on: ['process'],
    args: z.strictObject({ ...ARGS, as: zDeclares('io') }),
    *run(context, args) {
      const { world } = context.performance;
      const { inode, index, vpn, pages, aligned } = request(context, args);
      if (!(yield* call(isOpen(context, inode)))) return { errno: 'EBADF' };
      if (!aligned) return { errno: 'EINVAL' };
      const io = yield* call(submitDirectRead(world.core, inode, index, vpn, pages));
      if (typeof io === 'string') return { errno: io };
      world.looks.name(args.as.name, () => world.named.set(`io:${args.as.name}`, io));
      return { returns: 0 };
    },
  }),
  defineOperation({
    name: 'dio.wait',
    summary: 'io_getevents(): waits until a submitted direct IO is complete.',
    on: ['process'],
    args: z.strictObject({ io: zRef('io') }),
    *run(context, args) {
      const io = context.performance.world.named.get(`io:${args.io.name}`);
      if (!(io instanceof DirectIo)) throw new ScriptMistake(`${args.io.name} has not been submitted`);
      yield io.wait();
      return outcome(io.result.value);
    },
  }),
];
