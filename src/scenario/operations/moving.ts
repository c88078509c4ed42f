// Operations that move pages: mremap, move_pages, mbind, migrate_pages.
import * as z from 'zod';
import { call } from '../../engine/process.ts';
import { step } from '../../engine/step.ts';
import { mremap } from '../../mm/mapping/mremap.ts';
import { mbind, migrateProcess, movePages } from '../../mm/migrate/move-pages.ts';
import { getTaskMm, putTaskMm } from '../../mm/process/exit.ts';
import { zDeclares, zRef } from '../file/reference.ts';
import { zAddress, zCount, zSize } from '../file/scalar.ts';
import { ScriptMistake } from '../mistake.ts';
import { defineOperation } from '../operation.ts';
import type { Place, World } from '../world/world.ts';
import { outcome } from './mapping.ts';
import { mustRange, processOf, type Range, WHERE } from './place.ts';

const PAGE = 4096n;

/** An array of more addresses would not fit the model. */
const MOST_PAGES = 2 ** 24;

/** After mremap of `range`, part or all of what is called `place`, to `to`: which name means what. */
function rename(
  world: World,
  process: string,
  range: Range,
  place: Place,
  to: { readonly vpn: number; readonly pages: number },
  name: string | undefined,
  keepsOld: boolean,
): void {
  const stays = to.vpn === range.vpn;
  const tail = range.vpn + range.pages === place.vpn + place.pages;
  if (stays && tail) {
    // Grown or shrunk at its end: still the same mapping.
    const pages = range.vpn + to.pages - place.vpn;
    world.addPlace(process, { name: place.mapping }, { ...place, pages });
  }
  const whole = range.vpn === place.vpn && tail && !keepsOld;
  const mapping = name ?? (whole && !stays ? place.mapping : undefined);
  if (whole && !stays) world.forgetPlace(process, place.mapping);
  if (mapping === undefined) return;
  const pgoff = place.pgoff + range.vpn - place.vpn;
  world.addPlace(process, { name: mapping }, { ...place, mapping, ...to, pgoff });
}

const MAY_ACCESS = step('ptrace_may_access', 'op');

export const movingOperations = [
  defineOperation({
    name: 'mremap',
    summary:
      'mremap(): grows, shrinks or moves a mapping. The name of a mapping goes where all of it goes; of a part, or with `dontunmap`, the name stays with the old place.',
    on: ['process'],
    changes: 'mappings',
    args: z.strictObject({
      ...WHERE,
      new_size: zSize.optional().describe('Default: as it is.'),
      may_move: z.boolean().optional().describe('MREMAP_MAYMOVE'),
      to: zAddress.optional().describe('MREMAP_FIXED at this address.'),
      to_memory: zRef('memory').optional().describe('MREMAP_FIXED over this mapping.'),
      dontunmap: z.boolean().optional().describe('MREMAP_DONTUNMAP'),
      name: zDeclares('memory')
        .optional()
        .describe(
          'What to call the result. Default: the old name where the whole mapping moved; a part is reached by `at` only.',
        ),
    }),
    shows: { address: 'Where it is now.' },
    *run(context, args) {
      const { world } = context.performance;
      const range = mustRange(context, args);
      if (range.address % PAGE !== 0n || (args.to ?? 0n) % PAGE !== 0n) return { errno: 'EINVAL' };
      const over = args.to_memory === undefined ? undefined : mustRange(context, { memory: args.to_memory });
      const to = args.to === undefined ? over?.vpn : Number(args.to / PAGE);
      const newPages = args.new_size === undefined ? range.pages : Number((args.new_size + PAGE - 1n) / PAGE);
      const result = yield* call(
        mremap(world.core, {
          at: range.vpn,
          pages: range.pages,
          newPages,
          mayMove: args.may_move ?? (to !== undefined || args.dontunmap === true),
          ...(to === undefined ? {} : { fixedAt: to }),
          dontUnmap: args.dontunmap ?? false,
        }),
      );
      if ('errno' in result) return { errno: result.errno };
      if (range.place !== undefined) {
        const to = { vpn: result.vpn, pages: newPages };
        rename(world, processOf(context), range, range.place, to, args.name?.name, args.dontunmap === true);
      }
      return { returns: 0, shows: { address: BigInt(result.vpn) * PAGE } };
    },
  }),
  defineOperation({
    name: 'move_pages',
    summary: 'move_pages(): every page of the range to a node.',
    on: ['process'],
    args: z.strictObject({ ...WHERE, node: zCount(), all: z.boolean().optional().describe('MPOL_MF_MOVE_ALL') }),
    shows: { status: 'Per page: node, errno, or null where nothing was written.' },
    *run(context, args) {
      const { vpn, pages, task } = mustRange(context, args);
      if (pages > MOST_PAGES)
        throw new ScriptMistake(`move_pages of ${pages} pages, and at most ${MOST_PAGES} are modelled`);
      const wanted = Array.from({ length: pages }, (_, i) => ({ vpn: vpn + i, node: args.node }));
      const flags = args.all === true ? { all: true } : {};
      const moved = yield* call(movePages(context.performance.world.core, task.mm.peek()!, wanted, flags));
      const shows = { status: moved.status };
      return typeof moved.result === 'number' ? { returns: moved.result, shows } : { errno: moved.result, shows };
    },
  }),
  defineOperation({
    name: 'mbind',
    summary: 'mbind(MPOL_BIND) of a range to nodes.',
    on: ['process'],
    args: z.strictObject({
      ...WHERE,
      nodes: z.array(zCount()),
      strict: z.boolean().optional().describe('MPOL_MF_STRICT'),
      move: z.boolean().optional().describe('MPOL_MF_MOVE'),
      move_all: z.boolean().optional().describe('MPOL_MF_MOVE_ALL'),
    }),
    *run(context, args) {
      const { address, vpn, pages, task } = mustRange(context, args);
      if (address % PAGE !== 0n) return { errno: 'EINVAL' };
      return outcome(
        yield* call(
          mbind(context.performance.world.core, task.mm.peek()!, {
            vpn,
            pages,
            nodes: args.nodes,
            strict: args.strict ?? false,
            ...(args.move === true || args.move_all === true
              ? { move: args.move_all === true ? { all: true } : {} }
              : {}),
          }),
        ),
      );
    },
  }),
  defineOperation({
    name: 'migrate_pages',
    summary: 'migrate_pages(): a whole process from some nodes to others.',
    on: ['process'],
    args: z.strictObject({ process: zRef('process').optional(), from: z.array(zCount()), to: z.array(zCount()) }),
    *run(context, args) {
      const { world } = context.performance;
      const task = world.task(args.process?.name ?? processOf(context));
      const { current } = world.core;
      if (task.reaped.peek()) return { errno: 'ESRCH' };
      if (task !== current.task) {
        yield task.credentials.willRead(MAY_ACCESS);
        const allowed = task.credentials.value === current.user || current.capable('CAP_SYS_PTRACE');
        if (!allowed) return { errno: 'EPERM' };
      }
      const mm = yield* call(getTaskMm(world.core, task));
      if (mm === null) return { errno: 'EINVAL' };
      const result = yield* call(migrateProcess(world.core, mm, args.from, args.to));
      yield* call(putTaskMm(world.core, task, mm));
      return typeof result === 'number' ? { returns: result } : { errno: result };
    },
  }),
];
