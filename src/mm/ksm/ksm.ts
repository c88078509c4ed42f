// KSM (mm/ksm.c): one pass of ksmd over the mergeable areas of the mms that asked for it. A page whose contents did not
// change since the last pass is looked for in the stable tree (merged pages) and in the unstable one (candidates of this
// pass). ksmd is played by whoever calls `ksmScan`. Sharing limits, NUMA trees and use_zero_pages are not modelled.
import { Cell } from '../../engine/cell.ts';
import { hashText, mix } from '../../engine/hash.ts';
import { Mutex } from '../../engine/lock.ts';
import { call, type Steps } from '../../engine/process.ts';
import { step } from '../../engine/step.ts';
import type { CoreMm } from '../core.ts';
import type { Errno } from '../errno.ts';
import { handleMmFault } from '../fault/fault.ts';
import { lockFolio, tryLockNow, unlockNow, willTryLock, willUnlock } from '../folio-lock.ts';
import type { Mm } from '../mm.ts';
import { PG_ANON, PG_KSM } from '../page-flags.ts';
import { pmdOf } from '../page-table.ts';
import { PMD_TABLE, ptePresent } from '../pte.ts';
import { lruAddDrainAll } from '../reclaim/lru.ts';
import { folioPut, tryGetNow, willGet } from '../refcount.ts';
import { splitFolio } from '../thp/split-folio.ts';
import { type Candidate, mergeOnePage } from './ksm-merge.ts';
import { KsmRmapItem, type StableNode } from './ksm-stable-node.ts';

const ENTER = step('__ksm_enter', 'op');
const SLOTS = step('ksm_do_scan:mm_slots', 'op');
const VMAS = step('scan_get_next_rmap_item:vmas', 'op');
const FOLLOW = step('scan_get_next_rmap_item:follow_page', 'pte-op');
const CHECKSUM = step('calc_checksum', 'op');
const SEARCH = step('stable_tree_search', 'op');
const INSERT = step('stable_tree_insert', 'op');
const FIND = step('find_mergeable_vma', 'op');
const KLOCK = step('stable_tree_append:lock_page', 'lock');
const APPEND = step('stable_tree_append', 'op');
const PASS = step('ksm_do_scan:end-of-pass', 'op');
const SPLIT_LOCK = step('cmp_and_merge_page:trylock', 'lock');
const SPLIT_UNLOCK = step('cmp_and_merge_page:unlock', 'lock');
const BREAK = step('break_ksm:look', 'pte-op');

/** oldchecksum of every address, as the last pass left it. Immutable. */
class Checksums {
  readonly byAddress: ReadonlyMap<string, number>;
  readonly identity: number;

  constructor(byAddress: ReadonlyMap<string, number>) {
    this.byAddress = byAddress;
    let identity = 0;
    for (const [address, token] of byAddress) identity = (identity + mix(hashText(address), token)) | 0;
    this.identity = identity;
  }
}

/** What KSM knows. One per machine; made while the world is built. */
export class Ksm {
  readonly core: CoreMm;
  readonly mms: Cell<readonly Mm[]>;
  readonly nodes: Cell<readonly StableNode[]>;
  private readonly checksums: Cell<Checksums>;
  /** ksm_thread_mutex: passes come one after the other, so that what only they change stands during each. */
  private readonly threadMutex: Mutex;

  constructor(core: CoreMm) {
    this.core = core;
    this.mms = new Cell<readonly Mm[]>(core.sim, 'mms that KSM scans', []);
    this.nodes = new Cell<readonly StableNode[]>(core.sim, 'stable tree of KSM', []);
    this.checksums = new Cell(core.sim, 'checksums of KSM', new Checksums(new Map()));
    this.threadMutex = new Mutex(core.sim, 'ksm_thread_mutex');
  }

  /** /sys/kernel/mm/ksm/pages_sharing: addresses beyond the first of each KSM page. For reports. */
  get pagesSharing(): number {
    return this.nodes.peek().reduce((sum, node) => sum + Math.max(0, node.items.peek().length - 1), 0);
  }

  /** __ksm_enter, by madvise(MADV_MERGEABLE). */
  *enter(mm: Mm): Steps<void> {
    yield this.mms.willUpdate(ENTER);
    if (!this.mms.value.includes(mm)) this.mms.value = [...this.mms.value, mm];
  }

  /** ksm_do_scan over everything once; returns how many addresses were merged. */
  *scan(): Steps<number> {
    const { core } = this;
    // A new pass: pages that wait in LRU batches have a reference more, and could not be merged.
    yield* call(lruAddDrainAll(core));
    this.mms.willRead(SLOTS);
    yield this.threadMutex.lock(SLOTS);
    const pass = new Pass(this);
    for (const mm of this.mms.value) {
      for (let vpn = 0; ; ) {
        const page = yield* call(nextPage(core, mm, vpn));
        if (page === null) break;
        vpn = page.vpn + 1;
        yield* call(pass.compareAndMerge(page));
        yield* call(folioPut(core, core.folios.headOf(page.pfn), 1, 'ksm_do_scan'));
      }
    }
    this.checksums.willWrite(PASS);
    yield this.threadMutex.unlock(PASS);
    this.checksums.value = new Checksums(pass.sums);
    return pass.merged;
  }

  /** The checksum of an address in the pass before; only ksmd writes them. */
  oldChecksum(address: string): number | undefined {
    return this.checksums.peek().byAddress.get(address);
  }

  /** unmerge_ksm_pages: every KSM page of [from, to) is replaced by a page of the process's own; mmap_lock is held. */
  *unmerge(mm: Mm, from: number, to: number): Steps<'ok' | Errno> {
    for (let vpn = from; vpn < to; vpn++) {
      const result = yield* call(breakKsm(this.core, mm, vpn));
      if (result !== 'ok') return result;
    }
    return 'ok';
  }
}

/** scan_get_next_rmap_item: the next anonymous page in a mergeable area, from `vpn` on, with a reference. */
function* nextPage(core: CoreMm, mm: Mm, vpn: number): Steps<Candidate | null> {
  yield* call(mm.mmapLock.read());
  yield mm.vmas.willRead(VMAS);
  let found: Candidate | null = null;
  for (const [, vma] of mm.vmas.entries()) {
    if (!vma.fields.mergeable || vma.fields.anonVma === null) continue;
    for (let at = Math.max(vpn, vma.start); at < vma.end && found === null; at++) {
      const pfn = yield* call(followPage(core, mm, at));
      if (pfn !== null) found = { mm, vma, vpn: at, pfn };
    }
    if (found !== null) break;
  }
  yield mm.mmapLock.up();
  return found;
}

/** follow_page(FOLL_GET) of an anonymous page. */
function* followPage(core: CoreMm, mm: Mm, vpn: number): Steps<number | null> {
  const { folios } = core;
  const { pageTable } = mm;
  const row = pmdOf(vpn);
  const mapped = (): number => {
    const { pte, huge } = pageTable.peekLeaf(vpn);
    return ptePresent(pte.bits) ? (huge ? pte.pfn + (vpn % 512) : pte.pfn) : 0;
  };
  for (;;) {
    // The look tells which count to announce; the act looks again.
    const expected = mapped();
    const head = folios.headOf(expected);
    if (expected !== 0 && core.machine.hasStructPage(expected)) willGet(core, head, FOLLOW);
    folios.flags.willRead(head, FOLLOW);
    pageTable.willReadPmd(row, FOLLOW);
    pageTable.willReadPte(vpn, FOLLOW);
    yield pageTable.ptl.pass(row, FOLLOW);
    if (mapped() !== expected || folios.headOf(expected) !== head) continue;
    if (expected === 0 || expected === core.zeroPfn || (folios.flags.get(head) & PG_ANON) === 0) return null;
    return tryGetNow(core, head, 1) ? expected : null;
  }
}

/** One pass: the unstable tree, and what it leaves for the next. Local to ksmd. */
class Pass {
  readonly ksm: Ksm;
  readonly sums = new Map<string, number>();
  merged = 0;
  private readonly unstable = new Map<number, Omit<Candidate, 'pfn'>>();

  constructor(ksm: Ksm) {
    this.ksm = ksm;
  }

  /** cmp_and_merge_page */
  *compareAndMerge(page: Candidate): Steps<void> {
    const { core } = this.ksm;
    const { folios, frames } = core;
    folios.flags.willRead(folios.headOf(page.pfn), CHECKSUM);
    yield frames.content.willRead(page.pfn, CHECKSUM);
    const token = frames.content.get(page.pfn);
    const address = `${page.mm.name}@${page.vpn}`;
    this.sums.set(address, token);
    const isKsm = (folios.flags.get(folios.headOf(page.pfn)) & PG_KSM) !== 0;
    if (isKsm || this.ksm.oldChecksum(address) !== token) return;
    const stable = yield* call(this.searchStable(token));
    if (stable !== null) {
      if (yield* call(this.mergeInto(page, stable.node, stable.pfn))) this.merged++;
      yield* call(folioPut(core, stable.pfn, 1, 'cmp_and_merge_page'));
      return;
    }
    const other = this.unstable.get(token);
    if (other === undefined) {
      this.unstable.set(token, page);
      return;
    }
    // Only a merge takes it out of the tree: a pinned page that came first keeps all others from merging.
    if (yield* call(this.mergeTwo(page, other))) this.unstable.delete(token);
  }

  /** stable_tree_search: the KSM page with these contents, with a reference; nodes whose page is gone are passed over. */
  private *searchStable(token: number): Steps<{ readonly node: StableNode; readonly pfn: number } | null> {
    const { core, nodes } = this.ksm;
    const { folios, frames } = core;
    // Only a pass adds nodes.
    for (const node of nodes.peek()) {
      // The look tells what to announce; the act looks again, as get_ksm_page does: migration gives the node another page.
      let expected: number;
      do {
        expected = node.pfn.peek();
        node.pfn.willRead(SEARCH);
        willGet(core, expected, SEARCH);
        folios.mapping.willRead(expected, SEARCH);
        folios.flags.willRead(expected, SEARCH);
        yield frames.content.willRead(expected, SEARCH);
      } while (node.pfn.value !== expected);
      const live = folios.mapping.get(expected) === node.id;
      if (!live || (folios.flags.get(expected) & PG_KSM) === 0) continue;
      if (frames.content.get(expected) === token && tryGetNow(core, expected, 1)) return { node, pfn: expected };
    }
    return null;
  }

  /** try_to_merge_with_ksm_page and stable_tree_append. */
  private *mergeInto(page: Candidate, node: StableNode, kpage: number): Steps<boolean> {
    const { core } = this.ksm;
    const ok = yield* call(mergeLocked(core, page, kpage));
    if (ok !== true) return false;
    const item = new KsmRmapItem(page.mm, page.vpn, page.vma.fields.anonVma!);
    node.items.willUpdate(KLOCK);
    yield lockFolio(core, kpage, KLOCK);
    node.items.value = [...node.items.value, item];
    yield willUnlock(core, kpage, APPEND);
    unlockNow(core, kpage);
    return true;
  }

  /** try_to_merge_two_pages: the page becomes the KSM page, the one from the unstable tree joins it. */
  private *mergeTwo(page: Candidate, other: Omit<Candidate, 'pfn'>): Steps<boolean> {
    const { core, nodes } = this.ksm;
    const { folios } = core;
    const pfn = yield* call(followOther(core, other));
    if (pfn === null) return false;
    const node = yield* call(mergeLocked(core, page, null));
    let done = false;
    if (typeof node === 'object') {
      done = yield* call(this.mergeInto({ ...other, pfn }, node, page.pfn));
      if (done) {
        yield nodes.willUpdate(INSERT);
        nodes.value = [...nodes.value, node];
        this.merged += 2;
      } else {
        // break_cow
        yield* call(page.mm.mmapLock.read());
        yield* call(breakKsm(core, page.mm, page.vpn));
        yield page.mm.mmapLock.up();
      }
    }
    const head = folios.headOf(pfn);
    // Two pages of one THP: with two references of ours it could not be split before.
    const sameFolio = !done && folios.isLarge(head) && head === folios.headOf(page.pfn);
    yield* call(folioPut(core, head, 1, 'try_to_merge_two_pages'));
    if (sameFolio) yield* call(splitNow(core, head, page.pfn));
    return done;
  }
}

/** split_huge_page, if the lock is to be had; the reference is the scanner's. */
function* splitNow(core: CoreMm, head: number, keep: number): Steps<void> {
  yield willTryLock(core, head, SPLIT_LOCK);
  if (!tryLockNow(core, head)) return;
  const result = yield* call(splitFolio(core, head, { keep }));
  const locked = result === 'ok' ? keep : head;
  yield willUnlock(core, locked, SPLIT_UNLOCK);
  unlockNow(core, locked);
}

/** The page of a candidate of the unstable tree, as it is now, with a reference. */
function* followOther(core: CoreMm, { mm, vpn }: Omit<Candidate, 'pfn'>): Steps<number | null> {
  yield* call(mm.mmapLock.read());
  const pfn = yield* call(followPage(core, mm, vpn));
  yield mm.mmapLock.up();
  return pfn;
}

/** try_to_merge_with_ksm_page: under mmap_lock, if the area is still mergeable. */
function* mergeLocked(core: CoreMm, page: Candidate, kpage: number | null): Steps<boolean | StableNode> {
  const { mm, vpn } = page;
  yield* call(mm.mmapLock.read());
  yield mm.vmas.willRead(FIND);
  const vma = mm.vmaAt(vpn);
  const result =
    vma?.fields.mergeable === true && vma.fields.anonVma !== null
      ? yield* call(mergeOnePage(core, { ...page, vma }, kpage))
      : false;
  yield mm.mmapLock.up();
  return result;
}

/** break_ksm: an unshare fault, if a KSM page is mapped there. */
function* breakKsm(core: CoreMm, mm: Mm, vpn: number): Steps<'ok' | Errno> {
  const { pageTable } = mm;
  for (;;) {
    const row = pmdOf(vpn);
    const seen = pageTable.peekPte(vpn);
    if (ptePresent(seen.bits)) core.folios.flags.willRead(core.folios.headOf(seen.pfn), BREAK);
    mm.vmas.willRead(BREAK);
    pageTable.willReadPmd(row, BREAK);
    pageTable.willReadPte(vpn, BREAK);
    yield pageTable.ptl.pass(row, BREAK);
    const pte = pageTable.pte(vpn);
    if ((pageTable.pmd(row).bits & PMD_TABLE) === 0 || !ptePresent(pte.bits)) return 'ok';
    if (pte.pfn !== seen.pfn) continue;
    if ((core.folios.flags.get(core.folios.headOf(pte.pfn)) & PG_KSM) === 0) return 'ok';
    const vma = mm.vmaAt(vpn);
    if (vma === undefined) return 'ok';
    // 6.1 and before took a write fault for it.
    const unshare = core.kernel.has('cow.unshare-fault');
    const flags = { write: !unshare, unshare, remote: true, allowRetry: false, killable: false, memallocPin: false };
    const result = yield* call(handleMmFault(core, mm, vma, vpn, flags));
    if (result === 'oom') return 'ENOMEM';
    if (result === 'sigbus' || result === 'sigsegv') return 'ok';
  }
}
