// What files of /proc/PID do to the memory of a process: reading and writing it past its protection, soft-dirty tracking.
import * as z from 'zod';
import { call, type Steps } from '../../engine/process.ts';
import { step } from '../../engine/step.ts';
import type { CoreMm } from '../../mm/core.ts';
import { accessRemoteVm } from '../../mm/gup/access-remote.ts';
import { clearRefs } from '../../mm/proc/clear-refs.ts';
import { getTaskMm, putTaskMm } from '../../mm/process/exit.ts';
import type { Task } from '../../mm/process/task.ts';
import { type Ref, zRef } from '../file/reference.ts';
import { zContent } from '../file/scalar.ts';
import { defineOperation, type Outcome } from '../operation.ts';
import type { OperationContext } from '../world/context.ts';
import { ownContent, tokensOf } from './access.ts';
import { outcome } from './mapping.ts';
import { mustRange, processOf, WHERE, type WhereArgs } from './place.ts';

const ACCESS = step('ptrace_may_access', 'none');

const OF = {
  ...WHERE,
  process: zRef('process').optional().describe('Whose memory; default: its own, which is checked no more than that.'),
} as const;

/** ptrace_may_access, when the file is opened. */
function* mayAccess(core: CoreMm, task: Task): Steps<boolean> {
  const { current } = core;
  if (task === current.task) return true;
  yield task.credentials.willRead(ACCESS);
  return task.credentials.value === current.user || current.capable('CAP_SYS_PTRACE');
}

/** pread or pwrite of /proc/PID/mem, one page or each page of a range. */
function* accessMem(
  context: OperationContext,
  args: WhereArgs & { readonly process?: Ref | undefined },
  value: string | null,
): Steps<Outcome> {
  const { performance } = context;
  const { world } = performance;
  const process = args.process?.name ?? processOf(context);
  const { vpn, pages, task } = mustRange(
    { ...context, performance: { ...performance, process } },
    { ...args, length: args.length ?? 1n },
  );
  const { core } = world;
  if (!(yield* call(mayAccess(core, task)))) return { errno: 'EACCES' };
  const seen: string[] = [];
  for (let i = 0; i < pages; i++) {
    const mm = yield* call(getTaskMm(core, task));
    // mem_rw of a process that has exited moves nothing.
    if (mm === null) return { returns: 0 };
    const done = yield* call(
      accessRemoteVm(core, mm, vpn + i, value === null ? null : { token: tokensOf(context).of(value) }),
    );
    yield* call(putTaskMm(core, task, mm));
    if ('errno' in done) return { errno: done.errno };
    const word = tokensOf(context).text(done.token);
    if (seen[seen.length - 1] !== word) seen.push(word);
  }
  return { returns: 0, shows: { value: seen.join(' ') } };
}

export const procOperations = [
  defineOperation({
    name: 'proc_mem.read',
    summary: 'pread() of /proc/PID/mem, or PTRACE_PEEKDATA: reads even what the process itself may not (FOLL_FORCE).',
    on: ['process'],
    args: z.strictObject(OF),
    shows: { value: 'What the pages hold: words in order where it changes.' },
    run: (context, args) => accessMem(context, args, null),
  }),
  defineOperation({
    name: 'proc_mem.write',
    summary:
      'pwrite() of /proc/PID/mem, or PTRACE_POKEDATA: writes past the protection of a private mapping (FOLL_FORCE), which breaks COW.',
    on: ['process'],
    args: z.strictObject({
      ...OF,
      value: zContent.optional().describe('What is written; default: a word of its own.'),
    }),
    shows: { value: 'What the pages hold then.' },
    run: (context, args) => accessMem(context, args, args.value ?? ownContent(context)),
  }),
  defineOperation({
    name: 'clear_refs',
    summary:
      '/proc/PID/clear_refs: all pages become unreferenced (1), or clean for soft-dirty tracking (4), which write-protects.',
    on: ['process'],
    args: z.strictObject({
      what: z.enum(['soft-dirty', 'all']).optional().describe('Default soft-dirty.'),
      process: zRef('process').optional().describe('Default: the process that acts.'),
    }),
    *run(context, args) {
      const { world } = context.performance;
      const task = world.task(args.process?.name ?? processOf(context));
      const mm = yield* call(getTaskMm(world.core, task));
      if (mm === null) return { errno: 'ESRCH' };
      const result = yield* call(clearRefs(world.core, mm, args.what ?? 'soft-dirty'));
      yield* call(putTaskMm(world.core, task, mm));
      return outcome(result);
    },
  }),
];
