// isolation-breach: an access that its owner has no right to. A write through a view of memory that the process could not
// write when it was mapped; and memory of memfd_secret reached by a device or by the kernel's own mapping.
import type { Sim, Undoable } from '../engine/sim.ts';
import { FRAME_ACCESS, type FrameAccess } from '../hw/frames.ts';
import type { CoreMm } from '../mm/core.ts';
import { VIEW_ADDED, VIEW_REMOVED, type View } from '../mm/ledger.ts';
import { type CheckContext, type Checker, reportFinding } from './checker.ts';

/** Pages of a view that were read-only for the process when the view was made: [first, end) in pages of the holder. */
interface ReadOnly {
  readonly view: View;
  readonly first: number;
  readonly end: number;
}

/** What is read-only now, undone with the world. */
class ReadOnlyParts implements Undoable {
  private readonly sim: Sim;
  private live: readonly ReadOnly[] = [];

  constructor(sim: Sim) {
    this.sim = sim;
  }

  find({ holder, space = holder, page }: FrameAccess): ReadOnly | undefined {
    return this.live.find((part) => part.view.holder === space && part.first <= page && page < part.end);
  }

  add(core: CoreMm, view: View): void {
    const parts: ReadOnly[] = [];
    for (const vma of core.sim.unwatched(() => view.mm.vmasIn(view.vpn, view.vpn + view.pages))) {
      if (vma.fields.write) continue;
      const from = Math.max(vma.start, view.vpn) - view.vpn;
      const to = Math.min(vma.end, view.vpn + view.pages) - view.vpn;
      parts.push({ view, first: view.page + from, end: view.page + to });
    }
    if (parts.length > 0) this.change([...this.live, ...parts]);
  }

  remove(view: View): void {
    const rest = this.live.filter(({ view: other }) => other.holder !== view.holder || other.page !== view.page);
    if (rest.length < this.live.length) this.change(rest);
  }

  private change(live: readonly ReadOnly[]): void {
    if (this.sim.journaled) this.sim.journal(this, 0, this.live);
    this.live = live;
  }

  undo(_row: number, old: unknown): void {
    this.live = old as readonly ReadOnly[];
  }
}

export function isolationBreach(): Checker {
  return {
    name: 'isolation-breach',
    kind: 'step',
    attach(context) {
      const { sim, core } = context;
      const parts = new ReadOnlyParts(sim);
      sim.on(VIEW_ADDED, (view) => parts.add(core, view));
      sim.on(VIEW_REMOVED, (view) => parts.remove(view));
      sim.on(FRAME_ACCESS, (access) => {
        if (access.madeFor !== access.generation) return;
        const part = access.write ? parts.find(access) : undefined;
        if (part !== undefined) reportWrite(context, access, part);
        else if (access.through !== 'pte' && access.through !== 'tlb') judgeSecret(context, access);
      });
    },
  };
}

function reportWrite(context: CheckContext, access: FrameAccess, { view }: ReadOnly): void {
  const hex = (page: number) => `0x${(page * 4096).toString(16)}`;
  const address = hex(view.vpn + access.page - view.page);
  const { core, sim } = context;
  reportFinding(context, {
    kind: 'isolation-breach',
    message: `${sim.current?.name} writes '${core.frames.tokens.text(access.token)}' to pfn ${access.pfn} at ${hex(access.page)} of ${access.holder}, memory that ${view.mm.name} may only read`,
    reasons: [`${address} of ${view.mm.name} was not writable when it was mapped for ${access.holder}`],
    objects: [`pfn ${access.pfn}`, access.holder, view.mm.name],
    about: lifeOf(core, access.pfn),
    details: { what: 'write', pfn: access.pfn, holder: access.holder, through: access.through },
    objectClass: `read-only ${access.through}`,
  });
}

function judgeSecret(context: CheckContext, access: FrameAccess): void {
  const { core, sim } = context;
  const inode = core.rmapInode(core.folios.headOf(access.pfn));
  if (inode?.kind !== 'secret') return;
  reportFinding(context, {
    kind: 'isolation-breach',
    message: `${sim.current?.name} reaches pfn ${access.pfn} of ${inode.name} as ${access.holder}: secret memory, which nothing but page tables of its users may map`,
    reasons: ['the page is not in the direct map of the kernel: a real access would fault, or leak the secret'],
    objects: [`pfn ${access.pfn}`, access.holder, inode.name],
    about: lifeOf(core, access.pfn),
    details: { what: 'secret', pfn: access.pfn, holder: access.holder, through: access.through },
    objectClass: `secret ${access.through}`,
  });
}

/** Object ids whose steps tell the life of a frame. */
function lifeOf(core: CoreMm, pfn: number): readonly number[] {
  const head = core.folios.headOf(pfn);
  return [core.folios.refcount.base + head, core.folios.mapcount.base + head, core.frames.content.base + pfn];
}
