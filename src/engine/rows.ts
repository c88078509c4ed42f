// Where a column keeps its values: chunks of 512 rows in leaves of 64 chunks. The first row of each chunk lives apart,
// so that a 2 MiB folio or a PMD leaf costs one number; the others are an array only while they neither are all alike
// nor rise by one from row to row, so that a uniform run of any length costs one number per chunk too.

const CHUNK_BITS = 9;
const CHUNK = 1 << CHUNK_BITS;
const CHUNK_MASK = CHUNK - 1;
const LEAF_CHUNKS = 64;
const LEAF_ROWS = CHUNK * LEAF_CHUNKS;
/** Discarded arrays kept for reuse, per width. */
const SPARE_CHUNKS = 64;

export type RowWidth = 'u8' | 'i32' | 'f64';
type Chunk = Int32Array | Uint8Array | Float64Array;

/**
 * 2^15 rows. Row 0 of chunk c is numbers[c]; row s > 0 is chunks[c][s] or, without an array,
 * numbers[BODY + c] + numbers[RISE + c] * s.
 */
interface Leaf {
  readonly numbers: Float64Array;
  readonly chunks: (Chunk | undefined)[];
}

const BODY = LEAF_CHUNKS;
const RISE = 2 * LEAF_CHUNKS;

const spares: Readonly<Record<RowWidth, Chunk[]>> = { u8: [], i32: [], f64: [] };

/** Values by row number, `initial` until written. */
export class Rows {
  protected readonly initial: number;
  private readonly width: RowWidth;
  private readonly leaves = new Map<number, Leaf>();
  // The leaf used last: accesses stay near each other. A cache, not state.
  private lastNumber = -1;
  private lastLeaf: Leaf | undefined;
  private sorted: readonly number[] = [];

  constructor(width: RowWidth, initial: number) {
    this.width = width;
    this.initial = initial;
  }

  /** Look without a step. */
  peek(row: number): number {
    const number = Math.floor(row / LEAF_ROWS);
    const leaf = number === this.lastNumber ? this.lastLeaf : this.leafAt(number);
    if (leaf === undefined) return this.initial;
    const place = row - number * LEAF_ROWS;
    const at = place >> CHUNK_BITS;
    const slot = place & CHUNK_MASK;
    if (slot === 0) return leaf.numbers[at]!;
    const chunk = leaf.chunks[at];
    return chunk === undefined ? leaf.numbers[BODY + at]! + leaf.numbers[RISE + at]! * slot : chunk[slot]!;
  }

  private leafAt(number: number): Leaf | undefined {
    const leaf = this.leaves.get(number);
    // What is not there yet must be looked for again.
    if (leaf !== undefined) {
      this.lastNumber = number;
      this.lastLeaf = leaf;
    }
    return leaf;
  }

  private makeLeaf(number: number): Leaf {
    const leaf: Leaf = {
      numbers: new Float64Array(3 * LEAF_CHUNKS),
      chunks: new Array<Chunk | undefined>(LEAF_CHUNKS).fill(undefined),
    };
    if (this.initial !== 0) leaf.numbers.fill(this.initial, 0, RISE);
    this.leaves.set(number, leaf);
    this.lastNumber = number;
    this.lastLeaf = leaf;
    return leaf;
  }

  protected put(row: number, value: number): void {
    const number = Math.floor(row / LEAF_ROWS);
    let leaf = number === this.lastNumber ? this.lastLeaf : this.leafAt(number);
    if (leaf === undefined) {
      if (value === this.initial) return;
      leaf = this.makeLeaf(number);
    }
    const place = row - number * LEAF_ROWS;
    const at = place >> CHUNK_BITS;
    const slot = place & CHUNK_MASK;
    if (slot === 0) {
      leaf.numbers[at] = value;
      return;
    }
    let chunk = leaf.chunks[at];
    if (chunk === undefined) {
      if (value === leaf.numbers[BODY + at]! + leaf.numbers[RISE + at]! * slot) return;
      chunk = this.spread(leaf, at);
    }
    chunk[slot] = value;
  }

  /** What an array of this width would make of a value: 32-bit counters wrap. */
  private narrow(value: number): number {
    if (this.width === 'i32') return value | 0;
    return this.width === 'u8' ? value & 255 : value;
  }

  /** Give chunk `at` an array of its own. */
  private spread(leaf: Leaf, at: number): Chunk {
    const chunk = spares[this.width].pop() ?? newChunk(this.width);
    const value = leaf.numbers[BODY + at]!;
    if (leaf.numbers[RISE + at] === 0) chunk.fill(value);
    else for (let slot = 1; slot < CHUNK; slot++) chunk[slot] = value + slot;
    leaf.chunks[at] = chunk;
    return chunk;
  }

  /** Rows 1 to 511 of chunk `at` are value + rise * slot from now on. */
  private flatten(leaf: Leaf, at: number, value: number, rise: 0 | 1): void {
    const chunk = leaf.chunks[at];
    if (chunk !== undefined) {
      leaf.chunks[at] = undefined;
      if (spares[this.width].length < SPARE_CHUNKS) spares[this.width].push(chunk);
    }
    leaf.numbers[BODY + at] = this.narrow(value);
    leaf.numbers[RISE + at] = rise;
  }

  /** After a run reached an end of a chunk: does it need its array any longer? */
  private tidy(leaf: Leaf, at: number, chunk: Chunk): void {
    const first = chunk[1]!;
    const distance = chunk[CHUNK_MASK]! - first;
    if (distance === 0) {
      for (let slot = 2; slot < CHUNK_MASK; slot++) if (chunk[slot] !== first) return;
      this.flatten(leaf, at, first, 0);
    } else if (distance === CHUNK_MASK - 1) {
      for (let slot = 2; slot < CHUNK_MASK; slot++) if (chunk[slot] !== first + slot - 1) return;
      this.flatten(leaf, at, first - 1, 1);
    }
  }

  /** Rows lo..hi become value, value + rise, value + 2 rise... */
  protected putRun(lo: number, hi: number, value: number, rise: 0 | 1): void {
    for (let row = lo; row <= hi; ) {
      const number = Math.floor(row / LEAF_ROWS);
      const base = number * LEAF_ROWS;
      let leaf = number === this.lastNumber ? this.lastLeaf : this.leafAt(number);
      if (leaf === undefined) {
        if (rise === 0 && value === this.initial) {
          row = base + LEAF_ROWS;
          continue;
        }
        leaf = this.makeLeaf(number);
      }
      const place = row - base;
      const at = place >> CHUNK_BITS;
      let slot = place & CHUNK_MASK;
      const last = Math.min(CHUNK_MASK, slot + (hi - row));
      const zeroth = value + rise * (row - lo - slot);
      row += last - slot + 1;
      if (slot === 0) {
        leaf.numbers[at] = zeroth;
        slot = 1;
      }
      if (slot > last) continue;
      if (slot === 1 && last === CHUNK_MASK) {
        this.flatten(leaf, at, zeroth, rise);
        continue;
      }
      let chunk = leaf.chunks[at];
      if (chunk === undefined) {
        if (leaf.numbers[BODY + at] === zeroth && leaf.numbers[RISE + at] === rise) continue;
        chunk = this.spread(leaf, at);
      }
      if (rise === 0) chunk.fill(zeroth, slot, last + 1);
      else for (let i = slot; i <= last; i++) chunk[i] = zeroth + i;
      if (slot === 1 || last === CHUNK_MASK) this.tidy(leaf, at, chunk);
    }
  }

  /** Add `amount` to rows lo..hi. */
  protected addRun(lo: number, hi: number, amount: number): void {
    for (let row = lo; row <= hi; ) {
      const number = Math.floor(row / LEAF_ROWS);
      const leaf = (number === this.lastNumber ? this.lastLeaf : this.leafAt(number)) ?? this.makeLeaf(number);
      const place = row - number * LEAF_ROWS;
      const at = place >> CHUNK_BITS;
      let slot = place & CHUNK_MASK;
      const last = Math.min(CHUNK_MASK, slot + (hi - row));
      row += last - slot + 1;
      if (slot === 0) {
        leaf.numbers[at]! += amount;
        slot = 1;
      }
      if (slot > last) continue;
      let chunk = leaf.chunks[at];
      if (chunk === undefined) {
        if (slot === 1 && last === CHUNK_MASK) {
          leaf.numbers[BODY + at] = this.narrow(leaf.numbers[BODY + at]! + amount);
          continue;
        }
        chunk = this.spread(leaf, at);
      }
      for (let i = slot; i <= last; i++) chunk[i]! += amount;
      if (slot === 1 || last === CHUNK_MASK) this.tidy(leaf, at, chunk);
    }
  }

  /** The last row of lo..hi up to which every row holds the value of row lo. Looks without a step. */
  endOfRun(lo: number, hi: number): number {
    return this.endOfPattern(lo, hi, 0);
  }

  /** The last row of lo..hi up to which the rows hold value, value + 1, value + 2... Looks without a step. */
  endOfRise(lo: number, hi: number): number {
    return this.endOfPattern(lo, hi, 1);
  }

  private endOfPattern(lo: number, hi: number, rise: 0 | 1): number {
    const value = this.peek(lo);
    for (let row = lo + 1; row <= hi; ) {
      const number = Math.floor(row / LEAF_ROWS);
      const leaf = number === this.lastNumber ? this.lastLeaf : this.leafAt(number);
      const base = number * LEAF_ROWS;
      if (leaf === undefined) {
        if (rise === 1 || value !== this.initial) return value + rise * (row - lo) === this.initial ? row : row - 1;
        row = this.leafFrom(number + 1) * LEAF_ROWS;
        continue;
      }
      const place = row - base;
      const at = place >> CHUNK_BITS;
      let slot = place & CHUNK_MASK;
      const start = row - slot;
      const last = Math.min(CHUNK_MASK, hi - start);
      // What row 0 of the chunk would hold, if it belonged to the pattern.
      const zeroth = value + rise * (start - lo);
      if (slot === 0) {
        if (leaf.numbers[at] !== zeroth) return row - 1;
        slot = 1;
      }
      const chunk = leaf.chunks[at];
      if (chunk !== undefined) {
        for (; slot <= last; slot++) if (chunk[slot] !== zeroth + rise * slot) return start + slot - 1;
      } else if (leaf.numbers[RISE + at] === rise) {
        if (slot <= last && leaf.numbers[BODY + at] !== zeroth) return start + slot - 1;
      } else {
        const body = leaf.numbers[BODY + at]!;
        const slope = leaf.numbers[RISE + at]!;
        for (; slot <= last; slot++) if (body + slope * slot !== zeroth + rise * slot) return start + slot - 1;
      }
      row = start + last + 1;
    }
    return hi;
  }

  /** The first row of lo..hi whose value is below `least` or above `most`; hi + 1: none. Looks without a step. */
  firstOutside(lo: number, hi: number, least: number, most: number): number {
    for (let row = lo; row <= hi; ) {
      const number = Math.floor(row / LEAF_ROWS);
      const leaf = number === this.lastNumber ? this.lastLeaf : this.leafAt(number);
      const base = number * LEAF_ROWS;
      if (leaf === undefined) {
        if (this.initial < least || this.initial > most) return row;
        row = this.leafFrom(number + 1) * LEAF_ROWS;
        continue;
      }
      const place = row - base;
      const at = place >> CHUNK_BITS;
      let slot = place & CHUNK_MASK;
      const start = row - slot;
      const last = Math.min(CHUNK_MASK, hi - start);
      if (slot === 0) {
        const head = leaf.numbers[at]!;
        if (head < least || head > most) return row;
        slot = 1;
      }
      const chunk = leaf.chunks[at];
      if (chunk !== undefined) {
        for (; slot <= last; slot++) {
          const value = chunk[slot]!;
          if (value < least || value > most) return start + slot;
        }
      } else if (slot <= last) {
        const body = leaf.numbers[BODY + at]!;
        const slope = leaf.numbers[RISE + at]!;
        if (slope === 0 ? body < least || body > most : body + last > most || body + slot < least) {
          for (; slot <= last; slot++) {
            const value = body + slope * slot;
            if (value < least || value > most) return start + slot;
          }
        }
      }
      row = start + last + 1;
    }
    return hi + 1;
  }

  /** The first row from `row` on that does not hold the initial value; -1: none. Looks without a step. */
  nextFilled(row: number): number {
    const numbers = this.leafNumbers();
    for (let at = this.placeOf(Math.floor(row / LEAF_ROWS)); at < numbers.length; at++) {
      const lo = Math.max(row, numbers[at]! * LEAF_ROWS);
      const hi = (numbers[at]! + 1) * LEAF_ROWS - 1;
      const found = this.firstOutside(lo, hi, this.initial, this.initial);
      if (found <= hi) return found;
    }
    return -1;
  }

  /** The first leaf from number `from` on that exists; Infinity: none. */
  private leafFrom(from: number): number {
    return this.leafNumbers()[this.placeOf(from)] ?? Number.POSITIVE_INFINITY;
  }

  /** Where leaf number `from`, or the first after it, stands among the leaves that exist. */
  private placeOf(from: number): number {
    const numbers = this.leafNumbers();
    let at = 0;
    for (let high = numbers.length; at < high; ) {
      const middle = (at + high) >> 1;
      if (numbers[middle]! < from) at = middle + 1;
      else high = middle;
    }
    return at;
  }

  /** Leaves that exist, ascending. */
  private leafNumbers(): readonly number[] {
    if (this.sorted.length !== this.leaves.size) this.sorted = [...this.leaves.keys()].sort((a, b) => a - b);
    return this.sorted;
  }

  /** Every row that does not hold the initial value, ascending. Looks without a step. */
  *filled(): Generator<number> {
    for (let row = this.nextFilled(0); row >= 0; row = this.nextFilled(row + 1)) yield row;
  }
}

function newChunk(width: RowWidth): Chunk {
  if (width === 'i32') return new Int32Array(CHUNK);
  return width === 'u8' ? new Uint8Array(CHUNK) : new Float64Array(CHUNK);
}
