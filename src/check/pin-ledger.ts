// The checkers' own books: pins per folio and per owner, charges per account and owner, from the ledger's events. Their
// writes go through the journal, so that a rewound world has rewound books.
import { Column } from '../engine/column.ts';
import type { Sim, Undoable } from '../engine/sim.ts';
import { PMD_PAGES } from '../hw/machine.ts';
import type { CoreMm } from '../mm/core.ts';
import { type Folios, PUD_PAGES } from '../mm/folio.ts';
import {
  ACCOUNT_GONE,
  CHARGED,
  type FrameRun,
  OWNER_GONE,
  OWNER_MOVED,
  PIN_DROPPED,
  PIN_TAKEN,
  REFERENCE_DROPPED,
  REFERENCE_TAKEN,
} from '../mm/ledger.ts';

/** A map whose changes can be undone. */
class Book<V> implements Undoable {
  private readonly sim: Sim;
  private readonly values = new Map<string, V>();
  private readonly keys: string[] = [];
  private readonly rows = new Map<string, number>();

  constructor(sim: Sim) {
    this.sim = sim;
  }

  get(key: string): V | undefined {
    return this.values.get(key);
  }

  set(key: string, value: V): void {
    let row = this.rows.get(key);
    if (row === undefined) {
      row = this.keys.length;
      this.keys.push(key);
      this.rows.set(key, row);
    }
    if (this.sim.journaled) this.sim.journal(this, row, this.values.get(key));
    this.values.set(key, value);
  }

  undo(row: number, old: unknown): void {
    const key = this.keys[row]!;
    if (old === undefined) this.values.delete(key);
    else this.values.set(key, old as V);
  }

  /** Keys in order of first use: the order of the run. */
  entries(): readonly (readonly [string, V])[] {
    return this.keys.filter((key) => this.values.has(key)).map((key) => [key, this.values.get(key)!] as const);
  }
}

export interface AccountLine {
  readonly account: string;
  readonly owner: string;
  readonly pages: number;
}

/** Pages that an owner holds, and the frame it took or dropped last. */
export interface Outstanding {
  readonly pages: number;
  readonly pfn: number;
}

/**
 * Pages held: of large folios by head, of small ones by page. Which it was does not change while a page is held; once it is
 * not, the folio may be another, and by the time that the ledger hears of it nobody should ask.
 */
class HeldPages {
  private readonly large: Column;
  private readonly small: Column;

  constructor(sim: Sim, name: string, rows: number) {
    this.large = new Column(sim, `ledger.${name} of large folios`, { rows });
    this.small = new Column(sim, `ledger.${name}`, { rows });
  }

  /** Pages [pfn, until) of one 2 MiB block, which is (part of) one large folio or all small pages. */
  add({ folios }: CoreMm, pfn: number, until: number, by: 1 | -1): void {
    const { large, small } = this;
    const head = by > 0 ? largeHead(folios, pfn) : (this.heldHead(pfn) ?? largeHead(folios, pfn));
    if (head === undefined) small.addRange(pfn, until - 1, by);
    else large.set(head, large.peek(head) + by * (until - pfn));
  }

  /** The head by which the folio of a page is held; undefined: by none. */
  private heldHead(pfn: number): number | undefined {
    return [pfn - (pfn % PMD_PAGES), pfn - (pfn % PUD_PAGES)].find((head) => this.large.peek(head) > 0);
  }

  of(head: number): number {
    return this.large.peek(head) + this.small.peek(head);
  }

  /** The first folio of first..last of which something is held; last + 1: there is none. */
  noneUntil(first: number, last: number): number {
    const end = this.small.firstOutside(first, last, 0, 0);
    return this.large.firstOutside(first, Math.min(last, end - 1), 0, 0);
  }
}

function largeHead(folios: Folios, pfn: number): number | undefined {
  const head = folios.headOf(pfn - (pfn % PMD_PAGES));
  return folios.isLarge(head) ? head : undefined;
}

export class PinLedger {
  private readonly pins: HeldPages;
  private readonly references: HeldPages;
  private readonly outstanding: Book<Outstanding>;
  private readonly charges: Book<AccountLine>;
  private readonly totals: Book<number>;
  private readonly gone: Book<string>;
  private readonly homes: Book<string>;
  private readonly closed: Book<boolean>;
  /** Told when an account's total falls below zero. */
  onNegative: ((account: string, total: number, owner: string) => void) | null = null;

  constructor(sim: Sim, core: CoreMm) {
    this.pins = new HeldPages(sim, 'pins', core.machine.frames);
    this.references = new HeldPages(sim, 'references', core.machine.frames);
    this.outstanding = new Book(sim);
    this.charges = new Book(sim);
    this.totals = new Book(sim);
    this.gone = new Book(sim);
    this.homes = new Book(sim);
    this.closed = new Book(sim);
    const { pins, references } = this;
    sim.on(PIN_TAKEN, ({ runs, owner }) => this.count(core, pins, runs, owner, 1));
    sim.on(PIN_DROPPED, ({ runs, owner }) => this.count(core, pins, runs, owner, -1));
    sim.on(REFERENCE_TAKEN, ({ runs, owner }) => this.count(core, references, runs, owner, 1));
    sim.on(REFERENCE_DROPPED, ({ runs, owner }) => this.count(core, references, runs, owner, -1));
    sim.on(CHARGED, ({ account, owner, pages }) => this.charge(account, owner, pages));
    sim.on(OWNER_GONE, ({ owner, why }) => this.gone.set(owner, why ?? ''));
    sim.on(ACCOUNT_GONE, ({ account }) => this.closed.set(account, true));
    sim.on(OWNER_MOVED, ({ owner, account }) => this.homes.set(owner, account));
  }

  private count(core: CoreMm, held: HeldPages, runs: readonly FrameRun[], owner: string, by: 1 | -1): void {
    let pages = 0;
    for (const run of runs) {
      pages += run.pages;
      for (let pfn = run.pfn, end = run.pfn + run.pages; pfn < end; ) {
        const until = Math.min(end, pfn - (pfn % PMD_PAGES) + PMD_PAGES);
        held.add(core, pfn, until, by);
        pfn = until;
      }
    }
    const before = this.outstanding.get(owner)?.pages ?? 0;
    this.outstanding.set(owner, { pages: before + by * pages, pfn: runs[0]?.pfn ?? 0 });
  }

  private charge(account: string, owner: string, pages: number): void {
    const key = `${account}|${owner}`;
    const before = this.charges.get(key)?.pages ?? 0;
    this.charges.set(key, { account, owner, pages: before + pages });
    const total = (this.totals.get(account) ?? 0) + pages;
    this.totals.set(account, total);
    if (total < 0) this.onNegative?.(account, total, owner);
  }

  /** Pins on a folio that are on the books. */
  livePins(head: number): number {
    return this.pins.of(head);
  }

  /** Plain references to a folio that somebody keeps. */
  liveReferences(head: number): number {
    return this.references.of(head);
  }

  /** The first folio of first..last with a pin on the books; last + 1: there is none. */
  unpinnedUntil(first: number, last: number): number {
    return this.pins.noneUntil(first, last);
  }

  /** Owners that will drop nothing any more, with what they still hold; `why` is empty for one that is gone itself. */
  goneOwners(): readonly (Outstanding & { readonly owner: string; readonly why: string })[] {
    return this.outstanding
      .entries()
      .filter(([owner, { pages }]) => pages !== 0 && this.gone.get(owner) !== undefined)
      .map(([owner, held]) => ({ ...held, owner, why: this.gone.get(owner) ?? '' }));
  }

  /** Charges that nobody will give back, or that stand on the wrong account. */
  strayCharges(): readonly { readonly line: AccountLine; readonly home: string | undefined; readonly gone: boolean }[] {
    return this.charges
      .entries()
      .map(([, line]) => line)
      .filter(({ pages }) => pages !== 0)
      .map((line) => ({ line, home: this.homes.get(line.owner), gone: this.gone.get(line.owner) !== undefined }))
      .filter(({ line, home, gone }) => {
        const astray = home !== undefined && home !== line.account;
        if (this.closed.get(line.account) !== true) return gone || astray;
        // What stood on an account that died is nobody's loss, unless the account that answers now never got it.
        return astray && !gone && (this.charges.get(`${home}|${line.owner}`)?.pages ?? 0) === 0;
      });
  }
}
