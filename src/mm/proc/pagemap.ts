// What user space can see of memory: /proc/pid/pagemap, /proc/kpageflags and kpagecount, VmLck, VmPin and VmRSS of
// /proc/pid/status, mincore (fs/proc/task_mmu.c, fs/proc/page.c, mm/mincore.c). Looks only; nothing here is a step,
// except mincore, which is a system call.
import { call, type Steps } from '../../engine/process.ts';
import { type Announced, type Step, step } from '../../engine/step.ts';
import { PMD_PAGES } from '../../hw/machine.ts';
import type { CoreMm } from '../core.ts';
import type { Errno } from '../errno.ts';
import type { Vma } from '../mapping/vma.ts';
import { findVmas } from '../mapping/vma-edit.ts';
import type { Mm } from '../mm.ts';
import { flagNames, PG_ANON, PG_HUGETLB } from '../page-flags.ts';
import { pmdOf } from '../page-table.ts';
import {
  PMD_LEAF,
  PTE_HWPOISON,
  PTE_MARKER,
  PTE_MIGRATION,
  PTE_SOFT_DIRTY,
  PTE_SWAP,
  PTE_UFFD_WP,
  ptePresent,
} from '../pte.ts';

const MINCORE = step('mincore_pte_range', 'op');

/** One entry of /proc/pid/pagemap. */
export interface PagemapEntry {
  readonly present: boolean;
  /** In swap: a swap or a migration entry (pm_swap). */
  readonly swapped: boolean;
  /** The frame, if present; 0 otherwise. */
  readonly pfn: number;
  readonly softDirty: boolean;
  readonly uffdWp: boolean;
  /** PM_MMAP_EXCLUSIVE: mapped once. */
  readonly exclusive: boolean;
  /** PM_FILE: a page cache page, or shared anonymous memory. */
  readonly file: boolean;
}

/** pagemap of page `vpn`, as root sees it. */
export function pagemap(core: CoreMm, mm: Mm, vpn: number): PagemapEntry {
  const { pte, huge } = mm.pageTable.peekLeaf(vpn);
  const vma = core.sim.unwatched(() => mm.vmaAt(vpn));
  const present = ptePresent(pte.bits);
  const pfn = present ? (huge ? pte.pfn + (vpn % PMD_PAGES) : pte.pfn) : 0;
  const backed = present && core.machine.hasStructPage(pfn) && pfn !== core.zeroPfn;
  const head = backed ? core.folios.headOf(pfn) : 0;
  return {
    present,
    swapped: (pte.bits & (PTE_SWAP | PTE_MIGRATION | PTE_HWPOISON | PTE_MARKER)) !== 0,
    pfn,
    softDirty: (pte.bits & PTE_SOFT_DIRTY) !== 0 || vma?.fields.softDirtyEnabled === false,
    uffdWp: (pte.bits & PTE_UFFD_WP) !== 0,
    exclusive: backed && core.folios.peekMapcount(head) === 1,
    file: backed && !core.folios.isAnon(head),
  };
}

/** Announce `kpageflags` and `kpagecount` of a frame. */
export function willReadKpage(core: CoreMm, pfn: number, at: Step): Announced {
  const { folios } = core;
  if (!core.machine.hasStructPage(pfn)) return core.sim.local(at);
  const head = folios.headOf(pfn);
  core.zones[core.machine.zoneOf(pfn)!.index]!.offline.willRead(at);
  core.hugePool.get(folios.orderOf(head))?.willRead(at);
  folios.flags.willRead(head, at);
  folios.refcount.willRead(head, at);
  folios.mapcount.willRead(pfn, at);
  folios.mapcount.willRead(head, at);
  folios.anonExclusive.willRead(pfn, at);
  return folios.order.willRead(head, at);
}

/**
 * The names of /proc/kpageflags of a frame, in the kernel's order of bits. MAPPEDTODISK on an anonymous page is
 * PG_anon_exclusive; 6.12 reports KSM for every anonymous page (a reporting bug).
 */
export function kpageflags(core: CoreMm, pfn: number): readonly string[] {
  if (!core.machine.hasStructPage(pfn)) return ['NOPAGE'];
  if (core.zones[core.machine.zoneOf(pfn)!.index]!.isOffline(pfn)) return ['NOPAGE'];
  const { folios } = core;
  const head = folios.headOf(pfn);
  const flags = folios.flags.peek(head);
  const names = new Set(flagNames(flags));
  const anon = (flags & PG_ANON) !== 0;
  if (pfn === core.zeroPfn || head === core.hugeZeroPfn) names.add('ZERO_PAGE');
  if (folios.peekMapcount(head) > 0) names.add('MMAP');
  if (folios.isLarge(head)) {
    names.add(pfn === head ? 'HEAD' : 'TAIL');
    names.add((flags & PG_HUGETLB) !== 0 || pooled(core, head) ? 'HUGE' : 'THP');
    names.delete('HUGETLB');
  }
  if (anon && core.kernel.has('pagemap.kpageflags-ksm-on-anon')) names.add('KSM');
  if (anon && folios.anonExclusive.peek(pfn) === 1) names.add('MAPPEDTODISK');
  return ORDER.filter((name) => names.has(name));
}

/** A hugetlb page that nobody has: whole, and in the pool. */
function pooled(core: CoreMm, head: number): boolean {
  const { folios } = core;
  return folios.refcount.peek(head) === 0 && core.hugePool.get(folios.orderOf(head))?.peek().includes(head) === true;
}

/** Bits of kpageflags as the recorded programs print them. */
const ORDER = [
  'LOCKED',
  'ERROR',
  'REFERENCED',
  'UPTODATE',
  'DIRTY',
  'LRU',
  'ACTIVE',
  'WRITEBACK',
  'RECLAIM',
  'MMAP',
  'ANON',
  'SWAPCACHE',
  'SWAPBACKED',
  'HEAD',
  'TAIL',
  'HUGE',
  'UNEVICTABLE',
  'HWPOISON',
  'NOPAGE',
  'KSM',
  'THP',
  'ZERO_PAGE',
  'RESERVED',
  'MLOCKED',
  'MAPPEDTODISK',
  'PRIVATE',
] as const;

/** /proc/kpagecount: how often the page is mapped. */
export function kpagecount(core: CoreMm, pfn: number): number {
  if (!core.machine.hasStructPage(pfn)) return 0;
  const { folios } = core;
  const head = folios.headOf(pfn);
  return folios.isLarge(head)
    ? folios.mapcount.peek(pfn) + folios.entireMapcount.peek(head)
    : folios.mapcount.peek(pfn);
}

/** Lines of /proc/pid/status that memory decides [kB]. */
export interface MemoryStatus {
  /** VmLck: mlock and VFIO type1. */
  readonly lockedKb: number;
  /** VmPin: io_uring, iommufd. */
  readonly pinnedKb: number;
  /** VmRSS, and its parts RssAnon and RssFile (with RssShmem). hugetlb is not counted. */
  readonly residentKb: number;
  readonly anonKb: number;
  readonly fileKb: number;
  /** VmSwap */
  readonly swapKb: number;
  /** AnonHugePages of smaps_rollup: anonymous memory mapped by PMD. */
  readonly anonHugeKb: number;
}

/** Announce `memoryStatus`. */
export function willReadMemoryStatus(mm: Mm, at: Step): Announced {
  mm.vmas.willRead(at);
  mm.lockedVm.willRead(at);
  mm.pinnedVm.willRead(at);
  return mm.pageTable.willReadAll(at);
}

/** Walks the page tables: what an orphan page or a pin holds beyond them does not show. */
export function memoryStatus(core: CoreMm, mm: Mm): MemoryStatus {
  let anon = 0;
  let file = 0;
  let swap = 0;
  let anonHuge = 0;
  for (const vma of core.sim.unwatched(() => mm.vmas.entries().map(([, value]) => value))) {
    if (vma.hugetlb) continue;
    const counted = countVma(core, mm, vma);
    anon += counted.anon;
    file += counted.file;
    swap += counted.swap;
    anonHuge += counted.anonHuge;
  }
  const kb = (pages: number) => pages * 4;
  return {
    lockedKb: kb(mm.lockedVm.peek()),
    pinnedKb: kb(mm.pinnedVm.peek()),
    residentKb: kb(anon + file),
    anonKb: kb(anon),
    fileKb: kb(file),
    swapKb: kb(swap),
    anonHugeKb: kb(anonHuge),
  };
}

function countVma(core: CoreMm, mm: Mm, vma: Vma): { anon: number; file: number; swap: number; anonHuge: number } {
  const { pageTable } = mm;
  const total = { anon: 0, file: 0, swap: 0, anonHuge: 0 };
  for (let vpn = vma.start; vpn < vma.end; ) {
    const row = pmdOf(vpn);
    const end = Math.min(vma.end, (row + 1) * PMD_PAGES);
    const pmd = pageTable.peekPmd(row);
    if ((pmd.bits & PMD_LEAF) !== 0) {
      const counted = ptePresent(pmd.bits) && pmd.pfn !== core.hugeZeroPfn;
      if (counted && core.folios.isAnon(core.folios.headOf(pmd.pfn))) {
        total.anon += end - vpn;
        total.anonHuge += end - vpn;
      } else if (counted) total.file += end - vpn;
      vpn = end;
      continue;
    }
    if (pmd.bits === 0) {
      vpn = end;
      continue;
    }
    for (; vpn < end; vpn++) {
      const pte = pageTable.peekPte(vpn);
      if ((pte.bits & PTE_SWAP) !== 0) total.swap++;
      // A migration entry counts as the page that it stands for.
      const counted = ptePresent(pte.bits) || (pte.bits & PTE_MIGRATION) !== 0;
      if (!counted || pte.pfn === core.zeroPfn || !core.machine.hasStructPage(pte.pfn)) continue;
      if (core.folios.isAnon(core.folios.headOf(pte.pfn))) total.anon++;
      else total.file++;
    }
  }
  return total;
}

/**
 * mincore: is each page in memory? For anonymous memory what is mapped (or in the swap cache), for files what is in the
 * page cache. ENOMEM: a hole.
 */
export function* mincore(core: CoreMm, vpn: number, pages: number): Steps<readonly boolean[] | Errno> {
  const mm = core.current.task.mm.peek()!;
  const found: boolean[] = [];
  yield* call(mm.mmapLock.read());
  let reached = vpn;
  for (const vma of yield* call(findVmas(mm, vpn, vpn + pages))) {
    if (vma.start > reached) break;
    const end = Math.min(vpn + pages, vma.end);
    const { file } = vma.fields;
    mm.pageTable.willReadPmds(pmdOf(reached), pmdOf(end - 1), MINCORE);
    if (file !== null) file.pages.willReadRange(vma.indexOf(reached), vma.indexOf(end) - 1, MINCORE);
    yield core.sim.times(end - reached, mm.pageTable.willReadPtes(reached, end - 1, MINCORE));
    for (; reached < end; reached++) found.push(resident(core, mm, vma, reached));
  }
  yield mm.mmapLock.up();
  return found.length < pages ? 'ENOMEM' : found;
}

function resident(core: CoreMm, mm: Mm, vma: Vma, vpn: number): boolean {
  const { pte } = mm.pageTable.peekLeaf(vpn);
  if (ptePresent(pte.bits)) return true;
  if ((pte.bits & PTE_SWAP) !== 0) return core.swap.cache.peek(pte.pfn) !== 0;
  // A migration or hwpoison entry: the page exists.
  if (pte.bits !== 0) return true;
  return vma.fields.file !== null && vma.fields.file.pages.peek(vma.indexOf(vpn)) > 0;
}
