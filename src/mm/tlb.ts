// TLB flushes and mmu_gather (mm/mmu_gather.c, arch tlb code). A gather keeps the references of zapped pages until the
// flush: clear PTE, flush, free. Architectures without IPIs flush without waiting for interrupts to be on.
import { call, type Steps } from '../engine/process.ts';
import { type Announced, type Step, step } from '../engine/step.ts';
import type { Cpu } from '../hw/cpu.ts';
import type { CoreMm } from './core.ts';
import type { Mm } from './mm.ts';
import { lruAddDrain } from './reclaim/lru.ts';
import { putNow, putRun, willPut } from './refcount.ts';

const FLUSH_LOCAL = step('flush_tlb_mm_range:local', 'tlb-local');
const FLUSH_IPI = step('flush_tlb_mm_range:ipi', 'tlb-ipi');
const GATHER = step('tlb_gather_mmu', 'none');
const FINISH = step('tlb_finish_mmu', 'none');
const BATCHED_CHECK = step('flush_tlb_batched_pending', 'none');
const UBC = step('try_to_unmap_flush', 'none');
const RELEASE = step('free_pages_and_swap_cache', 'refcount');
const SYNC_ONE = step('tlb_remove_table_sync_one', 'tlb-ipi');

/** x86 flushes everything of the mm beyond this many pages (tlb_single_page_flush_ceiling). */
const FLUSH_CEILING = 33;

/** flush_tlb_range: every CPU of the mm's cpumask drops its entries for pages [start, end). */
export function* flushTlbRange(core: CoreMm, mm: Mm, start: number, end: number): Steps<void> {
  const all = end - start > FLUSH_CEILING;
  yield* call(flushCpus(core, mm, all ? 0 : start, all ? Number.POSITIVE_INFINITY : end));
  if (mm.notifiers.hasSubscribers && core.kernel.way('notifier.secondary-tlb') === 'with-cpu-flush') {
    yield* call(mm.notifiers.invalidateSecondaryTlbs(start, end));
  }
}

/** flush_tlb_mm */
export function* flushTlbMm(core: CoreMm, mm: Mm): Steps<void> {
  yield* call(flushTlbRange(core, mm, 0, 2 ** 36));
}

function* flushCpus(core: CoreMm, mm: Mm, start: number, end: number): Steps<void> {
  const own = core.current.cpu;
  // Looks without a step: the mask is complete before anybody but its owner sees the address space (`join`).
  for (const cpu of mm.cpumask.peek()) {
    if (cpu === own) {
      yield cpu.tlb.willUpdate(FLUSH_LOCAL);
    } else {
      yield cpu.interrupt(FLUSH_IPI, core.machine.arch.tlbFlushIsIpi);
    }
    cpu.flush(mm.asid, start, end);
  }
}

/** tlb_remove_table_sync_one: an IPI to every CPU, which GUP-fast's interrupts-off section holds up. */
export function* tlbRemoveTableSyncOne(core: CoreMm): Steps<void> {
  for (const cpu of core.cpus) {
    if (cpu === core.current.cpu || !usesInterrupts(core, cpu)) continue;
    yield cpu.interrupt(SYNC_ONE, true);
  }
}

/**
 * A CPU on which no actor ever runs takes every interrupt at once: no step. Whether one has ended by now, or has yet to
 * start, must not count: nobody announces that, and the order of steps would change what steps there are.
 */
function usesInterrupts(core: CoreMm, cpu: Cpu): boolean {
  return core.laterCpus.has(cpu.number) || core.sim.processes.some((process) => core.threadOf(process)?.cpu === cpu);
}

// ---- deferred unmap flushes (tlb_ubc, reclaim and migration) ---------------------------------------------------------

/** should_defer_flush: only when some other CPU may cache the mm, and the architecture batches. */
export function shouldDeferFlush(core: CoreMm, mm: Mm): boolean {
  if (core.machine.arch.noGather) return false;
  const own = core.current.cpu;
  return mm.cpumask.peek().some((cpu) => cpu !== own);
}

/** Announce queueing a deferred flush, merged in the step that clears the PTE. */
export function willDeferFlush(core: CoreMm, mm: Mm, at: Step): Announced {
  mm.tlbFlushBatched.willUpdate(at);
  return core.local.deferredFlush.willUpdate(at);
}

/** set_tlb_ubc_flush_pending */
export function deferFlushNow(core: CoreMm, mm: Mm, dirty: boolean): void {
  const cell = core.local.deferredFlush;
  const before = cell.value;
  const mms = before === null ? [mm] : before.mms.includes(mm) ? before.mms : [...before.mms, mm];
  cell.value = new Deferred(mms, dirty || before?.writable === true);
  const [pending, flushed] = mm.tlbFlushBatched.value;
  mm.tlbFlushBatched.value = [pending + 1, flushed];
}

class Deferred {
  readonly mms: readonly Mm[];
  readonly writable: boolean;
  readonly identity: number;

  constructor(mms: readonly Mm[], writable: boolean) {
    this.mms = mms;
    this.writable = writable;
    this.identity = mms.reduce((sum, mm) => (sum + mm.identity) | 0, writable ? 1 : 0);
  }
}

/** try_to_unmap_flush: flush what this CPU deferred. */
export function* tryToUnmapFlush(core: CoreMm): Steps<void> {
  if (core.local.deferredFlush.peek() === null) return;
  yield core.local.deferredFlush.willUpdate(UBC);
  const deferred = core.local.deferredFlush.value;
  core.local.deferredFlush.value = null;
  if (deferred === null) return;
  for (const mm of deferred.mms) yield* call(flushCpus(core, mm, 0, Number.POSITIVE_INFINITY));
}

/** try_to_unmap_flush_dirty: before IO, if any unmapped PTE was dirty. */
export function* tryToUnmapFlushDirty(core: CoreMm): Steps<void> {
  if (core.local.deferredFlush.peek()?.writable === true) yield* call(tryToUnmapFlush(core));
}

/** flush_tlb_batched_pending, under the page-table lock of zap, mprotect, madvise, mremap. */
export function* tlbFlushBatchedPending(core: CoreMm, mm: Mm): Steps<void> {
  if (mm.tlbFlushBatched.peek()[0] === mm.tlbFlushBatched.peek()[1] && !deferredFlushPossible(core, mm)) return;
  yield mm.tlbFlushBatched.willRead(BATCHED_CHECK);
  const [pending, flushed] = mm.tlbFlushBatched.value;
  if (pending === flushed) return;
  yield* call(flushCpus(core, mm, 0, Number.POSITIVE_INFINITY));
  yield mm.tlbFlushBatched.willUpdate(BATCHED_CHECK);
  mm.tlbFlushBatched.value = [mm.tlbFlushBatched.value[0], pending];
}

/** Could reclaim or migration have cleared entries of this mm without flushing yet? Otherwise the check is no step. */
export function deferredFlushPossible(core: CoreMm, mm: Mm): boolean {
  return core.params.defersFlushes && !core.machine.arch.noGather && mm.cpumask.peek().length > 1;
}

// ---- mmu_gather ------------------------------------------------------------------------------------------------------

/** One gather: local to the actor that zaps. */
export class MmuGather {
  readonly mm: Mm;
  private from = Number.POSITIVE_INFINITY;
  private to = 0;
  private pages: { head: number; references: number }[] = [];
  private runs: { pfn: number; pages: number }[] = [];
  private runPages = 0;

  constructor(mm: Mm) {
    this.mm = mm;
  }

  /** Pages [start, end) were unmapped and must be flushed. */
  note(start: number, end: number): void {
    this.from = Math.min(this.from, start);
    this.to = Math.max(this.to, end);
  }

  /** Keep `references` of a folio until the flush. */
  addPage(head: number, references: number): void {
    this.pages.push({ head, references });
  }

  /** Keep the mapping's reference of each of a run of small folios whose counts are alike. */
  addRun(pfn: number, pages: number): void {
    this.runs.push({ pfn, pages });
    this.runPages += pages;
  }

  get empty(): boolean {
    return this.to === 0;
  }

  /** Pages held so far: a full gather is flushed early (tlb_next_batch). */
  get held(): number {
    return this.pages.length + this.runPages;
  }

  /** Only for tlbFlushTlbOnly: the range to flush; the pages stay. */
  takeRange(): { from: number; to: number } {
    const taken = { from: this.from, to: this.to };
    this.from = Number.POSITIVE_INFINITY;
    this.to = 0;
    return taken;
  }

  /** Only for tlbFlushMmu. */
  take(): {
    from: number;
    to: number;
    pages: { head: number; references: number }[];
    runs: { pfn: number; pages: number }[];
  } {
    const taken = { from: this.from, to: this.to, pages: this.pages, runs: this.runs };
    this.from = Number.POSITIVE_INFINITY;
    this.to = 0;
    this.pages = [];
    this.runs = [];
    this.runPages = 0;
    return taken;
  }
}

/** tlb_gather_mmu */
export function* tlbGather(_core: CoreMm, mm: Mm): Steps<MmuGather> {
  yield mm.tlbFlushPending.willAdd(GATHER);
  mm.tlbFlushPending.add(1);
  return new MmuGather(mm);
}

/** tlb_flush_mmu: flush, then put the gathered pages. */
export function* tlbFlushMmu(core: CoreMm, gather: MmuGather, wholeMm = false): Steps<void> {
  const { from, to, pages, runs } = gather.take();
  if (to > 0 && !core.machine.arch.noGather) {
    if (wholeMm) yield* call(flushTlbMm(core, gather.mm));
    else yield* call(flushTlbRange(core, gather.mm, from, to));
  }
  // free_pages_and_swap_cache: pages that a batch holds, too, are to be freed now.
  if (pages.length + runs.length > 0) yield* call(lruAddDrain(core));
  yield* call(releasePages(core, pages));
  for (const run of runs) yield* call(putRun(core, run.pfn, run.pages, 'free_pages_and_swap_cache'));
}

/** tlb_flush_mmu_tlbonly: flush under the page-table lock, free later. */
export function* tlbFlushTlbOnly(core: CoreMm, gather: MmuGather): Steps<void> {
  const { from, to } = gather.takeRange();
  if (to > 0 && !core.machine.arch.noGather) yield* call(flushTlbRange(core, gather.mm, from, to));
}

/** release_pages: put each page; `stepPages` of them per step. */
export function* releasePages(core: CoreMm, held: readonly { head: number; references: number }[]): Steps<void> {
  const pages = core.kernel.way('page-alloc.batch-free-order') === 'backwards' ? held.toReversed() : held;
  const per = core.params.stepPages;
  for (let i = 0; i < pages.length; i += per) {
    const batch = pages.slice(i, i + per);
    for (const { head } of batch) willPut(core, head, RELEASE);
    yield core.sim.local(RELEASE, batch.length);
    for (const { head, references } of batch) putNow(core, head, references, 'free_pages_and_swap_cache');
  }
}

/** tlb_finish_mmu: another gather open on the mm means that its flush must not be relied on: flush everything. */
export function* tlbFinish(core: CoreMm, gather: MmuGather): Steps<void> {
  const { mm } = gather;
  let nested = false;
  if (!gather.empty && mm.cpumask.peek().length > 1) {
    yield mm.tlbFlushPending.willRead(FINISH);
    nested = mm.tlbFlushPending.value > 1;
  }
  yield* call(tlbFlushMmu(core, gather, nested));
  yield mm.tlbFlushPending.willAdd(FINISH);
  mm.tlbFlushPending.add(-1);
}
