// System calls that make, change and remove mappings.
import * as z from 'zod';
import { call, type Steps } from '../../engine/process.ts';
import { step } from '../../engine/step.ts';
import { Inode } from '../../mm/file/inode.ts';
import { type Advice, madvise } from '../../mm/madvise/madvise.ts';
import { mlock, munlock } from '../../mm/mapping/mlock.ts';
import { mmap, munmap } from '../../mm/mapping/mmap.ts';
import { mprotect } from '../../mm/mapping/mprotect.ts';
import { zDeclares, zRef } from '../file/reference.ts';
import { zAddress, zProt, zSize } from '../file/scalar.ts';
import { defineOperation, type Outcome } from '../operation.ts';
import { policyOf, readOnlyFd, vmFileOf } from '../world/memory.ts';
import { isOpen } from './descriptor.ts';
import { mustRange, processOf, WHERE, zWhere } from './place.ts';

const PAGE = 4096n;
const SIGNAL = step('exit_to_user_mode_loop:do_signal', 'none');

/** Kinds that have an inode and are mapped without a descriptor of it: by shmat, by the kernel, anonymously. */
const WITHOUT_DESCRIPTOR: readonly string[] = ['anon', 'dev-zero', 'sysv', 'vdso', 'text'];

/** Every advice that madvise knows, in the kernel's groups. */
const ADVICE = [
  ...['DONTNEED', 'DONTNEED_LOCKED', 'FREE', 'COLD', 'PAGEOUT', 'REMOVE', 'WILLNEED'],
  ...['DONTFORK', 'DOFORK', 'WIPEONFORK', 'KEEPONFORK', 'MERGEABLE', 'UNMERGEABLE', 'HUGEPAGE', 'NOHUGEPAGE'],
  ...['COLLAPSE', 'POPULATE_READ', 'POPULATE_WRITE', 'HWPOISON', 'SOFT_OFFLINE'],
] as readonly Advice[] as [Advice, ...Advice[]];

/** `ok` or an errno as an outcome. */
export function outcome(result: string): Outcome {
  return result === 'ok' ? { returns: 0 } : { errno: result };
}

/** The length of a mapping: whole pages, and whole huge pages of hugetlb (ksys_mmap_pgoff). */
function mmapPages(bytes: bigint, file: Inode | null): number {
  const unit = file?.kind === 'hugetlb' ? 2n ** BigInt(file.hugeOrder) : 1n;
  return Number(((bytes + unit * PAGE - 1n) / (unit * PAGE)) * unit);
}

/** A system call on a range: EINVAL when the address is not page aligned. */
function* aligned(address: bigint, body: () => Steps<string>): Steps<Outcome> {
  if (address % PAGE !== 0n) return { errno: 'EINVAL' };
  return outcome(yield* call(body()));
}

export const mappingOperations = [
  defineOperation({
    name: 'mmap',
    summary: 'mmap(): maps a memory object of the scenario, or anonymous memory.',
    on: ['process'],
    changes: 'mappings',
    args: z.strictObject({
      name: zDeclares('memory').optional().describe('What to call the mapping; default: the memory object.'),
      memory: zRef('memory').optional().describe('The object to map; without it, anonymous memory.'),
      size: zSize.optional().describe('How many bytes; default: the object.'),
      offset: zAddress.optional(),
      at: zAddress.optional().describe('MAP_FIXED at this address.'),
      hint: zAddress.optional(),
      prot: zProt.optional(),
      shared: z.boolean().optional(),
      populate: z.boolean().optional().describe('MAP_POPULATE'),
      locked: z.boolean().optional().describe('MAP_LOCKED'),
      noreserve: z.boolean().optional().describe('MAP_NORESERVE: huge pages are not reserved.'),
      noreplace: z.boolean().optional().describe('MAP_FIXED_NOREPLACE'),
    }),
    shows: { address: 'Where it was mapped.' },
    *run(context, args) {
      const { world } = context.performance;
      const process = processOf(context);
      const object = args.memory === undefined ? undefined : world.objectOf(process, args.memory.name);
      const bytes = args.size ?? object?.spec.size ?? 0n;
      const fixed = args.at !== undefined || args.noreplace === true;
      const at = args.at ?? args.hint;
      if (at !== undefined && at % PAGE !== 0n && fixed) return { errno: 'EINVAL' };
      // x86's sys_mmap
      if ((args.offset ?? 0n) % PAGE !== 0n) return { errno: 'EINVAL' };
      const pages = mmapPages(bytes, object?.inode ?? null);
      const byDescriptor = object?.inode != null && !WITHOUT_DESCRIPTOR.includes(object.spec.kind);
      if (byDescriptor && !(yield* call(isOpen(context, object.inode)))) return { errno: 'EBADF' };
      const shared = args.shared ?? (object !== undefined && object.inode !== null);
      const pgoff = Number((args.offset ?? 0n) / PAGE);
      const own = `${context.actor}#${world.sim.current!.nextNumber()}`;
      // Shared memory without a file gets one of its own (shmem_zero_setup).
      const file =
        object?.inode ??
        (shared && object?.pfnMapping == null
          ? world.core.addInode(new Inode(world.sim, { kind: 'shmem', name: `shared memory ${own}`, sizePages: pages }))
          : null);
      const backed = file !== null || (object !== undefined && object.pfnMapping !== null);
      const result = yield* call(
        mmap(world.core, {
          name: args.name?.name ?? args.memory?.name ?? `anonymous of ${context.actor}`,
          pages,
          ...(at === undefined ? {} : { at: Number(at / PAGE) }),
          fixed: args.at !== undefined,
          noReplace: args.noreplace ?? false,
          read: args.prot?.read ?? true,
          write: args.prot?.write ?? true,
          exec: args.prot?.exec ?? false,
          shared,
          ...(file === null ? {} : { file }),
          ...(object?.pfnMapping ? { pfnMapping: object.pfnMapping } : {}),
          ...(object === undefined ? {} : vmFileOf(object, shared)),
          ...(backed || object?.spec.kind === 'dev-zero' ? { pgoff } : {}),
          readOnlyFd: object !== undefined && readOnlyFd(world, process, object),
          ...(object === undefined ? {} : policyOf(object)),
          populate: args.populate ?? false,
          locked: args.locked ?? false,
          noReserve: args.noreserve ?? false,
        }),
      );
      if ('errno' in result) return { errno: result.errno };
      const memory = object ?? world.anonymous(args.name?.name ?? `anonymous of ${context.actor}`, bytes);
      const mapping = args.name?.name ?? args.memory?.name ?? memory.name;
      world.addPlace(process, { name: mapping }, { mapping, memory, vpn: result.vpn, pages, pgoff });
      return { returns: 0, shows: { address: BigInt(result.vpn) * PAGE } };
    },
  }),
  defineOperation({
    name: 'munmap',
    summary: 'munmap(): removes mappings of a range.',
    on: ['process'],
    args: zWhere,
    run(context, args) {
      const range = mustRange(context, args);
      return aligned(range.address, () => munmap(context.performance.world.core, range.vpn, range.pages));
    },
  }),
  defineOperation({
    name: 'mprotect',
    summary: 'mprotect(): changes what a range allows.',
    on: ['process'],
    args: z.strictObject({ ...WHERE, prot: zProt }),
    run(context, args) {
      const range = mustRange(context, args);
      return aligned(range.address, () => mprotect(context.performance.world.core, range.vpn, range.pages, args.prot));
    },
  }),
  defineOperation({
    name: 'madvise',
    summary: 'madvise() with the advice by its name without MADV_.',
    on: ['process'],
    args: z.strictObject({ ...WHERE, advice: z.enum(ADVICE) }),
    shows: { signal: 'HWPOISON: SIGBUS where the caller is told of the error at once, or null.' },
    *run(context, args) {
      const { core } = context.performance.world;
      const range = mustRange(context, args);
      const result = yield* call(aligned(range.address, () => madvise(core, range.vpn, range.pages, args.advice)));
      if (args.advice !== 'HWPOISON') return result;
      const { pendingSigbus } = core.current.task;
      yield pendingSigbus.willUpdate(SIGNAL);
      const signal = pendingSigbus.value ? 'SIGBUS' : null;
      pendingSigbus.value = false;
      return { ...result, shows: { signal } };
    },
  }),
  defineOperation({
    name: 'mlock',
    summary: 'mlock() or mlock2(MLOCK_ONFAULT): keeps a range resident and charges locked_vm.',
    on: ['process'],
    args: z.strictObject({ ...WHERE, onfault: z.boolean().optional().describe('MLOCK_ONFAULT') }),
    *run(context, args) {
      const { vpn, pages } = mustRange(context, args);
      return outcome(yield* call(mlock(context.performance.world.core, vpn, pages, args.onfault ?? false)));
    },
  }),
  defineOperation({
    name: 'munlock',
    summary: 'munlock(): undoes mlock.',
    on: ['process'],
    args: zWhere,
    *run(context, args) {
      const { vpn, pages } = mustRange(context, args);
      return outcome(yield* call(munlock(context.performance.world.core, vpn, pages)));
    },
  }),
];
