// Columns: typed arrays addressed by row, allotted in chunks of 512 rows on first write. The first row of each chunk
// lives apart, so that a 2 MiB folio or a PMD leaf costs one number, not a chunk.
import { hashText } from './hash.ts';
import type { Named, Sim, Undoable } from './sim.ts';
import { ADD, type Announced, READ, type Step, UPDATE, WRITE } from './step.ts';

const CHUNK_BITS = 9;
const CHUNK = 1 << CHUNK_BITS;
const CHUNK_MASK = CHUNK - 1;

export type ColumnArray = Int32Array | Uint8Array | Float64Array;

export interface ColumnOptions {
  /** Value of rows never written; default 0. */
  readonly initial?: number;
  /** Width of a row; default 'i32'. 'f64' holds any integer up to 2^53. */
  readonly width?: 'u8' | 'i32' | 'f64';
  /** Rows the column can address: gives the size of its id range. */
  readonly rows: number;
  /** Rows are far apart (page numbers of an address space): take ids from the sparse range. */
  readonly sparse?: boolean;
  /** One object with another column: the same ids, announced together (the fields of one entry). */
  readonly sameObjectAs?: Column;
  /** Name of a row in reports; default `name[row]`. */
  readonly rowName?: (row: number) => string;
}

export class Column implements Named, Undoable {
  readonly sim: Sim;
  readonly name: string;
  readonly base: number;
  private readonly initial: number;
  private readonly width: 'u8' | 'i32' | 'f64';
  private readonly hash: number;
  private readonly rowName: ((row: number) => string) | undefined;
  private readonly heads: number[] = [];
  private readonly chunks: (ColumnArray | undefined)[] = [];

  constructor(sim: Sim, name: string, options: ColumnOptions) {
    this.sim = sim;
    this.name = name;
    this.initial = options.initial ?? 0;
    this.width = options.width ?? 'i32';
    this.hash = hashText(name);
    this.rowName = options.rowName;
    if (options.sameObjectAs !== undefined) this.base = options.sameObjectAs.base;
    else this.base = options.sparse ? sim.allotSparseIds(options.rows, this) : sim.allotIds(options.rows, this);
  }

  nameOf(row: number): string {
    return this.rowName === undefined ? `${this.name}[${row}]` : this.rowName(row);
  }

  /** Look without a step. */
  peek(row: number): number {
    const at = Math.floor(row / CHUNK);
    const slot = row - at * CHUNK;
    if (slot === 0) {
      const head = this.heads[at];
      return head === undefined ? this.initial : head;
    }
    const chunk = this.chunks[at];
    return chunk === undefined ? this.initial : chunk[slot]!;
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

  private put(row: number, value: number): void {
    const at = Math.floor(row / CHUNK);
    const slot = row - at * CHUNK;
    if (slot === 0) {
      this.heads[at] = value;
      return;
    }
    let chunk = this.chunks[at];
    if (chunk === undefined) {
      if (value === this.initial) return;
      chunk = this.newChunk();
      this.chunks[at] = chunk;
    }
    chunk[slot] = value;
  }

  private newChunk(): ColumnArray {
    const chunk =
      this.width === 'i32'
        ? new Int32Array(CHUNK)
        : this.width === 'u8'
          ? new Uint8Array(CHUNK)
          : new Float64Array(CHUNK);
    if (this.initial !== 0) chunk.fill(this.initial);
    return chunk;
  }

  undo(row: number, old: unknown): void {
    this.put(row, old as number);
  }

  /** May whole runs be written without telling anybody row by row? (Nobody journals, digests or watches.) */
  get bulk(): boolean {
    return !this.sim.journaled && !this.sim.digested && !this.sim.watching;
  }

  /** Set rows lo..hi (inclusive) to one value. */
  fill(lo: number, hi: number, value: number): void {
    if (!this.bulk) {
      for (let row = lo; row <= hi; row++) this.set(row, value);
      return;
    }
    for (let row = lo; row <= hi; ) {
      const at = Math.floor(row / CHUNK);
      const end = Math.min(hi, at * CHUNK + CHUNK_MASK);
      let slot = row - at * CHUNK;
      if (slot === 0) {
        this.heads[at] = value;
        slot = 1;
      }
      const last = end - at * CHUNK;
      if (slot <= last) {
        let chunk = this.chunks[at];
        if (chunk === undefined && value !== this.initial) {
          chunk = this.newChunk();
          this.chunks[at] = chunk;
        }
        // A chunk that holds nothing but the initial value again costs nothing again.
        if (chunk !== undefined) {
          if (slot === 1 && last === CHUNK_MASK && value === this.initial) this.chunks[at] = undefined;
          else chunk.fill(value, slot, last + 1);
        }
      }
      row = end + 1;
    }
  }

  /** Add `amount` to rows lo..hi (inclusive). */
  addRange(lo: number, hi: number, amount: number): void {
    if (!this.bulk) {
      for (let row = lo; row <= hi; row++) this.set(row, this.peek(row) + amount);
      return;
    }
    for (let row = lo; row <= hi; ) {
      const at = Math.floor(row / CHUNK);
      const end = Math.min(hi, at * CHUNK + CHUNK_MASK);
      let slot = row - at * CHUNK;
      if (slot === 0) {
        this.heads[at] = (this.heads[at] ?? this.initial) + amount;
        slot = 1;
      }
      const last = end - at * CHUNK;
      if (slot <= last) {
        let chunk = this.chunks[at];
        if (chunk === undefined) {
          chunk = this.newChunk();
          this.chunks[at] = chunk;
        }
        for (let i = slot; i <= last; i++) chunk[i] = chunk[i]! + amount;
      }
      row = end + 1;
    }
  }

  /** Set rows lo..hi to first, first+1, ... (page frame numbers of a contiguous run). */
  fillRising(lo: number, hi: number, first: number): void {
    if (!this.bulk) {
      for (let row = lo; row <= hi; row++) this.set(row, first + row - lo);
      return;
    }
    for (let row = lo; row <= hi; ) {
      const at = Math.floor(row / CHUNK);
      const base = at * CHUNK;
      const last = Math.min(hi - base, CHUNK_MASK);
      let slot = row - base;
      let value = first + row - lo;
      if (slot === 0) {
        this.heads[at] = value++;
        slot = 1;
      }
      if (slot <= last) {
        let chunk = this.chunks[at];
        if (chunk === undefined) {
          chunk = this.newChunk();
          this.chunks[at] = chunk;
        }
        for (; slot <= last; slot++) chunk[slot] = value++;
      }
      row = base + last + 1;
    }
  }

  /** The last row of lo..hi up to which every row holds the value of row lo. Looks without a step. */
  endOfRun(lo: number, hi: number): number {
    const value = this.peek(lo);
    for (let row = lo + 1; row <= hi; ) {
      const at = Math.floor(row / CHUNK);
      let slot = row - at * CHUNK;
      const last = Math.min(hi - at * CHUNK, CHUNK_MASK);
      if (slot === 0) {
        if ((this.heads[at] ?? this.initial) !== value) return row - 1;
        slot = 1;
      }
      const chunk = this.chunks[at];
      if (chunk === undefined) {
        if (slot <= last && this.initial !== value) return at * CHUNK + slot - 1;
      } else {
        for (; slot <= last; slot++) if (chunk[slot] !== value) return at * CHUNK + slot - 1;
      }
      row = at * CHUNK + last + 1;
    }
    return hi;
  }

  /** The last row of lo..hi up to which the rows hold value, value + 1, value + 2... Looks without a step. */
  endOfRise(lo: number, hi: number): number {
    let next = this.peek(lo) + 1;
    for (let row = lo + 1; row <= hi; ) {
      const at = Math.floor(row / CHUNK);
      let slot = row - at * CHUNK;
      const last = Math.min(hi - at * CHUNK, CHUNK_MASK);
      if (slot === 0) {
        if ((this.heads[at] ?? this.initial) !== next++) return row - 1;
        slot = 1;
      }
      const chunk = this.chunks[at];
      for (; slot <= last; slot++) {
        if ((chunk === undefined ? this.initial : chunk[slot]) !== next++) return at * CHUNK + slot - 1;
      }
      row = at * CHUNK + last + 1;
    }
    return hi;
  }

  /** Every row that does not hold the initial value, ascending within each chunk. Looks without a step. */
  *filled(): Generator<number> {
    const keys = new Set<number>();
    for (const at of Object.keys(this.heads)) keys.add(Number(at));
    for (const at of Object.keys(this.chunks)) keys.add(Number(at));
    for (const at of [...keys].sort((a, b) => a - b)) {
      if ((this.heads[at] ?? this.initial) !== this.initial) yield at * CHUNK;
      const chunk = this.chunks[at];
      if (chunk === undefined) continue;
      for (let slot = 1; slot < CHUNK; slot++) if (chunk[slot] !== this.initial) yield at * CHUNK + slot;
    }
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

  willAdd(row: number, step: Step): Announced {
    return this.sim.announce(this.base + row, this.base + row, ADD, step);
  }

  /** Ranges lo..hi inclusive; ranges conflict when they overlap. */
  willReadRange(lo: number, hi: number, step: Step): Announced {
    return this.sim.announce(this.base + lo, this.base + hi, READ, step);
  }

  willUpdateRange(lo: number, hi: number, step: Step): Announced {
    return this.sim.announce(this.base + lo, this.base + hi, UPDATE, step);
  }
}
