// FOLL_FORCE writes to a private mapping that the process may not write: COW is broken first, and the copy is taken through
// its read-only entry. Before 4.9 the loop asked for no more than a read after that, whatever it would find.
import type { CoreMm } from '../core.ts';
import type { Vma } from '../mapping/vma.ts';
import { hex } from '../page-table.ts';
import type { GupFlags } from './gup-flags.ts';

/** After VM_FAULT_WRITE: does the rest of the walk forget that it is to write (19be0eaffa3a)? */
export function dropsWrite(core: CoreMm, vma: Vma, flags: GupFlags): boolean {
  return flags.force && flags.write && !vma.fields.write && !core.kernel.has('gup.force.no-write-drop');
}

/** A walk that is to write has taken a page of a private mapping as if for reading: is it the copy, at least? */
export function checkForcedWrite({ sim, folios, current }: CoreMm, vma: Vma, vpn: number, head: number): void {
  if (vma.fields.shared || folios.isAnon(head)) return;
  const { name } = vma.fields;
  sim.report({
    kind: 'isolation-breach',
    message: `${current.process.name} gets the page cache page pfn ${head} for a forced write at ${hex(vpn)} of the private mapping '${name}'`,
    reasons: ['COW was broken, the copy went away again, and the walk no longer asked for a page to write'],
    actors: [current.process.name],
    objects: [`pfn ${head}`],
    steps: [],
    details: { pfn: head },
    identity: 'isolation-breach|__get_user_pages|forced write',
  });
}
