// GUP as any kernel user of pages performs it (drivers, vmsplice, RDMA, process_vm_*): take pages, access them through the
// kernel mapping as a device would, give them back. A pin held under a name is a view that must stay coherent.
import * as z from 'zod';
import { call, type Steps } from '../../engine/process.ts';
import { step } from '../../engine/step.ts';
import { FRAME_ACCESS } from '../../hw/frames.ts';
import type { CoreMm } from '../../mm/core.ts';
import type { Errno } from '../../mm/errno.ts';
import { type GupRequest, type GupResult, getUserPages, ownMm, pinUserPages } from '../../mm/gup/gup.ts';
import { getUserPagesFast, pinUserPagesFast } from '../../mm/gup/gup-fast.ts';
import { memfdPinFolios, unpinFolios } from '../../mm/gup/memfd-pin.ts';
import { putUserPages, unpinUserPages } from '../../mm/gup/unpin.ts';
import { type FrameRun, PIN_REFUSED, type Refusal, type View } from '../../mm/ledger.ts';
import { type Ref, zDeclares, zRef } from '../file/reference.ts';
import { zAddress, zContent, zCount, zSize } from '../file/scalar.ts';
import { ScriptMistake } from '../mistake.ts';
import { defineOperation, type Outcome } from '../operation.ts';
import type { OperationContext } from '../world/context.ts';
import { Hold, ownerOf } from '../world/holds.ts';
import { ownContent, tokensOf } from './access.ts';
import { mustRange, processOf, WHERE } from './place.ts';

const PAGE = 4096n;
const READ = step('gup-user:copy-from-page', 'op');
const WRITE = step('gup-user:copy-to-page', 'op');

interface GupArgs {
  readonly write?: boolean | undefined;
  readonly longterm?: boolean | undefined;
  readonly force?: boolean | undefined;
  readonly slow?: boolean | undefined;
}

/** GUP-fast with its fallback; or the slow path alone under mmap_lock. */
function* grabPages(
  core: CoreMm,
  grab: 'pin' | 'get',
  vpn: number,
  pages: number,
  request: GupRequest,
  slow: boolean,
): Steps<GupResult> {
  if (!slow) {
    return yield* call(
      grab === 'pin' ? pinUserPagesFast(core, vpn, pages, request) : getUserPagesFast(core, vpn, pages, request),
    );
  }
  const { mmapLock } = ownMm(core);
  yield* call(mmapLock.read());
  const got: GupResult = yield* call(
    grab === 'pin' ? pinUserPages(core, vpn, pages, request) : getUserPages(core, vpn, pages, request),
  );
  yield mmapLock.up();
  return got;
}

function* take(
  context: OperationContext,
  grab: 'pin' | 'get',
  name: string,
  args: GupArgs & Parameters<typeof mustRange>[1],
): Steps<Outcome> {
  const { world } = context.performance;
  const { core } = world;
  const { vpn, pages } = mustRange(context, args);
  const process = processOf(context);
  const owner = ownerOf(name, process);
  const request: GupRequest = {
    owner,
    write: args.write ?? true,
    longterm: args.longterm ?? false,
    force: args.force ?? false,
  };
  const got = yield* call(grabPages(core, grab, vpn, pages, request, args.slow ?? false));
  if (got.errno !== undefined) return refuse(context, owner, vpn, pages, got.errno, got.reason);
  // A plain reference promises nothing about what the process reaches later; a pin does.
  const view = grab === 'pin' ? viewOf(core, owner, vpn, got.runs) : null;
  yield* call(world.holds.add(name, new Hold(core, process, name, grab, got.runs, view)));
  return { returns: got.pinned, shows: { pages: got.pinned, pfn: got.runs[0]!.pfn } };
}

function refuse(
  context: OperationContext,
  who: string,
  vpn: number,
  pages: number,
  errno: Errno,
  reason: Refusal | undefined,
): Outcome {
  const { sim } = context.performance.world;
  if (reason !== undefined && sim.hears(PIN_REFUSED)) sim.emit(PIN_REFUSED, { ...reason, who, vpn, pages });
  return { errno };
}

function viewOf(core: CoreMm, holder: string, vpn: number, runs: readonly FrameRun[]): View {
  const starts: number[] = [];
  let pages = 0;
  for (const run of runs) {
    starts.push(pages);
    pages += run.pages;
  }
  const runAt = (offset: number): FrameRun => {
    // The last run that starts at or before the page.
    let low = 0;
    for (let high = starts.length - 1; low < high; ) {
      const middle = (low + high + 1) >> 1;
      if (starts[middle]! <= offset) low = middle;
      else high = middle - 1;
    }
    const within = offset - starts[low]!;
    const run = runs[low]!;
    return { pfn: run.pfn + within, pages: run.pages - within };
  };
  return { kind: 'pin', holder, page: 0, mm: ownMm(core), vpn, pages, runAt };
}

/** What a device, or the kernel through its own mapping, does to one page that is held. */
function* accessHeld(context: OperationContext, pin: Ref, page: number, text: string | null): Steps<Outcome> {
  const { core, holds } = context.performance.world;
  const { frames } = core;
  const at = text === null ? READ : WRITE;
  for (;;) {
    const held = yield* call(holds.last(pin.name));
    if (held === undefined) return { errno: 'EBADF' };
    const frame = held.frame(page);
    if (frame === undefined)
      throw new ScriptMistake(`${held.owner} holds ${held.pages} pages: there is no page ${page}`);
    holds.willRead(pin.name, at);
    frames.willCheck(frame.pfn, at);
    yield text === null ? frames.content.willRead(frame.pfn, at) : frames.content.willWrite(frame.pfn, at);
    if (holds.isLast(pin.name, held)) return accessFrame(context, held, page, frame, text);
  }
}

/** In a step that announced it. */
function accessFrame(
  context: OperationContext,
  held: Hold,
  page: number,
  frame: { readonly pfn: number; readonly generation: number },
  text: string | null,
): Outcome {
  const { core, sim } = context.performance.world;
  const { frames } = core;
  if (text !== null) frames.content.set(frame.pfn, tokensOf(context).of(text));
  const token = frames.content.get(frame.pfn);
  if (sim.hears(FRAME_ACCESS)) {
    sim.emit(FRAME_ACCESS, {
      pfn: frame.pfn,
      write: text !== null,
      madeFor: frame.generation,
      generation: frames.generationOf(frame.pfn),
      through: 'pin',
      holder: held.owner,
      page,
      token,
    });
  }
  return { returns: 0, shows: { value: tokensOf(context).text(token) } };
}

const GUP_ARGS = {
  ...WHERE,
  write: z.boolean().optional().describe('FOLL_WRITE; default true.'),
  longterm: z.boolean().optional().describe('FOLL_LONGTERM'),
  force: z.boolean().optional().describe('FOLL_FORCE'),
  slow: z.boolean().optional().describe('Not by GUP-fast: under mmap_lock.'),
} as const;
const SHOWN = { pages: 'How many pages are held.', pfn: 'Frame of the first.' };
const PIN = { pin: zRef('pin') } as const;

export const pinOperations = [
  defineOperation({
    name: 'gup.pin',
    summary:
      'pin_user_pages_fast (or pin_user_pages): some driver pins pages of the process and keeps them. Pins under one name stack. What is held for a process that has exited is leaked.',
    on: ['process'],
    args: z.strictObject({ ...GUP_ARGS, as: zDeclares('pin') }),
    shows: SHOWN,
    run: (context, args) => take(context, 'pin', args.as.name, args),
  }),
  defineOperation({
    name: 'gup.get',
    summary: 'get_user_pages_fast (or get_user_pages): plain references, as vmsplice takes them.',
    on: ['process'],
    args: z.strictObject({ ...GUP_ARGS, as: zDeclares('pin') }),
    shows: SHOWN,
    run: (context, args) => take(context, 'get', args.as.name, args),
  }),
  defineOperation({
    name: 'gup.read',
    summary:
      'Whoever holds pages (gup.pin, gup.get) reads one of them, past all page tables. EBADF: no pages are held.',
    args: z.strictObject({ ...PIN, page: zCount().optional().describe('Which; default 0.') }),
    shows: { value: 'What the page holds.' },
    run: (context, args) => accessHeld(context, args.pin, args.page ?? 0, null),
  }),
  defineOperation({
    name: 'gup.write',
    summary: 'Whoever holds pages writes one of them, as a device does: no page table entry becomes dirty.',
    args: z.strictObject({ ...PIN, page: zCount().optional(), value: zContent.optional() }),
    shows: { value: 'What was written.' },
    run: (context, args) => accessHeld(context, args.pin, args.page ?? 0, args.value ?? ownContent(context)),
  }),
  defineOperation({
    name: 'gup.unpin',
    summary: 'unpin_user_pages or put_page: gives back what was last taken under that name.',
    args: z.strictObject({ ...PIN, dirty: z.boolean().optional().describe('unpin_user_pages_dirty_lock') }),
    *run(context, args) {
      const { world } = context.performance;
      const { core } = world;
      const held = yield* call(world.holds.take(args.pin.name));
      if (held === undefined) return { errno: 'EBADF' };
      if (held.grab === 'get') yield* call(putUserPages(core, held.runs, held.owner));
      else if (held.grab === 'folios') yield* call(unpinFolios(core, held.runs, held.owner));
      else yield* call(unpinUserPages(core, held.runs, { owner: held.owner, dirty: args.dirty ?? false }));
      world.holds.gone(held);
      return { returns: 0 };
    },
  }),
  defineOperation({
    name: 'memfd.pin_folios',
    summary: 'memfd_pin_folios, as UDMABUF_CREATE does: pins the folios of a memfd through its page cache.',
    on: ['process'],
    args: z.strictObject({
      memory: zRef('memory'),
      offset: zAddress.optional().describe('Byte in the file; default 0.'),
      length: zSize.optional().describe('Default: to the end.'),
      as: zDeclares('pin'),
    }),
    shows: { folios: 'How many folios are pinned.' },
    *run(context, args) {
      const { world } = context.performance;
      const { core } = world;
      const { inode } = world.objectOf(processOf(context), args.memory.name);
      if (inode === null) throw new ScriptMistake(`${args.memory.name} has no file behind it`);
      if (!core.kernel.has('gup.memfd-pin-folios'))
        throw new ScriptMistake('this kernel has no memfd_pin_folios: it came with 6.11');
      const first = Number((args.offset ?? 0n) / PAGE);
      const length = args.length === undefined ? inode.sizePages.peek() - first : Number(args.length / PAGE);
      const process = processOf(context);
      const owner = ownerOf(args.as.name, process);
      const got = yield* call(memfdPinFolios(core, inode, first, first + length - 1, length, owner));
      if ('refused' in got) return refuse(context, owner, first, length, got.refused.errno, got.refused);
      yield* call(world.holds.add(args.as.name, new Hold(core, process, args.as.name, 'folios', got.pins, null)));
      return { returns: 0, shows: { folios: got.pins.length } };
    },
  }),
];
