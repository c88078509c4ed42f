// memfd_pin_folios (mm/gup.c, since 6.11; udmabuf and iommufd): long-term pins of a memfd through its page cache, with
// no address space in between. One pin for each folio, whatever its size; MMF_HAS_PINNED of no mm is set.
import type { Loop } from '../../engine/loop.ts';
import { call, type Steps } from '../../engine/process.ts';
import { step } from '../../engine/step.ts';
import { allocHugetlb } from '../alloc/page-alloc.ts';
import type { CoreMm } from '../core.ts';
import type { Inode } from '../file/inode.ts';
import { filemapAddFolio, filemapGetFolio, unlockFolio } from '../file/page-cache.ts';
import { shmemGetFolio } from '../file/shmem.ts';
import { lockFaultMutex, unlockFaultMutex } from '../hugetlb/hugetlb-mutex.ts';
import { type FrameRun, PIN_TAKEN, type Refusal } from '../ledger.ts';
import { PG_UPTODATE } from '../page-flags.ts';
import { folioPut } from '../refcount.ts';
import { gupFlags, refuse, within } from './gup-flags.ts';
import { grabSlow, willCount } from './gup-grab.ts';
import { checkAndMigrate, FRUITLESS_ROUNDS } from './gup-longterm.ts';
import { putRuns, unpinUserPages } from './unpin.ts';

const SIZE = step('memfd_pin_folios:i_size', 'op');
const GRAB = step('memfd_pin_folios:try_grab_folio', 'gup-slow');
const MUTEX = step('memfd_alloc_folio:hugetlb_fault_mutex', 'lock');
const UNMUTEX = step('memfd_alloc_folio:unlock', 'lock');
const AGAIN = step('memfd_pin_folios:again', 'none');

export interface MemfdPins {
  /** The first page of each folio, once: what is pinned, and what `unpinFolios` takes. */
  readonly pins: readonly FrameRun[];
  /** The whole folios, in file order. */
  readonly folios: readonly FrameRun[];
  /** Offset of the first page asked for in the first folio [pages]. */
  readonly offset: number;
}

/**
 * Pin the folios that hold pages first..last of the file, at most `max` of them. Absent pages are made. EINVAL: neither
 * shmem nor hugetlbfs, or beyond the end of the file; ENOMEM: no memory, or a page that cannot be migrated.
 */
export function* memfdPinFolios(
  core: CoreMm,
  inode: Inode,
  first: number,
  last: number,
  max: number,
  owner: string,
): Steps<MemfdPins | { readonly refused: Refusal }> {
  yield inode.sizePages.willRead(SIZE);
  const what = `memfd_pin_folios(${inode.name}, pages ${first} to ${last})`;
  const invalid = whyInvalid(inode, first, last, max);
  if (invalid !== null) return { refused: within(what, invalid) };
  let loop: Loop | null = null;
  for (;;) {
    const pins: FrameRun[] = [];
    const refused = yield* call(pinAll(core, inode, first, last, max, pins));
    if (refused !== null) {
      yield* call(putRuns(core, 'pin', pins, false, 'unpin_folios'));
      return { refused: within(what, refused) };
    }
    const verdict = yield* call(checkAndMigrate(core, pins));
    if (verdict === 'fruitless') {
      if (loop === null) loop = core.sim.loop('memfd_pin_folios', FRUITLESS_ROUNDS);
      else yield loop.again(AGAIN);
      loop.begin();
      continue;
    }
    if (verdict === 'again') continue;
    loop?.end();
    if (verdict !== 'done') return { refused: within(what, verdict) };
    if (core.sim.hears(PIN_TAKEN)) {
      core.sim.emit(PIN_TAKEN, { runs: pins, owner, mm: inode.name, vpn: first, longterm: true, write: true });
    }
    const folios = pins.map(({ pfn }) => ({ pfn, pages: core.folios.pagesOf(pfn) }));
    const offset =
      inode.kind === 'hugetlb' ? first % 2 ** inode.hugeOrder : first - core.folios.index.peek(pins[0]!.pfn);
    return { pins, folios, offset };
  }
}

/** unpin_folios */
export function* unpinFolios(core: CoreMm, pins: readonly FrameRun[], owner: string): Steps<void> {
  yield* call(unpinUserPages(core, pins, { owner }));
}

function whyInvalid(inode: Inode, first: number, last: number, max: number): Refusal | null {
  const remedy = 'a range inside a memfd or a file of tmpfs or hugetlbfs';
  if (first < 0 || first > last || max <= 0) return refuse('EINVAL', 'memfd_pin_folios: an empty range', remedy);
  if (inode.kind !== 'shmem' && inode.kind !== 'hugetlb') {
    return refuse('EINVAL', `memfd_pin_folios: a file of kind ${inode.kind}, neither shmem nor hugetlbfs`, remedy);
  }
  const size = inode.sizePages.value;
  if (last < size) return null;
  return refuse('EINVAL', `memfd_pin_folios: page ${last} of a file of ${size} pages`, remedy, { 'size-pages': size });
}

/** One round: a pin on every folio of the range, collected in `pins`. */
function* pinAll(
  core: CoreMm,
  inode: Inode,
  first: number,
  last: number,
  max: number,
  pins: FrameRun[],
): Steps<Refusal | null> {
  const flags = gupFlags({ owner: inode.name, write: true, longterm: true }, 'pin');
  const align = inode.kind === 'hugetlb' ? 2 ** inode.hugeOrder : 1;
  let index = first - (first % align);
  // The variable that holds what memfd_alloc_folio returned: -EEXIST as a pointer?
  let holdsError = false;
  while (index <= last && pins.length < max) {
    const head = yield* call(filemapGetFolio(core, inode, index));
    if (holdsError) putOfError(core, inode, index);
    holdsError = false;
    if (head === undefined) {
      const made = yield* call(memfdAllocFolio(core, inode, index));
      if (made !== null && made !== 'exists') return made;
      holdsError = made === 'exists' && !core.kernel.has('gup.memfd-pin-eexist-resets-folio');
      continue;
    }
    yield willCount(core, head, GRAB);
    const refused = grabSlow(core, flags, head, 1);
    if (refused === null) pins.push({ pfn: head, pages: 1 });
    yield* call(folioPut(core, head, 1, 'folio_batch_release'));
    if (refused !== null) return { ...refused, errno: 'EINVAL' };
    // Pinned: it stays where it is in the file, and whole.
    index = core.folios.index.peek(head) + core.folios.pagesOf(head);
  }
  return null;
}

/** folio_put of the loop's variable, which holds no folio but an errno: the kernel stops at a bad address. */
function putOfError({ sim, current }: CoreMm, inode: Inode, index: number): void {
  sim.report({
    kind: 'use-after-free',
    message: `memfd_pin_folios by ${current.task.name} puts -EEXIST at page ${index} of ${inode.name}, as if it were a folio`,
    reasons: ['somebody else made the page first, and the variable keeps the errno as a pointer for the next round'],
    actors: [current.process.name],
    objects: [inode.name],
    steps: [],
    details: { page: index },
    identity: 'use-after-free|memfd_pin_folios|EEXIST',
  });
}

/**
 * memfd_alloc_folio: make the page in the cache; `exists`: somebody else was first. The look-up that follows takes a
 * reference of its own; before c56b6f3d801d a huge page made here kept the one that it was made with.
 */
function* memfdAllocFolio(core: CoreMm, inode: Inode, index: number): Steps<Refusal | 'exists' | null> {
  if (inode.kind === 'shmem') {
    const got = yield* call(shmemGetFolio(core, inode, index, false));
    if (typeof got === 'string') {
      const errno = got === 'oom' ? 'ENOMEM' : got === 'hwpoison' ? 'EIO' : 'EINVAL';
      return refuse(errno, `shmem_read_folio: ${got} at page ${index}`, 'free memory, a file that is long enough');
    }
    yield* call(unlockFolio(core, got.head));
    yield* call(folioPut(core, got.head, 1, 'memfd_pin_folios'));
    return null;
  }
  const head = yield* call(memfdAllocHugetlb(core, inode));
  if (head === undefined) {
    const what = `memfd_alloc_folio: no free hugetlb page of order ${inode.hugeOrder} that may be pinned for long`;
    return refuse('ENOMEM', what, 'more pages in the hugetlb pool, outside ZONE_MOVABLE');
  }
  yield lockFaultMutex(core, inode, index, MUTEX);
  const added = yield* call(filemapAddFolio(core, inode, index, head, PG_UPTODATE));
  yield unlockFaultMutex(core, inode, index, UNMUTEX);
  if (added) yield* call(unlockFolio(core, head));
  if (!added || core.kernel.has('gup.memfd-pin-no-extra-ref')) {
    yield* call(folioPut(core, head, 1, 'memfd_alloc_folio'));
  }
  return added ? null : 'exists';
}

/**
 * alloc_hugetlb_folio_reserve: a mapping of the file has promised it the page; whoever pins before any mapping takes from
 * what others were promised. Before 26a8ea80929c the page came from beside all promises, which stayed counted.
 */
function* memfdAllocHugetlb(core: CoreMm, inode: Inode): Steps<number | undefined> {
  const promised = core.kernel.has('gup.memfd-pin-takes-reservation');
  return yield* call(allocHugetlb(core, { order: inode.hugeOrder, movable: false, zero: true }, promised));
}
