// Reverse mapping (mm/rmap.c): where a folio may be mapped. The walk gives places; whether a PTE there maps the folio is
// seen under its page-table lock.

import type { Steps } from '../../engine/process.ts';
import type { RwSem } from '../../engine/rwsem.ts';
import { step } from '../../engine/step.ts';
import type { CoreMm } from '../core.ts';
import type { Inode } from '../file/inode.ts';
import type { Vma } from '../mapping/vma.ts';
import type { Mm } from '../mm.ts';
import { PG_ANON } from '../page-flags.ts';
import type { AnonVma } from './anon-vma.ts';

const WALK = step('rmap_walk', 'op');

/** A VMA that may map the folio; `vpn` is where its first page (or the first that the VMA covers) would be. */
export interface RmapPlace {
  readonly mm: Mm;
  readonly vma: Vma;
  readonly vpn: number;
  /** Pages of the folio that the VMA covers from `vpn` on. */
  readonly pages: number;
  /** Offset in the folio of the page at `vpn`. */
  readonly offset: number;
}

/** The lock that keeps the walk's places valid: anon_vma->rwsem or i_mmap_rwsem; null for a truncated folio. */
export function rmapLock(core: CoreMm, head: number): RwSem | null {
  const anonVma = core.rmapAnon(head);
  if (anonVma !== undefined) return anonVma.lock;
  return core.rmapInode(head)?.iMmapLock ?? null;
}

/** The places of a folio, in a deterministic order: mms in order of joining, VMAs by address. */
export function* rmapPlaces(core: CoreMm, head: number): Steps<readonly RmapPlace[]> {
  const { folios } = core;
  const family: AnonVma | Inode | undefined = folios.has(head, PG_ANON) ? core.rmapAnon(head) : core.rmapInode(head);
  if (family === undefined) return [];
  // The lock is held: mms join and VMAs change only under it.
  for (const mm of family.mms.peek()) mm.vmas.willRead(WALK);
  folios.mapping.willRead(head, WALK);
  yield family.mms.willRead(WALK);
  const first = folios.index.get(head);
  const pages = folios.pagesOf(head);
  const places: RmapPlace[] = [];
  for (const mm of family.mms.value) {
    const mapped = mm.vmas.entries().map(([, vma]) => vma);
    for (const vma of [...mapped, ...mm.detached.value]) {
      const { file, anonVma, pgoff } = vma.fields;
      if (family !== file && family !== anonVma) continue;
      if (family !== anonVma && folios.has(head, PG_ANON)) continue;
      const from = Math.max(first, pgoff);
      const to = Math.min(first + pages, pgoff + vma.pages);
      if (from < to) places.push({ mm, vma, vpn: vma.start + (from - pgoff), pages: to - from, offset: from - first });
    }
  }
  return places;
}
