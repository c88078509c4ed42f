// Where an operation works: a mapping by name with offset and length, or a bare address. Shared by all operations on
// process memory.
import * as z from 'zod';
import type { Task } from '../../mm/process/task.ts';
import { type Ref, zRef } from '../file/reference.ts';
import { zAddress, zSize } from '../file/scalar.ts';
import { ScriptMistake } from '../mistake.ts';
import type { OperationContext } from '../world/context.ts';
import type { Place, World } from '../world/world.ts';

const PAGE = 4096n;

/** Arguments that say where. Spread them into the `args` of an operation. */
export const WHERE = {
  memory: zRef('memory').optional().describe('A mapping of the process, or a memory object that it maps.'),
  at: zAddress.optional().describe('An address instead; with `memory`, an address inside that mapping.'),
  offset: zAddress.optional().describe('First byte, from the start of the mapping; default 0.'),
  length: zSize.optional().describe('How many bytes; default: to the end of the mapping.'),
} as const;

export const zWhere = z.strictObject(WHERE);
export interface WhereArgs {
  readonly memory?: Ref | undefined;
  readonly at?: bigint | undefined;
  readonly offset?: bigint | undefined;
  readonly length?: bigint | undefined;
}

/** A range of pages of one process. */
export interface Range {
  readonly task: Task;
  readonly vpn: number;
  readonly pages: number;
  /** The byte address, for arguments that the kernel checks for alignment. */
  readonly address: bigint;
  readonly bytes: bigint;
  readonly place: Place | undefined;
}

/** The process that an operation acts for. */
export function processOf(context: OperationContext): string {
  return context.performance.process;
}

/** The range that the arguments name, in the acting process. Undefined: the process does not map that memory. */
export function rangeOf(context: OperationContext, args: WhereArgs): Range | undefined {
  const { world } = context.performance;
  const name = processOf(context);
  const task = world.task(name);
  const place = args.memory === undefined ? undefined : world.place(name, args.memory.name);
  if (args.memory !== undefined && place === undefined) return undefined;
  const base = args.at ?? BigInt(place?.vpn ?? 0) * PAGE;
  const address = base + (args.offset ?? 0n);
  const end = place === undefined ? address + PAGE : BigInt(place.vpn + place.pages) * PAGE;
  const bytes = args.length ?? (end > address ? end - address : PAGE);
  const vpn = Number(address / PAGE);
  const pages = Number((address + bytes + PAGE - 1n) / PAGE) - vpn;
  return { task, vpn, pages, address, bytes, place };
}

/** The outcome of naming memory that the process does not map (any more). */
export function notMapped(world: World, context: OperationContext, memory: Ref | undefined): never {
  const known = world.placesOf(processOf(context)).map(({ mapping }) => mapping);
  throw new ScriptMistake(
    `${processOf(context)} does not map ${memory?.name}; it maps ${known.join(', ') || 'nothing'}`,
  );
}

/** rangeOf, for memory that must be mapped. */
export function mustRange(context: OperationContext, args: WhereArgs): Range {
  return rangeOf(context, args) ?? notMapped(context.performance.world, context, args.memory);
}
