import { describe, expect, it } from 'vitest';
import { call } from '../../../src/engine/process.ts';
import { PTE_DIRTY, PTE_WRITE } from '../../../src/mm/pte.ts';
import { fsync, msync } from '../../../src/mm/writeback/msync.ts';
import {
  BASE,
  cachedFrame,
  dmaWrite,
  type FileBench,
  fileBench,
  flagsOf,
  frameOf,
  pinByHand,
  touch,
  unpin,
} from '../../support/file-bench.ts';
import { tokenOf } from '../../support/tokens.ts';
import { run } from '../../support/world.ts';

const C = tokenOf('C');
const D = tokenOf('D');

function dirty(b: FileBench, pfn: number): boolean {
  return flagsOf(b, pfn).includes('DIRTY');
}

describe.each(['v6.1.192', 'v6.12.117'])('msync of a shared mapping of an ext4 file, %s', (kernel) => {
  it('writes the page, and leaves it clean and mapped read-only', () => {
    const b = fileBench({ kernel });
    touch(b, 0, C);
    const pfn = frameOf(b);
    expect(dirty(b, pfn)).toBe(true);
    expect(run(b, b.task, () => msync(b.core, BASE, 1, { sync: true }))).toBe('ok');
    expect(b.file.disk.peek(0)).toBe(C);
    expect(dirty(b, pfn)).toBe(false);
    expect(flagsOf(b, pfn)).not.toContain('WRITEBACK');
    expect(frameOf(b)).toBe(pfn);
    expect(b.mm.pageTable.peekPte(BASE).bits & (PTE_WRITE | PTE_DIRTY)).toBe(0);
  });

  it('finds the next write of a CPU, because it faults', () => {
    const b = fileBench({ kernel });
    touch(b, 0, C);
    run(b, b.task, () => msync(b.core, BASE, 1, { sync: true }));
    touch(b, 0, D);
    expect(dirty(b, frameOf(b))).toBe(true);
    run(b, b.task, () => fsync(b.core, b.file));
    expect(b.file.disk.peek(0)).toBe(D);
  });

  it('does not find what a device wrote through a pin: only unpinning marks the page dirty', () => {
    const b = fileBench({ kernel });
    touch(b, 0, C);
    const pfn = frameOf(b);
    const seen = run(b, b.task, function* () {
      const told: unknown[] = [];
      yield* call(pinByHand(b, pfn));
      yield* call(msync(b.core, BASE, 1, { sync: true }));
      yield* call(dmaWrite(b, pfn, D));
      told.push(dirty(b, pfn));
      told.push(yield* call(msync(b.core, BASE, 1, { sync: true })));
      told.push(yield* call(fsync(b.core, b.file)));
      told.push(b.file.disk.peek(0), b.core.frames.content.peek(cachedFrame(b)));
      yield* call(unpin(b, pfn, true));
      told.push(dirty(b, pfn));
      yield* call(fsync(b.core, b.file));
      told.push(b.file.disk.peek(0));
      return told;
    });
    expect(seen).toEqual([false, 'ok', 'ok', C, D, true, D]);
  });
});
