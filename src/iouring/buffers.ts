// IORING_REGISTER_BUFFERS and IORING_UNREGISTER_BUFFERS (io_uring/rsrc.c): pins, coalescing of huge pages, charges to
// user->locked_vm and mm->pinned_vm. Tags, updates of single slots and cloned tables are not modelled.
import { call, type Steps } from '../engine/process.ts';
import { step } from '../engine/step.ts';
import { until } from '../engine/wait.ts';
import { PAGE_SIZE } from '../hw/machine.ts';
import { addPinnedVm, chargeUser, unchargeUser } from '../mm/accounting.ts';
import type { CoreMm } from '../mm/core.ts';
import type { Errno } from '../mm/errno.ts';
import { refuse, within } from '../mm/gup/gup-flags.ts';
import { unpinUserPages } from '../mm/gup/unpin.ts';
import { type FrameRun, PIN_REFUSED, type Refusal } from '../mm/ledger.ts';
import { ioPinPages } from './pin-pages.ts';
import { type IoUring, MappedBuffer } from './ring.ts';

const LOCK = step('io_uring_register:uring_lock', 'lock');
const LOOK = step('io_sqe_buffers_register:user_bufs', 'op');
const STORE = step('io_sqe_buffer_register:store', 'op');
const QUIESCE = step('io_rsrc_ref_quiesce', 'none');
const UNLOCK = step('io_uring_register:unlock', 'lock');

/** IORING_MAX_REG_BUFFERS */
const MAX_BUFFERS = 1 << 14;
const MAX_BYTES = 2n ** 30n;
const ADDRESS_END = 2n ** 64n;

/** struct iovec. Base 0 with length 0 leaves the slot empty. */
export interface Iovec {
  readonly base: bigint;
  readonly bytes: bigint;
}

/**
 * io_sqe_buffers_register: all of the buffers, or none. EBUSY: there are some already; EINVAL: none or too many given;
 * EFAULT, EOVERFLOW: bad ranges; ENOMEM: RLIMIT_MEMLOCK; otherwise what the pin says.
 */
export function* registerBuffers(core: CoreMm, ring: IoUring, iovecs: readonly Iovec[]): Steps<Errno | null> {
  yield ring.lock.lock(LOCK);
  const refused = yield* call(registerLocked(core, ring, iovecs));
  yield ring.lock.unlock(UNLOCK);
  return refused;
}

function* registerLocked(core: CoreMm, ring: IoUring, iovecs: readonly Iovec[]): Steps<Errno | null> {
  yield ring.buffers.willUpdate(LOOK);
  if (ring.buffers.value !== null) return 'EBUSY';
  if (iovecs.length === 0 || iovecs.length > MAX_BUFFERS) return 'EINVAL';
  ring.buffers.value = [];
  for (const [slot, iovec] of iovecs.entries()) {
    const invalid = validate(iovec);
    const made = invalid === null ? yield* call(mapBuffer(core, ring, iovec)) : { refused: invalid };
    if ('refused' in made) {
      tellRefusal(core, ring, slot, iovecs, made.refused);
      yield* call(dropBuffers(core, ring));
      return made.refused.errno;
    }
    yield ring.buffers.willUpdate(STORE);
    ring.buffers.value = [...(ring.buffers.value ?? []), made.buffer];
  }
  return null;
}

/** io_sqe_buffers_unregister: waits for the requests that use the buffers. ENXIO: nothing is registered. */
export function* unregisterBuffers(core: CoreMm, ring: IoUring): Steps<Errno | null> {
  yield ring.lock.lock(LOCK);
  yield ring.buffers.willRead(LOOK);
  if (ring.buffers.value === null) {
    yield ring.lock.unlock(UNLOCK);
    return 'ENXIO';
  }
  yield until(core.sim, [ring.requests], () => ring.requests.peek() === 0, QUIESCE, {
    name: `requests that use buffers of ${ring.name}`,
  });
  yield* call(dropBuffers(core, ring));
  yield ring.lock.unlock(UNLOCK);
  return null;
}

/** The last reference to the ring is gone: io_ring_exit_work gives everything back. */
export function* closeRing(core: CoreMm, ring: IoUring): Steps<void> {
  yield* call(unregisterBuffers(core, ring));
}

/** __io_sqe_buffers_unregister */
function* dropBuffers(core: CoreMm, ring: IoUring): Steps<void> {
  yield ring.buffers.willUpdate(STORE);
  const buffers = ring.buffers.value ?? [];
  ring.buffers.value = null;
  for (const buffer of buffers) {
    if (buffer === null) continue;
    yield* call(unpinUserPages(core, buffer.held, { owner: ring.owner }));
    if (ring.user !== null) yield* call(unchargeUser(core, ring.user, buffer.chargedPages, ring.owner));
    yield* call(addPinnedVm(core, ring.mm, -buffer.chargedPages, ring.owner));
  }
}

/** io_buffer_validate */
function validate({ base, bytes }: Iovec): Refusal | null {
  const refused = (errno: Errno, reason: string, remedy: string) =>
    refuse(errno, `io_buffer_validate: ${reason}`, remedy);
  if (base === 0n)
    return bytes === 0n ? null : refused('EFAULT', 'a length without an address', 'length 0 for a sparse slot');
  if (bytes === 0n) return refused('EFAULT', 'an address without a length', 'at least one byte');
  if (bytes > MAX_BYTES) return refused('EFAULT', `${bytes} bytes in one buffer`, 'at most 1 GiB in each buffer');
  if (base + bytes + BigInt(PAGE_SIZE - 1) >= ADDRESS_END) {
    return refused('EOVERFLOW', 'the range wraps around the end of the address space', 'an address of user space');
  }
  return null;
}

/** io_sqe_buffer_register */
function* mapBuffer(
  core: CoreMm,
  ring: IoUring,
  { base, bytes }: Iovec,
): Steps<{ readonly buffer: MappedBuffer | null } | { readonly refused: Refusal }> {
  if (base === 0n) return { buffer: null };
  const first = Number(base / BigInt(PAGE_SIZE));
  const end = Number((base + bytes + BigInt(PAGE_SIZE - 1)) / BigInt(PAGE_SIZE));
  const pinned = yield* call(ioPinPages(core, first, end - first, ring.owner));
  if ('refused' in pinned) return pinned;
  const { runs } = pinned;
  const firsts = core.kernel.has('iouring.buffer-coalesces') ? firstOfEachFolio(core, runs) : null;
  if (firsts !== null) yield* call(unpinUserPages(core, tails(core, runs), { owner: ring.owner }));
  const held = firsts ?? runs;
  const chargedPages = chargeable(core, ring, runs);
  const refused = yield* call(charge(core, ring, chargedPages));
  if (refused !== null) {
    yield* call(unpinUserPages(core, held, { owner: ring.owner }));
    return { refused };
  }
  // Of a pinned frame; it cannot change before the unpin.
  const generations = runs.flatMap((run) =>
    Array.from({ length: run.pages }, (_, i) => core.frames.peekGeneration(run.pfn + i)),
  );
  return { buffer: new MappedBuffer({ base, bytes: Number(bytes), runs, held, chargedPages, generations }) };
}

/** io_account_mem */
function* charge(core: CoreMm, ring: IoUring, pages: number): Steps<Refusal | null> {
  if (ring.user !== null) {
    const { task } = core.current;
    const refused = yield* call(chargeUser(core, ring.user, pages, task, ring.owner, '__io_account_mem'));
    if (refused !== null) return within(`io_buffer_account_pin: ${pages} pages to charge`, refused);
  }
  yield* call(addPinnedVm(core, ring.mm, pages, ring.owner));
  return null;
}

/**
 * io_buffer_account_pin: small pages one by one, a huge page as a whole the first time this ring has any part of it.
 * Looks without a step: the pages are pinned, so what folio they belong to stands; uring_lock guards the table.
 */
function chargeable(core: CoreMm, ring: IoUring, runs: readonly FrameRun[]): number {
  const { folios } = core;
  const seen = new Set<number>();
  for (const buffer of ring.buffers.peek() ?? []) {
    for (const run of buffer?.held ?? []) forFolios(core, run, (head) => seen.add(head));
  }
  let pages = 0;
  for (const run of runs) {
    forFolios(core, run, (head, inFolio) => {
      if (!folios.isLarge(head)) pages += inFolio;
      else if (!seen.has(head)) {
        seen.add(head);
        pages += folios.pagesOf(head);
      }
    });
  }
  return pages;
}

/** Every large folio that a run touches with the pages it has of it; small folios page by page. */
function forFolios(core: CoreMm, run: FrameRun, visit: (head: number, pages: number, first: number) => void): void {
  const end = run.pfn + run.pages;
  for (let pfn = run.pfn; pfn < end; ) {
    const head = core.folios.headOf(pfn);
    const pages = Math.min(end, head + core.folios.pagesOf(head)) - pfn;
    visit(head, pages, pfn);
    pfn += pages;
  }
}

/**
 * io_try_coalesce_buffer: when the pages lie in large folios of one size, whole but for the first and the last, one pin
 * on each folio is enough: the runs of those. Null: kept page by page.
 */
function firstOfEachFolio(core: CoreMm, runs: readonly FrameRun[]): readonly FrameRun[] | null {
  const { folios } = core;
  const parts: { head: number; first: number; pages: number }[] = [];
  for (const run of runs) forFolios(core, run, (head, pages, first) => parts.push({ head, first, pages }));
  const size = folios.pagesOf(parts[0]!.head);
  const total = parts.reduce((sum, part) => sum + part.pages, 0);
  if (total <= 1 || size === 1) return null;
  for (const [i, part] of parts.entries()) {
    if (folios.pagesOf(part.head) !== size) return null;
    if (i > 0 && part.first !== part.head) return null;
    if (i < parts.length - 1 && part.first + part.pages !== part.head + size) return null;
  }
  return parts.map((part) => ({ pfn: part.first, pages: 1 }));
}

/** The pages beyond the first of each folio, whose pins are dropped. */
function tails(core: CoreMm, runs: readonly FrameRun[]): readonly FrameRun[] {
  const found: FrameRun[] = [];
  for (const run of runs) {
    forFolios(core, run, (_, pages, first) => {
      if (pages > 1) found.push({ pfn: first + 1, pages: pages - 1 });
    });
  }
  return found;
}

function tellRefusal(core: CoreMm, ring: IoUring, slot: number, iovecs: readonly Iovec[], refusal: Refusal): void {
  if (!core.sim.hears(PIN_REFUSED)) return;
  const { base, bytes } = iovecs[slot]!;
  const vpn = Number(base / BigInt(PAGE_SIZE));
  const pages = Number((base + bytes + BigInt(PAGE_SIZE - 1)) / BigInt(PAGE_SIZE)) - vpn;
  const outer = `IORING_REGISTER_BUFFERS on ${ring.name}: buffer ${slot} of ${iovecs.length}, ${bytes} bytes at 0x${base.toString(16)}`;
  const who = `IORING_REGISTER_BUFFERS by ${core.current.task.name}`;
  core.sim.emit(PIN_REFUSED, { ...within(outer, refusal), who, vpn, pages });
}
