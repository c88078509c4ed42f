// refcount-underflow, -overflow and -leak. The first two judge the counters that a step announced; the leak compares, at
// the end, every folio's references with what explains them: mappings, caches, batches and pins whose owner lives.
import type { Process } from '../engine/process.ts';
import { READ } from '../engine/step.ts';
import { PMD_PAGES } from '../hw/machine.ts';
import type { CoreMm } from '../mm/core.ts';
import { referencesPerPage } from '../mm/gup/gup-grab.ts';
import {
  flagNames,
  PG_ANON,
  PG_HWPOISON,
  PG_IN_LRU_BATCH,
  PG_ISOLATED,
  PG_KSM,
  PG_RESERVED,
  PG_SWAPCACHE,
} from '../mm/page-flags.ts';
import { MOVE_BATCHES } from '../mm/reclaim/lru-move.ts';
import { type CheckContext, type Checker, reportFinding } from './checker.ts';
import type { PinLedger } from './pin-ledger.ts';

/** A count below zero by less than this came from too many puts; further below it wrapped. */
const UNDERFLOW_RANGE = 2 ** 24;

/** Called after each step (see `attach` in the list of checkers): counters that it announced must be in range. */
export function checkCounters(context: CheckContext, process: Process): void {
  const { folios } = context.core;
  const access = process.acted;
  for (const column of [folios.refcount, folios.mapcount]) {
    const first = column.base;
    const last = first + context.core.machine.frames - 1;
    for (let i = 0; i < access.count; i++) {
      if (access.kind[i] === READ) continue;
      const from = Math.max(access.lo[i]!, first);
      const to = Math.min(access.hi[i]!, last);
      for (let id = from; id <= to; id++) {
        id = first + column.firstOutside(id - first, to - first, 0, Number.POSITIVE_INFINITY);
        if (id > to) break;
        const what = column === folios.refcount ? 'refcount' : 'mapcount';
        reportCounter(context, id - first, column.peek(id - first), what, access.step.label);
      }
    }
  }
}

function reportCounter(context: CheckContext, pfn: number, value: number, what: string, label: string): void {
  const overflow = value < -UNDERFLOW_RANGE;
  reportFinding(context, {
    kind: overflow ? 'refcount-overflow' : 'refcount-underflow',
    message: overflow
      ? `the ${what} of pfn ${pfn} has wrapped to ${value}`
      : `the ${what} of pfn ${pfn} fell to ${value}: more was dropped than taken`,
    objects: [`pfn ${pfn}`],
    about: [context.core.folios.refcount.base + pfn],
    details: { pfn, value, counter: what },
    objectClass: what,
    labels: [label],
  });
}

/** A count of mappings, though no process has memory of the page's family any more: nobody will ever unmap it. */
function isMappedByNobody(core: CoreMm, head: number): boolean {
  // A page that KSM merged belongs to no family.
  if (core.folios.peekMapcount(head) <= 0 || core.folios.has(head, PG_KSM)) return false;
  return core.rmapAnon(head)?.mms.peek().length === 0;
}

/** References of a folio that state explains, without pins. Looks without a step: the run is over. */
function explained(core: CoreMm, head: number): number {
  const { folios } = core;
  const flags = folios.flags.peek(head);
  let references = core.sim.unwatched(() => folios.expectedRefs(head));
  if (isMappedByNobody(core, head)) references -= folios.peekMapcount(head);
  if ((flags & PG_IN_LRU_BATCH) !== 0) references += 1;
  if ((flags & PG_ISOLATED) !== 0) references += 1;
  // The idle count of a page of a DAX device belongs to its dev_pagemap (until 6.14).
  if (core.machine.zoneOf(head)?.kind === 'DEVICE') references += 1;
  // memory_failure keeps its reference for good.
  if ((flags & PG_HWPOISON) !== 0) references += 1;
  for (const perCpu of core.perCpu) {
    for (const batch of MOVE_BATCHES) for (const waiting of perCpu[batch].peek()) if (waiting === head) references += 1;
  }
  if (core.perCpu.some((perCpu) => perCpu.mlockBatch.peek().includes(head))) references += 1;
  return references;
}

/** refcount-leak: at the end. */
export function refcountLeak(ledger: PinLedger): Checker {
  return {
    name: 'refcount-leak',
    kind: 'end',
    attach() {},
    atEnd(context) {
      const { folios } = context.core;
      for (const { owner, pages, pfn, why } of ledger.goneOwners()) {
        reportFinding(context, {
          kind: pages > 0 ? 'refcount-leak' : 'refcount-underflow',
          message:
            pages > 0
              ? leftBehind(owner, pages, why)
              : `${owner} dropped ${-pages} pin${pages === -1 ? '' : 's'} more than it took`,
          reasons: pages > 0 ? [`one of them is pfn ${pfn}: it cannot be freed, moved or swapped any more`] : [],
          objects: [owner, `pfn ${pfn}`],
          about: [folios.refcount.base + folios.headOf(pfn)],
          details: { owner, pages, pfn },
          objectClass: 'pins of a gone owner',
          labels: [owner],
        });
      }
      const { refcount } = context.core.folios;
      for (let head = refcount.nextFilled(0); head >= 0; head = refcount.nextFilled(head)) {
        const plain = plainRun(context.core, ledger, head);
        if (plain === 0) checkFolio(context, ledger, head);
        head += Math.max(1, plain);
      }
    },
  };
}

function leftBehind(owner: string, count: number, why: string): string {
  const pages = `${count} page${count === 1 ? '' : 's'}`;
  if (why === '') return `${owner} is gone and left ${pages} pinned`;
  return `${why}, and ${pages} that ${owner} holds will never be given back`;
}

function checkFolio(context: CheckContext, ledger: PinLedger, head: number): void {
  const { core } = context;
  const { folios } = core;
  const references = folios.refcount.peek(head);
  if (folios.has(head, PG_RESERVED) || head === core.hugeZeroPfn) return;
  if (!folios.isAnon(head) && folios.mapping.peek(head) === 0) checkOrphan(context, head);
  const pins = ledger.livePins(head);
  const held = explained(core, head);
  const kept = ledger.liveReferences(head);
  const surplus = references - held - kept - pins * referencesPerPage(core, 'pin', folios.isLarge(head));
  if (surplus === 0) return;
  reportFinding(context, {
    kind: surplus > 0 ? 'refcount-leak' : 'refcount-underflow',
    message:
      surplus > 0
        ? `pfn ${head} is left with ${surplus} reference${surplus === 1 ? '' : 's'} that nobody will drop`
        : `pfn ${head} has ${-surplus} reference${surplus === -1 ? '' : 's'} fewer than its users hold`,
    reasons: [
      `refcount ${references}, of which ${held} from mappings and caches, ${kept === 0 ? '' : `${kept} kept by get_user_pages, `}and ${pins} pin${pins === 1 ? '' : 's'} on the books`,
      `flags: ${flagNames(folios.flags.peek(head)).join(' ') || 'none'}`,
    ],
    objects: [`pfn ${head}`],
    about: [folios.refcount.base + head],
    details: { pfn: head, refcount: references, surplus, pins },
    objectClass: folios.isAnon(head) ? 'anon folio' : 'folio',
    labels: ['end'],
  });
}

/** Truncation unmaps a page before it leaves its file: nobody will ever find a mapping that is left. */
function checkOrphan(context: CheckContext, head: number): void {
  const { folios } = context.core;
  const mapcount = folios.peekMapcount(head);
  if (mapcount <= 0) return;
  reportFinding(context, {
    kind: 'stale-mapping',
    message: `pfn ${head} has left its file and is still mapped ${mapcount} time${mapcount === 1 ? '' : 's'}: the process and the file part for good`,
    reasons: ['a page leaves the page cache only after every page table let go of it'],
    objects: [`pfn ${head}`],
    about: [folios.mapping.base + head, folios.mapcount.base + head, folios.largeMapcount.base + head],
    details: { state: 'orphan', pfn: head, mapcount },
    objectClass: 'orphan of a file',
    labels: ['end'],
  });
}

/**
 * By far the most common: small anonymous pages, each mapped once and held by nobody else, in no batch and no swap
 * cache: the mapping explains the one reference. How many of them there are from `head` on, alike (one PMD at most).
 */
function plainRun(core: CoreMm, ledger: PinLedger, head: number): number {
  const { refcount, mapcount, mapping, flags, order } = core.folios;
  const odd = PG_ANON | PG_SWAPCACHE | PG_IN_LRU_BATCH | PG_ISOLATED | PG_RESERVED;
  if (refcount.peek(head) !== 1 || mapcount.peek(head) !== 1 || (flags.peek(head) & odd) !== PG_ANON) return 0;
  if (order.peek(head) !== 0 || isMappedByNobody(core, head)) return 0;
  let end = refcount.endOfRun(head, head - (head % PMD_PAGES) + PMD_PAGES - 1);
  end = mapcount.endOfRun(head, end);
  end = mapping.endOfRun(head, end);
  end = flags.endOfRun(head, end);
  end = order.endOfRun(head, end);
  return ledger.unpinnedUntil(head, end) - head;
}
