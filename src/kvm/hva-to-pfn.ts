// From a host page of the VMM to a frame for the guest (virt/kvm/kvm_main.c hva_to_pfn): GUP without waiting, GUP, then
// raw frames. Plain references only, which the caller drops once the notifier guards what it made of the frame.
import { call, type Steps } from '../engine/process.ts';
import { step } from '../engine/step.ts';
import { PMD_PAGES } from '../hw/machine.ts';
import type { CoreMm } from '../mm/core.ts';
import { handleMmFault, vmaAllows } from '../mm/fault/fault.ts';
import { getUserPagesUnlocked } from '../mm/gup/gup.ts';
import { getUserPagesFastOnly } from '../mm/gup/gup-fast.ts';
import type { GupResult } from '../mm/gup/gup-flags.ts';
import type { Vma } from '../mm/mapping/vma.ts';
import type { Mm } from '../mm/mm.ts';
import { PG_RESERVED } from '../mm/page-flags.ts';
import { pmdOf } from '../mm/page-table.ts';
import { PMD_LEAF, PMD_TABLE, PTE_WRITE, ptePresent } from '../mm/pte.ts';
import { getNow, putNow, tryGetNow, willGet, willPut } from '../mm/refcount.ts';

const VMA = step('hva_to_pfn:vma_lookup', 'op');
const FOLLOW = step('hva_to_pfn_remapped:follow_pfnmap', 'pte-op');
const PUT = step('kvm_release_pfn', 'refcount');

/** KVM_PFN_ERR_*: `sigpending` a signal, `ro` a write to a read-only raw mapping, `needs-io` would have to wait. */
export type PfnError = 'fault' | 'hwpoison' | 'sigpending' | 'ro' | 'needs-io';

/** A frame found, with a reference unless `counted` is false. */
export interface FoundPfn {
  readonly pfn: number;
  readonly generation: number;
  /** May the guest write to it? */
  readonly writable: boolean;
  /** Does the caller hold a reference that it must drop? */
  readonly counted: boolean;
  /** Only ever mapped page by page (guest_memfd). */
  readonly small?: boolean;
}

export interface HvaRequest {
  /** Who asks, for the ledger. */
  readonly owner: string;
  readonly write: boolean;
  /** A writable frame is welcome for a read, too. */
  readonly wantsWritable: boolean;
  /** FOLL_NOWAIT: `needs-io` instead of waiting. */
  readonly nowait?: boolean;
}

/** hva_to_pfn: the running thread belongs to `mm`. */
export function* hvaToPfn(core: CoreMm, mm: Mm, vpn: number, request: HvaRequest): Steps<FoundPfn | PfnError> {
  const { owner, write } = request;
  if (write || request.wantsWritable) {
    const fast = yield* call(getUserPagesFastOnly(core, vpn, 1, { owner, write: true }));
    if (fast.pinned === 1) return found(core, fast, true);
  }
  const slow = yield* call(
    getUserPagesUnlocked(core, vpn, 1, {
      owner,
      write,
      hwpoison: true,
      honorNumaFault: true,
      nowait: request.nowait === true,
    }),
  );
  if (slow.pinned === 1) {
    if (write || !request.wantsWritable) return found(core, slow, write);
    // Map a read fault writable where that costs nothing.
    const again = yield* call(getUserPagesFastOnly(core, vpn, 1, { owner, write: true }));
    if (again.pinned !== 1) return found(core, slow, false);
    yield* call(releasePfn(core, found(core, slow, false)));
    return found(core, again, true);
  }
  if (slow.errno === 'EINTR') return 'sigpending';
  yield* call(mm.mmapLock.read());
  const result = slow.errno === 'EHWPOISON' ? 'hwpoison' : yield* call(withoutPage(core, mm, vpn, request));
  yield mm.mmapLock.up();
  return result;
}

function found(core: CoreMm, result: GupResult, writable: boolean): FoundPfn {
  const { pfn } = result.runs[0]!;
  return { pfn, generation: core.frames.peekGeneration(pfn), writable, counted: true };
}

/** GUP gave nothing: no mapping, raw frames, or a page that is not there yet. mmap_lock is held for read. */
function* withoutPage(core: CoreMm, mm: Mm, vpn: number, request: HvaRequest): Steps<FoundPfn | PfnError> {
  for (;;) {
    yield mm.vmas.willRead(VMA);
    const vma = mm.vmaAt(vpn);
    if (vma === undefined) return 'fault';
    if (vma.fields.pfnMapping === null && !vma.fields.io) {
      const valid = vma.fields.read && (!request.write || vma.fields.write);
      return request.nowait === true && valid ? 'needs-io' : 'fault';
    }
    const result = yield* call(remapped(core, mm, vma, vpn, request));
    if (result !== 'again') return result;
  }
}

/** hva_to_pfn_remapped */
function* remapped(
  core: CoreMm,
  mm: Mm,
  vma: Vma,
  vpn: number,
  request: HvaRequest,
): Steps<FoundPfn | PfnError | 'again'> {
  const first = yield* call(follow(core, mm, vpn, request));
  if (first !== 'absent') return first;
  // GUP never calls the fault handler of such a mapping: fixup_user_fault does.
  if (!vmaAllows(vma, { write: request.write })) return 'fault';
  const fault = yield* call(
    handleMmFault(core, mm, vma, vpn, {
      write: request.write,
      unshare: false,
      remote: false,
      allowRetry: true,
      killable: true,
      memallocPin: false,
    }),
  );
  if (fault === 'retry' || fault === 'completed') {
    yield* call(mm.mmapLock.read());
    return 'again';
  }
  if (fault !== 'ok') return 'fault';
  const second = yield* call(follow(core, mm, vpn, request));
  return second === 'absent' ? 'fault' : second;
}

/** follow_pfnmap_start, and the reference where the frame has a counted page. */
function* follow(core: CoreMm, mm: Mm, vpn: number, request: HvaRequest): Steps<FoundPfn | PfnError | 'absent'> {
  const { pageTable } = mm;
  const { kernel, folios, frames } = core;
  const row = pmdOf(vpn);
  for (;;) {
    const leaf = pageTable.peekLeaf(vpn);
    const expected = leaf.pte.pfn + (leaf.huge ? vpn % PMD_PAGES : 0);
    const page = ptePresent(leaf.pte.bits) ? refcountedPage(core, expected) : undefined;
    const head = page === undefined ? undefined : folios.headOf(page);
    if (head !== undefined) willGet(core, head, FOLLOW);
    pageTable.willReadPmd(row, FOLLOW);
    pageTable.willReadPte(vpn, FOLLOW);
    yield pageTable.ptl.pass(row, FOLLOW);
    const pmd = pageTable.pmd(row);
    const huge = (pmd.bits & PMD_LEAF) !== 0;
    const entry = huge ? pmd : (pmd.bits & PMD_TABLE) !== 0 ? pageTable.pte(vpn) : null;
    if (entry === null || !ptePresent(entry.bits)) return 'absent';
    const pfn = huge ? entry.pfn + (vpn % PMD_PAGES) : entry.pfn;
    if (pfn !== expected) continue;
    const writable = (entry.bits & PTE_WRITE) !== 0;
    const checks = kernel.has('kvm.pfnmap-checks-write');
    if (request.write && !writable && checks) return 'ro';
    const result = { pfn, generation: frames.peekGeneration(pfn), writable: writable || !checks };
    if (head === undefined) return { ...result, counted: false };
    if (!kernel.has('kvm.refcounted-frames-only')) getNow(core, head, 1);
    else if (!tryGetNow(core, head, 1)) return 'fault';
    return { ...result, counted: true };
  }
}

/** kvm_pfn_to_refcounted_page: since 6.13 raw frames are never counted, whatever stands behind them. */
function refcountedPage(core: CoreMm, pfn: number): number | undefined {
  if (core.kernel.has('kvm.refcounted-page-rework') || !core.machine.hasStructPage(pfn)) return undefined;
  if (pfn === core.zeroPfn) return pfn;
  return (core.folios.flags.peek(core.folios.headOf(pfn)) & PG_RESERVED) !== 0 ? undefined : pfn;
}

/** kvm_release_pfn_clean, of the page that `hvaToPfn` returned. */
export function* releasePfn(core: CoreMm, frame: FoundPfn): Steps<void> {
  if (!frame.counted) return;
  const head = core.folios.headOf(frame.pfn);
  yield willPut(core, head, PUT);
  putNow(core, head, 1, 'kvm_release_pfn_clean');
}
