// Faults on entries that are not present (mm/memory.c do_swap_page): swap-in, waiting for a migration, poisoned pages.
// Swapped huge pages come back as small ones. Two ways in: through the swap cache, or past it (SWP_SYNCHRONOUS_IO with one
// user), where since 13ddaf26be32 the slot is reserved meanwhile.
import { call, type Steps } from '../../engine/process.ts';
import { step } from '../../engine/step.ts';
import { allocFolio } from '../alloc/page-alloc.ts';
import type { CoreMm } from '../core.ts';
import { unlockFolio } from '../file/page-cache.ts';
import { unlockNow, waitUnlocked, willUnlock } from '../folio-lock.ts';
import {
  PG_ANON,
  PG_HWPOISON,
  PG_KSM,
  PG_LOCKED,
  PG_LRU,
  PG_MLOCKED,
  PG_SWAPBACKED,
  PG_SWAPCACHE,
  PG_UPTODATE,
  PG_WRITEBACK,
} from '../page-flags.ts';
import {
  PTE_EXCLUSIVE,
  PTE_HWPOISON,
  PTE_MARKER,
  PTE_MIGRATION,
  PTE_PRESENT,
  PTE_SOFT_DIRTY,
  PTE_UFFD_WP,
  PTE_WRITE,
  PTE_YOUNG,
} from '../pte.ts';
import { folioAddLru, lruAddDrain } from '../reclaim/lru.ts';
import { folioPut } from '../refcount.ts';
import {
  folioFreeSwap,
  readSlot,
  readSwapCache,
  SLOT_RESERVED,
  swapCacheGet,
  swapCount,
  swapFreeNow,
  waitReserved,
  willSwapFree,
} from '../swap/swap-cache.ts';
import { pinnableOnly } from './anon-page.ts';
import { type Fault, type FaultResult, maybeMkwrite } from './fault-context.ts';
import { doWpPageLocked } from './fault-cow.ts';
import { lockOrDropMmap } from './fault-lock.ts';
import { userfaultfdWp } from './uffd.ts';

const WAIT_LOOK = step('migration_entry_wait:look', 'op');
const WAIT = step('migration_entry_wait', 'none');
const COUNT = step('do_swap_page:__swap_count', 'op');
const PREPARE = step('swapcache_prepare', 'op');
const CLEAR = step('swapcache_clear', 'op');
const LOCKED = step('do_swap_page:__folio_set_locked', 'none');
const CHECK = step('do_swap_page:recheck-swapcache', 'op');
const LOCK = step('do_swap_page:lock', 'fault');
const SET = step('do_swap_page:set-pte', 'pte-op');
const UNLOCK = step('do_swap_page:folio_unlock', 'lock');

/** do_swap_page: the entry `fault.orig` is neither none nor present. */
export function* doSwapPage(core: CoreMm, fault: Fault): Steps<FaultResult> {
  const { bits } = fault.orig;
  if ((bits & PTE_MIGRATION) !== 0) return yield* call(migrationEntryWait(core, fault));
  if ((bits & PTE_HWPOISON) !== 0) return 'hwpoison';
  if ((bits & PTE_MARKER) !== 0) throw new Error('a marker entry reached do_swap_page');
  return yield* call(swapIn(core, fault));
}

/** migration_entry_wait: sleep on the old folio's lock, without a reference (since 5.17), then fault again. */
function* migrationEntryWait(core: CoreMm, fault: Fault): Steps<FaultResult> {
  yield fault.pass(WAIT_LOOK);
  if (!fault.same) return 'ok';
  yield waitUnlocked(core, core.folios.headOf(fault.orig.pfn), WAIT);
  return 'ok';
}

/** A page on its way in. `cached`: it is in the swap cache, where others may see it. */
interface Incoming {
  readonly head: number;
  readonly cached: boolean;
}

function* swapIn(core: CoreMm, fault: Fault): Steps<FaultResult> {
  const slot = fault.orig.pfn;
  const movable = !pinnableOnly(core, fault.flags.memallocPin);
  const found = yield* call(swapCacheGet(core, slot));
  if (found === undefined && (yield* call(mayBypassCache(core, slot)))) {
    return yield* call(bypassCache(core, fault, slot, movable));
  }
  const head = found ?? (yield* call(readSwapCache(core, slot, movable)));
  if (head === 'oom') return 'oom';
  if (head === 'unused') return 'ok';
  if (!(yield* call(lockOrDropMmap(core, fault, head, 'do_swap_page:retry')))) return 'retry';
  core.folios.mapping.willRead(head, CHECK);
  yield core.folios.flags.willRead(head, CHECK);
  const flags = core.folios.flags.get(head);
  if ((flags & PG_HWPOISON) !== 0) {
    yield* call(giveUp(core, head));
    return 'hwpoison';
  }
  if ((flags & PG_SWAPCACHE) === 0 || core.folios.swapEntry.get(head) !== slot + 1) {
    // Freed from the swap cache before we had the lock: whoever did so has changed the entry too.
    return yield* call(giveUp(core, head));
  }
  if (fault.flags.write && (flags & (PG_KSM | PG_LRU)) === 0) yield* call(lruAddDrain(core));
  return yield* call(mapIn(core, fault, slot, { head, cached: true }));
}

function* mayBypassCache(core: CoreMm, slot: number): Steps<boolean> {
  if (!core.swap.synchronousIo) return false;
  yield core.swap.map.willRead(slot, COUNT);
  return swapCount(core, slot) === 1;
}

/** The sole user of a slot reads it into a page that never enters the swap cache. */
function* bypassCache(core: CoreMm, fault: Fault, slot: number, movable: boolean): Steps<FaultResult> {
  const { folios, swap } = core;
  const guarded = core.kernel.has('swap.cache-skip-guard');
  if (guarded) {
    yield swap.map.willUpdate(slot, PREPARE);
    if (swap.map.get(slot) >= SLOT_RESERVED || swap.cache.get(slot) !== 0) {
      // Somebody else reads the slot: relax until that is over, and fault again.
      yield waitReserved(core, slot);
      return 'ok';
    }
    swap.map.set(slot, swap.map.get(slot) + SLOT_RESERVED);
  }
  const head = yield* call(allocFolio(core, { order: 0, movable, zero: false }));
  let result: FaultResult = 'oom';
  if (head !== undefined) {
    yield folios.flags.willUpdate(head, LOCKED);
    folios.change(head, PG_LOCKED | PG_SWAPBACKED | PG_UPTODATE);
    yield* call(folioAddLru(core, head));
    yield* call(readSlot(core, slot, head));
    result = yield* call(mapIn(core, fault, slot, { head, cached: false }));
  }
  if (guarded) {
    // swapcache_clear, after the page-table lock was dropped.
    willSwapFree(core, slot, CLEAR);
    yield swap.cache.willUpdate(slot, CLEAR);
    swap.map.set(slot, swap.map.get(slot) - SLOT_RESERVED + 1);
    swapFreeNow(core, slot);
  }
  return result;
}

function* giveUp(core: CoreMm, head: number): Steps<'ok'> {
  yield* call(unlockFolio(core, head, UNLOCK));
  yield* call(folioPut(core, head, 1, 'do_swap_page:raced'));
  return 'ok';
}

/** Under the page-table lock: drop the slot, map the page; then a write that needs it goes on in do_wp_page. */
function* mapIn(core: CoreMm, fault: Fault, slot: number, page: Incoming): Steps<FaultResult> {
  const { folios, kernel } = core;
  const { head, cached } = page;
  folios.flags.willRead(head, LOCK);
  willSwapFree(core, slot, LOCK);
  yield fault.lock(LOCK);
  if (!fault.same) {
    fault.unlockNow();
    return yield* call(giveUp(core, head));
  }
  const flags = folios.flags.get(head);
  const ksm = (flags & PG_KSM) !== 0;
  const stable = (flags & PG_WRITEBACK) !== 0 && core.swap.stableWrites;
  const remembered = (fault.orig.bits & PTE_EXCLUSIVE) !== 0 && kernel.has('cow.swap-exclusive-bit');
  const exclusive = !ksm && (!cached || (remembered && !stable));
  swapFreeNow(core, slot);
  if (cached && (shouldTryToFreeSwap(fault, flags) || vmSwapFull(core))) yield* call(folioFreeSwap(core, head));

  const { willWrite, bits } = yield* call(entryFor(core, fault, head, slot, exclusive));
  yield willUnlock(core, head, UNLOCK);
  unlockNow(core, head);
  fault.orig = { pfn: head, bits, generation: core.frames.peekGeneration(head) };
  if (willWrite) return yield* call(doWpPageLocked(core, fault));
  yield fault.willUnlock(UNLOCK);
  fault.unlockNow();
  return 'ok';
}

/** should_try_to_free_swap: the swap copy is of no use, or a write wants to know whether it is the only user. */
function shouldTryToFreeSwap(fault: Fault, flags: number): boolean {
  return fault.vma.fields.locked || (flags & PG_MLOCKED) !== 0 || fault.flags.write;
}

/** vm_swap_full, a racy look in the kernel as well: more than half of it is used, so no slot is kept for a page in memory. */
function vmSwapFull({ swap }: CoreMm): boolean {
  return swap.usedSlots * 2 > swap.slots;
}

/** set_pte_at with the anon rmap. `willWrite`: a write fault that must still reuse or copy. */
function* entryFor(
  core: CoreMm,
  fault: Fault,
  head: number,
  slot: number,
  exclusive: boolean,
): Steps<{ readonly willWrite: boolean; readonly bits: number }> {
  const { folios, kernel, swap } = core;
  const { vma, flags, orig } = fault;
  folios.mapping.willUpdate(head, SET);
  folios.anonExclusive.willUpdate(head, SET);
  folios.refcount.willRead(head, SET);
  folios.flags.willUpdate(head, SET);
  folios.willMap(head, head, SET);
  swap.map.willRead(slot, SET);
  yield fault.willUnlock(SET);
  const ksm = (folios.flags.get(head) & PG_KSM) !== 0;
  const alone = kernel.has('cow.anon-exclusive')
    ? exclusive || folios.refcount.get(head) === 1
    : flags.write && folios.mapcountOf(head) + swapCount(core, slot) === 0; // reuse_swap_page
  const sole = !ksm && alone;
  const protectedByUffd = userfaultfdWp(vma) && (orig.bits & PTE_UFFD_WP) !== 0;
  const writable = sole && vma.fields.write && !protectedByUffd;
  let bits = PTE_PRESENT | PTE_YOUNG | (orig.bits & (PTE_SOFT_DIRTY | PTE_UFFD_WP));
  if (writable && flags.write) bits |= maybeMkwrite(vma);
  else if (writable && kernel.has('swap.read-fault-maps-writable')) bits |= PTE_WRITE;
  const { anonVma } = vma.fields;
  if (anonVma === null) throw new Error(`a swap entry in ${vma.fields.name}, which has no anon_vma`);
  if ((folios.flags.get(head) & PG_ANON) === 0) {
    folios.mapping.set(head, anonVma.id);
    folios.index.set(head, vma.indexOf(fault.vpn));
  }
  folios.change(head, PG_ANON | (vma.fields.locked ? PG_MLOCKED : 0));
  folios.addPteMapping(head, head);
  if (sole && kernel.has('cow.anon-exclusive')) folios.anonExclusive.set(head, 1);
  fault.set(core, head, bits);
  return { willWrite: flags.write && !writable, bits };
}
