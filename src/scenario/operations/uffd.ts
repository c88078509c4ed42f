// userfaultfd: registration with a handler that answers every fault, or with actors as handlers, whose ioctls these are.
import * as z from 'zod';
import { call, type Steps } from '../../engine/process.ts';
import { ZERO_TOKEN } from '../../hw/token.ts';
import type { CoreMm } from '../../mm/core.ts';
import type { Errno } from '../../mm/errno.ts';
import { continuePage, copyPage, uffdFill, uffdWriteProtect } from '../../mm/fault/uffd.ts';
import { userfaultfdRegister, userfaultfdUnregister } from '../../mm/fault/uffd-register.ts';
import { MMAP_MIN_PAGE, TASK_SIZE_PAGES } from '../../mm/mapping/address-space.ts';
import { uffdModes, type Vma } from '../../mm/mapping/vma.ts';
import type { Mm } from '../../mm/mm.ts';
import { zContent } from '../file/scalar.ts';
import { defineOperation, type Outcome } from '../operation.ts';
import type { OperationContext } from '../world/context.ts';
import { tokensOf } from './access.ts';
import { outcome } from './mapping.ts';
import { mustRange, processOf, type Range, WHERE } from './place.ts';

const PAGE = 4096n;

const zMode = z.enum(['missing', 'wp', 'minor']);
const FILLED = { pages: 'How many pages were filled in.' };

type WhereArgs = Parameters<typeof mustRange>[1];

/** validate_range: whole pages, some of them, above mmap_min_addr and within the address space. */
function validRange({ address, bytes, vpn, pages }: Range): boolean {
  if (address % PAGE !== 0n || bytes % PAGE !== 0n || pages === 0) return false;
  return vpn >= MMAP_MIN_PAGE && vpn + pages <= TASK_SIZE_PAGES;
}

/** Is there userfaultfd(2)? Without it no descriptor is there for an ioctl. */
function isPresent(context: OperationContext): boolean {
  return context.performance.world.kernel.has('uffd.present');
}

/** One ioctl that fills in a range page by page: EAGAIN when it stops after the first. */
function* fillRange(
  context: OperationContext,
  args: WhereArgs,
  fillPage: (core: CoreMm, mm: Mm, vma: Vma, vpn: number) => Steps<Errno | null>,
): Steps<Outcome> {
  const range = mustRange(context, args);
  if (!isPresent(context)) return { errno: 'EBADF' };
  const { vpn, pages, task } = range;
  const { core } = context.performance.world;
  const mm = task.mm.peek();
  if (mm === null) return { errno: 'ESRCH' };
  if (!validRange(range)) return { errno: 'EINVAL' };
  const filled = yield* call(uffdFill(mm, vpn, vpn + pages, (vma, at) => fillPage(core, mm, vma, at)));
  const shows = { pages: filled.pages };
  if (filled.errno === null) return { returns: 0, shows };
  return { errno: filled.pages === 0 ? filled.errno : 'EAGAIN', shows };
}

export const uffdOperations = [
  defineOperation({
    name: 'uffd.register',
    summary:
      'UFFDIO_REGISTER: faults on absent pages (missing), on pages of a file that are not mapped (minor) and writes to protected ones (wp) go to the handler. A faulting thread waits for an actor that does uffd.copy and the like, or with `fill` is answered at once. ENOSYS: the kernel has no userfaultfd(2); other operations find no descriptor then (EBADF).',
    on: ['process'],
    args: z.strictObject({
      ...WHERE,
      mode: z.union([zMode, z.array(zMode)]).describe('One mode or several.'),
      uffd: z.string().optional().describe('Which userfaultfd, by any name; default: the one of the process.'),
      fill: zContent.optional().describe('What a handler that answers at once fills in; without it nobody does.'),
    }),
    *run(context, args) {
      const range = mustRange(context, args);
      if (!isPresent(context)) return { errno: 'ENOSYS' };
      if (!validRange(range)) return { errno: 'EINVAL' };
      const { vpn, pages, task } = range;
      const { core } = context.performance.world;
      const modes = Array.isArray(args.mode) ? args.mode : [args.mode];
      const fill = args.fill === undefined ? null : tokensOf(context).of(args.fill);
      const process = processOf(context);
      const name = args.uffd === undefined ? `uffd of ${process}` : `${args.uffd} of ${process}`;
      const registration = uffdModes(modes, fill, name);
      return outcome(yield* call(userfaultfdRegister(core, task.mm.peek()!, vpn, vpn + pages, registration)));
    },
  }),
  defineOperation({
    name: 'uffd.unregister',
    summary: 'UFFDIO_UNREGISTER: who waits there goes on, and faults as if there had been no userfaultfd.',
    on: ['process'],
    args: z.strictObject(WHERE),
    *run(context, args) {
      const range = mustRange(context, args);
      if (!isPresent(context)) return { errno: 'EBADF' };
      if (!validRange(range)) return { errno: 'EINVAL' };
      const { vpn, pages, task } = range;
      const { core } = context.performance.world;
      return outcome(yield* call(userfaultfdUnregister(core, task.mm.peek()!, vpn, vpn + pages)));
    },
  }),
  defineOperation({
    name: 'uffd.copy',
    summary: 'UFFDIO_COPY: fills in absent pages and wakes who waits for them. EEXIST, ENOENT, EFAULT, EINVAL.',
    on: ['process'],
    args: z.strictObject({
      ...WHERE,
      value: zContent,
      wp: z.boolean().optional().describe('UFFDIO_COPY_MODE_WP: write-protected.'),
    }),
    shows: FILLED,
    run(context, args) {
      const token = tokensOf(context).of(args.value);
      return fillRange(context, args, (core, mm, vma, vpn) => copyPage(core, mm, vma, vpn, token, args.wp ?? false));
    },
  }),
  defineOperation({
    name: 'uffd.zeropage',
    summary: 'UFFDIO_ZEROPAGE: absent pages become zeroes. A page of its own stands in for the zero page.',
    on: ['process'],
    args: z.strictObject(WHERE),
    shows: FILLED,
    run: (context, args) =>
      fillRange(context, args, (core, mm, vma, vpn) => copyPage(core, mm, vma, vpn, ZERO_TOKEN, false)),
  }),
  defineOperation({
    name: 'uffd.continue',
    summary: 'UFFDIO_CONTINUE: maps the pages that the file has. EFAULT: it has none; EEXIST, ENOENT, EINVAL.',
    on: ['process'],
    args: z.strictObject(WHERE),
    shows: FILLED,
    *run(context, args) {
      if (!isPresent(context)) return { errno: 'EBADF' };
      // No such ioctl
      if (!context.performance.world.kernel.has('uffd.minor-hugetlb')) return { errno: 'EINVAL' };
      return yield* call(fillRange(context, args, continuePage));
    },
  }),
  defineOperation({
    name: 'uffd.writeprotect',
    summary: 'UFFDIO_WRITEPROTECT: writes to the range wait for the handler, or may go on.',
    on: ['process'],
    args: z.strictObject({ ...WHERE, protect: z.boolean().optional().describe('Default: true.') }),
    *run(context, args) {
      const range = mustRange(context, args);
      const { core, kernel } = context.performance.world;
      if (!isPresent(context)) return { errno: 'EBADF' };
      if (!kernel.has('uffd.wp') || !validRange(range)) return { errno: 'EINVAL' };
      const { vpn, pages, task } = range;
      const errno = yield* call(uffdWriteProtect(core, task.mm.peek()!, vpn, vpn + pages, args.protect ?? true));
      return errno === null ? { returns: 0 } : { errno };
    },
  }),
];
