// Faults on private anonymous memory where nothing is mapped (mm/memory.c do_anonymous_page): the zero page on a read, a
// fresh exclusive page on a write. 2 MiB pages are in fault-huge.ts. mm_forbids_zeropage (s390) is not modelled.
import { call, type Steps } from '../../engine/process.ts';
import { step } from '../../engine/step.ts';
import { allocFolio } from '../alloc/page-alloc.ts';
import type { CoreMm } from '../core.ts';
import { UFFD_MISSING } from '../mapping/vma.ts';
import { PTE_NONE, PTE_PRESENT, PTE_SPECIAL, PTE_YOUNG } from '../pte.ts';
import { folioAddLru } from '../reclaim/lru.ts';
import { addNewAnonNow, anonVmaPrepare, userGfp, willAddNewAnon } from './anon-page.ts';
import { bulkPages, makeAnonPages, mapZeroPages } from './fault-bulk.ts';
import { type Fault, type FaultResult, maybeMkwrite, pteAlloc, putUnused } from './fault-context.ts';
import { handleUserfault } from './uffd.ts';

const SET_ZERO = step('do_anonymous_page:zero-page', 'fault');
const LOCK = step('do_anonymous_page:lock', 'fault');
const SET = step('do_anonymous_page:set-pte', 'pte-op');

/** do_anonymous_page */
export function* doAnonymousPage(core: CoreMm, fault: Fault): Steps<FaultResult> {
  if (!(yield* call(pteAlloc(fault)))) return 'ok';
  const pages = bulkPages(core, fault);
  if (!fault.flags.write) {
    if (pages < 2) return yield* call(mapZeroPage(core, fault));
    yield* call(mapZeroPages(core, fault, pages));
    return 'ok';
  }
  if (pages > 1 && (yield* call(makeAnonPages(core, fault, pages)))) return 'ok';
  fault.vma = yield* call(anonVmaPrepare(core, fault.mm, fault.vma));
  const head = yield* call(allocFolio(core, userGfp(core, fault.flags.memallocPin, true, fault.vma)));
  if (head === undefined) return 'oom';

  fault.mm.unstable.willRead(LOCK);
  willAddNewAnon(core, head, LOCK);
  yield fault.lock(LOCK);
  const refused = refuse(fault);
  if (refused !== null) {
    fault.unlockNow();
    yield* call(putUnused(core, head));
    return refused === 'uffd' ? yield* call(handleUserfault(core, fault, 'missing')) : refused;
  }
  addNewAnonNow(core, fault.vma, fault.vpn, head);
  yield* call(folioAddLru(core, head, true));

  yield fault.willUnlock(SET);
  fault.set(core, head, PTE_PRESENT | PTE_YOUNG | maybeMkwrite(fault.vma));
  fault.unlockNow();
  return 'ok';
}

/** The zero page is special: no reference, no mapping count. */
function* mapZeroPage(core: CoreMm, fault: Fault): Steps<FaultResult> {
  fault.mm.unstable.willRead(SET_ZERO);
  yield fault.pass(SET_ZERO);
  const refused = refuse(fault);
  if (refused === 'uffd') return yield* call(handleUserfault(core, fault, 'missing'));
  if (refused !== null) return refused;
  fault.set(core, core.zeroPfn, PTE_PRESENT | PTE_YOUNG | PTE_SPECIAL);
  return 'ok';
}

/** Under the page-table lock: why nothing may be mapped here, if so. `ok`: somebody else has mapped something. */
function refuse(fault: Fault): 'ok' | 'sigbus' | 'uffd' | null {
  fault.orig = PTE_NONE;
  if (!fault.same) return 'ok';
  // check_stable_address_space: the OOM reaper was here; a new page would read as zero.
  if (fault.mm.unstable.value) return 'sigbus';
  return fault.vma.userfaults(UFFD_MISSING) ? 'uffd' : null;
}
