// Accesses to memory by a process: touch, read, write.
import * as z from 'zod';
import { call, type Steps } from '../../engine/process.ts';
import type { Tokens } from '../../hw/token.ts';
import { cpuAccess } from '../../mm/fault/access.ts';
import { zContent } from '../file/scalar.ts';
import { defineOperation, type Outcome } from '../operation.ts';
import type { OperationContext } from '../world/context.ts';
import { mustRange, WHERE } from './place.ts';

/** The contents of this world. */
export function tokensOf(context: OperationContext): Tokens {
  return context.performance.world.core.frames.tokens;
}

/** A content of its own for each write that names none: who wrote, and which write of theirs. */
export function ownContent(context: OperationContext): string {
  return `${context.actor}#${context.performance.world.sim.current!.nextNumber()}`;
}

function* accessRange(
  context: OperationContext,
  args: { readonly write: boolean; readonly value?: string | undefined } & Parameters<typeof mustRange>[1],
): Steps<Outcome> {
  const { core } = context.performance.world;
  const { vpn, pages } = mustRange(context, args);
  const text = args.value ?? (args.write ? ownContent(context) : '');
  const write = args.write ? { token: tokensOf(context).of(text) } : null;
  const seen: string[] = [];
  for (let i = 0; i < pages; i++) {
    const result = yield* call(cpuAccess(core, vpn + i, write, pages - i));
    if ('signal' in result) return { errno: result.signal, shows: { page: i } };
    const value = tokensOf(context).text(result.token);
    if (seen[seen.length - 1] !== value) seen.push(value);
  }
  return { returns: 0, shows: { value: seen.length === 1 ? seen[0]! : seen.join(' ') } };
}

const VALUE_SHOWN = {
  value: 'What the pages hold: one word, or the words in order where it changes.',
  page: 'Page that faulted.',
};

export const accessOperations = [
  defineOperation({
    name: 'cpu.read',
    summary: 'The process reads one page, or each page of a range.',
    on: ['process'],
    args: z.strictObject(WHERE),
    shows: VALUE_SHOWN,
    run: (context, args) => accessRange(context, { ...onePage(args), write: false }),
  }),
  defineOperation({
    name: 'cpu.write',
    summary: 'The process writes one page, or each page of a range.',
    on: ['process'],
    args: z.strictObject({
      ...WHERE,
      value: zContent.optional().describe('What is written; default: a word of its own.'),
    }),
    shows: VALUE_SHOWN,
    run: (context, args) => accessRange(context, { ...onePage(args), write: true }),
  }),
  defineOperation({
    name: 'touch',
    summary: 'The process writes (or reads) every page of a mapping.',
    on: ['process'],
    args: z.strictObject({
      ...WHERE,
      read: z.boolean().optional().describe('Read instead of writing.'),
      value: zContent.optional(),
    }),
    shows: VALUE_SHOWN,
    run: (context, args) => accessRange(context, { ...args, write: args.read !== true }),
  }),
];

/** An access without a length is to one page. */
function onePage<T extends { readonly length?: bigint | undefined }>(args: T): T {
  return args.length === undefined ? { ...args, length: 1n } : args;
}
