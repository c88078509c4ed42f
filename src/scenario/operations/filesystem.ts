// Filesystems and names: unlinking a file, freezing, thawing and remounting what it lies on.
import * as z from 'zod';
import { call } from '../../engine/process.ts';
import { freezeFilesystem, remountReadOnly, thawFilesystem } from '../../mm/file/freeze.ts';
import { unlink } from '../../mm/file/iput.ts';
import type { SuperBlock } from '../../mm/file/super-block.ts';
import { type Ref, zRef } from '../file/reference.ts';
import { ScriptMistake } from '../mistake.ts';
import { defineOperation } from '../operation.ts';
import type { OperationContext } from '../world/context.ts';
import { inodeOf } from './files.ts';
import { outcome } from './mapping.ts';

const ON = {
  memory: zRef('memory').describe('A file on the filesystem: a memory object with `mount`.'),
} as const;

/** The filesystem that a file lies on. */
function mountOf(context: OperationContext, ref: Ref): SuperBlock {
  const { superBlock } = inodeOf(context, ref);
  if (superBlock !== null) return superBlock;
  throw new ScriptMistake(`${ref.name} lies on no filesystem that can be frozen: give its memory object a \`mount\``);
}

export const filesystemOperations = [
  defineOperation({
    name: 'unlink',
    summary: 'unlink(): the name of a file goes; its pages when no descriptor (`close`) and no mapping is left either.',
    on: ['process'],
    args: z.strictObject({ memory: zRef('memory').describe('The file: kind file, tmpfs, fsdax.') }),
    *run(context, args) {
      return outcome(yield* call(unlink(context.performance.world.core, inodeOf(context, args.memory))));
    },
  }),
  defineOperation({
    name: 'fsfreeze',
    summary:
      'FIFREEZE: writers wait from now on, by system call or by fault, and everything dirty is written; DMA goes on.',
    on: ['process', 'kernel'],
    args: z.strictObject(ON),
    *run(context, args) {
      return outcome(yield* call(freezeFilesystem(context.performance.world.core, mountOf(context, args.memory))));
    },
  }),
  defineOperation({
    name: 'fsthaw',
    summary: 'FITHAW: a frozen filesystem lets writers go on.',
    on: ['process', 'kernel'],
    args: z.strictObject(ON),
    *run(context, args) {
      return outcome(yield* call(thawFilesystem(mountOf(context, args.memory))));
    },
  }),
  defineOperation({
    name: 'remount_ro',
    summary: 'mount -o remount,ro: EBUSY while a file is mapped shared by somebody who may write. Pins are not asked.',
    on: ['process', 'kernel'],
    args: z.strictObject(ON),
    *run(context, args) {
      return outcome(yield* call(remountReadOnly(context.performance.world.core, mountOf(context, args.memory))));
    },
  }),
];
