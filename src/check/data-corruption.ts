// data-corruption: the data of a direct read went to pages that the process does not have any more. The buffer is looked at
// once the read is complete; what the process threw away itself (munmap, DONTNEED, truncation) is not lost.
import type { Sim, Undoable } from '../engine/sim.ts';
import type { CoreMm } from '../mm/core.ts';
import { BUFFER_SEEN, type BufferSeen } from '../mm/file/dio-bio.ts';
import { CONTENT_DROPPED } from '../mm/ledger.ts';
import { type CheckContext, type Checker, reportFinding } from './checker.ts';

/** Frames whose contents were dropped on purpose, with the generation that they had then. Undone with the world. */
class Dropped implements Undoable {
  private readonly core: CoreMm;
  private readonly sim: Sim;
  private readonly generations = new Map<number, number>();

  constructor(sim: Sim, core: CoreMm) {
    this.sim = sim;
    this.core = core;
  }

  add(pfn: number): void {
    if (this.sim.journaled) this.sim.journal(this, pfn, this.generations.get(pfn));
    this.generations.set(pfn, this.core.frames.peekGeneration(pfn));
  }

  /** Was it dropped when it was of that generation, and not again since? */
  has(pfn: number, generation: number): boolean {
    return this.generations.get(pfn) === generation;
  }

  undo(pfn: number, old: unknown): void {
    if (old === undefined) this.generations.delete(pfn);
    else this.generations.set(pfn, old as number);
  }
}

export function dataCorruption(): Checker {
  return {
    name: 'data-corruption',
    kind: 'step',
    attach(context) {
      const { sim, core } = context;
      const dropped = new Dropped(sim, core);
      // Whoever drops a page takes its entry away in the same step, which the look announced.
      sim.on(CONTENT_DROPPED, ({ pfn, pages }) => {
        for (let at = pfn; at < pfn + pages; at++) dropped.add(at);
      });
      sim.on(BUFFER_SEEN, (seen) => {
        if (!dropped.has(seen.pfn, seen.generation)) judge(context, seen);
      });
    },
  };
}

function judge(context: CheckContext, seen: BufferSeen): void {
  const { core } = context;
  const { folios, frames } = core;
  const { mm, vpn, vma, pfn, own, owner } = seen;
  if (own === pfn && seen.ownGeneration === seen.generation) return;
  // On its way to swap or to another frame: whoever comes back for it finds this page or its contents. A shared page
  // without an entry is still in its file. A copy has what was read.
  if (vma === undefined || seen.waits) return;
  if (own === 0 ? vma.fields.file !== null : seen.ownToken === seen.token) return;
  const address = `0x${(vpn * 4096).toString(16)}`;
  const lost = frames.tokens.text(seen.token);
  const instead = own === 0 ? 'there is no page any more, a touch gives zeroes' : `the process has pfn ${own}`;
  reportFinding(context, {
    kind: 'data-corruption',
    message: `'${lost}', read by ${owner} to ${address} of ${mm.name}, went to pfn ${pfn}, but ${instead}`,
    reasons: ['the page was replaced or dropped between the look-up of the buffer and the end of the IO'],
    objects: [mm.name, `pfn ${pfn}`],
    about: [folios.refcount.base + pfn, folios.mapcount.base + pfn, folios.flags.base + pfn, frames.content.base + pfn],
    details: { owner, address: vpn * 4096, pfn, process: own === 0 ? 'no page' : own, lost },
    objectClass: own === 0 ? 'no page' : 'other page',
    labels: ['direct read'],
  });
}
