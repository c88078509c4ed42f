// Files: sizes, holes, reading and writing, getting dirty pages to disk, dropping caches.
import * as z from 'zod';
import { call, type Steps } from '../../engine/process.ts';
import { step } from '../../engine/step.ts';
import { GuestMemfd } from '../../kvm/gmem-file.ts';
import { gmemFallocate } from '../../kvm/guest-memfd.ts';
import { readPage, writePage } from '../../mm/file/file-io.ts';
import type { Inode } from '../../mm/file/inode.ts';
import { fallocate, truncate } from '../../mm/file/truncate.ts';
import { dropCaches, fadviseDontneed } from '../../mm/reclaim/drop-caches.ts';
import { fsync, msync, syncAll } from '../../mm/writeback/msync.ts';
import { type Ref, zRef } from '../file/reference.ts';
import { zAddress, zContent, zSize } from '../file/scalar.ts';
import { ScriptMistake } from '../mistake.ts';
import { defineOperation, type Outcome } from '../operation.ts';
import type { OperationContext } from '../world/context.ts';
import { fileNamed } from '../world/devices.ts';
import { readOnlyFd } from '../world/memory.ts';
import { ownContent, tokensOf } from './access.ts';
import { isOpen } from './descriptor.ts';
import { outcome } from './mapping.ts';
import { mustRange, processOf, WHERE } from './place.ts';

const PAGE = 4096n;
const LOFF_END = 1n << 63n;
const DISK = step('disk:read', 'none');
const FILE = { memory: zRef('memory').describe('The file (or memfd) behind this memory.') } as const;
const PART = {
  ...FILE,
  offset: zAddress.optional().describe('Byte in the file; default 0.'),
  length: zSize.optional().describe('Default: to the end.'),
} as const;

/** The file behind memory of the process, or behind an object that nobody maps. */
export function inodeOf(context: OperationContext, ref: Ref): Inode {
  const { world } = context.performance;
  const process = processOf(context);
  const place = world.place(process, ref.name);
  // Shared anonymous memory has a file that only its mapping knows.
  const mapped =
    place === undefined ? null : world.sim.unwatched(() => world.task(process).mm.peek()?.vmaAt(place.vpn));
  const inode = world.memory.get(ref.name)?.inode ?? place?.memory.inode ?? mapped?.fields.file ?? null;
  // The pages of the vdso are kept as those of a file, which nobody can open.
  if (inode === null || inode.kind === 'special') throw new ScriptMistake(`${ref.name} has no file behind it`);
  return inode;
}

/** Was the descriptor behind that memory opened O_RDONLY? */
function notForWriting(context: OperationContext, ref: Ref): boolean {
  const { world } = context.performance;
  const process = processOf(context);
  const object = world.memory.get(ref.name) ?? world.place(process, ref.name)?.memory;
  return object !== undefined && readOnlyFd(world, process, object);
}

interface PartArgs {
  readonly memory: Ref;
  readonly offset?: bigint | undefined;
  readonly length?: bigint | undefined;
}

function partOf(context: OperationContext, args: PartArgs): { inode: Inode; from: number; pages: number } {
  const inode = inodeOf(context, args.memory);
  const offset = args.offset ?? 0n;
  const from = Number(offset / PAGE);
  const pages =
    args.length === undefined
      ? inode.sizePages.peek() - from
      : Number((offset + args.length + PAGE - 1n) / PAGE) - from;
  return { inode, from, pages };
}

export const fileOperations = [
  defineOperation({
    name: 'truncate',
    summary: 'ftruncate(): sets the length of a file.',
    on: ['process'],
    args: z.strictObject({ ...FILE, size: zSize }),
    *run(context, args) {
      const { core } = context.performance.world;
      if (!(yield* call(isOpen(context, inodeOf(context, args.memory))))) return { errno: 'EBADF' };
      // A negative loff_t
      if (args.size >= LOFF_END || notForWriting(context, args.memory)) return { errno: 'EINVAL' };
      return outcome(
        yield* call(truncate(core, inodeOf(context, args.memory), Number((args.size + PAGE - 1n) / PAGE))),
      );
    },
  }),
  defineOperation({
    name: 'fallocate',
    summary:
      'fallocate(): allocates, punches a hole, zeroes or collapses a range. shmem gets its pages at once: ENOMEM, EINTR when killed.',
    on: ['process'],
    args: z.strictObject({
      ...PART,
      mode: z.enum(['allocate', 'punch-hole', 'zero-range', 'collapse-range']).optional(),
    }),
    *run(context, args) {
      const { inode, from, pages } = partOf(context, args);
      const { world } = context.performance;
      const gmem = fileNamed(world, args.memory.name)?.object;
      if (gmem instanceof GuestMemfd) {
        const vm = world.vms.get(gmem.vm.name)!;
        return outcome(yield* call(gmemFallocate(vm, gmem, args.mode ?? 'allocate', from, pages)));
      }
      if (!(yield* call(isOpen(context, inode)))) return { errno: 'EBADF' };
      if ((args.offset ?? 0n) >= LOFF_END || (args.length ?? 0n) >= LOFF_END) return { errno: 'EINVAL' };
      if (pages > 0 && notForWriting(context, args.memory)) return { errno: 'EBADF' };
      if (((args.offset ?? 0n) | (args.length ?? 0n)) % PAGE !== 0n) {
        if (args.mode === 'collapse-range') return { errno: 'EINVAL' };
        throw new ScriptMistake('fallocate of parts of pages is not modelled: offset and length in multiples of 4KiB');
      }
      return outcome(
        yield* call(fallocate(context.performance.world.core, inode, args.mode ?? 'allocate', from, pages)),
      );
    },
  }),
  defineOperation({
    name: 'file.read',
    summary: 'pread(): what a read of the file gives, through the page cache: at its end nothing.',
    on: ['process'],
    args: z.strictObject(PART),
    shows: { value: 'What the pages hold: words in order where it changes.' },
    *run(context, args): Steps<Outcome> {
      const { inode, from, pages } = partOf(context, { ...args, length: args.length ?? 1n });
      if (!(yield* call(isOpen(context, inode)))) return { errno: 'EBADF' };
      if (inode.unevictable) return { errno: 'ESPIPE' };
      const seen: string[] = [];
      for (let i = 0; i < pages; i++) {
        const result = yield* call(readPage(context.performance.world.core, inode, from + i));
        if ('errno' in result) return { errno: result.errno };
        if (result.token === null) break;
        const value = tokensOf(context).text(result.token);
        if (seen[seen.length - 1] !== value) seen.push(value);
        context.performance.world.sim.progress++;
      }
      return { returns: 0, shows: { value: seen.join(' ') } };
    },
  }),
  defineOperation({
    name: 'file.write',
    summary: 'pwrite() of whole pages, through the page cache.',
    on: ['process'],
    args: z.strictObject({ ...PART, value: zContent.optional() }),
    *run(context, args) {
      const { inode, from, pages } = partOf(context, { ...args, length: args.length ?? 1n });
      if (!(yield* call(isOpen(context, inode))) || notForWriting(context, args.memory)) return { errno: 'EBADF' };
      // Files that were not opened by path have no position for pread and pwrite unless they ask for one.
      if (inode.unevictable) return { errno: 'ESPIPE' };
      const token = tokensOf(context).of(args.value ?? ownContent(context));
      for (let i = 0; i < pages; i++) {
        const result = yield* call(writePage(context.performance.world.core, inode, from + i, token));
        if (result !== 'ok') return { errno: result };
      }
      return { returns: 0 };
    },
  }),
  defineOperation({
    name: 'disk.read',
    summary: 'What is on the disk for a page of a file, past every cache.',
    args: z.strictObject(PART),
    shows: { value: 'What the block holds.' },
    *run(context, args) {
      const { inode, from } = partOf(context, args);
      yield inode.disk.willRead(from, DISK);
      return { returns: 0, shows: { value: tokensOf(context).text(inode.disk.get(from)) } };
    },
  }),
  defineOperation({
    name: 'msync',
    summary: 'msync(MS_SYNC) of a range.',
    on: ['process'],
    args: z.strictObject({ ...WHERE, async: z.boolean().optional(), invalidate: z.boolean().optional() }),
    *run(context, args) {
      const { address, vpn, pages } = mustRange(context, args);
      if (address % PAGE !== 0n) return { errno: 'EINVAL' };
      const flags = { sync: args.async !== true, invalidate: args.invalidate ?? false };
      return outcome(yield* call(msync(context.performance.world.core, vpn, pages, flags)));
    },
  }),
  defineOperation({
    name: 'fsync',
    summary: 'fsync() of a file.',
    on: ['process'],
    args: z.strictObject(FILE),
    *run(context, args) {
      const inode = inodeOf(context, args.memory);
      if (!(yield* call(isOpen(context, inode)))) return { errno: 'EBADF' };
      return outcome(yield* call(fsync(context.performance.world.core, inode)));
    },
  }),
  defineOperation({
    name: 'sync',
    summary: 'sync(): every dirty page of every file is written.',
    on: ['process', 'kernel'],
    args: z.strictObject({}),
    *run(context) {
      yield* call(syncAll(context.performance.world.core));
      return { returns: 0 };
    },
  }),
  defineOperation({
    name: 'drop_caches',
    summary: '/proc/sys/vm/drop_caches: clean, unused pages leave the page cache.',
    on: ['process', 'kernel'],
    args: z.strictObject({}),
    shows: { dropped: 'Pages that went.' },
    *run(context) {
      return { returns: 0, shows: { dropped: yield* call(dropCaches(context.performance.world.core)) } };
    },
  }),
  defineOperation({
    name: 'fadvise_dontneed',
    summary: 'posix_fadvise(POSIX_FADV_DONTNEED) of a file.',
    on: ['process'],
    args: z.strictObject(PART),
    *run(context, args) {
      const { inode, from, pages } = partOf(context, args);
      if (!(yield* call(isOpen(context, inode)))) return { errno: 'EBADF' };
      yield* call(fadviseDontneed(context.performance.world.core, inode, from, from + pages));
      return { returns: 0 };
    },
  }),
];
