// Columns against a plain map: whatever mixture of single writes and runs, every row holds what it should, and the
// questions about runs are answered as row by row.
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Column } from '../../src/engine/column.ts';
import { Sim } from '../../src/engine/sim.ts';

const CHUNK = 512;
const SPAN = 4 * CHUNK;

type Write =
  | { readonly do: 'set'; readonly row: number; readonly value: number }
  | { readonly do: 'fill' | 'rise' | 'add'; readonly lo: number; readonly length: number; readonly value: number };

// Ends of runs lie on or next to the ends of chunks more often than chance would have it.
const row = fc.oneof(fc.nat(SPAN - 1), fc.constantFrom(0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, 3 * CHUNK - 1));
const length = fc.oneof(fc.integer({ min: 1, max: SPAN }), fc.constantFrom(1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK));
const value = fc.integer({ min: 0, max: 5 });
const write: fc.Arbitrary<Write> = fc.oneof(
  fc.record({ do: fc.constant('set' as const), row, value }),
  fc.record({ do: fc.constantFrom('fill' as const, 'rise' as const, 'add' as const), lo: row, length, value }),
);

interface Case {
  readonly width: 'i32' | 'f64';
  readonly initial: number;
  /** Where in the address space: around the end of a leaf, and far up. */
  readonly base: number;
  readonly writes: readonly Write[];
}

const CASES: fc.Arbitrary<Case> = fc.record({
  width: fc.constantFrom('i32', 'f64'),
  initial: fc.constantFrom(0, 0, 3),
  base: fc.constantFrom(0, 2 ** 15 - 2 * CHUNK, 2 ** 35),
  writes: fc.array(write, { maxLength: 30 }),
});

/** The same writes, to a column and to an array. */
function played(c: Case, journaled: boolean): { readonly sim: Sim; readonly column: Column; readonly rows: number[] } {
  const sim = new Sim({ journaled });
  const column = new Column(sim, 'column', { rows: 2 ** 36, sparse: true, width: c.width, initial: c.initial });
  const rows = new Array<number>(SPAN).fill(c.initial);
  for (const w of c.writes) {
    if (w.do === 'set') {
      column.set(c.base + w.row, w.value);
      rows[w.row] = w.value;
      continue;
    }
    const last = Math.min(SPAN, w.lo + w.length) - 1;
    if (w.do === 'fill') column.fill(c.base + w.lo, c.base + last, w.value);
    else if (w.do === 'rise') column.fillRising(c.base + w.lo, c.base + last, w.value);
    else column.addRange(c.base + w.lo, c.base + last, w.value);
    for (let at = w.lo; at <= last; at++) {
      rows[at] = w.do === 'fill' ? w.value : w.do === 'rise' ? w.value + at - w.lo : rows[at]! + w.value;
    }
  }
  return { sim, column, rows };
}

describe('a column', () => {
  it.each([false, true])('holds what was written, row by row or in runs (journal %s)', (journaled) => {
    fc.assert(
      fc.property(CASES, (c) => {
        const { column, rows } = played(c, journaled);
        expect(rows.map((_, at) => column.peek(c.base + at))).toEqual(rows);
        const filled = rows.flatMap((held, at) => (held === c.initial ? [] : [c.base + at]));
        expect([...column.filled()]).toEqual(filled);
      }),
      { numRuns: 200 },
    );
  });

  it('knows where runs and rises end, and what lies outside a range', () => {
    fc.assert(
      fc.property(CASES, row, row, value, value, (c, a, b, least, more) => {
        const { column, rows } = played(c, false);
        const lo = Math.min(a, b);
        const hi = Math.max(a, b);
        let run = lo;
        while (run < hi && rows[run + 1] === rows[lo]) run++;
        expect(column.endOfRun(c.base + lo, c.base + hi) - c.base).toBe(run);
        let rise = lo;
        while (rise < hi && rows[rise + 1] === rows[lo]! + rise + 1 - lo) rise++;
        expect(column.endOfRise(c.base + lo, c.base + hi) - c.base).toBe(rise);
        let inside = lo;
        while (inside <= hi && rows[inside]! >= least && rows[inside]! <= least + more) inside++;
        expect(column.firstOutside(c.base + lo, c.base + hi, least, least + more) - c.base).toBe(inside);
      }),
      { numRuns: 400 },
    );
  });

  it('is as before once the journal is undone', () => {
    fc.assert(
      fc.property(CASES, fc.array(write, { maxLength: 5 }), (c, more) => {
        const { sim, column } = played(c, true);
        const before = Array.from({ length: SPAN }, (_, at) => column.peek(c.base + at));
        const mark = sim.journalSize;
        for (const w of more) {
          if (w.do === 'set') column.set(c.base + w.row, w.value);
          else column.fill(c.base + w.lo, c.base + Math.min(SPAN, w.lo + w.length) - 1, w.value);
        }
        sim.undoTo(mark);
        expect(before.map((_, at) => column.peek(c.base + at))).toEqual(before);
      }),
      { numRuns: 100 },
    );
  });

  it('wraps 32-bit values in a run as it does in single rows', () => {
    const column = new Column(new Sim(), 'count', { rows: SPAN });
    column.fill(0, SPAN - 1, 2 ** 31 - 1);
    column.addRange(1, SPAN - 1, 1);
    expect(column.peek(1)).toBe(-(2 ** 31));
    expect(column.peek(CHUNK + 1)).toBe(-(2 ** 31));
  });
});
