// MADV_WILLNEED (mm/madvise.c madvise_willneed): start reading what is in swap or in a file; nothing is mapped by it.
import { call, type Steps } from '../../engine/process.ts';
import { step } from '../../engine/step.ts';
import type { CoreMm } from '../core.ts';
import type { Errno } from '../errno.ts';
import { mmapReadahead } from '../file/page-cache.ts';
import type { Vma } from '../mapping/vma.ts';
import type { Mm } from '../mm.ts';
import { PTE_SWAP } from '../pte.ts';
import { folioPut } from '../refcount.ts';
import { readSwapCache } from '../swap/swap-cache.ts';

const LOOK = step('swapin_walk_pmd_entry', 'op');
const LOOK_FILE = step('shmem_swapin_range', 'op');

/** Never fails here: reading ahead is best effort. mmap_lock is held for read; a file is read without it. */
export function* madviseWillneed(core: CoreMm, mm: Mm, vma: Vma, from: number, to: number): Steps<'ok' | Errno> {
  const { file } = vma.fields;
  if (file === null) {
    for (let vpn = from; vpn < to; vpn++) {
      if ((mm.pageTable.peekPte(vpn).bits & PTE_SWAP) === 0) continue;
      yield mm.pageTable.willReadPte(vpn, LOOK);
      const { bits, pfn } = mm.pageTable.pte(vpn);
      if ((bits & PTE_SWAP) !== 0) yield* call(readSlotAhead(core, pfn));
    }
    return 'ok';
  }
  const first = vma.indexOf(from);
  const last = vma.indexOf(to);
  if (file.kind === 'shmem') {
    for (let index = first; index < last; index++) {
      if (file.pages.peek(index) >= 0) continue;
      yield file.pages.willRead(index, LOOK_FILE);
      const entry = file.pages.get(index);
      if (entry < 0) yield* call(readSlotAhead(core, -entry - 1));
    }
  } else if (file.kind === 'file') {
    yield mm.mmapLock.up();
    for (let index = first; index < Math.min(last, file.sizePages.peek()); index++) {
      if (file.pages.peek(index) === 0) yield* call(mmapReadahead(core, file, index, true));
    }
    yield* call(mm.mmapLock.read());
  }
  return 'ok';
}

function* readSlotAhead(core: CoreMm, slot: number): Steps<void> {
  const head = yield* call(readSwapCache(core, slot, true));
  if (typeof head === 'number') yield* call(folioPut(core, head, 1, 'swapin_walk'));
}
