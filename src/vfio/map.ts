// VFIO_IOMMU_MAP_DMA (vfio_iommu_type1.c vfio_iommu_type1_map_dma, vfio_dma_do_map, vfio_pin_map_dma): argument checks in
// the kernel's order, then run by run: pin, charge, map into every domain. All or nothing.
import { call, type Steps } from '../engine/process.ts';
import { step } from '../engine/step.ts';
import { IO_READ, IO_WRITE } from '../hw/io-entry.ts';
import { iommuMap, iommuUnmap } from '../iommu/map.ts';
import type { Errno } from '../mm/errno.ts';
import { refuse, within } from '../mm/gup/gup-flags.ts';
import type { Refusal } from '../mm/ledger.ts';
import { allocBitmap } from './dirty.ts';
import { VfioDma } from './dma.ts';
import type { VfioIommu } from './iommu.ts';
import type { VfioModule } from './module.ts';
import { type PinnedRun, pinPagesRemote, putPfns, unpinPagesRemote, VfioBatch } from './pin.ts';
import { explainLimit, hexBytes, type MapAttempt, tellRefused } from './refusal.ts';
import { removeDma } from './unmap-unpin.ts';
import { mapVaddr } from './vaddr.ts';
import { addViews, willAddViews } from './views.ts';

const LOCK = step('vfio_dma_do_map:lock', 'lock');
const UNLOCK = step('vfio_dma_do_map:unlock', 'lock');

export const VFIO_DMA_MAP_FLAG_READ = 1;
export const VFIO_DMA_MAP_FLAG_WRITE = 2;
export const VFIO_DMA_MAP_FLAG_VADDR = 4;

/** sizeof(struct vfio_iommu_type1_dma_map) */
const MAP_ARGSZ = 32;
const PAGE_MASK = 4095n;
const U64 = 1n << 64n;

/** struct vfio_iommu_type1_dma_map: addresses and size in bytes, 64 bits each. */
export interface VfioDmaMap {
  readonly argsz?: number;
  readonly flags: number;
  readonly vaddr: bigint;
  readonly iova: bigint;
  readonly size: bigint;
}

/** vfio_iommu_type1_map_dma. `arg` null: a pointer that cannot be read. */
export function* vfioMapDma(iommu: VfioIommu, module: VfioModule, arg: VfioDmaMap | null): Steps<'ok' | Errno> {
  const { core } = iommu;
  if (arg === null) return 'EFAULT';
  const known = core.kernel.has('type1.vaddr-update') ? 7 : 3;
  if ((arg.argsz ?? MAP_ARGSZ) < MAP_ARGSZ || (arg.flags & ~known) !== 0) {
    const what = `vfio_iommu_type1_map_dma: argsz ${arg.argsz ?? MAP_ARGSZ}, flags ${hexBytes(arg.flags)}`;
    return tell(
      iommu,
      arg,
      refuse('EINVAL', what, `argsz of at least ${MAP_ARGSZ} and flags within ${hexBytes(known)}`),
    );
  }
  const prot =
    ((arg.flags & VFIO_DMA_MAP_FLAG_READ) !== 0 ? IO_READ : 0) |
    ((arg.flags & VFIO_DMA_MAP_FLAG_WRITE) !== 0 ? IO_WRITE : 0);
  const setVaddr = (arg.flags & VFIO_DMA_MAP_FLAG_VADDR) !== 0;
  if ((prot !== 0) === setVaddr) {
    return tell(
      iommu,
      arg,
      refuse('EINVAL', 'vfio_dma_do_map: neither or both of READ/WRITE and VADDR', 'one of the two'),
    );
  }
  const { task } = core.current;
  task.memlockBytes.willRead(LOCK);
  module.disableHugepages.willRead(LOCK);
  yield iommu.acquire(LOCK);
  const bad = checkRange(arg);
  const iova = Number(arg.iova >> 12n);
  const pages = Number(arg.size >> 12n);
  if (setVaddr) {
    const vpn = Number(arg.vaddr >> 12n);
    const refused = bad ?? (yield* call(mapVaddr(iommu, { iova, pages, vpn })));
    if (bad === null) yield iommu.will(UNLOCK);
    iommu.lock.releaseNow();
    return refused === null ? 'ok' : tell(iommu, arg, refused);
  }
  const refused = bad ?? checkRoom(iommu, iova, pages);
  if (refused !== null) {
    iommu.lock.releaseNow();
    return tell(iommu, arg, refused);
  }
  const dma = newEntry(iommu, { iova, vpn: Number(arg.vaddr >> 12n), prot });
  const limitPages = Math.floor(task.memlockBytes.value / 4096);
  const batch = new VfioBatch(core, module.disableHugepages.value);
  const failed = iommu.domains.value.length === 0 ? null : yield* call(pinMapDma(iommu, dma, pages, limitPages, batch));
  return yield* call(finishMap(iommu, arg, dma, pages, failed));
}

function tell(iommu: VfioIommu, attempt: MapAttempt, refusal: Refusal): Errno {
  tellRefused(iommu, attempt, refusal);
  return refusal.errno;
}

/** Size and alignment, then wrap-around of either address; all as 64-bit numbers. */
function checkRange({ iova, vaddr, size }: MapAttempt): Refusal | null {
  if (size === 0n || ((size | iova | vaddr) & PAGE_MASK) !== 0n) {
    const what = `vfio_dma_do_map: size ${hexBytes(size)}, iova ${hexBytes(iova)} or vaddr ${hexBytes(vaddr)} is 0 or no multiple of the page size`;
    return refuse('EINVAL', what, 'sizes and addresses in multiples of 4096');
  }
  if (iova + size - 1n >= U64 || vaddr + size - 1n >= U64) {
    return refuse('EINVAL', 'vfio_dma_do_map: the range wraps around 2^64', 'a range that ends below 2^64');
  }
  return null;
}

/** Overlap, entries left, allowed windows: in this order. */
function checkRoom(iommu: VfioIommu, iova: number, pages: number): Refusal | null {
  const other = iommu.findDma(iova, pages);
  if (other !== undefined) {
    const range = `${page(other.iova)}..${page(other.end)}`;
    return refuse(
      'EEXIST',
      `vfio_find_dma: the range overlaps the mapping ${range}`,
      'unmap it first, or another IOVA',
    );
  }
  if (iommu.dmaAvail.value === 0) {
    return refuse(
      'ENOSPC',
      `vfio_dma_do_map: ${iommu.name} has used up its dma_entry_limit of ${iommu.dmaEntryLimit} mappings`,
      'fewer and larger mappings, or a larger vfio_iommu_type1.dma_entry_limit before the container is opened',
      { 'dma-entry-limit': iommu.dmaEntryLimit },
    );
  }
  const windows = iommu.windows.value;
  const last = iova + pages - 1;
  if (windows.length > 0 && !windows.some((window) => iova >= window.first && last <= window.last)) {
    const allowed = windows.map((window) => `${page(window.first)}..${page(window.last + 1)}`).join(', ');
    return refuse(
      'EINVAL',
      `vfio_iommu_iova_dma_valid: the range does not lie whole inside one allowed window; these are ${allowed}`,
      'IOVAs within the aperture and outside reserved windows (VFIO_IOMMU_GET_INFO lists what is allowed)',
    );
  }
  return null;
}

function page(number: number): string {
  return hexBytes(BigInt(number) << 12n);
}

function newEntry(iommu: VfioIommu, { iova, vpn, prot }: { iova: number; vpn: number; prot: number }): VfioDma {
  const { current } = iommu.core;
  const { process, task } = current;
  iommu.dmaAvail.value -= 1;
  const dma = new VfioDma({
    iova,
    vaddr: vpn,
    pages: 0,
    prot,
    iommuMapped: false,
    lockCap: current.capable('CAP_IPC_LOCK'),
    vaddrInvalid: false,
    task,
    mm: task.mm.peek()!,
    lockedVm: 0,
    pfnList: [],
    bitmap: null,
    owner: `vfio-type1 ${iommu.name} iova ${page(iova)} (${process.name}#${process.nextNumber()})`,
  });
  iommu.dmaList.set(iova, dma);
  return dma;
}

/** What went wrong, and how many pages had been mapped by then. */
interface MapFailure {
  readonly done: number;
  readonly refusal: Refusal;
}

/** vfio_pin_map_dma */
function* pinMapDma(
  iommu: VfioIommu,
  dma: VfioDma,
  pages: number,
  limitPages: number,
  batch: VfioBatch,
): Steps<MapFailure | null> {
  let done = 0;
  while (done < pages) {
    const run = yield* call(pinPagesRemote(iommu, dma, done, pages - done, limitPages, batch));
    if ('errno' in run) return { done, refusal: explainLimit(iommu, dma, pages, done, run) };
    const errno = yield* call(mapIntoDomains(iommu, dma, dma.iova + done, run));
    if (errno !== null) {
      yield* call(unpinPagesRemote(iommu, dma, dma.iova + done, run));
      yield* call(putPfns(iommu, dma, batch.runs));
      const what = `iommu_map(iova ${page(dma.iova + done)}, pfn ${run.pfn}, ${run.pages} pages)`;
      return { done, refusal: refuse(errno, what, 'an IOMMU domain that can hold the mapping') };
    }
    done += run.pages;
  }
  return null;
}

/** vfio_iommu_map: into every domain in list order; a failure takes the run out of those before it. */
function* mapIntoDomains(iommu: VfioIommu, dma: VfioDma, at: number, run: PinnedRun): Steps<Errno | null> {
  const domains = iommu.domains.peek();
  const { prot } = dma.fields;
  const generation = run.generation === undefined ? {} : { generation: run.generation };
  for (const [i, { domain }] of domains.entries()) {
    const errno = yield* call(iommuMap(domain, { page: at, pfn: run.pfn, pages: run.pages, prot, ...generation }));
    if (errno === null) continue;
    for (const before of domains.slice(0, i).reverse()) yield* call(iommuUnmap(before.domain, at, run.pages));
    return errno;
  }
  return null;
}

/** The entry gets its size and bitmap and the lock is dropped; or everything is undone. */
function* finishMap(
  iommu: VfioIommu,
  attempt: MapAttempt,
  dma: VfioDma,
  pages: number,
  failed: MapFailure | null,
): Steps<'ok' | Errno> {
  if (failed === null) willAddViews(iommu, dma.with({ pages }), UNLOCK);
  yield iommu.will(UNLOCK);
  const mapped = failed === null ? pages : failed.done;
  const whole = iommu.entry(dma.iova).with({ pages: mapped, iommuMapped: iommu.domains.value.length > 0 });
  iommu.dmaList.set(dma.iova, whole);
  let refusal = failed?.refusal ?? null;
  if (refusal === null) {
    const bitmap = iommu.dirtyPageTracking.value ? allocBitmap(whole) : null;
    if (bitmap === 'EINVAL') {
      refusal = refuse(
        'EINVAL',
        `vfio_dma_bitmap_alloc: ${pages} pages need more than 2^31 - 1 dirty bits`,
        'smaller mappings',
      );
    } else {
      iommu.dmaList.set(dma.iova, whole.with({ bitmap }));
      addViews(iommu, whole);
      iommu.lock.releaseNow();
      return 'ok';
    }
  }
  yield* call(removeDma(iommu, dma.iova));
  yield iommu.will(UNLOCK);
  iommu.lock.releaseNow();
  return tell(iommu, attempt, within(`mapped ${mapped} of ${pages} pages, then undone`, refusal));
}
