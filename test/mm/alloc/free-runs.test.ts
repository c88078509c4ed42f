import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Sim } from '../../../src/engine/sim.ts';
import { FreeRuns } from '../../../src/mm/alloc/free-runs.ts';

const SIZE = 64;

/** The runs of a set of free frames, told the plain way. */
function runsOf(free: readonly boolean[]): readonly (readonly [number, number])[] {
  const runs: [number, number][] = [];
  free.forEach((isFree, pfn) => {
    const last = runs.at(-1);
    if (!isFree) return;
    if (last !== undefined && last[0] + last[1] === pfn) last[1]++;
    else runs.push([pfn, 1]);
  });
  return runs;
}

describe('the free runs of a zone', () => {
  it('hold what was given back and not taken again, neighbours merged, and rewind', () => {
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 0, max: SIZE - 1 }), { maxLength: 200 }), (toggled) => {
        const sim = new Sim({ journaled: true, digested: true });
        const runs = new FreeRuns(sim, 'zone', 0, SIZE);
        const before = [sim.journalSize, sim.stateDigest] as const;
        const free = new Array<boolean>(SIZE).fill(true);
        for (const pfn of toggled) {
          if (free[pfn]) runs.cut(pfn, 1);
          else runs.add(pfn, 1);
          free[pfn] = !free[pfn];
          expect(runs.value).toEqual(runsOf(free));
        }
        expect(runs.highest).toBe(free.includes(true) ? free.lastIndexOf(true) : undefined);
        for (const align of [2, 4, 8]) {
          let first: number | undefined;
          for (let pfn = SIZE - align; pfn >= 0; pfn -= align)
            if (free.slice(pfn, pfn + align).every(Boolean)) first = pfn;
          expect(runs.place(align, align)).toBe(first);
        }
        const after = sim.stateDigest;
        sim.undoTo(before[0]);
        expect(runs.value).toEqual([[0, SIZE]]);
        if (runsOf(free).length !== 1 || free.includes(false)) expect(after).not.toBe(before[1]);
      }),
      { numRuns: 100 },
    );
  });
});
