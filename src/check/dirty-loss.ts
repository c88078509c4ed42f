// dirty-loss: a write to a file's page that will never reach the disk. The last write to each page is noted; at the end
// it must be on disk, or in a cached page that somebody will write back.
import type { Sim, Undoable } from '../engine/sim.ts';
import { FRAME_ACCESS } from '../hw/frames.ts';
import type { CoreMm } from '../mm/core.ts';
import { FILE_OVERWRITTEN } from '../mm/file/dio-bio.ts';
import type { Inode } from '../mm/file/inode.ts';
import { CONTENT_DROPPED } from '../mm/ledger.ts';
import { PG_DIRTY, PG_WRITEBACK } from '../mm/page-flags.ts';
import { PTE_DIRTY, PTE_PRESENT } from '../mm/pte.ts';
import { type CheckContext, type Checker, reportFinding } from './checker.ts';

interface LastWrite {
  readonly inode: Inode;
  readonly index: number;
  readonly token: number;
  readonly by: string;
}

/** The last write to each page of each file, undone with the world. */
class LastWrites implements Undoable {
  private readonly sim: Sim;
  private readonly writes = new Map<number, Map<number, LastWrite>>();
  private readonly places: (readonly [Inode, number])[] = [];
  private readonly rows = new Map<string, number>();

  constructor(sim: Sim) {
    this.sim = sim;
  }

  set(inode: Inode, index: number, write: LastWrite | undefined): void {
    const key = `${inode.id}:${index}`;
    let row = this.rows.get(key);
    if (row === undefined) {
      row = this.places.length;
      this.places.push([inode, index]);
      this.rows.set(key, row);
    }
    const ofInode = this.writes.get(inode.id) ?? new Map<number, LastWrite>();
    this.writes.set(inode.id, ofInode);
    if (this.sim.journaled) this.sim.journal(this, row, ofInode.get(index));
    if (write === undefined) ofInode.delete(index);
    else ofInode.set(index, write);
  }

  undo(row: number, old: unknown): void {
    const [inode, index] = this.places[row]!;
    if (old === undefined) this.writes.get(inode.id)?.delete(index);
    else this.writes.get(inode.id)?.set(index, old as LastWrite);
  }

  all(): readonly LastWrite[] {
    return [...this.writes.values()].flatMap((ofInode) => [...ofInode.values()]);
  }
}

/** The file page that a frame caches now. */
function filePageOf(core: CoreMm, pfn: number): readonly [Inode, number] | undefined {
  const head = core.folios.headOf(pfn);
  const inode = core.rmapInode(head);
  if (inode === undefined || inode.kind !== 'file') return undefined;
  return [inode, core.folios.index.peek(head) + (pfn - head)];
}

export function dirtyLoss(): Checker {
  let last: LastWrites | null = null;
  return {
    name: 'dirty-loss',
    kind: 'end',
    attach({ sim, core }) {
      const writes = new LastWrites(sim);
      last = writes;
      sim.on(FRAME_ACCESS, (access) => {
        if (!access.write) return;
        const page = filePageOf(core, access.pfn);
        if (page === undefined) return;
        const by = access.through === 'iotlb' || access.through === 'io-pte' ? 'a device' : (sim.current?.name ?? '');
        writes.set(page[0], page[1], { inode: page[0], index: page[1], token: access.token, by });
      });
      // Direct IO replaces what was there: an older write through the page cache is not lost but overwritten.
      sim.on(FILE_OVERWRITTEN, ({ inode, index, token }) => {
        writes.set(inode, index, { inode, index, token, by: sim.current?.name ?? '' });
      });
      sim.on(CONTENT_DROPPED, ({ pfn, pages }) => {
        for (let at = pfn; at < pfn + pages; at++) {
          const page = filePageOf(core, at);
          if (page !== undefined) writes.set(page[0], page[1], undefined);
        }
      });
    },
    atEnd(context) {
      for (const write of last?.all() ?? []) judge(context, write);
    },
  };
}

function judge(context: CheckContext, { inode, index, token, by }: LastWrite): void {
  const { core } = context;
  const { folios } = core;
  if (index >= inode.sizePages.peek() || inode.disk.peek(index) === token) return;
  const head = inode.pages.peek(index) - 1;
  const page = head < 0 ? -1 : head + (index - folios.index.peek(head));
  const content = page < 0 ? inode.disk.peek(index) : core.frames.content.peek(page);
  if (page >= 0 && content === token) {
    if ((folios.flags.peek(head) & (PG_DIRTY | PG_WRITEBACK)) !== 0 || mappedDirty(core, inode, index)) return;
  } else if (page >= 0 && content !== inode.disk.peek(index)) {
    // Something newer than the noted write is in the page; it has a story of its own.
    return;
  }
  reportFinding(context, {
    kind: 'dirty-loss',
    message:
      page >= 0
        ? `'${core.frames.tokens.text(token)}', written by ${by} to page ${index} of ${inode.name}, is in a page that counts as clean: it will not reach the disk`
        : `'${core.frames.tokens.text(token)}', written by ${by} to page ${index} of ${inode.name}, was dropped with its page: the disk holds '${core.frames.tokens.text(inode.disk.peek(index))}'`,
    reasons: [
      page >= 0
        ? `pfn ${page} is neither dirty nor under writeback, and no page table entry of it is dirty`
        : 'the page left the page cache as clean',
    ],
    objects: [inode.name, ...(page >= 0 ? [`pfn ${page}`] : [])],
    about: page >= 0 ? [folios.flags.base + head, core.frames.content.base + page] : [inode.pages.base + index],
    details: {
      file: inode.name,
      page: index,
      lost: core.frames.tokens.text(token),
      state: page >= 0 ? 'clean' : 'dropped',
    },
    objectClass: page >= 0 ? 'clean page' : 'dropped page',
    labels: ['end'],
  });
}

/** Does any page table hold the page with its dirty bit set? (Writeback would find it.) */
function mappedDirty(core: CoreMm, inode: Inode, index: number): boolean {
  for (const mm of inode.mms.peek()) {
    for (const [, vma] of core.sim.unwatched(() => mm.vmas.entries())) {
      if (vma.fields.file !== inode || !vma.fields.shared) continue;
      const vpn = vma.addressOf(index);
      if (vpn === undefined) continue;
      const { pte } = mm.pageTable.peekLeaf(vpn);
      if ((pte.bits & PTE_PRESENT) !== 0 && (pte.bits & PTE_DIRTY) !== 0) return true;
    }
  }
  return false;
}
