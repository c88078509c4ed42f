// Moving pages between nodes on request: move_pages(2), mbind(2) with MPOL_MF_MOVE, migrate_pages(2) (mm/migrate.c
// do_pages_move, mm/mempolicy.c). Pinned pages count as not moved. The policy that mbind sets is kept for anonymous pages
// of later faults, and only if it names one node; otherwise faults allocate by zone order.
import { call, type Steps } from '../../engine/process.ts';
import { step } from '../../engine/step.ts';
import { PMD_PAGES } from '../../hw/machine.ts';
import type { CoreMm } from '../core.ts';
import type { Errno } from '../errno.ts';
import type { Vma } from '../mapping/vma.ts';
import { lookVmas, maySplit, mergeVmas, replaceVma, splitVma } from '../mapping/vma-edit.ts';
import type { Mm } from '../mm.ts';
import { PG_HUGETLB } from '../page-flags.ts';
import { pmdOf } from '../page-table.ts';
import { PMD_LEAF, PMD_TABLE, PTE_MIGRATION, type Pte, ptePresent } from '../pte.ts';
import { isolateNow, lruAddDrainAll } from '../reclaim/lru.ts';
import { isolateHugetlb, type MigrateRequest, migratePages, putbackMovablePages } from './migrate.ts';

const VMA = step('add_folio_for_migration:vma_lookup', 'op');
const LOOK = step('folio_walk_start', 'pte-op');
const ISOLATE = step('queue_folios:isolate', 'op');
const UNLOCK = step('folio_walk_end', 'lock');
const WALK = step('queue_pages_range:walk', 'none');
const LOCK = step('queue_folios_pte_range:lock', 'lock');
const END = step('queue_folios_pte_range:unlock', 'lock');

/** MPOL_MF_MOVE moves pages of this mm alone, MPOL_MF_MOVE_ALL shared ones too (CAP_SYS_NICE). */
export interface MoveFlags {
  readonly all?: boolean;
}

function request(reason: string, node: number): MigrateRequest {
  return { mode: 'sync', reason, target: { movable: true, zero: false, node } };
}

function nodeOf(core: CoreMm, pfn: number): number {
  return core.machine.zoneOf(pfn)!.node;
}

/** vma_migratable */
function migratable(core: CoreMm, vma: Vma): boolean {
  if (vma.fields.io || vma.fields.pfnMapping !== null || vma.fields.file?.kind === 'fsdax') return false;
  return !vma.hugetlb || core.kernel.has('thp.pmd-migration');
}

/** folio_likely_mapped_shared, in a step that announced the mapcounts. */
function mappedShared(core: CoreMm, head: number): boolean {
  const { folios } = core;
  if (!folios.isLarge(head) || folios.entireMapcount.get(head) > 0) return folios.mapcountOf(head) > 1;
  return folios.largeMapcount.get(head) > folios.pagesOf(head);
}

/** The folio behind an entry, or why there is none: a zero page, raw frames, nothing. */
function folioOf(core: CoreMm, pte: Pte): number | 'zero' | 'none' {
  if (!ptePresent(pte.bits)) return 'none';
  if (pte.pfn === core.zeroPfn || pte.pfn === core.hugeZeroPfn) return 'zero';
  return core.machine.hasStructPage(pte.pfn) ? core.folios.headOf(pte.pfn) : 'none';
}

function* isolateOne(core: CoreMm, head: number): Steps<boolean> {
  if (core.folios.has(head, PG_HUGETLB)) return yield* call(isolateHugetlb(core, head));
  core.folios.refcount.willUpdate(head, ISOLATE);
  core.lru.willAdd(ISOLATE);
  yield core.folios.flags.willUpdate(head, ISOLATE);
  return isolateNow(core, head);
}

/** move_pages(2): what it returned, and the status array; null where the kernel wrote nothing. */
export interface MovedPages {
  /** 0, the number of pages not moved, or an error. */
  readonly result: number | Errno;
  /** A node, an error, or null: not written. */
  readonly status: readonly (number | Errno | null)[];
}

/** One element of the arrays of move_pages(2). */
export interface MoveTo {
  readonly vpn: number;
  readonly node: number;
}

/**
 * kernel_move_pages. EPERM: MOVE_ALL without CAP_SYS_NICE; ENODEV: no such node; per page EFAULT, ENOENT, EACCES (shared),
 * EBUSY (cannot be isolated).
 */
export function* movePages(core: CoreMm, mm: Mm, pages: readonly MoveTo[], flags: MoveFlags = {}): Steps<MovedPages> {
  if (flags.all === true && !core.current.capable('CAP_SYS_NICE')) {
    return { result: 'EPERM', status: pages.map(() => null) };
  }
  // lru_cache_disable
  yield* call(lruAddDrainAll(core));
  const moving = new Moving(core, pages);
  const result = yield* call(moving.run(mm, flags.all === true));
  yield* call(lruAddDrainAll(core));
  return { result, status: moving.status };
}

/** One call of move_pages(2): neighbouring elements with the same node move together. */
class Moving {
  readonly status: (number | Errno | null)[];
  private readonly core: CoreMm;
  private readonly pages: readonly MoveTo[];
  private queued: number[] = [];
  /** Node of the batch, and its first element; -1: none begun. */
  private node = -1;
  private start = 0;

  constructor(core: CoreMm, pages: readonly MoveTo[]) {
    this.core = core;
    this.pages = pages;
    this.status = pages.map(() => null);
  }

  *run(mm: Mm, all: boolean): Steps<number | Errno> {
    const { core, pages, status } = this;
    for (let i = 0; i < pages.length; i++) {
      const { vpn, node } = pages[i]!;
      if (node < 0 || node >= core.machine.nodes) {
        yield* call(this.flush(i));
        return 'ENODEV';
      }
      if (this.node >= 0 && node !== this.node) {
        const failed = yield* call(this.flush(i));
        if (failed !== 0) return failed;
        this.node = -1;
      }
      if (this.node < 0) {
        this.node = node;
        this.start = i;
      }
      const added = yield* call(addFolioForMigration(core, mm, vpn, node, all));
      if (typeof added === 'object') {
        this.queued.push(added.head);
        continue;
      }
      status[i] = added === 'there' ? node : added;
      const failed = yield* call(this.flush(i));
      // Page i itself is accounted for.
      if (failed !== 0) return typeof failed === 'number' ? failed - 1 : failed;
      this.node = -1;
    }
    return yield* call(this.flush(pages.length));
  }

  /** move_pages_and_store_status: elements from the batch's first up to `at`. */
  private *flush(at: number): Steps<number | Errno> {
    const heads = this.queued;
    if (heads.length === 0) return 0;
    this.queued = [];
    const { core, pages, node } = this;
    const { failed, notMoved, errno } = yield* call(migratePages(core, heads, request('syscall', node)));
    yield* call(putbackMovablePages(core, failed));
    if (errno !== undefined) return errno;
    // The rest has not been tried, and counts too; the status of this batch stays unwritten.
    if (notMoved > 0) return notMoved + pages.length - at;
    for (let i = this.start; i < at; i++) this.status[i] = node;
    return 0;
  }
}

/** do_pages_stat: where each page is. */
export function* pagesNodes(core: CoreMm, mm: Mm, vpns: readonly number[]): Steps<readonly (number | Errno)[]> {
  const found: (number | Errno)[] = [];
  yield* call(mm.mmapLock.read());
  for (const vpn of vpns) {
    yield mm.vmas.willRead(VMA);
    if (mm.vmaAt(vpn) === undefined) {
      found.push('EFAULT');
      continue;
    }
    const folio = yield* call(lookAt(core, mm, vpn, false));
    found.push(folio === 'zero' ? 'EFAULT' : folio === 'none' ? 'ENOENT' : nodeOf(core, folio));
  }
  yield mm.mmapLock.up();
  return found;
}

/** folio_walk_start: the folio at an address; `keep`: leave the page-table lock held when there is one. */
function* lookAt(core: CoreMm, mm: Mm, vpn: number, keep: boolean): Steps<number | 'zero' | 'none'> {
  const { pageTable } = mm;
  const row = pmdOf(vpn);
  pageTable.willReadPmd(row, LOOK);
  pageTable.willReadPte(vpn, LOOK);
  yield pageTable.ptl.lock(row, LOOK);
  const pmd = pageTable.pmd(row);
  const entry = (pmd.bits & PMD_LEAF) !== 0 ? pmd : pageTable.pte(vpn);
  const present = (pmd.bits & (PMD_LEAF | PMD_TABLE)) !== 0;
  const folio = present ? folioOf(core, entry) : 'none';
  if (!keep || typeof folio !== 'number') pageTable.ptl.releaseNow(row);
  return folio;
}

/** add_folio_for_migration: the folio, isolated; `there`: on its node already; or an error for the status array. */
function* addFolioForMigration(
  core: CoreMm,
  mm: Mm,
  vpn: number,
  node: number,
  all: boolean,
): Steps<{ readonly head: number } | 'there' | Errno> {
  yield* call(mm.mmapLock.read());
  yield mm.vmas.willRead(VMA);
  const vma = mm.vmaAt(vpn);
  let result: { readonly head: number } | 'there' | Errno = 'EFAULT';
  if (vma !== undefined && migratable(core, vma)) {
    const folio = yield* call(lookAt(core, mm, vpn, true));
    if (folio === 'none') result = 'ENOENT';
    else if (folio !== 'zero') {
      yield core.folios.mapcount.willRead(folio, ISOLATE);
      const shared = mappedShared(core, folio);
      if (nodeOf(core, folio) === node) result = 'there';
      else if (shared && !all) result = 'EACCES';
      else result = (yield* call(isolateOne(core, folio))) ? { head: folio } : 'EBUSY';
      yield mm.pageTable.ptl.unlock(pmdOf(vpn), UNLOCK);
    }
  }
  yield mm.mmapLock.up();
  return result;
}

/** What queue_pages_range collects. */
interface Queued {
  readonly heads: number[];
  failed: number;
}

/** queue_pages_range over one VMA: isolate the folios on nodes that `misplaced` names. mmap_lock is held. */
function* queuePages(
  core: CoreMm,
  mm: Mm,
  vma: Vma,
  from: number,
  to: number,
  misplaced: (node: number) => boolean,
  move: MoveFlags | null,
  queued: Queued,
): Steps<void> {
  const { pageTable } = mm;
  const [first, last] = [pmdOf(from), pmdOf(to - 1)];
  yield pageTable.willReadPmds(first, last, WALK);
  let seenLarge = -1;
  for (const row of pageTable.populatedRows(first, last)) {
    const low = Math.max(from, row * PMD_PAGES);
    const high = Math.min(to, (row + 1) * PMD_PAGES);
    pageTable.willReadPmd(row, LOCK);
    pageTable.willReadPtes(low, high - 1, LOCK);
    yield pageTable.ptl.lock(row, LOCK);
    const pmd = pageTable.pmd(row);
    const leaf = (pmd.bits & PMD_LEAF) !== 0;
    for (let vpn = low; vpn < high; vpn = leaf ? high : vpn + 1) {
      // The page-table lock is held.
      const pte = leaf
        ? pmd
        : (pmd.bits & PMD_TABLE) !== 0
          ? pageTable.peekPte(vpn)
          : { bits: 0, pfn: 0, generation: 0 };
      if ((pte.bits & PTE_MIGRATION) !== 0) queued.failed++;
      const head = folioOf(core, pte);
      if (typeof head !== 'number' || head === seenLarge || !misplaced(nodeOf(core, head))) continue;
      if (core.folios.isLarge(head)) seenLarge = head;
      if (move === null || !migratable(core, vma)) {
        queued.failed++;
        continue;
      }
      yield core.folios.mapcount.willRead(head, ISOLATE);
      // Left where it is, and not a failure.
      if (mappedShared(core, head) && move.all !== true) continue;
      if (yield* call(isolateOne(core, head))) queued.heads.push(head);
      else queued.failed++;
    }
    yield pageTable.ptl.unlock(row, END);
  }
}

export interface MbindRequest {
  readonly vpn: number;
  readonly pages: number;
  /** MPOL_BIND, MPOL_PREFERRED...: the nodes where the pages may be. */
  readonly nodes: readonly number[];
  /** MPOL_MF_STRICT: EIO when a page is, and stays, elsewhere. */
  readonly strict?: boolean;
  /** MPOL_MF_MOVE, MPOL_MF_MOVE_ALL */
  readonly move?: MoveFlags;
}

/** mbind_range: the part of each VMA gets the policy. mmap_lock is held for write. */
function* mbindRange(core: CoreMm, mm: Mm, from: number, to: number, bindNode: number | null): Steps<'EINVAL' | null> {
  const unlike = lookVmas(mm, from, to).filter(({ fields }) => fields.bindNode !== bindNode);
  if (unlike.length === 0) return null;
  if (unlike.some((vma) => !maySplit(core, vma, from) || !maySplit(core, vma, to))) return 'EINVAL';
  yield* call(splitVma(core, mm, from));
  yield* call(splitVma(core, mm, to));
  for (const vma of lookVmas(mm, from, to)) yield* call(replaceVma(mm, vma.with({ bindNode })));
  yield* call(mergeVmas(mm, from, to));
  return null;
}

/** do_mbind. EFAULT: a hole in the range; EIO: with `strict`; EPERM: MOVE_ALL without CAP_SYS_NICE; EINVAL: no nodes. */
export function* mbind(core: CoreMm, mm: Mm, what: MbindRequest): Steps<'ok' | Errno> {
  const { vpn, pages, strict, move } = what;
  if (move?.all === true && !core.current.capable('CAP_SYS_NICE')) return 'EPERM';
  if (pages === 0) return 'ok';
  // mpol_set_nodemask: nodes that have no memory do not count.
  const nodes = what.nodes.filter((node) => node < core.machine.nodes);
  if (nodes.length === 0) return 'EINVAL';
  if (move !== undefined) yield* call(lruAddDrainAll(core));
  yield* call(mm.mmapLock.write());
  yield mm.vmas.willRead(VMA);
  const queued: Queued = { heads: [], failed: 0 };
  let error: Errno | null = null;
  let at = vpn;
  for (const vma of mm.vmasIn(vpn, vpn + pages)) {
    if (vma.start > at) break;
    if (strict === true || (move !== undefined && migratable(core, vma))) {
      const end = Math.min(vma.end, vpn + pages);
      yield* call(queuePages(core, mm, vma, at, end, (node) => !nodes.includes(node), move ?? null, queued));
      if (strict === true && move === undefined && queued.failed > 0) error = 'EIO';
    }
    at = vma.end;
    if (error !== null) break;
  }
  if (error === null && at < vpn + pages) error = 'EFAULT';
  const bindNode = nodes.length === 1 ? nodes[0]! : null;
  if (error === null) error = yield* call(mbindRange(core, mm, vpn, vpn + pages, bindNode));
  yield mm.mmapLock.up();
  let failed = queued.failed;
  let left: readonly number[] = queued.heads;
  if (error === null && queued.heads.length > 0) {
    const moved = yield* call(migratePages(core, queued.heads, request('mempolicy_mbind', nodes[0]!)));
    left = moved.failed;
    failed += moved.errno === undefined ? moved.notMoved : 1;
  }
  if (error === null && failed > 0 && strict === true) error = 'EIO';
  yield* call(putbackMovablePages(core, left));
  // lru_cache_disable lasts until here: what went back went straight to its list.
  if (move !== undefined) yield* call(lruAddDrainAll(core));
  return error ?? 'ok';
}

/**
 * migrate_pages(2): every page of the mm that is on a node of `from` to the node of `to` in the same place. EPERM: nodes
 * that are not there, without CAP_SYS_NICE; EINVAL: no others. Who has it moves shared pages too.
 */
export function* migrateProcess(
  core: CoreMm,
  mm: Mm,
  from: readonly number[],
  to: readonly number[],
): Steps<number | Errno> {
  const flags: MoveFlags = { all: core.current.capable('CAP_SYS_NICE') };
  const there = to.filter((node) => node < core.machine.nodes);
  if (there.length < to.length && flags.all !== true) return 'EPERM';
  if (there.length === 0) return 'EINVAL';
  yield* call(lruAddDrainAll(core));
  let notMoved = 0;
  const sources = [...from].sort((a, b) => a - b);
  const left = [...sources];
  const targets = [...there].sort((a, b) => a - b);
  for (;;) {
    // node_remap; a destination that is no source itself any more is best.
    const pairs = left
      .filter((source) => from.length === there.length || !there.includes(source))
      .map((source) => ({ source, dest: targets[sources.indexOf(source) % targets.length]! }))
      .filter(({ source, dest }) => source !== dest);
    const pair = pairs.find(({ dest }) => !left.includes(dest)) ?? pairs[pairs.length - 1];
    if (pair === undefined) {
      yield* call(lruAddDrainAll(core));
      return notMoved;
    }
    left.splice(left.indexOf(pair.source), 1);
    const result = yield* call(migrateToNode(core, mm, pair.source, pair.dest, flags));
    if (typeof result === 'string') return result;
    notMoved += result;
  }
}

function* migrateToNode(core: CoreMm, mm: Mm, source: number, dest: number, flags: MoveFlags): Steps<number | Errno> {
  const queued: Queued = { heads: [], failed: 0 };
  yield* call(mm.mmapLock.read());
  yield mm.vmas.willRead(VMA);
  for (const [, vma] of mm.vmas.entries()) {
    if (!migratable(core, vma)) continue;
    yield* call(queuePages(core, mm, vma, vma.start, vma.end, (node) => node === source, flags, queued));
  }
  yield mm.mmapLock.up();
  if (queued.heads.length === 0) return queued.failed;
  const { failed, notMoved, errno } = yield* call(migratePages(core, queued.heads, request('syscall', dest)));
  yield* call(putbackMovablePages(core, failed));
  return errno ?? notMoved + queued.failed;
}
