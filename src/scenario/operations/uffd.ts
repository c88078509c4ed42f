// userfaultfd, as far as scripts need it: registration with a handler that answers every fault, or none.
import * as z from 'zod';
import { call } from '../../engine/process.ts';
import { step } from '../../engine/step.ts';
import { uffdWriteProtect } from '../../mm/uffd.ts';
import { defineOperation } from '../operation.ts';
import { zContent } from '../scalar.ts';
import { tokensOf } from './access.ts';
import { mustRange, WHERE } from './place.ts';

const REGISTER = step('userfaultfd_register', 'op');

export const uffdOperations = [
  defineOperation({
    name: 'uffd.register',
    summary: 'UFFDIO_REGISTER of whole mappings, with a handler thread that fills missing pages at once.',
    on: ['process'],
    args: z.strictObject({
      ...WHERE,
      mode: z.enum(['missing', 'wp']),
      fill: zContent.optional().describe('What the handler fills in; without it nobody answers.'),
    }),
    *run(context, args) {
      const { vpn, pages, task } = mustRange(context, args);
      const mm = task.mm.peek()!;
      yield mm.vmas.willUpdate(REGISTER);
      const vmas = mm.vmasIn(vpn, vpn + pages);
      if (vmas.length === 0) return { errno: 'EINVAL' };
      const fill = args.fill === undefined ? null : tokensOf(context).of(args.fill);
      for (const vma of vmas) mm.vmas.set(vma.start, vma.with({ uffd: { mode: args.mode, fill } }));
      return { returns: 0 };
    },
  }),
  defineOperation({
    name: 'uffd.writeprotect',
    summary: 'UFFDIO_WRITEPROTECT: writes to the range wait for the handler, or may go on.',
    on: ['process'],
    args: z.strictObject({ ...WHERE, protect: z.boolean().optional().describe('Default: true.') }),
    *run(context, args) {
      const { vpn, pages, task } = mustRange(context, args);
      const { core } = context.performance.world;
      const errno = yield* call(uffdWriteProtect(core, task.mm.peek()!, vpn, vpn + pages, args.protect ?? true));
      return errno === null ? { returns: 0 } : { errno };
    },
  }),
];
