// IORING_OP_READ_FIXED and WRITE_FIXED (io_uring/rsrc.c io_import_fixed): transfers that use the pinned frames, not the
// addresses. They see what the pin sees: the old page, when the mapping has moved on. Nothing is marked dirty.
import type { Steps } from '../engine/process.ts';
import { step } from '../engine/step.ts';
import { FRAME_ACCESS } from '../hw/frames.ts';
import type { CoreMm } from '../mm/core.ts';
import type { Errno } from '../mm/errno.ts';
import { PAGE_DIRTIED } from '../mm/ledger.ts';
import type { IoUring, MappedBuffer } from './ring.ts';

const IMPORT = step('io_import_fixed', 'op');
const TRANSFER = step('io_fixed:transfer', 'op');
const COMPLETE = step('io_req_complete', 'op');

export type FixedResult = { readonly token: number } | { readonly errno: Errno };

/**
 * One page of fixed IO: write `write.token` into page `page` of buffer `slot` (READ_FIXED fills it), or with null read
 * it (WRITE_FIXED sends it out). EFAULT: no such buffer, or the page lies outside it.
 */
export function* fixedIo(
  core: CoreMm,
  ring: IoUring,
  slot: number,
  page: number,
  write: { readonly token: number } | null,
): Steps<FixedResult> {
  const { frames, sim } = core;
  ring.requests.willUpdate(IMPORT);
  yield ring.buffers.willRead(IMPORT);
  const place = find(ring.buffers.value?.[slot] ?? null, page);
  if (place === null) return { errno: 'EFAULT' };
  ring.requests.value += 1;
  const { pfn, madeFor } = place;
  frames.willCheck(pfn, TRANSFER);
  yield write === null ? frames.content.willRead(pfn, TRANSFER) : frames.content.willWrite(pfn, TRANSFER);
  if (write !== null) frames.content.set(pfn, write.token);
  const token = write === null ? frames.content.get(pfn) : write.token;
  const generation = frames.generationOf(pfn);
  if (sim.hears(FRAME_ACCESS)) {
    const access = { pfn, write: write !== null, madeFor, generation, through: 'pin' as const };
    sim.emit(FRAME_ACCESS, { ...access, holder: ring.owner, page, token });
  }
  if (write !== null && sim.hears(PAGE_DIRTIED)) sim.emit(PAGE_DIRTIED, { pfn, token, by: 'kernel' });
  yield ring.requests.willUpdate(COMPLETE);
  ring.requests.value -= 1;
  return { token };
}

/** The frame of a page of the buffer. */
function find(buffer: MappedBuffer | null, page: number): { readonly pfn: number; readonly madeFor: number } | null {
  if (buffer === null || page < 0) return null;
  let before = 0;
  for (const run of buffer.runs) {
    if (page < before + run.pages) return { pfn: run.pfn + (page - before), madeFor: buffer.generations[page]! };
    before += run.pages;
  }
  return null;
}
