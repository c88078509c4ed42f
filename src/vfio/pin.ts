// Pinning for MAP_DMA (vfio_iommu_type1.c vaddr_get_pfns, vfio_pin_pages_remote): batches of up to 512 pages from GUP,
// cut into runs of consecutive frames. Each run is charged when it is complete: until then its pages are pinned and
// not charged. What a batch has left over serves the next run. Before 5.12 pages were looked up one by one, the first that
// does not continue the run was given back, and an error in the middle of a run was left for the next call to meet.
import { call, type Steps } from '../engine/process.ts';
import { step } from '../engine/step.ts';
import { IO_WRITE } from '../hw/io-entry.ts';
import { PMD_PAGES } from '../hw/machine.ts';
import { lockedVmOf, overLimit } from '../mm/accounting.ts';
import type { CoreMm } from '../mm/core.ts';
import { fixupUserFault, followPfn } from '../mm/gup/follow-pfn.ts';
import { pinUserPagesRemote } from '../mm/gup/gup.ts';
import { refuse, within } from '../mm/gup/gup-flags.ts';
import { ignoresZeroPage } from '../mm/gup/gup-grab.ts';
import { unpinUserPages } from '../mm/gup/unpin.ts';
import type { FrameRun, Refusal } from '../mm/ledger.ts';
import type { PfnMapping, Vma } from '../mm/mapping/vma.ts';
import type { Mm } from '../mm/mm.ts';
import { PG_RESERVED } from '../mm/page-flags.ts';
import { hex } from '../mm/page-table.ts';
import { lockAcct } from './account.ts';
import type { VfioDma } from './dma.ts';
import type { VfioIommu } from './iommu.ts';

const MMAP_LOCK = step('vaddr_get_pfns:mmap_read_lock', 'lock');
const MMAP_UNLOCK = step('vaddr_get_pfns:mmap_read_unlock', 'lock');
const VMA_LOOKUP = step('vaddr_get_pfns:vma_lookup', 'op');
const LOOKUPS = step('vaddr_get_pfns:get_user_pages_remote', 'gup-slow');
const CHECK = step('vfio_pin_pages_remote:check-limit', 'op');

/** VFIO_BATCH_MAX_CAPACITY: page pointers in one page. */
const BATCH_PAGES = 512;

/** Frames of one batch not yet used. */
interface BatchRun {
  readonly pfn: number;
  readonly pages: number;
  /** Raw frames (VM_PFNMAP): the generation of the entry that was followed. */
  readonly generation: number | undefined;
}

/** struct vfio_batch. Local to one MAP or replay. */
export class VfioBatch {
  readonly capacity: number;
  /** vfio_iommu_type1.disable_hugepages: every page is a run of its own. */
  readonly single: boolean;
  /** vaddr_get_pfn, for one page, where later kernels fill a batch. */
  readonly oneByOne: boolean;
  runs: BatchRun[] = [];
  /** Nothing has been taken from it since it was filled. */
  untouched = true;

  constructor(core: CoreMm, disableHugepages: boolean) {
    this.single = disableHugepages;
    this.oneByOne = !core.kernel.has('type1.batched-pin');
    this.capacity = this.single || this.oneByOne ? 1 : BATCH_PAGES;
  }

  get pages(): number {
    return this.runs.reduce((sum, run) => sum + run.pages, 0);
  }
}

/** A physically contiguous run that is pinned and charged. */
export interface PinnedRun {
  readonly pfn: number;
  readonly pages: number;
  readonly generation: number | undefined;
}

/** is_invalid_reserved_pfn: no struct page, or PageReserved. Neither charged nor unpinned. */
export function isInvalidReserved(core: CoreMm, pfn: number): boolean {
  if (!core.machine.hasStructPage(pfn)) return true;
  return core.folios.has(core.folios.headOf(pfn), PG_RESERVED);
}

/** How many frames from `pfn` on, at most `pages`, are alike in being reserved or not. */
export function alikeReserved(
  core: CoreMm,
  pfn: number,
  pages: number,
): { readonly pages: number; readonly reserved: boolean } {
  const { folios, machine } = core;
  const zone = machine.zoneOf(pfn);
  if (zone === undefined || zone.kind === 'DEVICE') {
    const last = zone === undefined ? pfn + pages : zone.firstPfn + zone.pages;
    return { pages: Math.min(pages, last - pfn), reserved: true };
  }
  const end = Math.min(pfn + pages, zone.firstPfn + zone.pages);
  const wanted = isInvalidReserved(core, pfn) ? PG_RESERVED : 0;
  const { flags } = folios;
  let at = pfn;
  while (at < end) {
    const head = folios.headOf(at);
    if ((flags.peek(head) & PG_RESERVED) !== wanted) break;
    if (folios.isLarge(head)) {
      at = head + folios.pagesOf(head);
      continue;
    }
    // A 2 MiB block holds one large folio or small ones only; neighbours mostly have the same flags.
    const block = Math.min(end, at - (at % PMD_PAGES) + PMD_PAGES);
    while (at < block && (flags.peek(at) & PG_RESERVED) === wanted) at = flags.endOfRun(at, block - 1) + 1;
    if (at < block) break;
  }
  return { pages: Math.min(at, end) - pfn, reserved: wanted !== 0 };
}

/** The frames of a run that were really pinned: everything but reserved ones. */
export function unpinnable(core: CoreMm, run: FrameRun): FrameRun[] {
  const runs: FrameRun[] = [];
  for (let pfn = run.pfn; pfn < run.pfn + run.pages; ) {
    const { pages, reserved } = alikeReserved(core, pfn, run.pfn + run.pages - pfn);
    if (!reserved) runs.push({ pfn, pages });
    pfn += pages;
  }
  return runs;
}

/** put_pfn over runs; returns how many pages were unpinned. */
export function* putPfns(iommu: VfioIommu, dma: VfioDma, runs: readonly FrameRun[]): Steps<number> {
  const pinned = runs.flatMap((run) => unpinnable(iommu.core, run));
  const dirty = (dma.fields.prot & IO_WRITE) !== 0;
  yield* call(unpinUserPages(iommu.core, pinned, { owner: dma.fields.owner, dirty }));
  return pinned.reduce((sum, run) => sum + run.pages, 0);
}

/**
 * vfio_unpin_pages_remote with accounting: a run that was pinned for `iova` is given back, and so is its charge. Pages that
 * emulated drivers have pinned as well were charged when these did, and stay so.
 */
export function* unpinPagesRemote(iommu: VfioIommu, dma: VfioDma, iova: number, run: FrameRun): Steps<void> {
  const pieces = unpinnable(iommu.core, run);
  const external = pieces.reduce((sum, { pfn, pages }) => sum + dma.externalPins(iova + pfn - run.pfn, pages), 0);
  const unpinned = yield* call(putPfns(iommu, dma, [run]));
  yield* call(lockAcct(iommu, dma.iova, external - unpinned, true));
}

/**
 * vfio_pin_pages_remote: pin the longest contiguous run from `vpn`, at most `pages`, and charge it. `limitPages` is the
 * caller's RLIMIT_MEMLOCK as sampled at the start of the operation. On error everything, also the batch, is unpinned.
 */
export function* pinPagesRemote(
  iommu: VfioIommu,
  dma: VfioDma,
  offset: number,
  pages: number,
  limitPages: number,
  batch: VfioBatch,
): Steps<PinnedRun | Refusal> {
  const { core } = iommu;
  const mm = core.current.task.mm.peek();
  if (mm === null) return refuse('ENODEV', 'vfio_pin_pages_remote: the caller has no address space', 'a user process');
  const run = new RunInProgress(core, dma, offset);
  let refused: Refusal | null = null;
  while (run.pages < pages && refused === null) {
    let lockedVm: number;
    if (batch.runs.length === 0) {
      const vpn = dma.fields.vaddr + offset + run.pages;
      const most = pages - run.pages;
      const asked =
        batch.oneByOne && !batch.single ? run.alike(mm, vpn, most, limitPages) : Math.min(most, batch.capacity);
      const got = yield* call(vaddrGetPfns(iommu, dma, mm, vpn, asked));
      if ('errno' in got) {
        if (batch.oneByOne && run.pages > 0) break;
        refused = atPage(got, offset + run.pages, vpn);
        break;
      }
      batch.runs = got.runs;
      batch.untouched = true;
      lockedVm = got.lockedVm;
      if (batch.oneByOne) yield* call(chargeLookups(core, batch.pages - 1));
    } else {
      if (!dma.fields.lockCap) yield mm.lockedVm.willRead(CHECK);
      lockedVm = dma.fields.lockCap ? 0 : mm.lockedVm.value;
    }
    const end = run.consume(batch, pages, lockedVm, limitPages);
    if (end === 'over-limit') {
      const account = { name: lockedVmOf(mm), counter: mm.lockedVm };
      refused = overLimit('vfio_pin_pages_remote', account, lockedVm, 1, limitPages, run.toCharge);
    } else if (end === 'other-run' || batch.single) break;
  }
  if (refused === null) refused = yield* call(lockAcct(iommu, dma.iova, run.toCharge, false));
  // A batch of one that nobody touched may be a raw frame, which a batch of struct pages cannot keep: looked up again.
  if (batch.untouched && batch.pages === 1) {
    yield* call(putPfns(iommu, dma, batch.runs));
    batch.runs = [];
  }
  if (refused === null) return { pfn: run.pfn, pages: run.pages, generation: run.generation };
  const left: FrameRun[] = run.pages > 0 && !run.reserved ? [run] : [];
  yield* call(putPfns(iommu, dma, [...left, ...batch.runs]));
  batch.runs = [];
  return refused;
}

/** What looking up that many pages one by one costs beyond one look-up for all. */
function* chargeLookups(core: CoreMm, pages: number): Steps<void> {
  if (pages < 1) return;
  yield core.sim.local(MMAP_LOCK, pages);
  yield core.sim.local(LOOKUPS, pages);
  yield core.sim.local(MMAP_UNLOCK, pages);
}

/** The run being collected. */
class RunInProgress {
  pfn = 0;
  pages = 0;
  /** Pages that the charge will cover. */
  toCharge = 0;
  reserved = false;
  generation: number | undefined;
  private readonly core: CoreMm;
  private readonly dma: VfioDma;
  private readonly offset: number;

  constructor(core: CoreMm, dma: VfioDma, offset: number) {
    this.core = core;
    this.dma = dma;
    this.offset = offset;
  }

  /**
   * The bulk lane of look-ups one by one: how many pages from `vpn` on will all continue the run, within the limit. They
   * may be looked up in one go where nobody journals or watches.
   */
  alike(mm: Mm, vpn: number, most: number, limit: number): number {
    const { core, dma } = this;
    const { pageTable } = mm;
    if (!core.folios.refcount.bulk || core.params.stepPages < 2) return 1;
    const pfn = pageTable.peekFrame(vpn);
    if (pfn === 0 || (this.pages > 0 && pfn !== this.pfn + this.pages)) return 1;
    const room = dma.fields.lockCap ? most : limit - mm.lockedVm.peek() - this.toCharge;
    return Math.max(1, pageTable.peekRising(vpn, pfn, Math.min(most, core.params.stepPages, room)));
  }

  /** Take from the batch what continues the run. */
  consume(batch: VfioBatch, most: number, lockedVm: number, limit: number): 'used-up' | 'other-run' | 'over-limit' {
    for (;;) {
      const next = batch.runs[0];
      if (next === undefined || this.pages === most) return 'used-up';
      const alike = alikeReserved(this.core, next.pfn, Math.min(next.pages, most - this.pages));
      if (this.pages === 0) {
        this.pfn = next.pfn;
        this.reserved = alike.reserved;
        this.generation = next.generation;
      } else if (next.pfn !== this.pfn + this.pages || alike.reserved !== this.reserved) return 'other-run';
      else if (this.generation !== next.generation) return 'other-run';
      if (!alike.reserved) {
        const iova = this.dma.iova + this.offset + this.pages;
        const charge = alike.pages - this.dma.externalPins(iova, alike.pages);
        const room = limit - lockedVm - this.toCharge;
        if (!this.dma.fields.lockCap && charge > room) {
          this.toCharge += Math.max(0, room);
          return 'over-limit';
        }
        this.toCharge += charge;
      }
      this.pages += alike.pages;
      batch.untouched = false;
      const rest = next.pages - alike.pages;
      if (rest > 0) batch.runs[0] = { pfn: next.pfn + alike.pages, pages: rest, generation: next.generation };
      else batch.runs.shift();
    }
  }
}

interface Got {
  readonly runs: BatchRun[];
  /** mm->locked_vm as read after mmap_lock was dropped; 0 when nobody needs it. */
  readonly lockedVm: number;
}

/** vaddr_get_pfns: pin through GUP, or follow a raw mapping. mmap_lock is held for read only in here. */
export function* vaddrGetPfns(
  iommu: VfioIommu,
  dma: VfioDma,
  mm: Mm,
  vpn: number,
  pages: number,
): Steps<Got | Refusal> {
  const { core } = iommu;
  const { owner, prot, lockCap } = dma.fields;
  const write = (prot & IO_WRITE) !== 0;
  yield* call(mm.mmapLock.read(MMAP_LOCK));
  const pinned = yield* call(pinUserPagesRemote(core, mm, vpn, pages, { owner, write, longterm: true }));
  let result: BatchRun[] | Refusal;
  if (pinned.pinned > 0) {
    yield* call(dropZeroPages(core, pinned.runs, owner));
    result = pinned.runs.map((run) => ({ ...run, generation: undefined }));
  } else result = yield* call(followFaultPfn(core, mm, vpn, pages, write, pinned.reason));
  if (!lockCap) mm.lockedVm.willRead(MMAP_UNLOCK);
  yield mm.mmapLock.up(MMAP_UNLOCK);
  if ('errno' in result) return result;
  return { runs: result, lockedVm: lockCap ? 0 : mm.lockedVm.value };
}

/** Zero pages count as reserved, so that nobody would unpin them later. Where GUP counts no pin of them, neither here. */
function* dropZeroPages(core: CoreMm, runs: readonly FrameRun[], owner: string): Steps<void> {
  if (core.kernel.way('type1.zero-page') === 'leak' && !ignoresZeroPage(core, core.zeroPfn)) return;
  const zero = runs.filter((run) => run.pfn === core.zeroPfn);
  if (zero.length > 0) yield* call(unpinUserPages(core, zero, { owner }));
}

/** follow_fault_pfn, for VM_PFNMAP areas: the frame of a raw mapping, faulted in if need be. No reference is taken. */
function* followFaultPfn(
  core: CoreMm,
  mm: Mm,
  vpn: number,
  pages: number,
  write: boolean,
  gup: Refusal | undefined,
): Steps<BatchRun[] | Refusal> {
  for (;;) {
    yield mm.vmas.willRead(VMA_LOOKUP);
    const vma = mm.vmaAt(vpn);
    const mapping = vma?.fields.pfnMapping ?? null;
    if (vma === undefined || mapping === null) {
      return gup ?? refuse('EFAULT', `pin_user_pages_remote(${hex(vpn)}) pinned nothing`, 'memory behind the address');
    }
    if (!core.kernel.has('type1.pfnmap-reads-entry')) return computedPfn(core, vma, mapping, vpn);
    let followed = yield* call(followPfn(core, mm, vma, vpn));
    if (followed === null) {
      if (!core.kernel.has('type1.pfnmap-faults-in')) return notMapped(vma, vpn);
      const fixed = yield* call(fixupUserFault(core, mm, vpn, { write, remote: true, mayUnlock: true }));
      if (fixed.unlocked) continue;
      if (fixed.refusal !== null) return within(`follow_fault_pfn(${hex(vpn)}) of '${vma.fields.name}'`, fixed.refusal);
      followed = yield* call(followPfn(core, mm, vma, vpn));
      if (followed === null) return notMapped(vma, vpn);
    }
    if (write && !followed.writable && core.kernel.has('type1.pfnmap-checks-write')) {
      return refuse(
        'EFAULT',
        `follow_fault_pfn: the raw mapping '${vma.fields.name}' is read-only`,
        'a READ-only MAP_DMA',
      );
    }
    if (!isInvalidReserved(core, followed.pfn)) {
      return refuse(
        'EFAULT',
        `vaddr_get_pfns: pfn ${followed.pfn} of the raw mapping '${vma.fields.name}' has a struct page that is not reserved`,
        'memory that can be pinned, or device memory without struct page',
      );
    }
    const step = core.kernel.way('type1.pfnmap-step') === 'leaf' ? Math.min(followed.pages, pages) : 1;
    return [{ pfn: followed.pfn, pages: step, generation: followed.generation }];
  }
}

/** Until 5.7: vm_pgoff is taken for the first frame number, whatever the entries say. */
function computedPfn(core: CoreMm, vma: Vma, mapping: PfnMapping, vpn: number): BatchRun[] | Refusal {
  const pfn = mapping.frameAt(vma.indexOf(vpn));
  if (pfn === undefined) return notMapped(vma, vpn);
  return [{ pfn, pages: 1, generation: core.frames.peekGeneration(pfn) }];
}

/** GUP counts from the start of a batch; whoever asked for the mapping counts from its start. */
function atPage(refusal: Refusal, page: number, vpn: number): Refusal {
  const outer = within(`vaddr_get_pfns: page ${page} of the mapping, at ${hex(vpn)}`, refusal);
  return { ...outer, details: { ...outer.details, 'failed-page': page } };
}

function notMapped(vma: Vma, vpn: number): Refusal {
  return refuse(
    'EINVAL',
    `follow_pfnmap_start(${hex(vpn)}): nothing is mapped in '${vma.fields.name}' (zapped after it was faulted in)`,
    'device memory that stays enabled while it is mapped',
  );
}
