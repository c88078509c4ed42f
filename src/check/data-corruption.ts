// data-corruption: the data of a direct read went to pages that the process does not have any more. The buffer is looked at
// when the kernel reports the read as done; what the process threw away itself (munmap, DONTNEED, truncation) is not lost.
import type { Sim, Undoable } from '../engine/sim.ts';
import type { CoreMm } from '../mm/core.ts';
import { DIRECT_READ_DONE, type DirectReadDone } from '../mm/dio-bio.ts';
import { CONTENT_DROPPED } from '../mm/ledger.ts';
import { PTE_SWAP } from '../mm/pte.ts';
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

  /** Dropped, and not freed since. */
  has(pfn: number): boolean {
    return this.generations.get(pfn) === this.core.frames.peekGeneration(pfn);
  }

  undo(pfn: number, old: unknown): void {
    if (old === undefined) this.generations.delete(pfn);
    else this.generations.set(pfn, old as number);
  }
}

export function dataCorruption(): Checker {
  return {
    name: 'data-corruption',
    kind: 'end',
    attach(context) {
      const { sim, core } = context;
      const dropped = new Dropped(sim, core);
      sim.on(CONTENT_DROPPED, ({ pfn, pages }) => {
        for (let at = pfn; at < pfn + pages; at++) dropped.add(at);
      });
      sim.on(DIRECT_READ_DONE, (done) => {
        for (const [i, pfn] of done.frames.entries()) if (!dropped.has(pfn)) judge(context, done, pfn, done.vpn + i);
      });
    },
  };
}

function judge(context: CheckContext, { mm, owner }: DirectReadDone, pfn: number, vpn: number): void {
  const { core, sim } = context;
  const { folios, frames } = core;
  const own = mm.pageTable.peekFrame(vpn);
  if (own === pfn) return;
  const { pte } = mm.pageTable.peekLeaf(vpn);
  const vma = sim.unwatched(() => mm.vmaAt(vpn));
  // On its way to swap or to another frame: whoever comes back for it finds this page or its contents. A shared page
  // without an entry is still in its file.
  if (vma === undefined || (pte.bits & PTE_SWAP) !== 0) return;
  if (own === 0 && vma.fields.file !== null) return;
  const address = `0x${(vpn * 4096).toString(16)}`;
  const instead = own === 0 ? 'there is no page any more, a touch gives zeroes' : `the process has pfn ${own}`;
  reportFinding(context, {
    kind: 'data-corruption',
    message: `'${frames.tokens.text(frames.content.peek(pfn))}', read by ${owner} to ${address} of ${mm.name}, went to pfn ${pfn}, but ${instead}`,
    reasons: ['the page was replaced or dropped between the look-up of the buffer and the end of the IO'],
    objects: [mm.name, `pfn ${pfn}`],
    about: [folios.refcount.base + pfn, folios.mapcount.base + pfn, folios.flags.base + pfn, frames.content.base + pfn],
    details: {
      owner,
      address: vpn * 4096,
      pfn,
      process: own === 0 ? 'no page' : own,
      lost: frames.tokens.text(frames.content.peek(pfn)),
    },
    objectClass: own === 0 ? 'no page' : 'other page',
    labels: ['direct read'],
  });
}
