// mmap and munmap (mm/mmap.c do_mmap, mmap_region, do_vmi_align_munmap). Addresses and lengths in pages: what the
// system call rounds or refuses for alignment within a page belongs to the edge of the API.
import { call, type Steps } from '../../engine/process.ts';
import { step } from '../../engine/step.ts';
import { PMD_PAGES } from '../../hw/machine.ts';
import { lockedVmOf, tellCharge } from '../accounting.ts';
import type { CoreMm } from '../core.ts';
import type { Errno } from '../errno.ts';
import { mmPopulate } from '../fault/populate.ts';
import type { Inode } from '../file/inode.ts';
import { hugetlbfsFileMmap, hugetlbVmOpClose } from '../hugetlb/hugetlb-reserve.ts';
import type { Mm } from '../mm.ts';
import { pmdOf } from '../page-table.ts';
import { PMD_TABLE, PTE_DIRTY, PTE_PRESENT, PTE_SPECIAL, PTE_WRITE, PTE_YOUNG } from '../pte.ts';
import { lruAddDrain } from '../reclaim/lru.ts';
import { tlbFinish, tlbFlushMmu, tlbGather } from '../tlb.ts';
import { freePgtables, unmapVmas } from '../zap/zap.ts';
import { canMlock, MMAP_MIN_PAGE, mayMapAt, mlockFutureOk, TASK_SIZE_PAGES, unmappedArea } from './address-space.ts';
import { type PfnMapping, Vma } from './vma.ts';
import { findVmas, linkVma, lookVmas, MAX_MAP_COUNT, maySplit, mergeVmas, splitVma, unlinkVmas } from './vma-edit.ts';

const CHECK = step('do_mmap:checks', 'op');
const SECRET = step('secretmem_mmap', 'none');
const DETACH = step('vms_gather_munmap_vmas:detach', 'op');
const DOWNGRADE = step('mmap_write_downgrade', 'lock');
const REMOVE = step('remove_vma', 'op');
const CHARGE = step('vm_stat_account:locked_vm', 'op');
const REMAP_PFN = step('remap_pfn_range', 'pte-op');

/** What mmap is asked for. */
export interface MmapRequest {
  /** Name of the memory, for reports. */
  readonly name: string;
  readonly pages: number;
  /** MAP_FIXED address; without `fixed` a hint, taken when free. */
  readonly at?: number;
  readonly fixed?: boolean;
  /** MAP_FIXED_NOREPLACE */
  readonly noReplace?: boolean;
  readonly read?: boolean;
  readonly write?: boolean;
  readonly exec?: boolean;
  /** MAP_SHARED */
  readonly shared?: boolean;
  readonly file?: Inode;
  /** Offset in the file [pages]. */
  readonly pgoff?: number;
  /** The descriptor was opened for reading only. */
  readonly readOnlyFd?: boolean;
  /** MAP_POPULATE */
  readonly populate?: boolean;
  /** MAP_NORESERVE */
  readonly noReserve?: boolean;
  /** MAP_LOCKED */
  readonly locked?: boolean;
  /** A vm_file that is not where the pages come from (see VmaFields.vmFile). */
  readonly vmFile?: 'dev-zero' | 'sysv' | 'device';
  /** The policy that mbind would give it. */
  readonly bindNode?: number;
  /** A driver's mapping of raw frames. */
  readonly pfnMapping?: PfnMapping;
}

export type MmapResult = { readonly vpn: number } | { readonly errno: Errno };

/**
 * mmap. EINVAL: no pages; ENOMEM: no room, beyond the address space, or huge pages that the pool cannot promise; EEXIST:
 * MAP_FIXED_NOREPLACE over a mapping; EPERM: below mmap_min_addr, MAP_LOCKED without leave, or a write-sealed memfd; EAGAIN:
 * over RLIMIT_MEMLOCK; EACCES: shared and writable through a read-only descriptor; EINTR: killed.
 */
export function* mmap(core: CoreMm, request: MmapRequest): Steps<MmapResult> {
  const { task } = core.current;
  const mm = task.mm.peek()!;
  if (request.pages <= 0) return { errno: 'EINVAL' };
  if (!(yield* call(mm.mmapLock.killable(true, task.killed)))) return { errno: 'EINTR' };
  const result = yield* call(doMmap(core, mm, request));
  yield mm.mmapLock.up();
  if ('vpn' in result && (request.populate === true || request.locked === true)) {
    // Errors of populating are not mmap's: the mapping stands.
    yield* call(mmPopulate(core, mm, result.vpn, result.vpn + request.pages));
  }
  return result;
}

function* doMmap(core: CoreMm, mm: Mm, request: MmapRequest): Steps<MmapResult> {
  const { task } = core.current;
  const { pages, file } = request;
  mm.lockedVm.willRead(CHECK);
  task.memlockBytes.willRead(CHECK);
  file?.seals.willRead(CHECK);
  yield mm.vmas.willRead(CHECK);
  if (mm.vmas.size > MAX_MAP_COUNT || pages > TASK_SIZE_PAGES) return { errno: 'ENOMEM' };
  // No f_op->mmap.
  if (file?.kind === 'guest_memfd') return { errno: 'ENODEV' };
  const vpn = place(mm, request);
  if (vpn === undefined) return { errno: 'ENOMEM' };
  if (file?.kind === 'hugetlb' && (vpn % 2 ** file.hugeOrder !== 0 || pages % 2 ** file.hugeOrder !== 0)) {
    return { errno: 'EINVAL' };
  }
  if (!mayMapAt(core.current, vpn)) return { errno: 'EPERM' };
  if (request.noReplace === true && mm.vmasIn(vpn, vpn + pages).length > 0) return { errno: 'EEXIST' };
  if (request.locked === true && !canMlock(core.current)) return { errno: 'EPERM' };
  if (request.locked === true && !mlockFutureOk(core.current, mm, pages)) return { errno: 'EAGAIN' };
  const rights = fileRights(core, request);
  if ('errno' in rights) return rights;
  if (mm.vmasIn(vpn, vpn + pages).length > 0) {
    // mmap_region: what is there goes first.
    const unmapped = yield* call(doMunmap(core, mm, vpn, vpn + pages, false));
    if (unmapped !== 'ok') return { errno: unmapped };
  }
  // hugetlbfs_file_mmap
  if (file?.kind === 'hugetlb' && (request.pgoff ?? 0) % 2 ** file.hugeOrder !== 0) return { errno: 'EINVAL' };
  // memfd_secret is always locked (secretmem_mmap), and may refuse for the limit.
  const secret = file?.kind === 'secret';
  const locked = request.locked === true || secret;
  if (secret) {
    mm.lockedVm.willRead(SECRET);
    yield task.memlockBytes.willRead(SECRET);
    if (!mlockFutureOk(core.current, mm, pages)) return { errno: 'EAGAIN' };
  }
  const wanted = new Vma({
    start: vpn,
    end: vpn + pages,
    name: request.name,
    read: request.read ?? true,
    write: request.write ?? true,
    exec: request.exec ?? false,
    ...rights,
    file: file ?? null,
    vmFile: request.vmFile ?? null,
    pgoff: request.pgoff ?? (file === undefined && request.pfnMapping === undefined ? vpn : 0),
    pfnMapping: request.pfnMapping ?? null,
    bindNode: request.bindNode ?? null,
    noReserve: request.noReserve ?? false,
    io: request.pfnMapping !== undefined,
    // VM_LOCKED is not kept on raw frames and hugetlb, which do not need it (mmap_region).
    locked: locked && request.pfnMapping === undefined && file?.kind !== 'hugetlb' && file?.kind !== 'fsdax',
  });
  const vma = file?.kind === 'hugetlb' ? yield* call(hugetlbfsFileMmap(core, mm, file, wanted)) : wanted;
  if (vma === 'ENOMEM') return { errno: 'ENOMEM' };
  yield* call(linkVma(mm, vma));
  yield* call(mergeVmas(mm, vma.start, vma.end));
  if (vma.fields.locked) yield* call(chargeLocked(core, mm, pages));
  if (request.pfnMapping?.eager === true) yield* call(remapPfnRange(core, mm, vma, request.pfnMapping));
  return { vpn };
}

/** get_unmapped_area; a hint is raised to mmap_min_addr (round_hint_to_min), and 0 is none. */
function place(mm: Mm, request: MmapRequest): number | undefined {
  const { pages, file } = request;
  let { at } = request;
  if (request.fixed === true || request.noReplace === true) {
    return at !== undefined && at + pages <= TASK_SIZE_PAGES ? at : undefined;
  }
  at = at === undefined || at === 0 ? undefined : Math.max(at, MMAP_MIN_PAGE);
  const align = file?.kind === 'hugetlb' ? 2 ** file.hugeOrder : hugeAligned(request) ? PMD_PAGES : 1;
  if (at !== undefined && at % align === 0 && at + pages <= TASK_SIZE_PAGES && mm.vmasIn(at, at + pages).length === 0) {
    return at;
  }
  return unmappedArea(mm, pages, align);
}

/** Driver mappings align themselves so that huge leaves fit; anonymous memory does so since 6.7, which decides nothing. */
function hugeAligned(request: MmapRequest): boolean {
  return request.pages >= PMD_PAGES;
}

type Rights = { readonly shared: boolean; readonly mayWrite: boolean; readonly mayRead: boolean };

/** The checks of do_mmap on the descriptor, memfd_check_seals_mmap and mapping_map_writable. */
function fileRights({ kernel }: CoreMm, request: MmapRequest): Rights | { readonly errno: Errno } {
  const { file, pfnMapping } = request;
  const shared = request.shared === true;
  const write = request.write ?? true;
  // vvar: without VM_MAYWRITE, so that it is no COW mapping.
  if (pfnMapping?.writable === false) return { shared, mayRead: true, mayWrite: false };
  if (file === undefined || !shared) return { shared, mayRead: true, mayWrite: true };
  if (request.readOnlyFd === true) {
    if (write) return { errno: 'EACCES' };
    // VM_SHARED goes with VM_MAYWRITE: nothing can ever be written through it.
    return { shared: false, mayRead: true, mayWrite: false };
  }
  if (file.sealed('write', 'future_write')) {
    if (write) return { errno: 'EPERM' };
    // Every shared mapping counted as one that writes.
    if (file.sealed('write') && !kernel.has('memfd.sealed-maps-read-only')) return { errno: 'EPERM' };
    return { shared: true, mayRead: true, mayWrite: false };
  }
  return { shared, mayRead: true, mayWrite: true };
}

/** Charge or give back locked pages (mm->locked_vm of VM_LOCKED areas), under mmap_lock held for write. */
export function* chargeLocked(core: CoreMm, mm: Mm, pages: number): Steps<void> {
  if (pages === 0) return;
  yield mm.lockedVm.willUpdate(CHARGE);
  mm.lockedVm.value = mm.lockedVm.value + pages;
  tellCharge(core, lockedVmOf(mm), LOCKED_AREAS, pages);
}

/** Owner in the ledger of what mlock, MAP_LOCKED and the like charge. */
export const LOCKED_AREAS = 'mlock';

/** remap_pfn_range at mmap: raw frames, special entries, no references. mmap_lock is held for write. */
function* remapPfnRange(core: CoreMm, mm: Mm, vma: Vma, mapping: PfnMapping): Steps<void> {
  const { pageTable } = mm;
  const bits =
    PTE_PRESENT | PTE_SPECIAL | PTE_YOUNG | PTE_DIRTY | (vma.fields.write && mapping.writable ? PTE_WRITE : 0);
  for (let vpn = vma.start; vpn < vma.end; ) {
    const row = pmdOf(vpn);
    const next = Math.min(vma.end, (row + 1) * PMD_PAGES, vpn + core.params.stepPages);
    pageTable.willUpdatePmd(row, REMAP_PFN);
    pageTable.willUpdatePtes(vpn, next - 1, REMAP_PFN);
    yield core.sim.times(next - vpn, pageTable.ptl.pass(row, REMAP_PFN));
    const pmd = pageTable.pmd(row);
    if (pmd.bits === 0) pageTable.setPmd(row, pmd.pfn + 1, PMD_TABLE, 0);
    for (; vpn < next; vpn++) {
      const pfn = mapping.frameAt(vma.indexOf(vpn));
      if (pfn !== undefined) pageTable.setPte(vpn, pfn, bits, core.frames.peekGeneration(pfn));
    }
  }
}

/** munmap. EINVAL: nothing asked, beyond the address space, or inside a hugetlb page; ENOMEM: too many VMAs; EINTR. */
export function* munmap(core: CoreMm, vpn: number, pages: number): Steps<'ok' | Errno> {
  const { task } = core.current;
  const mm = task.mm.peek()!;
  if (pages <= 0) return 'EINVAL';
  if (!(yield* call(mm.mmapLock.killable(true, task.killed)))) return 'EINTR';
  const result = yield* call(doMunmap(core, mm, vpn, vpn + pages, true));
  yield mm.mmapLock.up();
  return result;
}

/**
 * do_vmi_munmap of [from, to), mmap_lock held for write. The VMAs leave the tree first; with `downgrade` the rest
 * runs under mmap_lock for read, so that faults elsewhere go on.
 */
export function* doMunmap(core: CoreMm, mm: Mm, from: number, to: number, downgrade: boolean): Steps<'ok' | Errno> {
  if (to > TASK_SIZE_PAGES) return 'EINVAL';
  const found = yield* call(findVmas(mm, from, to));
  if (found.length === 0) return 'ok';
  const first = found[0]!;
  const last = found[found.length - 1]!;
  if (first.start < from && last.end > to && first === last && mapCount(mm) >= MAX_MAP_COUNT) return 'ENOMEM';
  for (const vma of [first, last]) {
    if (!maySplit(core, vma, from) || !maySplit(core, vma, to)) return 'EINVAL';
  }
  yield* call(splitVma(core, mm, from));
  yield* call(splitVma(core, mm, to));

  const gone = lookVmas(mm, from, to);
  const locked = gone.reduce((sum, vma) => sum + (vma.fields.locked ? vma.pages : 0), 0);
  yield mm.vmas.willUpdate(DETACH);
  for (const vma of gone) mm.vmas.delete(vma.start);
  mm.detached.value = [...mm.detached.value, ...gone];
  yield* call(chargeLocked(core, mm, -locked));
  if (downgrade) {
    yield mm.mmapLock.willChange(DOWNGRADE);
    mm.mmapLock.downgradeNow();
  }
  yield* call(unmapRegion(core, mm, gone, from, to));
  yield mm.vmas.willUpdate(REMOVE);
  mm.detached.value = mm.detached.value.filter((vma) => !gone.includes(vma));
  for (const vma of gone) yield* call(hugetlbVmOpClose(core, vma));
  yield* call(unlinkVmas(core, mm, gone));
  return 'ok';
}

/** mm->map_count, under mmap_lock. */
function mapCount(mm: Mm): number {
  return mm.sim.unwatched(() => mm.vmas.size);
}

/** unmap_region: one gather and one window over all VMAs, then the tables, then flush and free. */
function* unmapRegion(core: CoreMm, mm: Mm, gone: readonly Vma[], from: number, to: number): Steps<void> {
  yield* call(lruAddDrain(core));
  const gather = yield* call(tlbGather(core, mm));
  yield* call(unmapVmas(core, gather, mm, gone, from, to));
  // Drivers look VMAs of raw frames up in the file's tree: nothing may be cached once it has left (b67fbebd4cf9).
  if (core.kernel.has('tlb.pfnmap-forced-flush') && gone.some((vma) => vma.fields.pfnMapping !== null)) {
    yield* call(tlbFlushMmu(core, gather));
  }
  yield* call(freePgtables(core, gather, mm, from, to));
  yield* call(tlbFinish(core, gather));
}

/** brk: grow or shrink the heap that starts at `base` from `pages` to `wanted` pages. Returns the pages it has then. */
export function* brk(core: CoreMm, base: number, pages: number, wanted: number): Steps<number> {
  if (wanted < pages) {
    return (yield* call(munmap(core, base + wanted, pages - wanted))) === 'ok' ? wanted : pages;
  }
  if (wanted === pages) return pages;
  const grown = yield* call(
    mmap(core, { name: 'heap', at: base + pages, pages: wanted - pages, noReplace: true, read: true, write: true }),
  );
  return 'vpn' in grown ? wanted : pages;
}
