// A CPU access by user code: TLB, page walk, fault. A hit acts in one step with the memory access, because an
// interrupt (and with it a shootdown) is taken only between instructions.
import { call, type Steps } from '../../engine/process.ts';
import { step } from '../../engine/step.ts';
import { TlbEntry } from '../../hw/cpu.ts';
import { FRAME_ACCESS } from '../../hw/frames.ts';
import { PMD_PAGES } from '../../hw/machine.ts';
import type { CoreMm } from '../core.ts';
import { PAGE_DIRTIED } from '../ledger.ts';
import type { Mm } from '../mm.ts';
import { pmdOf } from '../page-table.ts';
import { PMD_LEAF, PMD_TABLE, PTE_DIRTY, PTE_PRESENT, PTE_WRITE, PTE_YOUNG } from '../pte.ts';
import { outOfMemory } from '../reclaim/reclaim-hooks.ts';
import { type FaultFlags, handleMmFault, vmaAllows } from './fault.ts';

const ACCESS = step('user:access', 'op');
const WALK = step('user:page-walk', 'op');
const LOCKING = step('do_user_addr_fault:mmap_read_lock', 'lock');
const VMA = step('do_user_addr_fault:find-vma', 'fault');

export type AccessResult = { readonly token: number } | { readonly signal: 'SIGSEGV' | 'SIGBUS' | 'SIGKILL' };

/**
 * Read (null) or write a token at page `vpn` of the running thread's address space. `ahead`: pages from there on that the
 * caller accesses next, in order (a fault may then take the bulk lane).
 */
export function* cpuAccess(
  core: CoreMm,
  vpn: number,
  write: { readonly token: number } | null,
  ahead = 1,
): Steps<AccessResult> {
  const { cpu, task } = core.current;
  for (;;) {
    // The look tells what to announce; the act looks again.
    const mm = task.mm.peek();
    if (mm === null) return { signal: 'SIGKILL' };
    const cached = cpu.tlb.peek().find((entry) => entry.covers(mm.asid, vpn));
    if (cached !== undefined && serves(cached, write !== null)) {
      const done = yield* call(throughTlb(core, mm, cached, vpn, write));
      if (done !== null) return done;
      continue;
    }
    if (yield* call(walk(core, mm, vpn, write !== null))) continue;
    const spared = ahead > 1 ? { faults: 0 } : null;
    const signal = yield* call(userFault(core, mm, vpn, write !== null, spared === null ? {} : { ahead, spared }));
    if (signal !== null) return { signal };
    if (spared !== null && spared.faults > 0) yield* call(chargeFaults(core, spared.faults));
  }
}

/** What entering and leaving the kernel would have cost the pages that a fault in the bulk lane made on the way. */
function* chargeFaults(core: CoreMm, pages: number): Steps<void> {
  yield core.sim.local(WALK, pages);
  yield core.sim.local(LOCKING, 2 * pages);
  yield core.sim.local(VMA, pages);
}

function* throughTlb(
  core: CoreMm,
  mm: Mm,
  expected: TlbEntry,
  vpn: number,
  write: { readonly token: number } | null,
): Steps<AccessResult | null> {
  const { frames, sim } = core;
  const { cpu } = core.current;
  const pfn = expected.pfnOf(vpn);
  cpu.tlb.willRead(ACCESS);
  // The generation that counts is that of the leaf's first frame, for which the entry was made.
  frames.willCheck(expected.pfn, ACCESS);
  yield write === null ? frames.content.willRead(pfn, ACCESS) : frames.content.willWrite(pfn, ACCESS);
  // Shot down since: the instruction has not run yet and walks again.
  if (cpu.lookup(mm.asid, vpn) !== expected) return null;
  if (write !== null) frames.content.set(pfn, write.token);
  const token = write === null ? frames.content.get(pfn) : write.token;
  const generation = frames.generationOf(expected.pfn);
  if (sim.hears(FRAME_ACCESS)) {
    sim.emit(FRAME_ACCESS, {
      pfn,
      write: write !== null,
      madeFor: expected.generation,
      generation,
      through: 'tlb',
      holder: mm.name,
      page: vpn,
      token,
    });
  }
  if (write !== null && sim.hears(PAGE_DIRTIED)) sim.emit(PAGE_DIRTIED, { pfn, token, by: 'cpu' });
  return { token };
}

/** Does the cached translation do, or must the hardware walk to set the dirty bit or to find a newer entry? */
function serves(cached: TlbEntry, write: boolean): boolean {
  return !write || (cached.write && cached.dirty);
}

/** The hardware page walk: fills the TLB and sets accessed and dirty bits. False: page fault. */
function* walk(core: CoreMm, mm: Mm, vpn: number, write: boolean): Steps<boolean> {
  const { pageTable } = mm;
  const { cpu } = core.current;
  const row = pmdOf(vpn);
  pageTable.willUpdatePmd(row, WALK);
  pageTable.willUpdatePte(vpn, WALK);
  yield cpu.tlb.willUpdate(WALK);
  // Another thread on this CPU has walked since: the instruction finds what it cached.
  const cached = cpu.lookup(mm.asid, vpn);
  if (cached !== undefined && serves(cached, write)) return true;
  const pmd = pageTable.pmd(row);
  const huge = (pmd.bits & PMD_LEAF) !== 0;
  const entry = huge ? pmd : (pmd.bits & PMD_TABLE) !== 0 ? pageTable.pte(vpn) : null;
  if (entry === null || (entry.bits & PTE_PRESENT) === 0) return false;
  if (write && (entry.bits & PTE_WRITE) === 0) return false;
  const bits = entry.bits | PTE_YOUNG | (write ? PTE_DIRTY : 0);
  if (bits !== entry.bits) {
    if (huge) pageTable.setPmd(row, entry.pfn, bits, entry.generation);
    else pageTable.setPte(vpn, entry.pfn, bits, entry.generation);
  }
  cpu.fill(
    new TlbEntry({
      asid: mm.asid,
      vpn: huge ? row * PMD_PAGES : vpn,
      pages: huge ? PMD_PAGES : 1,
      pfn: entry.pfn,
      write: (bits & PTE_WRITE) !== 0,
      dirty: (bits & PTE_DIRTY) !== 0,
      generation: entry.generation,
    }),
  );
  return true;
}

/** do_user_addr_fault (arch/x86/mm/fault.c). Null: resolved, try again. */
function* userFault(
  core: CoreMm,
  mm: Mm,
  vpn: number,
  write: boolean,
  lane: Pick<FaultFlags, 'ahead' | 'spared'>,
): Steps<'SIGSEGV' | 'SIGBUS' | 'SIGKILL' | null> {
  const { task } = core.current;
  let tried = false;
  for (;;) {
    if (!(yield* call(mm.mmapLock.killable(false, task.killed)))) return 'SIGKILL';
    task.killed.willRead(VMA);
    yield mm.vmas.willRead(VMA);
    if (task.killed.value) {
      // The signal is taken on the way out of the fault; whatever it mapped, the instruction does not run.
      yield mm.mmapLock.up();
      return 'SIGKILL';
    }
    const vma = mm.vmaAt(vpn);
    if (vma === undefined || !vmaAllows(vma, { write })) {
      yield mm.mmapLock.up();
      return 'SIGSEGV';
    }
    const result = yield* call(
      handleMmFault(core, mm, vma, vpn, {
        write,
        unshare: false,
        remote: false,
        allowRetry: true,
        killable: true,
        memallocPin: false,
        tried,
        ...lane,
      }),
    );
    // mmap_lock was dropped: done, or start over (FAULT_FLAG_TRIED).
    if (result === 'completed') return null;
    if (result === 'retry') {
      tried = true;
      continue;
    }
    yield mm.mmapLock.up();
    if (result === 'ok') return null;
    if (result === 'oom') {
      // pagefault_out_of_memory: somebody is killed for it, or has been; the fault starts over, if its own process lives.
      if (!(yield* call(outOfMemory(core)))) return 'SIGKILL';
      continue;
    }
    return result === 'sigsegv' ? 'SIGSEGV' : 'SIGBUS';
  }
}
