// Making an anonymous page (mm/rmap.c __anon_vma_prepare, folio_add_new_anon_rmap): what every handler does that gives a
// process a page of its own. Small folios; huge ones are mapped in fault-huge.ts.
import type { Steps } from '../../engine/process.ts';
import { type Announced, type Step, step } from '../../engine/step.ts';
import type { Gfp } from '../alloc/page-alloc.ts';
import type { CoreMm } from '../core.ts';
import type { Vma } from '../mapping/vma.ts';
import type { Mm } from '../mm.ts';
import { PG_ANON, PG_MLOCKED, PG_SWAPBACKED, PG_UPTODATE } from '../page-flags.ts';
import { AnonVma } from '../rmap/anon-vma.ts';

const PREPARE = step('__anon_vma_prepare', 'op');

/** GFP of a page for user memory (GFP_HIGHUSER_MOVABLE). PF_MEMALLOC_PIN strips the movable zones. */
export function userGfp(core: CoreMm, memallocPin: boolean, zero: boolean, vma?: Vma): Gfp {
  return { order: 0, movable: !pinnableOnly(core, memallocPin), zero, ...policyNode(vma) };
}

/** policy_node: the node to which mbind has bound the mapping. */
export function policyNode(vma: Vma | undefined): { readonly node?: number } {
  const node = vma?.fields.bindNode ?? null;
  return node === null ? {} : { node };
}

/** current_gfp_context: may this allocation not use MOVABLE and CMA memory? */
export function pinnableOnly(core: CoreMm, memallocPin: boolean): boolean {
  return memallocPin && core.kernel.has('gup.longterm.allocates-pinnable');
}

/**
 * anon_vma_prepare: give the VMA an anon_vma before its first anonymous page; returns the VMA that has it. mmap_lock is
 * held (for read is enough: the kernel looks again under page_table_lock).
 */
export function* anonVmaPrepare(core: CoreMm, mm: Mm, vma: Vma): Steps<Vma> {
  if (vma.fields.anonVma !== null) return vma;
  yield mm.vmas.willUpdate(PREPARE);
  const now = mm.vmaAt(vma.start);
  if (now === undefined) throw new Error(`${mm.name}: the VMA of ${vma.fields.name} went away during a fault`);
  // Another thread's fault was first.
  if (now.fields.anonVma !== null) return now;
  const anonVma = mergeableAnonVma(mm, now) ?? newAnonVma(core, mm, now);
  const prepared = now.with({ anonVma });
  mm.vmas.set(now.start, prepared);
  return prepared;
}

/** find_mergeable_anon_vma: that of a neighbour with which this VMA could have been one. */
function mergeableAnonVma(mm: Mm, vma: Vma): AnonVma | null {
  const after = mm.vmas.get(vma.end);
  const before = mm.vmas.floor(vma.start - 1)?.[1];
  for (const near of [after, before]) {
    if (near === undefined || near.fields.anonVma === null) continue;
    if (near.start !== vma.end && near.end !== vma.start) continue;
    if (near.fields.file !== vma.fields.file || near.indexOf(vma.start) !== vma.fields.pgoff) continue;
    // list_is_singular(anon_vma_chain): one of this process's own, not one that came through fork.
    if (near.fields.anonVma.mms.peek()[0] === mm) return near.fields.anonVma;
  }
  return null;
}

function newAnonVma(core: CoreMm, mm: Mm, vma: Vma): AnonVma {
  // Two anon_vmas may follow each other at one place, so the actor's own number goes with the name.
  const number = core.sim.current?.nextNumber() ?? 0;
  const anonVma = new AnonVma(core.sim, `${mm.name}/${vma.fields.name}@${vma.start}#${number}`);
  // Nobody else can reach it yet.
  core.sim.unwatched(() => {
    anonVma.mms.value = [mm];
  });
  return core.addAnonVma(anonVma);
}

/** Announce making the small folio `head` a new anonymous page. */
export function willAddNewAnon(core: CoreMm, head: number, at: Step): Announced {
  const { folios } = core;
  folios.flags.willUpdate(head, at);
  folios.mapping.willUpdate(head, at);
  folios.anonExclusive.willUpdate(head, at);
  return folios.willMap(head, head, at);
}

/**
 * folio_add_new_anon_rmap and __folio_mark_uptodate: mapped once, at `vpn`, exclusive to the process. In a step
 * announced by `willAddNewAnon`, before anybody else can see the folio.
 */
export function addNewAnonNow(core: CoreMm, vma: Vma, vpn: number, head: number): void {
  const { folios } = core;
  if (vma.fields.anonVma === null) throw new Error(`an anonymous page in ${vma.fields.name}, which has no anon_vma`);
  folios.change(head, PG_UPTODATE | PG_SWAPBACKED | PG_ANON | (vma.fields.locked ? PG_MLOCKED : 0));
  folios.mapping.set(head, vma.fields.anonVma.id);
  folios.index.set(head, vma.indexOf(vpn));
  folios.anonExclusive.set(head, core.kernel.has('cow.anon-exclusive') ? 1 : 0);
  folios.addPteMapping(head, head);
}
