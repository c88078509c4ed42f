// incoherent-mapping: a device or guest reaches another frame than the process does at the address that was mapped for
// it. Views are compared where they end: when the mapping is removed, and at the end of the run.
import type { Sim, Undoable } from '../engine/sim.ts';
import { PMD_PAGES } from '../hw/machine.ts';
import type { CoreMm } from '../mm/core.ts';
import { VIEW_ADDED, VIEW_REMOVED, type View } from '../mm/ledger.ts';
import { pmdOf } from '../mm/page-table.ts';
import { PMD_INVALID, PTE_HWPOISON, PTE_MIGRATION, PTE_SWAP, pteNone, ptePresent } from '../mm/pte.ts';
import { type CheckContext, type Checker, reportFinding } from './checker.ts';

/** The views that exist now. */
class Views implements Undoable {
  private readonly sim: Sim;
  private live: readonly View[] = [];

  constructor(sim: Sim) {
    this.sim = sim;
  }

  get all(): readonly View[] {
    return this.live;
  }

  change(views: readonly View[]): void {
    if (this.sim.journaled) this.sim.journal(this, 0, this.live);
    this.live = views;
  }

  undo(_row: number, old: unknown): void {
    this.live = old as readonly View[];
  }
}

export function incoherentMapping(): Checker {
  let views: Views | null = null;
  return {
    name: 'incoherent-mapping',
    kind: 'end',
    attach(context) {
      const live = new Views(context.sim);
      views = live;
      context.sim.on(VIEW_ADDED, (view) => live.change([...live.all, view]));
      context.sim.on(VIEW_REMOVED, (view) => {
        const removed = live.all.filter((other) => sameView(other, view));
        for (const one of removed) compare(context, one);
        live.change(live.all.filter((other) => !removed.includes(other)));
      });
    },
    atEnd(context) {
      for (const view of views?.all ?? []) compare(context, view);
    },
  };
}

const WHO = { dma: 'the device', guest: 'the guest', pin: 'the holder of the pin' } as const;

function sameView(a: View, b: View): boolean {
  return a.holder === b.holder && a.page === b.page;
}

/**
 * What is at `vpn` for the process: a frame, 0 for nothing present, -1 for no mapping at all. What it may do with the page
 * is no matter: an entry of PROT_NONE or of NUMA hinting keeps it, the swap cache brings it back, and so does a migration
 * that fails, as it does with a pinned page. Undefined: somebody is in the middle of changing the entry.
 */
function processFrame(core: CoreMm, view: View, vpn: number): number | undefined {
  const { pageTable } = view.mm;
  const { pte, huge } = pageTable.peekLeaf(vpn);
  if (ptePresent(pte.bits) || (pte.bits & (PTE_MIGRATION | PMD_INVALID)) !== 0)
    return huge ? pte.pfn + (vpn % PMD_PAGES) : pte.pfn;
  if ((pte.bits & PTE_SWAP) !== 0) return swapCached(core, pte.pfn);
  if (pteNone(pte.bits) && pageTable.ptl.isHeld(pmdOf(vpn))) return undefined;
  const vma = core.sim.unwatched(() => view.mm.vmaAt(vpn));
  if (vma === undefined) return -1;
  const { file } = vma.fields;
  // Nothing present, but the page cache has the page that a touch would map.
  if (file !== null) {
    const index = vma.indexOf(vpn);
    const cached = file.pages.peek(index);
    if (cached < 0) return swapCached(core, -cached - 1);
    const head = cached - 1;
    const poisoned = (pte.bits & PTE_HWPOISON) !== 0;
    if (head >= 0 && (vma.fields.shared || !poisoned)) return head + index - core.folios.index.peek(head);
  }
  return 0;
}

/** The page that the swap cache has for a slot; 0: it would be read anew. */
function swapCached({ swap, folios }: CoreMm, slot: number): number {
  const head = swap.cache.peek(slot) - 1;
  return head < 0 ? 0 : head + slot - (folios.swapEntry.peek(head) - 1);
}

function compare(context: CheckContext, view: View): void {
  const { core } = context;
  // The process has exited, or runs another program: there is no other side to agree with.
  if (view.mm.users.peek() === 0) return;
  let apart = 0;
  let first = -1;
  let firstFrames: readonly [number, number] = [0, 0];
  for (let offset = 0, step = 1; offset < view.pages; offset += step) {
    const run = view.runAt(offset);
    if (run.pfn === 0) {
      step = Math.max(1, run.pages);
      continue;
    }
    // Where both sides rise together nothing is to be said.
    const together = view.mm.pageTable.peekRising(view.vpn + offset, run.pfn, Math.min(run.pages, view.pages - offset));
    if (together > 0) {
      step = together;
      continue;
    }
    step = 1;
    const through = run.pfn;
    const own = processFrame(core, view, view.vpn + offset);
    if (own === through || own === undefined) continue;
    // A guest faults a page that is swapped out in like anybody else: not apart until it comes back.
    if (own === 0 && view.kind === 'guest') continue;
    if (first < 0) {
      first = offset;
      firstFrames = [through, own];
    }
    apart += step;
  }
  if (first < 0) return;
  const [through, own] = firstFrames;
  const address = (page: number) => `0x${(page * 4096).toString(16)}`;
  const who = WHO[view.kind];
  const processSide =
    own > 0
      ? `the process reaches pfn ${own}`
      : own === 0
        ? 'the process has no page there any more'
        : 'the address is unmapped';
  reportFinding(context, {
    kind: 'incoherent-mapping',
    message: `${who} reaches pfn ${through} at ${address(view.page + first)} of ${view.holder}, but ${processSide} at ${address(view.vpn + first)} of ${view.mm.name}`,
    reasons: [
      `${view.pages} page${view.pages === 1 ? '' : 's'} at ${address(view.vpn)} of ${view.mm.name} were mapped at ${address(view.page)} of ${view.holder}; ${apart} of them ${apart === 1 ? 'is' : 'are'} no longer the same memory`,
    ],
    objects: [view.holder, view.mm.name, `pfn ${through}`],
    about: [
      core.folios.refcount.base + core.folios.headOf(through),
      core.folios.mapcount.base + core.folios.headOf(through),
    ],
    details: {
      holder: view.holder,
      address: (view.page + first) * 4096,
      pages: apart,
      through,
      process: own > 0 ? own : own === 0 ? 'no page' : 'unmapped',
      kind: view.kind,
    },
    objectClass: `${view.kind} ${own > 0 ? 'other frame' : 'no frame'}`,
    labels: [view.holder],
  });
}
