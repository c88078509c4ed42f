// Columns: numbers addressed by row (one row per frame, no object per page), with ids, journal, digest and announcements
// like any other store. `Rows` says how they are kept.
import { hashText } from './hash.ts';
import type { Named } from './names.ts';
import { Rows, type RowWidth } from './rows.ts';
import type { Sim, Undoable } from './sim.ts';
import { ADD, type Announced, PERHAPS, READ, type Step, UPDATE, WRITE } from './step.ts';

export interface ColumnOptions {
  /** Value of rows never written; default 0. */
  readonly initial?: number;
  /** Width of a row; default 'i32'. 'f64' holds any integer up to 2^53. */
  readonly width?: RowWidth;
  /** Rows the column can address: gives the size of its id range. */
  readonly rows: number;
  /** Rows are far apart (page numbers of an address space): take ids from the sparse range. */
  readonly sparse?: boolean;
  /** One object with another column: the same ids, announced together (the fields of one entry). */
  readonly sameObjectAs?: Column;
  /** Name of a row in reports; default `name[row]`. */
  readonly rowName?: (row: number) => string;
  /** A value in words, for reports; default the number. */
  readonly valueText?: (value: number) => string;
  /** What became of a row, from the values of all columns of the object: for fields that only say something together. */
  readonly changeText?: ChangeText;
}

/** A field of one row, as it was or as it is. */
export type FieldOf = (column: Column) => number;
/** One line for reports (`none -> pfn 5 rw`); empty when there is nothing that a reader would see. */
export type ChangeText = (was: FieldOf, is: FieldOf) => string;

export class Column extends Rows implements Named, Undoable {
  readonly sim: Sim;
  readonly name: string;
  readonly base: number;
  private readonly hash: number;
  private readonly rowName: ((row: number) => string) | undefined;
  readonly valueText: ((value: number) => string) | undefined;
  readonly changeText: ChangeText | undefined;
  /** The first column of the object: its rows name the object. */
  readonly first: Column;

  constructor(sim: Sim, name: string, options: ColumnOptions) {
    super(options.width ?? 'i32', options.initial ?? 0);
    this.sim = sim;
    this.name = name;
    this.hash = hashText(name);
    this.rowName = options.rowName;
    this.valueText = options.valueText;
    this.first = options.sameObjectAs?.first ?? this;
    this.changeText = options.changeText ?? options.sameObjectAs?.changeText;
    if (options.sameObjectAs !== undefined) this.base = options.sameObjectAs.base;
    else this.base = options.sparse ? sim.allotSparseIds(options.rows, this) : sim.allotIds(options.rows, this);
  }

  nameOf(row: number): string {
    return this.rowName === undefined ? `${this.name}[${row}]` : this.rowName(row);
  }

  get(row: number): number {
    if (this.sim.watching) this.sim.noteRead(this.base + row);
    return this.peek(row);
  }

  set(row: number, value: number): void {
    if (this.sim.watching) this.sim.noteWrite(this.base + row);
    this.write(row, value);
  }

  /** A commuting addition (announced with willAdd). */
  add(row: number, amount: number): void {
    if (this.sim.watching) this.sim.noteAdd(this.base + row);
    this.write(row, this.peek(row) + amount);
  }

  private write(row: number, value: number): void {
    const sim = this.sim;
    if (sim.journaled || sim.digested) {
      const old = this.peek(row);
      if (sim.journaled) sim.journal(this, row, old);
      if (sim.digested) sim.digestWrite(this.hash, row, old, value);
    }
    this.put(row, value);
  }

  undo(row: number, old: unknown): void {
    this.put(row, old as number);
  }

  now(row: number): unknown {
    return this.peek(row);
  }

  /** May whole runs be written without telling anybody row by row? (Nobody journals, digests or watches.) */
  get bulk(): boolean {
    return !this.sim.journaled && !this.sim.digested && !this.sim.watching;
  }

  /** Set rows lo..hi (inclusive) to one value. */
  fill(lo: number, hi: number, value: number): void {
    if (this.bulk) this.putRun(lo, hi, value, 0);
    else for (let row = lo; row <= hi; row++) this.set(row, value);
  }

  /** Add `amount` to rows lo..hi (inclusive). */
  addRange(lo: number, hi: number, amount: number): void {
    if (this.bulk) this.addRun(lo, hi, amount);
    else for (let row = lo; row <= hi; row++) this.set(row, this.peek(row) + amount);
  }

  /** Set rows lo..hi to first, first+1, ... (page frame numbers of a contiguous run). */
  fillRising(lo: number, hi: number, first: number): void {
    if (this.bulk) this.putRun(lo, hi, first, 1);
    else for (let row = lo; row <= hi; row++) this.set(row, first + row - lo);
  }

  willRead(row: number, step: Step): Announced {
    return this.sim.announce(this.base + row, this.base + row, READ, step);
  }

  willWrite(row: number, step: Step): Announced {
    return this.sim.announce(this.base + row, this.base + row, WRITE, step);
  }

  willUpdate(row: number, step: Step): Announced {
    return this.sim.announce(this.base + row, this.base + row, UPDATE, step);
  }

  willPerhaps(row: number, step: Step): Announced {
    return this.sim.announce(this.base + row, this.base + row, PERHAPS, step);
  }

  willAdd(row: number, step: Step): Announced {
    return this.sim.announce(this.base + row, this.base + row, ADD, step);
  }

  /** Ranges lo..hi inclusive; ranges conflict when they overlap. */
  willReadRange(lo: number, hi: number, step: Step): Announced {
    return this.sim.announce(this.base + lo, this.base + hi, READ, step);
  }

  willPerhapsRange(lo: number, hi: number, step: Step): Announced {
    return this.sim.announce(this.base + lo, this.base + hi, PERHAPS, step);
  }

  willUpdateRange(lo: number, hi: number, step: Step): Announced {
    return this.sim.announce(this.base + lo, this.base + hi, UPDATE, step);
  }
}
