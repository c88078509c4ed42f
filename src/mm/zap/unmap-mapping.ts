// Unmapping file pages from every address space (mm/memory.c unmap_mapping_range, unmap_mapping_folio), under i_mmap_rwsem:
// one zap with its own window and flush for each VMA.
import { call, type Steps } from '../../engine/process.ts';
import { step } from '../../engine/step.ts';
import type { CoreMm } from '../core.ts';
import type { Inode } from '../file/inode.ts';
import type { Vma } from '../mapping/vma.ts';
import type { Mm } from '../mm.ts';
import { zapVmaRange } from './zap.ts';
import type { ZapDetails } from './zap-entry.ts';

const WALK = step('unmap_mapping_range_tree', 'op');

/**
 * Unmap pages [from, to) of the file wherever they are mapped. `evenCows`: private copies too (truncation); without it
 * they stay (hole punching).
 */
export function* unmapMappingRange(
  core: CoreMm,
  inode: Inode,
  from: number,
  to: number,
  evenCows: boolean,
): Steps<void> {
  yield* call(unmapMapping(core, inode, from, to, { evenCows }));
}

/** unmap_mapping_folio: the one folio, which the caller has locked. */
export function* unmapMappingFolio(core: CoreMm, inode: Inode, head: number): Steps<void> {
  // Held by the folio lock.
  const index = core.folios.index.peek(head);
  const pages = core.folios.pagesOf(head);
  yield* call(unmapMapping(core, inode, index, index + pages, { evenCows: false, singleFolio: head }));
}

function* unmapMapping(core: CoreMm, inode: Inode, from: number, to: number, details: ZapDetails): Steps<void> {
  yield* call(inode.iMmapLock.read());
  for (const { mm, vma, first, last } of yield* call(placesOf(inode, from, to))) {
    yield* call(zapVmaRange(core, mm, vma, first, last, 'CLEAR', details));
  }
  yield inode.iMmapLock.up();
}

interface Place {
  readonly mm: Mm;
  readonly vma: Vma;
  readonly first: number;
  readonly last: number;
}

/** The parts of VMAs that map pages [from, to), also of VMAs that munmap has taken out but not unmapped yet. */
function* placesOf(inode: Inode, from: number, to: number): Steps<readonly Place[]> {
  // i_mmap_rwsem is held: mms join and leave, and VMAs change their borders, only under it.
  for (const mm of inode.mms.peek()) mm.vmas.willRead(WALK);
  yield inode.mms.willRead(WALK);
  const places: Place[] = [];
  for (const mm of inode.mms.value) {
    for (const vma of [...mm.vmas.entries().map(([, value]) => value), ...mm.detached.value]) {
      if (vma.fields.file !== inode) continue;
      const { pgoff } = vma.fields;
      const low = Math.max(from, pgoff);
      const high = Math.min(to, pgoff + vma.pages);
      if (low < high) places.push({ mm, vma, first: vma.start + low - pgoff, last: vma.start + high - pgoff });
    }
  }
  return places;
}
